"""Reading fitted estimators: scikit-learn's multi-layer perceptrons."""

import numpy as np
import oracles
import pytest
from cases import assert_close
from fitted import KINDS, WEIGHTED, fitted
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skgnh.losses import LOSSES
from skgnh.operators import GaussNewtonHessian, load_estimator
from skgnh.operators.from_estimator import check_sample_weight


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.parametrize("weighted", WEIGHTED)
def test_parts_of_an_estimator_are_read(kind, weighted):
    fit = fitted(kind, weighted)
    model = load_estimator(fit.estimator, fit.X, fit.y, fit.sample_weight)
    assert model.network.layer_units == fit.widths
    assert model.network.activations == fit.activations
    assert model.loss is LOSSES[fit.output_activation]
    np.testing.assert_array_equal(model.theta, fit.theta)
    np.testing.assert_array_equal(model.targets, fit.targets)
    np.testing.assert_array_equal(model.inputs, np.c_[fit.X, np.ones(len(fit.X))])
    np.testing.assert_allclose(model.weights, fit.weights, rtol=1e-15)
    np.testing.assert_allclose(model.ridge, fit.ridge, rtol=1e-15)


@pytest.mark.parametrize("weighted", WEIGHTED)
def test_operator_of_an_estimator_equals_the_oracle(kind, weighted):
    fit = fitted(kind, weighted)
    H = GaussNewtonHessian.from_estimator(
        fit.estimator, fit.X, fit.y, fit.sample_weight
    )
    curvature = oracles.Curvature(
        fit.theta, fit.X, fit.widths, fit.activations, fit.output_activation
    )
    assert_close(H.toarray(), curvature.array(fit.weights, fit.ridge))


def test_means_of_an_estimator_are_its_predictions(kind):
    fit = fitted(kind)
    model = load_estimator(fit.estimator, fit.X)
    mean = model.loss.mean(model.network.outputs(model.theta, model.inputs))
    if kind in ("multiclass", "multilabel"):
        expected = fit.estimator.predict_proba(fit.X)
    elif kind == "binary":
        expected = fit.estimator.predict_proba(fit.X)[:, 1:]
    else:
        expected = fit.estimator.predict(fit.X).reshape(len(fit.X), -1)
    assert_close(mean, expected, rtol=1e-13)


def test_labels_in_a_column_are_labels():
    fit = fitted("multiclass")
    model = load_estimator(fit.estimator, fit.X, fit.y[:, None])
    np.testing.assert_array_equal(model.targets, fit.targets)


def test_operator_does_not_depend_on_targets():
    fit = fitted("multiclass")
    with_y = GaussNewtonHessian.from_estimator(fit.estimator, fit.X, fit.y)
    without = GaussNewtonHessian.from_estimator(fit.estimator, fit.X)
    np.testing.assert_array_equal(with_y.toarray(), without.toarray())
    assert load_estimator(fit.estimator, fit.X).targets is None


def test_weights_of_rows_do_not_depend_on_their_scale_but_the_penalty_does():
    fit = fitted("regression")
    w = np.arange(len(fit.X), dtype=float)
    once, twice = (load_estimator(fit.estimator, fit.X, None, k * w) for k in (1, 2))
    np.testing.assert_allclose(once.weights, w / w.sum(), rtol=1e-15)
    np.testing.assert_allclose(twice.weights, once.weights, rtol=1e-15)
    np.testing.assert_allclose(twice.ridge, once.ridge / 2, rtol=1e-15)


def test_other_rows_than_those_of_the_fit_may_be_read():
    fit = fitted("multiclass")
    model = load_estimator(fit.estimator, fit.X[:7], fit.y[:7])
    assert model.inputs.shape == (7, 4)
    np.testing.assert_array_equal(model.targets, fit.targets[:7])
    np.testing.assert_allclose(model.ridge, fit.ridge * len(fit.X) / 7, rtol=1e-14)


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.csc_matrix])
def test_sparse_rows_are_read_as_csr(convert):
    fit = fitted("regression")
    model = load_estimator(fit.estimator, convert(fit.X))
    assert model.inputs.format == "csr"
    np.testing.assert_array_equal(model.inputs.toarray()[:, :3], fit.X)


