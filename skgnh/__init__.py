"""Second-order neural networks for scikit-learn, and their curvature."""

from skgnh.estimators import (
    Checkpoint,
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.inspection import GNHSpectrum

__version__ = "0.1.0.dev0"

__all__ = [
    "Checkpoint",
    "GNHSpectrum",
    "GaussNewtonAutoencoder",
    "GaussNewtonMLPClassifier",
    "GaussNewtonMLPRegressor",
    "__version__",
]
