"""What predictions say of their own uncertainty."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.datasets import load_digits, make_classification, make_friedman1
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from tasks import CLASSIFICATION, DEFAULTS, fit, fitted, task

from skgnh import GaussNewtonMLPClassifier, GaussNewtonMLPRegressor
from skgnh.objective import Objective
from skgnh.posterior import laplace
from skgnh.solvers import Dense, HMatrix, Nystrom

REGRESSION = pytest.mark.parametrize("kind", ["regression", "several targets"])


def friedman(n=400, noise=1.0):
    X, y = make_friedman1(n + 2000, noise=noise, random_state=0)
    return X[:n], y[:n], X[n:], y[n:]


# ---- regressors ----------------------------------------------------------------------


@REGRESSION
def test_std_is_of_the_linearised_network_and_the_noise(kind):
    # By finite differences of predictions in the raw weights: J of what is predicted.
    estimator, X, _ = fitted(kind, **DEFAULTS)
    mean, std = estimator.predict(X[:5], return_std=True)
    np.testing.assert_array_equal(mean, estimator.predict(X[:5]))
    posterior, unit = estimator.posterior_, estimator._scaling_.outputs.scale
    draws = posterior.sample(20_000, np.random.default_rng(0)) - posterior.theta
    J = posterior.output_rows(estimator._inputs(X[:5]))
    moved = np.einsum("nkp,sp->nks", J, draws) * unit[:, None]
    expected = np.sqrt(moved.var(axis=2) + np.asarray(estimator.noise_variance_))
    np.testing.assert_allclose(std.reshape(expected.shape), expected, rtol=0.03)
    # The Jacobian itself, in one direction.
    step, direction = 1e-6, draws[0]
    network, scaling = estimator._network, estimator._scaling_
    for sign in (1, -1):
        raw = scaling.fold(network, posterior.theta + sign * step * direction)
        estimator.coefs_, estimator.intercepts_ = network.to_coefs(raw)
        moved = estimator.predict(X[:5]).reshape(expected.shape)
        mean = moved if sign == 1 else (mean - moved) / (2 * step)
    np.testing.assert_allclose(mean, J @ direction * unit, rtol=1e-5, atol=1e-7)


@REGRESSION
def test_covariance_has_the_variances_and_draws_have_the_covariance(kind):
    estimator, X, _ = fitted(kind, **DEFAULTS)
    _, std = estimator.predict(X[:6], return_std=True)
    mean, cov = estimator.predict(X[:6], return_cov=True)
    d = estimator.n_outputs_
    cov, std = cov.reshape(6, 6, d), std.reshape(6, d)
    np.testing.assert_allclose(np.einsum("iik->ik", cov), std**2, rtol=1e-8)
    draws = estimator.sample_y(X[:6], 20_000, random_state=3).reshape(6, d, -1)
    assert np.abs(draws.mean(axis=2) - mean.reshape(6, d)).max() < 0.05 * std.max()
    for k in range(d):
        found, scale = np.cov(draws[:, k]), cov[..., k].diagonal().max()
        np.testing.assert_allclose(found, cov[..., k], atol=0.05 * scale)


@REGRESSION
def test_shapes_are_those_of_the_gaussian_process(kind):
    estimator, X, y = fitted(kind, **DEFAULTS)
    d = () if kind == "regression" else (2,)
    assert estimator.predict(X[:7], return_std=True)[1].shape == (7, *d)
    assert estimator.predict(X[:7], return_cov=True)[1].shape == (7, 7, *d)
    assert estimator.predict(X[:1], return_cov=True)[1].shape == (1, 1, *d)
    assert estimator.sample_y(X[:7], 3).shape == (7, *d, 3)
    assert estimator.predict_interval(X[:7]).shape == (7, *d, 2)


def test_intervals_cover_what_they_say():
    X, y, X_test, y_test = friedman()
    model = GaussNewtonMLPRegressor(random_state=0).fit(X, y)
    mean, std = model.predict(X_test, return_std=True)
    for coverage in (0.5, 0.9, 0.95):
        low, high = model.predict_interval(X_test, coverage).T
        inside = ((low < y_test) & (y_test < high)).mean()
        assert abs(inside - coverage) < 0.06
        np.testing.assert_allclose(high - low, 2 * norm.ppf((1 + coverage) / 2) * std)
        np.testing.assert_allclose(high + low, 2 * mean)


def test_std_grows_in_a_gap_and_far_away():
    rng = np.random.default_rng(0)
    x = np.r_[rng.uniform(-3, -1, 60), rng.uniform(1, 3, 60)]
    y = np.sin(2 * x) + 0.1 * rng.standard_normal(120)
    model = GaussNewtonMLPRegressor(random_state=0).fit(x[:, None], y)
    _, std = model.predict([[-2.0], [0.0], [2.0], [9.0]], return_std=True)
    assert 0.08 < std[0] < 0.15
    assert std[1] > 2 * max(std[0], std[2])
    assert std[3] > 2 * max(std[0], std[2])


def test_units_of_the_target_are_those_of_the_std():
    X, y, X_test, _ = friedman(200)
    small = GaussNewtonMLPRegressor(random_state=0, max_iter=20)
    large = GaussNewtonMLPRegressor(random_state=0, max_iter=20)
    small.fit(X, y), large.fit(X, 1e4 * y - 3e5)
    one, other = (m.predict(X_test, return_std=True)[1] for m in (small, large))
    np.testing.assert_allclose(other, 1e4 * one, rtol=1e-5)


@pytest.mark.parametrize("kind", ["regression", "poisson"])
def test_float32_stays_float32(kind):
    estimator, X, y = task(kind, max_iter=5, **DEFAULTS)
    X = X.astype(np.float32)
    fit(estimator, X, y)
    assert estimator.predict(X, return_std=True)[1].dtype == np.float32
    assert estimator.predict(X, return_cov=True)[1].dtype == np.float32
    assert estimator.sample_y(X, 2).dtype == np.float32
    assert estimator.predict_interval(X).dtype == np.float32


def test_counts_have_intervals_of_counts():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (1500, 2))
    y = rng.poisson(np.exp(1 + X[:, 0]))
    model = GaussNewtonMLPRegressor(loss="poisson", random_state=0).fit(
        X[:500], y[:500]
    )
    low, high = model.predict_interval(X[500:], 0.9).T
    assert (low >= 0).all()
    np.testing.assert_array_equal(high, high.round())
    assert 0.88 < ((low <= y[500:]) & (y[500:] <= high)).mean() < 0.99
    _, std = model.predict(X[500:], return_std=True)
    draws = model.sample_y(X[500:], 500)
    np.testing.assert_array_equal(draws, draws.round())
    assert abs(draws.std(axis=1).mean() / std.mean() - 1) < 0.05


def test_refusals_name_what_is_wrong():
    X, y, X_test, _ = friedman(60)
    model = GaussNewtonMLPRegressor(alpha=1.0, random_state=0, max_iter=3, tol=1.0)
    model.fit(X, y)
    for ask in (model.sample_y, model.predict_interval):
        with pytest.raises(ValueError, match="alpha='evidence'"):
            ask(X_test)
    with pytest.raises(ValueError, match="alpha='evidence'"):
        model.predict(X_test, return_std=True)
    fit(model.set_params(alpha="evidence"), X, y)
    with pytest.raises(RuntimeError, match="At most one of"):
        model.predict(X_test, return_std=True, return_cov=True)
    with pytest.raises(ValueError, match="coverage"):
        model.predict_interval(X_test, coverage=1.0)
    with pytest.raises(ValueError, match="n_samples"):
        model.sample_y(X_test, 0)
    model.coefs_[0] = 2 * model.coefs_[0]
    with pytest.raises(ValueError, match="set from outside"):
        model.predict(X_test, return_std=True)


def test_a_pickle_tells_the_same_in_another_process(tmp_path):
    X, y, X_test, _ = friedman(100)
    model = GaussNewtonMLPRegressor(random_state=0, noise="heteroscedastic").fit(X, y)
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps((model, X_test)))
    code = (
        f"import pickle; model, X = pickle.load(open({str(path)!r}, 'rb'));"
        "print(model.predict(X, return_std=True)[1].sum().hex())"
    )
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert found.stdout.strip() == model.predict(X_test, return_std=True)[1].sum().hex()


# ---- noise that varies ---------------------------------------------------------------


def uneven(n, rng):
    X = rng.uniform(-1, 1, (n, 3))
    sigma = np.where(X[:, 1] > 0, 0.4, 0.05)
    return X, np.sin(3 * X[:, 0]) + sigma * rng.standard_normal(n), sigma


@pytest.mark.parametrize("targets", [1, 2])
def test_noise_that_varies_is_found(targets):
    rng = np.random.default_rng(0)
    X, y, _ = uneven(500, rng)
    X_test, y_test, sigma = uneven(2000, rng)
    stack = y if targets == 1 else np.c_[y, 10 - 5 * y]
    constant = GaussNewtonMLPRegressor(random_state=0).fit(X, stack)
    model = GaussNewtonMLPRegressor(noise="heteroscedastic", random_state=0)
    model.fit(X, stack)
    np.testing.assert_array_equal(model.predict(X_test), constant.predict(X_test))
    mean, std = model.predict(X_test, return_std=True)
    if targets == 2:
        np.testing.assert_allclose(np.median(std[:, 1] / std[:, 0]), 5, rtol=0.3)
        mean, std = mean[:, 0], std[:, 0]
    away = np.abs(X_test[:, 1]) > 0.2
    assert 0.7 < np.median((std / sigma)[away]) < 1.8
    _, plain = constant.predict(X_test, return_std=True)
    plain = plain if targets == 1 else plain[:, 0]
    gain = norm.logpdf(y_test, mean, std) - norm.logpdf(y_test, mean, plain)
    assert gain.mean() > 0.2


def test_noise_that_does_not_vary_costs_nothing():
    X, y, X_test, y_test = friedman()
    likelihoods = []
    for noise in ("constant", "heteroscedastic"):
        model = GaussNewtonMLPRegressor(noise=noise, random_state=0).fit(X, y)
        mean, std = model.predict(X_test, return_std=True)
        likelihoods.append(norm.logpdf(y_test, mean, std).mean())
    assert likelihoods[1] > likelihoods[0] - 0.02
    assert not hasattr(model.set_params(noise="constant").fit(X, y), "noise_model_")


def test_noise_far_away_is_none_that_was_not_seen():
    X, y, _ = uneven(300, np.random.default_rng(0))
    model = GaussNewtonMLPRegressor(noise="heteroscedastic", random_state=0).fit(X, y)
    far = model._inputs(1e3 * np.random.default_rng(1).standard_normal((200, 3)))
    # What the network alone says goes beyond.
    assert np.ptp(np.exp(model.noise_model_.estimator._outputs(far))) > 0
    found, seen = (model.noise_model_.ratio(x) for x in (far, model._inputs(X)))
    assert seen.min() <= found.min()
    assert found.max() <= seen.max()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise": "loud"}, "Unknown noise 'loud'"),
        ({"noise": "heteroscedastic", "alpha": 1.0}, "needs alpha='evidence'"),
        ({"noise": "heteroscedastic", "loss": "poisson"}, "loss='squared_error'"),
    ],
)
def test_noise_is_checked(settings, message):
    X, y, *_ = friedman(20)
    with pytest.raises(ValueError, match=message):
        GaussNewtonMLPRegressor(**settings).fit(X, abs(y))


# ---- classifiers ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSIFICATION)
def test_averages_keep_labels_and_take_back_certainty(kind):
    estimator, X, _ = fitted(kind, **DEFAULTS)
    plain = estimator.set_params(average=False).predict_proba(X)
    labels = estimator.predict(X)
    average = estimator.set_params(average=True).predict_proba(X)
    np.testing.assert_array_equal(estimator.predict(X), labels)
    if kind != "multilabel":
        np.testing.assert_array_equal(labels, estimator.classes_[average.argmax(1)])
        np.testing.assert_allclose(average.sum(axis=1), 1)
        assert (average.max(axis=1) <= plain.max(axis=1) + 1e-12).all()
    else:
        assert (np.abs(average - 0.5) <= np.abs(plain - 0.5) + 1e-12).all()
    assert (np.abs(average - plain)).max() > 1e-3


def test_the_average_is_that_of_draws_of_the_network():
    estimator, X, _ = fitted("binary", **DEFAULTS)
    z = estimator.set_params(average=False).decision_function(X)
    moved = estimator.posterior_.sample_outputs(
        estimator._inputs(X), 4000, np.random.default_rng(0)
    )
    expected = (1 / (1 + np.exp(-(z[:, None] + moved[:, 0])))).mean(axis=1)
    found = estimator.set_params(average=True).predict_proba(X)[:, 1]
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("kind", CLASSIFICATION)
@pytest.mark.parametrize("average", [True, False])
def test_the_decision_is_what_probabilities_are_made_of(kind, average):
    estimator, X, _ = fitted(kind, **DEFAULTS)
    estimator.set_params(average=average)
    z, p = estimator.decision_function(X), estimator.predict_proba(X)
    if kind == "multiclass":
        p_of_z = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    else:
        p_of_z = 1 / (1 + np.exp(-z))
        p = p[:, 1] if kind == "binary" else p
    np.testing.assert_allclose(p_of_z, p, rtol=1e-10)


def test_the_average_lowers_log_loss_where_classes_overlap():
    losses = []
    for seed in range(3):
        X, y = make_classification(
            400, 8, n_informative=6, n_classes=4, random_state=seed
        )
        rows = train_test_split(X, y, random_state=seed)
        model = GaussNewtonMLPClassifier(random_state=seed).fit(rows[0], rows[2])
        for average in (True, False):
            p = model.set_params(average=average).predict_proba(rows[1])
            losses.append(log_loss(rows[3], p))
    assert np.mean(losses[::2]) < np.mean(losses[1::2])


def test_without_a_posterior_there_is_no_average():
    estimator, X, _ = fitted("binary", alpha=0.1)
    plain = estimator.set_params(average=False).predict_proba(X)
    np.testing.assert_array_equal(
        estimator.set_params(average=True).predict_proba(X), plain
    )


@pytest.mark.slow
def test_large_posteriors_are_near_the_dense_one():
    X, y = load_digits(return_X_y=True)
    model = GaussNewtonMLPClassifier(40, activation="tanh", random_state=0)
    fit(model.set_params(max_iter=15), X[:1000], y[:1000])
    objective, theta = Objective.from_estimator(model, X[:1000], y[:1000])
    inputs, scale = model._inputs(X[1000:1050]), model.posterior_.scale
    dense, low_rank, tree = (
        laplace(objective, theta, scale, 1000.0, solver=solver)
        for solver in (Dense(), Nystrom(rank=500), HMatrix(storage=128))
    )
    expected = dense.output_variance(inputs, contrasts=True)
    for form in (low_rank, tree):
        found = form.output_variance(inputs, contrasts=True)
        error = np.sqrt(np.mean((found / expected - 1) ** 2))
        assert error < 0.05
        assert form.logdet() == pytest.approx(dense.logdet(), rel=2e-3)
