r"""The Gauss-Newton Hessian as an array, by the cheaper of two ways.

By its root, :math:`J_S^T J_S` takes n r P^2 operations, one triangle. By pairs of
neurons (Fairbank and Alonso, 2012) the sum over the r roots is taken first,

.. math:: H_{(\mu\nu),(\mu'\nu')} = \sum_i c_{i,\mu\mu'}\, a_{i\nu} a_{i\nu'}, \qquad
          c_{i,\mu\mu'} = \sum_k B_{ik\mu} B_{ik\mu'},

and what is left is, for two layers, one product of a matrix of pairs of output neurons
with one of pairs of input neurons: 2 n P_l P_l' operations, whatever r. The block of
one layer is symmetric in both kinds of pairs, so that a quarter of it is enough:
n P_l^2 / 2.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import get_blas_funcs

from skgnh.arrays import is_foreign, reshape
from skgnh.memory import slices, working_memory
from skgnh.network import densified
from skgnh.operators.layer_factors import LayerFactors

Array = Any

# Rows, and pairs of neurons on either side, in one matrix product: enough for the
# machine's rate, and little memory.
_ROWS, _PAIRS = 1024, 1024
# Columns of J_S in one product, and inputs that make a loop over them worth its start.
_TILE, _INNER = 256, 32
# A symmetric set of pairs is taken in so many strips, but of no fewer pairs than this.
_STRIPS, _LEAST = 8, 128

# In operations of a large matrix product, the time of: one in a small product, one on
# an element, an element brought into its place, and a call.
_SMALL, _ELEMENT, _MOVED, _CALL = 4, 32, 60, 1e6


def curvature(root: Any) -> Array:
    """Return ``J_S^T J_S`` as an array of shape (P, P), by the way that takes less.

    Parameters
    ----------
    root : GaussNewtonRoot
        The root, of shape (n r, P).
    """
    if is_foreign(root.linearization.theta):
        return _plainly(root)
    return by_neurons(root) if is_by_neurons(root) else by_root(root)


def _plainly(root: Any) -> Array:
    """Return it by the root, as products of any namespace."""

    def part(rows, factors):
        J = factors.array()
        J = reshape(J, (-1, root.shape[1]))
        return [J.T @ J]

    return root.linearization.sum(part, *root.walk_anew(root.shape[1]))[0]


def is_by_neurons(root: Any) -> bool:
    """Say whether pairs of neurons take less than the root."""
    return operations_by_neurons(root) < operations_by_root(root)


# ---- by the root ---------------------------------------------------------------------


def by_root(root: Any) -> Array:
    """Return ``J_S^T J_S``, one chunk of the rows of J_S after the other."""
    P = root.shape[1]
    tiles, later_chunks = slices(P, _TILE), []
    (syrk,) = get_blas_funcs(("syrk",), dtype=root.dtype)

    def add(out, rows, factors):
        columns = _columns(factors)
        if rows.start:
            later_chunks.append(rows)
            # BLAS sees arrays in C order transposed: its lower triangle is the upper.
            is_c = columns.flags.c_contiguous
            a, trans = (columns.T, 1) if is_c else (columns, 0)
            syrk(1, a, beta=1, c=out.T, trans=trans, lower=1, overwrite_c=1)
            return
        for tile in tiles:
            own, later = columns[tile], columns[tile.stop :]
            # NumPy takes one triangle of this product, and fills the other.
            np.matmul(own, own.T, out=out[tile, tile])
            if len(later):
                np.matmul(own, later.T, out=out[tile, tile.stop :])

    out, walk = np.empty((P, P), root.dtype), root.walk_anew(P)
    root.linearization.accumulate(add, out, *walk)
    for tile in tiles:
        if later_chunks:
            own = out[tile, tile]
            np.copyto(own, own.T, where=np.tri(len(own), k=-1, dtype=bool))
        _copy(out[tile, tile.stop :].T, out[tile.stop :, tile])
    return out


def _columns(factors: LayerFactors) -> Array:
    """Return the columns of J_S as rows, of shape (P, r n).

    What makes them runs over the inputs of a neuron, or over the samples if few.
    """
    if min(a.shape[1] for a in factors.inputs) >= _INNER:
        block = factors.array()
        return block.reshape(-1, block.shape[2]).T
    block = factors.array("F").T
    return block.reshape(len(block), -1)


def operations_by_root(root: Any) -> float:
    """Return what :func:`by_root` takes, in operations of a matrix product."""
    rows, P = root.shape
    # One triangle is brought to the other in tiles, along the rows of either.
    return rows * P * (P + _ELEMENT) + _MOVED * P**2 / 6


# ---- by pairs of neurons -------------------------------------------------------------


class _Pair(NamedTuple):
    """Two layers, i <= j, and how their block is taken."""

    i: int
    j: int
    units: list
    """Tiles of pairs of output neurons: pairs of slices."""
    fans: list
    """Tiles of pairs of input neurons."""
    diagonal: bool
    """Whether the outputs of layer j have a diagonal curvature."""

    @property
    def is_outputs(self) -> bool:
        """Whether it is the last layer's own block, and c diagonal."""
        return self.diagonal and self.i == self.j

    @property
    def is_output_by_output(self) -> bool:
        """Whether outputs are so few that one product for each of them takes less."""
        return self.is_outputs and 2 * self.units[-1][0].stop <= self.fans[-1][0].stop


