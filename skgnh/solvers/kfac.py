"""Kronecker-factored approximate curvature."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.arrays import (
    as_precision,
    at_least,
    eigh,
    empty,
    eye,
    namespace,
    precision,
    reshape,
)
from skgnh.linalg import Curvature, check_count
from skgnh.network import densified
from skgnh.operators.kronecker import kronecker_factors
from skgnh.solvers.base import Factor, Price, sizes
from skgnh.solvers.preconditioned import Preconditioned

Array = Any

# Columns of the first layer from which its eigenvectors are kept from point to point:
# those of the inputs, whatever the parameters.
_MANY_COLUMNS = 256
# Outputs that are taken as they are, and the probes of more.
_FEW_OUTPUTS, _PROBES = 32, 4


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
    n_probes : int, optional
        Most output probes of each row for the factors; None takes 4 for more than 32
        outputs, and fewer outputs as they are.
    refresh : int, default=5
        Points of a training that one approximation serves; 1 makes it anew at each.
    random_state : int, default=0
        Seed of the probes.
    max_iter : int, default=3
        Most iterations for a right-hand side.
    rtol : float or None, default=0.3
        Relative residual at which the iteration stops: steps of a training are better
        many than exact.
    tol, direct
        See :class:`skgnh.solvers.preconditioned.Preconditioned`.

    References
    ----------
    .. [1] J. Martens, R. Grosse, "Optimizing neural networks with Kronecker-factored
           approximate curvature", ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_friedman1
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.operators import GaussNewtonHessian
    >>> from skgnh.solvers import KFAC
    >>> X, y = make_friedman1(20, random_state=0)
    >>> model = GaussNewtonMLPRegressor(hidden_layer_sizes=10, random_state=0).fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(model, X, y)
    >>> b = np.ones(H.shape[0])
    >>> x = KFAC(max_iter=100, rtol=1e-7).factor(H).solve(b, damping=0.1)
    >>> bool(np.linalg.norm(H @ x + 0.1 * x - b) < 1e-6 * np.linalg.norm(b))
    True
    """

    requires = ("layers", "root")
    cost = (
        "sum(n min(r, 32) w^2 + n f^2 + 9 (w^3 + f^3)) + "
        "(4 n P + 2 sum(w f (w + f))) max_iter"
    )
    memory = "sum(w^2 + f^2) + n W"
    any_namespace = True
    use = "autoencoders, ill-conditioned layers"

    def __init__(
        self,
        n_probes: int | None = None,
        refresh: int = 5,
        random_state: int = 0,
        max_iter: int = 3,
        tol: float = 5e-4,
        rtol: float | None = 0.3,
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, direct)
        self.n_probes = n_probes
        self.refresh = refresh
        self.random_state = random_state

    def _approximate(self, H: Curvature, kept: Any) -> "KroneckerFactor":
        check_count(self.refresh, "refresh")
        if self.n_probes is not None:
            check_count(self.n_probes, "n_probes")
        if not (isinstance(kept, Kept) and kept.fits(H)):
            kept = None
        if kept is not None and kept.age + 1 < self.refresh:
            return KroneckerFactor.of(H, kept._replace(age=kept.age + 1))
        basis = None if kept is None else kept.first_basis
        n_probes = self._probes(sizes(H).r)
        return KroneckerFactor(H, n_probes, self.random_state, basis)

    def _probes(self, r: int) -> int:
        """Return how many probes stand for r roots at most."""
        return self.n_probes or (r if r <= _FEW_OUTPUTS else _PROBES)

    def _parts(self, H: Curvature) -> tuple[Price, float]:
        n, r, _, _ = sizes(H)
        r = min(r, self._probes(r))
        w, f = np.array(H.linearization.network.shapes, dtype=float).T
        made = np.sum(n * (r * w**2 + f**2) + 9 * (w**3 + f**3))
        return Price(made, np.sum(w**2 + f**2)), 2 * np.sum(w * f * (w + f))


