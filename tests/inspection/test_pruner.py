"""The pruner is what its network is: classifier, regressor or transformer."""

import numpy as np
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight, get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from spectra import fitted_state
from tasks import KINDS, assert_same_model, fit, fitted, task

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.inspection import OBSPruner, prune

CHEAP = {"n_steps": 2, "n_gradients": 32, "n_rows": 2, "random_state": 0}
EVERY = pytest.mark.parametrize("kind", KINDS)
OF_ROWS = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "transform",
    "inverse_transform",
    "score_samples",
)


def pruned(kind, **settings):
    """A fitted pruner with its data."""
    estimator, X, y = task(kind, max_iter=5)
    return fit(OBSPruner(estimator, sparsity=0.5, **CHEAP, **settings), X, y), X, y


def zeros(estimator):
    return [coef == 0 for coef in estimator.coefs_]


# ---- it stands for its network -------------------------------------------------------


@EVERY
def test_has_the_methods_of_its_network_and_their_results(kind):
    pruner, X, y = pruned(kind, n_retrain=1)
    for name in OF_ROWS:
        bare = clone(pruner)
        assert hasattr(bare, name) is hasattr(pruner.estimator, name)
        if not hasattr(pruner, name):
            continue
        rows = pruner.transform(X) if name == "inverse_transform" else X
        expected = getattr(pruner.estimator_, name)(rows)
        np.testing.assert_array_equal(getattr(pruner, name)(rows), expected)
        with pytest.raises(NotFittedError):
            getattr(bare, name)(rows)
    assert pruner.score(X, y) == pruner.estimator_.score(X, y)


@EVERY
def test_has_the_tags_and_attributes_of_its_network(kind):
    pruner, X, _ = pruned(kind)
    assert not hasattr(pruner.estimator, "coefs_")
    assert not hasattr(clone(pruner), "n_features_in_")
    own = get_tags(pruner.estimator)
    # Its products are of arrays of NumPy.
    own.array_api_support = False
    assert get_tags(pruner) == own
    assert is_classifier(pruner) is is_classifier(pruner.estimator)
    assert is_regressor(pruner) is is_regressor(pruner.estimator)
    assert pruner.n_features_in_ == X.shape[1]
    assert hasattr(pruner, "classes_") is is_classifier(pruner)
    if is_classifier(pruner):
        np.testing.assert_array_equal(pruner.classes_, pruner.estimator_.classes_)
    assert pruner.sparsity_ == pytest.approx(0.5, abs=0.02)


def test_names_of_features_are_those_of_the_last_fit():
    pandas = pytest.importorskip("pandas")
    pruner, X, y = pruned("multiclass")
    assert not hasattr(pruner, "feature_names_in_")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    assert list(fit(pruner, frame, y).feature_names_in_) == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        pruner.predict(frame[list("abdc")])


def test_is_cross_validated_as_a_classifier():
    # The rows lie by class: folds that are not stratified lack one.
    X, y = load_iris(return_X_y=True)
    network = GaussNewtonMLPClassifier((10,), alpha=0.1, tol=1e-3, random_state=0)
    pruner = make_pipeline(StandardScaler(), OBSPruner(network, sparsity=0.5, **CHEAP))
    assert cross_val_score(pruner, X, y, cv=3).min() > 0.9
    p = cross_val_predict(pruner, X, y, cv=3, method="predict_proba")
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_is_a_step_of_a_pipeline_as_an_autoencoder():
    pruner, X, _ = pruned("autoencoder")
    codes = pruner.transform(X)
    again = clone(pruner).set_params(estimator__tol=1.0, sparsity=0)
    np.testing.assert_array_equal(again.fit_transform(X), again.transform(X))
    assert codes.shape == (len(X), 2)
    names = pruner.get_feature_names_out()
    assert list(names) == ["gaussnewtonautoencoder0", "gaussnewtonautoencoder1"]


# ---- training ------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [FrozenEstimator, lambda network: network])
def test_takes_a_fitted_network_as_it_is(wrap):
    estimator, X, y = fitted("multiclass")
    prefit = wrap is not FrozenEstimator
    pruner = OBSPruner(wrap(estimator), sparsity=0.5, prefit=prefit, **CHEAP).fit(X, y)
    expected = prune(estimator, X, y, sparsity=0.5, **CHEAP)
    assert_same_model(pruner.estimator_, expected)
    assert not hasattr(estimator, "pruned_")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_balanced_classes_are_trained_on_with_their_weights(kind, weighted):
    estimator, X, y = task(kind, max_iter=5, class_weight="balanced")
    w = np.random.default_rng(1).random(len(X)) if weighted else None
    settings = {"sparsity": 0.5, **CHEAP}
    pruner = fit(OBSPruner(estimator, n_retrain=2, **settings), X, y, w)
    expected = prune(fit(clone(estimator), X, y, w), X, y, w, **settings)
    expected.set_params(class_weight=None)
    balance = compute_sample_weight("balanced", y)
    for _ in range(2):
        expected.partial_fit(X, y, balance * w if weighted else balance)
    assert_same_model(pruner.estimator_, expected)
    assert pruner.estimator_.class_weight == "balanced"