def test_precision_is_that_of_the_fit():
    X, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2
    mlp = MLPClassifier(4, random_state=0)
    mlp.partial_fit(X.astype(np.float32), y, classes=[0, 1])
    model = load_estimator(mlp, X, y, np.arange(20))
    parts = (model.theta, model.inputs, model.targets, model.weights, model.ridge)
    assert {part.dtype for part in parts} == {np.dtype(np.float32)}
    H = GaussNewtonHessian.from_estimator(mlp, X, y)
    assert H.dtype == np.float32
    assert (H @ np.ones(H.shape[0])).dtype == np.float32


class WithClassWeight(MLPClassifier):
    """A classifier which also has a class_weight."""

    class_weight = None


def test_class_weight_multiplies_the_sample_weight():
    fit = fitted("multiclass")
    heavy = {10: 1.0, 20: 5.0, 30: 0.5}
    estimator = WithClassWeight()
    vars(estimator).update(vars(fit.estimator), class_weight=heavy)
    w = np.arange(len(fit.X), dtype=float)
    expected = w * [heavy[label] for label in fit.y]
    model = load_estimator(estimator, fit.X, fit.y, w)
    np.testing.assert_allclose(model.weights, expected / expected.sum(), rtol=1e-14)
    np.testing.assert_allclose(model.ridge.max(), 0.3 / expected.sum(), rtol=1e-14)
    alone = load_estimator(estimator, fit.X, fit.y).weights
    expected = np.array([heavy[label] for label in fit.y])
    np.testing.assert_allclose(alone, expected / expected.sum(), rtol=1e-14)
    with pytest.raises(ValueError, match="class_weight needs y"):
        load_estimator(estimator, fit.X)


# ---- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [MLPClassifier(), MLPRegressor()])
def test_estimators_that_are_not_fitted_are_refused(estimator):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        load_estimator(estimator, np.ones((2, 3)))


def test_estimators_that_are_no_network_are_refused():
    X, y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2
    message = r"LogisticRegression is no multi-layer perceptron: it has no coefs_, "
    with pytest.raises(ValueError, match=message):
        load_estimator(LogisticRegression().fit(X, y), X)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("multiclass", lambda X, y: (X[:, :2], y), "X has 2 features"),
        ("multiclass", lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
        ("multiclass", lambda X, y: (X, y + 1), r"classes \[11 21 31\] that are not"),
        ("multiclass", lambda X, y: (X, y[:, None] + 1), r"classes \[11 21 31\]"),
        ("multiclass", lambda X, y: (X, np.eye(30)[:, :2]), "2 outputs.*has 3"),
        ("binary", lambda X, y: (X, np.full(30, "maybe")), r"classes \['maybe'\]"),
        ("binary", lambda X, y: (X, np.arange(30)), r"classes \[ 0  1  2"),
        ("multilabel", lambda X, y: (X, y[:, :2]), "y has 2 outputs.*has 3"),
        ("regression", lambda X, y: (X, np.c_[y, y]), "y has 2 outputs.*has 1"),
        ("several targets", lambda X, y: (X, y[:, 0]), "y has 1 outputs.*has 2"),
        ("regression", lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
        ("regression", lambda X, y: (X, y * np.nan), "contains NaN"),
        ("regression", lambda X, y: (X * np.inf, y), "X contains (infinity|NaN)"),
    ],
)
def test_data_that_do_not_belong_to_the_estimator_are_refused(kind, change, message):
    fit = fitted(kind)
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        load_estimator(fit.estimator, *change(fit.X, fit.y))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(29), r"shape \(29,\), expected \(30,\)"),
        (np.ones((30, 1)), r"shape \(30, 1\), expected \(30,\)"),
        (-np.eye(30)[0], "must not be negative"),
        (np.zeros(30), "zero for every row"),
        (np.full(30, np.nan), "sample_weight contains NaN"),
        (np.full(30, np.inf), "sample_weight contains infinity"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, message):
    fit = fitted("regression")
    with pytest.raises(ValueError, match=message):
        load_estimator(fit.estimator, fit.X, None, weights)


def test_weights_whose_sum_overflows_are_named():
    with pytest.raises(ValueError, match="sum of sample_weight overflows"):
        check_sample_weight(np.full(3, 1e308), np.zeros((3, 1)))
