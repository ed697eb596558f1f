"""Rows and columns of an operator."""

from typing import Any

import numpy as np

from skgnh.linalg.curvature import Curvature

Array = Any


class PrincipalSubmatrix(Curvature):
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

    @property
    def offers(self) -> frozenset:
        """What it passes on of the whole."""
        return self._H.offers & {"diagonal", "entries"}

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block of some of these rows and columns."""
        return self._H.entries(self.index[rows], self.index[columns])

    def entry_blocks(self, pairs: list[tuple[Array, Array]]) -> list[Array]:
        """Return several such blocks."""
        return self._H.entry_blocks([tuple(self.index[i] for i in p) for p in pairs])

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal."""
        return self._H.diagonal(n_probes, random_state)[self.index]


def expanded(V: Array, index: Array, size: int) -> Array:
    """Return vectors of that size, zero but at the index."""
    out = np.zeros((size, *V.shape[1:]), V.dtype)
    out[index] = V
    return out
