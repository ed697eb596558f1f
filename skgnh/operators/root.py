"""The root of the Gauss-Newton Hessian, held by layer factors."""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np

from skgnh.arrays import (
    as_precision,
    as_rows,
    contiguous,
    eye,
    namespace,
    pick,
    precision,
    reshape,
    turned,
)
from skgnh.linalg.operator import Operator
from skgnh.linearization import Linearization
from skgnh.memory import fits, require
from skgnh.operators.gram import n_held
from skgnh.operators.layer_factors import LayerFactors, parts
from skgnh.operators.partial import PartialMLP

Array = Any


class GaussNewtonRoot(Operator):
    r"""The weighted root :math:`J_S` of the data's part of a Gauss-Newton Hessian.

    .. math:: J_S^T J_S = \sum_i w_i J_i^T Q_i J_i, \qquad Q_i = S_i S_i^T

    Of shape (n r, P); its rows (i, k) are ordered by sample, then by root: r = d
    outputs, or the number of output probes. They are held by the layer inputs
    :math:`a_l` (n rows, their ones last) and the carried-back roots :math:`B_l`
    (n x r x width), :class:`skgnh.operators.layer_factors.LayerFactors`.

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
    Products cost O(n P) a column, whatever d; what is asked of the factors costs r
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
        super().__init__(precision(linearization.theta), shape)

    @property
    def has_diagonal_outputs(self) -> bool:
        """Whether the last roots B are those of the outputs, and diagonal."""
        has_outputs = len(self.network.layer_units) - 2 in self.network.moving
        return has_outputs and self.probes is None and self.loss.has_diagonal_root

    @cached_property
    def _sqrt_weights(self) -> Array:
        return namespace(self.weights).sqrt(self.weights)[:, None, None]

    def probes_of(self, rows: Any) -> Array | None:
        """Return the probes of some rows, or those that all rows share."""
        if self.probes is None or self.probes.shape[0] == 1:
            return self.probes
        return pick(self.probes, rows)

    def _omega(self, rows: Any) -> Array | None:
        """Return ``Omega_i^T`` of some rows, of shape (n or 1, m, d)."""
        signs = self.probes_of(rows)
        if signs is None:
            return None
        return as_precision(signs, self.dtype) / self.n_roots**0.5

    @cached_property
    def _means(self) -> Array | None:
        """The predicted means of all rows, where the forward passes are kept."""
        trace = self.linearization.kept
        return None if trace is None else self.loss.mean(trace.outputs)

    def _mean(self, rows: slice, trace: Any) -> Array:
        return (
            self.loss.mean(trace.outputs)
            if self._means is None
            else pick(self._means, rows)
        )

    # ---- some rows ------------------------------------------------------------------

    def numbers(self, n_columns: int) -> int:
        """Return how many numbers a row products with that many columns hold."""
        widths = self.network.layer_units
        return 3 * n_columns * max(widths[1:]) + widths[0]

    def forward(self, rows: slice, trace: Any, directions: Array) -> Array:
        """Return J_S v for k directions (k, P), of shape (n, k, r)."""
        theta, mean = self.linearization.theta, self._mean(rows, trace)
        moved = self.network.tangent(theta, trace, directions)
        moved = self.loss.root_adjoint(mean, moved)
        omega = self._omega(rows)
        if omega is not None:
            moved = moved @ turned(omega)
        moved *= self._sqrt_weights[rows, ...]
        return moved

    def backward(self, rows: slice, trace: Any, u: Array) -> Array:
        """Return J_S^T u for k vectors (n, k, r), of shape (k, P)."""
        theta, mean = self.linearization.theta, self._mean(rows, trace)
        omega = self._omega(rows)
        if omega is not None:
            u = u @ omega
        seeds = self.loss.root(mean, u * self._sqrt_weights[rows, ...])
        return self.network.pullback(theta, trace, seeds)

    def _carried(self, rows: slice, trace: Any) -> Iterator[tuple[int, Array]]:
        """Carry the roots ``sqrt(w_i) (S_i Omega_i)^T`` back: (l, B_l), last first."""
        n, d = trace.outputs.shape
        basis = self._omega(rows)
        if basis is None:
            basis = eye(d, trace.outputs)[None, ...]
        basis = namespace(basis).broadcast_to(basis, (n, self.n_roots, d))
        seeds = self.loss.root(self._mean(rows, trace), basis)
        seeds *= self._sqrt_weights[rows, ...]
        return self.network.carry_back(self.linearization.theta, trace, seeds)

    def _carried_diagonal(self, rows: slice, trace: Any) -> Iterator[tuple[int, Array]]:
        """Do what :meth:`_carried` does, the last B, diagonal, as (n, d)."""
        theta, last = self.linearization.theta, len(self.network.layer_units) - 2
        one = namespace(trace.outputs).ones_like(trace.outputs)[:, None, :]
        scale = (
            self.loss.root(self._mean(rows, trace), one) * self._sqrt_weights[rows, ...]
        )
        yield last, scale[:, 0, ...]
        if last:
            weights = self.network.matrices(theta)[last][:, :-1]
            B = turned(scale) * weights
            B *= trace.slopes[last - 1][:, None, :]
            yield from self.network.carry_back(theta, trace, B, last - 1)

    def make_factors(self, rows: slice, diagonal: bool = False) -> LayerFactors:
        """Return the layer factors of some rows, made anew: r backward passes.

        With `diagonal`, the last layer's roots, which must be, as their diagonals.
        """
        trace = self.linearization.trace(rows)
        carried = self._carried_diagonal if diagonal else self._carried
        back, moving = dict(carried(rows, trace)), self.network.moving
        inputs = [trace.inputs[depth] for depth in moving]
        return LayerFactors(inputs, [back[depth] for depth in moving])

    # ---- all rows -------------------------------------------------------------------

    def walk(self, n_columns: int = 0, compact: bool = False) -> tuple[int, Callable]:
        """Return what sums over the rows take to hand out layer factors.

        Numbers a row and a source, see :class:`skgnh.linearization.Linearization`: of
        what is kept, or else made anew. Chunks leave room for that many columns of J_S.
        With `compact`, diagonal roots are made as their diagonals.
        """
        if self._kept is None:
            return self.walk_anew(n_columns, compact and self.has_diagonal_outputs)
        return max(1, self.n_roots * n_columns), self._kept.rows

    def walk_anew(
        self, n_columns: int = 0, diagonal: bool = False
    ) -> tuple[int, Callable]:
        """Return what :meth:`walk` does, for factors made anew and not kept."""
        *hidden, d = self.network.layer_units[1:]
        # B_l of all layers, and the seeds twice while they are made.
        numbers = self.n_roots * (sum(hidden) + n_columns)
        numbers += 2 * d if diagonal else 3 * self.n_roots * d
        return numbers, partial(self.make_factors, diagonal=diagonal)

    @property
    def is_kept(self) -> bool:
        """Whether the factors of all rows are kept."""
        return self._kept is not None

    @cached_property
    def _kept(self) -> LayerFactors | None:
        """The factors of all rows, if they fit: entries ask for them often."""
        shapes, n = self.network.shapes, self.linearization.n_rows
        numbers = sum(fan + 2 * self.n_roots * width for width, fan in shapes)
        return self._gathered() if fits(n * numbers * self.dtype.itemsize) else None

    def factors(self) -> LayerFactors:
        """Return the factors of all rows: those that are kept, or made anew.

        They lie neuron by neuron, so that the rows of a column of J_S are contiguous:
        in C order are ``B_l.T`` and, unless a_l is sparse, ``a_l.T``.
        """
        return self._kept or self._gathered()

    def _gathered(self, order: str = "F") -> LayerFactors:
        def both(rows, factors):
            return factors.inputs + factors.back

        lists = self.linearization.collect(both, *self.walk_anew(), order=order)
        depth = len(self.network.shapes)
        return LayerFactors(lists[:depth], lists[depth:])

    # ---- products -------------------------------------------------------------------

    def _matmat(self, V: Array) -> Array:
        directions = as_rows(V, self.dtype)

        def part(rows, trace):
            return [turned(self.forward(rows, trace, directions))]

        (out,) = self.linearization.collect(part, self.numbers(V.shape[1]))
        return reshape(out, (self.shape[0], -1))

    def _rmatmat(self, U: Array) -> Array:
        k = U.shape[1]
        U = as_precision(U, self.dtype)
        u = reshape(U, (-1, self.n_roots, k))

        def part(rows, trace):
            return [self.backward(rows, trace, contiguous(turned(pick(u, rows))))]

        (out,) = self.linearization.sum(part, self.numbers(k))
        return out.T

    # ---- questions to the layer factors ---------------------------------------------

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
        located = parts(self.network, index)

        def part(rows, factors):
            out = np.empty((factors.n_rows, self.n_roots, len(index)), self.dtype)
            for own in located:
                out[..., own.at] = factors.columns(own).T
            return [out]

        (out,) = self.linearization.collect(part, *self.walk(len(index)))
        return out.reshape(self.shape[0], -1)

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
        at, roots = np.divmod(index, self.n_roots)
        factors = self._kept
        if factors is None:
            drawn, at = np.unique(at, return_inverse=True)
            factors = self.take(drawn).factors()
        return factors.pick(at, roots).array()[:, 0]

    def take(self, samples: Array) -> "GaussNewtonRoot":
        """Return the root over some of the samples."""
        linearization = self.linearization.take(samples)
        weights = pick(self.weights, samples)
        return self.over(linearization, weights, self.probes_of(samples))

    def of_layers(self, layers: tuple[int, ...]) -> "GaussNewtonRoot | None":
        """Return the root in the parameters of some layers, the others constants."""
        rows, own = self.linearization, self.network
        xp = namespace(rows.theta)
        held = xp.concat([reshape(x, (-1,)) for x in own.matrices(rows.theta)])
        which = tuple(own.moving[k] for k in layers)
        network = PartialMLP(own.layer_units, own.activations, which, held)
        every = own.unpack(rows.theta)
        theta = xp.concat([reshape(every[k], (-1,)) for k in layers])
        linearization = Linearization(network, theta, rows.inputs)
        # The forward passes are the same.
        linearization.kept = rows.kept
        return self.over(linearization, self.weights, self.probes)

    def over(
        self, linearization: Linearization, weights: Array, probes: Array | None
    ) -> "GaussNewtonRoot":
        """Return the root of the same kind of other rows, weights or probes."""
        return GaussNewtonRoot(linearization, self.loss, weights, probes)

    def column_norms(self) -> Array:
        """Return the squared norm of every column, of shape (P,)."""
        walk = self.walk(compact=True)
        return self.linearization.sum(lambda _, made: [made.column_norms()], *walk)[0]

    def row_norms(self) -> Array:
        """Return the squared norm of every row, of shape (n, r)."""
        walk = self.walk(compact=True)
        return self.linearization.collect(lambda _, made: [made.row_norms()], *walk)[0]

    def sample_norms(self) -> Array:
        """Return the squared Frobenius norm of every sample's rows, of shape (n,)."""
        norms = self.row_norms()
        return namespace(norms).sum(norms, axis=1)

    def grams(self, ridges: list[Array], scales: list[Array] | None = None) -> list:
        """Return the parts of ``J_S diag(scale) J_S^T`` by the ridge of the columns.

        O((n r)^2 times the sum of the widths), see :meth:`LayerFactors.grams`.

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
        require(
            n_held(ridges) * self.shape[0] ** 2 * self.dtype.itemsize,
            f"The Gram matrix of {self.linearization.n_rows} rows and {self.n_roots} "
            "outputs",
            "Sample rows or take a solver of products such as 'cg'",
        )
        # Made anew, the lists lie in the order that these products take.
        return self._gathered("C").grams(ridges, scales)
