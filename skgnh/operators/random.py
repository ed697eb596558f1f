"""The random generator that a user's seed stands for."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skgnh.linalg import check_seed

Array = Any

# Rows whose signs are drawn together.
_PAGE = 256


def generator(random_state: Any) -> Any:
    """Return a Generator; RandomState and its seeds are taken in scikit-learn's way."""
    check_seed(random_state)
    if isinstance(random_state, np.random.Generator):
        return random_state
    seed = check_random_state(random_state).randint(2**31 - 1)
    return np.random.default_rng(seed)


def key_of(random_state: Any) -> int:
    """Return the key of :func:`signs` that a user's seed stands for."""
    return int(generator(random_state).integers(2**63))


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
    cuts = np.flatnonzero(np.diff(pages)) + 1
    for some in np.split(np.arange(len(rows)), cuts) if len(rows) else ():
        rng = np.random.default_rng([key, pages[some[0]]])
        out[some] = rng.integers(0, 2, (_PAGE, *shape), np.int8)[at[some]]
    out *= 2
    out -= 1
    return out
