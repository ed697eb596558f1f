"""A point of the iteration: what is known there, and trial steps from it."""

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.arrays import as_precision, namespace, norm

Array = Any


class Trial(NamedTuple):
    """A solve of the damped system, what its model promises, and what came of it.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.solvers import Dense
    >>> from skgnh.training import Point
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> point = Point(theta, *objective.linearize(theta), Dense())
    >>> trial = point.trial(damping=0.1, objective=objective)
    >>> trial.step.shape, bool(trial.failed)
    ((10,), False)
    """

    step: Array
    """s, of shape (P,)."""
    value: float
    """Objective after it."""
    gain_ratio: float = 0.0
    """Reduction found over reduction predicted; -1 where either is of no use."""
    residual: float = 0.0
    """``||(H + damping D) s + g|| / ||g||``, as the solver's products say."""
    predicted: float = 0.0
    """``-(g^T s + s^T H s / 2)``."""
    products: int = 0
    """Products with H that the solver spent."""

    @property
    def failed(self) -> bool:
        """Whether there is no step, since the solve failed."""
        return np.isnan(self.residual)

    @property
    def accepted(self) -> bool:
        """Whether it is a reduction."""
        return self.gain_ratio > 0


class Point:
    r"""An objective's value, gradient and curvature at theta, with a factor of it.

    Parameters
    ----------
    theta : ndarray of shape (P,)
        Where.
    value : float
        Objective on the rows that judge steps from here.
    gradient : ndarray of shape (P,)
        Gradient.
    H : Curvature
        Curvature.
    solver : Solver
        What factors it, once it is needed.
    carried : object
        What the solver kept of earlier points.
    scale : ndarray of shape (P,), optional
        D, of the damped system :math:`(H + \lambda D) s = -g`; the identity if None.
    bounded : bool, default=False
        Whether to refuse steps longer than theta, both scaled by the root of D.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.solvers import Dense
    >>> from skgnh.training import Point
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> start = 0.5 * theta
    >>> point = Point(start, *objective.linearize(start), Dense())
    >>> trial = point.trial(damping=0.1, objective=objective)
    >>> bool(trial.accepted), bool(trial.value < point.value)
    (True, True)
    """

    def __init__(
        self,
        theta: Array,
        value: float,
        gradient: Array,
        H: Any,
        solver: Any,
        carried: Any = None,
        scale: Array | None = None,
        bounded: bool = False,
    ):
        self.theta, self.value, self.gradient, self.H = theta, value, gradient, H
        self._carried, self._bounded = carried, bounded
        self._root = None if scale is None else scale**-0.5
        self.scaled = H if scale is None else H.scaled(self._root)
        self.solver = solver.select(self.scaled)
        self.factor: Any = None
        self._spent = 0

    @property
    def carried(self) -> Any:
        """What the next point's factor may go on from."""
        return self._carried if self.factor is None else self.factor.carried()

    def is_stationary(self, tol: float) -> bool:
        """Say whether no entry of the gradient is above a tolerance."""
        xp = namespace(self.gradient)
        largest = float(xp.max(xp.abs(self.gradient)))
        return largest <= tol or norm(self.gradient) == 0

    def trial(self, damping: float, objective: Any, judge: Any = None) -> Trial:
        """Return the step of a damping, judged on some rows.

        A solve that fails leaves no step, and nan.
        """
        g = self.gradient if self._root is None else self._root * self.gradient
        try:
            s, Hs = self._solve(g, damping)
        except LinAlgError:
            return Trial(
                namespace(g).zeros_like(g),
                self.value,
                -1.0,
                np.nan,
                np.nan,
                self._products(),
            )
        residual = norm(Hs + float(damping) * s + g) / norm(g)
        long, slope, bend = (as_precision(x, np.float64) for x in (s, g, Hs))
        predicted = -float(long @ slope + 0.5 * (long @ bend))
        step = s if self._root is None else self._root * s
        value = objective.value(self.theta + step, judge)
        reduction, gain = self.value - value, -1.0
        if np.isfinite(reduction) and predicted > 0 and not self._is_leap(s):
            gain = reduction / predicted
        return Trial(step, value, gain, residual, predicted, self._products())

    def _solve(self, g: Array, damping: float) -> tuple[Array, Array]:
        """Return the step in the scaled coordinates, and H times it."""
        if self.factor is None:
            self.factor = self.solver.factor(self.scaled, self._carried)
        s = self.factor.solve(-g, damping)
        Hs = self.factor.image(s)
        xp = namespace(Hs)
        if not bool(xp.all(xp.isfinite(Hs))):
            raise LinAlgError("The step is not finite.")
        return s, Hs

    def _is_leap(self, s: Array) -> bool:
        """Say whether a step is longer than the parameters, which no model is."""
        if not self._bounded:
            return False
        return norm(s) > norm(self.theta / self._root) > 0

    def _products(self) -> int:
        """Return the products spent since it was asked last."""
        spent = self._spent
        self._spent = 0 if self.factor is None else self.factor.products
        return self._spent - spent
