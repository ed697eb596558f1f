"""Which rows serve the gradient, the curvature and the judging of each step.

A schedule is a generator of :class:`Batch`; the optimiser sends it every finished step.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

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


def full_batch(
    n_rows: int, curvature_size: int, rng: Any
) -> Generator[Batch, Any, None]:
    """All rows for the gradient and the judging, the same or fewer for the curvature.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    curvature_size : int
        Rows drawn, uniformly and anew for each step, for the curvature.
    rng : Generator
        Source of the draws.
    """
    while True:
        rows = None
        if curvature_size < n_rows:
            rows = np.sort(rng.choice(n_rows, curvature_size, replace=False))
        yield Batch(curvature=rows)


def mini_batches(
    n_rows: int, size: int, curvature_size: int, rng: Any
) -> Generator[Batch, Any, None]:
    """Shuffled batches, each step judged on the batch that comes next.

    Judged on its own batch a step looks better the more it fits that batch's noise;
    on rows it has not seen the damping grows when the noise takes over.

    Parameters
    ----------
    n_rows, size : int
        Number of rows, of all and of a batch at least: the remainder is shared out.
    curvature_size : int
        Rows of each batch that serve the curvature.
    rng : Generator
        Source of the shuffles.
    """
    n_batches = max(1, n_rows // size)

    def epoch():
        return [np.sort(b) for b in np.array_split(rng.permutation(n_rows), n_batches)]

    batches = epoch()
    while True:
        following = epoch()
        judges = [*batches[1:], following[0]]
        for k, (batch, judge) in enumerate(zip(batches, judges, strict=True)):
            curvature = batch
            if curvature_size < len(batch):
                curvature = np.sort(rng.choice(batch, curvature_size, replace=False))
            yield Batch(batch, curvature, judge, 1, k == n_batches - 1)
        batches = following
