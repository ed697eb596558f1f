"""Which rows serve the gradient, the curvature and the judging of each step.

A schedule has ``batches(state)``, a generator of :class:`Batch` that draws from
``state.rng``; the method sends it the step that leaves each point.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skgnh.training.state import RECENT, State

Array = Any


@dataclass(frozen=True)
class Batch:
    """The rows of one step; None stands for all rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.training import Batch
    >>> Batch().is_judged_unseen
    False
    >>> Batch(gradient=np.arange(5), judge=np.arange(5, 10)).is_judged_unseen
    True
    """

    gradient: Array | None = None
    curvature: Array | None = None
    judge: Array | None = None
    max_trials: int = 2**31
    """Trials with growing damping before the schedule moves on."""
    ends_epoch: bool = True
    """Whether an iteration, in scikit-learn's sense, is complete after it."""

    @property
    def is_judged_unseen(self) -> bool:
        """Whether steps are judged on other rows than they are made of."""
        return self.judge is not self.gradient


@dataclass(frozen=True)
class FullBatch:
    """All rows for the gradient and the judging, the same or fewer for the curvature.

    Parameters
    ----------
    n_rows, curvature_size : int, optional
        Of how many rows how many are drawn, uniformly and anew for each step, for the
        curvature; all if None.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.training import FullBatch, State
    >>> state = State(theta=np.zeros(3), rng=np.random.default_rng(0))
    >>> batch = next(FullBatch(n_rows=100, curvature_size=20).batches(state))
    >>> batch.gradient is None, batch.curvature.shape
    (True, (20,))
    """

    n_rows: int | None = None
    curvature_size: int | None = None

    def batches(self, state: State) -> Generator[Batch, Any, None]:
        """Yield one batch a step."""
        while True:
            rows, size = None, self.curvature_size
            n = self.n_rows
            if size is not None and n is not None and size < n:
                rows = _draw(state.rng, n, size)
            yield Batch(curvature=rows)


@dataclass(frozen=True)
class MiniBatches:
    """Shuffled batches, each step judged on the batch that comes next.

    Judged on its own batch a step looks better the more it fits that batch's noise;
    on rows it has not seen the damping grows when the noise takes over.

    Parameters
    ----------
    n_rows, size : int
        Number of rows, of all and of a batch at least: the remainder is shared out.
    curvature_size : int
        Rows of each batch that serve the curvature.

    Examples
    --------
    >>> from itertools import islice
    >>> import numpy as np
    >>> from skgnh.training import MiniBatches, State
    >>> state = State(theta=np.zeros(3), rng=np.random.default_rng(0))
    >>> schedule = MiniBatches(n_rows=90, size=30, curvature_size=10)
    >>> for batch in islice(schedule.batches(state), 3):
    ...     print(len(batch.gradient), len(batch.curvature), batch.ends_epoch)
    30 10 False
    30 10 False
    30 10 True
    """

    n_rows: int
    size: int
    curvature_size: int

    def batches(self, state: State) -> Generator[Batch, Any, None]:
        """Yield the batches of one epoch after the other."""
        if state.order is None or len(state.order) != self.n_rows:
            state.order = state.rng.permutation(self.n_rows)
        while True:
            batches = self._epoch(state.order)
            following = state.rng.permutation(self.n_rows)
            judges = [*batches[1:], self._epoch(following)[0]]
            for k, (batch, judge) in enumerate(zip(batches, judges, strict=True)):
                curvature = _some(state.rng, batch, self.curvature_size)
                last = k == len(batches) - 1
                if last:
                    state.order = following
                yield Batch(batch, curvature, judge, 1, last)

    def _epoch(self, order: Array) -> list[Array]:
        n_batches = max(1, self.n_rows // self.size)
        return [np.sort(batch) for batch in np.array_split(order, n_batches)]


@dataclass(frozen=True)
class GrowingBatches:
    """Small batches that double as long as steps do not carry over, up to all rows.

    Steps are judged on the batch that comes next, as those of :class:`MiniBatches`.
    Where fewer than half of the last eight have brought a reduction there, the noise
    of a batch is what limits them: the next batches have twice the rows, and all rows
    once that would be half of them [1]_.

    Parameters
    ----------
    n_rows, size : int
        Number of rows, and of those of the first batches.
    curvature_size : int
        Most rows that serve the curvature.

    References
    ----------
    .. [1] R. Byrd, G. Chin, J. Nocedal, Y. Wu, "Sample size selection in optimization
           methods for machine learning", Mathematical Programming 134, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.training import GrowingBatches, State
    >>> state = State(theta=np.zeros(3), rng=np.random.default_rng(0))
    >>> batches = GrowingBatches(n_rows=1000, size=100, curvature_size=50).batches(
    ...     state
    ... )
    >>> len(next(batches).gradient)
    100
    >>> state.recent = (False,) * 8  # the last eight steps have brought nothing
    >>> len(next(batches).gradient)
    200
    """

    n_rows: int
    size: int
    curvature_size: int

    def batches(self, state: State) -> Generator[Batch, Any, None]:
        """Yield batches until all rows serve each step; an epoch is n_rows of them."""
        while True:
            size = self._grow(state)
            if 2 * size > self.n_rows:
                break
            rows, judge = self._take_two(state, size)
            curvature = _some(state.rng, rows, self.curvature_size)
            seen = state.seen + len(rows)
            state.seen = seen % self.n_rows
            yield Batch(rows, curvature, judge, 1, seen >= self.n_rows)
        yield from FullBatch(self.n_rows, self.curvature_size).batches(state)

    def _grow(self, state: State) -> int:
        """Return the rows of the next batches."""
        size = self.size if state.batch_size is None else state.batch_size
        if len(state.recent) == RECENT and 2 * sum(state.recent) < RECENT:
            size, state.recent = 2 * size, ()
        state.batch_size = size
        return size

    def _take_two(self, state: State, size: int) -> list[Array]:
        """Return the next batch of an endless random order, and the one after it."""
        if state.order is None:
            state.order = np.empty(0, int)
        while len(state.order) < 2 * size:
            drawn = state.rng.permutation(self.n_rows)
            has_rest = len(state.order) > 0
            state.order = np.concatenate([state.order, drawn]) if has_rest else drawn
        two = [np.sort(state.order[:size]), np.sort(state.order[size : 2 * size])]
        state.order = state.order[size:]
        return two


def _some(rng: Any, rows: Array, size: int) -> Array:
    """Return so many of the rows, drawn, or all if there are no more."""
    return rows[_draw(rng, len(rows), size)] if size < len(rows) else rows


def _draw(rng: Any, n: int, size: int) -> Array:
    return np.sort(rng.choice(n, size, replace=False))
