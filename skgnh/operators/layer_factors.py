r"""The two lists that hold some rows of the root :math:`J_S`, and their algebra."""

from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import row_norms

from skgnh.arrays import eye, is_foreign, namespace, pick, reshape
from skgnh.network import MLP, densified
from skgnh.operators.gram import hadamard_grams

Array = Any


class Part(NamedTuple):
    """Those of some indices of parameters that lie in one layer."""

    layer: int
    at: Array
    """Where they stand in the index."""
    nu: Array
    """Their input neurons."""
    neurons: Array
    """The output neurons among them, each once."""
    which: Array
    """Which of these is each index's."""


def parts(network: MLP, index: Array) -> list[Part]:
    """Return an index of parameters layer by layer.

    Raises
    ------
    ValueError
        See :meth:`skgnh.network.MLP.locate`.
    """
    depth, mu, nu = network.locate(index)
    out = []
    for layer in np.unique(depth).tolist():
        at = np.flatnonzero(depth == layer)
        neurons, which = np.unique(mu[at], return_inverse=True)
        out.append(Part(layer, at, nu[at], neurons, which))
    return out


class LayerFactors(NamedTuple):
    r"""Layer inputs and carried-back roots of n rows: all that is known of them.

    In the columns of layer l, from neuron nu to neuron mu, the k-th root of row i is

    .. math:: J_{(i,k),(l,\mu,\nu)} = a_l[i, \nu]\, B_l[i, k, \mu] .

    The roots of the last layer may be diagonal, each output's its own, and then be held
    as their diagonals: of :math:`d^2` numbers a row the others are zeros.
    """

    inputs: list
    """a_l of each layer, of shape (n, width_in + 1); may be sparse."""
    back: list
    """B_l of each layer, of shape (n, r, width_out); the last (n, d) if diagonal."""

    @property
    def n_rows(self) -> int:
        """Number of samples n."""
        return self.back[0].shape[0]

    @property
    def n_roots(self) -> int:
        """Rows r of the root for each sample."""
        return self.back[-1].shape[1]

    @property
    def dtype(self) -> Any:
        """That of the roots."""
        return self.back[0].dtype

    def rows(self, rows: slice) -> "LayerFactors":
        """Return those of some rows, as views where they are dense."""
        if rows == slice(0, self.n_rows):
            return self
        return LayerFactors(*([pick(x, rows) for x in own] for own in self))

    def pick(self, at: Array, roots: Array) -> "LayerFactors":
        """Return rows (at, roots) of J_S, each as a sample of one root."""
        inputs = [a[at] for a in self.inputs]
        back = [self.roots(layer)[at, roots, None] for layer in range(len(inputs))]
        return LayerFactors(inputs, back)

    def compact(self) -> "LayerFactors":
        """Return these with the roots of the last layer, diagonal, as diagonals."""
        last = self.back[-1]
        if last.ndim == 3:
            last = namespace(last).linalg.diagonal(last)
        return LayerFactors(self.inputs, [*self.back[:-1], last])

    def roots(self, layer: int) -> Array:
        """Return B_l of shape (n, r, width_out), a diagonal written out."""
        B = self.back[layer]
        return B if B.ndim == 3 else B[:, :, None] * eye(B.shape[1], B)

    # ---- the root itself ------------------------------------------------------------

    def columns(self, part: Part) -> Array:
        """Return columns of J_S of one layer as rows, of shape (k, r, n)."""
        out = self.roots(part.layer).T[part.neurons[part.which]]
        out *= self.input_rows(part.layer, part.nu)[:, None, :]
        return out

    def input_rows(self, layer: int, nu: Array) -> Array:
        """Return inputs a_l of some neurons as rows, of shape (k, n)."""
        a = self.inputs[layer]
        return a[:, nu].toarray().T if sparse.issparse(a) else a.T[nu]

    def array(self, order: Literal["C", "F"] = "C") -> Array:
        """Return J_S of these rows, of shape (n, r, P).

        In 'C' order what makes it runs over the inputs of a neuron, in 'F' order, that
        of :meth:`columns`, over the samples.
        """
        if is_foreign(self.back[0]):
            return self._joined()
        shape = self.n_rows, self.n_roots
        sizes = [B.shape[-1] * a.shape[1] for a, B in zip(*self, strict=True)]
        out = np.empty((*shape, sum(sizes)), self.dtype, order)
        stops = np.cumsum(sizes)
        for layer, (size, stop) in enumerate(zip(sizes, stops, strict=True)):
            a = np.asarray(densified(self.inputs[layer]), order=order)
            B = np.asarray(self.roots(layer), order=order)
            # Axes are split only: a view.
            own = out[..., stop - size : stop].reshape(*B.shape, a.shape[1])
            np.multiply(B[..., None], a[:, None, None, :], out=own)
        return out

    def _joined(self) -> Array:
        """Return what :meth:`array` does, by functions of any namespace."""
        xp, shape = namespace(self.back[0]), (self.n_rows, self.n_roots, -1)
        layers = zip(self.inputs, map(self.roots, range(len(self.back))), strict=True)
        parts = [B[..., None] * a[:, None, None, :] for a, B in layers]
        return xp.concat([reshape(part, shape) for part in parts], axis=2)

    # ---- sums over roots or rows ----------------------------------------------------

    def column_norms(self) -> Array:
        """Return the squared norm of every column of J_S, of shape (P,)."""
        out, xp = [], namespace(self.back[0])
        for a, B in zip(*self, strict=True):
            squares = a.power(2) if sparse.issparse(a) else a**2
            own = B**2 if B.ndim == 2 else xp.sum(B**2, axis=1)
            out.append(reshape(own.T @ squares, (-1,)))
        return xp.concat(out)

    def row_norms(self) -> Array:
        """Return the squared norm of every row of J_S, of shape (n, r)."""
        xp, out = namespace(self.back[0]), 0.0
        for a, B in zip(*self, strict=True):
            own = B**2 if B.ndim == 2 else xp.sum(B**2, axis=2)
            out = out + _row_norms(a)[:, None] * own
        return out

    def pairs(self, i: int, mu: Any, j: int, other: Any) -> Array:
        r"""Return :math:`c_{\mu\mu'} = \sum_k B_i[k, \mu] B_j[k, \mu']` of every row.

        For slices of the output neurons of layers i <= j, of shape (n, p, q): what is
        left of the roots in :math:`J_S^T J_S`, whose entries are
        :math:`\sum_n a_i[\nu]\, c_{\mu\mu'}\, a_j[\nu']` (Fairbank and Alonso, 2012).
        Of two diagonal layers, the diagonal (n, p) of c.
        """
        left, right = self.back[i][..., mu], self.back[j]
        if right.ndim == 3:
            return np.swapaxes(left, 1, 2) @ right[..., other]
        if left.ndim == 2:
            return left * right[:, other]
        return np.swapaxes(left[:, other], 1, 2) * right[:, None, other]

    def neuron_pairs(self, i: int, mu: int, j: int, neurons: Array) -> Array:
        """Return c of one neuron and several, (q, n): for lists by neuron."""
        return (self.roots(j).T[neurons] * self.roots(i).T[mu]).sum(axis=1)

    def grams(self, ridges: list[Array], scales: list[Array] | None = None) -> list:
        """Return the parts of ``J_S diag(scale) J_S^T`` by the ridge of the columns.

        Layer by layer: O((n r)^2 times the sum of the widths), P is never formed. See
        :meth:`skgnh.operators.root.GaussNewtonRoot.grams`.
        """
        left, back = self.inputs, map(self.roots, range(len(self.back)))
        if scales is not None:
            pairs = zip(left, scales, strict=True)
            left = [densified(a) * scale**0.5 for a, scale in pairs]
        flat = (reshape(B, (-1, B.shape[2])) for B in back)
        return hadamard_grams(left, flat, self.n_rows, ridges)

    def kronecker(
        self, scale: Array, has_diagonal_outputs: bool = False
    ) -> list[Array]:
        """Return every ``sum_i B_i^T B_i``, then every ``sum_i s_i^2 a_i a_i^T``.

        For a scale s of shape (n, 1); the last B, where it is diagonal but for the
        signs of probes, gives its diagonal.
        """
        scaled = [_scaled(a, scale) for a in self.inputs]
        outputs = [_gram(B) for B in self.back[:-1]]
        last = self.back[-1]
        if has_diagonal_outputs or last.ndim == 2:
            xp = namespace(last)
            own = xp.sum(last**2, axis=tuple(range(last.ndim - 1)))
            outputs.append(own * eye(own.shape[0], own))
        else:
            outputs.append(_gram(last))
        return outputs + [densified(a.T @ a) for a in scaled]


def _row_norms(a: Array) -> Array:
    """Return the squared norms of rows, sparse ones too."""
    if is_foreign(a):
        return namespace(a).sum(a**2, axis=1)
    return row_norms(a, squared=True)


def _scaled(a: Array, scale: Array) -> Array:
    return a.multiply(scale).tocsr() if sparse.issparse(a) else a * scale


def _gram(B: Array) -> Array:
    """Return ``sum_i B_i^T B_i``, in whichever order B lies without a copy."""
    if is_foreign(B):
        flat = reshape(B, (-1, B.shape[2]))
    else:
        flat = B.reshape(-1, B.shape[2], order="A")
    return flat.T @ flat
