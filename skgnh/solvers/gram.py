"""The dual solver: Gauss-Newton as a regression in the Gram matrix."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.arrays import (
    add_to_diagonal,
    as_precision,
    eye,
    is_foreign,
    namespace,
    reshape,
)
from skgnh.linalg import Curvature, factorised
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
    any_namespace = True
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
        self._cholesky: tuple[float | None, Any] = (None, None)

    def _diagonal(self, damping: float) -> Array:
        return self._H.ridge + float(damping)

    def _dual(self, damping: float) -> Array:
        """Return ``J D^-1 J^T``."""
        if self._grams is None:
            return self._H.gram(1 / self._diagonal(damping))
        return sum(gram / (ridge + damping) for ridge, gram in self._grams)

    def _factorise(self, damping: float) -> Any:
        if self._cholesky[0] == damping:
            return self._cholesky[1]
        D = self._diagonal(damping)
        xp = namespace(D)
        if not xp.min(D) > 0:
            raise LinAlgError(
                "The dual form needs a positive damping where the ridge is zero."
            )
        K = add_to_diagonal(self._dual(damping), 1.0)
        if not bool(xp.all(xp.isfinite(K))):
            raise LinAlgError("The Gram matrix is not finite.")
        self._cholesky = (damping, factorised(K))
        return self._cholesky[1]


class GramFactor(DualFactor):
    """The exact Gram matrices of the parameters of equal ridge."""

    knows_determinant = True
    is_exact = True

    def __init__(self, H: Curvature):
        values = namespace(H.ridge).unique_values(H.ridge)
        n_values, numbers = values.shape[0], H.root.shape[0] ** 2
        kept = n_values <= _PARTS and fits((n_values + 2) * numbers * H.dtype.itemsize)
        # With two values no more is held than is needed to begin with.
        grams = H.gram_by_ridge() if kept or n_values <= 2 else None
        super().__init__(H, grams)

    def _woodbury(self, rhs: Array, D: Array, factors: Any) -> Array:
        x = rhs / D
        dual = factors.solve(self._root @ x)
        self.products += 1
        return x - (self._root.T @ dual) / D

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``; see :meth:`Factor.solve`."""
        factors = self._factorise(damping)
        columns = reshape(rhs, (rhs.shape[0], -1))
        D = self._diagonal(damping)[:, None]
        x = self._woodbury(columns, D, factors)
        residual = columns - self._H @ x - float(damping) * x
        self.products += 1
        x += self._woodbury(residual, D, factors)
        return reshape(x, rhs.shape)

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)`` by the determinant lemma."""
        factors = self._factorise(damping)
        D = as_precision(self._H.ridge, np.float64) + damping
        xp = namespace(D)
        return float(xp.sum(xp.log(D))) + factors.logdet()

    def trace_of_inverse(self, groups: Array, damping: float) -> Array:
        r"""Return the traces of :meth:`Factor.trace_of_inverse`, exactly.

        A group of inputs whose ridge is the same, of Gram matrix K_g, has the trace
        ``size / D - tr(K^-1 K_g) / D^2`` with ``K = I + J D^-1 J^T``: O((n r)^3) and
        the assembly of K once more. Other groups go by the diagonal.
        """
        if is_foreign(self._H.ridge):
            return super().trace_of_inverse(groups, damping)
        parts = self._H.grams_of(groups, self._H.ridge)
        if parts is None:
            return super().trace_of_inverse(groups, damping)
        # Of symmetric matrices half the inverse, doubled, tells the rest.
        half = self._factorise(damping).half_of_inverse()
        D = self._diagonal(damping).astype(np.float64)
        sizes, sums = np.bincount(groups), np.bincount(groups, D)
        own = sums / sizes
        taken = np.array([float(np.vdot(half, part)) for part in parts])
        return sizes / own - taken / own**2

    def diagonal_of_inverse(self, damping: float) -> Array:
        """Return the diagonal of the inverse, exactly: n r products with the root."""
        factors, D = self._factorise(damping), self._diagonal(damping)
        xp = namespace(D)
        taken = xp.zeros_like(as_precision(D, np.float64))
        chunk = rows_per_chunk(2 * D.shape[0] * self._H.dtype.itemsize)
        for some in slices(len(factors), chunk):
            # J^T L^-T, some columns at a time.
            moved = self._root.T @ factors.root_of_inverse(eye(len(factors), D, some))
            taken += xp.sum(as_precision(moved, np.float64) ** 2, axis=1)
        return as_precision((1 - taken / D) / D, self._H.dtype)
