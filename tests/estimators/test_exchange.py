"""Networks to and from scikit-learn: the same predictions, and training goes on."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted
from tasks import CLASSIFICATION, MODES, REGRESSION, task

from skgnh import GaussNewtonMLPClassifier, GaussNewtonMLPRegressor
from skgnh.operators import GaussNewtonHessian

# A few iterations are enough.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = (*CLASSIFICATION, *REGRESSION)
ANSWERS = ("predict", "predict_proba", "predict_log_proba")


def has_poisson():
    return "loss" in MLPRegressor().get_params()


def fitted(kind, **settings):
    if kind == "poisson" and not has_poisson():
        pytest.skip("scikit-learn has this loss from 1.7 on")
    model, X, y = task(kind, max_iter=3, tol=0.1, **settings)
    return model.fit(X, y), X, y


def perceptron(kind, **settings):
    """Return scikit-learn's perceptron after some epochs, and its data."""
    if kind == "poisson" and not has_poisson():
        pytest.skip("scikit-learn has this loss from 1.7 on")
    _, X, y = task(kind)
    settings = {
        "hidden_layer_sizes": (5, 4),
        "activation": "tanh",
        "random_state": 0,
        "max_iter": 20,
        **settings,
    }
    if kind in CLASSIFICATION:
        mlp = MLPClassifier(**settings)
    else:
        loss = {"loss": "poisson"} if kind == "poisson" else {}
        mlp = MLPRegressor(**settings, **loss)
    return mlp.fit(X, y), X, y


def assert_same_answers(one, other, X, **tolerances):
    for name in ANSWERS:
        if hasattr(one, name):
            left, right = getattr(one, name)(X), getattr(other, name)(X)
            assert left.shape == right.shape
            assert left.dtype == right.dtype
            if left.dtype.kind == "f":
                np.testing.assert_allclose(left, right, **tolerances)
            else:
                np.testing.assert_array_equal(left, right)


# ---- to scikit-learn -----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_scikit_learn_predicts_the_same(kind, mode):
    model, X, y = fitted(kind, **MODES[mode])
    mlp = model.to_sklearn()
    assert type(mlp) in (MLPClassifier, MLPRegressor)
    check_is_fitted(mlp)
    mlp = pickle.loads(pickle.dumps(mlp))
    assert_same_answers(model, mlp, X, rtol=1e-8)
    assert mlp.score(X, y) == pytest.approx(model.score(X, y))
    if kind == "poisson":
        assert mlp.loss == "poisson"


