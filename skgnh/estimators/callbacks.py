"""scikit-learn's callbacks where the installed release has them, else nothing."""

from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:
        """Stand-in for releases without callbacks."""

        def _init_callback_context(self, max_subtasks: int) -> None:
            """Return no context."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


class FitContext:
    """The callback context of one fit, or none."""

    def __init__(self, estimator: Any, X: Any, y: Any, max_iter: int | None):
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
