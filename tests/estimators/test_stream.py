"""partial_fit by the evidence: blocks of rows, none of which is forgotten."""

import pickle

import numpy as np
import pytest
from marks import slow_unless
from scipy import sparse
from sklearn.datasets import load_digits, make_friedman1
from sklearn.metrics import root_mean_squared_error
from tasks import CLASSIFICATION, DEFAULTS, KINDS, assert_same_model, fit, task

from skgnh import GaussNewtonMLPClassifier, GaussNewtonMLPRegressor
from skgnh.estimators import stream as streams
from skgnh.estimators.ground import Data
from skgnh.estimators.prepare import prepare
from skgnh.estimators.rows import Rows
from skgnh.solvers import all_solvers


@pytest.fixture
def few(monkeypatch):
    """Keep so few rows that the others must be recollected."""
    monkeypatch.setattr(streams, "_KEPT", 40)


def classes_of(kind, y):
    if kind not in CLASSIFICATION:
        return {}
    return {"classes": np.arange(3) if kind == "multilabel" else np.unique(y)}


def run(estimator, X, y, size=50, **first):
    for start in range(0, len(X), size):
        rows = slice(start, start + size)
        estimator.partial_fit(X[rows], None if y is None else y[rows], **first)
        first = {}
    return estimator


def friedman(n=1500):
    X, y = make_friedman1(n + 1000, noise=1.0, random_state=0)
    return X[:n], y[:n], X[n:], y[n:]


def test_one_pass_ends_near_the_fit_of_all_rows():
    X, y, X_test, y_test = friedman()
    whole = GaussNewtonMLPRegressor(random_state=0).fit(X, y)
    parts = run(GaussNewtonMLPRegressor(random_state=0), X, y)
    errors = [
        root_mean_squared_error(y_test, m.predict(X_test)) for m in (whole, parts)
    ]
    assert errors[1] < 1.15 * errors[0]
    assert parts._stream_.rows.X.shape == (1000, 10)
    assert parts._n_seen_ == pytest.approx(1500)
    _, std = parts.predict(X_test, return_std=True)
    z = (y_test - parts.predict(X_test)) / std
    assert 0.8 < z.std() < 1.2


@pytest.mark.slow
def test_labels_that_come_sorted_are_all_kept(monkeypatch):
    monkeypatch.setattr(streams, "_KEPT", 500)
    X, y = load_digits(return_X_y=True)
    train, test = np.arange(0, 1200), np.arange(1200, 1797)
    train = train[np.argsort(y[train], kind="stable")]
    model = GaussNewtonMLPClassifier(10, activation="tanh", random_state=0)
    run(model, X[train], y[train], 100, classes=np.arange(10))
    # Without the rows that are kept it is below .2.
    assert model.score(X[test], y[test]) > 0.85
    assert (np.bincount(model._stream_.rows.targets.argmax(axis=1)) == 50).all()


def test_a_fit_is_not_forgotten():
    X, y, X_test, y_test = friedman(600)
    model = GaussNewtonMLPRegressor(random_state=0).fit(X, y)
    before = root_mean_squared_error(y_test, model.predict(X_test))
    # Few rows of a corner: what a network fitted to them alone would know.
    corner = X_test[:, 0] < 0.3
    run(model, X_test[corner][:60], y_test[corner][:60], 20)
    after = root_mean_squared_error(y_test, model.predict(X_test))
    assert after < 1.1 * before
    alone = GaussNewtonMLPRegressor(random_state=0)
    alone.fit(X_test[corner][:60], y_test[corner][:60])
    assert root_mean_squared_error(y_test, alone.predict(X_test)) > 1.5 * before


def test_what_goes_leaves_its_slope_and_curvature(few):
    X, y, *_ = friedman(100)
    model = GaussNewtonMLPRegressor(random_state=0).partial_fit(X, y)
    kept = {row.tobytes() for row in model._stream_.rows.X}
    left = np.array([row.tobytes() not in kept for row in X])
    assert left.sum() == 60
    rows = Rows(X[left], y[left, None], None).scaled(model._scaling_)
    objective = rows.objective(model._network, model._loss, 0.0)
    theta, gone = model._scaled_parameters, model._stream_.gone
    _, gradient, H = objective.linearize(theta)
    np.testing.assert_allclose(gone.D, 60 * H.toarray(), atol=1e-10)
    np.testing.assert_allclose(gone.D @ theta - gone.b, 60 * gradient, atol=1e-9)


