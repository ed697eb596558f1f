"""Kronecker factors of the layers, and the basis of their eigenvectors."""

from typing import Any

import numpy as np

from skgnh.arrays import namespace
from skgnh.linalg import Curvature
from skgnh.network import MLP, densified
from skgnh.operators.gauss_newton import GaussNewtonHessian
from skgnh.operators.mapped import MappedRoot
from skgnh.operators.random import key_of

Array = Any


def kronecker_factors(
    H: GaussNewtonHessian, n_probes: int | None = None, random_state: Any = None
) -> list[tuple[Array, Array]]:
    r"""Return the K-FAC factors of every layer.

    .. math:: \bar B_l = \sum_i B_{l,i}^T B_{l,i}, \qquad
              \bar A_l = \sum_i \frac{w_i}{\sum w} a_{l,i} a_{l,i}^T,

    so that the layer's block of H, without its ridge, is near
    :math:`\bar B_l \otimes \bar A_l`: O(n (width_out^2 r + width_in^2)) each.

    Parameters
    ----------
    H : GaussNewtonHessian
        The operator.
    n_probes : int, optional
        Where there are more roots than that, take this many output probes of each row;
        an operator of probes is taken as it is.
    random_state : int, Generator or RandomState, optional
        Seed of the probes.

    Returns
    -------
    list of (ndarray of shape (width_out, width_out), ndarray of shape (fan, fan))
    """
    xp, key = namespace(H.weights), 0 if n_probes is None else key_of(random_state)
    made, total = H.kronecker_sums(n_probes, key), float(xp.sum(H.weights)) or 1
    depth = len(H.network.shapes)
    return [(B, A / total) for B, A in zip(made[:depth], made[depth:], strict=True)]


class Rotation:
    r"""An orthogonal matrix whose first columns are given: ``Q = I - Y T Y^T``.

    The product of k Householder reflectors that take orthonormal vectors, up to signs,
    to the first unit vectors, in its compact WY form: k (n + k) numbers instead of
    :math:`n^2`.

    Parameters
    ----------
    vectors : ndarray of shape (n, k)
        Orthonormal; they and a basis of the rest are the columns of Q.
    """

    def __init__(self, vectors: Array):
        reflectors, tau = np.linalg.qr(vectors, mode="raw")
        Y = np.tril(reflectors.T, -1)
        np.fill_diagonal(Y, 1)
        self._Y = Y[:, tau != 0]
        inner = np.triu(self._Y.T @ self._Y)
        inner[np.diag_indices_from(inner)] /= 2
        self._T = np.linalg.inv(inner)

    @property
    def size(self) -> int:
        """Numbers it holds; of T, a triangle."""
        n, k = self._Y.shape
        return n * k + k * (k + 1) // 2

    def right(self, X: Array, transposed: bool = False) -> Array:
        """Return X Q, or X Q^T: O(n k) a row."""
        X, T, Y = densified(X), self._T.T if transposed else self._T, self._Y
        (n, k), rows = Y.shape, X.size // X.shape[-1]
        if (2 * n + k) * k > n**2 and rows > 4 * n:
            # One product instead of three, for many rows the cheaper.
            return X @ (np.eye(n, dtype=Y.dtype) - Y @ T @ Y.T)
        return X - ((X @ Y) @ T) @ Y.T


class KroneckerBasis:
    r"""The orthogonal basis of the K-FAC factors' leading eigenvectors.

    A layer's weights and biases become :math:`\Theta' = W^T \Theta V` with rotations W
    and V that begin with the leading eigenvectors of :math:`\bar B` and :math:`\bar A`,
    all but a share `tail` of the trace. A factor that is diagonal, as that of the
    outputs of a squared error, needs no rotation.

    The GNH in this basis has the structure it had before, with layer inputs
    :math:`a V` and carried-back roots :math:`B W`: its entries cost no more
    (:class:`RotatedHessian`), and it is nearer to diagonal (George et al., 2018).

    Parameters
    ----------
    hessian : GaussNewtonHessian
        Its factors cost O(n width^2), their eigenvectors O(width^3) a layer.
    tail : float, default=0.05
        Share of the trace whose eigenvectors are let go.
    n_probes : int, default=32
        Most output probes of each row for the factors.
    random_state : int, default=0
        Seed of the probes.

    Raises
    ------
    ValueError
        If tail is not in [0, 1).

    References
    ----------
    .. [1] T. George, C. Laurent, X. Bouthillier, N. Ballas, P. Vincent, "Fast
           approximate natural gradient descent in a Kronecker-factored eigenbasis",
           NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.operators import GaussNewtonHessian, KroneckerBasis
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(8, solver="lbfgs", alpha=1, max_iter=999, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> basis = KroneckerBasis(GaussNewtonHessian.from_estimator(mlp, X, y))
    >>> v = np.ones(67)
    >>> bool(np.allclose(basis.restore(basis.rotate(v)), v))
    True
    """

    def __init__(
        self,
        hessian: GaussNewtonHessian,
        tail: float = 0.05,
        n_probes: int = 32,
        random_state: int = 0,
    ):
        if not 0 <= tail < 1:
            raise ValueError(f"tail must be in [0, 1), got {tail}.")
        self.network: MLP = hessian.network
        self.rotations = [
            (_rotation(S, tail), _rotation(A, tail))
            for S, A in kronecker_factors(hessian, n_probes, random_state)
        ]
        if hessian.root.has_diagonal_outputs:
            # Whatever the probes say.
            self.rotations[-1] = (None, self.rotations[-1][1])

    @property
    def size(self) -> int:
        """Numbers it holds."""
        return sum(Q.size for pair in self.rotations for Q in pair if Q is not None)

    def rotate(self, X: Array) -> Array:
        """Return the coordinates in this basis of parameters (P,) or (P, k)."""
        return self._apply(X, False)

    def restore(self, X: Array) -> Array:
        """Return the parameters (P,) or (P, k) of coordinates in this basis."""
        return self._apply(X, True)

    def _apply(self, X: Array, back: bool) -> Array:
        X = np.asarray(X)
        out = np.array(X.T, np.result_type(X, np.float32), order="C")
        for layer, (W, V) in zip(self.network.unpack(out), self.rotations, strict=True):
            if V is not None:
                layer[...] = V.right(layer, back)
            if W is not None:
                turned = W.right(np.swapaxes(layer, -1, -2), back)
                layer[...] = np.swapaxes(turned, -1, -2)
        return out.T


