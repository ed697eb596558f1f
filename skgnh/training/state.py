"""What is minimised, and all that must survive a stop."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

Array = Any

# Points whose success is remembered.
RECENT = 8


class Problem(NamedTuple):
    """What a training minimises, and how it is watched.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.training import Problem
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> problem = Problem(objective, start=theta)
    >>> bool(abs(problem.objective.value(problem.start) - model.loss_) < 1e-12)
    True
    """

    objective: Any
    """With ``value(theta, rows)`` and ``linearize(theta, rows, curvature_rows)``."""
    start: Array
    """Parameters of the start, (P,)."""
    validate: Callable[[Array], tuple[float, float]] | None = None
    """Loss and score of parameters on rows that are held out."""
    unit: float = 1.0
    """What a tolerance on the objective is a multiple of."""


@dataclass
class State:
    """Where a method stands: picklable, without rows, and whole at each point's end.

    A method that is given a problem and this record goes on as if it had not stopped.

    Examples
    --------
    A method moves it on:

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
    >>> method = LevenbergMarquardt(Dense(), FullBatch())
    >>> problem = Problem(objective, start=0.5 * theta)
    >>> state = method.begin(problem, np.random.default_rng(0))
    >>> step = next(method.steps(problem, state))
    >>> state.damping == step.next_damping
    True
    """

    theta: Array
    """Parameters, (P,)."""
    rng: Any
    """Generator of all draws."""
    damping: float | None = None
    """The next damping, absolute; None until the first point gives its scale."""
    bounds: tuple[float, float] | None = None
    """Least and largest damping."""
    growth: float = 2.0
    """By how much the damping rule raises it after the next failure."""
    carried: Any = None
    """What the solver keeps from point to point, see Factor.carried."""
    scale: Array | None = None
    """Largest diagonal of H so far, (P,), where the damping is scaled by it."""
    order: Array | None = None
    """The rows of the next epoch in their order, where one is drawn ahead."""
    recent: tuple[bool, ...] = ()
    """Whether the last points, at most eight, were left by a step that succeeded."""
    batch_size: int | None = None
    """Rows of the next batches, where they grow."""
    seen: int = 0
    """Rows that batches of no fixed number have taken of the iteration under way."""
    hyper: Any = None
    """Prior precisions and noise, where the evidence chooses them."""
    pending: tuple[Array, float] | None = None
    """Parameters before a step that rows to come will judge, and its promise."""