def _layer_pairs(shapes: Sequence, diagonal_outputs: bool) -> list[_Pair]:
    last, out = len(shapes) - 1, []
    for i, j in combinations_with_replacement(range(len(shapes)), 2):
        (width, fan), (other_width, other_fan) = shapes[i], shapes[j]
        diagonal = j == last and diagonal_outputs
        if i == last and diagonal:
            units = [(rows, rows) for rows in slices(width, _PAIRS)]
        else:
            units = _tiles(width, other_width, i == j)
        out.append(_Pair(i, j, units, _tiles(fan, other_fan, i == j), diagonal))
    return out


def _tiles(left: int, right: int, symmetric: bool) -> list[tuple[slice, slice]]:
    """Return tiles of at most _PAIRS pairs; if symmetric, those that tell the rest."""
    if symmetric:
        height = max(-(-left // _STRIPS), -(-_LEAST // left))
        height = min(height, int(_PAIRS**0.5))
    else:
        height = max(1, _PAIRS // right)
    out = []
    for rows in slices(left, height):
        start = rows.start if symmetric else 0
        width = max(1, _PAIRS // height)
        out += [(rows, columns) for columns in slices(right, width, start)]
    return out


def by_neurons(root: Any) -> Array:
    """Return ``J_S^T J_S``, the sums over the roots taken first."""
    offsets, shapes = root.network.offsets, root.network.shapes
    out = np.zeros((root.shape[1],) * 2, root.dtype)
    pairs = _layer_pairs(shapes, root.has_diagonal_outputs)

    def block(i, j):
        # Axes are split only: a view, of shape (width, fan, width, fan).
        part = out[slice(*offsets[i : i + 2]), slice(*offsets[j : j + 2])]
        return part.reshape(*shapes[i], *shapes[j])

    numbers = 2 * _PAIRS + sum(root.n_roots * width + fan for width, fan in shapes)
    allowed = working_memory() // (4 * numbers * root.dtype.itemsize)

    def add(out, rows, factors):
        if root.has_diagonal_outputs:
            factors = factors.compact()
        for tile in slices(factors.n_rows, max(1, min(_ROWS, allowed))):
            a = [np.ascontiguousarray(densified(x[tile]).T) for x in factors.inputs]
            back = [np.ascontiguousarray(B[tile]) for B in factors.back]
            for pair in pairs:
                add_pair = _add_outputs if pair.is_outputs else _add
                add_pair(pair, LayerFactors(a, back), block(pair.i, pair.j))

    root.linearization.accumulate(add, out, *root.walk(compact=True))
    for pair in pairs:
        if pair.is_outputs:
            _complete_outputs(pair, block(pair.i, pair.i))
        elif pair.i == pair.j:
            _complete(pair, block(pair.i, pair.i))
        else:
            i, j = (slice(*offsets[k : k + 2]) for k in (pair.i, pair.j))
            _copy(out[i, j].T, out[j, i])
    return out


def _add(pair: _Pair, factors: LayerFactors, block: Array) -> None:
    """Add some rows' part of the tiles of two layers.

    The inputs of these factors lie by neuron, (width_in + 1, n).
    """
    for mu, other in pair.units:
        c = factors.pairs(pair.i, mu, pair.j, other)
        c = c.reshape(len(c), -1).T
        for nu, to in pair.fans:
            made = c @ _products(pair, factors.inputs, nu, to).T
            into = block[mu, nu, other, to]
            into += made.reshape(np.take(into.shape, (0, 2, 1, 3))).swapaxes(1, 2)


def _add_outputs(pair: _Pair, factors: LayerFactors, block: Array) -> None:
    """Add some rows' part of the last layer, where c is diagonal."""
    a, scale = factors.inputs, factors.back[pair.i].T
    block = np.einsum("mimj->mij", block)
    if pair.is_output_by_output:
        for into, roots in zip(block, scale, strict=True):
            columns = a[pair.i] * roots
            into += columns @ columns.T
        return
    for mu, _ in pair.units:
        c = factors.pairs(pair.i, mu, pair.i, mu).T
        for nu, to in pair.fans:
            into = block[mu, nu, to]
            into += (c @ _products(pair, a, nu, to).T).reshape(into.shape)


def _products(pair: _Pair, a: list, nu: slice, to: slice) -> Array:
    """Return the products of a tile's pairs of input neurons, of shape (pairs, n)."""
    products = a[pair.i][nu, None] * a[pair.j][to]
    return products.reshape(-1, products.shape[-1])


def _complete(pair: _Pair, block: Array) -> None:
    """Fill the block of one layer from the tiles that tell the rest."""
    for nu, to in pair.fans:
        later = slice(max(to.start, nu.stop), to.stop)
        for mu, other in pair.units:
            block[mu, later, other, nu] = block[mu, nu, other, later].swapaxes(1, 3)
    for mu, other in pair.units:
        later = slice(max(other.start, mu.stop), other.stop)
        block[later, :, mu] = block[mu, :, later].swapaxes(0, 2)


def _complete_outputs(pair: _Pair, block: Array) -> None:
    """Fill the blocks of the outputs, each coupled with itself alone."""
    block = np.einsum("mimj->mij", block)
    for nu, to in pair.fans:
        later = slice(max(to.start, nu.stop), to.stop)
        block[:, later, nu] = block[:, nu, later].swapaxes(1, 2)


def operations_by_neurons(root: Any) -> float:
    """Return what :func:`by_neurons` takes, in operations of a matrix product."""
    shapes, n = tuple(root.network.shapes), root.linearization.n_rows
    return _operations(shapes, root.has_diagonal_outputs, n, root.n_roots)


@lru_cache  # A training asks the same at every step.
def _operations(shapes: tuple, diagonal_outputs: bool, n: int, r: int) -> float:
    chunks = -(-n // _ROWS)
    total = _MOVED * sum(width * fan for width, fan in shapes) ** 2 / 2
    for pair in _layer_pairs(shapes, diagonal_outputs):
        units, fans = (_count(tiles) for tiles in (pair.units, pair.fans))
        if pair.is_outputs:
            units, fan = shapes[pair.i]
        if pair.is_output_by_output:
            total += units * (n * fan * (fan + _ELEMENT) + chunks * _CALL)
            continue
        inner = _ELEMENT if pair.diagonal else 2 * _SMALL * r
        total += n * (2 * units * fans + inner * units)
        total += n * _ELEMENT * fans * len(pair.units)
        total += chunks * _MOVED * units * fans
        total += chunks * _CALL * len(pair.units) * (1 + len(pair.fans))
    return total


def _count(tiles: list[tuple[slice, slice]]) -> int:
    return sum((x.stop - x.start) * (y.stop - y.start) for x, y in tiles)


def _copy(source: Array, target: Array) -> None:
    """Copy an array in tiles that stay in cache, whatever the order of either."""
    for rows in slices(len(source), 256):
        for columns in slices(source.shape[1], 256):
            target[rows, columns] = source[rows, columns]
