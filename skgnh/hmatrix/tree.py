"""Index trees without geometry: which indices share a leaf."""

from typing import Any

import numpy as np

Array = Any

# Indices whose centre stands for a node's, when its farthest pair is looked for.
_CENTRE = 8
ORDERS = ("natural", "diagonal", "angle", "kernel")


def ordered(
    H: Any, order: str, n_leaves: int, rng: Any, diagonal: Array | None = None
) -> Array:
    """Return the indices of H in one of the orders; its diagonal may be at hand."""
    if order == "natural":
        return natural_order(H.shape[0])
    if order == "diagonal":
        return diagonal_order(H.diagonal() if diagonal is None else diagonal)
    return distance_order(H, n_leaves, order, rng)


def natural_order(n: int) -> Array:
    """Return the indices in their own order."""
    return np.arange(n)


def diagonal_order(diagonal: Array) -> Array:
    """Return the indices by falling diagonal, for bases near the eigenvectors."""
    return np.argsort(-diagonal, kind="stable")


def distance_order(H: Any, n_leaves: int, kind: str, rng: Any) -> Array:
    r"""Return the indices ordered by recursive median splits on Gram distances.

    With H the Gram matrix of vectors, two indices are as far apart as their vectors:
    :math:`H_{ii} + H_{jj} - 2 H_{ij}` ('kernel'), or as the angle between them is wide:
    :math:`1 - H_{ij}^2 / (H_{ii} H_{jj})` ('angle'; 1 where an index has no length). A
    node is split at the median of the difference of the distances to p, far from a
    random centre, and q, far from p.

    Parameters
    ----------
    H : operator
        With ``entries`` and ``diagonal``.
    n_leaves : int
        A power of two.
    kind : {'angle', 'kernel'}
        Distance.
    rng : Generator
        Draws the centres.

    Returns
    -------
    ndarray of shape (n,)
        Indices, leaf after leaf; leaves differ by one index at most. The cost is
        ``O(n log n_leaves)`` entries.

    References
    ----------
    .. [1] C. Yu, S. Reiz, G. Biros, "Distributed-memory hierarchical compression of
           dense SPD matrices", SC18 (GOFMM).
    """
    diagonal = np.maximum(H.diagonal(), 0)

    def distances(index, others):
        block = H.entries(index, others)
        if kind == "kernel":
            return diagonal[index, None] + diagonal[others] - 2 * block
        lengths = diagonal[index, None] * diagonal[others]
        cosines = np.divide(
            block**2, lengths, out=np.zeros_like(block), where=lengths > 0
        )
        return 1 - cosines

    nodes = [np.arange(len(diagonal))]
    while len(nodes) < n_leaves:
        nodes = [half for node in nodes for half in _split(node, distances, rng)]
    return np.concatenate(nodes)


def _split(node: Array, distances: Any, rng: Any) -> tuple[Array, Array]:
    centre = rng.choice(node, min(_CENTRE, len(node)), replace=False)
    p = node[np.argmax(distances(node, centre).mean(axis=1))]
    to_p = distances(node, np.array([p]))[:, 0]
    q = node[np.argmax(to_p)]
    side = to_p - distances(node, np.array([q]))[:, 0]
    order = np.argsort(side, kind="stable")
    half = (len(node) + 1) // 2
    return np.sort(node[order[:half]]), np.sort(node[order[half:]])


def leaves(order: Array, n_leaves: int) -> Array:
    """Return the leaves, halves of halves, as rows; the shorter end with -1."""
    parts = [order]
    while len(parts) < n_leaves:
        cuts = [(part, (len(part) + 1) // 2) for part in parts]
        parts = [half for part, cut in cuts for half in (part[:cut], part[cut:])]
    out = np.full((n_leaves, len(parts[0])), -1)
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    return out
