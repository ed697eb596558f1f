"""The cheaper of two ways to build a hierarchical matrix."""

from time import perf_counter
from typing import Any

import numpy as np

from skgnh.hmatrix.from_products import nested_bases

Array = Any

# Columns of the product that is timed.
_COLUMNS = 8
# Leaves of the nullification that is timed.
_NODES = 8


def cheaper(H: Any, index: Array, rank: int, n_samples: int, n_columns: int) -> str:
    """Return 'entries' or 'products', whichever promises fewer seconds.

    A product, a leaf's block of entries and the nullification of a few nodes are timed.
    Entries take `n_samples` columns, the leaves' blocks and as many blocks of pairs;
    products take `n_columns` columns and the nullification of twice as many nodes as
    there are leaves. What both do after that is the same.
    """
    rng = np.random.default_rng(0)
    V = rng.standard_normal((H.shape[0], _COLUMNS)).astype(H.dtype)
    column = _seconds(lambda: H @ V) / _COLUMNS
    leaf = index[0][index[0] >= 0]
    entry = _seconds(lambda: H.entries(leaf, leaf)) / len(leaf) ** 2
    n_entries = len(index) * (index.shape[1] ** 2 + rank**2)
    few = min(_NODES, len(index))
    omega = rng.standard_normal((few, index.shape[1], n_columns)).astype(H.dtype)
    node = _seconds(lambda: nested_bases(omega, omega, rank)) / (2 * few - 1)
    by_entries = n_samples * column + n_entries * entry
    by_products = n_columns * column + 2 * len(index) * node
    return "entries" if by_entries <= by_products else "products"


def _seconds(call: Any) -> float:
    """Return the seconds of the second call; the first may prepare something."""
    call()
    begun = perf_counter()
    call()
    return perf_counter() - begun
