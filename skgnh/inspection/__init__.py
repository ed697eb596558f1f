"""Views of a fitted network's curvature."""

from skgnh.inspection.spectrum import GNHSpectrum

__all__ = ["GNHSpectrum"]
