"""Levenberg-Marquardt steps, one trial at a time; nothing here knows a network."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.schedule import Batch

Array = Any

# The least damping is eps to this power times the scale of H: with less, steps would be
# made of rounding where H is singular, and no two runs alike.
_LEAST = 2 / 3
# Output probes for the mean of the diagonal that sets the scale of the damping.
_SCALE_PROBES = 4


@dataclass(frozen=True)
class Step:
    """One trial step of :func:`levenberg_marquardt`."""

    theta: Array
    """Parameters after the trial: moved if it was accepted."""
    value: float
    """Objective after the trial, on the rows that judge it."""
    gradient_norm: float
    """Euclidean norm of the gradient at the point the step starts from."""
    damping: float
    """Damping that the step was solved with."""
    next_damping: float
    """Damping that the gain ratio suggests for the next."""
    predicted: float
    """Reduction that the quadratic model predicted."""
    gain_ratio: float
    """Reduction found over reduction predicted; nan for a failed solve."""
    residual: float
    """``||(H + damping I) s + g|| / ||g||``, from a product with H."""
    step_norm: float
    """Euclidean norm of s."""
    products: int
    """Products with H that the solver spent on this trial."""
    solves: int
    """Linear solves tried at this point so far."""
    accepted: bool
    """Whether the parameters moved."""
    ends_batch: bool
    """Whether the point is left: accepted, given up or converged."""
    ends_epoch: bool
    """Whether an iteration in scikit-learn's sense ends here."""
    status: str
    """'' while under way; 'gradient', 'step' or 'damping' when converged or stuck."""
    time: float
    """Seconds since the generator began, the caller's own work excluded."""
    solver: Any
    """Solver that the step was solved by."""


def nielsen(damping: float, growth: float, gain_ratio: float) -> tuple[float, float]:
    """Update damping and its growth factor by Nielsen's rule.

    After a step with gain ratio rho the damping is multiplied by
    ``max(1/3, 1 - (2 rho - 1)^3)``, after a failure by a factor that doubles with each.

    References
    ----------
    .. [1] H. B. Nielsen, "Damping parameter in Marquardt's method", IMM-REP-1999-05,
           Technical University of Denmark, 1999.

    Examples
    --------
    >>> from skgnh.optimize import nielsen
    >>> nielsen(8.0, 2.0, gain_ratio=0.5)
    (8.0, 2.0)
    >>> nielsen(8.0, 2.0, gain_ratio=-1.0)
    (16.0, 4.0)
    """
    if gain_ratio > 0:
        # Beyond rho = 1 the cube only saturates at 1/3; clip before it overflows.
        rho = min(gain_ratio, 1.0)
        return damping * max(1 / 3, 1 - (2 * rho - 1) ** 3), 2.0
    return damping * growth, 2 * growth


def success(damping: float, growth: float, gain_ratio: float) -> tuple[float, float]:
    """Update the damping by the success of steps on rows that they have not seen.

    Where noise dominates a batch, no damping brings the gain ratio near one: only its
    sign still tells whether steps are too long. The damping falls by 1.3 after a
    reduction and grows by 1.2 after none, which balances where two in five steps
    succeed; before the first success it doubles.

    References
    ----------
    .. [1] I. Rechenberg, "Evolutionsstrategie", Frommann-Holzboog, 1973: the success
           rule for step lengths under noise.

    Examples
    --------
    >>> from skgnh.optimize import success
    >>> success(1.0, 2.0, gain_ratio=-0.1)
    (2.0, 2.0)
    >>> success(1.0, 1.2, gain_ratio=0.1)
    (0.7692307692307692, 1.2)
    """
    if gain_ratio > 0:
        return damping / 1.3, 1.2
    return damping * growth, growth


