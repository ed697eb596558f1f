"""A Gauss-Newton Hessian in parameters of other units."""

from typing import Any

import numpy as np
from scipy import sparse

from skgnh.operators.layer_factors import LayerFactors
from skgnh.operators.root import GaussNewtonRoot

Array = Any


class ScaledRoot(GaussNewtonRoot):
    """The root ``J_S diag(d)``, for d that is the same for all neurons of a layer.

    Parameters
    ----------
    root : GaussNewtonRoot
        J_S.
    d : ndarray of shape (P,)
        Scale of each parameter, see :func:`by_inputs`.
    """

    def __init__(self, root: GaussNewtonRoot, d: Array):
        super().__init__(root.linearization, root.loss, root.weights, root.probes)
        self._d = d.astype(root.dtype, copy=False)

    def make_factors(self, rows: slice, diagonal: bool = False) -> LayerFactors:
        """Return ``a_l d_l`` and ``B_l`` of some rows."""
        inputs, back = super().make_factors(rows, diagonal)
        scales = (layer[0] for layer in self.network.unpack(self._d))
        return LayerFactors(
            [_scaled(a, d) for a, d in zip(inputs, scales, strict=True)], back
        )

    def forward(self, rows: slice, trace: Any, directions: Array) -> Array:
        """Return ``J_S diag(d) v`` for k directions (k, P), of shape (n, k, r)."""
        return super().forward(rows, trace, self._d * directions)

    def backward(self, rows: slice, trace: Any, u: Array) -> Array:
        """Return ``diag(d) J_S^T u`` for k vectors (n, k, r), of shape (k, P)."""
        return self._d * super().backward(rows, trace, u)

    def take(self, samples: Array) -> "ScaledRoot":
        """Return the root over some of the samples."""
        return ScaledRoot(super().take(samples), self._d)


def by_inputs(network: Any, d: Array) -> bool:
    """Say whether a vector of parameters is the same for all neurons of a layer."""
    return all(np.array_equal(x, x[:1].repeat(len(x), 0)) for x in network.unpack(d))


def _scaled(a: Array, d: Array) -> Array:
    return (a @ sparse.diags_array(d)).tocsr() if sparse.issparse(a) else a * d
