"""A network of which some layers are constants."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from skgnh.network import MLP

Array = Any


@dataclass(frozen=True)
class PartialMLP(MLP):
    """A multi-layer perceptron as a function of the parameters of some layers.

    The others are constants. What is made of it, roots, factors, Gram matrices, is of
    the layers that move alone: derivatives are carried forward from the first of them,
    and back no further.

    Parameters
    ----------
    layer_units, activations
        See :class:`skgnh.network.MLP`.
    which : tuple of int
        The layers that move, rising.
    held : ndarray of shape (P,)
        Parameters of all layers, of which those of the others are taken.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.network import append_one
    >>> from skgnh.operators.partial import PartialMLP
    >>> network = PartialMLP((3, 4, 2), ("tanh",), (1,), np.zeros(26))
    >>> network.n_parameters
    10
    >>> network.outputs(np.ones(10), append_one(np.ones((1, 3))))
    array([[1., 1.]])
    """

    which: tuple[int, ...]
    held: Array = field(compare=False, repr=False)

    @property
    def moving(self) -> tuple[int, ...]:
        """Which layers theta holds."""
        return self.which

    @cached_property
    def _whole(self) -> MLP:
        return MLP(self.layer_units, self.activations)

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape ``(width_out, width_in + 1)`` of the parameters of those that move."""
        return tuple(self._whole.shapes[layer] for layer in self.which)

    def matrices(self, theta: Array) -> list[Array]:
        """Return every layer's parameters, also of those that are constants."""
        layers = self._whole.unpack(self.held)
        for layer, own in zip(self.which, self.unpack(theta), strict=True):
            layers[layer] = own
        return layers


def layers_of(network: MLP, index: Array) -> tuple[int, ...] | None:
    """Return the layers of which an index is all parameters; None if it is of others.

    Positions among those that `network` holds.
    """
    starts = np.array(network.offsets[:-1])
    layers = tuple(np.flatnonzero(np.isin(starts, index)).tolist())
    ranges = [np.arange(*network.offsets[k : k + 2]) for k in layers]
    if not ranges or not np.array_equal(index, np.concatenate(ranges)):
        return None
    return layers
