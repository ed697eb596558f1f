"""Rows in blocks that stay where dask holds them, and sums of a term a block.

Nothing here schedules: a term is a task, and dask's scheduler runs it where the block
is, again if a worker is lost. It is the one module that imports dask, once it is asked
to.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse

from skgnh.arrays import stacked

Array = Any

# How many terms one task of a tree of sums adds.
_FAN = 8


def is_dask(X: Any) -> bool:
    """Say whether X is a collection of dask."""
    return callable(getattr(X, "__dask_graph__", None))


class Blocks:
    """Rows of a dask collection, of which those that are asked for are fetched.

    Parameters
    ----------
    blocks : list of Delayed
        Each an {ndarray, CSR} of some rows; they are computed and stay with dask.
    """

    ndim = 2

    def __init__(self, blocks: list):
        self.blocks = held(blocks)
        facts = gathered([each(_facts, block) for block in self.blocks])
        lengths, widths, dtypes, sizes = zip(*facts, strict=True)
        self.starts: Array = np.concatenate([[0], np.cumsum(lengths)])
        self.shape, self.dtype = (int(self.starts[-1]), widths[0]), dtypes[0]
        self.nbytes = sum(sizes)

    def __getitem__(self, rows: Any) -> Array:
        """Fetch some rows: one task for each block that has any."""
        index = np.arange(self.shape[0])[rows]
        found = list(self.located(index))
        if not found:
            return gathered([each(_rows, self.blocks[0], index)])[0]
        parts = gathered([each(_rows, block, own) for block, own, _ in found])
        order = np.argsort(np.concatenate([at for *_, at in found]))
        return stacked(parts)[order]

    def located(self, index: Array | None) -> Iterator[tuple[Any, Any, Any]]:
        """Yield blocks, rows of them, and where in the index these are.

        All rows of all blocks where the index is None.
        """
        if index is None:
            for block, (start, stop) in zip(
                self.blocks, pairwise(self.starts), strict=True
            ):
                if stop > start:
                    yield block, slice(None), slice(start, stop)
            return
        which: Array = np.searchsorted(self.starts, index, side="right") - 1
        order = np.argsort(which, kind="stable")
        bounds = np.searchsorted(which[order], np.arange(len(self.blocks) + 1))
        for k, block in enumerate(self.blocks):
            at = order[bounds[k] : bounds[k + 1]]
            if len(at):
                yield block, index[at] - self.starts[k], at


def each(function: Any, *args: Any) -> Any:
    """Return the task of a function."""
    from dask import delayed

    return delayed(function, pure=False)(*args)


def held(tasks: list) -> list:
    """Return tasks whose results stay with dask."""
    from dask import persist

    return list(persist(*tasks))


def gathered(tasks: list) -> list:
    """Return the results of tasks."""
    from dask import compute

    return list(compute(*tasks))


def tree_sum(tasks: list) -> Any:
    """Return the sum of what tasks return, which is never gathered one by one."""
    while len(tasks) > 1:
        groups = (tasks[k : k + _FAN] for k in range(0, len(tasks), _FAN))
        tasks = [each(_add, group) for group in groups]
    return gathered(tasks)[0]


def _add(terms: list) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _rows(block: Array, index: Array) -> Array:
    return block[index]


def _facts(block: Array) -> tuple[int, int, Any, int]:
    size = block.data.nbytes if sparse.issparse(block) else block.nbytes
    return *block.shape, block.dtype, size
