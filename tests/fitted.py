"""scikit-learn's fitted networks, and what an oracle needs to follow them."""

import warnings
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.fixes import parse_version

N = 30
ALPHA = 0.3
HAS_WEIGHTS = parse_version(sklearn.__version__) >= parse_version("1.7")
needs_weights = pytest.mark.skipif(
    not HAS_WEIGHTS, reason="sample_weight and loss='poisson' came with 1.7"
)
KINDS = [
    "binary",
    "multiclass",
    "multilabel",
    "regression",
    "several targets",
    pytest.param("poisson", marks=needs_weights),
]
WEIGHTED = [False, pytest.param(True, marks=needs_weights)]


class Fitted(NamedTuple):
    """A fitted estimator; its data as the oracle takes them."""

    estimator: Any
    X: Any
    y: Any
    sample_weight: Any
    theta: Any
    widths: tuple
    activations: tuple
    output_activation: str
    targets: Any
    weights: Any
    ridge: Any


def problem(kind):
    """Estimator, labels as a user has them, and the same as (n, d) numbers."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, 3))
    codes = np.argmax(X + 0.5 * rng.standard_normal((N, 3)), axis=1)
    settings = {
        "hidden_layer_sizes": (4, 3),
        "activation": "tanh",
        "alpha": ALPHA,
        "solver": "lbfgs",
        "max_iter": 40,
        "random_state": 0,
    }
    if kind == "binary":
        y = np.array(["no", "yes", "no"])[codes]
        targets = np.array([[float(label == "yes")] for label in y])
        return MLPClassifier(**settings), X, y, "logistic", targets
    if kind == "multiclass":
        y = np.array([30, 10, 20])[codes]
        targets = np.array([[float(label == c) for c in (10, 20, 30)] for label in y])
        return MLPClassifier(**settings), X, y, "softmax", targets
    if kind == "multilabel":
        y = (X + 0.5 * rng.standard_normal((N, 3)) > 0).astype(int)
        return MLPClassifier(**settings), X, y, "logistic", y.astype(float)
    if kind == "regression":
        y = X[:, 0] ** 2 + rng.standard_normal(N)
        return MLPRegressor(**settings), X, y, "identity", y[:, None]
    if kind == "several targets":
        y = X[:, :2] ** 2 + rng.standard_normal((N, 2))
        return MLPRegressor(**settings), X, y, "identity", y
    y = rng.poisson(np.exp(0.5 * X[:, 0])).astype(float)
    return MLPRegressor(loss="poisson", **settings), X, y, "exp", y[:, None]


def fitted(kind, weighted=False):
    return _fitted(kind, weighted)


@cache
def _fitted(kind, weighted):
    estimator, X, y, output_activation, targets = problem(kind)
    sample_weight, total = None, float(N)
    weights = np.full(N, 1 / N)
    if weighted:
        sample_weight = np.random.default_rng(1).integers(0, 4, N).astype(float)
        total = sample_weight.sum()
        weights = sample_weight / total
    with warnings.catch_warnings():
        # Nothing here needs a minimum.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if weighted:
            estimator.fit(X, y, sample_weight)
        else:
            estimator.fit(X, y)
    theta, ridge = [], []
    for coef, intercept in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        for j in range(len(intercept)):
            theta += [*coef[:, j], intercept[j]]
            ridge += [ALPHA / total] * len(coef) + [0.0]
    return Fitted(
        estimator,
        X,
        y,
        sample_weight,
        np.array(theta),
        (3, 4, 3, targets.shape[1]),
        ("tanh", "tanh"),
        output_activation,
        targets,
        weights,
        np.array(ridge),
    )
