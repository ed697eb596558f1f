"""Checks of what is asked for."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np

Array = Any


def checked_index(index: Array, n_parameters: int) -> Array:
    """Return an index of parameters as an array.

    Raises
    ------
    ValueError
        If it is not a 1-D array of integers from 0 to n_parameters - 1.
    """
    index = np.asarray(index)
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise ValueError("An index of parameters must be a 1-D array of integers.")
    if index.size and not 0 <= index.min() <= index.max() < n_parameters:
        raise ValueError(
            f"Parameters are numbered from 0 to {n_parameters - 1}, "
            f"got {index.min()} to {index.max()}."
        )
    return index


def check_count(value: Any, name: str, least: int = 1) -> None:
    """Raise a ValueError unless a value is an integer, and at least so large."""
    if not (isinstance(value, Integral) and value >= least):
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")


def check_choice(value: Any, name: str, choices: Iterable[Any]) -> None:
    """Raise a ValueError unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(f"Unknown {name} {value!r}; choose among {tuple(choices)}.")
