"""An autoencoder that begins as principal component analysis."""

from typing import Any

import numpy as np
from scipy.linalg import eigh, lstsq

from skgnh.arrays import is_foreign, like, namespace, precision, to_host

Array = Any

# Activations with a linear range about zero, columns up to which their covariance is
# decomposed, and the range of the first activations.
_LINEAR, _COLUMNS = {"tanh", "identity"}, 2000
_SMALLEST, _LARGEST = 1e-3, 0.3


def serves(network: Any) -> bool:
    """Say whether a network can begin so."""
    return _LINEAR.issuperset(network.activations) and network.n_outputs <= _COLUMNS


def pca_start(objective: Any, theta: Array) -> Array:
    r"""Return parameters with which a network is nearly the PCA of its targets.

    The first layer holds leading principal directions at an amplitude in tanh's linear
    range, the others hand them on, and the last is solved for by least squares. The
    amplitude grows with the share :math:`u` of variance that PCA leaves, as
    :math:`0.3\, u^{1/4}`: where it leaves little, what tanh bends must be less.

    Parameters
    ----------
    objective : Objective
        Of targets that are the inputs, in other units.
    theta : ndarray of shape (P,)
        A random start, which units beyond the directions keep, at a thousandth.

    Returns
    -------
    ndarray of shape (P,)
        O(n d^2) and O(d^3) for d columns; nan where the covariance overflows.
    """
    network, X = objective.network, objective.inputs[:, :-1]
    T, tiny = objective.targets, float(np.finfo(precision(objective.targets)).tiny)
    xp = namespace(T)
    theta = 1e-3 * theta
    layers, code = network.unpack(theta), min(network.layer_units[1:-1])
    w = objective.weights[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        covariance = to_host((T * w).T @ T)
    if not np.isfinite(covariance).all():
        return xp.full_like(theta, np.nan)
    values, directions = eigh(covariance)
    values, directions = np.maximum(values[::-1], 0), directions[:, ::-1]
    # Rounding must not choose their signs.
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(len(values))])
    unexplained = values[code:].sum() / max(values.sum(), tiny)
    size = np.clip(_LARGEST * unexplained**0.25, _SMALLEST, _LARGEST)
    # Targets are inputs times these.
    squares = (to_host(xp.sum(w * x**2, axis=0)) for x in (T, X))
    of_targets, of_inputs = squares
    units = np.sqrt(of_targets / np.maximum(of_inputs, tiny))
    k = min(layers[0].shape[0], len(values))
    scale = size / np.sqrt(np.maximum(values[:k], 1e-18 * max(values[0], 1e18 * tiny)))
    first = (directions[:, :k] * scale).T * units
    layers[0][:k, :-1] = like(first, theta, precision(theta))
    layers[0][:k, -1] = 0.0
    for layer in layers[1:-1]:
        for same in range(min(layer.shape[0], layer.shape[1] - 1, k)):
            layer[same, same] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        a = network.trace(theta, objective.inputs).inputs[-1]
    if not bool(xp.all(xp.isfinite(a))):
        return xp.full_like(theta, np.nan)
    layers[-1][...] = _lstsq(a * xp.sqrt(w), T * xp.sqrt(w)).T
    return theta


def _lstsq(a: Array, b: Array) -> Array:
    """Return the least squares solution of least norm."""
    if is_foreign(a):
        return namespace(a).linalg.pinv(a, rtol=1e-10) @ b
    return lstsq(a, b, cond=1e-10)[0]
