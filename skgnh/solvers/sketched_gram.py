"""The dual solver by iteration: exact products, a sketched Gram matrix before them."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.linalg import Curvature, check_choice, check_count
from skgnh.operators.random import generator
from skgnh.operators.sketch import SKETCHES, neuron_costs, sketched_grams
from skgnh.solvers.base import Price, Solver, sizes
from skgnh.solvers.gram import DualFactor, Gram
from skgnh.solvers.preconditioned import conjugate_gradients

Array = Any

# Products of a step, and what a number of the lists costs in each and once, in
# multiply-adds, both bound by memory (benchmarks/sketched_gram.py).
_PRODUCTS, _PRODUCT_NUMBER, _SKETCH_NUMBER = 15, 300, 500


class SketchedGram(Solver):
    r"""Solver in the space of samples that never forms the Gram matrix.

    Where :class:`Gram` factorises :math:`K = I + J D^{-1} J^T`, of n r rows, this one
    iterates with products :math:`J (D^{-1} (J^T v))`. With a sketch S of s =
    `oversampling` n r rows, :math:`E[S^T S] = I`,

    .. math:: R^T R = I + (S D^{-1/2} J^T)^T (S D^{-1/2} J^T) \approx K

    preconditions them so well that their number depends on s / (n r) alone: all
    eigenvalues of :math:`R^{-T} K R^{-1}` lie near :math:`(1 \pm \sqrt{n r / s})^2`,
    however small the damping. R is what a QR decomposition of the sketch over I gives;
    here a Cholesky factorisation does, since sketched Gram matrices serve all dampings.

    Sketched along the neurons, a layer costs O(m (n r)^2) with m = s / min(fan, n), in
    place of width (n r)^2 for the exact Gram matrix; see
    :func:`skgnh.operators.sketch.sketched_grams`. An iteration costs O(n P).

    Parameters
    ----------
    oversampling : float, default=8.0
        Rows of the sketch, in n r; at least 1.
    transform : {'countsketch', 'srht'}, default='countsketch'
        Random signs and sums, or signs, a Hadamard transform and a sample: that keeps a
        little more of what is sketched, for some more time.
    along : {'neurons', 'parameters'}, default='neurons'
        Whether the neurons of each layer are sketched or, as in the reference, all
        parameters, which takes O(n r P) and O(s (n r)^2).
    rtol : float, default=1e-2
        Largest error of a solution, relative to it in the norm of H + damping I: a
        Gauss-Newton step then gains all but rtol^2 of what the exact step would.
    max_iter : int, default=100
        Most iterations for a right-hand side.
    random_state : int, Generator or RandomState, default=0
        Seed of the sketch.

    Raises
    ------
    ValueError
        If a parameter is out of range, or three (n r) x (n r) arrays and the sketch
        exceed the working memory.

    References
    ----------
    .. [1] J. van den Brand, B. Peng, Z. Song, O. Weinstein, "Training
           (overparametrized) neural networks in near-linear time", ITCS 2021.

    Examples
    --------
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.solvers import SketchedGram
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(40, 3, random_state=0)
    >>> solver = SketchedGram(oversampling=4)
    >>> mlp = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=(500,), solver=solver, alpha=1e-4, random_state=0
    ... )
    >>> bool(mlp.fit(X, y).score(X, y) > 0.99)
    True
    """

    requires = ("gram", "layers", "root")
    cost = "(n r)^2 W - saved + (n r)^3 / 6 + 6 n P + 15 n (4 P + 300 W) + 500 n r W"
    memory = "(3 n r + m) n r"
    use = "few rows, layers many times as wide"

    def __init__(
        self,
        oversampling: float = 8.0,
        transform: str = "countsketch",
        along: str = "neurons",
        rtol: float = 1e-2,
        max_iter: int = 100,
        random_state: Any = 0,
    ):
        self.oversampling = oversampling
        self.transform = transform
        self.along = along
        self.rtol = rtol
        self.max_iter = max_iter
        self.random_state = random_state

    def price(self, H: Any) -> Price:
        """Return what a step costs and holds, sketched along the neurons."""
        n, r, W, P = sizes(H)
        shapes = H.linearization.network.shapes
        kept, saved = neuron_costs(shapes, n, r, self.oversampling)
        products = _PRODUCTS * n * (4 * P + _PRODUCT_NUMBER * W)
        sketch = _SKETCH_NUMBER * n * r * W - saved
        return Price(Gram().price(H).operations + products + sketch, kept)

    def _factor(self, H: Curvature, carried: Any) -> "SketchedGramFactor":
        self._check()
        sketch = partial(
            sketched_grams,
            transform=self.transform,
            oversampling=self.oversampling,
            along=self.along,
            rng=generator(self.random_state),
        )
        return SketchedGramFactor(H, H.gram_by_ridge(sketch), self.rtol, self.max_iter)

    def _check(self) -> None:
        if not 1 <= self.oversampling < np.inf:
            raise ValueError(
                "oversampling must be at least 1, since a sketch of fewer rows than "
                f"the Gram matrix has is singular; got {self.oversampling}."
            )
        check_choice(self.transform, "transform", SKETCHES)
        check_choice(self.along, "along", ("neurons", "parameters"))
        if not 0 < self.rtol < 1:
            raise ValueError(f"rtol must lie between 0 and 1, got {self.rtol}.")
        check_count(self.max_iter, "max_iter")


class SketchedGramFactor(DualFactor):
    """Sketched Gram matrices, which precondition iterations with the root."""

    _grams: list

    def __init__(self, H: Curvature, grams: list, rtol: float, max_iter: int):
        super().__init__(H, grams)
        self._rtol, self._max_iter = rtol, max_iter
        self.iterations = 0

    def _iterate(self, c: Array, damping: float, has_converged: Callable) -> Array:
        """Solve ``(I + J D^-1 J^T) y = c`` and return ``D^-1 J^T y``.

        Until ``has_converged(norm of the residual, value of the quadratic)``.
        """
        D, factors = self._diagonal(damping), self._factorise(damping)

        def product(v):
            self.products += 1
            return v + self._root @ ((self._root.T @ v) / D)

        def precondition(v):
            return factors.solve(v)

        iterates = conjugate_gradients(product, c, precondition)
        for k, iterate in enumerate(islice(iterates, self._max_iter + 1)):
            (y, residual, value), self.iterations = iterate, k
            if has_converged(np.linalg.norm(residual), value):
                break
        self.products += 1
        return (self._root.T @ y) / D

    def lstsq(self, target: Array, damping: float) -> Array:
        r"""Return :math:`\arg\min_x ||J x - target||^2 + ||D^{1/2} x||^2`.

        As :math:`D^{-1} J^T (I + J D^{-1} J^T)^{-1} target`: with a damping near zero,
        the step of the reference. Where the target is at hand, this takes fewer
        iterations than ``solve(J^T target, damping)``, which has to find it first.

        Parameters
        ----------
        target : ndarray of shape (n r,)
            What J x is to be.
        damping : float
            Positive shift.

        Returns
        -------
        ndarray of shape (P,)
            The solution; the residual of the dual system is at most `rtol` times the
            target.
        """
        goal = self._rtol * np.linalg.norm(target)
        return self._iterate(target, damping, lambda norm, value: norm <= goal)

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``; see :meth:`Factor.solve`."""
        if rhs.ndim == 2:
            return np.stack([self._solve(b, damping) for b in rhs.T], axis=1)
        self._factorise(damping)
        # Rounding leaves an error of the order of the condition in Woodbury's
        # difference: if that is more than asked for, the residual is solved for again.
        rounding = min(0.5, self._condition(damping) * np.finfo(rhs.dtype).eps)
        x, residual, error, last = np.zeros_like(rhs), rhs, 1.0, np.inf
        while True:
            tol = max(self._rtol / error, rounding)
            correction, size = self._woodbury(residual, damping, tol)
            if not size <= last:
                raise LinAlgError(
                    f"The damping {damping:.3g} is lost in the rounding of {rhs.dtype}."
                )
            x, error, last = x + correction, error * tol, size
            if error <= self._rtol:
                return x
            residual = rhs - self._H @ x - self._H.dtype.type(damping) * x
            self.products += 1

    def _condition(self, damping: float) -> float:
        """Return a bound of the condition of I + J D^-1 J^T, as sketched."""
        return 1 + sum(
            float(gram.trace()) / (ridge + damping) for ridge, gram in self._grams
        )

    def _woodbury(self, b: Array, damping: float, tol: float) -> tuple[Array, float]:
        """Return the solution for b and the square of its norm, to rounding."""
        x = b / self._diagonal(damping)
        # With y the solution so far, x = D^-1 (b - J^T y) and its error e,
        #   e^T (H + damping I) e <= ||residual||^2,
        #   b^T (H + damping I)^-1 b <= b^T D^-1 b + 2 value <= that + ||residual||^2.
        bound, size = float(b @ x), 0.0

        def has_converged(norm, value):
            nonlocal size
            size = max(bound + 2 * value, 0.0)
            return norm <= tol * size**0.5

        return x - self._iterate(self._root @ x, damping, has_converged), size