class KroneckerFactor(Factor):
    """Eigendecompositions of both factors of every layer.

    All that it answers is of this approximation, exactly.
    """

    name = "KFAC"

    def __init__(
        self,
        H: Any,
        n_probes: int | None = None,
        random_state: Any = None,
        basis: Array | None = None,
    ):
        factors = kronecker_factors(H, n_probes, random_state)
        bases = [basis] + [None] * (len(factors) - 1)
        layers = [
            (_eigen(S), _eigen(A, own))
            for (S, A), own in zip(factors, bases, strict=True)
        ]
        self._begin(H, Kept(layers, 0))

    @classmethod
    def of(cls, H: Any, kept: "Kept") -> "KroneckerFactor":
        """Return the factor of another point, with the ridge of H."""
        factor = cls.__new__(cls)
        factor._begin(H, kept)
        return factor

    def _begin(self, H: Any, kept: "Kept") -> None:
        super().__init__(H)
        self._kept = kept
        # Of this H, and not of an earlier one.
        self.knows_determinant = kept.age == 0
        ridges = H.network.unpack(H.ridge)
        self._blocks = [
            _Block(*layer, ridge)
            for layer, ridge in zip(kept.layers, ridges, strict=True)
        ]

    def carried(self) -> "Kept":
        """Return the eigenvectors."""
        return self._kept

    def detached(self, damping: float) -> "KroneckerFactor":
        """Return it without H: eigenvectors and eigenvalues of the layers' factors."""
        return self._without_matrix()

    def _by_block(self, rhs: Array, apply: Callable) -> Array:
        rows = rhs.T if rhs.ndim == 2 else rhs
        out, unpack = empty(rows.shape, rhs), self._H.network.unpack
        layers = zip(self._blocks, unpack(rows), unpack(out), strict=True)
        for block, layer, target in layers:
            target[...] = apply(block, layer)
        return out.T if rhs.ndim == 2 else out

    def _solve(self, rhs: Array, damping: float) -> Array:
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
        out: Any = 0.0
        for layer, block in enumerate(self._blocks):
            a = densified(factors.inputs[layer])
            out = out + block.inverse_quadratic_of(a, factors.roots(layer), damping)
        return out

    def diagonal_of_inverse(self, damping: float) -> Array:
        """Return the diagonal of the inverse of the approximation: O(P width)."""
        parts = [block.diagonal_of_inverse(damping) for block in self._blocks]
        xp = namespace(parts[0])
        return xp.concat([reshape(part, (-1,)) for part in parts])

    def draw(self, rng: Any, n: int, damping: float) -> Array:
        """Draw with the covariance of the inverse of the approximation."""
        normal = self._normal(rng, self._H.shape[0], n)
        return self._by_block(normal, lambda block, Z: block.draw(Z, damping))


class Kept(NamedTuple):
    """Eigenvalues and eigenvectors of both factors of every layer.

    Of a diagonal factor the eigenvectors are unit vectors, None.
    """

    layers: list[tuple[Any, Any]]
    age: int
    """Points that they have served before this one."""

    def fits(self, H: Any) -> bool:
        """Say whether they are of a matrix like H."""
        shapes = tuple((s.shape[0], a.shape[0]) for (s, _), (a, _) in self.layers)
        dtype = precision(self.layers[0][0][0])
        return shapes == H.network.shapes and dtype == H.dtype

    @property
    def first_basis(self) -> Array | None:
        """The eigenvectors of many input columns, which hardly change."""
        a, basis = self.layers[0][1]
        return basis if a.shape[0] >= _MANY_COLUMNS else None


def _eigen(S: Array, basis: Array | None = None) -> tuple[Array, Array | None]:
    """Return eigenvalues and eigenvectors, or the diagonal in a basis and this."""
    xp = namespace(S)
    own = xp.linalg.diagonal(S)
    if basis is not None:
        own = xp.sum(basis * (S @ basis), axis=0)
    elif not _is_diagonal(S):
        own, basis = eigh(S)
    # What rounding leaves of nothing is nothing.
    least = own.shape[0] * float(xp.finfo(own.dtype).eps) * max(float(xp.max(own)), 0)
    return xp.where(own > least, own, xp.zeros_like(own)), basis


def _is_diagonal(S: Array) -> bool:
    if isinstance(S, np.ndarray):
        return np.count_nonzero(S) == np.count_nonzero(S.diagonal())
    xp = namespace(S)
    return bool(xp.all((S == 0) | (eye(S.shape[0], S) != 0)))


