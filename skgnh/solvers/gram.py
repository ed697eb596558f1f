"""The dual solver: Gauss-Newton as a regression in the Gram matrix."""

from typing import Any

import numpy as np
from scipy.linalg import (
    LinAlgError,
    cho_factor,
    cho_solve,
    get_lapack_funcs,
    solve_triangular,
)

from skgnh.linalg import Curvature
from skgnh.memory import fits, rows_per_chunk, slices
from skgnh.solvers.base import Factor, Price, Solver, sizes

Array = Any

# Parts of the Gram matrix that are kept for all dampings: more values of the ridge are
# as many passes over the matrix, which then is made anew.
_PARTS = 8


class Gram(Solver):
    r"""Exact solver in the space of samples, for fewer rows (n d) than parameters.

    With ``H = J^T J + R``, ``D = R + damping I`` and the identity of Woodbury,

    .. math:: (J^T J + D)^{-1} b = D^{-1} b - D^{-1} J^T (I + J D^{-1} J^T)^{-1} J D^{-1} b.

    The Gram matrix is assembled layer by layer once, O((n d)^2 times the sum of the
    widths), without J; a damping costs a Cholesky factorisation, O((n d)^3 / 3), and
    six passes over the rows, of which four refine the solution by one step, since for
    a small damping the difference above cancels.

    Where the ridge has more than eight values, or the memory for its parts is missing,
    the Gram matrix is assembled for each damping; where it differs among the neurons of
    a layer, from columns of J at O((n d)^2 P).

    Raises
    ------
    ValueError
        If three (n d) x (n d) arrays exceed the working memory.

    References
    ----------
    .. [1] T. Cai et al., "Gram-Gauss-Newton method: learning overparameterized neural
           networks for regression problems", arXiv:1905.11675, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_friedman1
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.operators import GaussNewtonHessian
    >>> from skgnh.solvers import Gram
    >>> X, y = make_friedman1(20, random_state=0)
    >>> model = GaussNewtonMLPRegressor(hidden_layer_sizes=10, random_state=0).fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(model, X, y)
    >>> b = np.ones(H.shape[0])
    >>> x = Gram().factor(H).solve(b, damping=0.1)
    >>> bool(np.linalg.norm(H @ x + 0.1 * x - b) < 1e-6 * np.linalg.norm(b))
    True
    """  # noqa: E501

    requires = ("gram", "root")
    cost = "(n r)^2 W + (n r)^3 / 6 + 6 n P"
    memory = "3 (n r)^2"
    use = "few rows and outputs, exactly"

    def price(self, H: Any) -> Price:
        """Return what a step costs and holds."""
        n, r, W, P = sizes(H)
        rows = n * r
        return Price(rows**2 * W + rows**3 / 6 + 6 * n * P, 3 * rows**2)

    def _factor(self, H: Curvature, carried: Any) -> "GramFactor":
        return GramFactor(H)


class DualFactor(Factor):
    """Gram matrices by ridge, exact or not, and ``I + J D^-1 J^T`` made of them."""

    def __init__(self, H: Curvature, grams: list | None):
        super().__init__(H)
        self._root, self._grams = H.root, grams
        self._cholesky = (None, None)

    def _diagonal(self, damping: float) -> Array:
        return self._H.ridge + self._H.dtype.type(damping)

    def _dual(self, damping: float) -> Array:
        """Return ``J D^-1 J^T``."""
        if self._grams is None:
            return self._H.gram(1 / self._diagonal(damping))
        return sum(gram / (ridge + damping) for ridge, gram in self._grams)

    def _factorise(self, damping: float) -> Any:
        if self._cholesky[0] == damping:
            return self._cholesky[1]
        if not self._diagonal(damping).min() > 0:
            raise LinAlgError(
                "The dual form needs a positive damping where the ridge is zero."
            )
        K = self._dual(damping)
        K.flat[:: len(K) + 1] += 1
        if not np.isfinite(K).all():
            raise LinAlgError("The Gram matrix is not finite.")
        # K is symmetric: its transpose spares LAPACK's copy into Fortran order.
        factors = cho_factor(K.T, lower=True, overwrite_a=True, check_finite=False)
        self._cholesky = (damping, factors)
        return factors


class GramFactor(DualFactor):
    """The exact Gram matrices of the parameters of equal ridge."""

    knows_determinant = True
    is_exact = True

    def __init__(self, H: Curvature):
        n_values, numbers = len(np.unique(H.ridge)), H.root.shape[0] ** 2
        kept = n_values <= _PARTS and fits((n_values + 2) * numbers * H.dtype.itemsize)
        # With two values no more is held than is needed to begin with.
        grams = H.gram_by_ridge() if kept or n_values <= 2 else None
        super().__init__(H, grams)

    def _woodbury(self, rhs: Array, D: Array, factors: Any) -> Array:
        x = rhs / D
        dual = cho_solve(factors, self._root @ x, check_finite=False)
        self.products += 1
        return x - (self._root.T @ dual) / D

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``; see :meth:`Factor.solve`."""
        factors = self._factorise(damping)
        columns = rhs.reshape(len(rhs), -1)
        D = self._diagonal(damping)[:, None]
        x = self._woodbury(columns, D, factors)
        residual = columns - self._H @ x - self._H.dtype.type(damping) * x
        self.products += 1
        x += self._woodbury(residual, D, factors)
        return x.reshape(rhs.shape)

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)`` by the determinant lemma."""
        factors, _ = self._factorise(damping)
        D = self._H.ridge.astype(np.float64) + damping
        diagonal = factors.diagonal().astype(np.float64)
        return float(np.log(D).sum() + 2 * np.log(diagonal).sum())

    def trace_of_inverse(self, groups: Array, damping: float) -> Array:
        r"""Return the traces of :meth:`Factor.trace_of_inverse`, exactly.

        A group of inputs whose ridge is the same, of Gram matrix K_g, has the trace
        ``size / D - tr(K^-1 K_g) / D^2`` with ``K = I + J D^-1 J^T``: O((n r)^3) and
        the assembly of K once more. Other groups go by the diagonal.
        """
        parts = self._H.grams_of(groups, self._H.ridge)
        if parts is None:
            return super().trace_of_inverse(groups, damping)
        factors, _ = self._factorise(damping)
        (potri,) = get_lapack_funcs(("potri",), (factors,))
        inverse, info = potri(factors, lower=1)
        if info:
            raise LinAlgError("The Gram matrix is not positive definite.")
        # The lower half, doubled, tells the rest; its transpose is in C order.
        half = np.triu(inverse.T)
        half *= 2
        half.flat[:: len(half) + 1] /= 2
        D = self._diagonal(damping).astype(np.float64)
        sizes, sums = np.bincount(groups), np.bincount(groups, D)
        own = sums / sizes
        taken = np.array([float(np.vdot(half, part)) for part in parts])
        return sizes / own - taken / own**2

    def diagonal_of_inverse(self, damping: float) -> Array:
        """Return the diagonal of the inverse, exactly: n r products with the root."""
        factors, _ = self._factorise(damping)
        D, rows = self._diagonal(damping), len(factors)
        taken = np.zeros(len(D))
        size = rows_per_chunk(2 * D.nbytes)
        for some in slices(rows, size):
            E = np.zeros((rows, some.stop - some.start), D.dtype)
            E[some] = np.eye(E.shape[1])
            # J^T L^-T, some columns at a time.
            inner = solve_triangular(
                factors, E, trans=1, lower=True, check_finite=False
            )
            taken += ((self._root.T @ inner).astype(np.float64) ** 2).sum(axis=1)
        return ((1 - taken / D) / D).astype(D.dtype)
