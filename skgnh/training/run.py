"""The loop over a method's steps, and when it ends."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from skgnh.messages import warn
from skgnh.training.evidence import Posterior
from skgnh.training.levenberg_marquardt import Step
from skgnh.training.state import Problem

Array = Any

_HISTORY = [
    f.name for f in fields(Step) if f.name not in ("theta", "point", "posterior")
]
# Steps of an epoch that say whether it can improve.
_STEPS = 10
_REASONS = {
    "gradient": "the gradient vanishes",
    "step": "steps have become too small",
    "damping": "no damping brings a reduction",
}
_INTERRUPTED, _ASKED = "interrupted by the user", "a callback asked to stop"


@dataclass
class Patience:
    """Count iterations without an improvement of `tol` over the best value.

    A value below `floor` cannot improve by `tol` again, so that no patience helps.

    Examples
    --------
    >>> from skgnh.training import Patience
    >>> patience = Patience(tol=0.1, n_iter_no_change=1)
    >>> [patience.exhausted(value) for value in (5.0, 4.0, 3.95, 3.92)]
    [False, False, False, True]
    """

    tol: float
    n_iter_no_change: float
    floor: float = -np.inf
    grace: int = 0
    """Iterations that are not counted."""
    best: float = np.inf
    count: float = 0.0

    def exhausted(self, value: float, share: float = 1.0) -> bool:
        """Take the next value and say whether to stop.

        An iteration of few steps counts as its share of one.
        """
        self.grace -= 1
        in_vain = self.grace < 0 and not value <= self.best - self.tol
        self.count = self.count + share if in_vain else 0
        self.best = min(self.best, value) if np.isfinite(value) else self.best
        return self.count > self.n_iter_no_change or value < self.floor


@dataclass
class Training:
    """Parameters and records of a fit; complete after every iteration.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.optimize import levenberg_marquardt
    >>> from skgnh.solvers import Dense
    >>> from skgnh.training import Patience, Problem, Training
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> problem = Problem(objective, start=0.5 * theta)
    >>> training = Training(problem, 50, Patience(tol=1e-6, n_iter_no_change=2))
    >>> training.run(levenberg_marquardt(objective, problem.start, Dense()))
    >>> training.reason
    'the loss no longer improves by tol'
    >>> training.loss_curve[-1] < training.loss_curve[0]
    True
    """

    problem: Problem
    max_iter: int
    patience: Patience
    early_stopping: bool = False
    verbose: bool = False
    keeps_last: bool = False
    """Whether to keep the last parameters, whatever their evidence."""
    n_rows: float = 1.0
    """Sum of the weights of the rows."""
    theta: Array = None
    loss_curve: list[float] = field(default_factory=list)
    validation_loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    steps: list[tuple] = field(default_factory=list)
    epoch: list[float] = field(default_factory=list)
    """Values of the points of the iteration under way."""
    solver: Any = None
    posterior: Posterior | None = None
    """What the evidence says of the parameters that are kept."""
    reason: str = ""
    """Why it ended; empty while it has not, or where `max_iter` ended it."""

    def __post_init__(self):
        """Begin at the start."""
        self.theta = self.problem.start

    @property
    def n_iter(self) -> int:
        """Number of complete iterations."""
        return len(self.loss_curve)

    @property
    def is_over(self) -> bool:
        """Whether a criterion or the last iteration has ended it."""
        return bool(self.reason) or self.n_iter >= self.max_iter

    @property
    def is_stopped(self) -> bool:
        """Whether the user ended it, by an interrupt or a callback."""
        return self.reason in (_INTERRUPTED, _ASKED)

    def history(self) -> dict[str, Array]:
        """Return one array for each field of the steps, and their iteration."""
        names = [*_HISTORY, "iteration"]
        columns = zip(*self.steps, strict=True) if self.steps else [[]] * len(names)
        return {
            name: np.array(column) for name, column in zip(names, columns, strict=True)
        }

    def run(
        self,
        steps: Iterable[Step],
        iteration_ends: Callable[[Array], bool] = lambda theta: False,
    ) -> None:
        """Take steps until one of the criteria ends the fit.

        Parameters
        ----------
        steps : iterable of Step
            As a method yields them.
        iteration_ends : callable
            Called after each iteration with the parameters to keep; True ends the fit.
        """
        try:
            for step in steps:
                self._record(step)
                if not (step.ends_epoch or step.status):
                    continue
                self.reason = self._iterate(step)
                if iteration_ends(self.theta):
                    self.reason = _ASKED
                if self.is_over:
                    break
        except KeyboardInterrupt:
            self.reason = _INTERRUPTED
            warn("Training interrupted by user: the model is the best so far.")
        if self.verbose:
            print(f"Training ended: {self.reason or 'max_iter is reached'}.")

    def _record(self, step: Step) -> None:
        record = tuple(getattr(step, name) for name in _HISTORY)
        self.steps.append((*record, self.n_iter))
        self.solver = step.point.solver
        if step.ends_batch:
            self.epoch.append(step.value)

    def _iterate(self, step: Step) -> str:
        """End an iteration; return the reason to end the training, if there is one."""
        self.loss_curve.append(float(np.mean(self.epoch)))
        # A full batch is tried until a step succeeds, a mini-batch once.
        share = 1.0 if step.accepted else min(1.0, len(self.epoch) / _STEPS)
        self.epoch = []
        watched = self._validate(step)
        if self.verbose:
            self._print(step)
        if step.status:
            return _REASONS[step.status]
        if self.patience.exhausted(watched, share):
            return "the loss no longer improves by tol"
        return ""

    def _validate(self, step: Step) -> float:
        """Keep the parameters, or the best; return the value that patience watches."""
        watched = self.loss_curve[-1]
        best = min(self.validation_loss_curve, default=np.inf)
        if self.problem.validate is not None:
            loss, score = self.problem.validate(step.theta)
            self.validation_loss_curve.append(loss)
            self.validation_scores.append(score)
        if self.early_stopping:
            if loss < best:
                self.theta, self.posterior = step.theta, step.posterior
            return loss
        if step.posterior is None:
            self.theta = step.theta
            return watched
        return self._weigh(step)

    def _weigh(self, step: Step) -> float:
        """Keep the parameters of most evidence; return minus it, in nats a row.

        The step from the best point yet is kept until its own evidence is known.
        """
        evidence = step.posterior.log_evidence
        best = self.posterior
        if best is None or evidence > best.log_evidence or self.keeps_last:
            self.theta, self.posterior = step.theta, step.posterior
        else:
            self.theta = best.theta
        return -evidence / self.n_rows

    def _print(self, step: Step) -> None:
        line = (
            f"Iteration {self.n_iter}, loss = {self.loss_curve[-1]:.8f}, "
            f"damping = {step.damping:.2e}, gain ratio = {step.gain_ratio:.2f}"
        )
        if self.validation_scores:
            line += f", validation score = {self.validation_scores[-1]:.6f}"
        print(line)
