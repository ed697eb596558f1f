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

from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import get_blas_funcs

from skgnh.memory import working_memory
from skgnh.network import densified

Array = Any

# Rows, and pairs of neurons on either side, in one matrix product: enough for the
# machine's rate, and little memory.
_ROWS, _PAIRS = 1024, 1024
# A symmetric set of pairs is taken in so many strips, but of no fewer pairs than this.
_STRIPS, _LEAST = 8, 128

# In operations of a large matrix product, the time of: one in a small product, one on
# an element, an element brought into its place, and a call.
_SMALL, _ELEMENT, _MOVED, _CALL = 4, 32, 60, 1e6


def add_curvature(root: Any, out: Array) -> None:
    """Add ``J_S^T J_S`` to a diagonal array, by the way that takes less.

    Parameters
    ----------
    root : GaussNewtonRoot
        The root, of shape (n r, P).
    out : ndarray of shape (P, P)
        C-ordered, zero beside its diagonal.
    """
    if is_by_neurons(root):
        add_by_neurons(root, out)
    else:
        add_by_root(root, out)


def is_by_neurons(root: Any) -> bool:
    """Say whether pairs of neurons take less: one root has no sum to spare."""
    if root.n_roots == 1:
        return False
    return operations_by_neurons(root) < operations_by_root(root)


# ---- by the root ---------------------------------------------------------------------


def add_by_root(root: Any, out: Array) -> None:
    """Add ``J_S^T J_S``, one chunk of the rows of J_S after the other."""
    (syrk,) = get_blas_funcs(("syrk",), (out,))
    # NumPy takes one triangle of the first product too, and fills the other.
    ridge, blocks = out.diagonal().copy(), root.blocks()
    first = next(blocks)
    np.matmul(first.T, first, out=out)
    out.flat[:: len(out) + 1] += ridge
    done = True
    for block in blocks:
        done = False
        # BLAS sees both arrays transposed: its lower triangle is the upper one here.
        syrk(1, block.T, beta=1, c=out.T, lower=1, overwrite_c=1)
    if done:
        return
    for tile in _slices(len(out), 64):
        own = out[tile, tile]
        own[:] = np.triu(own) + np.triu(own, 1).T
        _copy(out[tile, tile.stop :].T, out[tile.stop :, tile])


def operations_by_root(root: Any) -> float:
    """Return what :func:`add_by_root` takes, in operations of a matrix product."""
    rows, P = root.shape
    return rows * P * (P + _ELEMENT) + _MOVED * P**2 / 2


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


def _layer_pairs(root: Any) -> list[_Pair]:
    shapes, last = root.network.shapes, len(root.network.shapes) - 1
    out = []
    for i, j in combinations_with_replacement(range(len(shapes)), 2):
        (width, fan), (other_width, other_fan) = shapes[i], shapes[j]
        diagonal = j == last and root.has_diagonal_outputs
        if i == last and diagonal:
            units = [(rows, rows) for rows in _slices(width, _PAIRS)]
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
    for rows in _slices(left, height):
        start = rows.start if symmetric else 0
        width = max(1, _PAIRS // height)
        out += [(rows, columns) for columns in _slices(right, width, start)]
    return out


def add_by_neurons(root: Any, out: Array) -> None:
    """Add ``J_S^T J_S``, the sums over the roots taken first."""
    offsets, shapes = root.network.offsets, root.network.shapes
    pairs = _layer_pairs(root)

    def block(i, j):
        # Axes are split only: a view, of shape (width, fan, width, fan).
        part = out[slice(*offsets[i : i + 2]), slice(*offsets[j : j + 2])]
        return part.reshape(*shapes[i], *shapes[j])

    numbers = 2 * _PAIRS + sum(root.n_roots * width + fan for width, fan in shapes)
    allowed = working_memory() // (4 * numbers * root.dtype.itemsize)
    for _, inputs, back in root.factors():
        for rows in _slices(len(back[0]), max(1, min(_ROWS, allowed))):
            a = [np.ascontiguousarray(densified(x[rows]).T) for x in inputs]
            B = [np.ascontiguousarray(x[rows]) for x in back]
            for pair in pairs:
                add = _add_outputs if pair.is_outputs else _add
                add(pair, a, B, block(pair.i, pair.j))
    for pair in pairs:
        if pair.is_outputs:
            _complete_outputs(pair, block(pair.i, pair.i))
        elif pair.i == pair.j:
            _complete(pair, block(pair.i, pair.i))
        else:
            i, j = (slice(*offsets[k : k + 2]) for k in (pair.i, pair.j))
            _copy(out[i, j].T, out[j, i])


def _add(pair: _Pair, a: list, B: list, block: Array) -> None:
    """Add some rows' part of the tiles of two layers."""
    left, right = np.swapaxes(B[pair.i], 1, 2), B[pair.j]
    scale = np.einsum("ikk->ik", right)[:, None] if pair.diagonal else None
    for mu, other in pair.units:
        if pair.diagonal:
            c = left[:, mu, other] * scale[..., other]
        else:
            c = left[:, mu] @ right[:, :, other]
        c = c.reshape(len(c), -1).T
        for nu, to in pair.fans:
            made = c @ _products(pair, a, nu, to).T
            into = block[mu, nu, other, to]
            into += made.reshape(np.take(into.shape, (0, 2, 1, 3))).swapaxes(1, 2)


def _add_outputs(pair: _Pair, a: list, B: list, block: Array) -> None:
    """Add some rows' part of the last layer, where c is diagonal."""
    squares = np.einsum("ikk->ki", B[pair.i]) ** 2
    block = np.einsum("mimj->mij", block)
    for mu, _ in pair.units:
        for nu, to in pair.fans:
            into = block[mu, nu, to]
            into += (squares[mu] @ _products(pair, a, nu, to).T).reshape(into.shape)


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
    """Return what :func:`add_by_neurons` takes, in operations of a matrix product."""
    n, r = root.linearization.n_rows, root.n_roots
    chunks = -(-n // _ROWS)
    total = _MOVED * root.shape[1] ** 2 / 2
    for pair in _layer_pairs(root):
        units, fans = (_count(tiles) for tiles in (pair.units, pair.fans))
        if pair.is_outputs:
            units = sum(mu.stop - mu.start for mu, _ in pair.units)
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
    for rows in _slices(len(source), 256):
        for columns in _slices(source.shape[1], 256):
            target[rows, columns] = source[rows, columns]


def _slices(stop: int, size: int, start: int = 0) -> list[slice]:
    """Return the slices of at most `size` that make up a range."""
    return [slice(k, min(k + size, stop)) for k in range(start, stop, size)]
