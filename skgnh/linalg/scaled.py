"""A symmetric matrix in scaled coordinates."""

from typing import Any

import numpy as np

from skgnh.linalg.curvature import Curvature

Array = Any


class ScaledCurvature(Curvature):
    """``diag(d) H diag(d)``.

    Parameters
    ----------
    H : Curvature of shape (P, P)
        The matrix.
    d : ndarray of shape (P,)
        Scale of each coordinate.
    """

    def __init__(self, H: Curvature, d: Array):
        self._H, self._d = H, d
        super().__init__(H.dtype, H.shape)

    @property
    def offers(self) -> frozenset:
        """What it passes on of H."""
        return self._H.offers & {"diagonal", "entries", "toarray"}

    def _matmat(self, V: Array) -> Array:
        d = self._d[:, None]
        return d * (self._H @ (d * V))

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal, or its estimate."""
        return self._d**2 * self._H.diagonal(n_probes, random_state)

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block of these rows and columns."""
        block = self._H.entries(rows, columns)
        return np.multiply.outer(self._d[rows], self._d[columns]) * block

    def toarray(self) -> Array:
        """Return the array of shape (P, P)."""
        return self._d[:, None] * self._H.toarray() * self._d
