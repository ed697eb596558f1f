"""A network linearised at theta over given rows, walked in chunks of rows."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from skgnh.memory import fits, rows_per_chunk, slices
from skgnh.network import MLP, Trace

Array = Any


class Linearization:
    """The forward passes of n rows at theta: kept if they fit, made again if not.

    Parameters
    ----------
    network : MLP
        The network.
    theta : ndarray of shape (P,)
        Where it is linearised.
    inputs : {ndarray, CSR} of shape (n, n_features + 1)
        Rows with their ones, as :func:`skgnh.network.append_one` gives them.
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
        if fits(2 * self.n_rows * hidden * self.theta.dtype.itemsize):
            return self.network.trace(self.theta, self.inputs)
        return None

    def chunks(self, numbers_per_row: int) -> Iterator[tuple[slice, Trace]]:
        """Yield slices of rows and their traces.

        Parameters
        ----------
        numbers_per_row : int
            How many numbers a row the caller holds at a time: chunks are so long
            that these stay in cache and within the working memory.
        """
        size = rows_per_chunk(numbers_per_row * self.theta.dtype.itemsize)
        for rows in slices(self.n_rows, size):
            if self.kept is None:
                yield rows, self.network.trace(self.theta, self.inputs[rows])
            elif size >= self.n_rows:
                yield rows, self.kept
            else:
                yield rows, self.kept.rows(rows)

    def outputs(self) -> Iterator[tuple[slice, Array]]:
        """Yield slices of rows and their outputs z, keeping nothing."""
        width = 2 * max(self.network.layer_units[1:])
        size = rows_per_chunk(width * self.theta.dtype.itemsize)
        for rows in slices(self.n_rows, size):
            yield rows, self.network.outputs(self.theta, self.inputs[rows])

    def take(self, rows: Array) -> "Linearization":
        """Return the linearisation over some of the rows."""
        return Linearization(self.network, self.theta, self.inputs[rows])
