"""Small problems: the package's operator, and what the oracle needs for the same."""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import oracles

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import ExactHessian, GaussNewtonHessian

N_FEATURES = 3
HIDDEN = (4, 2, 3, 4)
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
# Name of a loss: its output activation and number of outputs.
LOSS_KINDS = {
    "squared": ("identity", 3),
    "poisson": ("exp", 2),
    "binary": ("logistic", 1),
    "multilabel": ("logistic", 3),
    "softmax": ("softmax", 3),
}


def targets(kind, n, rng):
    d = LOSS_KINDS[kind][1]
    if kind == "squared":
        return rng.standard_normal((n, d))
    if kind == "poisson":
        return rng.poisson(1.0, (n, d)).astype(float)
    if kind == "softmax":
        return np.eye(d)[rng.integers(0, d, n)]
    return rng.integers(0, 2, (n, d)).astype(float)


@dataclass(frozen=True)
class Case:
    """A network with data, drawn from a fixed seed."""

    activation: str = "tanh"
    n_hidden: int = 1
    kind: str = "softmax"
    weighted: bool = False
    n: int = 5

    def __str__(self):
        name = f"{self.activation}-{self.n_hidden}-{self.kind}"
        return f"{name}-weighted" if self.weighted else name

    @property
    def output_activation(self):
        return LOSS_KINDS[self.kind][0]

    @property
    def widths(self):
        return (N_FEATURES, *HIDDEN[: self.n_hidden], LOSS_KINDS[self.kind][1])

    @property
    def activations(self):
        return (self.activation,) * self.n_hidden

    @property
    def network(self):
        return MLP(self.widths, self.activations)

    @property
    def loss(self):
        return LOSSES[self.output_activation]

    def data(self):
        rng = np.random.default_rng(self.n_hidden)
        X = rng.standard_normal((self.n, N_FEATURES))
        ridge = 0.03 * oracles.weight_mask(self.widths)
        theta = 0.7 * rng.standard_normal(len(ridge))
        Y = targets(self.kind, self.n, rng)
        weights = np.full(self.n, 1 / self.n)
        if self.weighted:
            weights = rng.uniform(0.1, 1, self.n)
            weights[1] = 0
            weights /= weights.sum()
        return X, Y, weights, theta, ridge

    def operator(self, dtype=np.float64, convert=None, ridge=True):
        """The package's operator; `convert` may make the inputs sparse."""
        X, _, weights, theta, penalty = self.data()
        X = X.astype(dtype)
        inputs = append_one(X if convert is None else convert(X))
        return GaussNewtonHessian(
            Linearization(self.network, theta.astype(dtype), inputs),
            self.loss,
            weights.astype(dtype),
            penalty.astype(dtype) if ridge else None,
        )

    def exact(self, dtype=np.float64, convert=None):
        """The exact Hessian of the same network, targets and rows."""
        X, Y, weights, theta, ridge = (part.astype(dtype) for part in self.data())
        inputs = append_one(X if convert is None else convert(X))
        linearization = Linearization(self.network, theta, inputs)
        return ExactHessian(linearization, self.loss, Y, weights, ridge)

    def array(self):
        _, _, weights, _, ridge = self.data()
        return self.curvature().array(weights, ridge)

    def root(self, mixtures=None):
        return self.curvature().root(self.data()[2], mixtures)

    def curvature(self):
        return _curvature(self.activation, self.n_hidden, self.kind, self.n)


@cache
def _curvature(activation, n_hidden, kind, n):
    case = Case(activation, n_hidden, kind, n=n)
    X, _, _, theta, _ = case.data()
    return oracles.Curvature(
        theta, X, case.widths, case.activations, case.output_activation
    )


def all_cases():
    """Every activation, depth, loss and kind of weights."""
    nets = [("identity", 0), *product(ACTIVATIONS, range(1, 5))]
    return [
        Case(*net, kind, weighted)
        for net, kind, weighted in product(nets, LOSS_KINDS, (False, True))
    ]


def is_shallow(case):
    """Whether a default run takes it: two hidden layers show what more of them do."""
    return case.n_hidden < 3


def assert_close(actual, desired, rtol=1e-10):
    """Compare in the largest entry, relative to that of what is desired."""
    actual, desired = np.asarray(actual), np.asarray(desired)
    assert actual.shape == desired.shape
    error = np.max(np.abs(actual - desired), initial=0)
    scale = np.max(np.abs(desired), initial=0)
    assert error <= rtol * scale, f"error {error:.1e} at the scale {scale:.1e}"
