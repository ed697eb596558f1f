"""Compression of an operator to a hierarchical matrix."""

from numbers import Real
from typing import Any

import numpy as np

from skgnh.hmatrix.from_entries import FromEntries, principal_block, symmetric
from skgnh.hmatrix.from_products import FromProducts, n_products
from skgnh.hmatrix.hierarchical import Head, HierarchicalMatrix
from skgnh.hmatrix.levels import nested_levels
from skgnh.hmatrix.tree import ORDERS, diagonal_order, leaves, ordered
from skgnh.linalg import (
    Curvature,
    as_curvature,
    check_choice,
    check_count,
    check_seed,
    nystrom,
)
from skgnh.progress import Track, tracker

Array = Any

_SOURCES = ("entries", "products", "auto")

# In operations of a large matrix product, the time that QR factorisation and SVD of a
# node of m indices and s columns take: so much for each of m s^2, and calls.
_NODE, _CALLS = 30, 5e6


def compress(
    H: Any,
    *,
    rank: int = 64,
    leaf_size: int | None = None,
    tol: float = 0.0,
    global_rank: int = 0,
    head_size: int = 0,
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
    head_size : int, default=0
        Indices, those of the largest diagonal in what the global part leaves, that are
        kept out of the tree, in one exact block of their own. What couples them to the
        others is then up to the global part.
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
        structure, they take more rank for the rest. 'auto' takes what needs the fewer
        operations, by the ``costs`` that H declares.
    random_state : int, default=0
        Seed.
    verbose : bool, default=False
        Whether to print a line for each level that is done and, where rich is
        installed, to show a progress bar of the loop that the build is in.

    Returns
    -------
    HierarchicalMatrix
        The approximation; exact, without a tree and a head, where P is at most a leaf
        or the head. The build takes three times `global_rank` products and, where
        they are the source, ``P (n_samples + m + 4 r)`` entries, at rank 0 those of the
        leaves alone, and those of the head besides.

    Raises
    ------
    ValueError
        If the operator lacks what `source`, `order` or a head needs, a parameter is
        off, or H is not symmetric where it is looked at; its subclass LinAlgError if H
        is not finite or its diagonal negative.

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
    _check_counts(n_samples, rank=rank, global_rank=global_rank, head_size=head_size)
    leaf_size = max(2 * rank, 1) if leaf_size is None else leaf_size
    check_count(leaf_size, "leaf_size", max(rank, 1))
    H = as_curvature(H)
    source = _check(H, order, source, head_size, tol)
    check_seed(random_state)
    rng, track = np.random.default_rng(random_state), tracker(verbose)
    diagonal = _diagonal(H)
    low = nystrom(H, min(global_rank, H.shape[0]), rng, track=track)
    if max(leaf_size, head_size) >= H.shape[0]:
        return _one_leaf(H, low)

    first, others = _split(diagonal - np.einsum("ij,ij->i", low, low), head_size)
    rest, own = (H.restricted(others) if head_size else H), diagonal[others]
    index = _leaves(rest, own, leaf_size, order, rng)
    sizes = rank, 2 * leaf_size, n_samples
    parts = _parts(source, rest, low[others], index, sizes, own, rng, track)
    D, inside = parts.blocks(), index >= 0
    own = np.einsum("kii->ki", D)
    if "diagonal" not in H.offers:
        diagonal[index[inside]] = own[inside]
    jitter = _rounding(diagonal, low)
    own += np.where(inside, jitter[others][index], 0)
    levels, top = nested_levels(parts, D, rank, tol, track, verbose)
    index = np.where(inside, others[index], -1)
    head = _head(H, low, first, jitter) if head_size else None
    return HierarchicalMatrix(index, levels, top, low, head)


def _split(left: Array, head_size: int) -> tuple[Array, Array]:
    """Return the indices of the largest entries of a diagonal, and the others."""
    first = np.sort(diagonal_order(left)[:head_size])
    return first, np.delete(np.arange(len(left)), first)


def _parts(
    source: str,
    H: Curvature,
    low: Array,
    index: Array,
    sizes: tuple,
    diagonal: Array,
    rng: Any,
    track: Track,
) -> FromEntries | FromProducts:
    """Return what the tree is built of; sizes are the rank and the columns to draw."""
    rank, default, n_samples = sizes
    n_columns = n_products(index.shape[1], rank, n_samples)
    n_samples = (n_samples or default) if rank else 0
    if source == "auto":
        source = _cheaper(H, index, rank, n_samples, n_columns)
    if source == "products":
        return FromProducts(H, low, index, rank, n_columns, rng, track)
    return FromEntries(H, low, index, n_samples, rng, diagonal, track)


def _diagonal(H: Curvature) -> Array:
    """Return the diagonal, checked; zeros where H does not offer it."""
    diagonal = H.diagonal() if "diagonal" in H.offers else np.zeros(H.shape[0])
    if not np.isfinite(diagonal).all() or (diagonal < 0).any():
        raise np.linalg.LinAlgError("H must have a finite, non-negative diagonal.")
    return diagonal


def _one_leaf(H: Curvature, low: Array) -> HierarchicalMatrix:
    """Return H as it is: one leaf of all indices."""
    every = np.arange(H.shape[0])
    known = "entries" in H.offers
    top = H.entries(every, every) if known else H @ np.eye(len(every), dtype=H.dtype)
    top = symmetric(top) - low @ low.T
    return HierarchicalMatrix(every[None], [], top[None], low)


def _head(H: Curvature, low: Array, index: Array, jitter: Array) -> Head:
    block = principal_block(H, low, index)
    np.einsum("ii->i", block)[...] += jitter[index]
    return Head(index, block)


def _cheaper(
    H: Curvature, index: Array, rank: int, n_samples: int, n_columns: int
) -> str:
    """Return 'entries' or 'products', whichever takes fewer operations.

    Entries take `n_samples` columns, the leaves' blocks and as many blocks of pairs;
    products take `n_columns` products and the nullification of twice as many nodes as
    there are leaves. What both do after that is the same.
    """
    K, m = index.shape
    product, entry = H.costs
    by_entries = (H.shape[0] * n_samples + K * (m**2 + rank**2)) * entry
    by_products = n_columns * product + 2 * K * (_NODE * m * n_columns**2 + _CALLS)
    return "entries" if by_entries <= by_products else "products"


def _leaves(H: Any, diagonal: Array, leaf_size: int, order: str, rng: Any) -> Array:
    """Return the leaves of the tree as rows, the shorter filled up with -1."""
    n_leaves = 2 ** max(0, int(np.ceil(np.log2(len(diagonal) / leaf_size))))
    return leaves(ordered(H, order, n_leaves, rng, diagonal), n_leaves)


def _check_counts(n_samples: int | None, **counts: int) -> None:
    for name, count in counts.items():
        check_count(count, name, 0)
    if n_samples is not None:
        check_count(n_samples, "n_samples")


def _check(
    H: Curvature, order: str, source: str | None, head_size: int, tol: float
) -> str:
    """Return the source that H can be built from; refuse what is off."""
    if not (isinstance(tol, Real) and tol >= 0):
        raise ValueError(f"tol must be a number of at least 0, got {tol!r}.")
    missing = [name for name in ("entries", "diagonal") if name not in H.offers]
    check_choice(source, "source", (None, *_SOURCES))
    check_choice(order, "order", ORDERS)
    if missing and (source == "entries" or order in ORDERS[1:] or head_size):
        raise ValueError(
            f"{H.name} has no {' and no '.join(missing)}: "
            f"source='entries', the orders {ORDERS[1:]} and a head need both. Wrap an "
            "array in skgnh.operators.DenseMatrix."
        )
    if H.shape[0] != H.shape[1] or not H.shape[0]:
        raise ValueError(f"H must be square, got shape {H.shape}.")
    if H.dtype not in (np.float32, np.float64):
        raise ValueError(f"H must be of float32 or float64, got {H.dtype}.")
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
