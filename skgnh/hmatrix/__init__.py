"""Hierarchical matrices of symmetric positive semidefinite operators."""

from skgnh.hmatrix.compression import compress
from skgnh.hmatrix.hierarchical import HierarchicalMatrix

__all__ = ["HierarchicalMatrix", "compress"]
