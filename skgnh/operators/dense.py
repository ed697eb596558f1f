"""A symmetric matrix held as an array."""

from typing import Any

import numpy as np
from sklearn.utils import check_array

from skgnh.linalg import Curvature

Array = Any


class DenseMatrix(Curvature):
    """A symmetric array under the interface of the curvature operators.

    Parameters
    ----------
    array : array-like of shape (P, P)
        The matrix; its symmetry is checked to rounding.

    Raises
    ------
    ValueError
        If the array is not square, not symmetric or not finite.

    Examples
    --------
    >>> from skgnh.operators import DenseMatrix
    >>> H = DenseMatrix([[2.0, 1.0], [1.0, 3.0]])
    >>> H.diagonal()
    array([2., 3.])
    """

    offers = Curvature.offers | {"entries", "toarray"}

    def __init__(self, array: Array):
        array = check_array(array, dtype=[np.float64, np.float32])
        if array.shape[0] != array.shape[1]:
            raise ValueError(f"The matrix must be square, got shape {array.shape}.")
        gap = np.max(np.abs(array - array.T))
        if gap > 1e3 * np.finfo(array.dtype).eps * np.max(np.abs(array)):
            raise ValueError(f"The matrix must be symmetric; it is off by {gap:.1e}.")
        super().__init__(array.dtype, array.shape)
        self.array = array

    def _matmat(self, V: Array) -> Array:
        return self.array @ V

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block of these rows and columns."""
        return self.array[np.ix_(rows, columns)]

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal; it is at hand, so probes are never drawn."""
        return self.array.diagonal().copy()

    def toarray(self) -> Array:
        """Return the matrix as a new array."""
        return self.array.copy()
