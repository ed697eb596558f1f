"""A randomised low-rank part of a positive semidefinite operator."""

from typing import Any

import numpy as np

from skgnh.progress import Track, silent

Array = Any


def nystrom(
    H: Any, rank: int, rng: Any, power: int = 2, track: Track = silent
) -> Array:
    """Return G of shape (P, k), k <= rank, with ``H - G G^T`` positive semidefinite.

    ``G G^T = H Q (Q^T H Q)^-1 Q^T H`` for an orthonormal Q near the leading
    eigenspace, a random start taken `power` times through H: whatever Q is, the rest is
    a Schur complement.

    Parameters
    ----------
    H : operator of shape (P, P)
        Symmetric positive semidefinite, with products.
    rank : int
        Most columns.
    rng : Generator
        Source of the start.
    power : int, default=2
        Passes of the start through H.
    track : callable
        Shows how many are done, see :func:`skgnh.progress.tracker`.

    Returns
    -------
    ndarray of shape (P, k)
        Directions that rounding makes up are left out. The cost is ``(power + 1) rank``
        products and O(P rank^2).
    """
    P = H.shape[0]
    if rank == 0:
        return np.zeros((P, 0), H.dtype)
    Y = rng.standard_normal((P, rank)).astype(H.dtype)
    for _ in track(range(power + 1), "global part"):
        Q = np.linalg.qr(Y)[0]
        Y = H @ Q
    core = Q.T @ Y
    if not np.isfinite(core).all():
        raise np.linalg.LinAlgError("H must be finite.")
    # Products leave Q near eigenvectors in falling order. Scaled to a unit diagonal the
    # core has its small directions to their own accuracy, not to that of the largest,
    # which would make the rest indefinite where G takes nearly all of an index.
    own = core.diagonal()
    kept = own > np.finfo(H.dtype).eps ** (2 / 3) * max(own.max(), 0)
    scale = 1 / np.sqrt(own[kept])
    core = scale[:, None] * core[np.ix_(kept, kept)] * scale
    values, vectors = np.linalg.eigh((core + core.T) / 2)
    apart = values > 1e-3
    return (Y[:, kept] * scale) @ (vectors[:, apart] / np.sqrt(values[apart]))
