"""Hierarchical matrices from products alone, by nullification of blocks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from skgnh.hmatrix.factor import batched_cholesky
from skgnh.memory import rows_per_chunk, slices
from skgnh.progress import Track, silent

Array = Any

_OVERSAMPLING = 10


@dataclass(frozen=True)
class Basis:
    """The nodes of one level of the nested approximation, as stacks."""

    far: Array
    """A sketch of the far field, of shape (K, m, s - m)."""
    U: Array
    """Orthonormal basis of it, of shape (K, m, r)."""
    rest: Array
    """What the basis misses of the diagonal blocks, of shape (K, m, m)."""


def n_products(leaf_size: int, rank: int, n_samples: int | None) -> int:
    """Return how many random columns to take: those asked for, or all that are needed.

    What a basis misses of the far field comes back in the diagonal blocks, times about
    sqrt(m / (s - m)): twice the columns that the ranks need keep it small.
    """
    least = max(leaf_size, 2 * rank) + rank + _OVERSAMPLING
    return max(least, 2 * least if n_samples is None else n_samples)


def nested_bases(
    omega: Array, Y: Array, rank: int, track: Track = silent
) -> tuple[list[Basis], Array]:
    r"""Return the bases of all levels and the topmost block.

    Random columns are combined so that they vanish on a node, :math:`\Omega_\tau N = 0`
    with an orthonormal N of s - m columns. Then
    :math:`Y_\tau N = H_{\tau F} \Omega_F N` is a sketch of the node's far field alone:
    its leading left singular vectors are the basis U. With
    :math:`M = Y_\tau \Omega_\tau^+` and :math:`P = U U^T`,

    .. math:: H_{\tau\tau} - P H_{\tau\tau} P \approx (I - P) M + P M^T (I - P),

    and what is left, :math:`U^T (Y_\tau - \cdot\, \Omega_\tau)` for
    :math:`U^T \Omega_\tau`, are the products of the matrix of the next level.

    Parameters
    ----------
    omega, Y : ndarray of shape (K, m, s)
        Gaussian columns and their products by leaf, K a power of two.
    rank : int
        Most columns of a basis; ``s >= max(m, 2 rank) + rank``.
    track : callable
        Shows how far a level is, see :func:`skgnh.progress.tracker`.

    Returns
    -------
    levels : list of Basis
        From the leaves up.
    top : ndarray of shape (1, m', m')
        The topmost matrix. The cost is O(P s^2).

    References
    ----------
    .. [1] J. Levitt, P.-G. Martinsson, "Linear-complexity black-box randomized
           compression of rank-structured matrices", arXiv:2205.02990, 2022.
    """
    levels = []
    while len(omega) > 1:
        K, m, s = omega.shape
        r = min(rank, m)
        level = Basis(
            np.empty((K, m, s - m), Y.dtype),
            np.empty((K, m, r), Y.dtype),
            np.empty((K, m, m), Y.dtype),
        )
        inner = np.empty((2, K, r, s), Y.dtype)
        parts = slices(K, rows_per_chunk(s * s * Y.itemsize))
        for part in track(parts, "bases"):
            M, null = _divide(Y[part], omega[part])
            far = Y[part] @ null
            U = np.linalg.svd(far, full_matrices=False)[0][:, :, :r]
            Ut = np.swapaxes(U, 1, 2)
            missed = M - U @ (Ut @ M)
            rest = missed + U @ np.swapaxes(missed @ U, 1, 2)
            level.far[part], level.U[part], level.rest[part] = far, U, rest
            inner[0, part] = Ut @ omega[part]
            inner[1, part] = Ut @ (Y[part] - rest @ omega[part])
        levels.append(level)
        omega, Y = inner.reshape(2, K // 2, 2 * r, s)
    M, _ = _divide(Y, omega)
    return levels, (M + np.swapaxes(M, 1, 2)) / 2


def _divide(Y: Array, omega: Array) -> tuple[Array, Array]:
    """Return ``Y omega^+`` and an orthonormal basis of the null space of omega."""
    m = omega.shape[1]
    Q, R = np.linalg.qr(np.swapaxes(omega, 1, 2), mode="complete")
    half = Y @ Q[:, :, :m]
    M = [
        solve_triangular(block[:m], right.T, lower=False).T
        for block, right in zip(R, half, strict=True)
    ]
    return np.stack(M), Q[:, :, m:]


def diagonal_blocks(levels: list[Basis], top: Array) -> list[Array]:
    """Return the diagonal blocks of all levels' matrices, the topmost last."""
    blocks = [top]
    for level in levels[::-1]:
        r = level.U.shape[2]
        inner = np.empty((len(level.U), r, r), top.dtype)
        inner[::2], inner[1::2] = blocks[-1][:, :r, :r], blocks[-1][:, r:, r:]
        B = level.rest + level.U @ inner @ np.swapaxes(level.U, 1, 2)
        blocks.append((B + np.swapaxes(B, 1, 2)) / 2)
    return blocks[::-1]


