"""The method of Levenberg and Marquardt, one trial at a time; it knows no network."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np

from skgnh.arrays import as_precision, namespace, norm
from skgnh.linalg import check_choice
from skgnh.training.damping import nielsen, success
from skgnh.training.point import Point, Trial
from skgnh.training.schedule import Batch
from skgnh.training.state import RECENT, Problem, State

Array = Any

# The least damping is eps to this power times the scale of H: with less, the damped
# matrix of a singular H is singular to rounding.
_LEAST = 4 / 3
_SCALINGS = ("none", "diagonal", "prior")
# Output probes for the mean of the diagonal that sets the scale of the damping.
_SCALE_PROBES = 4


@dataclass(frozen=True)
class Step:
    """One trial step of a method.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.optimize import levenberg_marquardt
    >>> from skgnh.solvers import Dense
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> step = next(levenberg_marquardt(objective, 0.5 * theta, Dense()))
    >>> bool(step.accepted), bool(step.residual < 1e-8), step.solves
    (True, True, 1)
    """

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
    """``||(H + damping D) s + g|| / ||g||``, from a product with H."""
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
    point: Point
    """The point that it starts from, with its curvature and factor."""
    posterior: Any = None
    """What the evidence says of that point, where it is asked for."""


@dataclass(frozen=True)
class LevenbergMarquardt:
    """Damped Gauss-Newton steps; see :func:`skgnh.optimize.levenberg_marquardt`.

    Parameters
    ----------
    solver : Solver
        See :mod:`skgnh.solvers`.
    schedule : object
        See :mod:`skgnh.training.schedule`.
    damping : float, default=1e-2
        First damping, in units of the mean diagonal of the first H (of D, if scaled).
    relative : bool, default=True
        If False, `damping` is absolute.
    rule : callable, optional
        Update of the damping; None takes :func:`~skgnh.training.success` for steps that
        are judged on unseen rows, :func:`~skgnh.training.nielsen` for others.
    gradient_tol : float, default=0.0
        Stop when the largest absolute entry of the gradient is at most this.
    step_tol : float, default=0.0
        Stop when ``||s|| <= step_tol (||theta|| + step_tol)``, and the step is no
        reduction or one below `step_tol` of the value: a step that is short only for
        its damping goes on.
    scaling : {'none', 'diagonal', 'prior'}, default='none'
        D; 'prior' takes the ridge of H, which must be positive. Scaled steps do not
        depend on the units of the parameters, as in MINPACK.

    Raises
    ------
    ValueError
        If there is no such scaling.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.solvers import Dense
    >>> from skgnh.training import FullBatch, LevenbergMarquardt, Problem
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> method = LevenbergMarquardt(Dense(), FullBatch(), gradient_tol=1e-6)
    >>> problem = Problem(objective, start=0.5 * theta)
    >>> state = method.begin(problem, np.random.default_rng(0))
    >>> *_, last = method.steps(problem, state)
    >>> last.status
    'gradient'
    >>> bool(np.array_equal(state.theta, last.theta))
    True
    """

    solver: Any
    schedule: Any
    damping: float = 1e-2
    relative: bool = True
    rule: Callable | None = None
    gradient_tol: float = 0.0
    step_tol: float = 0.0
    scaling: str = "none"

    def __post_init__(self):
        """Refuse a scaling that is not known."""
        check_choice(self.scaling, "scaling", _SCALINGS)

    def begin(self, problem: Problem, rng: Any) -> State:
        """Return the state of the start."""
        return State(theta=problem.start, rng=rng)

    def steps(self, problem: Problem, state: State) -> Iterator[Step]:
        """Yield trial steps; `state` moves on at the end of each point."""
        begun, away = perf_counter(), 0.0
        batches = self.schedule.batches(state)
        batch = next(batches)
        while True:
            point = self._linearize(problem.objective, state, batch)
            for step in self._trials(problem.objective, point, state, batch):
                now = perf_counter()
                timed = replace(step, time=now - begun - away)
                yield timed
                away += perf_counter() - now
            if timed.status:
                return
            batch = batches.send(timed)

    def _linearize(self, objective: Any, state: State, batch: Batch) -> Point:
        theta = state.theta
        value, gradient, H = objective.linearize(theta, batch.gradient, batch.curvature)
        # The same rows judge before and after; those of the gradient are known already.
        if batch.is_judged_unseen:
            value = objective.value(theta, batch.judge)
        if self.scaling == "diagonal":
            state.scale = _running_scale(H, state.scale)
        elif self.scaling == "prior":
            state.scale = H.ridge
        if state.bounds is None:
            self._set_damping(H, state)
        scaling = state.scale, self.scaling == "diagonal"
        return Point(theta, value, gradient, H, self.solver, state.carried, *scaling)

    def _set_damping(self, H: Any, state: State) -> None:
        """Set bounds of the damping and, at a start, the first one."""
        unit, info = 1.0, np.finfo(H.dtype)
        if self.scaling == "none":
            # An exact Hessian may have negative entries: their size counts.
            diagonal = as_precision(H.diagonal(_SCALE_PROBES, 0), np.float64)
            xp = namespace(diagonal)
            unit = float(xp.mean(xp.abs(diagonal)))
            unit = unit if np.isfinite(unit) and unit > 0 else 1.0
        eps, largest = (float(x) for x in (info.eps, info.max))
        # An infinite one would never be passed, however often a solve fails.
        state.bounds = (eps**_LEAST * unit, min(unit / eps**2, largest))
        if state.damping is None:
            state.damping = self.damping * (unit if self.relative else 1.0)
        state.damping = float(np.clip(state.damping, *state.bounds))

    def _trials(
        self, objective: Any, point: Point, state: State, batch: Batch
    ) -> Iterator[Step]:
        """Yield trials from one point, the last of which leaves it."""
        assert state.damping is not None
        assert state.bounds is not None
        if point.is_stationary(self.gradient_tol):
            # A batch may be fitted while the others are not.
            status = "gradient" if batch.max_trials > 1 else ""
            rest = Trial(namespace(point.theta).zeros_like(point.theta), point.value)
            yield self._step(point, state, batch, rest, state.damping, 0, True, status)
            return
        rule = self.rule or (success if batch.is_judged_unseen else nielsen)
        for solves in count(1):
            damping = state.damping
            trial = point.trial(damping, objective, batch.judge)
            after, state.growth = rule(damping, state.growth, trial.gain_ratio)
            state.damping = float(np.clip(after, *state.bounds))
            status = self._status(trial, point, after > state.bounds[1])
            given_up = solves >= batch.max_trials
            if given_up and status == "damping":
                status = ""
            left = trial.accepted or bool(status) or given_up
            yield self._step(point, state, batch, trial, damping, solves, left, status)
            if left:
                return

    def _status(self, trial: Trial, point: Point, is_most_damped: bool) -> str:
        """Say whether a trial ends the iteration, and why."""
        if self._is_small(trial, point):
            return "step"
        if trial.accepted:
            return ""
        eps = float(namespace(point.theta).finfo(point.theta.dtype).eps)
        # An approximate solve may promise a rise, which more damping mends.
        is_hidden = abs(trial.predicted) <= eps * abs(point.value)
        return "damping" if is_most_damped or is_hidden else ""

    def _is_small(self, trial: Trial, point: Point) -> bool:
        """Say whether a step is small, and not only for its damping.

        One that damping has shortened far from a minimum still promises a reduction
        that the value does not hide.
        """
        tol = self.step_tol
        if trial.failed or norm(trial.step) > tol * (norm(point.theta) + tol):
            return False
        return not trial.accepted or trial.predicted <= tol * abs(point.value)

    def _step(
        self,
        point: Point,
        state: State,
        batch: Batch,
        trial: Trial,
        damping: float,
        solves: int,
        left: bool,
        status: str,
    ) -> Step:
        """Return the record of a trial; where it leaves the point, move the state."""
        assert state.damping is not None
        theta = point.theta + trial.step if trial.accepted else point.theta
        if left:
            state.theta, state.carried = theta, point.carried
            state.recent = (*state.recent, trial.accepted)[-RECENT:]
        return Step(
            theta=theta,
            value=trial.value if trial.accepted else point.value,
            gradient_norm=norm(point.gradient),
            damping=damping,
            next_damping=state.damping,
            predicted=trial.predicted,
            gain_ratio=np.nan if trial.failed else trial.gain_ratio,
            residual=trial.residual,
            step_norm=norm(trial.step),
            products=trial.products,
            solves=solves,
            accepted=trial.accepted,
            ends_batch=left,
            ends_epoch=left and batch.ends_epoch,
            status=status,
            time=0.0,
            point=point,
        )


def _running_scale(H: Any, before: Array | None) -> Array:
    """Return the largest diagonals of H so far, as MINPACK scales by them."""
    diagonal = H.diagonal()
    xp = namespace(diagonal)
    diagonal = xp.abs(diagonal)
    if before is None:
        # A parameter without curvature yet has no scale of its own.
        return xp.where(diagonal > 0, diagonal, xp.ones_like(diagonal))
    return xp.maximum(before, diagonal)
