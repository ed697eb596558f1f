"""A step of the optimal brain surgeon: which weights go, and how the others move."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, solve
from sklearn.utils import gen_batches

from skgnh.operators import RankOneInverse

Array = Any


def surgery(
    theta: Array,
    dropped: Array,
    weights: Array,
    count: int,
    G: Array,
    damping: float,
    block_size: int,
    joint: bool,
) -> None:
    """Drop `count` more weights of theta, and adapt the others, in place.

    Parameters and cost are those of :class:`skgnh.inspection.OBSPruner`; `dropped` is
    the mask of the zeros, `weights` that of what may become one; G is overwritten.
    """
    G[:, dropped] = 0  # they can't move
    unit = np.einsum("ij,ij->", G, G) / (len(G) * (~dropped).sum())
    # Without curvature F is a multiple of I, and saliency the magnitude.
    inverse = RankOneInverse(G, damping * unit or 1.0, block_size)
    free = weights & ~dropped
    t = np.zeros_like(theta)
    if joint:
        chosen = _in_turn(inverse, theta, free, count)
        for block in gen_batches(len(theta), block_size):
            Q = chosen[slice(*np.searchsorted(chosen, (block.start, block.stop)))]
            if len(Q):
                t[Q] = solve(inverse.entries(Q, Q), -theta[Q], assume_a="pos")
    else:
        diagonal = inverse.diagonal()
        _check_positive(diagonal)
        saliency = np.where(free, theta**2 / diagonal, np.inf)
        chosen = np.argsort(saliency, kind="stable")[:count]
        t[chosen] = -theta[chosen] / diagonal[chosen]
    theta += inverse @ t
    dropped[chosen] = True
    theta[dropped] = 0


def _in_turn(inverse: RankOneInverse, theta: Array, free: Array, count: int) -> Array:
    """Return the indices, sorted, of the weights that go if the cheapest always does.

    The blocks of F know nothing of each other: each has an order of its own. The next
    to go is the cheapest of their heads, and whatever a head held up follows it at
    once; so the orders are merged by the largest saliency so far.
    """
    order, saliency = [], []
    for block in gen_batches(len(theta), inverse.block_size):
        Q = block.start + np.flatnonzero(free[block])
        turns, rises = _elimination(inverse.entries(Q, Q), theta[Q], count)
        order.append(Q[turns])
        saliency.append(np.maximum.accumulate(rises))
    merged = np.argsort(np.concatenate(saliency), kind="stable")[:count]
    return np.sort(np.concatenate(order)[merged])


def _elimination(A: Array, theta: Array, count: int) -> tuple[Array, Array]:
    r"""Return the order in which up to `count` weights go, and twice what each costs.

    A is the inverse of F among the weights, O(b^3). To constrain a weight to zero takes
    its row and column out of F: :math:`A - a_w a_w^T / A_{ww}`, an elimination step
    of the Cholesky factor of A, with pivots by the saliency :math:`w^2 / A_{ww}`.
    """
    count = min(count, len(theta))
    theta, diagonal, left = theta.copy(), A.diagonal().copy(), np.ones(len(A), bool)
    L = np.empty((len(A), count))
    order, rises = np.empty(count, int), np.empty(count)
    for k in range(count):
        _check_positive(diagonal[left])
        saliency = np.full(len(A), np.inf)
        np.divide(theta**2, diagonal, out=saliency, where=left)
        w = saliency.argmin()
        order[k], rises[k], left[w] = w, saliency[w], False
        column = A[:, w] - L[:, :k] @ L[w, :k]
        column /= np.sqrt(diagonal[w])
        theta -= column * (theta[w] / column[w])
        diagonal -= column**2
        L[:, k] = column
    return order, rises


def _check_positive(diagonal: Array) -> None:
    if not diagonal.min() > 0:
        raise LinAlgError(
            "The inverse of F is not positive definite to rounding: raise the damping."
        )
