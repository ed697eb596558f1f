"""The training loop: a ``for`` over trial steps, and when it ends."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from skgnh.optimize import Step

Array = Any

_HISTORY = [f.name for f in fields(Step) if f.name not in ("theta", "solver")]


@dataclass
class Patience:
    """Count iterations without an improvement of `tol` over the best value.

    The values are never negative: one below `tol` cannot improve by it again, so that
    no patience helps.
    """

    tol: float
    n_iter_no_change: float
    best: float = np.inf
    count: int = 0

    def exhausted(self, value: float) -> bool:
        """Take the next value and say whether to stop."""
        self.count = self.count + 1 if not value <= self.best - self.tol else 0
        self.best = min(self.best, value) if np.isfinite(value) else self.best
        return self.count > self.n_iter_no_change or value < self.tol


@dataclass
class Training:
    """Parameters and records of a fit; complete after every iteration."""

    theta: Array
    best_theta: Array | None = None
    loss_curve: list[float] = field(default_factory=list)
    validation_loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    steps: list[tuple] = field(default_factory=list)
    damping: float = 0.0
    solver: Any = None
    converged: bool = False

    @property
    def n_iter(self) -> int:
        """Number of complete iterations."""
        return len(self.loss_curve)

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
        *,
        max_iter: int,
        patience: Patience,
        validate: Callable[[Array], tuple[float, float]] | None = None,
        early_stopping: bool = False,
        iteration_ends: Callable[[], bool] = lambda: False,
        verbose: bool = False,
    ) -> "Training":
        """Take steps until one of the criteria ends the fit.

        Parameters
        ----------
        steps : iterable of Step
            As :func:`skgnh.optimize.levenberg_marquardt` yields them.
        max_iter : int
            Most iterations.
        patience : Patience
            Stops on the training objective or, if `early_stopping`, on the
            validation loss, whose best parameters then end in `best_theta`.
        validate : callable, optional
            Returns loss and score of parameters on the validation rows.
        early_stopping : bool
            Which of the two the patience watches.
        iteration_ends : callable
            Called after each iteration; True stops the fit.
        verbose : bool
            Whether to print a line an iteration.

        Returns
        -------
        Training
            This object.
        """
        values = []
        try:
            for step in steps:
                record = tuple(getattr(step, name) for name in _HISTORY)
                self.steps.append((*record, self.n_iter))
                self.theta, self.solver = step.theta, step.solver
                self.damping = step.next_damping
                if step.ends_batch:
                    values.append(step.value)
                if not (step.ends_epoch or step.status):
                    continue
                self.loss_curve.append(float(np.mean(values)))
                values = []
                watched = self._validate(validate, early_stopping)
                if verbose:
                    self._print(step)
                if iteration_ends():
                    self.converged = True
                    break
                if step.status or patience.exhausted(watched):
                    self.converged = True
                    break
                if self.n_iter >= max_iter:
                    break
        except KeyboardInterrupt:
            self.converged = True
            warnings.warn(
                "Training interrupted by user: the model is the best so far.",
                stacklevel=2,
            )
        return self

    def _validate(self, validate: Callable | None, early_stopping: bool) -> float:
        """Record the validation and return the value that the patience watches."""
        if validate is None:
            return self.loss_curve[-1]
        loss, score = validate(self.theta)
        if early_stopping and loss < min(self.validation_loss_curve, default=np.inf):
            self.best_theta = self.theta
        self.validation_loss_curve.append(loss)
        self.validation_scores.append(score)
        return loss if early_stopping else self.loss_curve[-1]

    def _print(self, step: Step) -> None:
        line = (
            f"Iteration {self.n_iter}, loss = {self.loss_curve[-1]:.8f}, "
            f"damping = {step.damping:.2e}, gain ratio = {step.gain_ratio:.2f}"
        )
        if self.validation_scores:
            line += f", validation score = {self.validation_scores[-1]:.6f}"
        print(line)


def fitted_attributes(
    network: Any, training: Training, objective: Any
) -> dict[str, Any]:
    """Return the estimators' fitted attributes at this moment of a training."""
    stopped_early = training.best_theta is not None
    theta = training.best_theta if stopped_early else training.theta
    coefs, intercepts = network.to_coefs(theta)
    losses, scores = training.validation_loss_curve, training.validation_scores
    return {
        "coefs_": coefs,
        "intercepts_": intercepts,
        "hidden_activations_": list(network.activations),
        "n_layers_": len(network.layer_units),
        "n_outputs_": network.n_outputs,
        "n_iter_": training.n_iter,
        "loss_": objective.value(theta),
        "best_loss_": None
        if stopped_early
        else min(training.loss_curve, default=np.inf),
        "loss_curve_": list(training.loss_curve),
        "validation_loss_curve_": list(losses) or None,
        "validation_scores_": list(scores) or None,
        "best_validation_score_": max(scores, default=None),
        "history_": training.history(),
        "damping_": training.damping,
        "solver_": training.solver,
    }
