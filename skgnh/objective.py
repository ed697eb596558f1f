"""The training objective: mean loss of a network plus the penalty of its weights."""

from collections.abc import Callable
from typing import Any

import numpy as np

from skgnh.arrays import as_precision, copied, namespace, pick, precision, put
from skgnh.lazy_rows import made
from skgnh.linalg import Curvature, check_choice
from skgnh.linearization import Linearization
from skgnh.memory import parts_that_fit
from skgnh.operators import (
    ExactHessian,
    GaussNewtonHessian,
    LoadedModel,
    load_estimator,
)

Array = Any


class Objective:
    r"""scikit-learn's objective of a multi-layer perceptron.

    .. math:: f(\theta) = \sum_i w_i \ell(z_i(\theta), y_i)
              + \frac12 \theta^T \mathrm{diag}(ridge) \theta

    with weights of sum one and ridge ``alpha / sum(sample_weight)`` at the weights,
    zero at the biases.

    Parameters
    ----------
    network : MLP
        The network.
    loss : object
        One of :data:`skgnh.losses.LOSSES`.
    inputs : {ndarray, CSR} of shape (n, n_features + 1)
        Rows with their ones.
    targets : ndarray of shape (n, d)
        Targets.
    weights : ndarray of shape (n,)
        Weights of sum one.
    ridge : ndarray of shape (P,)
        Curvature of the penalty.
    curvature : {'gauss_newton', 'exact'}, default='gauss_newton'
        Which Hessian :meth:`linearize` returns.

    Raises
    ------
    ValueError
        If there is no such curvature.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor

    >>> from skgnh.objective import Objective
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> value, gradient, H = objective.linearize(theta)
    >>> gradient.shape, H.shape
    ((10,), (10, 10))
    """

    def __init__(
        self,
        network: Any,
        loss: Any,
        inputs: Array,
        targets: Array,
        weights: Array,
        ridge: Array,
        curvature: str = "gauss_newton",
    ):
        check_choice(curvature, "curvature", ("gauss_newton", "exact"))
        self.network, self.loss = network, loss
        self.inputs, self.targets = inputs, targets
        self.weights, self.ridge = weights, ridge
        self.curvature = curvature
        # Parameters that all rows were last asked about, and what they gave.
        self._known: tuple = (None, None, None)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Array, y: Array, sample_weight: Array | None = None
    ) -> tuple["Objective", Array]:
        """Return the objective of a fitted estimator and its parameters.

        Parameters and errors are those of :func:`skgnh.operators.load_estimator`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skgnh.objective import Objective
        >>> X, y = load_iris(return_X_y=True)
        >>> mlp = MLPClassifier(
        ...     8, solver="lbfgs", alpha=1, max_iter=999, random_state=0
        ... )
        >>> mlp = mlp.fit(X, y)
        >>> objective, theta = Objective.from_estimator(mlp, X, y)
        >>> bool(abs(objective.value(theta) - mlp.loss_) < 1e-10)
        True
        """
        model = load_estimator(estimator, X, y, sample_weight)
        return cls.of(model), model.theta

    @classmethod
    def of(cls, model: LoadedModel, curvature: str = "gauss_newton") -> "Objective":
        """Return the objective of a model over its rows."""
        return cls(
            model.network,
            model.loss,
            model.inputs,
            model.targets,
            model.weights,
            model.ridge,
            curvature,
        )

    def _rows(self, rows: Array | None) -> tuple[Array, Array, Array]:
        """Return inputs, targets and weights of sum one over some rows."""
        if rows is None:
            return self.inputs, self.targets, self.weights
        weights = pick(self.weights, rows)
        # Rows without weight have no mean; their sum is zero.
        weights = weights / (float(namespace(weights).sum(weights)) or 1)
        return pick(self.inputs, rows), pick(self.targets, rows), weights

    def of_parts(self, of: Callable, *args: Any) -> list:
        """Return ``of(part, *args)`` of the objectives of which this one is the sum.

        A single one, itself, but where rows lie in blocks.
        """
        return [of(self, *args)]

    def summed(self, of: Callable, *args: Any) -> Any:
        """Return the sum of what :meth:`of_parts` does."""
        return of(self, *args)

    def mean_target(self) -> Array:
        """Return the weighted mean of the targets, of shape (d,)."""
        return self.summed(_mean_target)

    def loss_of_constant(self, z: Array) -> float:
        """Return the mean loss of outputs (d,) that are the same for all rows."""
        return self.summed(_loss_of_constant, z)

    def _penalty(self, theta: Array) -> float:
        xp = namespace(theta)
        return 0.5 * float(xp.sum(self.ridge * theta**2, dtype=xp.float64))

    def value(self, theta: Array, rows: Array | None = None) -> float:
        """Return f(theta) over all rows or some, O(n P).

        It is summed in double precision; overflow gives inf or nan, not an error. Over
        all rows the gradient is made with it, for :meth:`linearize` at the same theta:
        most trials are gone on from.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            if rows is None:
                self._known = copied(theta), *self._value_and_gradient(theta, None)
                return self._known[1] + self._penalty(theta)
            return self._value(theta, rows) + self._penalty(theta)

    def _value(self, theta: Array, rows: Array | None) -> float:
        """Return f(theta) without the penalty."""
        inputs, targets, weights = self._rows(rows)
        linearization = Linearization(self.network, theta, inputs)

        def part(span, z):
            losses = self.loss.value(z, pick(targets, span))
            return [total_of(pick(weights, span), losses)]

        numbers = 2 * max(self.network.layer_units[1:])
        (total,) = linearization.sum(part, numbers, linearization.output)
        return total

    def linearize(
        self,
        theta: Array,
        rows: Array | None = None,
        curvature_rows: Array | None = None,
    ) -> tuple[float, Array, GaussNewtonHessian | ExactHessian]:
        """Return value and gradient over `rows`, the Hessian over `curvature_rows`.

        The cost is one gradient, O(n P), or none where :meth:`value` has made it.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            if rows is None and _is_same(theta, self._known[0]):
                value, gradient = self._known[1:]
            else:
                value, gradient = self._value_and_gradient(theta, rows)
            value += self._penalty(theta)
            gradient = gradient + self.ridge * theta
        return value, gradient, self.hessian(theta, curvature_rows)

    def hessian(
        self, theta: Array, rows: Array | None = None
    ) -> GaussNewtonHessian | ExactHessian:
        """Return the Hessian over all rows or some."""
        inputs, targets, weights = self._rows(rows)
        linearization = Linearization(self.network, theta, inputs)
        if self.curvature == "exact":
            return ExactHessian(linearization, self.loss, targets, weights, self.ridge)
        return GaussNewtonHessian(linearization, self.loss, weights, self.ridge)

    def _value_and_gradient(
        self, theta: Array, rows: Array | None
    ) -> tuple[float, Array]:
        """Return both without the penalty; the forward passes are not kept."""
        inputs, targets, weights = self._rows(rows)
        linearization = Linearization(self.network, theta, inputs)

        def part(span, trace):
            y, w = pick(targets, span), pick(weights, span)
            losses = self.loss.value(trace.outputs, y)
            seeds = self.loss.gradient(self.loss.mean(trace.outputs), y)
            seeds = w[:, None, None] * seeds[:, None, :]
            gradient = self.network.pullback(theta, trace, seeds)[0, :]
            return total_of(w, losses), gradient

        numbers = 4 * max(self.network.layer_units[1:])
        return tuple(linearization.sum(part, numbers, linearization.made))

    def data_curvature(
        self, theta: Array, total: float, rows: Array | None = None
    ) -> GaussNewtonHessian:
        """Return the GNH of `total` times the mean loss, in double precision."""
        inputs, _, weights = self._rows(rows)
        linearization = Linearization(
            self.network, *(as_precision(x, np.float64) for x in (theta, inputs))
        )
        weights = as_precision(weights, np.float64) * total
        return GaussNewtonHessian(linearization, self.loss, weights)


