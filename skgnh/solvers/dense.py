"""The dense solver: one tridiagonal factorisation for every damping."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, get_lapack_funcs

from skgnh.solvers.base import Factor, Solver

Array = Any


class Dense(Solver):
    r"""Exact solver: ``H = U T U^T`` with T tridiagonal, once for all dampings.

    The Householder reduction costs :math:`\frac43 P^3`, four to five Cholesky
    factorisations by the clock; every further damping only O(P) for the factors of
    ``T + damping I`` and O(P^2) to apply U. Assembling H costs O(n d P^2).

    Raises
    ------
    ValueError
        If two P x P arrays exceed the working memory.

    References
    ----------
    .. [1] G. Golub, C. Van Loan, "Matrix Computations", 4th ed., section 8.3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import DenseMatrix
    >>> from skgnh.solvers import Dense
    >>> factor = Dense().factor(DenseMatrix(np.diag([1.0, 3.0])))
    >>> factor.solve(np.array([4.0, 10.0]), damping=1.0)
    array([2. , 2.5])
    >>> factor.solve(np.array([4.0, 10.0]), damping=7.0)
    array([0.5, 1. ])
    """

    requires = ("toarray",)

    def _factor(self, H: Any, previous: Factor | None) -> "DenseFactor":
        return DenseFactor(H.toarray())


class DenseFactor(Factor):
    """Tridiagonal form of a symmetric array, which it overwrites."""

    def __init__(self, array: Array):
        if not np.isfinite(array).all():
            raise LinAlgError("The matrix is not finite.")
        sytrd, sytrd_lwork = get_lapack_funcs(("sytrd", "sytrd_lwork"), (array,))
        lwork = int(sytrd_lwork(len(array), lower=1)[0])
        # A symmetric array is its own transpose: hand LAPACK its Fortran order as is.
        packed, self._diagonal, self._off_diagonal, self._tau, _ = sytrd(
            array.T, lower=1, lwork=lwork, overwrite_a=1
        )
        if len(array) == 1:
            # LAPACK's wrappers want one number where there is none off the diagonal.
            self._off_diagonal = np.zeros_like(self._diagonal)
        # Below the first row, sytrd leaves its reflectors as a QR factorisation does.
        self._reflectors = packed[1:, :-1]

    def _rotate(self, rhs: Array, trans: str) -> Array:
        """Return U rhs ('N') or U^T rhs ('T')."""
        if len(self._tau) == 0:
            return rhs
        (ormqr,) = get_lapack_funcs(("ormqr",), (self._reflectors,))
        lwork = 64 * max(rhs.shape[1], 1)
        below, _, _ = ormqr("L", trans, self._reflectors, self._tau, rhs[1:], lwork)
        return np.concatenate([rhs[:1], below])

    def _ldl(self, damping: float) -> tuple[Array, Array]:
        """Return the factors of ``T + damping I = L D L^T``."""
        (pttrf,) = get_lapack_funcs(("pttrf",), (self._diagonal,))
        d, e, info = pttrf(self._diagonal + damping, self._off_diagonal)
        if info or not np.isfinite(d).all():
            raise LinAlgError(f"H + {damping:.3g} I is not positive definite.")
        return d, e

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``; see :meth:`Factor.solve`."""
        d, e = self._ldl(damping)
        (pttrs,) = get_lapack_funcs(("pttrs",), (d,))
        columns = np.asarray(rhs, dtype=d.dtype).reshape(len(d), -1)
        x, _ = pttrs(d, e, self._rotate(columns, "T"))
        return self._rotate(x, "N").reshape(rhs.shape)

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)``: O(P)."""
        return float(np.log(self._ldl(damping)[0]).sum())
