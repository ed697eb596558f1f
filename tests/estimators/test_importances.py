"""feature_importances_: how far outputs move with each column."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectFromModel
from tasks import DEFAULTS, KINDS, fit, fitted, task

from skgnh import GaussNewtonMLPRegressor
from skgnh.inspection import prune

EVERY = pytest.mark.parametrize("kind", KINDS)


@EVERY
@pytest.mark.parametrize("standardize", [True, False])
def test_are_mean_absolute_derivatives_of_the_outputs(kind, standardize):
    settings = DEFAULTS | {"standardize": standardize}
    estimator, X, _ = fitted(kind, **settings)
    step, moved = 1e-5, []
    for j, deviation in enumerate(X.std(axis=0)):
        by = np.zeros(X.shape[1])
        by[j] = step
        sides = [estimator._inputs(X + sign * by) for sign in (1, -1)]
        z = [
            estimator._network.outputs(estimator._scaled_parameters, side)
            for side in sides
        ]
        slope = (z[0] - z[1]) / (2 * step)
        if estimator.out_activation_ == "softmax":
            slope -= slope.mean(axis=1, keepdims=True)
        moved.append(np.abs(slope).mean() * deviation)
    found = estimator.feature_importances_
    # Several targets are no better than their means here: a network without effects.
    assert found.sum() == pytest.approx(float(np.any(found)))
    shares = np.array(moved) / (np.sum(moved) or 1)
    np.testing.assert_allclose(found, shares, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("alpha", ["evidence", "ard"])
def test_select_the_columns_that_matter(alpha):
    X, y = make_friedman1(500, noise=1.0, random_state=0)
    network = GaussNewtonMLPRegressor(alpha=alpha, random_state=0)
    selector = SelectFromModel(network).fit(X * np.arange(1, 11), y)
    np.testing.assert_array_equal(selector.get_support(), np.arange(10) < 5)


def test_are_there_with_the_evidence_of_the_present_weights_only():
    estimator, X, y = task("regression", **DEFAULTS)
    assert not hasattr(estimator, "feature_importances_")
    with pytest.raises(NotFittedError):
        _ = estimator.feature_importances_
    given = fit(clone(estimator).set_params(alpha=0.1), X, y)
    assert not hasattr(given, "feature_importances_")
    with pytest.raises(AttributeError, match="alpha='evidence' or 'ard'"):
        _ = given.feature_importances_
    estimator.fit(X, y)
    pruned = prune(estimator, X, y, sparsity=0.8, n_steps=1, random_state=0)
    assert not hasattr(pruned, "feature_importances_")


def test_a_constant_column_and_a_sparse_one_count_as_they_do():
    X, y = make_friedman1(200, noise=1.0, random_state=0)
    X[:, 9] = 3.0
    network = GaussNewtonMLPRegressor(random_state=0)
    assert network.fit(X, y).feature_importances_[9] == 0
    X[:, 9] = X[:, 8] > 0.9
    found = network.fit(sparse.csr_array(X), y).feature_importances_
    assert found.shape == (10,)
    assert found.sum() == pytest.approx(1)
