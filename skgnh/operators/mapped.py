"""The root of a Gauss-Newton Hessian in other coordinates of each layer."""

from typing import Any

from scipy import sparse

from skgnh.arrays import namespace
from skgnh.linalg import check_vector
from skgnh.linearization import Linearization
from skgnh.operators.layer_factors import LayerFactors
from skgnh.operators.root import GaussNewtonRoot
from skgnh.scaling import diagonal_matrix

Array = Any


class MappedRoot(GaussNewtonRoot):
    """The root ``J_S M`` for a map M of each layer's neurons and inputs.

    Parameters
    ----------
    root : GaussNewtonRoot
        J_S.
    basis : InputScales or KroneckerBasis
        M by ``restore``, M^T by ``rotate``, and layer by layer in ``rotations``: what
        is applied to B_l and to a_l, None for nothing.
    """

    def __init__(self, root: GaussNewtonRoot, basis: Any):
        super().__init__(root.linearization, root.loss, root.weights, root.probes)
        # It may be a mapped one itself.
        self._root, self.basis = root, basis

    @property
    def has_diagonal_outputs(self) -> bool:
        """Whether the last layer's roots are diagonal in these coordinates too."""
        own = self._root.has_diagonal_outputs
        return own and self.basis.rotations[-1][0] is None

    def make_factors(self, rows: slice, diagonal: bool = False) -> LayerFactors:
        """Return a_l and B_l of some rows in these coordinates."""
        inputs, back = self._root.make_factors(rows, diagonal)
        left, right = zip(*self.basis.rotations, strict=True)
        return LayerFactors(
            [_turn(a, V) for a, V in zip(inputs, right, strict=True)],
            [_turn(B, W) for B, W in zip(back, left, strict=True)],
        )

    def forward(self, rows: slice, trace: Any, directions: Array) -> Array:
        """Return J_S M v for k directions (k, P), of shape (n, k, r)."""
        return self._root.forward(rows, trace, self.basis.restore(directions.T).T)

    def backward(self, rows: slice, trace: Any, u: Array) -> Array:
        """Return M^T J_S^T u for k vectors (n, k, r), of shape (k, P)."""
        return self.basis.rotate(self._root.backward(rows, trace, u).T).T

    def of_layers(self, layers: tuple[int, ...]) -> None:
        """Return None: these are coordinates of all layers."""

    def over(
        self, linearization: Linearization, weights: Array, probes: Array | None
    ) -> "MappedRoot":
        """Return the root of other rows, weights or probes in these coordinates."""
        return MappedRoot(self._root.over(linearization, weights, probes), self.basis)


def _turn(X: Array, Q: Any) -> Array:
    return X if Q is None else Q.right(X)


class InputScales:
    """The map ``diag(d)``, for d that is the same for all neurons of a layer.

    Parameters
    ----------
    network : MLP
        The layers.
    d : ndarray of shape (P,)
        Scale of each parameter, see :func:`by_inputs`.
    """

    def __init__(self, network: Any, d: Array):
        self._d = d[:, None]
        self.rotations = [(None, _Scale(layer[0, :])) for layer in network.unpack(d)]

    def rotate(self, X: Array) -> Array:
        """Return ``diag(d) X``."""
        return self._d * X

    restore = rotate


class _Scale:
    def __init__(self, d: Array):
        self._d = d

    def right(self, X: Array) -> Array:
        """Return ``X diag(d)``, sparse where X is."""
        if sparse.issparse(X):
            return (X @ diagonal_matrix(self._d)).tocsr()
        return X * self._d


def by_inputs(network: Any, d: Array) -> bool:
    """Say whether a vector of parameters is the same for all neurons of a layer."""
    check_vector(d, "d", network.n_parameters)
    xp = namespace(d)
    return all(bool(xp.all(x == x[:1, :])) for x in network.unpack(d))
