"""The regressor: targets, losses, linear models, and scikit-learn's MLP."""

import numpy as np
import pytest
from fitted import needs_weights
from scipy import sparse
from scipy.special import xlogy
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import PoissonRegressor, Ridge
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor
from tasks import (
    REGRESSION,
    Failing,
    assert_same_model,
    fit,
    fitted,
    parameters,
    predictions,
    task,
)

from skgnh import GaussNewtonMLPRegressor

SPARSE = [sparse.csr_array, sparse.csc_array, sparse.csr_matrix, sparse.csc_matrix]
TWINS = [
    "regression",
    "several targets",
    pytest.param("poisson", marks=needs_weights),
]


# ---- targets ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REGRESSION)
def test_easy_targets_are_learnt(kind):
    estimator, X, y = fitted(kind, max_iter=100)
    assert estimator.score(X, y) > 0.9


@pytest.mark.parametrize("kind", REGRESSION)
def test_predictions_have_the_shape_of_y(kind):
    estimator, X, y = fitted(kind)
    assert estimator.predict(X).shape == y.shape
    assert estimator.score(X, y) == pytest.approx(r2_score(y, estimator.predict(X)))


def test_column_of_targets_is_taken_with_a_warning():
    estimator, X, y = task("regression", max_iter=3)
    with pytest.warns(DataConversionWarning, match="column-vector"):
        fit(estimator, X, y[:, None])
    assert estimator.predict(X).shape == (len(X),)
    assert_same_model(estimator, fitted("regression", max_iter=3).estimator)


def test_targets_may_be_integers_or_a_list():
    _, X, _ = task("regression")
    y = np.rint(4 * X[:, 0]).astype(int)
    one, other, third = (task("regression", max_iter=3).estimator for _ in range(3))
    fit(one, X, y), fit(other, X, y.astype(float)), fit(third, X.tolist(), y.tolist())
    assert_same_model(one, other)
    assert_same_model(one, third)


@pytest.mark.parametrize("offset", [-1e3, 1e4])
def test_offset_of_the_targets_costs_nothing(offset):
    one, X, y = task("regression", solver="dense", max_iter=10)
    other = task("regression", solver="dense", max_iter=10).estimator
    fit(one, X, y), fit(other, X, y + offset)
    np.testing.assert_allclose(other.predict(X) - offset, one.predict(X), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e9])
def test_constant_target_is_predicted(value):
    estimator, X, _ = task("regression")
    estimator.fit(X, np.full(len(X), value))
    np.testing.assert_allclose(estimator.predict(X), value, rtol=1e-3, atol=1e-2)


def test_poisson_means_are_positive_and_their_zeros_allowed():
    estimator, X, y = fitted("poisson")
    assert (y == 0).any()
    assert (estimator.predict(X) > 0).all()
    assert estimator.out_activation_ == "exp"


def test_poisson_target_of_zeros_gives_small_means():
    estimator, X, _ = task("poisson")
    estimator.fit(X, np.zeros(len(X)))
    assert estimator.predict(X).max() < 1e-3


def test_mean_of_a_poisson_fit_is_that_of_the_targets():
    # The intercept has no penalty, and the link is canonical.
    estimator, X, y = task("poisson", tol=0, max_iter=500)
    fit(estimator, X, y)
    assert estimator.predict(X).mean() == pytest.approx(y.mean(), rel=1e-4)


@pytest.mark.parametrize("kind", REGRESSION)
def test_scale_of_the_weights_is_a_scale_of_the_penalty(kind):
    one, X, y = task(kind, solver="dense", max_iter=5, alpha=0.1)
    other = task(kind, solver="dense", max_iter=5, alpha=0.8).estimator
    weights = np.random.default_rng(1).uniform(0.1, 2, len(X))
    fit(one, X, y, weights), fit(other, X, y, 8 * weights)
    np.testing.assert_allclose(parameters(one), parameters(other), rtol=1e-6)


# ---- forms of X ---------------------------------------------------------------------


@pytest.mark.parametrize("convert", SPARSE)
@pytest.mark.parametrize("kind", REGRESSION)
def test_sparse_rows_train_and_predict_as_dense_ones(kind, convert):
    dense, X, y = task(kind, max_iter=3, solver="dense")
    X = X * (X > 0)
    fit(dense, X, y)
    other = fit(task(kind, max_iter=3, solver="dense").estimator, convert(X), y)
    # A tolerance for the sums' order.
    np.testing.assert_allclose(parameters(other), parameters(dense), rtol=1e-7)
    np.testing.assert_allclose(other.predict(convert(X)), other.predict(X), rtol=1e-12)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("kind", REGRESSION)
def test_single_precision_stays_single(kind, convert):
    estimator, X, y = task(kind, max_iter=5)
    X = convert(X.astype(np.float32))
    fit(estimator, X, y)
    assert {a.dtype for a in estimator.coefs_ + estimator.intercepts_} == {X.dtype}
    assert estimator.predict(X).dtype == np.float32
    double = fitted(kind, max_iter=5).estimator
    np.testing.assert_allclose(
        estimator.predict(X), double.predict(X), rtol=0.02, atol=0.02
    )


