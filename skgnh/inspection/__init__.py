"""Views of a fitted network's curvature, and what it says of the weights."""

from skgnh.inspection.pruner import OBSPruner
from skgnh.inspection.pruning import prune, sparse_coefs
from skgnh.inspection.spectrum import GNHSpectrum

__all__ = ["GNHSpectrum", "OBSPruner", "prune", "sparse_coefs"]
