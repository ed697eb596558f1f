"""Columns and targets centred and scaled, and networks that undo it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from skgnh.arrays import as_precision, like, namespace, pick, precision, to_host
from skgnh.lazy_rows import LazyRows, nbytes_of
from skgnh.memory import parts_that_fit
from skgnh.network import MLP

Array = Any

# Least standard deviation of a column that is not taken as constant.
_LEAST = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)


def diagonal_matrix(d: Array) -> Array:
    """Return diag(d), sparse: ``diags_array`` of SciPy 1.12, for older releases."""
    return sparse.dia_array((d[None], 0), shape=(len(d),) * 2)


@dataclass(frozen=True)
class Moments:
    """Weighted mean and standard deviation of columns, which rows may be added to.

    Constant columns have a deviation of zero, rounding of their mean aside.
    """

    weight: float
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, X: Array, weights: Array | None = None) -> "Moments":
        """Return the moments of the columns of X, of shape (n, f): O(n f).

        Columns are divided by their largest size first: nothing overflows.
        """
        n = X.shape[0]
        # Temporaries are three: where they do not fit, the moments of parts are merged.
        parts = parts_that_fit(n, 3 * nbytes_of(X) / max(1, n))
        return cls.of_all(
            (
                cls._of_few(pick(X, rows), None if weights is None else weights[rows])
                for rows in parts
            ),
            precision(X),
        )

    @classmethod
    def of_all(cls, parts: Iterable["Moments"], dtype: Any) -> "Moments":
        """Return the moments of all rows from those of parts, a single one's as is."""
        parts = list(parts)
        found = reduce(cls.merged, parts)
        if len(parts) == 1:
            return found
        return cls(found.weight, found.mean, _deviation(found, dtype))

    @classmethod
    def _of_few(cls, X: Array, weights: Array | None) -> "Moments":
        total = float(X.shape[0] if weights is None else weights.sum())
        size = _largest(X)
        if sparse.issparse(X):
            unit = sparse.csr_array(X) @ diagonal_matrix(1 / size)
            unit = sparse.csr_matrix(unit.astype(np.float64))
            w = None if weights is None else np.asarray(weights, dtype=np.float64)
            mean, variance = mean_variance_axis(unit, axis=0, weights=w)
        else:
            unit = X / like(size, X)
            w = None if weights is None else like(weights, X)
            mean = _average(unit, w)
            variance = to_host(_average((unit - mean) ** 2, w))
            mean = to_host(mean)
        own = cls(total, mean, np.sqrt(variance))
        return cls(total, mean * size, _deviation(own, precision(X)) * size)

    def merged(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of rows together."""
        total = self.weight + other.weight
        share, gap = other.weight / total, other.mean - self.mean
        inner = np.hypot(
            self.deviation * (1 - share) ** 0.5, other.deviation * share**0.5
        )
        deviation = np.hypot(inner, gap * (share * (1 - share)) ** 0.5)
        return Moments(total, self.mean + share * gap, deviation)

    @property
    def scale(self) -> Array:
        """Standard deviations; 1 for constant columns.

        So are those whose inverse, in the weights of raw columns, might be no number.
        """
        return np.where(self.deviation > _LEAST, self.deviation, 1.0)


def _deviation(moments: Moments, dtype: Any) -> Array:
    """Return the deviations, zero where they are rounding.

    The mean of n equal numbers is off by it, in the precision of the columns.
    """
    rounding = 10 * np.finfo(dtype).eps * np.abs(moments.mean)
    return np.where(moments.deviation <= rounding, 0, moments.deviation)


def _average(X: Array, weights: Array | None) -> Array:
    """Return the weighted mean of each column."""
    xp = namespace(X)
    if weights is None:
        return xp.mean(X, axis=0)
    return xp.sum(X * weights[:, None], axis=0) / xp.sum(weights)


def _largest(X: Array) -> Array:
    """Return the largest size of each column, 1 where all are zero."""
    if X.shape[0] == 0:
        return np.ones(X.shape[1])
    if not sparse.issparse(X):
        xp = namespace(X)
        size = to_host(xp.max(xp.abs(X), axis=0)).astype(np.float64)
        return np.where(size > 0, size, 1.0)
    size = abs(X).max(axis=0)
    size = size.toarray().ravel().astype(np.float64)
    return np.where(size > 0, size, 1.0)


@dataclass(frozen=True)
class Scaling:
    """Inputs centred and scaled on their way in, outputs on their way out.

    A network of the scaled columns is one of the raw columns too, with other weights in
    its first and last layers: :meth:`fold` and :meth:`unfold` change between the two,
    exactly but for rounding. Either side may be None, for what is taken as it is.

    Parameters
    ----------
    inputs, outputs : Moments, optional
        Of the columns of X, and of the targets.
    centred : bool, default=True
        Whether inputs are centred, which sparse ones are not.
    """

    inputs: Moments | None = None
    outputs: Moments | None = None
    centred: bool = True

    @property
    def _shift(self) -> Array:
        """What inputs are centred by, in units of their scale."""
        assert self.inputs is not None
        shift = self.inputs.mean / self.inputs.scale
        return shift if self.centred else np.zeros_like(shift)

    def scale_inputs(self, X: Array) -> Array:
        """Return scaled inputs, of the dtype of X: O(n f)."""
        if self.inputs is None:
            return X
        if isinstance(X, LazyRows):
            return X.then(self.scale_inputs)
        if sparse.issparse(X):
            scaled = sparse.csr_array(X) @ diagonal_matrix(1 / self.inputs.scale)
            return scaled.astype(X.dtype)
        # Centred first: a column far from zero keeps its digits.
        centre = like(self.inputs.mean, X) if self.centred else 0.0
        return as_precision((X - centre) / like(self.inputs.scale, X), precision(X))

    def restore_inputs(self, X: Array) -> Array:
        """Return raw inputs of scaled ones, of the dtype of X."""
        if self.inputs is None:
            return X
        if sparse.issparse(X):
            raw = sparse.csr_array(X) @ diagonal_matrix(self.inputs.scale)
            return raw.astype(X.dtype)
        centre = like(self.inputs.mean, X) if self.centred else 0.0
        return as_precision(X * like(self.inputs.scale, X) + centre, precision(X))

    def scale_targets(self, y: Array) -> Array:
        """Return scaled targets."""
        if self.outputs is None:
            return y
        if isinstance(y, LazyRows):
            return y.then(self.scale_targets)
        scaled = (y - like(self.outputs.mean, y)) / like(self.outputs.scale, y)
        return as_precision(scaled, precision(y))

    def restore_outputs(self, z: Array) -> Array:
        """Return the outputs in the units of the targets."""
        if self.outputs is None:
            return z
        restored = z * like(self.outputs.scale, z) + like(self.outputs.mean, z)
        return as_precision(restored, precision(z))

    def fold(self, network: MLP, theta: Array) -> Array:
        """Return the parameters for raw columns of those for scaled ones."""
        raw = as_precision(theta, np.float64, copy=True)
        layers = network.unpack(raw)
        if self.inputs is not None:
            first = layers[0]
            if self.centred:
                # A constant column is zero, whatever its weight: the bias is spared it.
                first[:, :-1] *= like(self.inputs.deviation > 0, raw, precision(raw))
            first[:, -1] -= first[:, :-1] @ like(self._shift, raw)
            first[:, :-1] /= like(self.inputs.scale, raw)
        if self.outputs is not None:
            with np.errstate(over="ignore"):
                layers[-1][...] *= like(self.outputs.scale[:, None], raw)
            layers[-1][:, -1] += like(self.outputs.mean, raw)
        dtype = precision(theta)
        most = float(np.finfo(dtype).max)
        return as_precision(namespace(raw).clip(raw, -most, most), dtype)

    def unfold(self, network: MLP, raw: Array) -> Array:
        """Return the parameters for scaled columns of those for raw ones."""
        theta = as_precision(raw, np.float64, copy=True)
        layers = network.unpack(theta)
        if self.outputs is not None:
            layers[-1][:, -1] -= like(self.outputs.mean, theta)
            layers[-1][...] /= like(self.outputs.scale[:, None], theta)
        if self.inputs is not None:
            first = layers[0]
            first[:, :-1] *= like(self.inputs.scale, theta)
            first[:, -1] += first[:, :-1] @ like(self._shift, theta)
        return as_precision(theta, precision(raw))

    def unit_in(self, new: "Scaling") -> float:
        """Return by what squares of scaled targets are multiplied for a new scaling.

        The mean over the outputs.
        """
        if self.outputs is None or new.outputs is None:
            return 1.0
        return float(np.mean((self.outputs.scale / new.outputs.scale) ** 2))

    def change_to(self, new: "Scaling", network: MLP) -> tuple[Any, Array]:
        """Return A and a of ``theta = A theta' + a``, theta' being for a new scaling.

        The same network of raw columns has both parameters. A is sparse: a diagonal,
        and what moves a bias of the first layer with the weights of its neuron.
        """
        zero = np.zeros(network.n_parameters)
        shift = self.unfold(network, new.fold(network, zero))
        factors = np.ones(network.n_parameters)
        layers, at = network.unpack(factors), network.unpack(np.arange(len(zero)))
        if self.outputs is not None:
            assert new.outputs is not None
            layers[-1][...] *= (new.outputs.scale / self.outputs.scale)[:, None]
        A = diagonal_matrix(factors)
        if self.inputs is not None:
            assert new.inputs is not None
            ratio = self.inputs.scale / new.inputs.scale
            outer = layers[0][:, -1:]
            # Of the outputs' scale too, where the first layer is the last.
            moved = outer * (self._shift * ratio - new._shift)
            layers[0][:, :-1] *= ratio
            rows = np.repeat(at[0][:, -1], at[0].shape[1] - 1)
            pair = rows, at[0][:, :-1].ravel()
            coupling = sparse.coo_array((moved.ravel(), pair), shape=(len(zero),) * 2)
            A = diagonal_matrix(factors) + coupling
        return A.tocsr(), shift
