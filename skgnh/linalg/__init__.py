"""Linear algebra that knows no network."""

from skgnh.linalg.checks import (
    check_choice,
    check_count,
    check_number,
    check_seed,
    check_vector,
    checked_index,
)
from skgnh.linalg.cholesky import factorised
from skgnh.linalg.curvature import Curvature, PrincipalSubmatrix, as_curvature
from skgnh.linalg.nystrom import nystrom

__all__ = [
    "Curvature",
    "PrincipalSubmatrix",
    "as_curvature",
    "check_choice",
    "check_count",
    "check_number",
    "check_seed",
    "check_vector",
    "checked_index",
    "factorised",
    "nystrom",
]
