"""Kronecker-factored approximate curvature."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from skgnh.operators.kronecker import kronecker_factors
from skgnh.solvers.base import Factor
from skgnh.solvers.preconditioned import Preconditioned

Array = Any


class KFAC(Preconditioned):
    r"""Block-diagonal Kronecker approximation, one block a layer.

    .. math:: H_l \approx \Big(\sum_i \tfrac1n B_{l,i}^T B_{l,i}\Big) n \otimes
              \Big(\tfrac1n \sum_i a_{l,i} a_{l,i}^T\Big) = \bar B_l \otimes \bar A_l

    with layer inputs :math:`a_l` and carried-back roots :math:`B_l`, whose weights both
    factors share. Both are decomposed once, O(sum of the cubes of the widths), so that
    the damped blocks are solved for every damping, O(P width), with the layer's mean
    ridge.

    With `deflate` > 0 the eigenvectors of the matrix scaled by this approximation that
    lie farthest from 1 are treated exactly too, at some three products each.

    Parameters
    ----------
    deflate : int, default=0
        Number of eigenvectors; they are found at the first damping.
    n_probes : int, default=32
        Most output probes of each row for the factors.
    random_state : int, default=0
        Seed of the probes and of the eigenvectors' start.
    max_iter, tol, rtol, decay, direct
        See :class:`skgnh.solvers.preconditioned.Preconditioned`.

    References
    ----------
    .. [1] J. Martens, R. Grosse, "Optimizing neural networks with Kronecker-factored
           approximate curvature", ICML 2015.
    """

    requires = ("network", "root", "ridge")
    cost = "n W^2 + widths^3, 4 n P an iteration"
    memory = "widths^2"
    use = "autoencoders, ill-conditioned layers"

    def __init__(
        self,
        deflate: int = 0,
        n_probes: int = 32,
        random_state: int = 0,
        max_iter: int = 50,
        tol: float = 5e-4,
        rtol: float | None = None,
        decay: float = 0.95,
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, decay, direct)
        self.deflate = deflate
        self.n_probes = n_probes
        self.random_state = random_state

    def _approximate(self, H: Any, previous: Factor | None) -> Factor:
        if not 0 <= self.deflate < H.shape[0]:
            raise ValueError(f"deflate must lie in [0, P), got {self.deflate}.")
        factor = KroneckerFactor(H, self.n_probes, self.random_state)
        if self.deflate:
            return DeflatedFactor(H, factor, self.deflate, self.random_state)
        return factor


class KroneckerFactor(Factor):
    """Eigendecompositions of both factors of every layer."""

    def __init__(self, H: Any, n_probes: int | None = None, random_state: Any = None):
        self._network = H.network
        factors = kronecker_factors(H, n_probes, random_state)
        outputs, inputs = zip(*factors, strict=True)
        self._inputs = [np.linalg.eigh(A) for A in inputs]
        self._outputs = [np.linalg.eigh(S) for S in outputs]
        self._ridge = self._network.unpack(H.ridge)

    def values(self, damping: float) -> list[Array]:
        """Return the eigenvalues of every damped layer, (width_out, width_in + 1)."""
        return [
            np.maximum(outer[0], 0)[:, None] * np.maximum(inner[0], 0)
            + ridge.mean()
            + ridge.dtype.type(damping)
            for outer, inner, ridge in zip(
                self._outputs, self._inputs, self._ridge, strict=True
            )
        ]

    def power(self, rhs: Array, damping: float, exponent: float) -> Array:
        """Return a power of the damped approximation times rhs, (P,) or (P, k)."""
        out = np.empty_like(rhs.T)
        for layer, target, value, outer, inner in zip(
            self._network.unpack(rhs.T),
            self._network.unpack(out),
            self.values(damping),
            self._outputs,
            self._inputs,
            strict=True,
        ):
            rotated = outer[1].T @ layer @ inner[1]
            target[...] = outer[1] @ (rotated * value**exponent) @ inner[1].T
        return out.T

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return the solution of the damped approximation."""
        return self.power(rhs, damping, -1.0)


class DeflatedFactor(Factor):
    """The K-FAC-scaled matrix, exact on its extreme eigenvectors."""

    def __init__(self, H: Any, kronecker: KroneckerFactor, k: int, seed: int):
        self._H, self._kronecker, self._k, self._seed = H, kronecker, k, seed
        self._vectors = None

    def _scaled(self, damping: float) -> LinearOperator:
        def product(x):
            y = self._kronecker.power(x.ravel(), damping, -0.5)
            y = self._H @ y + y.dtype.type(damping) * y
            return self._kronecker.power(y, damping, -0.5)

        return LinearOperator(self._H.shape, matvec=product, dtype=self._H.dtype)

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return the solution of the deflated approximation."""
        if self._vectors is None:
            start = np.random.default_rng(self._seed).standard_normal(self._H.shape[0])
            which = "BE" if self._k > 1 else "LM"  # both ends are two at least
            scaled = self._scaled(damping)
            try:
                _, V = eigsh(scaled, self._k, which=which, tol=1e-2, v0=start)
            except ArpackNoConvergence as error:
                raise LinAlgError(f"K-FAC could not be deflated: {error}") from error
            self._vectors = V.astype(self._H.dtype)
            self._values = {}
        if damping not in self._values:
            scaled = self._scaled(damping)
            V = self._vectors
            small = V.T @ np.stack([scaled @ v for v in V.T], axis=1)
            self._values = {damping: np.linalg.inv((small + small.T) / 2)}
        x = self._kronecker.power(rhs, damping, -0.5)
        inside = self._vectors.T @ x
        x = x + self._vectors @ (self._values[damping] @ inside - inside)
        return self._kronecker.power(x, damping, -0.5)
