"""Hierarchical matrices of symmetric positive semidefinite operators."""

from skgnh.hmatrix.hierarchical import HierarchicalMatrix, compress

__all__ = ["HierarchicalMatrix", "compress"]
