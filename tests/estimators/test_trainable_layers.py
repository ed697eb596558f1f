"""Layers that are held, and the first weights of the theory of wide networks."""

import pickle

import numpy as np
import pytest
from cases import assert_close
from sklearn.base import clone
from tasks import KINDS, MODES, Failing, fit, fitted, parameters, task

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.estimators import base, candidates
from skgnh.inspection import prune
from skgnh.operators import GaussNewtonHessian

ESTIMATORS = (GaussNewtonAutoencoder, GaussNewtonMLPClassifier, GaussNewtonMLPRegressor)
LAYERS = ([0], [-1], [0, -1])


def held(estimator, layers):
    """Weights and biases of the layers that are not trained."""
    depth = len(estimator.coefs_)
    others = sorted(set(range(depth)) - {k % depth for k in layers})
    return [(estimator.coefs_[k], estimator.intercepts_[k]) for k in others]


def trained(estimator, layers):
    return [(estimator.coefs_[k], estimator.intercepts_[k]) for k in layers]


def assert_held(estimator, before, layers):
    for pair, other in zip(held(estimator, layers), held(before, layers), strict=True):
        for a, b in zip(pair, other, strict=True):
            np.testing.assert_array_equal(a, b)
    for pair, other in zip(
        trained(estimator, layers), trained(before, layers), strict=True
    ):
        assert (pair[0] != other[0]).any()


def moved(X, y):
    """Rows of other scales, for another task."""
    rng = np.random.default_rng(1)
    order = rng.permutation(len(X))
    return 3 * X[order] + rng.standard_normal(X.shape[1]), None if y is None else y


