"""A network linearised at theta over given rows, and the sums over those rows."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from skgnh.arrays import empty, is_foreign, on_device, pick, precision
from skgnh.lazy_rows import LazyRows
from skgnh.memory import fits, rows_per_chunk, slices
from skgnh.network import MLP, Trace

Array = Any


class Linearization:
    """The forward passes of n rows at theta: kept if they fit, made again if not.

    All that is summed or gathered over rows goes through :meth:`sum`,
    :meth:`accumulate` and :meth:`collect`, which alone know how rows are cut into
    chunks. What a chunk hands out is up to a *source*, a function of a slice of rows:
    the forward pass (:meth:`trace`, the default), the outputs alone (:meth:`output`),
    or what a caller makes of them.

    Parameters
    ----------
    network : MLP
        The network.
    theta : ndarray of shape (P,)
        Where it is linearised.
    inputs : {ndarray, CSR, LazyRows} of shape (n, n_features + 1)
        Rows with their ones, as :func:`skgnh.network.append_one` gives them. Of lazy
        rows, which do not fit the working memory, no forward passes are kept.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.linearization import Linearization
    >>> from skgnh.network import MLP, append_one
    >>> network = MLP((2, 3, 1), ("tanh",))
    >>> theta = network.initialize(np.random.default_rng(0))
    >>> rows = Linearization(network, theta, append_one(np.eye(2)))
    >>> squares, count = rows.sum(
    ...     lambda rows, trace: ((trace.outputs**2).sum(), len(trace.outputs)), 4
    ... )
    >>> count
    2
    >>> (z,) = rows.collect(lambda rows, trace: [trace.outputs], 4)
    >>> bool(np.isclose(np.sum(z**2), squares))
    True
    """

    def __init__(self, network: MLP, theta: Array, inputs: Array):
        self.network, self.theta, self.inputs = network, theta, inputs

    @property
    def n_rows(self) -> int:
        """Number of rows n."""
        return self.inputs.shape[0]

    @cached_property
    def kept(self) -> Trace | None:
        """The forward passes of all rows, if they fit."""
        hidden = 2 * sum(self.network.layer_units[1:-1]) + self.network.n_outputs
        # Half of the working memory is left to what is done with the trace.
        if isinstance(self.inputs, LazyRows):
            return None
        if fits(2 * self.n_rows * hidden * precision(self.theta).itemsize):
            return self.network.trace(self.theta, self.inputs)
        return None

    def made(self, rows: slice) -> Trace:
        """Return the forward pass of some rows, made and not kept."""
        return self.network.trace(self.theta, pick(self.inputs, rows))

    def trace(self, rows: slice) -> Trace:
        """Return the forward pass of some rows: a view of what is kept, or made."""
        if self.kept is None:
            return self.made(rows)
        # Of a sparse array even the slice of all rows would be a copy.
        return self.kept if rows == slice(0, self.n_rows) else self.kept.rows(rows)

    def output(self, rows: slice) -> Array:
        """Return the outputs z of some rows, keeping nothing."""
        return self.network.outputs(self.theta, pick(self.inputs, rows))

    def outputs(self) -> Array:
        """Return the outputs z of all rows, of shape (n, d), made in chunks."""
        numbers = 2 * max(self.network.layer_units[1:])
        return self.collect(lambda rows, z: [z], numbers, self.output)[0]

    # ---- sums over rows -------------------------------------------------------------

    def chunks(
        self, numbers_per_row: int, source: Callable | None = None
    ) -> Iterator[tuple[slice, Any]]:
        """Yield slices of rows and what the source gives for them.

        Parameters
        ----------
        numbers_per_row : int
            How many numbers a row the caller holds at a time: chunks are so long
            that these stay in cache and within the working memory.
        source : callable, optional
            ``source(rows)`` for a slice; :meth:`trace` if None.
        """
        source = self.trace if source is None else source
        nbytes: float = numbers_per_row * precision(self.theta).itemsize
        if isinstance(self.inputs, LazyRows):
            nbytes += self.inputs.bytes_to_make
        size = rows_per_chunk(nbytes, cached=not on_device(self.theta))
        # Even no rows have a sum.
        for rows in slices(self.n_rows, size) or [slice(0, 0)]:
            yield rows, source(rows)

    def sum(
        self, part: Callable, numbers_per_row: int, source: Callable | None = None
    ) -> list:
        """Return the sum over all rows of what `part` returns for each chunk.

        Parameters
        ----------
        part : callable
            ``part(rows, given)`` for a slice of rows and what the source gives, by
            default their :class:`skgnh.network.Trace`. It returns a sequence of arrays
            that it has made (the first chunk's are added to) and of numbers.
        numbers_per_row, source
            See :meth:`chunks`.

        Returns
        -------
        list
            One total for each member of the sequence.
        """
        total: list = []
        for rows, given in self.chunks(numbers_per_row, source):
            terms = part(rows, given)
            total = total or list(terms)
            if rows.start:
                for k, term in enumerate(terms):
                    total[k] += term
        return total

    def accumulate(
        self,
        add: Callable,
        out: Any,
        numbers_per_row: int,
        source: Callable | None = None,
    ) -> Any:
        """Return `out` after ``add(out, rows, given)`` for each chunk of rows.

        For terms as large as their sum, of which there is no room for two.
        """
        for rows, given in self.chunks(numbers_per_row, source):
            add(out, rows, given)
        return out

    def collect(
        self,
        part: Callable,
        numbers_per_row: int,
        source: Callable | None = None,
        order: str = "C",
    ) -> list[Array]:
        """Return what `part` returns for each chunk, joined along the rows.

        Parameters
        ----------
        part : callable
            As for :meth:`sum`; the arrays, dense or sparse, have a row for each row of
            the chunk.
        numbers_per_row, source
            See :meth:`chunks`.
        order : {'C', 'F'}, default='C'
            Memory layout of the dense results. What one chunk holds in 'C' is returned
            as `part` gave it.

        Returns
        -------
        list of arrays
            With n rows each.
        """
        out: list = []
        for rows, given in self.chunks(numbers_per_row, source):
            made = part(rows, given)
            if order == "C" and rows == slice(0, self.n_rows):
                return list(made)
            out = out or [self._room(x, order) for x in made]
            for kept, x in zip(out, made, strict=True):
                if sparse.issparse(x):
                    kept.append(x)
                else:
                    kept[rows, ...] = x
        return [
            sparse.vstack(kept, "csr") if sparse.issparse(x) else kept
            for kept, x in zip(out, made, strict=True)
        ]

    def _room(self, x: Array, order: Any) -> Any:
        """Return room for arrays like x over all rows; a list for sparse ones."""
        if sparse.issparse(x):
            return []
        shape = (self.n_rows, *x.shape[1:])
        return empty(shape, x) if is_foreign(x) else np.empty(shape, x.dtype, order)

    def take(self, rows: Array) -> "Linearization":
        """Return the linearisation over some of the rows."""
        return Linearization(self.network, self.theta, pick(self.inputs, rows))
