"""Entries of a GNH with many outputs, from tables over pairs of neurons."""

from typing import Any

import numpy as np

from skgnh.memory import fits
from skgnh.network import densified

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
        for rows, inputs, back in root.make_factors():
            for kept, a in zip(self._inputs, inputs, strict=True):
                kept[:, rows] = densified(a).T
            # The root of the outputs is diagonal.
            scale = np.einsum("ikk->ik", back[last])
            self._outputs[:, rows] = (scale**2).T
            for (i, j), table in self._tables.items():
                if j == last:
                    block = np.swapaxes(back[i], 1, 2) * scale[:, None, :]
                else:
                    block = np.swapaxes(back[i], 1, 2) @ back[j]
                table[:, :, rows] = np.moveaxis(block, 0, 2)

    @staticmethod
    def suit(root: Any) -> bool:
        """Say whether the tables pay and fit half the working memory."""
        if root.n_roots <= _MANY_ROOTS or root.probes is not None:
            return False
        *hidden, d = root.network.layer_units[1:]
        numbers = sum(hidden) * (sum(hidden) + d) + d + sum(root.network.layer_units)
        size = root.linearization.n_rows * numbers * root.dtype.itemsize
        return root.loss.has_diagonal_root and fits(2 * size)

    def block(self, rows: Array, columns: Array) -> Array:
        """Return the block of the data's part: O(n |columns| (neurons + |rows|))."""
        out = np.zeros((len(rows), len(columns)), self._root.dtype)
        left, right = self._root.locate(rows), self._root.locate(columns)
        for j in np.unique(right[0]):
            at = np.flatnonzero(right[0] == j)
            mu_j, a_j = right[1][at], self._inputs[j][right[2][at]]
            for i, mu in sorted(
                {*zip(left[0].tolist(), left[1].tolist(), strict=True)}
            ):
                here = np.flatnonzero((left[0] == i) & (left[1] == mu))
                a_i = self._inputs[i][left[2][here]]
                if i == j == self._last:
                    same = mu_j == mu
                    scaled = a_j[same] * self._outputs[mu]
                    out[np.ix_(here, at[same])] = a_i @ scaled.T
                elif i <= j:
                    out[np.ix_(here, at)] = a_i @ (self._tables[i, j][mu, mu_j] * a_j).T
                else:
                    out[np.ix_(here, at)] = a_i @ (self._tables[j, i][mu_j, mu] * a_j).T
        return out
