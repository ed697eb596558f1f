"""The dense solver: Cholesky, or one tridiagonal form for every damping."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, get_lapack_funcs, solve_banded

from skgnh.arrays import (
    add_to_diagonal,
    as_precision,
    copied,
    empty,
    is_foreign,
    namespace,
    reshape,
)
from skgnh.linalg import Curvature, factorised
from skgnh.memory import require, rows_per_chunk, slices
from skgnh.solvers.base import Factor, Price, Solver, sizes

Array = Any


class Dense(Solver):
    r"""Exact solver: Cholesky at first, one tridiagonal form if dampings are many.

    A damping costs a Cholesky factorisation of ``H + damping I``, :math:`P^3 / 3`. Once
    `max_cholesky` of them were asked for at the same H, it is reduced to
    ``H = U T U^T`` with T tridiagonal, which then serves every damping at O(P) for the
    factors of ``T + damping I`` and O(P^2) to apply U. The reduction costs
    :math:`\frac43 P^3`, half of it bound by memory: by the clock as much as 4 to 8
    Cholesky factorisations, so that the default never costs more than about twice the
    better choice. Assembling H costs at most n P^2 / 2 multiply-adds, whatever r.

    Parameters
    ----------
    max_cholesky : int, default=4
        Number of dampings served by Cholesky; 0 reduces H at once.

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
    >>> round(factor.logdet(damping=0.0), 6)
    1.098612
    """

    requires = ("toarray",)
    cost = "n P^2 / 2 + P^3 / 6"
    memory = "2 P^2"
    any_namespace = True
    use = "up to some thousand parameters, exactly"

    def __init__(self, max_cholesky: int = 4):
        self.max_cholesky = max_cholesky

    def price(self, H: Any) -> Price:
        """Return what a step costs and holds."""
        n, _, _, P = sizes(H)
        return Price(n * P**2 / 2 + P**3 / 6, 2 * P**2)

    def _factor(self, H: Curvature, carried: Any) -> "DenseFactor":
        return DenseFactor(H, self.max_cholesky)


class DenseFactor(Factor):
    """A symmetric array, factorised anew for a few dampings, then once for all."""

    knows_determinant = True
    is_exact = True

    def __init__(self, H: Curvature, max_cholesky: int):
        super().__init__(H)
        self._array, self._left = finite_array(H), max_cholesky
        self._damping: float | None = None
        self._last: Any = None

    @property
    def _by_cholesky_alone(self) -> bool:
        # LAPACK's tridiagonal routines want an off-diagonal: P = 1 has none.
        array = self._array
        return array is not None and (is_foreign(array) or len(array) == 1)

    def _at(self, damping: float) -> Any:
        """Return a factorisation with ``solve`` and ``logdet`` for this damping."""
        if damping != self._damping:
            if self._left > 0 or self._by_cholesky_alone:
                self._left -= 1
                shifted = add_to_diagonal(copied(self._array), float(damping))
                self._last = factorised(shifted)
            else:
                if self._array is not None:
                    self._tridiagonal = _Tridiagonal(self._array)
                    self._array = None
                self._last = _ShiftedTridiagonal(self._tridiagonal, damping)
            self._damping = damping
        return self._last

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``; see :meth:`Factor.solve`."""
        columns = reshape(rhs, (rhs.shape[0], -1))
        return reshape(self._at(damping).solve(columns), rhs.shape)

    def detached(self, damping: float) -> "DenseFactor":
        """Return what answers at one damping: one P x P array."""
        self._at(damping)
        factor = self._without_matrix()
        factor._array = None
        return factor

    def shifted(self, damping: float) -> Array:
        """Return ``H + damping I`` as it was factored."""
        return self._at(damping).array()

    def inverse_quadratic(self, rows: Array, damping: float) -> Array:
        """Return ``j^T (H + damping I)^-1 j`` of each row j: O(P^2 / 2)."""
        at = self._at(damping)
        if isinstance(at, _ShiftedTridiagonal):
            return super().inverse_quadratic(rows, damping)
        xp, out = namespace(self._H.like), empty((rows.shape[0],), self._H.like)
        size = rows_per_chunk(4 * rows.shape[1] * self._H.dtype.itemsize)
        for some in slices(rows.shape[0], size):
            # ||L^-1 j||^2 is never negative.
            half = at.half(as_precision(rows[some, :], self._H.dtype).T)
            out[some] = xp.sum(half**2, axis=0)
        return out

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)``."""
        return self._at(damping).logdet()

    def diagonal_of_inverse(self, damping: float) -> Array:
        """Return the diagonal of the inverse: O(P^3), and one more P x P array.

        Raises
        ------
        ValueError
            If three P x P arrays exceed the working memory.
        """
        P = self._H.shape[0]
        require(
            3 * P**2 * self._H.dtype.itemsize,
            f"The inverse of {P} parameters",
            "Take the solver 'gram', or 'cg' for an estimate",
        )
        return self._at(damping).diagonal_of_inverse()

    def draw(self, rng: Any, n: int, damping: float) -> Array:
        """Draw from the normal distribution of covariance ``(H + damping I)^-1``."""
        return self._at(damping).root_of_inverse(self._normal(rng, self._H.shape[0], n))


def finite_array(H: Curvature) -> Array:
    """Return H as an array, or fail as a solve does."""
    array = H.toarray()
    xp = namespace(array)
    if not bool(xp.all(xp.isfinite(array))):
        raise LinAlgError("The matrix is not finite.")
    return array


class _Tridiagonal:
    """``H = U T U^T`` by Householder reflectors, which overwrite H."""

    def __init__(self, array: Array):
        sytrd, sytrd_lwork = get_lapack_funcs(("sytrd", "sytrd_lwork"), (array,))
        lwork = int(sytrd_lwork(len(array), lower=1)[0])
        packed, self.diagonal, self.off_diagonal, self._tau, _ = sytrd(
            array.T, lower=1, lwork=lwork, overwrite_a=1
        )
        # Below the first row, sytrd leaves its reflectors as a QR factorisation does.
        self._reflectors = packed[1:, :-1]

    def rotate(self, rhs: Array, trans: str) -> Array:
        """Return U rhs ('N') or U^T rhs ('T')."""
        (ormqr,) = get_lapack_funcs(("ormqr",), (self._reflectors,))
        lwork = 64 * max(rhs.shape[1], 1)
        below, _, _ = ormqr("L", trans, self._reflectors, self._tau, rhs[1:], lwork)
        return np.concatenate([rhs[:1], below])


class _ShiftedTridiagonal:
    """``H + damping I = U (L D L^T) U^T``."""

    def __init__(self, form: _Tridiagonal, damping: float):
        (pttrf,) = get_lapack_funcs(("pttrf",), (form.diagonal,))
        shifted = form.diagonal + form.diagonal.dtype.type(damping)
        self._form = form
        self._d, self._e, info = pttrf(shifted, form.off_diagonal)
        if info or not np.isfinite(self._d).all():
            raise LinAlgError(
                f"H + {damping:.3g} I is not positive definite: raise the damping."
            )

    def solve(self, rhs: Array) -> Array:
        (pttrs,) = get_lapack_funcs(("pttrs",), (self._d,))
        columns = np.asarray(rhs, dtype=self._d.dtype)
        x, _ = pttrs(self._d, self._e, self._form.rotate(columns, "T"))
        return self._form.rotate(x, "N")

    def logdet(self) -> float:
        return float(np.log(self._d).sum())

    def diagonal_of_inverse(self) -> Array:
        return self.solve(np.eye(len(self._d), dtype=self._d.dtype)).diagonal().copy()

    def root_of_inverse(self, Z: Array) -> Array:
        """Return ``U L^-T D^-1/2 Z``, see :meth:`_Cholesky.root_of_inverse`."""
        bands = np.ones((2, len(self._d)), self._d.dtype)
        bands[0, 1:] = self._e
        inner = solve_banded((0, 1), bands, Z / np.sqrt(self._d)[:, None])
        return self._form.rotate(inner, "N")
