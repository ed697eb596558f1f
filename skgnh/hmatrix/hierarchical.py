"""Hierarchical matrices, positive definite by construction."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skgnh.hmatrix.factor import HierarchicalFactor
from skgnh.linalg import Curvature

Array = Any


@dataclass(frozen=True)
class Level:
    """The nodes of one level, as stacks."""

    D: Array
    """Diagonal blocks, of shape (K, m, m)."""
    U: Array
    """Interpolation from the skeletons, identity on them, of shape (K, m, r)."""
    skeleton: Array
    """Positions of the skeletons in the nodes, of shape (K, r)."""

    @cached_property
    def D_skeleton(self) -> Array:
        """The blocks of the skeletons, of shape (K, r, r)."""
        return principal(self.D, self.skeleton)


@dataclass(frozen=True)
class Head:
    """Indices that are in no leaf."""

    index: Array
    """Which, of shape (h,)."""
    D: Array
    """Their block, of shape (h, h)."""


class HierarchicalMatrix(Curvature):
    r"""A symmetric matrix with nested low-rank far field, plus a global low-rank part.

    What the global part leaves consists of a block of its own for some indices, the
    head, and of a tree for all others, with nothing between both. On each level of the
    tree the matrix of the level's indices is

    .. math:: \tilde C = D + U (\tilde C' - D') U^T

    with D its diagonal blocks, U the block-diagonal interpolation
    :math:`U_\tau = D_{:S} D_{SS}^{-1}` from the skeletons S, :math:`\tilde C'` the same
    for the matrix of the skeletons (the next level, whose nodes are pairs) and
    :math:`D'` the blocks :math:`D_{SS}` of :math:`\tilde C'`.

    **It is positive semidefinite whatever skeletons are chosen.** Its blocks give
    :math:`\tilde C = (D - U D' U^T) + U \tilde C' U^T`; the bracket is the Schur
    complement :math:`D - D_{:S} D_{SS}^{-1} D_{S:} \succeq 0` of each node, and
    :math:`\tilde C' \succeq 0` by induction from the topmost block, a principal
    submatrix of H (of what the global part leaves of it, a Schur complement too), as
    the head's block is. So ``H + damping I`` is positive definite for every positive
    damping.

    Built by :func:`skgnh.hmatrix.compress`. With nodes of m indices, rank r and a head
    of h, products cost O(P (m + r) + h^2), a factorisation
    O(P (m^2 + r^2) + h^3), and memory is P (m + r) + h^2 numbers.

    References
    ----------
    .. [1] X. Xing, E. Chow, "Preserving positive definiteness in hierarchically
           semiseparable matrix approximations", SIMAX 39(2), 2018.
    .. [2] C. Chen, S. Reiz, C. Yu, H.-J. Bungartz, G. Biros, "Fast approximation of
           the Gauss-Newton Hessian matrix for the multilayer perceptron", SIMAX 42(1),
           2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.hmatrix import compress
    >>> from skgnh.operators import DenseMatrix
    >>> x = np.linspace(0, 1, 500)
    >>> K = np.exp(-np.abs(x[:, None] - x) / 0.1)
    >>> A = compress(DenseMatrix(K), rank=8)
    >>> A.nbytes < K.nbytes / 4
    True
    >>> factor = A.factor(damping=0.1)
    >>> exact = np.linalg.slogdet(K + 0.1 * np.eye(500))[1]
    >>> bool(abs(factor.logdet() / exact - 1) < 0.01)
    True
    """

    offers = frozenset()

    def __init__(
        self,
        index: Array,
        levels: list[Level],
        top: Array,
        low: Array,
        head: Head | None = None,
    ):
        self.index, self.levels, self.top, self.low = index, levels, top, low
        if head is None:
            head = Head(np.empty(0, int), np.empty((0, 0), top.dtype))
        self.head = head
        super().__init__(top.dtype, (low.shape[0], low.shape[0]))

    @property
    def nbytes(self) -> int:
        """Bytes of what the arrays say: of symmetric blocks, one triangle."""
        symmetric = [self.top, *(level.D for level in self.levels)]
        symmetric.append(self.head.D[None])
        triangles = sum(D.size + D.shape[0] * D.shape[1] for D in symmetric) // 2
        others = self.low.size + sum(level.U.size for level in self.levels)
        return (triangles + others) * self.dtype.itemsize

    @cached_property
    def _places(self) -> Array:
        """Where each index lies in the flattened leaves, followed by the head."""
        sequence = np.concatenate((self.index.ravel(), self.head.index))
        (where,) = np.nonzero(sequence >= 0)
        out = np.empty_like(where)
        out[sequence[where]] = where
        return out

    def gather(self, X: Array) -> Array:
        """Return rows of X by leaf, of shape (leaves, m, k); zero where filled up."""
        out = X[self.index]
        out[self.index < 0] = 0
        return out

    def scatter(self, leaves: Array, head: Array) -> Array:
        """Return the rows of leaves and head in the order of the indices."""
        rows = leaves.reshape(self.index.size, leaves.shape[2])
        if len(head):
            rows = np.concatenate((rows, head))
        return rows[self._places]

    def _matmat(self, X: Array) -> Array:
        X = np.asarray(X, dtype=self.dtype)
        stack, x = [], self.gather(X)
        for level in self.levels:
            stack.append(x)
            x = _pair(np.swapaxes(level.U, 1, 2) @ x)
        y = self.top @ x
        for level, x in zip(self.levels[::-1], stack[::-1], strict=True):
            below = np.swapaxes(level.U, 1, 2) @ x
            y = y.reshape(below.shape) - level.D_skeleton @ below
            y = level.D @ x + level.U @ y
        head = self.head.D @ X[self.head.index]
        return self.scatter(y, head) + self.low @ (self.low.T @ X)

    def factor(self, damping: float) -> HierarchicalFactor:
        """Factorise ``H + damping I``.

        Parameters
        ----------
        damping : float
            Positive shift; blocks are only shifted and factorised again, so that a
            new damping costs no entries.

        Returns
        -------
        HierarchicalFactor
            With ``solve`` and ``logdet``.
        """
        return HierarchicalFactor(self, damping)


def principal(D: Array, positions: Array) -> Array:
    """Return principal submatrices of a stack."""
    nodes = np.arange(len(D))[:, None, None]
    return D[nodes, positions[:, :, None], positions[:, None, :]]


def _pair(x: Array) -> Array:
    """Join the rows of neighbouring nodes."""
    return x.reshape(len(x) // 2, 2 * x.shape[1], x.shape[2])