@pytest.mark.parametrize("kind", ["binary", "several targets"])
def test_scikit_learn_predicts_in_single_precision(kind):
    model, X, y = task(kind, max_iter=3, tol=0.1)
    X = X.astype(np.float32)
    mlp = model.fit(X, y).to_sklearn()
    assert mlp.coefs_[0].dtype == np.float32
    assert_same_answers(model, mlp, X, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_scikit_learn_goes_on(kind):
    model, X, y = fitted(kind)
    before = [coef.copy() for coef in model.coefs_]
    mlp = model.to_sklearn()
    start = mlp.score(X, y)
    for _ in range(3):
        mlp.partial_fit(X, y)
    # It neither begins anew nor stands still.
    assert mlp.score(X, y) == pytest.approx(start, abs=0.1)
    assert not np.array_equal(mlp.coefs_[0], before[0])
    np.testing.assert_array_equal(model.coefs_[0], before[0])


def test_scikit_learn_refits_warmly():
    model, X, y = fitted("multiclass")
    mlp = model.to_sklearn().set_params(warm_start=True, max_iter=1)
    mlp.fit(X, y)
    assert mlp.score(X, y) == pytest.approx(model.score(X, y), abs=0.1)


def test_what_is_known_goes_along():
    model, X, y = task("binary", max_iter=3, tol=0.1, alpha=0.5)
    X = pd.DataFrame(X, columns=list("abcd"))
    mlp = model.fit(X, y).to_sklearn()
    assert list(mlp.feature_names_in_) == list("abcd")
    assert mlp.n_features_in_ == 4
    assert list(mlp.classes_) == ["no", "yes"]
    assert (mlp.n_layers_, mlp.n_outputs_, mlp.out_activation_) == (4, 1, "logistic")
    assert (mlp.n_iter_, mlp.loss_) == (model.n_iter_, model.loss_)
    assert mlp.loss_curve_ == model.loss_curve_
    assert mlp.t_ == 60 * model.n_iter_
    assert (mlp.hidden_layer_sizes, mlp.alpha, mlp.random_state) == ((5, 4), 0.5, 0)
    # The same objective: the same curvature.
    one, other = (GaussNewtonHessian.from_estimator(m, X, y) for m in (model, mlp))
    np.testing.assert_allclose(one.toarray(), other.toarray(), atol=1e-12)


def test_networks_without_hidden_layers():
    model, X, _ = fitted("multiclass", hidden_layer_sizes=())
    assert_same_answers(model, model.to_sklearn(), X, rtol=1e-8)


def test_what_scikit_learn_cannot_express():
    model, X, y = fitted("binary", alpha="evidence", average=True)
    with pytest.raises(ValueError, match="average=False"):
        model.to_sklearn()
    model.set_params(average=False)
    assert_same_answers(model, model.to_sklearn(), X, rtol=1e-8)
    model.hidden_activations_ = ["tanh", "relu"]
    with pytest.raises(ValueError, match="one activation"):
        model.to_sklearn()
    with pytest.raises(NotFittedError):
        task("binary").estimator.to_sklearn()


# ---- from scikit-learn ---------------------------------------------------------------


def ours(kind):
    return (
        GaussNewtonMLPClassifier
        if kind in CLASSIFICATION
        else (GaussNewtonMLPRegressor)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_scikit_learn_predict_the_same(kind):
    mlp, X, y = perceptron(kind)
    model = ours(kind).from_sklearn(mlp)
    check_is_fitted(model)
    assert_same_answers(mlp, model, X, rtol=1e-10)
    assert (model.loss_, model.n_iter_) == (mlp.loss_, mlp.n_iter_)
    assert model.loss_curve_ == mlp.loss_curve_
    # And back.
    assert_same_answers(mlp, model.to_sklearn(), X, rtol=1e-10)
    assert model.transform(X).shape == (len(X), 4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on(kind, mode):
    mlp, X, y = perceptron(kind, alpha=1e-4)
    before = [coef.copy() for coef in mlp.coefs_]
    settings = {**MODES[mode], "warm_start": True, "max_iter": 3, "tol": 0.1}
    model = ours(kind).from_sklearn(mlp, **settings).fit(X, y)
    assert model.score(X, y) > mlp.score(X, y) - 0.02
    np.testing.assert_array_equal(mlp.coefs_[0], before[0])
    model = ours(kind).from_sklearn(mlp, **settings)
    for part in (slice(30), slice(30, 60)):
        model.partial_fit(X[part], y[part])
    assert model.score(X, y) > mlp.score(X, y) - 0.1
    assert hasattr(model, "posterior_") == (mode == "evidence")


def test_the_first_step_is_of_the_same_objective():
    mlp, X, y = perceptron("regression", solver="lbfgs", alpha=1, max_iter=1000)
    model = GaussNewtonMLPRegressor.from_sklearn(mlp, warm_start=True)
    # L-BFGS leaves no losses behind.
    assert not hasattr(model, "loss_curve_")
    assert model.to_sklearn().loss_curve_ == []
    model.fit(X, y)
    # A minimum of scikit-learn's is one of ours.
    assert model.loss_ == pytest.approx(mlp.loss_, rel=1e-3)


def test_what_has_no_meaning_is_absent():
    mlp, X, _ = perceptron("regression")
    model = GaussNewtonMLPRegressor.from_sklearn(mlp)
    with pytest.raises(ValueError, match="no posterior_"):
        model.predict(X, return_std=True)
    for name in ("feature_importances_", "posterior_", "history_", "solver_"):
        with pytest.raises(AttributeError, match=name):
            getattr(model, name)


def test_other_models_are_refused():
    mlp, X, y = perceptron("regression")
    with pytest.raises(TypeError, match="needs a fitted MLPClassifier"):
        GaussNewtonMLPClassifier.from_sklearn(mlp)
    with pytest.raises(NotFittedError):
        GaussNewtonMLPClassifier.from_sklearn(MLPClassifier())
    one = MLPClassifier(3, max_iter=1).fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="at least 2 classes"):
        GaussNewtonMLPClassifier.from_sklearn(one)