def total_of(weights: Array, losses: Array) -> float:
    """Return the weighted sum in double precision."""
    return float(as_precision(weights, np.float64) @ as_precision(losses, np.float64))


def _is_same(theta: Array, known: Array | None) -> bool:
    if known is None or theta.shape != known.shape:
        return False
    return bool(namespace(theta).all(theta == known))


def _mean_target(part: Objective) -> Array:
    return part.weights @ made(part.targets)


def _loss_of_constant(part: Objective, z: Array) -> float:
    weights, y = part.weights, part.targets
    z = namespace(z).broadcast_to(z, y.shape)
    bytes_per_row = 4 * y.shape[1] * precision(y).itemsize
    with np.errstate(all="ignore"):
        # In one part unless its temporaries do not fit.
        return sum(
            total_of(pick(weights, k), part.loss.value(pick(z, k), pick(y, k)))
            for k in parts_that_fit(y.shape[0], bytes_per_row)
        )


class RestrictedObjective:
    """An objective as a function of some parameters, the others held where they are.

    Parameters
    ----------
    objective : Objective
        The whole.
    theta : ndarray of shape (P,)
        Where the others are held.
    index : ndarray of int of shape (k,)
        Which parameters are free.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective, RestrictedObjective
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> last = np.arange(6, 10)  # the weights of the output, and its bias
    >>> restricted = RestrictedObjective(objective, theta, last)
    >>> value, gradient, H = restricted.linearize(theta[last])
    >>> gradient.shape, H.shape
    ((4,), (4, 4))
    """

    def __init__(self, objective: Objective, theta: Array, index: Array):
        self._objective, self._theta, self.index = objective, theta, index
        self.network, self.loss = objective.network, objective.loss
        self.weights, self.targets = objective.weights, objective.targets

    @property
    def ridge(self) -> Array:
        """Curvature of the penalty at the free parameters, of shape (k,)."""
        return pick(self._objective.ridge, self.index)

    @ridge.setter
    def ridge(self, ridge: Array) -> None:
        self._objective.ridge = put(self._objective.ridge, self.index, ridge)

    def expand(self, free: Array) -> Array:
        """Return all parameters, of shape (P,)."""
        return put(self._theta, self.index, free)

    def mean_target(self) -> Array:
        """Return the weighted mean of the targets."""
        return self._objective.mean_target()

    def loss_of_constant(self, z: Array) -> float:
        """Return the mean loss of outputs that are the same for all rows."""
        return self._objective.loss_of_constant(z)

    def value(self, free: Array, rows: Array | None = None) -> float:
        """Return the objective; see :meth:`Objective.value`."""
        return self._objective.value(self.expand(free), rows)

    def linearize(
        self,
        free: Array,
        rows: Array | None = None,
        curvature_rows: Array | None = None,
    ) -> tuple[float, Array, Curvature]:
        """Return value, gradient and Hessian; see :meth:`Objective.linearize`."""
        theta = self.expand(free)
        value, gradient, H = self._objective.linearize(theta, rows, curvature_rows)
        return value, pick(gradient, self.index), H.restricted(self.index)
