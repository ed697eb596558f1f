"""The tree of a hierarchical matrix, from the leaves to the topmost block."""

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from skgnh.hmatrix.factor import batched_cholesky
from skgnh.hmatrix.from_entries import FromEntries
from skgnh.hmatrix.from_products import FromProducts
from skgnh.hmatrix.hierarchical import Level, principal
from skgnh.hmatrix.skeleton import select
from skgnh.memory import rows_per_chunk, slices
from skgnh.progress import Track

Array = Any


def nested_levels(
    parts: FromEntries | FromProducts,
    D: Array,
    rank: int,
    tol: float,
    track: Track,
    verbose: bool,
) -> tuple[list[Level], Array]:
    """Return the levels and the topmost block over the blocks D of the leaves."""
    levels: list[Level] = []
    depth = int(np.log2(len(D)))
    while len(D) > 1 and rank > 0:
        skeleton = _skeletons(D, parts.far, min(rank, D.shape[1]), tol, track)
        if verbose:
            print(
                f"[compress] level {len(levels) + 1} of {depth}: {len(D)} nodes of "
                f"{D.shape[1]} indices, rank {skeleton.shape[1]}"
            )
        levels.append(Level(D, _interpolation(D, skeleton), skeleton))
        inner = levels[-1].D_skeleton
        D = _paired(inner, parts.couple(skeleton, inner))
    return levels, D


def _skeletons(D: Array, far: Any, rank: int, tol: float, track: Track) -> Array:
    """Return the skeletons of a level, as many in each node.

    Nodes are taken in batches, which bounds the memory and stays in cache; those that
    ended with fewer indices than a later batch needs are taken again.
    """
    batches = slices(len(D), rows_per_chunk(D[0].nbytes))

    def chosen(batch, least):
        return select(D[batch], far(batch), rank, tol, least)

    parts, width = [], 1
    for batch in track(batches, "skeletons"):
        parts.append(chosen(batch, width))
        width = parts[-1].shape[1]
    return np.concatenate(
        [
            part if part.shape[1] == width else chosen(batch, width)
            for part, batch in zip(parts, batches, strict=True)
        ]
    )


def _interpolation(D: Array, skeleton: Array) -> Array:
    """Return ``D_{:S} D_SS^-1``, exactly the identity on S."""
    L = batched_cholesky(principal(D, skeleton))
    out = np.empty((*D.shape[:2], skeleton.shape[1]), D.dtype)
    for k, (factor, positions) in enumerate(zip(L, skeleton, strict=True)):
        half = solve_triangular(factor, D[k][positions], lower=True)
        out[k] = solve_triangular(factor, half, lower=True, trans="T").T
        out[k, positions] = np.eye(len(positions))
    return out


def _paired(inner: Array, between: Array) -> Array:
    """Return the blocks of pairs: the children's own, and what couples them."""
    r = inner.shape[1]
    out = np.empty((len(between), 2 * r, 2 * r), inner.dtype)
    out[:, :r, :r], out[:, r:, r:] = inner[::2], inner[1::2]
    out[:, :r, r:], out[:, r:, :r] = between, np.swapaxes(between, 1, 2)
    return out
