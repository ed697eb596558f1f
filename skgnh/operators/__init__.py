"""Curvature matrices as SciPy linear operators."""

from skgnh.operators.dense import DenseMatrix
from skgnh.operators.from_estimator import LoadedModel, load_estimator
from skgnh.operators.gauss_newton import GaussNewtonHessian

__all__ = ["DenseMatrix", "GaussNewtonHessian", "LoadedModel", "load_estimator"]