@pytest.mark.parametrize("layers", LAYERS, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_others_stay_where_they_begin(kind, mode, layers):
    settings = {**MODES[mode], "trainable_layers": layers, "max_iter": 3}
    if kind == "autoencoder":
        settings["init"] = "ntk"  # no principal components, and no choice by trial
    model = fitted(kind, **settings).estimator
    start = fitted(kind, **{**settings, "solver": Failing()}).estimator
    assert_held(model, start, layers)
    assert model.loss_ < start.loss_ or mode == "evidence"
    if mode == "evidence":
        assert np.isfinite(model.log_marginal_likelihood_)
        n_trained = sum(a.size + b.size for a, b in trained(model, layers))
        assert 0 < model.effective_parameters_ < n_trained
        scale = model.posterior_.scale
        assert np.count_nonzero(scale) == n_trained
        draws = model.posterior_.sample(2, np.random.default_rng(0))
        assert_close(draws[:, scale == 0], np.stack(2 * [draws[0, scale == 0]]))


@pytest.mark.parametrize("call", ["fit", "partial_fit"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_another_task_is_learned_from_the_features_of_the_first(kind, mode, call):
    model, X, y = fitted(kind, **MODES[mode])
    before = clone(model).set_params(**model.get_params())
    vars(before).update(vars(model))
    model.set_params(trainable_layers=[-1], warm_start=True, max_iter=3)
    X, y = moved(X, y)
    for _ in range(2):
        if call == "fit":
            fit(model, X, y)
        else:
            model.partial_fit(X, y)
    assert_held(model, before, [-1])
    # All go on from there.
    again = pickle.loads(pickle.dumps(model)).set_params(trainable_layers=None)
    fit(again, X, y)
    assert (again.coefs_[0] != model.coefs_[0]).any()
    assert len(again.prior_precision_ if mode == "evidence" else again.coefs_) > 1


def features(model, X):
    a = np.asarray(X)
    for coef, intercept in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        a = np.tanh(a @ coef + intercept)
    return np.column_stack([a, np.ones(len(a))])


@pytest.mark.parametrize("solver", ["auto", "dense", "gram", "kfac", "cg"])
def test_a_trained_last_layer_is_ridge_regression(solver):
    settings = {"trainable_layers": (-1,), "alpha": 0.3, "standardize": False}
    weights = np.random.default_rng(2).uniform(0.5, 2, 60)
    model, X, y = task("several targets", **settings)
    model.set_params(solver=solver, tol=0, max_iter=60)
    fit(model, X, y, sample_weight=weights)
    A, W = features(model, X), weights[:, None]
    # 1/(2 d) sum w ||A B - y||^2 + alpha / 2 ||B||^2, the biases free.
    penalty = 0.3 * y.shape[1] * np.diag([1.0] * (A.shape[1] - 1) + [0.0])
    B = np.linalg.solve(A.T @ (W * A) + penalty, A.T @ (W * y))
    found = np.vstack([model.coefs_[-1], model.intercepts_[-1]])
    assert_close(found, B, rtol=1e-5)


def test_evidence_of_a_trained_last_layer_is_that_of_bayesian_regression():
    settings = {"alpha": "evidence", "standardize": False, "max_iter": 100}
    model, X, y = fitted("regression", trainable_layers=[-1], tol=1e-9, **settings)
    A, noise = features(model, X), model.noise_variance_
    prior = model.prior_precision_[-1]
    C = noise * np.eye(len(A)) + A / prior @ A.T
    log_evidence = -0.5 * (
        y @ np.linalg.solve(C, y) + np.linalg.slogdet(C)[1] + len(y) * np.log(2 * np.pi)
    )
    assert model.log_marginal_likelihood_ == pytest.approx(log_evidence, rel=1e-6)
    S = np.linalg.inv(A.T @ A / noise + np.diag(prior))
    _, std = model.predict(X, return_std=True)
    assert_close(std, np.sqrt(np.einsum("ij,jk,ik->i", A, S, A) + noise), rtol=1e-6)
    gamma = np.trace(S @ A.T @ A) / noise
    assert model.effective_parameters_ == pytest.approx(gamma, rel=1e-5)


def test_objective_of_a_model_with_held_layers_is_its_loss():
    for mode in MODES.values():
        model, X, y = fitted("multiclass", trainable_layers=[1], **mode)
        H = GaussNewtonHessian.from_estimator(model, X)
        penalty = 0.5 * H.ridge @ H.theta**2
        probability = model.predict_proba(X)[np.arange(len(y)), (y // 10) - 1]
        expected = -np.log(probability).mean() + penalty
        assert model.loss_ == pytest.approx(expected, rel=1e-6)


def test_weights_of_rows_are_their_repetition():
    counts = np.random.default_rng(3).integers(0, 3, 60)
    settings = {"trainable_layers": [0, 2], "max_iter": 4}
    model, X, y = task("multiclass", **settings)
    weighted = fit(model, X, y, sample_weight=counts)
    rows = np.repeat(np.arange(60), counts)
    repeated = fit(task("multiclass", **settings).estimator, X[rows], y[rows])
    assert_close(parameters(weighted), parameters(repeated), rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_pruned_weights_stay_zero_beside_held_layers(mode):
    model, X, y = fitted("multiclass", **MODES[mode])
    pruned = prune(model, X, y, sparsity=0.5)
    zeros = [coef == 0 for coef in pruned.coefs_]
    first = pruned.coefs_[0].copy()
    pruned.set_params(trainable_layers=[1, 2], warm_start=True)
    fit(pruned, X, y)
    np.testing.assert_array_equal(pruned.coefs_[0], first)
    for coef, zero in zip(pruned.coefs_, zeros, strict=True):
        assert (coef[zero] == 0).all()
    assert (pruned.coefs_[1][~zeros[1]] != 0).all()


@pytest.mark.parametrize(
    "solver", ["cg", "dense", "gram", "hmatrix", "kfac", "nystrom", "sketched_gram"]
)
def test_every_solver_trains_some_layers(solver):
    settings = {"trainable_layers": [0, 1], "max_iter": 15, "solver": solver}
    model, X, y = fitted("multiclass", **settings)
    start = task("multiclass", **settings).estimator.set_params(solver=Failing())
    assert model.loss_ < 0.7 * fit(start, X, y).loss_


def test_networks_with_held_layers_are_not_widened(monkeypatch):
    monkeypatch.setattr(candidates, "_SATURATED", 0.0)
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 2))
    y = np.sin(4 * X[:, 0]) * X[:, 1] + 0.1 * rng.standard_normal(300)
    wider = []
    monkeypatch.setattr(
        base, "chosen", lambda fit, other: wider.append(other) or (fit, None)
    )
    model = GaussNewtonMLPRegressor(max_iter=40, random_state=0)
    fit(model, X, y)
    assert [other.network.layer_units for other in wider] == [(2, 30, 1)]
    fit(model.set_params(trainable_layers=[-1]), X, y)
    assert len(wider) == 1


def test_all_layers_named_are_all_layers():
    settings = MODES["evidence"]
    every, *_ = fitted("regression", trainable_layers=range(-3, 0), **settings)
    free, *_ = fitted("regression", **settings)
    np.testing.assert_array_equal(parameters(every), parameters(free))


def test_an_autoencoder_that_holds_layers_chooses_its_start():
    settings = {**MODES["evidence"], "trainable_layers": [0], "n": 120, "max_iter": 3}
    model, X, _ = fitted("autoencoder", **settings)
    assert model.score(X) > -X.var(axis=0).mean()


@pytest.mark.parametrize("Estimator", ESTIMATORS)
def test_bad_parameters_are_named(Estimator):
    X, y = np.arange(24.0).reshape(12, 2) % 5, np.arange(12) % 2
    for layers in ([], [9], [-9], 0, "0", [0.5], [None]):
        with pytest.raises(ValueError, match="trainable_layers must be None or a"):
            Estimator(trainable_layers=layers).fit(X, y)
    with pytest.raises(ValueError, match="Unknown init 'he'"):
        Estimator(init="he").fit(X, y)


@pytest.mark.parametrize("Estimator", ESTIMATORS)
def test_parameters_are_cloned(Estimator):
    model = clone(Estimator(init="ntk", trainable_layers=[-1]))
    assert model.get_params()["init"] == "ntk"
    assert model.get_params()["trainable_layers"] == [-1]


# ---- the theorem of van den Brand, Peng, Song and Weinstein --------------------------


def wide(width, seed, **settings):
    return GaussNewtonMLPRegressor(
        hidden_layer_sizes=(width,),
        activation="relu",
        init="ntk",
        trainable_layers=[0],
        standardize=False,
        alpha=0,
        damping=1e-6,
        tol=0,
        max_iter=4,
        random_state=seed,
        **settings,
    )


@pytest.mark.parametrize("seed", range(3))
def test_squared_residual_of_a_wide_network_is_halved_in_every_step(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((64, 16))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = rng.choice([-1.0, 1.0], 64)
    model = fit(wide(2048, seed, solver="sketched_gram"), X, y)
    start = fit(wide(2048, seed, solver=Failing()), X, y)
    squares = [2 * start.loss_, *(2 * np.array(model.loss_curve_))]
    assert squares[0] == pytest.approx(np.mean((start.predict(X) - y) ** 2))
    assert len(squares) == 5
    assert (np.diff(np.log2(squares)) < -1).all()
    assert len(model.history_["value"]) == 4  # none was refused
    assert_held(model, start, [0])
    signs = np.full((2048, 1), 2048**-0.5)
    np.testing.assert_array_equal(abs(model.coefs_[1]), signs)
