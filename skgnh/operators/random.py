"""The random generator that a user's seed stands for."""

from functools import lru_cache
from itertools import pairwise
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skgnh.linalg import check_seed

Array = Any

# Rows whose signs are drawn together.
_PAGE = 1024


def generator(random_state: Any) -> Any:
    """Return a Generator; RandomState and its seeds are taken in scikit-learn's way."""
    check_seed(random_state)
    if isinstance(random_state, np.random.Generator):
        return random_state
    seed = check_random_state(random_state).randint(2**31 - 1)
    return np.random.default_rng(seed)


def key_of(random_state: Any) -> int:
    """Return the key of :func:`signs` that a user's seed stands for."""
    if isinstance(random_state, Integral):
        check_seed(random_state)
        return _key_of_seed(int(random_state))
    return int(generator(random_state).integers(2**63))


@lru_cache
def _key_of_seed(seed: int) -> int:
    # Solvers ask at each point of a training.
    return int(generator(seed).integers(2**63))


def signs(key: int, rows: Array, shape: tuple[int, ...]) -> Array:
    """Return random signs of some rows, whatever others are asked for beside them.

    Parameters
    ----------
    key : int
        Seed.
    rows : ndarray of int of shape (n,)
        Which rows, rising.
    shape : tuple of int
        That of the signs of a row.

    Returns
    -------
    ndarray of int8 of shape (n, *shape)
    """
    out = np.empty((len(rows), *shape), np.int8)
    pages, at = np.divmod(rows, _PAGE)
    cuts = [0, *(np.flatnonzero(np.diff(pages)) + 1).tolist(), len(rows)]
    for start, stop in pairwise(cuts) if len(rows) else ():
        rng = np.random.default_rng([key, pages[start]])
        # As long as the last row asks for: rows are drawn one after the other.
        drawn = rng.integers(0, 2, (at[stop - 1] + 1, *shape), np.int8)
        out[start:stop] = drawn if len(drawn) == stop - start else drawn[at[start:stop]]
    out *= 2
    out -= 1
    return out
