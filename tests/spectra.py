"""A fitted network on a few rows, and its spectrum, for the tests of inspection."""

import pickle
import warnings
from functools import cache

import numpy as np
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from skgnh.inspection import GNHSpectrum

SOLVERS = ["dense", "arpack", "lobpcg"]
K = 4

X, Y = load_iris(return_X_y=True)
X, Y = StandardScaler().fit_transform(X)[::3], Y[::3]
SAMPLE_WEIGHT = np.random.default_rng(0).integers(0, 4, len(X)).astype(float)


def fit(estimator, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*args, **kwargs)


@cache
def network(dtype=np.float64, alpha=0.1):
    """scikit-learn's MLP; its solver 'adam' keeps the precision of X."""
    mlp = MLPClassifier(
        (5, 3), activation="tanh", alpha=alpha, max_iter=150, random_state=0
    )
    return fit(mlp, X.astype(dtype), Y)


def prefit(mlp=None, **settings):
    mlp = network() if mlp is None else mlp
    settings = {"n_components": K, "prefit": True, "random_state": 0, **settings}
    return GNHSpectrum(mlp, **settings)


def fitted_state(estimator):
    """All that an estimator holds but its parameters, to the bit."""
    parameters = estimator.get_params(deep=False)
    state = vars(estimator).items()
    return {name: pickle.dumps(v) for name, v in state if name not in parameters}
