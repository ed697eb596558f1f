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

    As in a pivoted Cholesky factorisation only diagonals are carried on, and the
    columns of the indices taken are conditioned when they are taken.

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
        Positions within the nodes: O(K m r^2).
    """
    nodes = np.arange(len(D))
    own, left = (np.einsum("kii->ki", X).copy() for X in (D, far))
    floor = 100 * np.finfo(D.dtype).eps * np.maximum(own, np.finfo(D.dtype).tiny)
    whole = np.sum(left, axis=1)
    free = np.ones(own.shape, dtype=bool)
    # Of step j: what it interpolates by, its column of the conditioned D, and f with
    # far - d f^T - f d^T conditioned.
    steps = np.empty((3, len(D), rank, D.shape[1]), D.dtype)
    by, columns, f = steps
    chosen = np.empty((len(D), 0), dtype=int)
    for j in range(rank):
        if j >= least and np.all(np.maximum(left, 0).sum(axis=1) <= tol**2 * whole):
            break
        gain = np.maximum(left, 0)
        # An index that the others determine adds nothing, whatever rounding says.
        gain[own <= floor] = -1
        gain[~free] = -2
        s = np.argmax(gain, axis=1)
        chosen = np.concatenate((chosen, s[:, None]), axis=1)
        free[nodes, s] = False
        before, at = steps[:, :, :j], (nodes, slice(None, j), s)
        d = D[nodes, s] - _combined(by[at], before[1])
        g = far[nodes, s] - _combined(by[at], before[2]) - _combined(f[at], before[0])
        columns[:, j] = d
        by[:, j] = d = d / np.maximum(own[nodes, s], floor[nodes, s])[:, None]
        f[:, j] = g = g - 0.5 * left[nodes, s][:, None] * d
        left -= 2 * d * g
        own -= d * columns[:, j]
    return chosen


def _combined(weights: Array, rows: Array) -> Array:
    """Return the weighted sum of each node's rows."""
    return (weights[:, None] @ rows)[:, 0]