def levenberg_marquardt(
    objective: Any,
    theta: Array,
    solver: Any,
    schedule: Generator[Batch, Any, None],
    *,
    damping: float = 1e-2,
    relative: bool = True,
    rule: Callable = nielsen,
    gradient_tol: float = 0.0,
    step_tol: float = 0.0,
) -> Iterator[Step]:
    r"""Yield one :class:`Step` per trial; the caller decides when to stop.

    At each point the objective is linearised, the solver factors the curvature once,
    and trial steps

    .. math:: (H + \lambda I) s = -g

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
    schedule : generator of Batch
        See :mod:`skgnh.schedule`.
    damping : float, default=1e-2
        First damping, in units of the mean diagonal of the first H.
    relative : bool, default=True
        If False, `damping` is absolute.
    rule : callable, default=nielsen
        Update of the damping, :func:`nielsen` or, for steps judged on unseen rows,
        :func:`success`.
    gradient_tol : float, default=0.0
        Stop when the largest absolute entry of the gradient is at most this.
    step_tol : float, default=0.0
        Stop when ``||s|| <= step_tol (||theta|| + step_tol)``.

    Yields
    ------
    Step
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

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import DenseMatrix
    >>> from skgnh.optimize import levenberg_marquardt
    >>> from skgnh.schedule import full_batch
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
    ...     full_batch(2, 2, np.random.default_rng(0)),
    ...     gradient_tol=1e-10,
    ... )
    >>> *_, last = steps
    >>> last.status, last.theta.round(6)
    ('gradient', array([1., 1.]))
    """
    clock = perf_counter()
    growth, carried, bounds = 2.0, None, None
    batch = next(schedule)
    while True:
        value, gradient, H = objective.linearize(theta, batch.gradient, batch.curvature)
        norm = _norm(gradient)
        if bounds is None:
            damping, bounds = _initial_damping(H, damping, relative)
        # The same rows judge before and after; those of the gradient are known already.
        if batch.judge is not batch.gradient:
            value = objective.value(theta, batch.judge)
        current = solver.select(H)
        stationary = bool(np.max(np.abs(gradient)) <= gradient_tol) or norm == 0
        factor, spent, solves = None, 0, 0
        factored = False
        while True:
            step, residual, predicted, failed = np.zeros_like(theta), 0.0, 0.0, False
            if not stationary:
                solves += 1
                try:
                    if not factored:
                        factor, spent = current.factor(H, carried), 0
                        factored = True
                    step = factor.solve(-gradient, damping)
                    residual, predicted = _check(H, gradient, step, damping)
                except LinAlgError:
                    failed, residual, predicted = True, np.nan, np.nan
            trial, trial_value, gain = theta, value, 0.0
            if not stationary and not failed:
                trial = theta + step
                trial_value = objective.value(trial, batch.judge)
                gain = _gain_ratio(value - trial_value, predicted)
            accepted = bool(gain > 0)
            after, growth = rule(damping, growth, gain)
            step_norm = _norm(step)
            status = ""
            if stationary:
                # A batch may be fitted while the others are not.
                status = "gradient" if batch.max_trials > 1 else ""
                after = damping
            elif not failed and step_norm <= step_tol * (_norm(theta) + step_tol):
                status = "step"
            elif solves < batch.max_trials and after > bounds[1] and not accepted:
                status = "damping"
            products = (factor.products if factored else 0) - spent
            spent += products
            left = accepted or stationary or bool(status) or solves >= batch.max_trials
            yielded_at = perf_counter()
            last = Step(
                theta=trial if accepted else theta,
                value=trial_value if accepted else value,
                gradient_norm=norm,
                damping=damping,
                next_damping=min(max(after, bounds[0]), bounds[1]),
                predicted=predicted,
                gain_ratio=np.nan if failed else gain,
                residual=residual,
                step_norm=step_norm,
                products=products,
                solves=solves,
                accepted=accepted,
                ends_batch=left,
                ends_epoch=left and batch.ends_epoch,
                status=status,
                time=yielded_at - clock,
                solver=current,
            )
            yield last
            clock += perf_counter() - yielded_at
            damping = last.next_damping
            if status:
                return
            if left:
                theta = last.theta
                carried = factor.carried() if factored else carried
                break
        batch = schedule.send(last)


def _norm(x: Array) -> float:
    """Return the Euclidean norm in double precision."""
    return float(np.linalg.norm(np.asarray(x, dtype=np.float64)))


def _initial_damping(
    H: Any, damping: float, relative: bool
) -> tuple[float, tuple[float, float]]:
    """Return the first damping and the bounds of all, from the scale of H."""
    # An exact Hessian may have negative entries: their size counts, not their sum.
    sizes = np.abs(H.diagonal(_SCALE_PROBES, 0))
    scale = float(np.mean(sizes, dtype=np.float64))
    if not (np.isfinite(scale) and scale > 0):
        scale = 1.0
    eps = float(np.finfo(H.dtype).eps)
    bounds = (eps**_LEAST * scale, scale / eps**2)
    first = damping * scale if relative else damping
    return min(max(first, bounds[0]), bounds[1]), bounds


def _check(H: Any, g: Array, s: Array, damping: float) -> tuple[float, float]:
    """Return the relative residual of a solve and the reduction that it predicts."""
    Hs = H @ s
    if not np.isfinite(Hs).all():
        raise LinAlgError("The step is not finite.")
    norm = _norm(g)
    residual = _norm(Hs + Hs.dtype.type(damping) * s + g) / norm
    s = s.astype(np.float64)
    return residual, -float(s @ g + 0.5 * (s @ Hs))


def _gain_ratio(reduction: float, predicted: float) -> float:
    """Return reduction / predicted, or -1 where either is of no use."""
    if not np.isfinite(reduction) or not predicted > 0:
        return -1.0
    return reduction / predicted
