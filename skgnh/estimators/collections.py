"""Collections of dask on their way to an estimator, and predictions of them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_X_y
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import validate_data

from skgnh.blocks import Blocks, each, gathered, is_dask

Array = Any

# What `validate_data` takes that is of the targets.
_OF_TARGETS = ("multi_output", "y_numeric")


def read_blocks(estimator: Any, X: Any, *y: Any, reset: bool, **options: Any) -> Any:
    """Return what scikit-learn's ``validate_data`` does, X as blocks.

    Each block is checked where it is; the targets, n numbers, are fetched.

    Raises
    ------
    ValueError
        If the data are at fault.
    """
    of_y = {name: options.pop(name) for name in _OF_TARGETS if name in options}
    parts = _partitions(X)
    lengths = gathered([each(_length, part) for part in parts])
    parts = [part for part, n in zip(parts, lengths, strict=True) if n]
    if not parts:
        raise ValueError(f"{type(estimator).__name__} needs at least one row, X has 0.")
    (head,) = gathered([each(_head, parts[0])])
    validate_data(estimator, head, reset=reset, **options)
    single = {np.dtype(dtype) for dtype in np.atleast_1d(_dtypes(X))} == {
        np.dtype(np.float32)
    }
    options["dtype"] = np.float32 if single else np.float64
    rows = Blocks([each(_checked, part, options) for part in parts])
    if not y:
        return rows
    target = gathered(list(y))[0]
    # Rows of nothing stand for X, of which only the number counts.
    blank = np.broadcast_to(np.zeros(1), (rows.shape[0], 1))
    return rows, check_X_y(blank, target, estimator=estimator, **of_y)[1]


def maps_blocks(method: Callable) -> Callable:
    """Let a method of rows take a collection of dask, and return one, lazily.

    Or several, where it returns several arrays.
    """

    @wraps(method)
    def call(self, X, *args, **options):
        if not is_dask(X):
            return method(self, X, *args, **options)
        if method.__name__ == "transform":
            _check_output(self)

        def found(block):
            return getattr(self, method.__name__)(block, *args, **options)

        like = found(_sample(X))
        if isinstance(like, tuple):
            return tuple(_mapped(X, _nth(found, k)) for k in range(len(like)))
        return _mapped(X, found)

    return call


def _check_output(estimator: Any) -> None:
    """Raise a ValueError where outputs would be gathered in a frame."""
    if _get_output_config("transform", estimator)["dense"] != "default":
        raise ValueError(
            "Features of a dask collection are one, which set_output would gather: "
            "call set_output(transform='default')."
        )


def _nth(found: Callable, k: int) -> Callable:
    return lambda block: found(block)[k]


def _mapped(X: Any, found: Callable) -> Any:
    """Return the collection of what a function makes of each block."""

    def of_block(block):
        return np.asarray(found(block))

    if hasattr(X, "map_partitions"):
        return X.map_partitions(_framed, of_block, meta=_framed(_sample(X), of_block))
    like = of_block(_sample(X))
    X = X.rechunk({1: -1})
    if like.ndim == 1:
        return X.map_blocks(of_block, drop_axis=1, dtype=like.dtype)
    chunks = (X.chunks[0], (like.shape[1],))
    return X.map_blocks(of_block, chunks=chunks, dtype=like.dtype)


def _sample(X: Any) -> Any:
    """Return a row of what X is like."""
    return (
        X._meta_nonempty
        if hasattr(X, "map_partitions")
        else np.zeros((1, X.shape[1]), X.dtype)
    )


def _framed(frame: Any, of_block: Callable) -> Any:
    """Return predictions of a frame with its index."""
    import pandas as pd

    found = of_block(frame)
    kind = pd.Series if found.ndim == 1 else pd.DataFrame
    return kind(found, index=frame.index)


def _partitions(X: Any) -> list:
    if hasattr(X, "map_partitions"):
        return list(X.to_delayed())
    return list(X.rechunk({1: -1}).to_delayed().ravel())


def _dtypes(X: Any) -> Any:
    return list(X.dtypes) if hasattr(X, "map_partitions") else [X.dtype]


def _length(block: Any) -> int:
    return block.shape[0]


def _head(block: Any) -> Any:
    return block[:1]


def _checked(block: Any, options: dict) -> Array:
    return check_array(block, input_name="X", **options)
