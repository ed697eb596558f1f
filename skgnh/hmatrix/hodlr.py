"""Matrices with off-diagonal blocks of low rank, positive definite by construction."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skgnh.hmatrix.factor import batched_cholesky
from skgnh.hmatrix.hodlr_factor import HODLRFactor, Pair
from skgnh.linalg import Curvature

Array = Any


@dataclass(frozen=True)
class Block:
    """An off-diagonal block ``X Y^T``, and where it lies in the order of the leaves."""

    rows: slice
    """The first of two neighbouring nodes."""
    columns: slice
    """The second."""
    X: Array
    """Of shape (rows, r)."""
    Y: Array
    """Of shape (columns, r)."""


class HODLRMatrix(Curvature):
    r"""A symmetric matrix whose off-diagonal blocks have low rank (HODLR).

    Indices are halved until they are leaves, and what couples two halves is

    .. math:: A_\tau = \begin{pmatrix} A_1 & X Y^T \\ Y X^T & A_2 \end{pmatrix}

    with a rank of its own for each block. Beside the nested form of
    :class:`skgnh.hmatrix.HierarchicalMatrix` it takes more memory for the same ranks,
    O(P r log P), but a block takes no more than its own singular values ask for.

    **It is positive definite.** A pair is definite if and only if
    :math:`\|L_1^{-1} X Y^T L_2^{-T}\| < 1` with :math:`A_k = L_k L_k^T`, which is what
    :func:`contracted` makes of every block once the halves are done.

    Built by :func:`skgnh.hmatrix.hodlr`. Products cost O(P (m + r log P)), a
    factorisation O(P (m^2 + r^2 log^2 P)), a solve O(P (m + r log P)).

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.hmatrix import hodlr
    >>> from skgnh.operators import DenseMatrix
    >>> x = np.arange(200)
    >>> K = np.exp(-np.abs(x[:, None] - x) / 5)
    >>> A = hodlr(DenseMatrix(K), storage=24, leaf_size=16)
    >>> b = np.ones(200)
    >>> solution = A.factor(damping=0.1).solve(b)
    >>> bool(np.allclose(A @ solution + 0.1 * solution, b))
    True
    """

    offers = frozenset()

    def __init__(self, order: Array, leaves: list[Array], levels: list[list[Block]]):
        self.order, self.leaves, self.levels = order, leaves, levels
        super().__init__(leaves[0].dtype, (len(order), len(order)))

    @cached_property
    def places(self) -> Array:
        """Where each index lies in the order of the leaves."""
        return np.argsort(self.order)

    @property
    def nbytes(self) -> int:
        """Bytes of what the arrays say: of symmetric blocks, one triangle."""
        numbers = sum(len(D) * (len(D) + 1) // 2 for D in self.leaves)
        numbers += sum(b.X.size + b.Y.size for level in self.levels for b in level)
        return numbers * self.dtype.itemsize

    def _matmat(self, X: Array) -> Array:
        x = np.asarray(X, dtype=self.dtype)[self.order]
        y, start = np.empty_like(x), 0
        for D in self.leaves:
            here = slice(start, start + len(D))
            y[here] = D @ x[here]
            start += len(D)
        for level in self.levels:
            for b in level:
                y[b.rows] += b.X @ (b.Y.T @ x[b.columns])
                y[b.columns] += b.Y @ (b.X.T @ x[b.rows])
        return y[self.places]

    def factor(self, damping: float) -> HODLRFactor:
        """Factorise ``H + damping I``.

        Parameters
        ----------
        damping : float
            Positive shift.

        Returns
        -------
        HODLRFactor
            With ``solve`` and ``logdet``.
        """
        return HODLRFactor(self, damping)


def contracted(leaves: list[Array], levels: list[list[Block]], cap: float) -> list:
    r"""Return the levels' blocks, shrunk where a pair would not be definite.

    Singular values above `cap` of :math:`L_1^{-1} X Y^T L_2^{-T} = U \Sigma V^T` become
    `cap`. Of all changes of this block that leave the pair definite it is the least in
    the scaled norm. With the QR factors R of both sides, :math:`L_1 U \Sigma = X R_2^T
    V`, so that the block stays in the span of X and Y.
    """
    factors = [Pair.leaf(L) for L in (batched_cholesky(D[None])[0] for D in leaves)]
    out = []
    for level in levels[::-1]:
        halves = zip(factors[::2], factors[1::2], level, strict=True)
        made = [_contracted(*half, cap) for half in halves]
        factors = [pair for pair, _ in made]
        out.append([block for _, block in made])
    return out[::-1]


def _contracted(first: Pair, second: Pair, b: Block, cap: float) -> tuple[Pair, Block]:
    pair, (R1, R2, U, s, V) = Pair.of(first, second, b.X, b.Y)
    over = s > cap
    if not over.any():
        return pair, b
    s = s[over]
    gone = R1.T @ (U[:, over] * ((s - cap) / s**2)) @ (V[:, over].T @ R2)
    Y = b.Y - b.Y @ gone
    return pair.capped(cap), Block(b.rows, b.columns, b.X, Y)
