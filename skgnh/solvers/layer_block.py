"""The block that one layer leaves to the elimination of a network's layers."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, lu_factor, lu_solve

Array = Any


class LayerBlock:
    """One layer: the curvature M behind it and LU factors of ``I + M R R^T``.

    The symmetric ``C = I + R^T M R`` has the same determinant and tells the inertia,
    but solves by it would lose twice the digits where ``R R^T`` is large.
    """

    def __init__(self, root: Array, M: Array):
        w, n, m = root.shape
        by_unit = M.reshape(-1, w, n).transpose(1, 0, 2) @ root
        mixed = by_unit.transpose(1, 0, 2).reshape(w, n, w * m)
        C = (np.swapaxes(root, 1, 2) @ mixed).reshape(w * m, w * m)
        C.flat[:: len(C) + 1] += 1
        self.n_negative = n_negative(C)
        system = (by_unit @ np.swapaxes(root, 1, 2)).transpose(1, 0, 2).reshape(M.shape)
        system.flat[:: len(M) + 1] += 1
        self._curvature, self._lu = M, lu_factor(system, check_finite=False)

    def remaining(self) -> Array:
        """Return ``(I + M R R^T)^-1 M``, which is symmetric."""
        N = lu_solve(self._lu, self._curvature, check_finite=False)
        return (N + N.T) / 2

    def multiplier(self, state: Array, offset: Array) -> Array:
        """Return ``(I + M R R^T)^-1 (M state + offset)`` for states (k, w, n)."""
        h = state.reshape(len(state), -1) @ self._curvature + offset.reshape(
            len(state), -1
        )
        return lu_solve(self._lu, h.T, check_finite=False).T.reshape(state.shape)

    def logdet(self) -> float:
        """Return the logarithm of the determinant's size."""
        return float(np.log(np.abs(self._lu[0].diagonal().astype(np.float64))).sum())


def n_negative(C: Array) -> int:
    """Return how many eigenvalues of a symmetric matrix are negative."""
    if not np.isfinite(C).all():
        raise LinAlgError("A block of the elimination is not finite.")
    try:
        np.linalg.cholesky(C)
        return 0
    except LinAlgError:
        values = np.linalg.eigvalsh(C)
    size = np.abs(values)
    if size.min() <= np.finfo(C.dtype).eps * size.max():
        raise LinAlgError("A block of the elimination is singular.")
    return int((values < 0).sum())
