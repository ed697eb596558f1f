"""Which rows serve the gradient, the curvature and the judging of each step.

A schedule has ``batches(state)``, a generator of :class:`Batch` that draws from
``state.rng``; the method sends it the step that leaves each point.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from skgnh.training.state import State

Array = Any


@dataclass(frozen=True)
class Batch:
    """The rows of one step; None stands for all rows."""

    gradient: Array | None = None
    curvature: Array | None = None
    judge: Array | None = None
    max_trials: int = 2**31
    """Trials with growing damping before the schedule moves on."""
    ends_epoch: bool = True
    """Whether an iteration, in scikit-learn's sense, is complete after it."""


@dataclass(frozen=True)
class FullBatch:
    """All rows for the gradient and the judging, the same or fewer for the curvature.

    Parameters
    ----------
    n_rows, curvature_size : int, optional
        Of how many rows how many are drawn, uniformly and anew for each step, for the
        curvature; all if None.
    """

    n_rows: int | None = None
    curvature_size: int | None = None

    def batches(self, state: State) -> Generator[Batch, Any, None]:
        """Yield one batch a step."""
        while True:
            rows, size = None, self.curvature_size
            if size is not None and size < self.n_rows:
                rows = _draw(state.rng, self.n_rows, size)
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
                curvature = batch
                if self.curvature_size < len(batch):
                    drawn = _draw(state.rng, len(batch), self.curvature_size)
                    curvature = batch[drawn]
                last = k == len(batches) - 1
                if last:
                    state.order = following
                yield Batch(batch, curvature, judge, 1, last)

    def _epoch(self, order: Array) -> list[Array]:
        n_batches = max(1, self.n_rows // self.size)
        return [np.sort(batch) for batch in np.array_split(order, n_batches)]


def _draw(rng: Any, n: int, size: int) -> Array:
    return np.sort(rng.choice(n, size, replace=False))
