"""Checks of what is asked for."""

from collections.abc import Iterable
from numbers import Integral, Real
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
            f"An index of parameters is numbered from 0 to {n_parameters - 1}, "
            f"got {index.min()} to {index.max()}."
        )
    return index


def check_vector(x: Any, name: str, n: int, columns: bool = False) -> None:
    """Raise a ValueError unless x is n numbers, or some columns of them if allowed."""
    shape: tuple[int, ...] = getattr(x, "shape", ())
    dtype = getattr(x, "dtype", None)
    # The types of other libraries than NumPy's have no kind; they hold numbers alone.
    is_number = getattr(dtype, "kind", "f") in "biufc"
    if is_number and len(shape) in (1, 1 + columns) and shape[0] == n:
        return
    told = f"one of {dtype} of shape {shape}" if shape else repr(x)[:80]
    form = f"({n},) or ({n}, k)" if columns else f"({n},)"
    raise ValueError(f"{name} must be an array of numbers of shape {form}, got {told}.")


def check_number(
    value: Any, name: str, least: float = -np.inf, below: float | None = None
) -> None:
    """Raise a ValueError unless a value is a number, and within its limits."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and value >= least and (below is None or value < below)):
        limits = "" if least == -np.inf else f" of at least {least:g}"
        limits += "" if below is None else f", below {below:g}"
        raise ValueError(f"{name} must be a number{limits}, got {value!r}.")


def check_seed(value: Any) -> None:
    """Raise a ValueError unless a value is a `random_state`."""
    if value is None or value is np.random:
        return
    if isinstance(value, np.random.Generator | np.random.RandomState):
        return
    if not (isinstance(value, Integral) and 0 <= int(value) < 2**32):
        raise ValueError(
            "random_state must be None, an integer from 0 to 2**32 - 1, a Generator or "
            f"a RandomState, got {value!r}."
        )


def check_count(value: Any, name: str, least: int = 1) -> None:
    """Raise a ValueError unless a value is an integer, and at least so large."""
    is_count = isinstance(value, Integral) and not isinstance(value, bool)
    if not (is_count and value >= least):
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")


def check_choice(value: Any, name: str, choices: Iterable[Any]) -> None:
    """Raise a ValueError unless a value is one of the choices."""
    if value not in choices:
        raise ValueError(f"Unknown {name} {value!r}; choose among {tuple(choices)}.")
