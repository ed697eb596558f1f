"""The function that minimises a sum of losses by Levenberg and Marquardt's method."""

from collections.abc import Iterator
from typing import Any

from skgnh.operators.random import generator
from skgnh.training import FullBatch, LevenbergMarquardt, Problem, Step

Array = Any


def levenberg_marquardt(
    objective: Any,
    theta: Array,
    solver: Any,
    schedule: Any = None,
    *,
    random_state: Any = None,
    **settings: Any,
) -> Iterator[Step]:
    r"""Yield a :class:`~skgnh.training.Step` a trial; the caller decides when to stop.

    At each point the objective is linearised, the solver factors the curvature once,
    and trial steps

    .. math:: (H + \lambda D) s = -g

    (D the identity or, with ``scaling="diagonal"``, the largest diagonal of H so far)

    are solved with growing damping until one brings a reduction worth the predicted
    :math:`-(g^T s + \frac12 s^T H s)`. One product :math:`H s` gives this prediction
    and the true residual, the same way for every solver. Solves that fail and trials
    whose value is not finite count as failures: they raise the damping.

    Parameters
    ----------
    objective : object
        With ``value(theta, rows) -> float`` and ``linearize(theta, rows,
        curvature_rows) -> (value, gradient, H)``; H is a symmetric operator with
        ``diagonal``.
    theta : ndarray of shape (P,)
        Start; it is not overwritten.
    solver : Solver
        See :mod:`skgnh.solvers`.
    schedule : object, optional
        Which rows serve what, see :mod:`skgnh.training.schedule`; all if None.
    random_state : int, RandomState, Generator or None, default=None
        Seed of what the schedule draws.
    **settings
        `damping`, `rule`, `gradient_tol`, `step_tol`, `scaling` and the other
        parameters of :class:`skgnh.training.LevenbergMarquardt`.

    Yields
    ------
    skgnh.training.Step
        The trial. The last has a `status` if the iteration stopped by itself:
        'gradient', 'step', or 'damping' when no damping gives a reduction that
        rounding does not hide.

    References
    ----------
    .. [1] K. Levenberg, "A method for the solution of certain non-linear problems in
           least squares", Quarterly of Applied Mathematics 2(2), 1944.
    .. [2] D. Marquardt, "An algorithm for least-squares estimation of nonlinear
           parameters", SIAM J. 11(2), 1963.
    .. [3] K. Madsen, H. B. Nielsen, O. Tingleff, "Methods for non-linear least squares
           problems", Technical University of Denmark, 2004.
    .. [4] J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory",
           Numerical Analysis, Lecture Notes in Mathematics 630, 1978.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import DenseMatrix
    >>> from skgnh.optimize import levenberg_marquardt
    >>> from skgnh.solvers import Dense
    >>> class Rosenbrock:
    ...     def residual(self, t):
    ...         return np.array([10 * (t[1] - t[0] ** 2), 1 - t[0]])
    ...
    ...     def value(self, t, rows=None):
    ...         return 0.5 * np.sum(self.residual(t) ** 2)
    ...
    ...     def linearize(self, t, rows=None, curvature_rows=None):
    ...         J = np.array([[-20 * t[0], 10.0], [-1.0, 0.0]])
    ...         return self.value(t), J.T @ self.residual(t), DenseMatrix(J.T @ J)
    >>> steps = levenberg_marquardt(
    ...     Rosenbrock(),
    ...     np.array([-1.2, 1.0]),
    ...     Dense(),
    ...     gradient_tol=1e-10,
    ... )
    >>> *_, last = steps
    >>> last.status, last.theta.round(6)
    ('gradient', array([1., 1.]))
    """
    schedule = FullBatch() if schedule is None else schedule
    method = LevenbergMarquardt(solver, schedule, **settings)
    problem = Problem(objective, theta)
    yield from method.steps(problem, method.begin(problem, generator(random_state)))
