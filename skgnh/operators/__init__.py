"""Curvature matrices as SciPy linear operators."""

from skgnh.operators.cross_approximation import compress_jacobian
from skgnh.operators.dense import DenseMatrix
from skgnh.operators.exact_hessian import ExactHessian
from skgnh.operators.from_estimator import LoadedModel, load_estimator
from skgnh.operators.gauss_newton import GaussNewtonHessian
from skgnh.operators.gradient_buffer import GradientBuffer
from skgnh.operators.kronecker import KroneckerBasis, RotatedHessian
from skgnh.operators.low_rank import LowRankHessian
from skgnh.operators.rank_one import RankOneInverse
from skgnh.operators.restricted import RestrictedHessian
from skgnh.operators.sampler import EntrySampler

__all__ = [
    "DenseMatrix",
    "EntrySampler",
    "ExactHessian",
    "GaussNewtonHessian",
    "GradientBuffer",
    "KroneckerBasis",
    "LoadedModel",
    "LowRankHessian",
    "RankOneInverse",
    "RestrictedHessian",
    "RotatedHessian",
    "compress_jacobian",
    "load_estimator",
]
