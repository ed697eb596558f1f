"""Entries of a GNH with many outputs, from tables over pairs of neurons."""

from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from skgnh.memory import fits
from skgnh.network import MLP, densified
from skgnh.operators.blocks import assemble, by_neurons
from skgnh.operators.layer_factors import LayerFactors, Part

Array = Any

# With more roots than this their sum is worth taking once, for every pair of neurons.
_MANY_ROOTS = 32


class PairTables:
    r"""Inner products of carried-back roots for every sample and pair of neurons.

    .. math:: T_{\mu\mu'}[i] = \langle B_i[:, \mu], B_i[:, \mu'] \rangle, \qquad
              H_{(\mu\nu),(\mu'\nu')} = \sum_i a_i[\nu]\, T_{\mu\mu'}[i]\, a_i[\nu']

    so that an entry costs O(n) whatever the number r of roots (Fairbank and Alonso,
    2012). Between output neurons T is the loss's curvature, which is diagonal where
    the loss has a diagonal root; between hidden and output neurons it is B itself.

    Made by r backward passes; O(n w (w + d)) numbers for w hidden neurons.

    Parameters
    ----------
    network : MLP
        The network.
    arrays : list of ndarray
        What :meth:`arrays` returns, of some rows or joined over many.
    """

    def __init__(self, network: MLP, arrays: list[Array]):
        # An entry reads neurons, and of them all rows.
        tables = [np.asfortranarray(x).T for x in arrays]
        n_layers = len(network.shapes)
        self._inputs, self._last = tables[:n_layers], n_layers - 1
        pairs = combinations_with_replacement(range(n_layers), 2)
        self._tables = dict(zip(pairs, tables[n_layers:], strict=True))

    @staticmethod
    def arrays(rows: slice, factors: LayerFactors) -> list[Array]:
        """Return the inputs (n, fan) of all layers and T (n, w', w) of all pairs.

        That of the last layer with itself is its diagonal (n, d).
        """
        every, n_layers = slice(None), len(factors.inputs)
        pairs = combinations_with_replacement(range(n_layers), 2)
        made = [np.swapaxes(factors.pairs(i, every, j, every), 1, -1) for i, j in pairs]
        return [*map(densified, factors.inputs), *made]

    @staticmethod
    def pay(root: Any) -> bool:
        """Say whether there are so many roots that tables spare work."""
        return root.n_roots > _MANY_ROOTS and root.has_diagonal_outputs

    @staticmethod
    def numbers(root: Any) -> int:
        """Return how many numbers of a row are made and held."""
        *hidden, d = root.network.layer_units[1:]
        held = sum(hidden) * (sum(hidden) + d) + d + sum(root.network.layer_units)
        return 2 * held

    @classmethod
    def suit(cls, root: Any) -> bool:
        """Say whether the tables pay and those of all rows fit."""
        n = root.linearization.n_rows
        return cls.pay(root) and fits(n * cls.numbers(root) * root.dtype.itemsize)

    @classmethod
    def of(cls, root: Any) -> "PairTables":
        """Return the tables of all rows of a root."""
        walk = root.walk_anew(diagonal=True)
        arrays = root.linearization.collect(cls.arrays, *walk, order="F")
        return cls(root.network, arrays)

    def diagonal(self) -> Array:
        """Return the diagonal of the data's part: O(n P)."""
        out = []
        for depth, a in enumerate(self._inputs):
            own = self._tables[depth, depth]
            if own.ndim == 3:
                own = np.einsum("iij->ij", own)
            out.append((own @ (a**2).T).ravel())
        return np.concatenate(out)

    def block(self, left: list[Part], right: list[Part]) -> Array:
        """Return the block of the data's part.

        O(n |rows| |columns|) in products, and n times the neurons of one side for each
        index of the other.
        """
        return assemble(left, right, self._block, self._inputs[0].dtype)

    def _block(self, x: Part, y: Part) -> Array:
        if x.layer == y.layer == self._last:
            return self._diagonal(x, y)
        return by_neurons(self, x, y)

    def input_rows(self, layer: int, nu: Array) -> Array:
        """Return inputs of some neurons, see :meth:`LayerFactors.input_rows`."""
        return self._inputs[layer][nu]

    def neuron_pairs(self, i: int, mu: int, j: int, neurons: Array) -> Array:
        """Return T of one neuron and several, see :class:`LayerFactors`."""
        if i <= j:
            return self._tables[i, j][mu, neurons]
        return self._tables[j, i][neurons, mu]

    def _diagonal(self, x: Part, y: Part) -> Array:
        """Return a block of output neurons, each coupled with itself alone."""
        a, own = self._inputs[-1], self._tables[self._last, self._last]
        out = np.zeros((len(x.at), len(y.at)), a.dtype)
        for mu in np.intersect1d(x.neurons, y.neurons):
            here, there = (
                np.flatnonzero(part.neurons[part.which] == mu) for part in (x, y)
            )
            scaled = a[y.nu[there]] * own[mu]
            out[np.ix_(here, there)] = a[x.nu[here]] @ scaled.T
        return out
