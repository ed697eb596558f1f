"""Newton's step on the exact Hessian."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.linalg import Curvature, as_curvature
from skgnh.solvers.auto import Auto
from skgnh.solvers.base import Factor, Price, Solver, sizes
from skgnh.solvers.dense import finite_array
from skgnh.solvers.layers import LayerElimination

Array = Any


class ExactHessianSolver(Solver):
    r"""Solver of the exact Hessian, with curvature that training builds for it.

    A damped Newton step solves ``(H + damping I) s = -g``, and is one only where that
    matrix is positive definite. Otherwise the solve fails, as that of any solver does,
    and the optimiser raises the damping: H is shifted until its inertia is right, and
    until the model predicts the reduction well enough, by one and the same rule.

    The elimination by layers (:class:`LayerElimination`) is taken where it fits the
    working memory and costs less than an array, as for few rows of deep and narrow
    networks; otherwise, and for other matrices than an :class:`ExactHessian`,
    :class:`Auto` chooses: Cholesky of the array, or conjugate gradients, which fail at
    a direction of negative curvature.

    Parameters
    ----------
    saddle_free : bool, default=False
        Solve with :math:`|H| = U |\Lambda| U^T` in place of H, from the eigenpairs of
        the array, O(P^3) once for all dampings: directions of negative curvature are
        left along, and no solve fails. The residual in the records then tells how far
        the step is from Newton's.

    Raises
    ------
    ValueError
        If `saddle_free` and two P x P arrays exceed the working memory.

    References
    ----------
    .. [1] A. Rahimi, "The Hessian of tall-skinny networks is easy to invert",
           arXiv:2601.06096, 2026.
    .. [2] Y. Dauphin et al., "Identifying and attacking the saddle point problem in
           high-dimensional non-convex optimization", NeurIPS 2014.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.solvers import ExactHessianSolver
    >>> X, y = load_iris(return_X_y=True)
    >>> solver = ExactHessianSolver(saddle_free=True)
    >>> mlp = GaussNewtonMLPClassifier((8,), solver=solver, alpha=1, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> bool(mlp.score(X, y) > 0.9)
    True
    """

    curvature = "exact"
    requires = ("toarray", "diagonal")
    cost = "about L (n w)^3 for L layers of width w, or that of `auto`"
    memory = "about L (n w)^2, or that of `auto`"
    use = "the exact Hessian: few rows, deep and narrow networks"

    def __init__(self, saddle_free: bool = False):
        self.saddle_free = saddle_free

    def price(self, H: Any) -> Price:
        """Return the price of the elimination where it pays, else that of `auto`."""
        H = as_curvature(H)
        n, _, _, P = sizes(H)
        if self.saddle_free:
            return Price(n * P**2 / 2 + 5 * P**3, 2 * P**2)
        if not _has_layers(H):
            return Auto().price(H)
        held = LayerElimination.numbers(H.network, n)
        # A solve passes all that is held.
        return Price(LayerElimination.operations(H.network, n) + held, held)

    def _factor(self, H: Curvature, carried: Any) -> Factor:
        if self.saddle_free:
            return SaddleFreeFactor(H)
        return LayerFactor(H) if _has_layers(H) else Auto().factor(H, carried)


def _has_layers(H: Curvature) -> bool:
    return "elimination" in H.offers and LayerElimination.pays(H)


class LayerFactor(Factor):
    """An elimination by layers for each damping, the last one kept."""

    name = "Elimination by layers"

    def __init__(self, H: Curvature):
        super().__init__(H)
        self._damping: float | None = None
        self._last: LayerElimination | None = None
        self._spent = 0

    # The base has a number, that subclasses count up; this one only tells.
    @property
    def products(self) -> int:  # type: ignore[override]
        """Products with H that refinement has spent so far."""
        return self._spent + (self._last.products if self._last else 0)

    def _at(self, damping: float) -> LayerElimination:
        if self._last is None or damping != self._damping:
            self._spent, self._last = self.products, None
            self._last, self._damping = LayerElimination(self._H, damping), damping
        return self._last

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``; see :meth:`Factor.solve`."""
        elimination = self._at(damping)
        negative = elimination.inertia[0]
        if negative:
            raise LinAlgError(
                f"H + {damping:.3g} I is not positive definite: it has {negative} "
                "negative eigenvalues."
            )
        return elimination.solve(rhs)

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)``."""
        return self._at(damping).logdet()


class SaddleFreeFactor(Factor):
    """``|H| + damping I`` by the eigenpairs of H: all it says is of ``|H|``."""

    def __init__(self, H: Curvature):
        super().__init__(H)
        values, self._vectors = np.linalg.eigh(finite_array(H))
        self._sizes = np.abs(values)

    def _scale(self, damping: float) -> Array:
        scale = self._sizes + self._sizes.dtype.type(damping)
        if not scale.min() > 0:
            raise LinAlgError("|H| + damping I is singular: raise the damping.")
        return scale

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(|H| + damping I)^-1 rhs``."""
        coordinates = self._vectors.T @ rhs
        return self._vectors @ (coordinates.T / self._scale(damping)).T

    def logdet(self, damping: float) -> float:
        """Return ``log det (|H| + damping I)``."""
        return float(np.log(self._scale(damping)).sum())

    def diagonal_of_inverse(self, damping: float) -> Array:
        """Return the diagonal of ``(|H| + damping I)^-1``."""
        return self._vectors**2 @ (1 / self._scale(damping))

    def draw(self, rng: Any, n: int, damping: float) -> Array:
        """Draw from the distribution of covariance ``(|H| + damping I)^-1``."""
        Z = self._normal(rng, len(self._sizes), n)
        return self._vectors @ (Z / np.sqrt(self._scale(damping))[:, None])