# ---- the objective, and scikit-learn's estimators -----------------------------------


def mean_loss(estimator, X, y, sample_weight=None):
    found = estimator.predict(X)
    if estimator.loss == "poisson":
        losses = xlogy(y, y / found) - y + found
    else:
        losses = 0.5 * (found - y).reshape(len(y), -1) ** 2
        losses = losses.mean(axis=1)
    return np.average(losses, weights=sample_weight)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", REGRESSION)
def test_loss_is_the_mean_loss_plus_penalty(kind, weighted):
    estimator, X, y = task(kind, alpha=0.7, max_iter=7)
    weights = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    fit(estimator, X, y, weights)
    squares = sum(np.sum(coef**2) for coef in estimator.coefs_)
    total = weights.sum() if weighted else len(X)
    expected = mean_loss(estimator, X, y, weights) + 0.7 / (2 * total) * squares
    assert estimator.loss_ == pytest.approx(expected, rel=1e-10)


def one_iteration(kind, X, y, **settings):
    """scikit-learn's MLP of the same layers, fitted by one step."""
    if kind == "poisson":
        settings = {"loss": "poisson", **settings}
    settings = {"activation": "tanh", "random_state": 0, **settings}
    return fit(MLPRegressor(hidden_layer_sizes=(5, 4), max_iter=1, **settings), X, y)


@pytest.mark.parametrize("kind", TWINS)
def test_weights_move_to_scikit_learn(kind):
    estimator, X, y = fitted(kind)
    mlp = one_iteration(kind, X, y)
    mlp.coefs_, mlp.intercepts_ = estimator.coefs_, estimator.intercepts_
    np.testing.assert_allclose(mlp.predict(X), estimator.predict(X), rtol=1e-10)


@pytest.mark.parametrize("kind", TWINS)
def test_weights_move_from_scikit_learn(kind):
    estimator, X, y = fitted(kind)
    mlp = one_iteration(kind, X, y)
    estimator.coefs_, estimator.intercepts_ = mlp.coefs_, mlp.intercepts_
    np.testing.assert_allclose(estimator.predict(X), mlp.predict(X), rtol=1e-10)


@pytest.mark.parametrize("activation", ["tanh", "logistic", "relu", "identity"])
@pytest.mark.parametrize("kind", TWINS)
def test_first_weights_are_those_of_scikit_learn_moved_to_the_mean(kind, activation):
    estimator, X, y = task(kind, activation=activation, solver=Failing())
    weights = np.random.default_rng(1).uniform(0, 3, len(X))
    fit(estimator, X, y, weights)
    settings = {"random_state": 0, "learning_rate_init": 1e-300}
    mlp = one_iteration(kind, X, y, activation=activation, **settings)
    for ours, theirs in zip(estimator.coefs_, mlp.coefs_, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(
        estimator.intercepts_[:-1], mlp.intercepts_[:-1], strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    moved = estimator.intercepts_[-1] - mlp.intercepts_[-1]
    mean = np.average(y, axis=0, weights=weights)
    expected = np.log(mean) if kind == "poisson" else mean
    np.testing.assert_allclose(moved, np.ravel(expected), rtol=1e-10)


def test_without_hidden_layers_it_is_ridge_regression():
    for kind in ("regression", "several targets"):
        estimator, X, y = task(kind, hidden_layer_sizes=(), alpha=3.0, tol=0)
        weights = np.random.default_rng(1).uniform(0, 2, len(X))
        estimator.fit(X, y, weights)
        # The loss is the mean over the outputs, the penalty is not.
        ridge = Ridge(3.0 * estimator.n_outputs_).fit(X, y, weights)
        np.testing.assert_allclose(estimator.predict(X), ridge.predict(X), rtol=1e-6)
        coef = np.atleast_2d(ridge.coef_).T
        np.testing.assert_allclose(estimator.coefs_[0], coef, rtol=1e-6)


def test_without_hidden_layers_it_is_poisson_regression():
    estimator, X, y = task("poisson", hidden_layer_sizes=(), alpha=3.0, tol=0)
    estimator.fit(X, y)
    linear = PoissonRegressor(alpha=3.0 / len(X), tol=1e-10, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(estimator.predict(X), linear.predict(X), rtol=1e-5)


def test_loss_is_the_first_positional_parameter():
    # As in scikit-learn from 1.7 on.
    assert GaussNewtonMLPRegressor("poisson", (3,), "tanh").loss == "poisson"


def test_predictions_do_not_depend_on_how_rows_are_batched():
    estimator, X, _ = fitted("several targets")
    one_by_one = np.vstack([predictions(estimator, row[None]) for row in X])
    np.testing.assert_allclose(one_by_one, predictions(estimator, X), rtol=1e-12)
