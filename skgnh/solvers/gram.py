"""The dual solver: Gauss-Newton as a regression in the Gram matrix."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from skgnh.solvers.base import Factor, Solver

Array = Any


class Gram(Solver):
    r"""Exact solver in the space of samples, for fewer rows (n d) than parameters.

    With ``H = J^T J + R``, ``D = R + damping I`` and the identity of Woodbury,

    .. math:: (J^T J + D)^{-1} b = D^{-1} b - D^{-1} J^T (I + J D^{-1} J^T)^{-1} J D^{-1} b.

    The Gram matrix is assembled layer by layer once, O((n d)^2 times the sum of the
    widths), without J; a damping costs a Cholesky factorisation, O((n d)^3 / 3), and
    six passes over the rows, of which four refine the solution by one step, since for
    a small damping the difference above cancels.

    Raises
    ------
    ValueError
        If three (n d) x (n d) arrays exceed the working memory.

    References
    ----------
    .. [1] T. Cai et al., "Gram-Gauss-Newton method: learning overparameterized neural
           networks for regression problems", arXiv:1905.11675, 2019.
    """  # noqa: E501

    requires = ("gram_by_ridge", "root", "ridge")
    cost = "(n r)^2 W + (n r)^3 / 6"
    memory = "3 (n r)^2"
    use = "few rows and outputs, exactly"

    def _factor(self, H: Any, previous: Factor | None) -> "GramFactor":
        return GramFactor(H)


class DualFactor(Factor):
    """Gram matrices by ridge, exact or not, and ``I + J D^-1 J^T`` made of them."""

    def __init__(self, H: Any, grams: list):
        self._H, self._root, self._grams = H, H.root, grams
        self._cholesky = (None, None)
        self._products = 0

    @property
    def products(self) -> int:
        """Products with H, or pairs with its root, spent so far."""
        return self._products

    def _diagonal(self, damping: float) -> Array:
        return self._H.ridge + self._H.dtype.type(damping)

    def _factorise(self, damping: float) -> Any:
        if self._cholesky[0] == damping:
            return self._cholesky[1]
        if not damping > 0:
            raise LinAlgError("The dual form needs a positive damping.")
        K = sum(gram / (ridge + damping) for ridge, gram in self._grams)
        K.flat[:: len(K) + 1] += 1
        if not np.isfinite(K).all():
            raise LinAlgError("The Gram matrix is not finite.")
        # K is symmetric: its transpose spares LAPACK's copy into Fortran order.
        factors = cho_factor(K.T, lower=True, overwrite_a=True, check_finite=False)
        self._cholesky = (damping, factors)
        return factors


class GramFactor(DualFactor):
    """The exact Gram matrices of the weights and of the biases."""

    def __init__(self, H: Any):
        super().__init__(H, H.gram_by_ridge())

    def _woodbury(self, rhs: Array, D: Array, factors: Any) -> Array:
        x = rhs / D
        dual = cho_solve(factors, self._root @ x, check_finite=False)
        self._products += 1
        return x - (self._root.T @ dual) / D

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``; see :meth:`Factor.solve`."""
        factors = self._factorise(damping)
        columns = rhs.reshape(len(rhs), -1)
        D = self._diagonal(damping)[:, None]
        x = self._woodbury(columns, D, factors)
        residual = columns - self._H @ x - self._H.dtype.type(damping) * x
        self._products += 1
        x += self._woodbury(residual, D, factors)
        return x.reshape(rhs.shape)

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)`` by the determinant lemma."""
        factors, _ = self._factorise(damping)
        D = self._H.ridge.astype(np.float64) + damping
        return float(np.log(D).sum() + 2 * np.log(factors.diagonal()).sum())
