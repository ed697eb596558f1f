"""SciPy's linear operators, for arrays of any namespace."""

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from skgnh.arrays import is_foreign

Array = Any


class Operator(LinearOperator):
    """A real linear operator that gives products in the namespace of what it is given.

    What is not foreign goes SciPy's way. A subclass implements ``_matmat``, of arrays
    with columns, and ``_rmatmat`` unless it is symmetric. Its dtype is NumPy's name of
    the precision.
    """

    def dot(self, x: Any) -> Any:
        """Return the product with a vector or with columns."""
        if not is_foreign(x):
            return super().dot(x)
        return self._matmat(x) if x.ndim == 2 else self._matmat(x[:, None])[:, 0]

    def _rmatvec(self, x: Array) -> Array:
        return self._rmatmat(np.reshape(x, (-1, 1)))[:, 0]

    def _transpose(self) -> "Operator":
        return Transposed(self)

    _adjoint = _transpose


class Transposed(Operator):
    """The transpose of an operator."""

    def __init__(self, whole: Operator):
        super().__init__(whole.dtype, whole.shape[::-1])
        self._whole = whole

    def _matmat(self, X: Array) -> Array:
        return self._whole._rmatmat(X)

    def _rmatmat(self, X: Array) -> Array:
        return self._whole._matmat(X)

    def _transpose(self) -> Operator:
        return self._whole

    _adjoint = _transpose
