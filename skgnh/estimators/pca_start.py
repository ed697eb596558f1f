"""An autoencoder that begins as principal component analysis."""

from typing import Any

import numpy as np
from scipy.linalg import eigh, lstsq

from skgnh.arrays import is_foreign, like, namespace, precision, to_host
from skgnh.block_objective import in_blocks
from skgnh.lazy_rows import made

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
    network, xp = objective.network, namespace(theta)
    tiny = float(np.finfo(precision(theta)).tiny)
    theta = 1e-3 * theta
    layers, code = network.unpack(theta), min(network.layer_units[1:-1])
    *covariance, squares, of_inputs = to_host(objective.summed(_squares))
    covariance = np.array(covariance)
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
    units = np.sqrt(squares / np.maximum(of_inputs, tiny))
    k = min(layers[0].shape[0], len(values))
    scale = size / np.sqrt(np.maximum(values[:k], 1e-18 * max(values[0], 1e18 * tiny)))
    first = (directions[:, :k] * scale).T * units
    layers[0][:k, :-1] = like(first, theta, precision(theta))
    layers[0][:k, -1] = 0.0
    for layer in layers[1:-1]:
        for same in range(min(layer.shape[0], layer.shape[1] - 1, k)):
            layer[same, same] = 1.0
    systems = objective.of_parts(_system, theta, in_blocks(objective.inputs))
    a, T = (xp.concat(side) for side in zip(*systems, strict=True))
    if not bool(xp.all(xp.isfinite(a))):
        return xp.full_like(theta, np.nan)
    layers[-1][...] = _lstsq(a, T).T
    return theta


def _lstsq(a: Array, b: Array) -> Array:
    """Return the least squares solution of least norm."""
    if is_foreign(a):
        return namespace(a).linalg.pinv(a, rtol=1e-10) @ b
    return lstsq(a, b, cond=1e-10)[0]


def _squares(part: Any) -> Array:
    """Return the covariance of targets, their squares, and those of inputs, as rows."""
    X, T, w = made(part.inputs)[:, :-1], made(part.targets), part.weights[:, None]
    xp = namespace(T)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = [xp.sum(w * x**2, axis=0)[None, :] for x in (T, X)]
        return xp.concat([(T * w).T @ T, *squares])


def _system(part: Any, theta: Array, brief: bool) -> tuple[Array, Array]:
    """Return what the last layer is solved from, or fewer rows of the same solution."""
    root = part.weights[:, None] ** 0.5
    with np.errstate(over="ignore", invalid="ignore"):
        a = part.network.trace(theta, made(part.inputs)).inputs[-1] * root
    T = made(part.targets) * root
    if brief and np.isfinite(a).all():
        Q, a = np.linalg.qr(a)
        T = Q.T @ T
    return a, T
