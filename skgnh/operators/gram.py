"""Gram matrices of Jacobians, layer by layer as products of entries."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from skgnh.network import densified

Array = Any


def hadamard_grams(
    left: Iterable[Array], right: Iterable[Array], n: int
) -> tuple[Array, Array]:
    """Return ``sum_l (A_l A_l^T) * (B_l B_l^T)`` and ``sum_l B_l B_l^T``.

    A_l has n rows, without the ones, B_l has n r of them.
    """
    weights = biases = None
    for a, B in zip(left, right, strict=True):
        outer = B @ B.T
        biases = outer.copy() if biases is None else np.add(biases, outer, out=biases)
        rows = len(outer)
        outer = outer.reshape(n, rows // n, n, rows // n)
        outer *= densified(a @ a.T)[:, None, :, None]
        outer = outer.reshape(rows, rows)
        weights = outer if weights is None else np.add(weights, outer, out=weights)
    return weights, biases
