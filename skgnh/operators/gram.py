"""Gram matrices of Jacobians, layer by layer as products of entries."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from skgnh.arrays import copied, is_foreign, namespace, reshape
from skgnh.network import densified

Array = Any


def values_of(ridges: list[Array]) -> Array:
    """Return the different values of the ridge, falling."""
    xp = namespace(ridges[0])
    return np.array([float(v) for v in xp.unique_values(xp.concat(ridges))])[::-1]


def n_held(ridges: list[Array]) -> int:
    """Return how many Gram matrices are held while they are made, and factorised."""
    n_values = len(values_of(ridges))
    return 3 if n_values <= 2 else n_values + 2


def hadamard_grams(
    left: Iterable[Array], right: Iterable[Array], n: int, ridges: list[Array]
) -> list[Array]:
    """Return ``sum_l (A_lv A_lv^T) * (B_l B_l^T)`` for the values v of the ridge.

    A_l has n rows, the ones (or a multiple) last, B_l has n r of them; A_lv are the
    columns of A_l whose ridge, given for each layer, is v. In the order of
    :func:`values_of`.
    """
    found: dict[float, Array] = {}
    xp = namespace(ridges[0])
    for a, B, ridge in zip(left, right, ridges, strict=True):
        outer = B @ B.T
        rows, last = outer.shape[0], a.shape[1] - 1
        has_ones = bool(xp.all(densified(a[:, last:]) == 1))
        values = [float(v) for v in xp.unique_values(ridge)]
        groups = [(v, xp.nonzero(ridge == v)[0]) for v in values]
        # The last of a layer overwrites what they have in common; a bias alone, which
        # leaves it as it is, comes first.
        groups.sort(key=lambda group: -int(group[1][0]))
        for k, (value, columns) in enumerate(groups):
            part, is_bias = outer, int(columns[0]) == last
            if not (is_bias and has_ones):
                part = outer if k == len(groups) - 1 else copied(outer)
                some = a if columns.shape[0] > last else _columns(a, columns)
                by_sample = reshape(part, (n, rows // n, n, rows // n))
                by_sample *= densified(some @ some.T)[:, None, :, None]
            if value in found:
                found[value] += part
            else:
                found[value] = copied(part) if is_bias and has_ones else part
    return [found[value] for value in sorted(found, reverse=True)]


def _columns(a: Array, columns: Array) -> Array:
    return namespace(a).take(a, columns, axis=1) if is_foreign(a) else a[:, columns]
