"""Linear algebra that knows no network."""

from skgnh.linalg.curvature import Curvature, as_curvature
from skgnh.linalg.nystrom import nystrom
from skgnh.linalg.submatrix import PrincipalSubmatrix

__all__ = ["Curvature", "PrincipalSubmatrix", "as_curvature", "nystrom"]