def _turned(X: Array, basis: Array | None) -> Array:
    """Return X times the basis."""
    return X if basis is None else X @ basis


class _Block:
    r"""``S x A`` and the ridge of one layer, by the eigenvectors of S and A.

    For the i-th eigenvector of S, with v what the bias is in the eigenvectors of A, the
    ridge w of the weights and b of the biases,

    .. math:: M_i = D_i + (b - w) v v^T
              = D_i^{1/2} (I + (t_i - 1) q_i q_i^T) D_i^{1/2}

    with D_i diagonal, q_i of norm one and t_i at least (b + damping) / (w + damping).
    """

    def __init__(self, S: tuple, A: tuple, ridge: Array):
        (s, self._left), (a, self._right) = S, A
        self._values = s[:, None] * a
        xp = namespace(ridge)
        self._weight = float(xp.mean(ridge[:, :-1]))
        self._bias = float(xp.mean(ridge[:, -1]))
        right = eye(a.shape[0], a) if self._right is None else self._right
        self._of_bias = right[-1, :]

    def _rotated(self, X: Array) -> Array:
        """Return X in the eigenvectors, those of S first."""
        X = X if self._left is None else self._left.T @ X
        return _turned(X, self._right)

    def _restored(self, X: Array) -> Array:
        X = X if self._left is None else self._left @ X
        return X if self._right is None else X @ self._right.T

    def _damped(self, damping: float) -> tuple[Array, Array, Array]:
        """Return the root of D, q and t, of shapes (w, f), (w, f) and (w, 1)."""
        w, b = self._weight + float(damping), self._bias + float(damping)
        xp, D = namespace(self._values), self._values + w
        if not (float(xp.min(D)) > 0 and b >= 0):
            raise LinAlgError("K-FAC is singular: raise the damping.")
        root = xp.sqrt(D)
        p = self._of_bias / root
        square = xp.sum(p**2, axis=1, keepdims=True)
        # What cancels here has a bound.
        t = at_least(1 + (b - w) * square, min(1.0, b / w) if w > 0 else 1.0)
        if not float(xp.min(t)) > 0:
            raise LinAlgError("K-FAC is singular: raise the damping.")
        return root, p / xp.sqrt(square), t

    def solve(self, X: Array, damping: float) -> Array:
        root, q, t = self._damped(damping)
        return self._restored(_scaled(self._rotated(X) / root, q, 1 / t) / root)

    def logdet(self, damping: float) -> float:
        root, _, t = self._damped(damping)
        xp = namespace(root)
        root, t = as_precision(root, np.float64), as_precision(t, np.float64)
        return float(2 * xp.sum(xp.log(root)) + xp.sum(xp.log(t)))

    def inverse_quadratic_of(self, a: Array, B: Array, damping: float) -> Array:
        """Return ``j^T M^-1 j`` of the rows ``j = B_ik x a_i``, of shape (n, r)."""
        root, q, t = self._damped(damping)
        x = _turned(a, self._right)
        # Of one in each eigenvector of S; the share along q must leave no less than 0.
        along = (x @ (q / root).T) ** 2
        xp = namespace(x)
        by_neuron = at_least(x**2 @ (root**-2.0).T - along, 0.0) + along / t[:, 0]
        return xp.vecdot(_turned(B, self._left) ** 2, by_neuron[:, None, :])

    def diagonal_of_inverse(self, damping: float) -> Array:
        root, q, t = self._damped(damping)
        left, right = self._left, self._right
        if right is None:
            right = eye(root.shape[1], root)
        inner = root**-2.0 @ (right**2).T
        inner += (1 / t - 1) * ((q / root) @ right.T) ** 2
        return inner if left is None else left**2 @ inner

    def draw(self, Z: Array, damping: float) -> Array:
        root, q, t = self._damped(damping)
        return self._restored(_scaled(Z, q, t**-0.5) / root)


def _scaled(X: Array, q: Array, t: Array) -> Array:
    """Return the rows of X with what is along q multiplied by t."""
    return X + (t - 1) * namespace(X).sum(X * q, axis=-1, keepdims=True) * q
