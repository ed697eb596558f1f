"""Columns and targets centred and scaled, and networks that undo it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from skgnh.lazy_rows import LazyRows, nbytes_of
from skgnh.memory import parts_that_fit
from skgnh.network import MLP

Array = Any

# Least standard deviation of a column that is not taken as constant.
_LEAST = float(np.finfo(np.float64).tiny / np.finfo(np.float64).eps)


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
                cls._of_few(X[rows], None if weights is None else weights[rows])
                for rows in parts
            ),
            X.dtype,
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
            unit = sparse.csr_array(X) @ sparse.diags_array(1 / size)
            unit = sparse.csr_matrix(unit.astype(np.float64))
            w = None if weights is None else np.asarray(weights, dtype=np.float64)
            mean, variance = mean_variance_axis(unit, axis=0, weights=w)
        else:
            unit = X / size
            mean = np.average(unit, axis=0, weights=weights)
            variance = np.average((unit - mean) ** 2, axis=0, weights=weights)
        own = cls(total, mean, np.sqrt(variance))
        return cls(total, mean * size, _deviation(own, X.dtype) * size)

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


def _largest(X: Array) -> Array:
    """Return the largest size of each column, 1 where all are zero."""
    if X.shape[0] == 0:
        return np.ones(X.shape[1])
    size = abs(X).max(axis=0)
    size = (size.toarray().ravel() if sparse.issparse(X) else size).astype(np.float64)
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
        shift = self.inputs.mean / self.inputs.scale
        return shift if self.centred else np.zeros_like(shift)

    def scale_inputs(self, X: Array) -> Array:
        """Return scaled inputs, of the dtype of X: O(n f)."""
        if self.inputs is None:
            return X
        if isinstance(X, LazyRows):
            return X.then(self.scale_inputs)
        if sparse.issparse(X):
            scaled = sparse.csr_array(X) @ sparse.diags_array(1 / self.inputs.scale)
            return scaled.astype(X.dtype)
        # Centred first: a column far from zero keeps its digits.
        centre = self.inputs.mean if self.centred else 0.0
        return ((X - centre) / self.inputs.scale).astype(X.dtype, copy=False)

    def restore_inputs(self, X: Array) -> Array:
        """Return raw inputs of scaled ones, of the dtype of X."""
        if self.inputs is None:
            return X
        if sparse.issparse(X):
            raw = sparse.csr_array(X) @ sparse.diags_array(self.inputs.scale)
            return raw.astype(X.dtype)
        centre = self.inputs.mean if self.centred else 0.0
        return (X * self.inputs.scale + centre).astype(X.dtype, copy=False)

    def scale_targets(self, y: Array) -> Array:
        """Return scaled targets."""
        if self.outputs is None:
            return y
        if isinstance(y, LazyRows):
            return y.then(self.scale_targets)
        scaled = (y - self.outputs.mean) / self.outputs.scale
        return scaled.astype(y.dtype, copy=False)

    def restore_outputs(self, z: Array) -> Array:
        """Return the outputs in the units of the targets."""
        if self.outputs is None:
            return z
        restored = z * self.outputs.scale + self.outputs.mean
        return restored.astype(z.dtype, copy=False)

    def fold(self, network: MLP, theta: Array) -> Array:
        """Return the parameters for raw columns of those for scaled ones."""
        raw = theta.astype(np.float64)
        layers = network.unpack(raw)
        if self.inputs is not None:
            first = layers[0]
            first[:, -1] -= first[:, :-1] @ self._shift
            first[:, :-1] /= self.inputs.scale
        if self.outputs is not None:
            with np.errstate(over="ignore"):
                layers[-1][...] *= self.outputs.scale[:, None]
            layers[-1][:, -1] += self.outputs.mean
        most = np.finfo(theta.dtype).max
        return np.clip(raw, -most, most).astype(theta.dtype)

    def unfold(self, network: MLP, raw: Array) -> Array:
        """Return the parameters for scaled columns of those for raw ones."""
        theta = raw.astype(np.float64)
        layers = network.unpack(theta)
        if self.outputs is not None:
            layers[-1][:, -1] -= self.outputs.mean
            layers[-1][...] /= self.outputs.scale[:, None]
        if self.inputs is not None:
            first = layers[0]
            first[:, :-1] *= self.inputs.scale
            first[:, -1] += first[:, :-1] @ self._shift
        return theta.astype(raw.dtype)

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
            layers[-1][...] *= (new.outputs.scale / self.outputs.scale)[:, None]
        A = sparse.diags_array(factors)
        if self.inputs is not None:
            ratio = self.inputs.scale / new.inputs.scale
            outer = layers[0][:, -1:]
            # Of the outputs' scale too, where the first layer is the last.
            moved = outer * (self._shift * ratio - new._shift)
            layers[0][:, :-1] *= ratio
            rows = np.repeat(at[0][:, -1], at[0].shape[1] - 1)
            pair = rows, at[0][:, :-1].ravel()
            coupling = sparse.coo_array((moved.ravel(), pair), shape=(len(zero),) * 2)
            A = sparse.diags_array(factors) + coupling
        return A.tocsr(), shift
