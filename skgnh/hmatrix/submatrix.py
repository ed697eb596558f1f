"""Rows and columns of an operator."""

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

Array = Any


class PrincipalSubmatrix(LinearOperator):
    """Some rows of a symmetric operator and the same columns.

    Parameters
    ----------
    H : operator of shape (P, P)
        With products, ``entries`` and ``diagonal``; a product here costs one of H.
    index : ndarray of int of shape (k,)
        Which.
    """

    def __init__(self, H: Any, index: Array):
        self._H, self.index = H, np.asarray(index)
        super().__init__(H.dtype, (len(self.index),) * 2)

    def _matmat(self, V: Array) -> Array:
        return (self._H @ expanded(V, self.index, self._H.shape[0]))[self.index]

    def _adjoint(self) -> "PrincipalSubmatrix":
        return self

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block of some of these rows and columns."""
        return self._H.entries(self.index[rows], self.index[columns])

    def entry_blocks(self, pairs: list[tuple[Array, Array]]) -> list[Array]:
        """Return several such blocks."""
        return entry_blocks(self._H, [tuple(self.index[i] for i in p) for p in pairs])

    def diagonal(self) -> Array:
        """Return the diagonal."""
        return self._H.diagonal()[self.index]


def expanded(V: Array, index: Array, size: int) -> Array:
    """Return vectors of that size, zero but at the index."""
    out = np.zeros((size, *V.shape[1:]), V.dtype)
    out[index] = V
    return out


def entry_blocks(H: Any, pairs: list[tuple[Array, Array]]) -> list[Array]:
    """Return several blocks of H, at once where that is offered."""
    if hasattr(H, "entry_blocks"):
        return H.entry_blocks(pairs)
    return [H.entries(rows, columns) for rows, columns in pairs]
