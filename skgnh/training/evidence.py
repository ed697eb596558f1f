r"""Prior precisions and noise by the evidence, updated as the training goes.

Up to constants the negative logarithm of the posterior of n rows is

.. math:: n \rho f(\theta), \qquad
          f = \frac1n \sum_i \ell_i + \frac12 \theta^T R\, \theta, \quad
          R = \mathrm{diag}(\alpha) / (n \rho)

with the rate :math:`\rho` of the loss in the likelihood (one over the noise variance,
for the squared error). In the prior's own units the Hessian of f is M + I with
:math:`M = R^{-1/2} H R^{-1/2}`, H that of the mean loss, and Laplace's approximation of
the evidence and MacKay's updates are

.. math:: \log Z = -n \rho f(\theta) + n c - \tfrac12 \log\det(I + M), \qquad
          \alpha_g = \gamma_g / \|\theta_g\|^2, \quad
          \gamma_g = \mathrm{tr}_g\, M (I + M)^{-1} .

References
----------
.. [1] D. MacKay, "A practical Bayesian framework for backpropagation networks", Neural
       Computation 4(3), 1992.
.. [2] F. Foresee, M. Hagan, "Gauss-Newton approximation to Bayesian learning", ICNN
       1997.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.arrays import as_precision, eye, like, namespace, precision, sums_by, to_host
from skgnh.solvers import KFAC
from skgnh.training.levenberg_marquardt import LevenbergMarquardt, Step
from skgnh.training.point import Point
from skgnh.training.state import Problem, State

Array = Any

# Points before the first update: gamma means little far from a minimum.
_FIRST = 3
# Share of an update that is taken, in the logarithm.
_MIX = 0.5
_LEAST, _MOST = 1e-4, 1e6
# Of the first noise variance: where nothing is left to explain.
_NOISELESS = 1e-9


class Hyper(NamedTuple):
    """What the evidence chooses.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.training import Hyper
    >>> Hyper(precision=np.ones(2), dispersion=0.1)
    Hyper(precision=array([1., 1.]), dispersion=0.1, points=0)
    """

    precision: Array
    """alpha of each group, (G,)."""
    dispersion: float
    """Noise variance; 1 where the likelihood has none."""
    points: int = 0
    """At how many points it was looked at."""


class Posterior(NamedTuple):
    """What the evidence says of one point.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.training import Hyper, Posterior
    >>> hyper = Hyper(precision=np.ones(2), dispersion=0.1)
    >>> found = Posterior(
    ...     np.zeros(5), hyper, log_evidence=-3.0, gamma=np.array([2.5, 1])
    ... )
    >>> float(found.gamma.sum())  # effective parameters
    3.5
    """

    theta: Array
    """The point, (P,)."""
    hyper: Hyper
    """What it was judged with."""
    log_evidence: float
    """Logarithm of the evidence, in nats."""
    gamma: Array
    """Effective number of parameters of each group, (G,)."""
    is_exact: bool = False
    """Whether determinant and traces are those of the Gauss-Newton Hessian."""


@dataclass(frozen=True)
class Prior:
    """Groups of parameters that share a precision.

    Parameters
    ----------
    groups : ndarray of int of shape (P,)
        Group of each parameter.
    start : ndarray of shape (G,)
        First precisions.
    fixed : ndarray of bool of shape (G,)
        Those that are never updated.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.training import Prior
    >>> prior = Prior(np.array([0, 0, 1]), start=np.ones(2), fixed=np.zeros(2, bool))
    >>> prior.sums(np.array([1.0, 2.0, 3.0]))
    array([3., 3.])
    >>> prior.of(np.array([1.0, 1.0, 0.5])).start
    array([1., 4.])
    """

    groups: Array
    start: Array
    fixed: Array

    def of(self, theta: Array) -> "Prior":
        """Return the prior, all of it free, whose precisions parameters speak for."""
        found = self.sizes / np.maximum(self.sums(_squares(theta)), 1e-12)
        return Prior(self.groups, found, np.zeros_like(self.fixed))

    def restricted(self, index: Array) -> "Prior":
        """Return the prior of some parameters; without any, a group has no say."""
        groups = self.groups[index]
        absent = np.bincount(groups, minlength=len(self.start)) == 0
        return Prior(groups, self.start, self.fixed | absent)

    @property
    def sizes(self) -> Array:
        """Number of parameters of each group, (G,)."""
        return self.sums(np.ones(len(self.groups)))

    def sums(self, values: Array) -> Array:
        """Return the sums over each group, (G,)."""
        return sums_by(self.groups, values, len(self.start))


@dataclass(frozen=True)
class Evidence:
    """A method whose objective's ridge follows the evidence.

    The objective's `ridge` is set anew at each accepted step, from the factor of the
    point that it starts from: no factor is made for the evidence alone, but where the
    solver's knows no determinant.

    Parameters
    ----------
    method : LevenbergMarquardt
        What takes the steps.
    prior : Prior
        Groups of parameters.
    n : float
        Sum of the weights of the rows.
    dispersion : float
        First noise variance.
    share : float
        Of the rows, that of a batch: its word on the prior counts as much.
    pseudo : float, default=0.0
        Parameters of the first precision that each is taken to have seen already: few
        rows must not make the prior so strong that nothing is learned of the next.

    Examples
    --------
    >>> from itertools import islice
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.solvers import Dense
    >>> from skgnh.training import (
    ...     Evidence,
    ...     FullBatch,
    ...     LevenbergMarquardt,
    ...     Prior,
    ...     Problem,
    ... )
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> prior = Prior(np.zeros(10, int), start=np.ones(1), fixed=np.zeros(1, bool))
    >>> method = LevenbergMarquardt(Dense(), FullBatch(), damping=1.0, scaling="prior")
    >>> method = Evidence(method, prior, n=40.0, dispersion=0.1)
    >>> problem = Problem(objective, start=theta)
    >>> state = method.begin(problem, np.random.default_rng(0))
    >>> for step in islice(method.steps(problem, state), 20):
    ...     best = step.posterior or best
    >>> best.hyper.points > 3, best.hyper.dispersion < 0.1
    (True, True)
    """

    method: LevenbergMarquardt
    prior: Prior
    n: float
    dispersion: float = 1.0
    share: float = 1.0
    pseudo: float = 0.0

    def begin(self, problem: Problem, rng: Any) -> State:
        """Return the state of the start, with the first prior."""
        state = self.method.begin(problem, rng)
        state.hyper = Hyper(self.prior.start, self.dispersion)
        return state

    def steps(self, problem: Problem, state: State) -> Iterator[Step]:
        """Yield steps; those that leave a point with the posterior there."""
        objective = problem.objective
        objective.ridge = self.ridge(objective, state.hyper)
        for step in self.method.steps(problem, state):
            if not (step.ends_batch and _tells(step.point)):
                yield step
                continue
            posterior = self.posterior(objective, step.point, state.hyper)
            state.hyper = self._updated(objective, step, posterior)
            objective.ridge = self.ridge(objective, state.hyper)
            yield replace(step, posterior=posterior)

    def ridge(self, objective: Any, hyper: Hyper) -> Array:
        """Return R, of shape (P,)."""
        dtype = precision(objective.weights)
        # Whatever the weights and the units of targets, it and its inverse are numbers.
        most = float(np.finfo(dtype).max) ** 0.5
        ridge = hyper.precision / max(self.rate(objective, hyper), 1e3 / most)
        ridge = np.clip(ridge, 1e3 / most, most).astype(dtype)[self.prior.groups]
        return like(ridge, objective.weights)

    def rate(self, objective: Any, hyper: Hyper) -> float:
        """Return n rho, by which the objective stands in it; never zero."""
        d, loss = objective.network.n_outputs, objective.loss
        return max(self.n * loss.rate(d, hyper.dispersion), np.finfo(float).tiny)

    def posterior(self, objective: Any, point: Point, hyper: Hyper) -> Posterior:
        """Return evidence and effective parameters, from the point's factor."""
        factor, prior = point.factor.surrogate, self.prior
        try:
            if factor is None:
                factor = KFAC(n_probes=32, direct=True).factor(point.scaled)
            rest = factor.trace_of_inverse(prior.groups, 0.0)
            logdet = factor.logdet(0.0)
        except LinAlgError:
            return Posterior(point.theta, hyper, -np.inf, np.zeros(len(prior.start)))
        gamma = np.clip(prior.sizes - rest, 1e-3, prior.sizes)
        log_evidence = self._log_joint(objective, point.theta, point.value, hyper)
        log_evidence -= 0.5 * logdet
        return Posterior(point.theta, hyper, log_evidence, gamma, factor.is_exact)

    def constant(self, objective: Any, theta: Array, hyper: Hyper) -> Posterior:
        """Return the posterior of a network whose outputs are their biases alone.

        Without output weights, of which none then counts: what the biases' curvature
        gives, d parameters.
        """
        loss, d = objective.loss, objective.network.n_outputs
        objective.ridge = 0 * objective.ridge
        mean = objective.value(theta)
        dispersion = loss.dispersion(mean, self.n, d, float(d))
        bias = objective.network.unpack(theta)[-1][:, -1]
        base = loss.mean(bias[None, :])
        S = to_host(loss.root(base, eye(d, bias)[None, :, :])[0, ...])
        last = hyper.precision[-1]
        # By eigenvalues: of large weights I + M is singular to rounding.
        values = np.maximum(np.linalg.eigvalsh(S.T @ S), 0).astype(np.float64)
        values = 1 + values * (self.n * loss.rate(d, dispersion) / last)
        logdet = np.log(values).sum()
        gamma = np.zeros(len(self.prior.start))
        gamma[-1] = (1 - 1 / values).sum()
        log_joint = self.n * loss.log_likelihood(mean, d, dispersion)
        log_joint -= 0.5 * last * float(namespace(bias).sum(_squares(bias)))
        hyper = hyper._replace(dispersion=dispersion)
        return Posterior(theta, hyper, log_joint - 0.5 * logdet, gamma)

    def _log_joint(
        self, objective: Any, theta: Array, value: float, hyper: Hyper
    ) -> float:
        """Return log-likelihood and log-prior without the determinant of its A."""
        d, loss = objective.network.n_outputs, objective.loss
        penalty = 0.5 * float(hyper.precision @ self.prior.sums(_squares(theta)))
        mean = value - penalty / self.rate(objective, hyper)
        return self.n * loss.log_likelihood(mean, d, hyper.dispersion) - penalty

    def _updated(self, objective: Any, step: Step, posterior: Posterior) -> Hyper:
        """Return MacKay's update at the parameters after the step, but in part."""
        hyper = posterior.hyper._replace(points=posterior.hyper.points + 1)
        if hyper.points < _FIRST or not np.isfinite(posterior.log_evidence):
            return hyper
        prior, gamma = self.prior, posterior.gamma
        sums = np.maximum(prior.sums(_squares(step.theta)), 1e-300)
        pseudo = self.pseudo * prior.sizes
        found = (gamma + pseudo) / (sums + pseudo / prior.start)
        found = np.clip(found, _LEAST, _MOST)
        mix = _MIX * self.share
        precision = hyper.precision ** (1 - mix) * found**mix
        precision = np.where(prior.fixed, hyper.precision, precision)
        d, loss = objective.network.n_outputs, objective.loss
        penalty = 0.5 * float(hyper.precision @ prior.sums(_squares(step.theta)))
        mean = max(step.value - penalty / self.rate(objective, hyper), 0.0)
        dispersion = loss.dispersion(mean, self.n, d, float(gamma.sum()))
        dispersion = max(dispersion, _NOISELESS * self.dispersion)
        dispersion = hyper.dispersion ** (1 - self.share) * dispersion**self.share
        return hyper._replace(precision=precision, dispersion=dispersion)


def _tells(point: Point) -> bool:
    """Say whether a point's factor knows the determinant, or one for it is at hand.

    Many parameters, some of them held at zero, have neither: their prior stays.
    """
    if point.factor is None:
        return False
    return point.factor.surrogate is not None or KFAC().serves(point.scaled)


def _squares(theta: Array) -> Array:
    with np.errstate(over="ignore"):
        return as_precision(theta, np.float64) ** 2
