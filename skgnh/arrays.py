"""Arrays of any namespace of the array API standard, wherever they lie.

NumPy's and sparse arrays, and rows that lie in files, are at home here. What another
library holds, perhaps on a device, is *foreign*: it is computed with where it lies, by
the functions of the standard alone.
"""

from typing import Any

import numpy as np
import scipy
from array_api_compat import array_namespace, device, is_array_api_obj
from array_api_compat import numpy as compatible_numpy
from scipy import sparse
from scipy.linalg import LinAlgError
from sklearn import get_config
from sklearn.utils._array_api import _convert_to_numpy
from sklearn.utils.fixes import parse_version

Array = Any

# NumPy has all functions of the standard from version 2.1 on.
_NUMPY = np if hasattr(np, "astype") else compatible_numpy
# scikit-learn hands on arrays of other libraries with this SciPy or a later one.
CAN_DISPATCH = parse_version(scipy.__version__) >= parse_version("1.14")
_AT_HOME = (np.ndarray, np.generic, float, int, type(None))


def is_foreign(x: Any) -> bool:
    """Say whether x is an array of another library than NumPy and SciPy."""
    # The test that most calls end at, and that costs nothing.
    if type(x) is np.ndarray or isinstance(x, _AT_HOME):
        return False
    return is_array_api_obj(x) and not hasattr(x, "dask")


def namespace(x: Any) -> Any:
    """Return the functions that compute with x; NumPy's for all that is not foreign."""
    return array_namespace(x) if is_foreign(x) else _NUMPY


def library(x: Any) -> str:
    """Return the name of the library that x is of."""
    return namespace(x).__name__.removeprefix("array_api_compat.")


def on_device(x: Any) -> bool:
    """Say whether x lies elsewhere than in the memory of the processor."""
    return is_foreign(x) and "cpu" not in str(device(x)).lower()


def is_dispatched(x: Any) -> bool:
    """Say whether x is foreign, and scikit-learn told to leave it so."""
    return get_config()["array_api_dispatch"] and is_foreign(x)


def float_dtypes(x: Any) -> list:
    """Return the precisions that rows may have, in the terms of scikit-learn's checks.

    Without ``array_api_dispatch`` these make an array of NumPy of whatever comes.
    """
    xp = array_namespace(x) if is_dispatched(x) else np
    return [xp.float64, xp.float32]


def precision(x: Any) -> np.dtype:
    """Return NumPy's name of the dtype of x."""
    return np.dtype(str(x.dtype).rpartition(".")[2] if is_foreign(x) else x.dtype)


def as_precision(x: Array, dtype: Any, copy: bool = False) -> Array:
    """Return x in a precision that NumPy names."""
    if not is_foreign(x):
        return x.astype(dtype, copy=copy)
    xp = array_namespace(x)
    return xp.astype(x, getattr(xp, np.dtype(dtype).name), copy=copy)


def like(x: Any, other: Array, dtype: Any = None) -> Array:
    """Return an array where `other` lies, in a precision of NumPy if one is given."""
    if not is_foreign(other):
        x = to_host(x)
    elif not (is_foreign(x) and is_alike(x, other)):
        # A copy: what lies in the same memory must not change with it.
        x, xp = np.ascontiguousarray(to_host(x)), array_namespace(other)
        x = xp.asarray(x, device=device(other), copy=True)
    return x if dtype is None else as_precision(x, dtype)


def is_alike(x: Any, other: Any) -> bool:
    """Say whether two arrays are of one namespace, and on one device."""
    if not (is_foreign(x) and is_foreign(other)):
        return is_foreign(x) == is_foreign(other)
    same = array_namespace(x) is array_namespace(other)
    return same and device(x) == device(other)


def to_host(x: Array) -> Array:
    """Return x as an array of NumPy, copied from its device if it must be."""
    if not is_foreign(x):
        return x
    return _convert_to_numpy(detached(x), array_namespace(x))


def detached(x: Any) -> Any:
    """Return x without the derivatives that PyTorch would record of what is done."""
    return x.detach() if is_foreign(x) and hasattr(x, "detach") else x


def check_dense(x: Any, name: str) -> None:
    """Raise a ValueError if x is a sparse tensor, or one that holds no numbers."""
    if not is_dispatched(x):
        return
    layout = str(getattr(x, "layout", ""))
    if "sparse" in layout:
        raise ValueError(
            f"{name} is a tensor of layout {layout}: pass {name}.to_dense(), or a "
            "sparse array of SciPy."
        )
    if str(device(x)) == "meta":
        raise ValueError(f"{name} is a tensor on 'meta', which holds no numbers.")


def check_at_home(x: Any, what: str) -> None:
    """Raise a TypeError if x is to stay foreign, to what computes with NumPy alone."""
    if is_dispatched(x):
        raise TypeError(
            f"{what} computes with arrays of NumPy, not with those of {library(x)}: "
            "fit the estimator to arrays of NumPy, and pass these."
        )