def test_the_past_moves_with_the_columns_and_the_noise_with_the_targets(few):
    X, y, *_ = friedman(200)
    model = GaussNewtonMLPRegressor(random_state=0).partial_fit(X[:100], y[:100])
    theta = model._scaled_parameters
    before, slope = model._stream_.gone, np.random.default_rng(0).standard_normal(181)
    data = Data(3 * X[100:], 5 * y[100:] - 40)
    prepared = prepare(model, data, incremental=True)
    scaling, network = prepared.ground.draft._scaling_, prepared.network
    unit = model._scaling_.outputs.scale[0] ** 2
    after = scaling.outputs.scale[0] ** 2
    assert after > 2 * unit
    noise = prepared.state.hyper.dispersion * after
    assert noise == pytest.approx(model.noise_variance_[0])
    assert prepared.state.damping is None
    # In the units of the targets the quadratic is the same function of the network.
    pair = [theta, theta + 1e-3 * slope]
    moved = [scaling.unfold(network, model._scaling_.fold(network, x)) for x in pair]
    gone = prepared.ground.stream.gone
    change = gone.value(moved[1]) - gone.value(moved[0])
    expected = before.value(pair[1]) - before.value(pair[0])
    assert change * after == pytest.approx(expected * unit)


@pytest.mark.parametrize(
    "kind", slow_unless(("multiclass", "regression").__contains__, KINDS)
)
def test_every_kind_learns_from_what_is_gone(kind, few):
    estimator, X, y = task(kind, n=400, **DEFAULTS)
    weights = {} if kind == "autoencoder" else {"sample_weight": np.full(50, 2.0)}
    run(estimator, X, y, **classes_of(kind, y), **weights)
    gone = estimator._stream_.gone
    expected = 2 * 50 + 350 - estimator._stream_.rows.total
    assert gone.weight == pytest.approx(expected if weights else 360)
    whole = fit(task(kind, **DEFAULTS).estimator, X, y)
    scores = [m.score(X) if y is None else m.score(X, y) for m in (estimator, whole)]
    if kind == "autoencoder":
        assert scores[0] > 2 * scores[1] - 0.05
    else:
        assert scores[0] > scores[1] - 0.15
    assert hasattr(estimator, "posterior_")


@pytest.mark.parametrize("solver", all_solvers())
def test_solvers_that_need_rows_give_way(solver, few):
    if solver == "exact_hessian":
        pytest.skip("the evidence takes no other Hessian")
    estimator, X, y = task("regression", n=200, solver=solver, **DEFAULTS)
    run(estimator, X, y)
    assert np.isfinite(estimator.predict(X)).all()


@pytest.mark.parametrize("kind", ["regression", "multiclass"])
def test_many_parameters_recollect_a_diagonal(kind, few, monkeypatch):
    monkeypatch.setattr(streams, "_DENSE", 10)
    estimator, X, y = task(kind, n=300, **DEFAULTS)
    run(estimator, X, y, **classes_of(kind, y))
    assert estimator._stream_.gone.D.ndim == 1
    assert estimator.score(X, y) > (0.3 if kind == "regression" else 0.55)


def test_a_pickle_goes_on_alike(few):
    estimator, X, y = task("regression", n=200, **DEFAULTS)
    run(estimator, X[:150], y[:150])
    copy = pickle.loads(pickle.dumps(estimator))
    for model in (estimator, copy):
        model.partial_fit(X[150:], y[150:])
    assert_same_model(estimator, copy)


def test_a_fit_begins_anew(few):
    estimator, X, y = task("regression", n=200, **DEFAULTS)
    run(estimator, X, y)
    fit(estimator, X, y)
    assert estimator._stream_.gone is None
    assert_same_model(estimator, fit(task("regression", **DEFAULTS).estimator, X, y))


def test_float32_and_columns_that_move(few):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3)) * [1, 10, 100] + np.linspace(0, 5, 400)[:, None]
    y = 100 * (np.tanh(X[:, 0] - 2) + 0.1 * rng.standard_normal(400))
    X = X.astype(np.float32)
    model = run(GaussNewtonMLPRegressor(random_state=0), X, y.astype(np.float32))
    assert model.coefs_[0].dtype == np.float32
    assert model.score(X, y) > 0.85


def test_wide_rows_are_kept_by_their_numbers(monkeypatch):
    monkeypatch.setattr(streams, "_NUMBERS", 4 * 70)
    estimator, X, y = task("regression", n=200, **DEFAULTS)
    fit(estimator, X, y)
    assert estimator._stream_.rows.X.shape == (70, 4)
    fit(estimator, sparse.csr_array(X), y)
    assert estimator._stream_.rows.X.shape == (200, 4)
