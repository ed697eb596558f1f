"""The estimators with small data for every kind of target."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError
from sklearn.exceptions import ConvergenceWarning

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.solvers import Price, Solver

N, N_FEATURES = 60, 4
CLASSIFICATION = ("binary", "multiclass", "multilabel")
REGRESSION = ("regression", "several targets", "poisson")
KINDS = (*CLASSIFICATION, *REGRESSION, "autoencoder")
# scikit-learn's objective on the data as they are; and what estimators do by default.
PENALISED = {"alpha": 1e-4, "standardize": False}
DEFAULTS = {"alpha": "evidence", "standardize": True}
MODES = {"penalised": PENALISED, "evidence": DEFAULTS}


class Task(NamedTuple):
    """An estimator that is not fitted yet, and data; y is None for an autoencoder."""

    estimator: Any
    X: Any
    y: Any


def task(kind, n=N, **settings):
    """Data drawn from a fixed seed; two small hidden layers, penalised, unless set."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, N_FEATURES))
    noisy = X[:, :3] + 0.5 * rng.standard_normal((n, 3))
    if kind == "autoencoder":
        X[:, 2:] = np.tanh(X[:, :2]) + 0.1 * X[:, 2:]
    y = {
        "binary": np.array(["no", "yes"])[(noisy[:, 0] > 0).astype(int)],
        "multiclass": np.array([30, 10, 20])[noisy.argmax(axis=1)],
        "multilabel": (noisy > 0).astype(int),
        "regression": noisy[:, 0] ** 2 + noisy[:, 1],
        "several targets": noisy[:, :2] ** 2,
        "poisson": rng.poisson(np.exp(noisy[:, 0])).astype(float),
        "autoencoder": None,
    }[kind]
    settings = {"activation": "tanh", "random_state": 0, **PENALISED, **settings}
    if kind == "autoencoder":
        settings = {"encoder_layer_sizes": (5, 2), **settings}
        return Task(GaussNewtonAutoencoder(**settings), X, y)
    settings = {"hidden_layer_sizes": (5, 4), **settings}
    if kind in CLASSIFICATION:
        return Task(GaussNewtonMLPClassifier(**settings), X, y)
    loss = "poisson" if kind == "poisson" else "squared_error"
    return Task(GaussNewtonMLPRegressor(loss, **settings), X, y)


class Failing(Solver):
    """No system can be solved: a fit ends where it starts."""

    def price(self, H):
        return Price(0, 0)

    def _factor(self, H, carried):
        raise LinAlgError("no")


def fit(estimator, *args, **kwargs):
    """Fit, although it may reach `max_iter`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*args, **kwargs)


def fitted(kind, **settings):
    """Return a fitted estimator with its data, after ten iterations unless set."""
    estimator, X, y = task(kind, **{"max_iter": 10, **settings})
    return Task(fit(estimator, X, y), X, y)


def parameters(estimator):
    return np.concatenate([np.ravel(a) for a in weights(estimator)])


def weights(estimator):
    return [*estimator.coefs_, *estimator.intercepts_]


def assert_same_model(one, other):
    """Bit by bit."""
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


def predictions(estimator, X):
    """The finest output that the estimator has."""
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(X)
    return estimator.predict(X)
