"""Steps on rows that come a block at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from skgnh.training.damping import nielsen, success
from skgnh.training.levenberg_marquardt import LevenbergMarquardt, Step
from skgnh.training.state import Problem, State


def only_raise(damping: float, growth: float, gain_ratio: float) -> tuple[float, float]:
    """Update the damping by Nielsen's rule after a failure alone."""
    if gain_ratio > 0:
        return damping, growth
    return nielsen(damping, growth, gain_ratio)


@dataclass(frozen=True)
class Streamed:
    """A method whose last step of a block is judged on the rows of the next block.

    The step stays if these rows confirm it, and is taken back if not; this judgement
    alone lowers the damping, by :func:`success`.

    Parameters
    ----------
    method : LevenbergMarquardt
        What takes the steps on a block.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.solvers import Dense
    >>> from skgnh.training import FullBatch, LevenbergMarquardt, Problem, Streamed
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> method = Streamed(LevenbergMarquardt(Dense(), FullBatch()))
    >>> problem = Problem(objective, start=0.5 * theta)
    >>> state = method.begin(problem, np.random.default_rng(0))
    >>> step = next(method.steps(problem, state))
    >>> state.pending is not None  # the rows of the next block will judge it
    True
    """

    method: LevenbergMarquardt

    def begin(self, problem: Problem, rng: Any) -> State:
        """Return the state of the start."""
        return self.method.begin(problem, rng)

    def steps(self, problem: Problem, state: State) -> Iterator[Step]:
        """Judge the step before on these rows, then yield steps on them."""
        self._judge(problem.objective, state)
        method = replace(self.method, rule=only_raise)
        for step in method.steps(problem, state):
            if step.accepted:
                state.pending = (step.point.theta, step.predicted)
            yield step

    def _judge(self, objective: Any, state: State) -> None:
        if state.pending is None:
            return
        before, predicted = state.pending
        assert state.damping is not None
        state.pending = None
        gain = (objective.value(before) - objective.value(state.theta)) / predicted
        state.damping, state.growth = success(state.damping, state.growth, gain)
        if not gain > 0:
            state.theta = before
