"""The root of the Gauss-Newton Hessian and the two lists that hold it."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator
from sklearn.utils.extmath import row_norms

from skgnh.linearization import Linearization
from skgnh.memory import fits, require, rows_per_chunk, slices
from skgnh.network import densified, joined
from skgnh.operators.gram import hadamard_grams, n_held

Array = Any


class GaussNewtonRoot(LinearOperator):
    r"""The weighted root :math:`J_S` of the data's part of a Gauss-Newton Hessian.

    .. math:: J_S^T J_S = \sum_i w_i J_i^T Q_i J_i, \qquad Q_i = S_i S_i^T

    Of shape (n r, P); its rows (i, k) are ordered by sample, then by root: r = d
    outputs, or the number of output probes. They are held by the layer inputs
    :math:`a_l` (n rows, their ones last) and the carried-back roots :math:`B_l`
    (n x r x width): at the weight from neuron nu to neuron mu of layer l stands

        ``a_l[i, nu] * B_l[i, k, mu]``.

    Parameters
    ----------
    linearization : Linearization
        The network linearised at theta over the n rows.
    loss : object
        One of :data:`skgnh.losses.LOSSES`.
    weights : ndarray of shape (n,)
        Weight of each row.
    probes : ndarray of shape (n, m, d) or (1, m, d), optional
        Random signs, of each row or of all: ``S_i Omega_i`` with
        ``Omega_i = probes_i^T / sqrt(m)`` then takes the place of S_i.

    Notes
    -----
    Products cost O(n P) a column, whatever d; what is asked of the two lists costs r
    backward passes, O(n r P), and the chunk of rows at hand.
    """

    def __init__(
        self,
        linearization: Linearization,
        loss: Any,
        weights: Array,
        probes: Array | None = None,
    ):
        self.linearization, self.network = linearization, linearization.network
        self.loss, self.weights, self.probes = loss, weights, probes
        self.n_roots = self.network.n_outputs if probes is None else probes.shape[1]
        shape = (linearization.n_rows * self.n_roots, self.network.n_parameters)
        super().__init__(linearization.theta.dtype, shape)

    @property
    def has_diagonal_outputs(self) -> bool:
        """Whether the last layer's roots B are diagonal."""
        return self.probes is None and self.loss.has_diagonal_root

    @cached_property
    def _sqrt_weights(self) -> Array:
        return np.sqrt(self.weights)[:, None, None]

    def probes_of(self, rows: Any) -> Array | None:
        """Return the probes of some rows, or those that all rows share."""
        if self.probes is None or len(self.probes) == 1:
            return self.probes
        return self.probes[rows]

    def _omega(self, rows: Any) -> Array | None:
        """Return ``Omega_i^T`` of some rows, of shape (n or 1, m, d)."""
        signs = self.probes_of(rows)
        return None if signs is None else signs / self.dtype.type(self.n_roots**0.5)

    @cached_property
    def _means(self) -> Array | None:
        """The predicted means of all rows, where the forward passes are kept."""
        trace = self.linearization.kept
        return None if trace is None else self.loss.mean(trace.outputs)

    def _mean(self, rows: slice, trace: Any) -> Array:
        return (
            self.loss.mean(trace.outputs) if self._means is None else self._means[rows]
        )

    # ---- chunks of rows -------------------------------------------------------------

    def chunks(self, n_columns: int) -> Iterator[tuple[slice, Any]]:
        """Yield rows and traces for products with that many columns at a time."""
        widths = self.network.layer_units
        return self.linearization.chunks(3 * n_columns * max(widths[1:]) + widths[0])

    def forward(self, rows: slice, trace: Any, directions: Array) -> Array:
        """Return J_S v for k directions (k, P), of shape (n, k, r)."""
        theta, mean = self.linearization.theta, self._mean(rows, trace)
        moved = self.network.tangent(theta, trace, directions)
        moved = self.loss.root_adjoint(mean, moved)
        omega = self._omega(rows)
        if omega is not None:
            moved = moved @ np.swapaxes(omega, 1, 2)
        moved *= self._sqrt_weights[rows]
        return moved

    def backward(self, rows: slice, trace: Any, u: Array) -> Array:
        """Return J_S^T u for k vectors (n, k, r), of shape (k, P)."""
        theta, mean = self.linearization.theta, self._mean(rows, trace)
        omega = self._omega(rows)
        if omega is not None:
            u = u @ omega
        seeds = self.loss.root(mean, u * self._sqrt_weights[rows])
        return self.network.pullback(theta, trace, seeds)

    def _carried(self, rows: slice, trace: Any) -> Iterator[tuple[int, Array]]:
        """Carry the roots ``sqrt(w_i) (S_i Omega_i)^T`` back: (l, B_l), last first."""
        n, d = trace.outputs.shape
        basis = self._omega(rows)
        if basis is None:
            basis = np.eye(d, dtype=self.dtype)[None]
        basis = np.broadcast_to(basis, (n, self.n_roots, d))
        seeds = self.loss.root(self._mean(rows, trace), basis)
        seeds *= self._sqrt_weights[rows]
        return self.network.carry_back(self.linearization.theta, trace, seeds)

    def _carried_diagonal(self, rows: slice, trace: Any) -> Iterator[tuple[int, Array]]:
        """Do what :meth:`_carried` does, the last B, diagonal, as (n, d)."""
        theta, last = self.linearization.theta, len(self.network.shapes) - 1
        one = np.ones((len(trace.outputs), 1, self.n_roots), self.dtype)
        scale = self.loss.root(self._mean(rows, trace), one) * self._sqrt_weights[rows]
        yield last, scale[:, 0]
        if last:
            weights = self.network.unpack(theta)[last][:, :-1]
            B = np.swapaxes(scale, 1, 2) * weights
            B *= trace.slopes[last - 1][:, None, :]
            yield from self.network.carry_back(theta, trace, B, last - 1)

    def factors(self, n_columns: int = 0) -> Iterator[tuple[slice, list, list]]:
        """Yield chunks of rows with the layers' a_l and B_l.

        Chunks leave room for that many columns of J_S beside them.
        """
        if self._kept is None:
            yield from self.make_factors(n_columns)
            return
        inputs, back = self._kept
        size = rows_per_chunk(max(1, self.n_roots * n_columns) * self.dtype.itemsize)
        for rows in slices(self.linearization.n_rows, size):
            yield rows, [a[rows] for a in inputs], [B[rows] for B in back]

    @property
    def is_kept(self) -> bool:
        """Whether the lists over all rows are kept."""
        return self._kept is not None

    @cached_property
    def _kept(self) -> tuple[list, list] | None:
        """The two lists over all rows, if they fit: entries ask for them often."""
        shapes, n = self.network.shapes, self.linearization.n_rows
        numbers = sum(fan + 2 * self.n_roots * width for width, fan in shapes)
        return self._gathered() if fits(n * numbers * self.dtype.itemsize) else None

    def lists(self) -> tuple[list, list]:
        """Return the a_l and B_l of all rows: those that are kept, or made anew.

        They lie neuron by neuron, so that the rows of a column of J_S are contiguous:
        in C order are ``B_l.T`` and, unless a_l is sparse, ``a_l.T``.
        """
        return self._kept or self._gathered()

    def _gathered(self) -> tuple[list, list]:
        n, r, dtype = self.linearization.n_rows, self.n_roots, self.dtype
        inputs = []
        back = [np.empty((width, r, n), dtype).T for width, _ in self.network.shapes]
        for rows, a, B in self.make_factors():
            inputs = inputs or [
                [] if sparse.issparse(x) else np.empty((x.shape[1], n), dtype).T
                for x in a
            ]
            for kept, x in zip(inputs + back, a + B, strict=True):
                if sparse.issparse(x):
                    kept.append(x)
                else:
                    kept[rows] = x
        return [joined(x) if isinstance(x, list) else x for x in inputs], back

    def make_factors(
        self, n_columns: int = 0, diagonal: bool = False
    ) -> Iterator[tuple[slice, list, list]]:
        """Yield what :meth:`factors` does, made anew and not kept.

        With `diagonal`, the last layer's roots, which must be, as their diagonals
        (n, d): of d^2 numbers a row the others are zeros.
        """
        *hidden, d = self.network.layer_units[1:]
        # B_l of all layers, and the seeds twice while they are made.
        numbers = self.n_roots * (sum(hidden) + n_columns)
        numbers += 2 * d if diagonal else 3 * self.n_roots * d
        carried = self._carried_diagonal if diagonal else self._carried
        for rows, trace in self.linearization.chunks(numbers):
            back = dict(carried(rows, trace))
            yield rows, trace.inputs, [back[depth] for depth in range(len(back))]

    def compact_factors(self) -> Iterator[tuple[slice, list, list]]:
        """Yield the factors, those of the outputs as diagonals where that is less."""
        if self.has_diagonal_outputs and not self.is_kept:
            return self.make_factors(diagonal=True)
        return self.factors()

    def blocks(self) -> Iterator[Array]:
        """Yield chunks of rows of J_S as arrays of P columns."""
        for rows, trace in self.linearization.chunks(self.n_roots * self.shape[1]):
            n = rows.stop - rows.start
            out = np.empty((n, self.n_roots, self.shape[1]), self.dtype)
            layers = self.network.unpack(out)
            for depth, B in self._carried(rows, trace):
                a = densified(trace.inputs[depth])
                np.multiply(B[..., None], a[:, None, None, :], out=layers[depth])
            yield out.reshape(n * self.n_roots, -1)

    # ---- products -------------------------------------------------------------------

    def _matmat(self, V: Array) -> Array:
        directions = np.ascontiguousarray(np.asarray(V, dtype=self.dtype).T)
        n = self.linearization.n_rows
        out = np.empty((n, self.n_roots, len(directions)), self.dtype)
        for rows, trace in self.chunks(len(directions)):
            out[rows] = np.swapaxes(self.forward(rows, trace, directions), 1, 2)
        return out.reshape(self.shape[0], -1)

    def _rmatvec(self, u: Array) -> Array:
        return self._rmatmat(u.reshape(-1, 1))[:, 0]

    def _rmatmat(self, U: Array) -> Array:
        k = U.shape[1]
        u = np.asarray(U, dtype=self.dtype).reshape(-1, self.n_roots, k)
        out = np.zeros((k, self.shape[1]), self.dtype)
        for rows, trace in self.chunks(k):
            columns = np.ascontiguousarray(np.swapaxes(u[rows], 1, 2))
            out += self.backward(rows, trace, columns)
        return out.T

    # ---- questions to the two lists -------------------------------------------------

    def locate(self, index: Array) -> tuple[Array, Array, Array]:
        """Return layer, output neuron mu and input neuron nu of parameters.

        Raises
        ------
        ValueError
            If the index is not a 1-D array of integers from 0 to P - 1.
        """
        index = checked_index(index, self.shape[1])
        offsets = np.asarray(self.network.offsets)
        depth = np.searchsorted(offsets, index, side="right") - 1
        fan = np.array([shape[1] for shape in self.network.shapes])[depth]
        return depth, *np.divmod(index - offsets[depth], fan)

    def chunk_columns(self, inputs: list, back: list, index: Array) -> Array:
        """Return columns for the rows of one chunk of :meth:`factors`."""
        depth, mu, nu = self.locate(index)
        n, r = back[0].shape[:2]
        out = np.empty((n, r, len(index)), self.dtype)
        for layer in np.unique(depth):
            here = depth == layer
            a = densified(inputs[layer][:, nu[here]])
            out[:, :, here] = a[:, None, :] * back[layer][:, :, mu[here]]
        return out.reshape(n * r, -1)

    def columns(self, index: Array) -> Array:
        """Return columns, of shape (n r, k).

        Raises
        ------
        ValueError
            If the index is off, or the array exceeds the working memory.
        """
        require(
            self.shape[0] * len(index) * self.dtype.itemsize,
            f"{len(index)} columns of the Gauss-Newton root",
            "Take fewer at a time",
        )
        out = np.empty((self.shape[0], len(index)), self.dtype)
        for rows, inputs, back in self.factors(len(index)):
            span = slice(rows.start * self.n_roots, rows.stop * self.n_roots)
            out[span] = self.chunk_columns(inputs, back, index)
        return out

    def rows(self, index: Array) -> Array:
        """Return rows, of shape (k, P): O(k P), and forward passes if not kept.

        Raises
        ------
        ValueError
            If the array exceeds the working memory.
        """
        require(
            len(index) * self.shape[1] * self.dtype.itemsize,
            f"{len(index)} rows of the Gauss-Newton root",
            "Take fewer at a time",
        )
        samples, roots = np.divmod(index, self.n_roots)
        if self._kept is None:
            drawn, at = np.unique(samples, return_inverse=True)
            inputs, back = self.take(drawn).lists()
        else:
            at, (inputs, back) = samples, self._kept
        out = np.empty((len(index), self.shape[1]), self.dtype)
        for layer, a, B in zip(self.network.unpack(out), inputs, back, strict=True):
            np.multiply(B[at, roots, :, None], densified(a[at])[:, None], out=layer)
        return out

    def take(self, samples: Array) -> "GaussNewtonRoot":
        """Return the root over some of the samples."""
        linearization = self.linearization.take(samples)
        weights, probes = self.weights[samples], self.probes_of(samples)
        return GaussNewtonRoot(linearization, self.loss, weights, probes)

    def column_norms(self) -> Array:
        """Return the squared norm of every column, of shape (P,)."""
        out = np.zeros(self.shape[1], self.dtype)
        layers = self.network.unpack(out)
        for _, inputs, back in self.compact_factors():
            for layer, a, B in zip(layers, inputs, back, strict=True):
                squares = a.power(2) if sparse.issparse(a) else a**2
                own = B**2 if B.ndim == 2 else (B**2).sum(axis=1)
                layer += own.T @ squares
        return out

    def row_norms(self) -> Array:
        """Return the squared norm of every row, of shape (n, r)."""
        out = np.zeros((self.linearization.n_rows, self.n_roots), self.dtype)
        for rows, inputs, back in self.compact_factors():
            for a, B in zip(inputs, back, strict=True):
                own = B**2 if B.ndim == 2 else (B**2).sum(axis=2)
                out[rows] += row_norms(a, squared=True)[:, None] * own
        return out

    def sample_norms(self) -> Array:
        """Return the squared Frobenius norm of every sample's rows, of shape (n,)."""
        return self.row_norms().sum(axis=1)

    def grams(self, ridges: list[Array], scales: list[Array] | None = None) -> list:
        """Return the parts of ``J_S diag(scale) J_S^T`` by the ridge of the columns.

        Layer by layer, ``(A_l A_l^T) * (B_l B_l^T)``: O((n r)^2 times the sum of the
        widths), and P is never formed.

        Parameters
        ----------
        ridges, scales : lists of ndarray of shape (fan,)
            Of the columns of each a_l, the same for all neurons; ones if None.

        Returns
        -------
        list of ndarray of shape (n r, n r)
            One for each value of the ridge, falling.

        Raises
        ------
        ValueError
            If the arrays exceed the working memory.
        """
        n, r, rows = self.linearization.n_rows, self.n_roots, self.shape[0]
        require(
            n_held(ridges) * rows**2 * self.dtype.itemsize,
            f"The Gram matrix of {n} rows and {r} outputs",
            "Sample rows or take a solver of products such as 'cg'",
        )
        # Made anew, the lists lie in the order that the products below take.
        chunks = [(inputs, back) for _, inputs, back in self.make_factors()]
        layers = range(len(self.network.shapes))
        left = (joined([inputs[k] for inputs, _ in chunks]) for k in layers)
        if scales is not None:
            pairs = zip(left, scales, strict=True)
            left = (densified(a) * np.sqrt(scale) for a, scale in pairs)
        right = (joined([back[k] for _, back in chunks]) for k in layers)
        return hadamard_grams(left, (B.reshape(rows, -1) for B in right), n, ridges)


def checked_index(index: Array, n_parameters: int) -> Array:
    """Return an index of parameters as an array.

    Raises
    ------
    ValueError
        If it is not a 1-D array of integers from 0 to n_parameters - 1.
    """
    index = np.asarray(index)
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise ValueError("An index of parameters must be a 1-D array of integers.")
    if index.size and not 0 <= index.min() <= index.max() < n_parameters:
        raise ValueError(
            f"Parameters are numbered from 0 to {n_parameters - 1}, "
            f"got {index.min()} to {index.max()}."
        )
    return index
