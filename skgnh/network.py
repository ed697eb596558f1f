r"""The multi-layer perceptron as pure functions of its parameter vector.

The parameters theta lie by layer, within it by output neuron, each neuron's bias last:
layer l is the matrix ``Theta_l`` of shape ``(width_out, width_in + 1)``, row-major, and

    z_l = a_l Theta_l^T,    a_(l+1) = (s(z_l), 1),    a_0 = (x, 1).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from skgnh.arrays import copied, empty, namespace, pick, reshape
from skgnh.lazy_rows import LazyRows
from skgnh.linalg import check_choice, checked_index

Array = Any


class _Identity:
    gain = 6.0

    def value(self, z):
        return z

    def slope(self, a):
        return namespace(a).ones_like(a)

    def bend(self, a):
        return namespace(a).zeros_like(a)


class _Logistic:
    gain = 2.0

    def value(self, z):
        return 0.5 * namespace(z).tanh(0.5 * z) + 0.5

    def slope(self, a):
        return a * (1 - a)

    def bend(self, a):
        return a * (1 - a) * (1 - 2 * a)


class _Tanh:
    gain = 6.0

    def value(self, z):
        if not (isinstance(z, np.ndarray) and z.dtype == np.float64):
            return namespace(z).tanh(z)
        # Of doubles NumPy's exp takes a third of the time of its tanh on processors
        # that gather slowly; the error is 3e-16, absolute.
        with np.errstate(over="ignore", under="ignore"):
            out = np.exp(2 * z)
        out += 1
        np.divide(-2, out, out=out)
        out += 1
        return out

    def slope(self, a):
        return 1 - a * a

    def bend(self, a):
        return -2 * a * (1 - a * a)


class _Relu:
    gain = 6.0

    def value(self, z):
        xp = namespace(z)
        return xp.maximum(z, xp.zeros_like(z))

    def slope(self, a):
        return namespace(a).astype(a > 0, a.dtype)

    def bend(self, a):
        return namespace(a).zeros_like(a)


# `slope` and `bend` are s'(z) and s''(z) as functions of the value s(z); at its kink
# relu has the derivatives of its left side, both zero. `gain` is the constant of Glorot
# and Bengio's range, as scikit-learn takes it.
ACTIVATIONS: dict[str, Any] = {
    "identity": _Identity(),
    "logistic": _Logistic(),
    "tanh": _Tanh(),
    "relu": _Relu(),
}

# What the first parameters may be drawn as, see :meth:`MLP.initialize`.
INITS = ("glorot", "ntk")


def append_one(X: Array) -> Array:
    """Append the column of ones that the biases multiply; sparse X gives CSR."""
    if isinstance(X, LazyRows):
        return X.then(append_one)
    if sparse.issparse(X):
        ones = sparse.csr_array(np.ones((X.shape[0], 1), dtype=X.dtype))
        return sparse.hstack([X, ones], format="csr", dtype=X.dtype)
    xp = namespace(X)
    return xp.concat([X, xp.ones_like(X[:, :1])], axis=1)


def _activated(activation: Any, z: Array) -> Array:
    """Return ``(s(z), 1)``."""
    out = empty((z.shape[0], z.shape[1] + 1), z)
    out[:, -1] = 1
    out[:, :-1] = activation.value(z)
    return out


def densified(a: Array) -> Array:
    """Return a sparse array as a dense one, a dense one as it is."""
    return a.toarray() if sparse.issparse(a) else a


class Trace(NamedTuple):
    """What one forward pass over n rows leaves for the derivatives."""

    inputs: list
    """Input a_l of each layer, its ones last, of shape (n, width_l + 1)."""
    slopes: list
    """s'(z_l) of each hidden layer, of shape (n, width_(l+1))."""
    outputs: Array
    """z of the last layer, before the output activation, of shape (n, d)."""

    def rows(self, rows: Any) -> "Trace":
        """Return the trace of some rows; of a slice, as views."""
        return Trace(
            [pick(a, rows) for a in self.inputs],
            [pick(s, rows) for s in self.slopes],
            pick(self.outputs, rows),
        )


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron of given widths; it holds no parameters.

    Parameters
    ----------
    layer_units : tuple of int
        Widths from the features to the outputs.
    activations : tuple of str
        Activation of each hidden layer, ``len(layer_units) - 2`` names among
        'identity', 'logistic', 'tanh' and 'relu'.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.network import MLP, append_one
    >>> network = MLP((3, 4, 2), ("tanh",))
    >>> network.n_parameters
    26
    >>> theta = network.initialize(np.random.default_rng(0))
    >>> network.outputs(theta, append_one(np.ones((5, 3)))).shape
    (5, 2)
    """

    layer_units: tuple[int, ...]
    activations: tuple[str, ...]

    def __post_init__(self):
        """Check the widths and names.

        Raises
        ------
        ValueError
            If a width is not positive, a name is unknown or their numbers differ.
        """
        if len(self.layer_units) < 2 or min(self.layer_units) < 1:
            raise ValueError(f"Layer widths must be >= 1, got {self.layer_units}.")
        if len(self.activations) != len(self.layer_units) - 2:
            raise ValueError(
                f"{len(self.layer_units) - 2} hidden layers need as many activations, "
                f"got {self.activations}."
            )
        for name in self.activations:
            if name not in ACTIVATIONS:
                raise ValueError(
                    f"Unknown activation {name!r}; choose among {sorted(ACTIVATIONS)}."
                )

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape ``(width_out, width_in + 1)`` of each layer's parameters."""
        return tuple((out, fan_in + 1) for fan_in, out in pairwise(self.layer_units))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each layer's parameters begin in theta, and the end of the last."""
        return (0, *np.cumsum([out * fan for out, fan in self.shapes]).tolist())

    @property
    def n_parameters(self) -> int:
        """Number of parameters P."""
        return self.offsets[-1]

    @property
    def n_outputs(self) -> int:
        """Number of outputs d."""
        return self.layer_units[-1]

    @property
    def moving(self) -> Sequence[int]:
        """Which layers theta holds: all of them."""
        return range(len(self.layer_units) - 1)

    def matrices(self, theta: Array) -> list[Array]:
        """Return every layer's parameters, also of those that theta does not hold."""
        return self.unpack(theta)

    def locate(self, index: Array) -> tuple[Array, Array, Array]:
        """Return layer, output neuron mu and input neuron nu of parameters.

        Raises
        ------
        ValueError
            If the index is not a 1-D array of integers from 0 to P - 1.
        """
        index = checked_index(index, self.n_parameters)
        offsets = np.asarray(self.offsets)
        depth = np.searchsorted(offsets, index, side="right") - 1
        fan = np.array([shape[1] for shape in self.shapes])[depth]
        return depth, *np.divmod(index - offsets[depth], fan)

    def unpack(self, theta: Array) -> list[Array]:
        """View ``(..., P)`` parameters as layers ``(..., width_out, width_in + 1)``."""
        return [
            reshape(theta[..., start:stop], (*theta.shape[:-1], *shape))
            for (start, stop), shape in zip(
                pairwise(self.offsets), self.shapes, strict=True
            )
        ]

    def to_coefs(self, theta: Array) -> tuple[list[Array], list[Array]]:
        """Return scikit-learn's ``coefs_`` and ``intercepts_`` of theta, as copies."""
        layers = self.unpack(theta)
        return (
            [copied(layer[:, :-1].T) for layer in layers],
            [copied(layer[:, -1]) for layer in layers],
        )

    def from_coefs(self, coefs: list[Array], intercepts: list[Array]) -> Array:
        """Return the vector theta of scikit-learn's ``coefs_`` and ``intercepts_``."""
        xp, parts = namespace(coefs[0]), []
        for coef, intercept in zip(coefs, intercepts, strict=True):
            pair = [xp.asarray(coef).T, xp.asarray(intercept)[:, None]]
            parts.append(reshape(xp.concat(pair, axis=1), (-1,)))
        return xp.concat(parts)

    def weight_mask(self) -> Array:
        """Return 1.0 for each weight and 0.0 for each bias, of shape (P,)."""
        mask = np.ones(self.n_parameters)
        for layer in self.unpack(mask):
            layer[:, -1] = 0.0
        return mask

    def initialize(
        self, rng: Any, dtype: Any = np.float64, init: str = "glorot"
    ) -> Array:
        r"""Draw theta.

        Parameters
        ----------
        rng : numpy.random.Generator or RandomState
            Source of randomness.
        dtype : dtype, default=float64
            Precision.
        init : {'glorot', 'ntk'}, default='glorot'
            With 'glorot', scikit-learn's range in scikit-learn's order: weights and
            biases are uniform in ``+-sqrt(gain / (width_in + width_out))`` [1]_. With
            'ntk' the start of the theory of wide networks [2]_, without biases,

            .. math:: z_1 = W_1 x, \quad z_{l+1} = m_l^{-1/2} W_{l+1} s(z_l), \quad
                      z = m^{-1/2} A\, s(z_L),

            for layers of widths :math:`m_l`, the last m: independent normal W of
            variance one, and A of random signs. The factors are part of theta.

        References
        ----------
        .. [1] X. Glorot, Y. Bengio, "Understanding the difficulty of training deep
               feedforward neural networks", AISTATS 2010.
        .. [2] J. van den Brand, B. Peng, Z. Song, O. Weinstein, "Training
               (overparametrized) neural networks in near-linear time", ITCS 2021.
        """
        check_choice(init, "init", INITS)
        if init == "ntk":
            return self._wide_start(rng).astype(dtype)
        # scikit-learn takes one activation for all layers; the output layer follows
        # the last hidden one.
        names = (*self.activations, *(self.activations[-1:] or ("identity",)))
        coefs, intercepts = [], []
        for (fan_in, out), name in zip(pairwise(self.layer_units), names, strict=True):
            bound = (ACTIVATIONS[name].gain / (fan_in + out)) ** 0.5
            coefs.append(rng.uniform(-bound, bound, (fan_in, out)))
            intercepts.append(rng.uniform(-bound, bound, out))
        return self.from_coefs(coefs, intercepts).astype(dtype)

    def _wide_start(self, rng: Any) -> Array:
        theta = np.zeros(self.n_parameters)
        *hidden, last = self.unpack(theta)
        for depth, layer in enumerate(hidden):
            out, fan = layer.shape
            scale = (fan - 1) ** -0.5 if depth else 1.0
            layer[:, :-1] = scale * rng.standard_normal((out, fan - 1))
        out, fan = last.shape
        last[:, :-1] = rng.choice([-1.0, 1.0], (out, fan - 1)) * (fan - 1) ** -0.5
        return theta

    def _forward(self, theta: Array, inputs: Array) -> Iterator[tuple[Array, Array]]:
        """Run forward over inputs ``(x, 1)``; yield a_l and z_l of each layer."""
        a = inputs
        for depth, layer in enumerate(self.matrices(theta)):
            z = a @ layer.T
            yield a, z
            if depth < len(self.activations):
                a = _activated(ACTIVATIONS[self.activations[depth]], z)

    def outputs(self, theta: Array, inputs: Array) -> Array:
        """Return z of the last layer, of shape (n, d), keeping nothing else."""
        for _, z in self._forward(theta, inputs):
            last = z
        return last

    def trace(self, theta: Array, inputs: Array) -> Trace:
        """Run forward over inputs ``(x, 1)`` and keep what derivatives need."""
        kept: list[Array] = []
        slopes: list[Array] = []
        for a, z in self._forward(theta, inputs):
            if kept:
                activation = ACTIVATIONS[self.activations[len(slopes)]]
                slopes.append(activation.slope(a[:, :-1]))
            kept.append(a)
            last = z
        return Trace(kept, slopes, last)

    def tangents(
        self, theta: Array, trace: Trace, directions: Array
    ) -> Iterator[Array]:
        """Yield the derivatives of z_l along k directions (k, P), layer by layer.

        Forward mode: O(n k P) in all; each is of shape (n, k, width_(l+1)). It begins
        at the first layer that theta holds.
        """
        n, k = trace.outputs.shape[0], directions.shape[0]
        layers, dz = self.matrices(theta), None
        moved = dict(zip(self.moving, self.unpack(directions), strict=True))
        for depth in range(self.moving[0], len(layers)):
            if dz is not None:
                da = dz * trace.slopes[depth - 1][:, None, :]
                weights = layers[depth][:, :-1]
                flat = reshape(da, (n * k, -1)) @ weights.T
                dz = reshape(flat, (n, k, -1))
            if depth in moved:
                a = trace.inputs[depth]
                flat = a @ reshape(moved[depth], (-1, a.shape[1])).T
                own = reshape(flat, (n, k, -1))
                if dz is not None:
                    own += dz
                dz = own
            yield dz

    def tangent(self, theta: Array, trace: Trace, directions: Array) -> Array:
        """Return J_i v for every row i and direction v, of shape (n, k, d)."""
        for dz in self.tangents(theta, trace, directions):
            last = dz
        return last

    def carry_back(
        self, theta: Array, trace: Trace, seeds: Array, last: int | None = None
    ) -> Iterator[tuple[int, Array]]:
        """Carry k output vectors a row back through the layers.

        Reverse mode: from seeds of shape (n, k, d) yields ``(l, B_l)``, last layer
        first, with ``B_l`` of shape (n, k, width_(l+1)) the seeds times the derivative
        of the outputs in z_l, of each layer that theta holds. With `last`, the seeds
        are those of this layer.
        """
        n, k = seeds.shape[:2]
        layers = self.matrices(theta)[: None if last is None else last + 1]
        B, first = seeds, self.moving[0]
        for depth in range(len(layers) - 1, first - 1, -1):
            if depth in self.moving:
                yield depth, B
            if depth > first:
                weights = layers[depth][:, :-1]
                B = reshape(reshape(B, (n * k, -1)) @ weights, (n, k, -1))
                B *= trace.slopes[depth - 1][:, None, :]

    def pullback(self, theta: Array, trace: Trace, seeds: Array) -> Array:
        """Return ``sum_i J_i^T c_i`` for k vectors c_i a row.

        Seeds are of shape (n, k, d), the result of shape (k, P): O(n k P).
        """
        n, k = seeds.shape[:2]
        out = empty((k, self.n_parameters), seeds)
        for depth, B in self.carry_back(theta, trace, seeds):
            block = reshape(B, (n, -1)).T @ trace.inputs[depth]
            at = self.moving.index(depth)
            start, stop = self.offsets[at : at + 2]
            out[:, start:stop] = reshape(block, (k, -1))
        return out
