"""Views of a fitted network's curvature, and what it says of the weights."""

from skgnh.inspection.case_influence import Influence, influence
from skgnh.inspection.displays import CoverageDisplay, PredictionBandDisplay
from skgnh.inspection.hmatrix_display import HMatrixDisplay
from skgnh.inspection.loss_curve_display import LossCurveDisplay
from skgnh.inspection.pruner import OBSPruner
from skgnh.inspection.pruning import prune, sparse_coefs
from skgnh.inspection.spectrum import GNHSpectrum
from skgnh.inspection.spectrum_display import SpectrumDisplay

__all__ = [
    "CoverageDisplay",
    "GNHSpectrum",
    "HMatrixDisplay",
    "Influence",
    "LossCurveDisplay",
    "OBSPruner",
    "PredictionBandDisplay",
    "SpectrumDisplay",
    "influence",
    "prune",
    "sparse_coefs",
]
