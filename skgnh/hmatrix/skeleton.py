"""Skeletons: the indices of a node that speak for all of it to the far field."""

from typing import Any

import numpy as np

Array = Any


def select(D: Array, far: Array, rank: int, tol: float, least: int = 1) -> Array:
    r"""Choose skeletons of many nodes at once, greedily.

    The far field of a node is approximated by conditioning on its skeleton S,
    :math:`H_{\tau F} \approx D_{:S} D_{SS}^{-1} H_{SF}`. Each step takes the index
    with most of the far field that is left, :math:`\max_s \|H_{sF}\|`, conditioned on
    the indices taken, as a pivoted QR factorisation would. (To divide by the index's
    own conditioned variance looks better for one step, but it clusters the indices, so
    that the interpolation grows and rounding costs what is positive definite.)

    Parameters
    ----------
    D : ndarray of shape (K, m, m)
        Diagonal blocks of K nodes, symmetric positive definite.
    far : ndarray of shape (K, m, m)
        ``H_F H_F^T`` of sampled (and scaled) far columns.
    rank : int
        Most indices for a node.
    tol : float
        Stop once, in every node, the far field left is below `tol` times the whole, in
        the Frobenius norm.
    least : int, default=1
        Fewest indices for a node, whatever is left.

    Returns
    -------
    ndarray of int of shape (K, r)
        Positions within the nodes: O(K m^2 r).
    """
    D, far = D.copy(), far.copy()
    nodes = np.arange(len(D))
    scale = np.maximum(np.einsum("kii->ki", D).copy(), np.finfo(D.dtype).tiny)
    floor = 100 * np.finfo(D.dtype).eps * scale
    whole = np.sum(np.einsum("kii->ki", far), axis=1)
    free = np.ones(scale.shape, dtype=bool)
    chosen = []
    for _ in range(rank):
        left = np.maximum(np.einsum("kii->ki", far), 0)
        if len(chosen) >= least and np.all(np.sum(left, axis=1) <= tol**2 * whole):
            break
        own = np.einsum("kii->ki", D)
        gain = left.copy()
        # An index that the others determine adds nothing, whatever rounding says.
        gain[own <= floor] = -1
        gain[~free] = -2
        s = np.argmax(gain, axis=1)
        chosen.append(s)
        free[nodes, s] = False
        pivot = np.maximum(D[nodes, s, s], floor[nodes, s])
        d = D[nodes, :, s] / pivot[:, None]
        f = far[nodes, :, s] - 0.5 * far[nodes, s, s][:, None] * d
        far -= d[:, :, None] * f[:, None, :]
        far -= f[:, :, None] * d[:, None, :]
        D -= (pivot[:, None] * d)[:, :, None] * d[:, None, :]
    return np.stack(chosen, axis=1)
