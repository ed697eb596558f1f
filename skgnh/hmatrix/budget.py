"""How the memory of a hierarchical matrix is shared out."""

from typing import Any

import numpy as np

# Indices of a head, whose factorisation takes the third power of them.
_LARGEST_HEAD = 4096


def plan(n: int, storage: float, share: float, head: float = 0.0) -> dict[str, Any]:
    r"""Return ranks and sizes that take `storage` numbers an index.

    A global part of rank g, a head of h indices, leaves of m and skeletons of rank r
    take about :math:`g + h^2 / (2 n) + m/2 + r + 4 r^2 / m` numbers an index, of
    symmetric blocks one triangle. Beside a head, leaves have no skeletons. Without one
    the largest rank is taken that leaves of at least twice as many indices allow.

    Parameters
    ----------
    n : int
        Indices.
    storage : float
        Numbers for each of them.
    share : float
        Of the storage, for the global part; 1 leaves the remainder its diagonal.
    head : float, default=0.0
        Least share, of what the global part leaves of the storage, for the head, as
        far as 4,096 indices take it; 1 leaves the others their diagonal. What neither
        head nor leaves take goes to the global part.

    Returns
    -------
    dict
        ``rank``, ``leaf_size``, ``global_rank`` and ``head_size`` for
        :func:`skgnh.hmatrix.compress`; one leaf, exact, where that is no more than
        `storage`.

    Raises
    ------
    ValueError
        If share or head is not in [0, 1], or the storage is too small.
    """
    for name, value in (("share", share), ("head", head)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}.")
    if n + 1 <= 2 * storage:
        return _sizes(leaf_size=n, rank=1)
    global_rank = round(share * storage)
    if share == 1 and storage >= 1:
        return _sizes(int(storage - 1))
    rest, best = storage - global_rank, (0, 1)
    if head and (sizes := _head_and_leaves(n, rest, head)):
        head_size, leaf_size, left = sizes
        return _sizes(global_rank + int(left), head_size, leaf_size)
    for depth in range(1, int(np.log2(n))):
        m = n / 2**depth
        room = 16 * (rest / m - 0.5) + 1
        rank = int(m * (np.sqrt(max(room, 0)) - 1) / 8)
        if m >= 2 * rank and rank > best[0]:
            best = rank, int(np.ceil(m))
    if best[0] == 0:
        raise ValueError(
            f"storage={storage:.1f} numbers a parameter, {rest:.1f} of them beside the "
            "global part, are too few for a hierarchical matrix; give more."
        )
    return _sizes(global_rank, leaf_size=best[1], rank=best[0])


def _head_and_leaves(
    n: int, storage: float, head: float
) -> tuple[int, int, float] | None:
    """Return the sizes of head and leaves, and the storage that is left.

    Leaves are halves of halves of the others, the largest that leave the head its
    share; what they do not take is the head's. None if nothing fits.
    """
    sizes = np.arange(min(n, _LARGEST_HEAD) + 1)
    triangles, out = sizes * (sizes + 1) / 2, None
    for depth in range(int(np.ceil(np.log2(n))) + 1):
        leaf = np.ceil((n - sizes) / 2**depth)
        total = (triangles + 2**depth * leaf * (leaf + 1) / 2) / n
        if not (total <= storage).any():
            continue
        k = np.flatnonzero(total <= storage)[-1]
        out = int(k), max(1, int(leaf[k])), storage - total[k]
        if k == len(sizes) - 1 or triangles[k] >= head * (storage - 1) * n:
            break
    return out


def _sizes(
    global_rank: int = 0, head_size: int = 0, leaf_size: int = 1, rank: int = 0
) -> dict[str, int]:
    return {
        "global_rank": global_rank,
        "head_size": head_size,
        "leaf_size": leaf_size,
        "rank": rank,
    }
