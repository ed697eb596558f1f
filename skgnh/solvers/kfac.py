"""Kronecker-factored approximate curvature."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.linalg import Curvature
from skgnh.network import densified
from skgnh.operators.kronecker import kronecker_factors
from skgnh.solvers.base import Factor, Price, sizes
from skgnh.solvers.preconditioned import Preconditioned

Array = Any

# Columns of the first layer from which its eigenvectors are kept from point to point:
# those of the inputs, whatever the parameters.
_MANY_COLUMNS = 256


class KFAC(Preconditioned):
    r"""Block-diagonal Kronecker approximation, one block a layer.

    .. math:: H_l \approx \Big(\sum_i \tfrac1n B_{l,i}^T B_{l,i}\Big) n \otimes
              \Big(\tfrac1n \sum_i a_{l,i} a_{l,i}^T\Big) = \bar B_l \otimes \bar A_l

    with layer inputs :math:`a_l` and carried-back roots :math:`B_l`, whose weights both
    factors share. Both are decomposed once, O(sum of the cubes of the widths), so that
    the damped blocks are solved for every damping, O(P width), with one ridge for a
    layer's weights and one for its biases: their means, where they differ.

    Parameters
    ----------
    n_probes : int, default=32
        Most output probes of each row for the factors.
    random_state : int, default=0
        Seed of the probes.
    max_iter, tol, rtol, decay, direct
        See :class:`skgnh.solvers.preconditioned.Preconditioned`.

    References
    ----------
    .. [1] J. Martens, R. Grosse, "Optimizing neural networks with Kronecker-factored
           approximate curvature", ICML 2015.
    """

    requires = ("layers", "root")
    cost = (
        "sum(n min(r, n_probes) w^2 + n f^2 + 9 (w^3 + f^3)) + "
        "(4 n P + 2 sum(w f (w + f))) max_iter"
    )
    memory = "sum(w^2 + f^2) + n W"
    use = "autoencoders, ill-conditioned layers"

    def __init__(
        self,
        n_probes: int = 32,
        random_state: int = 0,
        max_iter: int = 50,
        tol: float = 5e-4,
        rtol: float | None = None,
        decay: float = 0.95,
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, decay, direct)
        self.n_probes = n_probes
        self.random_state = random_state

    def _approximate(self, H: Curvature, kept: Any) -> "KroneckerFactor":
        basis = kept if isinstance(kept, np.ndarray) else None
        return KroneckerFactor(H, self.n_probes, self.random_state, basis)

    def _parts(self, H: Curvature) -> tuple[Price, float]:
        n, r, _, _ = sizes(H)
        r = min(r, self.n_probes)
        w, f = np.array(H.linearization.network.shapes, dtype=float).T
        made = np.sum(n * (r * w**2 + f**2) + 9 * (w**3 + f**3))
        return Price(made, np.sum(w**2 + f**2)), 2 * np.sum(w * f * (w + f))


class KroneckerFactor(Factor):
    """Eigendecompositions of both factors of every layer.

    All that it answers is of this approximation, exactly.
    """

    name = "KFAC"

    knows_determinant = True

    def __init__(
        self,
        H: Any,
        n_probes: int | None = None,
        random_state: Any = None,
        basis: Array | None = None,
    ):
        super().__init__(H)
        factors = kronecker_factors(H, n_probes, random_state)
        ridge = H.network.unpack(H.ridge)
        if basis is None or basis.shape != factors[0][1].shape:
            basis = None
        bases = [basis] + [None] * (len(factors) - 1)
        self._blocks = [
            _Block(*pair, layer, own)
            for pair, layer, own in zip(factors, ridge, bases, strict=True)
        ]

    def carried(self) -> Array | None:
        """Return the eigenvectors of many input columns, which hardly change."""
        basis = self._blocks[0].right
        return basis if len(basis) >= _MANY_COLUMNS else None

    def detached(self, damping: float) -> "KroneckerFactor":
        """Return it without H: eigenvectors and eigenvalues of the layers' factors."""
        return self._without_matrix()

    def _by_block(self, rhs: Array, apply: Callable) -> Array:
        out, unpack = np.empty_like(rhs.T), self._H.network.unpack
        layers = zip(self._blocks, unpack(rhs.T), unpack(out), strict=True)
        for block, layer, target in layers:
            target[...] = apply(block, layer)
        return out.T

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return the solution of the damped approximation."""
        return self._by_block(rhs, lambda block, X: block.solve(X, damping))

    def logdet(self, damping: float) -> float:
        """Return ``log det`` of the damped approximation."""
        return sum(block.logdet(damping) for block in self._blocks)

    def inverse_quadratic_of(self, factors: Any, damping: float) -> Array:
        """Return :meth:`inverse_quadratic` of rows that layer factors hold.

        A row costs O(sum of f^2 + r w^2 + w f) for layers of w outputs and f inputs:
        the P numbers of a derivative are never made.
        """
        out = np.zeros((factors.n_rows, factors.n_roots), self._H.dtype)
        for layer, block in enumerate(self._blocks):
            a = densified(factors.inputs[layer])
            out += block.inverse_quadratic_of(a, factors.roots(layer), damping)
        return out

    def diagonal_of_inverse(self, damping: float) -> Array:
        """Return the diagonal of the inverse of the approximation: O(P width)."""
        parts = [block.diagonal_of_inverse(damping).ravel() for block in self._blocks]
        return np.concatenate(parts)

    def draw(self, rng: Any, n: int, damping: float) -> Array:
        """Draw with the covariance of the inverse of the approximation."""
        normal = self._normal(rng, self._H.shape[0], n)
        return self._by_block(normal, lambda block, Z: block.draw(Z, damping))


class _Block:
    r"""``S x A`` and the ridge of one layer, by the eigenvectors of S and A.

    For the i-th eigenvector of S, with v what the bias is in the eigenvectors of A, the
    ridge w of the weights and b of the biases,

    .. math:: M_i = D_i + (b - w) v v^T
              = D_i^{1/2} (I + (t_i - 1) q_i q_i^T) D_i^{1/2}

    with D_i diagonal, q_i of norm one and t_i at least (b + damping) / (w + damping).
    """

    def __init__(self, S: Array, A: Array, ridge: Array, right: Array | None = None):
        s, self._left = np.linalg.eigh(S)
        if right is None:
            a, right = np.linalg.eigh(A)
        else:
            a = np.einsum("ij,ij->j", right, A @ right)
        self.right = right
        self._values = np.maximum(s, 0)[:, None] * np.maximum(a, 0)
        self._weight, self._bias = ridge[:, :-1].mean(), ridge[:, -1].mean()

    def _damped(self, damping: float) -> tuple[Array, Array, Array]:
        """Return the root of D, q and t, of shapes (w, f), (w, f) and (w, 1)."""
        shift = self._values.dtype.type(damping)
        w, b = self._weight + shift, self._bias + shift
        D = self._values + w
        if not (D.min() > 0 and b >= 0):
            raise LinAlgError("K-FAC is singular: raise the damping.")
        root = np.sqrt(D)
        p = self.right[-1] / root
        square = (p**2).sum(axis=1, keepdims=True)
        # What cancels here has a bound.
        t = np.maximum(1 + (b - w) * square, min(1, b / w) if w > 0 else 1)
        if not t.min() > 0:
            raise LinAlgError("K-FAC is singular: raise the damping.")
        return root, p / np.sqrt(square), t

    def solve(self, X: Array, damping: float) -> Array:
        root, q, t = self._damped(damping)
        Y = _scaled(self._left.T @ X @ self.right / root, q, 1 / t)
        return self._left @ (Y / root) @ self.right.T

    def logdet(self, damping: float) -> float:
        root, _, t = self._damped(damping)
        logs = np.log(root.astype(np.float64)).sum() * 2
        return float(logs + np.log(t.astype(np.float64)).sum())

    def inverse_quadratic_of(self, a: Array, B: Array, damping: float) -> Array:
        """Return ``j^T M^-1 j`` of the rows ``j = B_ik x a_i``, of shape (n, r)."""
        root, q, t = self._damped(damping)
        x = a @ self.right
        # Of one in each eigenvector of S; the share along q must leave no less than 0.
        along = (x @ (q / root).T) ** 2
        by_neuron = np.maximum(x**2 @ (root**-2).T - along, 0) + along / t[:, 0]
        return np.einsum("nrw,nw->nr", (B @ self._left) ** 2, by_neuron)

    def diagonal_of_inverse(self, damping: float) -> Array:
        root, q, t = self._damped(damping)
        inner = root**-2.0 @ (self.right**2).T
        inner += (1 / t - 1) * ((q / root) @ self.right.T) ** 2
        return self._left**2 @ inner

    def draw(self, Z: Array, damping: float) -> Array:
        root, q, t = self._damped(damping)
        return self._left @ (_scaled(Z, q, t**-0.5) / root) @ self.right.T


def _scaled(X: Array, q: Array, t: Array) -> Array:
    """Return the rows of X with what is along q multiplied by t."""
    return X + (t - 1) * (X * q).sum(axis=-1, keepdims=True) * q