@EVERY
@pytest.mark.parametrize(
    "settings",
    [{}, {"alpha": "ard"}, pytest.param({"solver": "cg"}, marks=pytest.mark.slow)],
)
def test_what_is_left_has_its_evidence(kind, settings):
    estimator, X, y = task(kind, max_iter=5, **{"alpha": "evidence", **settings})
    pruner = fit(OBSPruner(estimator, sparsity=0.5, **CHEAP), X, y)
    before = zeros(pruner.estimator_)
    parameters = pruner.estimator_._scaled_parameters
    model = pruner.set_params(n_retrain=3).partial_fit(X, y).estimator_
    for one, other in zip(zeros(model), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (model._scaled_parameters != parameters).any()
    weights = sum(np.count_nonzero(coef) for coef in model.coefs_)
    left = weights + sum(map(len, model.intercepts_))
    if "solver" in settings:
        # No determinant is at hand for some parameters of many: the prior stays.
        assert not hasattr(model, "log_marginal_likelihood_")
    else:
        assert np.isfinite(model.log_marginal_likelihood_)
        assert 0 < model.effective_parameters_ <= left


@EVERY
def test_goes_on_with_its_zeros(kind):
    pruner, X, y = pruned(kind)
    before = zeros(pruner.estimator_)
    loss = pruner.estimator_.loss_
    assert pruner.partial_fit(X, y).estimator_.loss_ < loss
    for one, other in zip(zeros(pruner.estimator_), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_first_call_of_partial_fit_is_fit_on_rows_of_every_class():
    pruner, X, y = pruned("multiclass")
    first = clone(pruner).set_params(estimator__tol=1.0)
    other = clone(first)
    first.partial_fit(X, y, classes=[30, 20, 10])
    assert_same_model(first.estimator_, other.fit(X, y).estimator_)
    first.partial_fit(X[:5], y[:5], classes=[10, 20, 30])
    before = fitted_state(first)
    with pytest.raises(ValueError, match="differ from those of the first call"):
        first.partial_fit(X, y, classes=[10, 20, 40])
    assert fitted_state(first) == before
    late = clone(first)
    with pytest.raises(ValueError, match="must have rows of every class"):
        late.partial_fit(X, y, classes=[10, 20, 30, 40])
    assert not fitted_state(late)


@pytest.mark.parametrize(("n_dropped", "n_steps"), [(0, 1), (0, 16), (200, 5)])
def test_share_that_is_left_falls_by_one_factor(n_dropped, n_steps):
    pruner = OBSPruner(None, sparsity=0.9, n_steps=n_steps)
    left = 1000 - n_dropped - np.cumsum(pruner._counts(1000, n_dropped))
    factor = (100 / (1000 - n_dropped)) ** (1 / n_steps)
    powers = np.arange(1, n_steps + 1)
    np.testing.assert_allclose(left, (1000 - n_dropped) * factor**powers, atol=0.51)


def test_nothing_more_goes_where_all_has_gone():
    assert not OBSPruner(None, sparsity=0.999)._counts(70, 70).any()


# ---- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, "sparsity == 1.0, must be < 1"),
        ({"sparsity": -0.1}, "sparsity == -0.1, must be >= 0"),
        ({"n_steps": 0}, "n_steps must be an integer >= 1, got 0"),
        ({"n_gradients": 0}, "n_gradients must be an integer >= 1, got 0"),
        ({"n_rows": 0}, "n_rows must be an integer >= 1, got 0"),
        ({"block_size": 0}, "block_size must be an integer >= 1, got 0"),
        ({"damping": 0.0}, "damping == 0.0, must be > 0"),
        ({"damping": np.inf}, "must be finite"),
        ({"sparsity": np.nan}, "must be finite"),
        ({"n_retrain": -1}, "n_retrain == -1, must be >= 0"),
        ({"source": "hessian"}, "Unknown source 'hessian'"),
        ({"estimator": None}, "NoneType cannot be pruned"),
        ({"estimator": MLPClassifier()}, "MLPClassifier cannot be pruned"),
        ({"estimator": LogisticRegression()}, "cannot be pruned"),
        ({"estimator": FrozenEstimator(MLPClassifier())}, "cannot be pruned"),
    ],
)
def test_bad_parameters_are_named_before_anything_is_trained(
    settings, message, monkeypatch
):
    pruner, X, y = pruned("multiclass")
    before = fitted_state(pruner)
    monkeypatch.setattr(GaussNewtonMLPClassifier, "fit", None)
    with pytest.raises(ValueError, match=message):
        pruner.set_params(**settings).fit(X, y)
    assert fitted_state(pruner) == before


@pytest.mark.parametrize("prefit", [False, True])
def test_refused_data_leave_the_pruner_as_it_was(prefit):
    pruner, X, y = pruned("multiclass")
    if prefit:
        pruner.set_params(estimator=fitted("multiclass").estimator, prefit=True)
        fit(pruner, X, y)
    before = fitted_state(pruner)
    strange = np.where(y == 10, np.nan, y)
    message = "NaN|inconsistent|y to be passed|needs y"
    for data in ((X * np.nan, y), (X[:-1], y), (X, None), (X, strange)):
        for method in (pruner.fit, pruner.partial_fit):
            with pytest.raises(ValueError, match=message):
                method(*data)
            assert fitted_state(pruner) == before
    with pytest.raises(np.linalg.LinAlgError, match="raise the damping"):
        fit(pruner.set_params(damping=1e-20, n_gradients=200), X, y)
    assert fitted_state(pruner) == before


# ---- scikit-learn's checks -----------------------------------------------------------

FEW = {"max_iter": 20, "alpha": 1e-4, "random_state": 0}
NETWORKS = (
    GaussNewtonMLPClassifier((5,), **FEW),
    GaussNewtonMLPRegressor(hidden_layer_sizes=(5,), **FEW),
    GaussNewtonAutoencoder((4, 2), **FEW),
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [OBSPruner(network, sparsity=0.3, **CHEAP) for network in NETWORKS[1:2]]
)
def test_passes_the_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [OBSPruner(network, sparsity=0.3, **CHEAP) for network in NETWORKS[::2]]
)
def test_of_other_networks_passes_the_estimator_checks(estimator, check):
    check(estimator)
