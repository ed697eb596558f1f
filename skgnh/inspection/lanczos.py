"""Stochastic Lanczos quadrature: the spectral density of a matrix from its products."""

from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal
from sklearn.utils import gen_batches

from skgnh.memory import require, rows_per_chunk

Array = Any


def lanczos(
    H: Any,
    starts: Array,
    steps: int,
    against: Array | None = None,
    norm: float = 0.0,
) -> tuple[Array, Array]:
    r"""Tridiagonalise a symmetric matrix from several starts at once.

    Every new vector is made orthogonal to all before it, twice: without this, Lanczos
    vectors turn towards the eigenvectors found and repeat them as ghosts.

    Parameters
    ----------
    H : LinearOperator of shape (P, P)
        Symmetric.
    starts : ndarray of shape (m, P)
        Start vectors of norm one.
    steps : int
        Length of the recurrence, at most P less the rows of `against`.
    against : ndarray of shape (k, P), optional
        Orthonormal rows, themselves orthogonal to the starts: the recurrence is that of
        H restricted to their orthogonal complement.
    norm : float, default=0.0
        Norm of H where it is known, and may not be seen in the complement: it says
        what is rounding.

    Returns
    -------
    diagonals : ndarray of shape (m, steps)
        The diagonal of each tridiagonal matrix.
    off_diagonals : ndarray of shape (m, steps - 1)
        Its off-diagonal: zero from where the start's Krylov space is exhausted.

    Notes
    -----
    Cost: `steps` products with m columns and :math:`O(m P \, steps^2)` for the
    orthogonality; memory :math:`m P \, steps` numbers.
    """
    m, P = starts.shape
    basis = np.zeros((m, steps, P), H.dtype)
    diagonals, off_diagonals = np.zeros((m, steps)), np.zeros((m, steps - 1))
    current, eps = starts.astype(H.dtype), np.finfo(H.dtype).eps
    for j in range(steps):
        basis[:, j] = current
        moved = np.ascontiguousarray((H @ current.T).T)
        diagonals[:, j] = np.einsum("mp,mp->m", moved, current)
        if j == steps - 1:
            break
        known = basis[:, : j + 1]
        for _ in range(2):
            if against is not None:
                moved -= (moved @ against.T) @ against
            inside = known @ moved[:, :, None]
            moved -= (np.swapaxes(inside, 1, 2) @ known)[:, 0]
        norms = np.linalg.norm(moved, axis=1)
        # What rounding leaves of a vector inside the space is no new direction.
        scale = max(norm, diagonals.max(), off_diagonals.max(initial=0))
        norms[norms <= 10 * eps * P**0.5 * scale] = 0
        off_diagonals[:, j] = norms
        alive = norms > 0
        current = np.zeros_like(moved)
        current[alive] = moved[alive] / norms[alive, None]
    return diagonals, off_diagonals


def random_recurrences(
    H: Any,
    n_probes: int,
    steps: int,
    rng: Any,
    against: Array | None = None,
    norm: float = 0.0,
) -> tuple[Array, Array]:
    """Run :func:`lanczos` from starts uniform on the unit sphere.

    Parameters
    ----------
    H : LinearOperator of shape (P, P)
        Symmetric.
    n_probes : int
        Number of starts m.
    steps : int
        Steps for each; no more are taken than the space has dimensions.
    rng : RandomState
        Where the starts are drawn from.
    against : ndarray of shape (k, P), optional
        Orthonormal rows: the sphere is that of their orthogonal complement.
    norm : float, default=0.0
        Norm of H where it is known.

    Returns
    -------
    diagonals, off_diagonals : ndarrays of shape (m, steps) and (m, steps - 1)
        The tridiagonal matrices.

    Raises
    ------
    ValueError
        If the vectors of a single start exceed the working memory.
    """
    P = H.shape[0]
    steps = min(steps, P - (0 if against is None else len(against)))
    bytes_per_probe = (steps + 4) * P * H.dtype.itemsize
    require(bytes_per_probe, f"{steps} Lanczos vectors", "Take fewer steps")
    found = []
    for batch in gen_batches(n_probes, rows_per_chunk(bytes_per_probe)):
        starts = rng.standard_normal((batch.stop - batch.start, P))
        if against is not None:
            for _ in range(2):
                starts -= (starts @ against.T) @ against
        starts /= np.linalg.norm(starts, axis=1, keepdims=True)
        found.append(lanczos(H, starts, steps, against, norm))
    diagonals, off_diagonals = zip(*found, strict=True)
    return np.concatenate(diagonals), np.concatenate(off_diagonals)


def gauss_rule(diagonals: Array, off_diagonals: Array) -> tuple[Array, Array]:
    r"""Return the nodes and weights of Gauss quadrature over the spectrum.

    With u uniform on the unit sphere of a space of dimension q,

    .. math:: \frac1q \mathrm{tr} f(H) = E[u^T f(H) u]
              \approx \frac1m \sum_u \sum_j \tau_{uj}^2 f(\theta_{uj})

    where the nodes are the eigenvalues of the tridiagonal matrices (Ritz values) and
    the weights the squared first entries of their eigenvectors. Exact for each u where
    f is a polynomial of degree below ``2 steps``.

    Parameters
    ----------
    diagonals, off_diagonals : ndarrays of shape (m, steps) and (m, steps - 1)
        The tridiagonal matrices.

    Returns
    -------
    nodes, weights : ndarrays of shape (m, steps)
        The weights have sum one.

    References
    ----------
    .. [1] S. Ubaru, J. Chen, Y. Saad, "Fast estimation of tr(f(A)) via stochastic
           Lanczos quadrature", SIAM J. Matrix Anal. Appl. 38(4), 2017.
    """
    nodes, weights = np.empty((2, *diagonals.shape))
    for i, (diagonal, off_diagonal) in enumerate(
        zip(diagonals, off_diagonals, strict=True)
    ):
        nodes[i], vectors = eigh_tridiagonal(diagonal, off_diagonal)
        weights[i] = vectors[0] ** 2 / len(diagonals)
    return nodes, weights


def radau_diagonals(diagonals: Array, off_diagonals: Array) -> Array:
    """Change the last diagonal entries so that zero is an eigenvalue.

    The rule of the changed matrices is that of Gauss and Radau. For a semidefinite H
    and functions such as ``l / (l + damping)`` it errs to the other side than that of
    Gauss, downwards.

    References
    ----------
    .. [1] G. Golub, G. Meurant, "Matrices, moments and quadrature with applications",
           Princeton, 2010, chapter 6.
    """
    out = diagonals.copy()
    pivot = diagonals[:, 0]
    for j in range(1, diagonals.shape[1]):
        square = off_diagonals[:, j - 1] ** 2
        # Pivots are positive until the recurrence ends, or has found the eigenvalue
        # zero to rounding: nothing hangs on what follows.
        fill = np.divide(square, pivot, out=np.zeros_like(square), where=pivot > 0)
        pivot = diagonals[:, j] - fill
    out[:, -1] -= pivot
    return out
