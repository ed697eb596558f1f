"""scikit-learn estimators: one base, three heads."""

from skgnh.estimators.autoencoder import GaussNewtonAutoencoder
from skgnh.estimators.checkpoint import Checkpoint
from skgnh.estimators.classifier import GaussNewtonMLPClassifier
from skgnh.estimators.regressor import GaussNewtonMLPRegressor

__all__ = [
    "Checkpoint",
    "GaussNewtonAutoencoder",
    "GaussNewtonMLPClassifier",
    "GaussNewtonMLPRegressor",
]