class FromProducts:
    r"""Blocks, far fields and couplings of ``H - low low^T`` from random products.

    They are those of a nested approximation, which is close to the matrix but need not
    be definite. Conditioning keeps what it is given definite, so that only what it is
    given is repaired: leaves are shifted up to definiteness, and of a coupling C
    between blocks :math:`L_1 L_1^T` and :math:`L_2 L_2^T` the singular values of
    :math:`L_1^{-1} C L_2^{-T}` are cut at one, which is where the pair stops being
    definite. In both, a floor above
    rounding stands for zero.

    Parameters
    ----------
    H : operator of shape (P, P)
        With products.
    low : ndarray of shape (P, k)
        Global part.
    index : ndarray of int of shape (K, m)
        Leaves, filled up with -1.
    rank : int
        Most columns of a basis.
    s : int
        Columns to draw, see :func:`n_products`.
    rng : Generator
        Draws them.
    track : callable
        Shows how far the bases are, see :func:`skgnh.progress.tracker`.
    """

    def __init__(
        self,
        H: Any,
        low: Array,
        index: Array,
        rank: int,
        s: int,
        rng: Any,
        track: Track = silent,
    ):
        inside = index >= 0
        # An index that fills a leaf up has products zero, as if alone in H.
        omega = rng.standard_normal((*index.shape, s)).astype(H.dtype)
        X = np.empty((H.shape[0], s), H.dtype)
        X[index[inside]] = omega[inside]
        X = H @ X - low @ (low.T @ X)
        if not np.isfinite(X).all():
            raise np.linalg.LinAlgError("H must be finite.")
        Y = np.zeros_like(omega)
        Y[inside] = X[index[inside]]
        self._inside = inside
        self._levels, top = nested_bases(omega, Y, rank, track)
        self._blocks = diagonal_blocks(self._levels, top)
        if self._levels:
            # A basis larger than the rank of the far field is completed by any
            # directions, those of indices that fill leaves up among them.
            self._levels[0].U[~inside] = 0
        self._depth = 0
        self._rows: Array = None

    def blocks(self) -> Array:
        """Return the leaves' blocks; indices that fill them up are uncoupled."""
        D, inside = self._blocks[0], self._inside
        one = np.eye(D.shape[1], dtype=D.dtype)
        # Products say nothing of what is below the rounding of the largest.
        largest = np.max(np.abs(np.einsum("kii->ki", D)[inside])) or D.dtype.type(1)
        self._floor = 1e3 * np.finfo(D.dtype).eps * largest
        D = np.where(inside[:, :, None] & inside[:, None], D, largest * one)
        least = self._floor * (len(self._levels) + 1)
        shift = np.maximum(least - np.linalg.eigvalsh(D)[:, 0], 0)
        return D + shift[:, None, None] * one

    def far(self, part: slice) -> Array:
        """Return ``F F^T`` of sketches F of the far fields of some nodes."""
        F = self._levels[self._depth].far[part]
        if self._rows is not None:
            F = self._rows[part] @ F
        return F @ np.swapaxes(F, 1, 2)

    def couple(self, skeleton: Array, inner: Array) -> Array:
        """Go up to pairs; return what couples both, of shape (K / 2, r, r)."""
        U = self._levels[self._depth].U
        # The skeletons' rows in the basis of the next level.
        rows = U if self._rows is None else self._rows @ U
        rows = np.take_along_axis(rows, skeleton[:, :, None], axis=1)
        self._depth += 1
        (K, k, r) = rows.shape
        self._rows = np.zeros((K // 2, 2 * k, 2 * r), rows.dtype)
        self._rows[:, :k, :r], self._rows[:, k:, r:] = rows[::2], rows[1::2]
        between = self._blocks[self._depth][:, :r, r:]
        C = rows[::2] @ between @ np.swapaxes(rows[1::2], 1, 2)
        # Blocks are that far from singular; a level leaves one floor less of it.
        least = self._floor * (len(self._levels) + 1 - self._depth)
        return _contracted(
            C, batched_cholesky(inner - least * np.eye(k, dtype=C.dtype))
        )


def _contracted(C: Array, L: Array) -> Array:
    """Return couplings that leave pairs of blocks ``L L^T`` semidefinite."""
    left, right = L[::2], L[1::2]
    B = np.linalg.solve(right, np.swapaxes(np.linalg.solve(left, C), 1, 2))
    U, s, Vt = np.linalg.svd(np.swapaxes(B, 1, 2))
    # Where all are below one, nothing changes, not even by rounding.
    over = s[:, 0] > 1
    cut = left @ (U * np.minimum(s, 1)[:, None, :]) @ Vt @ np.swapaxes(right, 1, 2)
    return np.where(over[:, None, None], cut, C)
