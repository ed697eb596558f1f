r"""Blocks of :math:`J_S^T J_S` from the layer inputs a and the carried-back roots B.

An entry is :math:`\sum_i a_{i\nu} c_{\mu\mu'}[i] a_{i\nu'}` with
:math:`c_{\mu\mu'}[i] = \sum_k B_{ik\mu} B_{ik\mu'}`. Where many indices share neurons,
c is taken once for each pair of neurons, and the r roots are gone before the matrix
product; where few do, the product of the columns of J_S is what takes least.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from skgnh.network import MLP
from skgnh.operators.layer_factors import LayerFactors, Part, parts

Array = Any

# Operations of a matrix product in the time of one on the elements of an array.
_ELEMENTWISE = 16


def sides(network: MLP, rows: Array, columns: Array) -> tuple[list[Part], list[Part]]:
    """Return both indices of a block by layer; one for both if they are the same."""
    left = parts(network, rows)
    return left, left if np.array_equal(rows, columns) else parts(network, columns)


def by_columns(factors: LayerFactors, left: Part, right: Part) -> Array:
    """Return the block of two parts as a product of columns of J_S.

    The columns of an index are made once where it is both parts.
    """
    columns = factors.columns(left).reshape(len(left.at), -1)
    if right is left:
        return columns @ columns.T
    return columns @ factors.columns(right).reshape(len(right.at), -1).T


def by_neurons(factors: Any, left: Part, right: Part) -> Array:
    """Return the block of two parts, one output neuron of either after the other.

    Of the side whose neurons are fewer for the indices of the other. `factors` are
    :class:`LayerFactors`, or what answers their ``neuron_pairs`` and ``input_rows``.
    """
    if len(left.neurons) * len(right.at) > len(right.neurons) * len(left.at):
        return by_neurons(factors, right, left).T
    a = factors.input_rows(right.layer, right.nu)
    out = np.empty((len(left.at), len(right.at)), a.dtype)
    for k, mu in enumerate(left.neurons):
        here = left.which == k
        c = factors.neuron_pairs(left.layer, mu, right.layer, right.neurons)
        scaled = (c if len(c) == 1 else c[right.which]) * a
        out[here] = factors.input_rows(left.layer, left.nu[here]) @ scaled.T
    return out


def block(factors: LayerFactors, left: list[Part], right: list[Part]) -> Array:
    """Return the block of two indices over some rows, each part the cheaper way."""
    r = factors.n_roots

    def made(x, y):
        k, m, p, q = len(x.nu), len(y.nu), len(x.neurons), len(y.neurons)
        products = (r - 1) * k * m + _ELEMENTWISE * r * (k + m * (x is not y))
        if products < _ELEMENTWISE * (r * p * q + min(p * m, q * k)):
            return by_columns(factors, x, y)
        return by_neurons(factors, x, y)

    return assemble(left, right, made, factors.dtype)


def assemble(left: list[Part], right: list[Part], made: Callable, dtype: Any) -> Array:
    """Return the block whose pairs of parts ``made(x, y)`` gives."""
    if len(left) == len(right) == 1:
        return made(left[0], right[0])
    shape = tuple(sum(len(part.at) for part in side) for side in (left, right))
    out = np.empty(shape, dtype)
    for x in left:
        for y in right:
            out[np.ix_(x.at, y.at)] = made(x, y)
    return out
