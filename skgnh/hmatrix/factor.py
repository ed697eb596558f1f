"""Factorisation of a hierarchical matrix for one damping."""

from numbers import Real
from typing import Any

import numpy as np
from scipy.linalg import cho_solve, get_lapack_funcs

Array = Any

# Shifts grow fourfold from rounding; so many reach the norm of the block.
_TRIES = 30


class HierarchicalFactor:
    r"""``H + damping I`` of a hierarchical matrix, level by level.

    With :math:`D + \lambda I = L L^T` and the thin factorisation
    :math:`L^{-1} U = Z R`, Z orthonormal,

    .. math:: \tilde C + \lambda I = L \left(I - Z Z^T + Z N Z^T\right) L^T, \qquad
              N = I + R (\tilde C' - D') R^T,

    and N is the next level's matrix in other coordinates: its blocks are
    :math:`R (C' ) R^T` with the identity on the diagonal, its interpolation
    :math:`R U'`. A block that rounding leaves indefinite is shifted by the size of that
    rounding, which in N is eps times the condition number: where H is singular,
    solutions lose digits as the damping falls.

    A head of h indices has a Cholesky factor of its own. Costs O(P (m^2 + r^2) + h^3)
    once, O(P (m + r) + h^2) for each right-hand side.
    """

    _matrix: Any
    _levels: list[tuple[Array, Array]]
    _logdet: float
    _top: Array
    _head: Array
    _low: tuple[Array, Array] | None

    def __init__(self, matrix: Any, damping: float):
        if not (isinstance(damping, Real) and 0 < damping < np.inf):
            raise np.linalg.LinAlgError(
                f"damping must be positive and finite, got {damping}."
            )
        self._matrix = matrix
        self._levels, self._logdet = [], 0.0
        leaves, *others = [*(level.D for level in matrix.levels), matrix.top]
        inverse, R = self._inverse(_shift(leaves, damping), leaves=True), None
        for level, above in zip(matrix.levels, others, strict=True):
            U = level.U
            if R is not None:
                U = (R @ U.reshape(len(R), R.shape[1], -1)).reshape(U.shape)
            Z, R = np.linalg.qr(inverse @ U)
            self._levels.append((inverse, Z))
            inverse = self._coupled(R, above)
        self._top = inverse
        head = batched_cholesky(_shift(matrix.head.D[None], damping))[0]
        self._logdet += 2 * float(np.log(head.diagonal()).sum())
        self._head, self._low = head, None
        if matrix.low.shape[1]:
            Y = self._solve(matrix.low)
            core = np.eye(Y.shape[1], dtype=Y.dtype) + matrix.low.T @ Y
            self._low = (Y, self._inverse(core[None])[0])

    def _inverse(self, D: Array, leaves: bool = False, **shifts: Any) -> Array:
        """Return the inverses of the Cholesky factors; note the determinant.

        The factors themselves are of no further use. Of the indices that only fill
        leaves up, the determinant knows nothing.
        """
        L = batched_cholesky(D, **shifts)
        diagonal = np.einsum("kii->ki", L)
        if leaves:
            diagonal = diagonal[self._matrix.index >= 0]
        self._logdet += 2 * float(np.log(diagonal).sum())
        return _invert(L)

    def _coupled(self, R: Array, above: Array) -> Array:
        """Return the inverses for the diagonal blocks of N, which couple two nodes.

        Of ``I + R (C - D') R^T`` only the coupling B is not the identity, and the
        Cholesky factor is ``[[I, 0], [B^T, M]]`` with ``M M^T = I - B^T B``.
        """
        r = R.shape[1]
        Bt = R[1::2] @ above[:, r:, :r] @ np.swapaxes(R[::2], 1, 2)
        one = np.eye(r, dtype=R.dtype)
        out = np.zeros_like(above)
        out[:, :r, :r] = one
        # What cancels here leaves rounding of the identity's size.
        rest = one - Bt @ np.swapaxes(Bt, 1, 2)
        out[:, r:, r:] = self._inverse(rest, scale=r, tries=_TRIES)
        out[:, r:, :r] = -out[:, r:, r:] @ Bt
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, of triangles the zeros too."""
        arrays = [array for level in self._levels for array in level]
        arrays += [self._top, self._head, *(self._low or ())]
        return sum(array.nbytes for array in arrays)

    def _solve(self, B: Array) -> Array:
        stack, b = [], self._matrix.gather(B)
        for inverse, Z in self._levels:
            y = inverse @ b
            z = np.swapaxes(Z, 1, 2) @ y
            stack.append((y, z))
            b = z.reshape(len(z) // 2, 2 * z.shape[1], -1)
        x = np.swapaxes(self._top, 1, 2) @ (self._top @ b)
        for (inverse, Z), (y, z) in zip(self._levels[::-1], stack[::-1], strict=True):
            y += Z @ (x.reshape(z.shape) - z)
            x = np.swapaxes(inverse, 1, 2) @ y
        head = B[self._matrix.head.index]
        if len(head):
            # LAPACK sees the transpose, without a copy.
            head = cho_solve((self._head.T, False), head, check_finite=False)
        return self._matrix.scatter(x, head)

    def solve(self, rhs: Array) -> Array:
        """Return ``(H + damping I)^-1 rhs`` for rhs of shape (P,) or (P, k).

        Raises
        ------
        ValueError
            If rhs is of another shape or not real.
        """
        rhs, P = np.asarray(rhs), self._matrix.shape[0]
        if rhs.ndim not in (1, 2) or len(rhs) != P or rhs.dtype.kind not in "fiub":
            raise ValueError(
                f"rhs must be real, of shape ({P},) or ({P}, k), got {rhs.dtype} of "
                f"shape {rhs.shape}."
            )
        columns = np.asarray(rhs, dtype=self._matrix.dtype).reshape(len(rhs), -1)
        x = self._solve(columns)
        if self._low is not None:
            Y, inverse = self._low
            x -= Y @ (inverse.T @ (inverse @ (self._matrix.low.T @ x)))
        return x.reshape(rhs.shape)

    def logdet(self) -> float:
        """Return ``log det (H + damping I)``."""
        return self._logdet


def batched_cholesky(D: Array, scale: float = 0.0, tries: int = 12) -> Array:
    """Return the Cholesky factors of a stack, shifting where rounding spoils one.

    Rounding is relative to a block's trace, or to `scale` where that is more.
    """
    try:
        return np.linalg.cholesky(D)
    except np.linalg.LinAlgError:
        return np.stack([_safe_cholesky(block, scale, tries) for block in D])


def _safe_cholesky(block: Array, scale: float, tries: int) -> Array:
    finfo = np.finfo(block.dtype)
    shift = finfo.eps * max(float(np.trace(block)), scale, float(finfo.tiny))
    for _ in range(tries):
        try:
            return np.linalg.cholesky(block)
        except np.linalg.LinAlgError:
            block = block + shift * np.eye(len(block), dtype=block.dtype)
            shift *= 4
    raise np.linalg.LinAlgError("A diagonal block is not positive semidefinite.")


def _shift(D: Array, damping: float) -> Array:
    D = D.copy()
    np.einsum("kii->ki", D)[...] += D.dtype.type(damping)
    return D


def _invert(L: Array) -> Array:
    """Overwrite a stack of lower triangles with their inverses."""
    (trtri,) = get_lapack_funcs(("trtri",), (L,))
    for block in L:
        # LAPACK sees the upper triangle of an array in its own order.
        trtri(block.T, lower=0, overwrite_c=1)
    return L
