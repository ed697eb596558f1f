"""Hierarchical matrices of symmetric positive semidefinite operators."""

from skgnh.hmatrix.compression import compress
from skgnh.hmatrix.hierarchical import HierarchicalMatrix
from skgnh.hmatrix.hodlr import HODLRMatrix
from skgnh.hmatrix.hodlr_build import hodlr

__all__ = ["HODLRMatrix", "HierarchicalMatrix", "compress", "hodlr"]
