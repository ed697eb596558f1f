"""Rows that are made a slice at a time, of data beyond the working memory."""

import math
import mmap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import sparse

from skgnh.arrays import is_foreign, precision, stacked
from skgnh.blocks import Blocks
from skgnh.memory import fits

Array = Any

# Two copies of the rows are held, scaled and with their ones, and one on the way there.
_COPIES = 3
# Bytes of a file that rows are picked from before its pages are let go.
_SPAN = 2**25


class LazyRows:
    """Rows of X after some steps, made anew whenever they are asked for.

    A slice of them is an array, as of an array. So is a choice of them that fits the
    working memory; one that does not, or that is of blocks, is as lazy as the whole.

    Parameters
    ----------
    X : {ndarray, CSR, Blocks} of shape (m, f)
        What the rows are made of, as a rule mapped from a file or elsewhere.
    steps : tuple of callables
        Applied in turn to some rows, each row by itself.
    index : ndarray of int of shape (n,), optional
        Which rows of X; all if None.
    one : {ndarray, CSR} of shape (1, f'), optional
        One of the rows, where it is known, so that none is made.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.lazy_rows import LazyRows
    >>> rows = LazyRows(np.arange(6.0).reshape(3, 2)).then(np.negative)
    >>> rows.shape
    (3, 2)
    >>> rows[1:]
    array([[-2., -3.],
           [-4., -5.]])
    """

    ndim = 2

    def __init__(
        self,
        X: Array,
        steps: tuple[Callable, ...] = (),
        index: Array | None = None,
        one: Array | None = None,
    ):
        self.X, self.steps, self.index = X, steps, index
        self._one = one = self._made(slice(0, 1)) if one is None else one
        n = X.shape[0] if index is None else len(index)
        self.shape, self.dtype = (n, one.shape[1]), one.dtype
        self.is_sparse = sparse.issparse(one)

    def __len__(self) -> int:
        """Return the number of rows n."""
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """How many bytes their numbers would take, about."""
        return nbytes_of(self.X) * len(self) // max(1, self.X.shape[0])

    @property
    def bytes_to_make(self) -> float:
        """How many bytes it takes to make a row, about."""
        return _COPIES * self.nbytes / max(1, len(self))

    def then(self, step: Callable) -> "LazyRows":
        """Return the rows after one more step."""
        return LazyRows(self.X, (*self.steps, step), self.index, step(self._one))

    def astype(self, dtype: Any, copy: bool = True) -> "LazyRows":
        """Return the rows in another precision."""
        return self.then(lambda made: made.astype(dtype, copy=False))

    def __getitem__(self, rows: Any) -> Any:
        """Return some rows: those of a slice, an index or a mask."""
        if isinstance(rows, slice):
            rows = slice(*rows.indices(len(self)))
            return self._made(rows if self.index is None else self.index[rows])
        index = np.asarray(rows)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        if self.index is not None:
            index = self.index[index]
        some = LazyRows(self.X, self.steps, index, self._one)
        return some if self.in_blocks or not some.may_be_made else some[:]

    @property
    def in_blocks(self) -> bool:
        """Whether they are of blocks that lie elsewhere."""
        return isinstance(self.X, Blocks)

    @property
    def may_be_made(self) -> bool:
        """Whether all of them would fit the working memory."""
        return fits(_COPIES * self.nbytes)

    def _made(self, rows: Any) -> Array:
        made = _picked(self.X, rows)
        for step in self.steps:
            made = step(made)
        release(self.X)
        return made


def _picked(X: Array, rows: Any) -> Array:
    """Return rows of X; those of a file in its order, and let go of it on the way.

    To read one of them maps its neighbours too.
    """
    if not is_mapped(X) or (isinstance(rows, slice) and rows.step in (None, 1)):
        return X[rows]
    index = np.arange(X.shape[0])[rows]
    order = np.argsort(index, kind="stable")
    span = max(1, _SPAN * X.shape[0] // max(1, nbytes_of(X)))
    cuts = np.flatnonzero(np.diff(index[order] // span)) + 1
    found = []
    for part in np.split(index[order], cuts):
        found.append(X[part])
        release(X)
    whole = stacked(found)
    is_sorted = (np.diff(order) > 0).all()
    return whole if is_sorted else whole[np.argsort(order)]


def lazily(X: Array) -> Array:
    """Return X, or where copies of it would not fit the working memory, lazy rows."""
    if is_foreign(X):
        return X
    is_here = isinstance(X, np.ndarray) or sparse.issparse(X)
    if isinstance(X, LazyRows) or (is_here and fits(_COPIES * nbytes_of(X))):
        return X
    return LazyRows(X)


def made(X: Array) -> Array:
    """Return an array of lazy rows, an array as it is."""
    return X[:] if isinstance(X, LazyRows) else X


def is_sparse(X: Array) -> bool:
    """Say whether rows are sparse, lazy or not."""
    return X.is_sparse if isinstance(X, LazyRows) else sparse.issparse(X)


def nbytes_of(X: Array) -> int:
    """Return how many bytes the numbers of rows take, or would take."""
    if is_foreign(X):
        return math.prod(X.shape) * precision(X).itemsize
    return X.nbytes if hasattr(X, "nbytes") else sum(x.nbytes for x in _arrays(X))


def is_mapped(X: Array) -> bool:
    """Say whether an array lies in a file that is mapped to memory."""
    return any(True for _ in _mappings(X))


def release(X: Array) -> None:
    """Let go of the pages of a mapped array; they are read again when asked for.

    The kernel would do so once memory is short. Until then they count as the process's.
    """
    for mapped in _mappings(X):
        # What is written to a private copy would be lost. NumPy's stubs know no _mmap.
        if mapped.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
            mapped._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _arrays(X: Array) -> list[Array]:
    if sparse.issparse(X) and X.format in ("csr", "csc"):
        return [X.data, X.indices, X.indptr]
    return [X] if isinstance(X, np.ndarray) else []


def _mappings(X: Array) -> Iterator[np.memmap]:
    for x in _arrays(X):
        while isinstance(x, np.ndarray):
            if isinstance(x, np.memmap) and isinstance(x.base, mmap.mmap):
                yield x
                break
            x = x.base
