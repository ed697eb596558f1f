r"""Blocks of :math:`J_S^T J_S` from the layer inputs a and the carried-back roots B.

An entry is :math:`\sum_i a_{i\nu} c_{\mu\mu'}[i] a_{i\nu'}` with
:math:`c_{\mu\mu'}[i] = \sum_k B_{ik\mu} B_{ik\mu'}`. Where many indices share neurons,
c is taken once for each pair of neurons, and the r roots are gone before the matrix
product; where few do, the product of the columns of J_S is what takes least.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

Array = Any

# Operations of a matrix product in the time of one on the elements of an array.
_ELEMENTWISE = 16


class Part(NamedTuple):
    """Those of the indices that lie in one layer."""

    layer: int
    at: Array
    """Where they stand in the index."""
    nu: Array
    """Their input neurons."""
    neurons: Array
    """The output neurons among them, each once."""
    which: Array
    """Which of these is each index's."""


def parts(root: Any, index: Array) -> list[Part]:
    """Return an index of parameters layer by layer."""
    depth, mu, nu = root.locate(index)
    out = []
    for layer in np.unique(depth).tolist():
        at = np.flatnonzero(depth == layer)
        neurons, which = np.unique(mu[at], return_inverse=True)
        out.append(Part(layer, at, nu[at], neurons, which))
    return out


def sides(root: Any, rows: Array, columns: Array) -> tuple[list[Part], list[Part]]:
    """Return both indices of a block by layer; one for both if they are the same."""
    left = parts(root, rows)
    return left, left if np.array_equal(rows, columns) else parts(root, columns)


def by_columns(inputs: list, back: list, left: Part, right: Part) -> Array:
    """Return the block of two parts as a product of columns of J_S.

    The columns of an index are made once where it is both parts.
    """
    columns = _columns(inputs, back, left)
    other = columns if right is left else _columns(inputs, back, right)
    return columns @ other.T


def by_neurons(inputs: list, left: Part, right: Part, pairs: Callable) -> Array:
    """Return the block of two parts, one output neuron of the left after the other.

    ``pairs(i, mu, j, neurons)`` gives c for one neuron and several, of shape
    (neurons, n).
    """
    out = np.empty((len(left.nu), len(right.nu)), inputs[0].dtype)
    a = _rows(inputs[right.layer], right.nu)
    for k, mu in enumerate(left.neurons):
        here = left.which == k
        c = pairs(left.layer, mu, right.layer, right.neurons)
        scaled = (c if len(c) == 1 else c[right.which]) * a
        out[here] = _rows(inputs[left.layer], left.nu[here]) @ scaled.T
    return out


def block(inputs: list, back: list, left: list[Part], right: list[Part]) -> Array:
    """Return the block of two indices over some rows, each part the cheaper way."""
    r = back[0].shape[1]

    def pairs(i, mu, j, neurons):
        return (back[j].T[neurons] * back[i].T[mu]).sum(axis=1)

    def made(x, y):
        k, m, p, q = len(x.nu), len(y.nu), len(x.neurons), len(y.neurons)
        products = (r - 1) * k * m + _ELEMENTWISE * r * (k + m * (x is not y))
        if products < _ELEMENTWISE * (r * p * q + min(p * m, q * k)):
            return by_columns(inputs, back, x, y)
        if p * m <= q * k:
            return by_neurons(inputs, x, y, pairs)
        return by_neurons(inputs, y, x, pairs).T

    return assemble(left, right, made, inputs[0].dtype)


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


def _columns(inputs: list, back: list, part: Part) -> Array:
    """Return columns of J_S as rows, of shape (k, r n)."""
    out = back[part.layer].T[part.neurons[part.which]]
    out *= _rows(inputs[part.layer], part.nu)[:, None, :]
    return out.reshape(len(out), -1)


def _rows(a: Array, nu: Array) -> Array:
    """Return input neurons as rows, of shape (k, n)."""
    return a[:, nu].toarray().T if sparse.issparse(a) else a.T[nu]
