"""A matrix's spectrum as point masses, and what is read off them."""

from typing import Any

import numpy as np

from skgnh.inspection.lanczos import gauss_rule, radau_diagonals, random_recurrences

Array = Any


def spectral_measures(
    H: Any, values: Array, vectors: Array, n_probes: int, steps: int, rng: Any
) -> list[tuple[Array, Array]]:
    """Return point masses of sum one that stand for all eigenvalues.

    Those known enter exactly, each with mass 1/P; quadrature on the orthogonal
    complement of their eigenvectors stands for the others. There its sums vary little
    from start to start: the few eigenvalues that stand out of a network's spectrum are
    gone from it.

    Parameters
    ----------
    H : LinearOperator of shape (P, P)
        Symmetric positive semidefinite.
    values : ndarray of shape (k,)
        Eigenvalues known, in falling order: the leading ones, or all.
    vectors : ndarray of shape (k, P)
        Their orthonormal eigenvectors; not needed where all values are known.
    n_probes, steps, rng
        As :func:`skgnh.inspection.lanczos.random_recurrences` takes them.

    Returns
    -------
    list of (nodes, weights)
        One exact measure where all eigenvalues are known; else that of Gauss and that
        of Gauss and Radau, which err to either side.
    """
    P, known = H.shape[0], len(values)
    exact = values.astype(float), np.full(known, 1 / P)
    if known == P:
        return [exact]
    diagonals, off_diagonals = random_recurrences(
        H, n_probes, steps, rng, vectors, norm=float(values[0])
    )
    measures = []
    for changed in (diagonals, radau_diagonals(diagonals, off_diagonals)):
        nodes, weights = gauss_rule(changed, off_diagonals)
        # Below zero there is only rounding.
        nodes = np.concatenate([exact[0], np.maximum(nodes, 0).ravel()])
        weights = weights.ravel() * (P - known) / P
        measures.append((nodes, np.concatenate([exact[1], weights])))
    return measures


def effective_dimension(
    nodes: Array, weights: Array, damping: float, rounding: float
) -> float:
    """Return ``sum weights * nodes / (nodes + damping)``, of at most sum(weights).

    At zero damping it is the share of nodes above the level of rounding: the rank.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.inspection.measure import effective_dimension
    >>> nodes, weights = np.array([3.0, 1.0, 1e-17]), np.ones(3)
    >>> effective_dimension(nodes, weights, damping=1.0, rounding=1e-15)
    1.25
    >>> effective_dimension(nodes, weights, damping=0.0, rounding=1e-15)
    2.0
    """
    if damping > 0:
        return float(np.sum(weights * nodes / (nodes + damping)))
    return float(np.sum(weights[nodes > rounding]))


def gaussian_density(
    grid: Array,
    nodes: Array,
    weights: Array,
    width: float | None = None,
    *,
    log: bool = False,
) -> Array:
    """Smooth point masses: ``sum_j weights[j] N(grid; nodes[j], width^2)``.

    Parameters
    ----------
    grid : array-like of float
        Where to evaluate it; positive if `log`.
    nodes, weights : ndarrays of shape (m,)
        The masses; the nodes are positive if `log`.
    width : float, optional
        Standard deviation: by default one hundredth of the largest node or, if `log`, a
        tenth of a decade.
    log : bool, default=False
        Smooth over the decimal logarithm instead, `width` being in decades.

    Returns
    -------
    ndarray of the shape of `grid`
        The density, over the axis that it was smoothed on.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.inspection.measure import gaussian_density
    >>> grid = np.linspace(-3, 5, 801)
    >>> density = gaussian_density(
    ...     grid, np.array([0.0, 2.0]), np.array([0.3, 0.7]), 0.1
    ... )
    >>> float(grid[density.argmax()]), round(float(density.sum() * 0.01), 6)
    (2.0, 1.0)
    """
    grid = np.asarray(grid, dtype=float)
    if log:
        if not (grid > 0).all():
            raise ValueError("A grid on a logarithmic axis must be positive.")
        grid, nodes = np.log10(grid), np.log10(nodes)
    if width is None:
        width = 0.1 if log else (nodes.max() or 1) / 100
    if not width > 0:
        raise ValueError(f"width must be positive, got {width}.")
    scaled = (grid[..., None] - nodes) / width
    return np.exp(-0.5 * scaled**2) @ weights / (width * (2 * np.pi) ** 0.5)