def _rotation(S: Array, tail: float) -> Rotation | None:
    """Return leading eigenvectors; None if the unit vectors are eigenvectors."""
    own = S.diagonal()
    if np.abs(S - np.diag(own)).max() <= 1e-6 * np.abs(own).max():
        return None
    values, vectors = np.linalg.eigh(S)
    left = np.cumsum(np.maximum(values, 0))
    k = np.count_nonzero(left > tail * left[-1])
    return Rotation(vectors[:, : -k - 1 : -1])


class RotatedHessian(Curvature):
    """``Q^T H Q`` in a Kronecker basis Q, with the entries of a GNH.

    Parameters
    ----------
    hessian : GaussNewtonHessian
        H; its ridge must be the same for all weights and for all biases of a layer.
    basis : KroneckerBasis
        Q.

    Raises
    ------
    ValueError
        If the ridge differs among the weights or the biases of a layer.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.operators import GaussNewtonHessian, KroneckerBasis, RotatedHessian
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(8, solver="lbfgs", alpha=1, max_iter=999, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(mlp, X, y)
    >>> rotated = RotatedHessian(H, KroneckerBasis(H))
    >>> bool(np.isclose(rotated.diagonal().sum(), H.trace()))
    True
    >>> bool(np.linalg.norm(rotated.diagonal()) > np.linalg.norm(H.diagonal()))
    True
    """

    offers = Curvature.offers | {"entries"}

    def __init__(self, hessian: GaussNewtonHessian, basis: KroneckerBasis):
        H = hessian
        super().__init__(H.dtype, H.shape)
        self.hessian, self.basis = H, basis
        # In a layer the ridge is w I + (b - w) v v^T for every neuron, with v the
        # coordinates of the bias; w I stays what it is.
        ridge, self._gap, self._bias = np.empty((3, *H.ridge.shape), H.dtype)
        layers = (H.network.unpack(x) for x in (H.ridge, ridge, self._gap, self._bias))
        for (given, own, gap, bias), (_, V) in zip(
            zip(*layers, strict=True), basis.rotations, strict=True
        ):
            w, b = given[0, 0], given[0, -1]
            if (given[:, :-1] != w).any() or (given[:, -1] != b).any():
                raise ValueError("A rotation needs one ridge for a layer's weights.")
            v = np.eye(given.shape[1], dtype=H.dtype)[-1:]
            own[...], gap[...] = w, b - w
            bias[...] = v if V is None else V.right(v)
        self._data = GaussNewtonHessian.of(MappedRoot(H.root, basis), ridge)

    @property
    def costs(self) -> tuple[float, float]:
        """Those of H: the rotations take little beside them."""
        return self.hessian.costs

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V, dtype=self.dtype)
        return self.basis.rotate(self.hessian @ self.basis.restore(V))

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block ``(Q^T H Q)[rows, columns]``; see GaussNewtonHessian."""
        return self.entry_blocks([(rows, columns)])[0]

    def entry_blocks(self, pairs: list[tuple[Array, Array]]) -> list[Array]:
        """Return several blocks in one sweep; see GaussNewtonHessian."""
        out = self._data.entry_blocks(pairs)
        for block, (rows, columns) in zip(out, pairs, strict=True):
            (depth, mu, _), (other, mu_, _) = map(
                self._data.network.locate, (rows, columns)
            )
            same = (depth[:, None] == other) & (mu[:, None] == mu_)
            left = self._gap[rows] * self._bias[rows]
            block += same * left[:, None] * self._bias[columns]
        return out

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal of ``Q^T H Q``, exactly."""
        return self._data.diagonal() + self._gap * self._bias**2
