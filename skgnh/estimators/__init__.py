"""scikit-learn estimators: one base, three heads."""

from skgnh.estimators.autoencoder import GaussNewtonAutoencoder
from skgnh.estimators.classifier import GaussNewtonMLPClassifier
from skgnh.estimators.regressor import GaussNewtonMLPRegressor

__all__ = [
    "GaussNewtonAutoencoder",
    "GaussNewtonMLPClassifier",
    "GaussNewtonMLPRegressor",
]
