"""The cheaper of two ways to build a hierarchical matrix."""

from time import perf_counter
from typing import Any

Array = Any

# Columns of the product that is timed.
_COLUMNS = 8


def cheaper(
    H: Any, index: Array, rank: int, n_samples: int, n_columns: int, rng: Any
) -> str:
    """Return 'entries' or 'products', whichever promises fewer seconds.

    A product and a leaf's block of entries are timed. Entries take `n_samples`
    columns, the leaves' blocks and as many blocks of pairs; products `n_columns`. The
    algebra that both need besides is left out.
    """
    V = rng.standard_normal((H.shape[0], _COLUMNS)).astype(H.dtype)
    column = _seconds(lambda: H @ V) / _COLUMNS
    leaf = index[0][index[0] >= 0]
    entry = _seconds(lambda: H.entries(leaf, leaf)) / len(leaf) ** 2
    n_entries = len(index) * (index.shape[1] ** 2 + rank**2)
    by_entries = n_samples * column + n_entries * entry
    return "entries" if by_entries <= n_columns * column else "products"


def _seconds(call: Any) -> float:
    """Return the seconds of the second call; the first may prepare something."""
    call()
    begun = perf_counter()
    call()
    return perf_counter() - begun