def copied(x: Array) -> Array:
    """Return a copy of x."""
    return array_namespace(x).asarray(x, copy=True) if is_foreign(x) else x.copy()


def empty(shape: Any, other: Array) -> Array:
    """Return room like `other`."""
    if not is_foreign(other):
        return np.empty(shape, other.dtype)
    xp = array_namespace(other)
    return xp.empty(shape, dtype=other.dtype, device=device(other))


def eye(n: int, other: Array, columns: slice | None = None) -> Array:
    """Return the identity where `other` lies, or some of its columns."""
    first, width = (columns.start, columns.stop - columns.start) if columns else (0, n)
    if not is_foreign(other):
        return np.eye(n, width, -first, other.dtype)
    xp = array_namespace(other)
    return xp.eye(n, width, k=-first, dtype=other.dtype, device=device(other))


def pick(x: Array, rows: Any) -> Array:
    """Return rows of x, a slice or an index of NumPy."""
    if not is_foreign(x):
        return x[rows]
    if isinstance(rows, slice):
        return x[rows, ...]
    return array_namespace(x).take(x, like(rows, x), axis=0)


def stacked(parts: list[Array]) -> Array:
    """Return arrays of NumPy, or sparse ones as CSR, one below the other."""
    # Without a word on the format, older releases of SciPy return COO.
    is_sparse = sparse.issparse(parts[0])
    return sparse.vstack(parts, "csr") if is_sparse else np.concatenate(parts)


def put(whole: Array, index: Array, values: Array) -> Array:
    """Return a copy of an array with other rows at an index of NumPy."""
    if not is_foreign(whole):
        out = whole.copy()
        out[index] = values
        return out
    # The standard writes to no index: rows are taken of both.
    source = np.arange(whole.shape[0])
    source[index] = np.arange(len(index)) + len(source)
    return pick(array_namespace(whole).concat([whole, values]), source)


def turned(x: Array) -> Array:
    """Return x with its last two axes exchanged."""
    if not is_foreign(x):
        return np.swapaxes(x, -1, -2)
    return array_namespace(x).matrix_transpose(x)


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """Return x in another shape, a view where it can be one."""
    if isinstance(x, np.ndarray):
        return x.reshape(shape)
    return array_namespace(x).reshape(x, shape)


def contiguous(x: Array) -> Array:
    """Return x in C order; what is foreign has an order of its own."""
    return x if is_foreign(x) else np.ascontiguousarray(x)


def as_rows(V: Array, dtype: Any) -> Array:
    """Return columns (P, k) as contiguous rows (k, P) of a precision."""
    return contiguous(as_precision(V, dtype).T)


def at_least(x: Array, least: float) -> Array:
    """Return the maximum of x and a number."""
    if not is_foreign(x):
        return np.maximum(x, least)
    return array_namespace(x).clip(x, least, None)


def norm(x: Array) -> float:
    """Return the Euclidean norm in double precision."""
    x = as_precision(x, np.float64)
    if isinstance(x, np.ndarray):
        return float(np.linalg.norm(x))
    return float(array_namespace(x).linalg.vector_norm(x))


def add_to_diagonal(x: Array, value: Any) -> Array:
    """Return a square array with a number or a vector added to its diagonal, in place.

    Where it can: an array of another library may be a new one.
    """
    if not is_foreign(x):
        x.reshape(-1)[:: len(x) + 1] += value
        return x
    return x + eye(x.shape[0], x) * value


def sums_by(groups: Array, values: Array, n_groups: int = 0) -> Array:
    """Return the sums of values, (P,), over each group, in double precision, (G,).

    Parameters
    ----------
    groups : ndarray of int of shape (P,)
        Group of each, counted from zero.
    values : array of shape (P,)
        Of any namespace; the G sums are NumPy's.
    n_groups : int, default=0
        Least number of groups.
    """
    if not is_foreign(values):
        return np.bincount(groups, values, n_groups)
    xp, long = array_namespace(values), as_precision(values, np.float64)
    labels, zero = like(groups, values), xp.zeros_like(long)
    each = range(max(n_groups, int(groups.max()) + 1))
    return np.array([float(xp.sum(xp.where(labels == g, long, zero))) for g in each])


def eigh(S: Array) -> tuple[Array, Array]:
    """Return eigenvalues and eigenvectors of a symmetric array.

    Raises
    ------
    numpy.linalg.LinAlgError
        If they are not found.
    """
    return _refused_alike(namespace(S).linalg.eigh, S)


def cholesky(S: Array) -> Array:
    """Return the lower Cholesky factor of an array.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite.
    """
    return _refused_alike(namespace(S).linalg.cholesky, S)


def _refused_alike(function: Any, S: Array) -> Any:
    """Return what a function gives; each library has a LinAlgError of its own."""
    try:
        return function(S)
    except Exception as error:
        if "LinAlgError" not in type(error).__name__:
            raise
        raise LinAlgError(str(error)) from error
