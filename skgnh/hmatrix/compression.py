"""Compression of an operator to a hierarchical matrix."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.utils import gen_batches

from skgnh.hmatrix.factor import batched_cholesky
from skgnh.hmatrix.from_entries import FromEntries, symmetric
from skgnh.hmatrix.from_products import FromProducts, n_products
from skgnh.hmatrix.hierarchical import HierarchicalMatrix, Level, principal
from skgnh.hmatrix.low_rank import nystrom
from skgnh.hmatrix.progress import Track, tracker
from skgnh.hmatrix.skeleton import select
from skgnh.hmatrix.source import cheaper
from skgnh.hmatrix.tree import diagonal_order, distance_order, leaves, natural_order
from skgnh.memory import rows_per_chunk

Array = Any

_ORDERS = ("natural", "diagonal", "angle", "kernel")
_SOURCES = ("entries", "products", "auto")


def compress(
    H: Any,
    *,
    rank: int = 64,
    leaf_size: int | None = None,
    tol: float = 0.0,
    global_rank: int = 0,
    n_samples: int | None = None,
    order: str = "natural",
    source: str | None = None,
    random_state: int = 0,
    verbose: bool = False,
) -> HierarchicalMatrix:
    """Compress a symmetric positive semidefinite operator.

    Parameters
    ----------
    H : operator of shape (P, P)
        With products (``H @ V``); for all but ``source="products"`` in natural order
        also ``entries`` and ``diagonal``.
    rank : int, default=64
        Most skeletons of a node; 0 leaves the far field out.
    leaf_size : int, optional
        Most indices of a leaf, by default twice the rank.
    tol : float, default=0.0
        Accuracy of the far field, relative to each node's, that ends the skeletons
        before `rank`. A solve errs by about `tol` times the norm of what the global
        part leaves, over the damping.
    global_rank : int, default=0
        Rank of the global part, a randomised Nyström approximation that is taken out
        first.
    n_samples : int, optional
        Columns sampled as everyone's far field, by default twice the leaf size; from
        products alone, columns multiplied, by default twice the least number, which is
        ``max(leaf_size, 2 rank) + rank + 10``.
    order : {'natural', 'diagonal', 'angle', 'kernel'}, default='natural'
        Order of the indices in the tree: their own, which for a network is by layer and
        output neuron, by falling diagonal, or by Gram distances.
    source : {'entries', 'products', 'auto'}, optional
        What to build from; by default entries where H has them, else products.
        Products alone are blurred by what the ranks miss: exact for a matrix of this
        structure, they take more rank for the rest. 'auto' takes what promises the
        fewer seconds, from those of one product and one block of entries.
    random_state : int, default=0
        Seed.
    verbose : bool, default=False
        Whether to print a line for each level that is done and, where rich is
        installed, to show a progress bar of the loop that the build is in.

    Returns
    -------
    HierarchicalMatrix
        The approximation; exact where P is at most a leaf. The build takes `n_samples`
        (and three times `global_rank`) products, and ``P (m + 4 r)`` entries where
        they are the source.

    Raises
    ------
    ValueError
        If the operator lacks what `source` or `order` needs, a parameter is off, or H
        is not symmetric where it is looked at; its subclass LinAlgError if H is not
        finite or its diagonal negative.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.hmatrix import compress
    >>> from skgnh.operators import DenseMatrix
    >>> x = np.linspace(0, 1, 500)
    >>> K = DenseMatrix(np.exp(-np.abs(x[:, None] - x) / 0.1))
    >>> A = compress(K, rank=16)
    >>> v = np.ones(500)
    >>> bool(np.linalg.norm(A @ v - K @ v) < 1e-2 * np.linalg.norm(K @ v))
    True
    >>> x = A.factor(1e-3).solve(v)
    >>> bool(np.linalg.norm(A @ x + 1e-3 * x - v) < 1e-8)
    True
    """
    _check_parameters(rank, leaf_size, tol, global_rank, n_samples)
    source = _check(H, order, source)
    leaf_size = max(2 * rank, 1) if leaf_size is None else leaf_size
    P = H.shape[0]
    rng = np.random.default_rng(random_state)
    diagonal = H.diagonal() if hasattr(H, "diagonal") else np.zeros(P)
    if not np.isfinite(diagonal).all() or (diagonal < 0).any():
        raise np.linalg.LinAlgError("H must have a finite, non-negative diagonal.")
    track = tracker(verbose)
    low = nystrom(H, min(global_rank, P), rng, track=track)
    if leaf_size >= P:
        index, every = np.arange(P)[None], hasattr(H, "entries")
        top = H.entries(*[index[0]] * 2) if every else H @ np.eye(P, dtype=H.dtype)
        top = symmetric(top) - low @ low.T
        return HierarchicalMatrix(index, [], top[None], low)

    n_leaves = 2 ** int(np.ceil(np.log2(P / leaf_size)))
    if order == "natural":
        sequence = natural_order(P)
    elif order == "diagonal":
        sequence = diagonal_order(diagonal)
    else:
        sequence = distance_order(H, n_leaves, order, rng)
    index = leaves(sequence, n_leaves)
    n_columns = n_products(index.shape[1], rank, n_samples)
    n_samples = n_samples or 2 * leaf_size
    if source == "auto":
        source = cheaper(H, index, rank, n_samples, n_columns)
    if source == "products":
        parts = FromProducts(H, low, index, rank, n_columns, rng, track)
    else:
        parts = FromEntries(H, low, index, n_samples, rng, diagonal, track)
    D, levels = parts.blocks(), []
    if not hasattr(H, "diagonal"):
        diagonal[index[index >= 0]] = np.einsum("kii->ki", D)[index >= 0]
    jitter = np.where(index >= 0, _rounding(diagonal, low)[index], 0)
    np.einsum("kii->ki", D)[...] += jitter
    while len(D) > 1 and rank > 0:
        skeleton = _skeletons(D, parts.far, min(rank, D.shape[1]), tol, track)
        if verbose:
            total, r = int(np.log2(n_leaves)), skeleton.shape[1]
            print(
                f"[compress] level {len(levels) + 1} of {total}: {len(D)} nodes of "
                f"{D.shape[1]} indices, rank {r}"
            )
        levels.append(Level(D, _interpolation(D, skeleton), skeleton))
        inner = levels[-1].D_skeleton
        D = _paired(inner, parts.couple(skeleton, inner))
    return HierarchicalMatrix(index, levels, D, low)


def _check_parameters(
    rank: int,
    leaf_size: int | None,
    tol: float,
    global_rank: int,
    n_samples: int | None,
) -> None:
    sizes = {
        "rank": rank,
        "leaf_size": leaf_size,
        "global_rank": global_rank,
        "n_samples": n_samples,
    }
    for name, size in sizes.items():
        optional = size is None and name in ("leaf_size", "n_samples")
        if not (isinstance(size, Integral) or optional):
            raise ValueError(f"{name} must be an integer, got {size!r}.")
    leaf_size = max(2 * rank, 1) if leaf_size is None else leaf_size
    if rank < 0 or leaf_size < max(rank, 1):
        raise ValueError(
            "0 <= rank <= leaf_size and 1 <= leaf_size are needed, got "
            f"{rank} and {leaf_size}."
        )
    if global_rank < 0 or (n_samples is not None and n_samples < 1):
        raise ValueError(
            f"global_rank >= 0 and n_samples >= 1 are needed, got {global_rank} and "
            f"{n_samples}."
        )
    if not (isinstance(tol, Real) and tol >= 0):
        raise ValueError(f"tol must be a number of at least 0, got {tol!r}.")


def _check(H: Any, order: str, source: str | None) -> str:
    """Return the source that H can be built from; refuse what is off."""
    missing = [name for name in ("entries", "diagonal") if not hasattr(H, name)]
    if source not in (None, *_SOURCES):
        raise ValueError(f"Unknown source {source!r}; choose among {_SOURCES}.")
    if missing and (source == "entries" or order in _ORDERS[1:]):
        raise ValueError(
            f"{type(H).__name__} has no {' and no '.join(missing)}: "
            f"source='entries' and the orders {_ORDERS[1:]} need both. Wrap an array "
            "in skgnh.operators.DenseMatrix."
        )
    if H.shape[0] != H.shape[1] or not H.shape[0]:
        raise ValueError(f"H must be square, got shape {H.shape}.")
    if H.dtype not in (np.float32, np.float64):
        raise ValueError(f"H must be of float32 or float64, got {H.dtype}.")
    if order not in _ORDERS:
        raise ValueError(f"Unknown order {order!r}; choose among {_ORDERS}.")
    return "products" if missing else source or "entries"


def _rounding(diagonal: Array, low: Array) -> Array:
    """Return shifts of the diagonal that cover rounding.

    Relative to each index's own scale; one without any gets the least of the whole.
    What a global part of norm g cancels leaves ``eps sqrt(H_ii g)`` of rounding in row
    i, however little else it leaves.
    """
    eps = float(np.finfo(low.dtype).eps)
    own = np.maximum(diagonal, eps * float(diagonal.mean() or 1.0))
    norm = float(np.max(np.sum(low**2, axis=0), initial=0))
    return (100 * eps * (own + np.sqrt(own) * norm**0.5)).astype(low.dtype)


def _skeletons(D: Array, far: Any, rank: int, tol: float, track: Track) -> Array:
    """Return the skeletons of a level, as many in each node.

    Nodes are taken in batches, which bounds the memory and stays in cache; those that
    ended with fewer indices than a later batch needs are taken again.
    """
    batches = list(gen_batches(len(D), rows_per_chunk(D[0].nbytes)))

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
