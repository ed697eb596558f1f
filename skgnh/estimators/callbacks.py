"""scikit-learn's callbacks where the release has them, else checkpoints alone."""

from typing import Any

from skgnh.estimators.checkpoint import Checkpoint, Journal


class WithoutCallbacks:
    """Stand-in for releases without callbacks, which takes a Checkpoint alone."""

    def set_callbacks(self, *callbacks: Any) -> Any:
        """Set the checkpoints that fits are written to."""
        if not all(isinstance(each, Checkpoint) for each in callbacks):
            raise TypeError("callbacks other than a Checkpoint need scikit-learn 1.9.")
        self._skl_callbacks = list(callbacks)
        return self

    def _init_callback_context(self, max_subtasks: int) -> None:
        """Return no context."""


try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:
    CallbackSupportMixin = WithoutCallbacks

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


def journal_of(estimator: Any, data: Any, writes: bool, resume_from: Any) -> Journal:
    """Return the journal of a fit that begins, for the checkpoints among callbacks."""
    callbacks = getattr(estimator, "_skl_callbacks", []) if writes else []
    checkpoints = [each for each in callbacks if isinstance(each, Checkpoint)]
    return Journal(estimator, data, checkpoints, resume_from)


class FitContext:
    """The callback context of one fit, or none, and its journal."""

    def __init__(
        self, estimator: Any, X: Any, y: Any, max_iter: int | None, journal: Journal
    ):
        self.journal = journal
        self._arguments = {"estimator": estimator, "X": X, "y": y}
        self._context = estimator._init_callback_context(max_subtasks=max_iter)
        if self._context is not None:
            self._context.call_on_fit_task_begin(**self._arguments)

    def iteration_ends(self, attributes: Any) -> bool:
        """Report an iteration; True if a callback asks to stop.

        Parameters
        ----------
        attributes : callable
            Returns the fitted attributes that make the estimator of this moment.
        """
        self.journal.iteration_ends()
        if self._context is None:
            return False
        task = self._context.subcontext(task_name="iteration")
        task.call_on_fit_task_begin(**self._arguments)
        return task.call_on_fit_task_end(
            **self._arguments, reconstruction_attributes=attributes
        )

    def fit_ends(self, attributes: Any) -> None:
        """Report the end of the fit."""
        if self._context is not None:
            self._context.call_on_fit_task_end(
                **self._arguments, reconstruction_attributes=attributes
            )
