"""Entries of a GNH with many outputs, from tables over pairs of neurons."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from skgnh.memory import slices, working_memory
from skgnh.network import densified
from skgnh.operators.blocks import Part, assemble, by_neurons

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
    """

    def __init__(self, root: Any):
        self._root = root
        widths = root.network.layer_units[1:]
        n, last = root.linearization.n_rows, len(widths) - 1
        self._last = last
        self._inputs = [
            np.empty((fan, n), root.dtype) for _, fan in root.network.shapes
        ]
        self._tables = {
            (i, j): np.empty((widths[i], widths[j], n), root.dtype)
            for i in range(last)
            for j in range(i, last + 1)
        }
        self._outputs = np.empty((widths[-1], n), root.dtype)
        for rows, inputs, (*back, scale) in root.make_factors(diagonal=True):
            for kept, a in zip(self._inputs, inputs, strict=True):
                kept[:, rows] = densified(a).T
            self._outputs[:, rows] = (scale**2).T
            for (i, j), table in self._tables.items():
                if j == last:
                    block = np.swapaxes(back[i], 1, 2) * scale[:, None, :]
                else:
                    block = np.swapaxes(back[i], 1, 2) @ back[j]
                table[:, :, rows] = np.moveaxis(block, 0, 2)

    @staticmethod
    def pay(root: Any) -> bool:
        """Say whether there are so many roots that tables spare work."""
        return root.n_roots > _MANY_ROOTS and root.has_diagonal_outputs

    @staticmethod
    def samples(root: Any) -> int:
        """Return of how many samples, at least one, they fit half the memory."""
        *hidden, d = root.network.layer_units[1:]
        numbers = sum(hidden) * (sum(hidden) + d) + d + sum(root.network.layer_units)
        return max(1, working_memory() // (2 * numbers * root.dtype.itemsize))

    @classmethod
    def suit(cls, root: Any) -> bool:
        """Say whether the tables pay and those of all samples fit."""
        return cls.pay(root) and root.linearization.n_rows <= cls.samples(root)

    @classmethod
    def of_parts(cls, root: Any) -> Iterator["PairTables"]:
        """Yield the tables of as many samples at a time as fit."""
        for part in slices(root.linearization.n_rows, cls.samples(root)):
            yield cls(root.take(np.arange(part.start, part.stop)))

    def diagonal(self) -> Array:
        """Return the diagonal of the data's part: O(n P)."""
        out = np.empty(self._root.shape[1], self._root.dtype)
        for depth, layer in enumerate(self._root.network.unpack(out)):
            if depth == self._last:
                own = self._outputs
            else:
                own = np.einsum("iij->ij", self._tables[depth, depth])
            np.matmul(own, (self._inputs[depth] ** 2).T, out=layer)
        return out

    def block(self, left: list[Part], right: list[Part]) -> Array:
        """Return the block of the data's part.

        O(n |rows| |columns|) in products, and n times the neurons of one side for each
        index of the other.
        """
        return assemble(left, right, self._block, self._root.dtype)

    def _block(self, x: Part, y: Part) -> Array:
        if x.layer == y.layer == self._last:
            return self._diagonal(x, y)
        inputs = [a.T for a in self._inputs]
        if len(x.neurons) * len(y.at) <= len(y.neurons) * len(x.at):
            return by_neurons(inputs, x, y, self._pairs)
        return by_neurons(inputs, y, x, self._pairs).T

    def _pairs(self, i: int, mu: int, j: int, neurons: Array) -> Array:
        if i <= j:
            return self._tables[i, j][mu, neurons]
        return self._tables[j, i][neurons, mu]

    def _diagonal(self, x: Part, y: Part) -> Array:
        """Return a block of output neurons, each coupled with itself alone."""
        out = np.zeros((len(x.at), len(y.at)), self._root.dtype)
        for mu in np.intersect1d(x.neurons, y.neurons):
            here, there = (
                np.flatnonzero(part.neurons[part.which] == mu) for part in (x, y)
            )
            scaled = self._inputs[-1][y.nu[there]] * self._outputs[mu]
            out[np.ix_(here, there)] = self._inputs[-1][x.nu[here]] @ scaled.T
        return out
