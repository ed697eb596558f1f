"""Symmetric factorisation of a matrix with off-diagonal blocks of low rank."""

from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from skgnh.hmatrix.factor import batched_cholesky

Array = Any


@dataclass(frozen=True)
class Pair:
    r"""A factor L of a node's matrix ``L L^T``: a leaf's, or that of two halves.

    With :math:`L_1^{-1} X Y^T L_2^{-T} = U \Sigma V^T` and :math:`C^2 = I - \Sigma^2`,

    .. math:: L = \begin{pmatrix} L_1 & \\ & L_2 \end{pmatrix} \begin{pmatrix} I & \\
              V \Sigma U^T & I - V V^T + V C V^T \end{pmatrix}.
    """

    L: Array = None
    """The Cholesky factor of a leaf."""
    halves: tuple["Pair", "Pair"] | None = None
    U: Array = None
    s: Array = None
    V: Array = None

    @classmethod
    def leaf(cls, L: Array) -> "Pair":
        """Return a leaf's factor."""
        return cls(L=L)

    @classmethod
    def of(cls, first: "Pair", second: "Pair", X: Array, Y: Array) -> tuple:
        """Return the factor of a pair, and what its singular values are made of."""
        Q1, R1 = np.linalg.qr(first.forward(X))
        Q2, R2 = np.linalg.qr(second.forward(Y))
        U, s, Vt = np.linalg.svd(R1 @ R2.T)
        pair = cls(halves=(first, second), U=Q1 @ U, s=s, V=Q2 @ Vt.T)
        return pair, (R1, R2, U, s, Vt.T)

    def __len__(self) -> int:
        """Return the number of indices."""
        return len(self.L) if self.halves is None else len(self.U) + len(self.V)

    def capped(self, cap: float) -> "Pair":
        """Return it with no singular value above `cap`."""
        return replace(self, s=np.minimum(self.s, self.s.dtype.type(cap)))

    @property
    def _cosines(self) -> Array:
        return np.sqrt((1 - self.s) * (1 + self.s))

    def forward(self, B: Array) -> Array:
        """Return ``L^-1 B``."""
        if self.halves is None:
            return solve_triangular(self.L, B, lower=True, check_finite=False)
        half = len(self.U)
        top, low = self.halves[0].forward(B[:half]), self.halves[1].forward(B[half:])
        s, c = self.s[:, None], self._cosines[:, None]
        # What V sees of the second half turns from low to (low - s top) / c.
        seen = self.V.T @ low
        low += self.V @ ((seen - s * (self.U.T @ top)) / c - seen)
        return np.concatenate((top, low))

    def backward(self, B: Array) -> Array:
        """Return ``L^-T B``."""
        if self.halves is None:
            return solve_triangular(
                self.L, B, lower=True, trans="T", check_finite=False
            )
        half = len(self.U)
        s, c = self.s[:, None], self._cosines[:, None]
        seen = self.V.T @ B[half:]
        top = B[:half] - self.U @ (s * seen / c)
        low = B[half:] + self.V @ (seen / c - seen)
        first, second = self.halves
        return np.concatenate((first.backward(top), second.backward(low)))

    def logdet(self) -> float:
        """Return ``log det L L^T``."""
        if self.halves is None:
            return 2 * float(np.log(self.L.diagonal()).sum())
        own = 2 * float(np.log(self._cosines).sum())
        return own + sum(half.logdet() for half in self.halves)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        if self.halves is None:
            return self.L.nbytes
        own = self.U.nbytes + self.s.nbytes + self.V.nbytes
        return own + sum(half.nbytes for half in self.halves)


class HODLRFactor:
    """``H + damping I`` of a HODLR matrix, symmetric, from the leaves up.

    What is a contraction without the damping is one with it: rounding apart, which the
    last cap of the singular values is for, it exists for every damping. Costs
    O(P (m^2 + r^2 log^2 P)) once, O(P (m + r log P)) for each right-hand side.
    """

    _matrix: Any
    _top: Pair

    def __init__(self, matrix: Any, damping: float):
        if not (isinstance(damping, Real) and 0 < damping < np.inf):
            raise np.linalg.LinAlgError(
                f"damping must be positive and finite, got {damping}."
            )
        self._matrix = matrix
        shift = matrix.dtype.type(damping)
        nodes = []
        for D in matrix.leaves:
            damped = D + shift * np.eye(len(D), dtype=D.dtype)
            nodes.append(Pair.leaf(batched_cholesky(damped[None])[0]))
        cap = 1 - 100 * float(np.finfo(matrix.dtype).eps)
        for level in matrix.levels[::-1]:
            halves = zip(nodes[::2], nodes[1::2], level, strict=True)
            nodes = [Pair.of(a, b, c.X, c.Y)[0].capped(cap) for a, b, c in halves]
        (self._top,) = nodes

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, of triangles the zeros too."""
        return self._top.nbytes

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
        columns = np.asarray(rhs, dtype=self._matrix.dtype).reshape(P, -1)
        x = self._top.backward(self._top.forward(columns[self._matrix.order]))
        return x[self._matrix.places].reshape(rhs.shape)

    def logdet(self) -> float:
        """Return ``log det (H + damping I)``."""
        return self._top.logdet()
