"""The check of rows, wherever they lie."""

from typing import Any

from sklearn.utils import assert_all_finite
from sklearn.utils.validation import validate_data

from skgnh.arrays import check_dense, detached
from skgnh.blocks import is_dask
from skgnh.estimators.collections import read_blocks
from skgnh.lazy_rows import is_mapped, nbytes_of, release
from skgnh.memory import parts_that_fit

Array = Any

# The sum that looks for what is not finite reads a part of the file of this share of
# the working memory at a time.
_SHARE = 4


def validate_rows(estimator: Any, X: Array, *y: Array, **options: Any) -> Any:
    """Return what scikit-learn's ``validate_data`` does, rows that are mapped in parts.

    Parameters
    ----------
    estimator : estimator
        For which they are checked.
    X : array-like
        Rows; those of a file or of dask stay there.
    *y : array-like
        Targets, if there are any.
    **options
        Of ``validate_data``.

    Raises
    ------
    ValueError
        If the data are at fault.
    """
    if is_dask(X):
        return read_blocks(estimator, X, *y, **options)
    for name, x in zip("Xy", (X, *y), strict=False):
        check_dense(x, name)
    X, y = detached(X), tuple(map(detached, y))
    if not is_mapped(X):
        return validate_data(estimator, X, *y, **options)
    made = validate_data(estimator, X, *y, ensure_all_finite=False, **options)
    rows = made[0] if y else made
    bytes_per_row = _SHARE * nbytes_of(rows) / max(1, rows.shape[0])
    for part in parts_that_fit(rows.shape[0], bytes_per_row):
        assert_all_finite(
            rows[part], estimator_name=type(estimator).__name__, input_name="X"
        )
        release(rows)
    return made
