"""Views of a fitted network's curvature, and what it says of the weights."""

from skgnh.inspection.case_influence import Influence, influence
from skgnh.inspection.displays import CoverageDisplay, PredictionBandDisplay
from skgnh.inspection.pruner import OBSPruner
from skgnh.inspection.pruning import prune, sparse_coefs
from skgnh.inspection.spectrum import GNHSpectrum

__all__ = [
    "CoverageDisplay",
    "GNHSpectrum",
    "Influence",
    "OBSPruner",
    "PredictionBandDisplay",
    "influence",
    "prune",
    "sparse_coefs",
]
