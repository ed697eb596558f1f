"""How the memory of a hierarchical matrix is shared out."""

import numpy as np


def plan(n: int, storage: float, share: float) -> dict[str, int]:
    r"""Return ranks and leaf size that take `storage` numbers an index.

    A global part of rank g, leaves of m indices and skeletons of rank r take
    about :math:`g + m/2 + r + 4 r^2 / m` numbers an index, of symmetric blocks one
    triangle.
    For what the global part leaves, the largest rank is taken that leaves of at least
    twice as many indices allow.

    Parameters
    ----------
    n : int
        Indices.
    storage : float
        Numbers for each of them.
    share : float
        Of the storage, for the global part; 1 leaves the remainder its diagonal.

    Returns
    -------
    dict
        ``rank``, ``leaf_size`` and ``global_rank`` for :func:`skgnh.hmatrix.compress`;
        one leaf, exact, where that is no more than `storage`.

    Raises
    ------
    ValueError
        If share is not in [0, 1], or the storage is too small.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}.")
    if n + 1 <= 2 * storage:
        return {"rank": 1, "leaf_size": n, "global_rank": 0}
    global_rank = round(share * storage)
    if share == 1 and storage >= 1:
        return {"rank": 0, "leaf_size": 1, "global_rank": int(storage - 1)}
    rest, best = storage - global_rank, (0, 1)
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
    return {"rank": best[0], "leaf_size": best[1], "global_rank": global_rank}
