"""Leave-one-out against dense Newton steps, and against refits without each row."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import oracles
import pytest
import tasks
from cases import assert_close
from scipy import sparse
from scipy.optimize import least_squares
from scipy.stats import multivariate_normal, nbinom
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, r2_score

from skgnh import GaussNewtonMLPRegressor
from skgnh.inspection.case_influence import (
    _Cases,
    _left_out,
    _log_count,
    _log_normal,
    influence,
)
from skgnh.objective import Objective
from skgnh.posterior import laplace
from skgnh.solvers import KFAC, Nystrom

N, N_TEST = 24, 4
KINDS = (*tasks.REGRESSION, *tasks.CLASSIFICATION)
EACH = pytest.mark.parametrize("kind", KINDS)
OUTPUTS = {"poisson": "exp", "multiclass": "softmax"}
OUTPUTS |= dict.fromkeys(("regression", "several targets"), "identity")
OUTPUTS |= dict.fromkeys(("binary", "multilabel"), "logistic")


# ---- one Newton step by dense algebra -----------------------------------------------


def encoded(kind, y):
    """Targets or zeros and ones, of shape (n, d)."""
    if kind == "binary":
        return (y == "yes").astype(float)[:, None]
    if kind == "multiclass":
        return np.stack([y == c for c in (10, 20, 30)], axis=1).astype(float)
    return np.asarray(y, dtype=float).reshape(len(y), -1)


def moments(X, weights):
    mean = np.average(X, axis=0, weights=weights)
    return mean, np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weights))


def of_scaled_columns(model, mx, sx, my, sy):
    """Parameters of scaled columns and targets, in the order of the oracle."""
    layers = [
        np.column_stack([W.T, b])
        for W, b in zip(model.coefs_, model.intercepts_, strict=True)
    ]
    layers[0][:, -1] += layers[0][:, :-1] @ mx
    layers[0][:, :-1] *= sx
    layers[-1][:, -1] -= my
    layers[-1] /= sy[:, None]
    return np.concatenate([layer.ravel() for layer in layers])


@cache
def fitted(kind, weighted=False):
    """A small fitted network, its rows, and what an oracle needs of them."""
    settings = {**tasks.DEFAULTS, "hidden_layer_sizes": (3,), "max_iter": 20}
    estimator, X, y = tasks.task(kind, N + N_TEST, **settings)
    X, y, X_test = X[:N], y[:N], X[N:]
    w = np.random.default_rng(3).uniform(0.2, 3, N) if weighted else None
    model = tasks.fit(estimator, X, y, sample_weight=w)
    return model, X, y, X_test, w


@cache
def newton(kind, weighted=False):
    """Dense Newton steps without each row, from public attributes alone."""
    model, X, y, X_test, w = fitted(kind, weighted)
    w, Y, out = np.ones(N) if w is None else w, encoded(kind, y), OUTPUTS[kind]
    d, (mx, sx) = Y.shape[1], moments(X, w)
    my, sy = moments(Y, w) if out == "identity" else (np.zeros(d), np.ones(d))
    theta = of_scaled_columns(model, mx, sx, my, sy)
    noise = 1.0 if model.noise_variance_ is None else model.noise_variance_
    noise = float(np.ravel(noise / sy**2)[0])
    rate = d / noise if out == "identity" else 1 / noise
    layers = zip(model.prior_precision_, (3, d), strict=True)
    A = np.diag(np.concatenate([np.tile(alpha, width) for alpha, width in layers]))
    net = (X.shape[1], 3, d), model.hidden_activations_
    J = np.array([oracles.jacobian(theta, x, *net) for x in (X - mx) / sx])
    Z = np.array([oracles.outputs(theta, x, *net) for x in (X - mx) / sx])
    J_test = np.array([oracles.jacobian(theta, x, *net) for x in (X_test - mx) / sx])
    Z_test = np.array([oracles.outputs(theta, x, *net) for x in (X_test - mx) / sx])
    targets = (Y - my) / sy
    # By complex steps of the loss: not the package's gradient.
    gradients = [
        oracles.complex_step(lambda z, t=t: np.array([oracles.VALUES[out](z, t)]), z)[0]
        for z, t in zip(Z, targets, strict=True)
    ]
    parts = [rate * w[i] * J[i].T @ oracles.hessian(out, Z[i]) @ J[i] for i in range(N)]
    precision = A + sum(parts)
    without = [precision - part for part in parts]
    steps = np.array(
        [
            np.linalg.solve(without[i], rate * w[i] * J[i].T @ gradients[i])
            for i in range(N)
        ]
    )
    return SimpleNamespace(
        out=out, d=d, Y=Y, w=w, my=my, sy=sy, noise=noise, J=J, Z=Z, targets=targets,
        J_test=J_test, Z_test=Z_test, parts=parts, precision=precision,
        without=without, steps=steps,
    )  # fmt: skip


def means(o, Z):
    """In units of y."""
    return np.array([oracles.mean(o.out, z) for z in Z]) * o.sy + o.my


def squeezed(values):
    return values[..., 0] if values.shape[-1] == 1 else values


@EACH
@pytest.mark.parametrize("weighted", [False, True])
def test_leaving_a_row_out_is_a_newton_step_without_it(kind, weighted):
    model, X, y, X_test, w = fitted(kind, weighted)
    found, o = influence(model, X, y, X_test, sample_weight=w), newton(kind, weighted)
    loo = o.Z + np.einsum("ndp,np->nd", o.J, o.steps)
    assert_close(found.loo_mean, squeezed(means(o, loo)), 1e-8)
    assert_close(found.loo_residuals, squeezed(o.Y - means(o, loo)), 1e-8)
    assert_close(found.residuals, squeezed(o.Y - means(o, o.Z)), 1e-8)
    moved = np.stack([o.Z_test + o.J_test @ step for step in o.steps], axis=1)
    changed = means(o, moved.reshape(-1, o.d)).reshape(moved.shape)
    changed -= means(o, o.Z_test)[:, None]
    assert_close(found.changes, squeezed(changed), 1e-7)


@EACH
@pytest.mark.parametrize("weighted", [False, True])
def test_leverages_are_the_parameters_that_rows_determine(kind, weighted):
    model, X, y, _, w = fitted(kind, weighted)
    found, o = influence(model, X, y, sample_weight=w), newton(kind, weighted)
    C = np.linalg.inv(o.precision)
    assert_close(found.leverage, [np.trace(C @ part) for part in o.parts], 1e-8)
    P = len(C)
    traces = model.posterior_.trace_of_inverse(np.zeros(P, dtype=int))
    assert found.leverage.sum() == pytest.approx(P - traces.sum(), abs=1e-6)


@EACH
def test_cooks_distance_is_the_move_in_units_of_the_posterior(kind):
    model, X, y, _, w = fitted(kind, True)
    found, o = influence(model, X, y, sample_weight=w), newton(kind, True)
    gamma = np.trace(np.linalg.solve(o.precision, sum(o.parts)))
    # The step is downhill without the row; its size is measured with all rows.
    expected = [step @ o.precision @ step / gamma for step in o.steps]
    assert_close(found.cooks_distance, expected, 1e-7)


@EACH
def test_residuals_are_in_units_of_what_the_fit_leaves_of_the_noise(kind):
    model, X, y, _, w = fitted(kind, True)
    found, o = influence(model, X, y, sample_weight=w), newton(kind, True)
    C, variances = np.linalg.inv(o.precision), []
    for J, z, weight in zip(o.J, o.Z, o.w, strict=True):
        # Of y, the derivative of the mean times the dispersion.
        V = np.eye(o.d) if o.out == "identity" else oracles.hessian(o.out, z)
        V = o.noise * V
        seen = V / o.noise
        variances.append(np.diag(V - weight * seen @ J @ C @ J.T @ seen))
    e = (o.Y - means(o, o.Z)) / o.sy
    expected = e / np.sqrt(variances)
    assert_close(found.standardized_residuals, squeezed(expected), 1e-8)


@EACH
def test_densities_are_those_of_predictions_without_the_row(kind):
    model, X, y, _, w = fitted(kind, True)
    found, o = influence(model, X, y, sample_weight=w), newton(kind, True)
    loo, expected = o.Z + np.einsum("ndp,np->nd", o.J, o.steps), []
    for i, z in enumerate(loo):
        C = o.J[i] @ np.linalg.solve(o.without[i], o.J[i].T)
        if o.out == "identity":
            C = (C + o.noise * np.eye(o.d)) * np.outer(o.sy, o.sy)
            density = multivariate_normal(z * o.sy + o.my, C).logpdf(o.Y[i])
        elif o.out == "exp":
            mean = np.exp(z[0])
            excess = o.noise + mean * C[0, 0] - 1
            density = nbinom(mean / excess, 1 / (1 + excess)).logpmf(o.Y[i, 0])
        else:
            density = -oracles.VALUES[o.out](z, o.Y[i])
        expected.append(density)
    assert_close(found.loo_log_density, expected, 1e-7)
    mean = np.average(expected, weights=o.w)
    assert found.loo_log_likelihood == pytest.approx(mean, rel=1e-7)


@EACH
def test_the_score_is_that_of_the_estimator_without_each_row(kind):
    model, X, y, _, w = fitted(kind, True)
    found = influence(model, X, y, sample_weight=w)
    mean = found.loo_mean
    if kind in tasks.REGRESSION:
        expected = r2_score(y, mean, sample_weight=w)
    elif kind == "multiclass":
        labels = np.array([10, 20, 30])[mean.argmax(axis=1)]
        expected = accuracy_score(y, labels, sample_weight=w)
    elif kind == "binary":
        labels = np.where(mean > 0.5, "yes", "no")
        expected = accuracy_score(y, labels, sample_weight=w)
    else:
        expected = accuracy_score(y, (mean > 0.5).astype(int), sample_weight=w)
    assert found.loo_score == pytest.approx(expected, rel=1e-12)


# ---- fits without the row -----------------------------------------------------------


def line(n=20):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((n, 3)) * [1, 10, 0.1] + 5
    noise = 0.5 * rng.standard_normal((n, 2))
    return X, X @ [[1.0, 0], [0.1, -0.3], [2.0, 4]] + noise


def linear_model(X, y):
    """A network without hidden layers at its maximum: regression by a ridge."""
    return GaussNewtonMLPRegressor(
        hidden_layer_sizes=(), tol=1e-15, max_iter=2000, n_iter_no_change=50
    ).fit(X, y)


@pytest.mark.parametrize("n_targets", [1, 2])
def test_of_a_ridge_regression_it_is_exact(n_targets):
    X, Y = line()
    Y = Y[:, :n_targets]
    model = linear_model(X, squeezed(Y))
    ones, (mx, sx), (my, sy) = np.ones(len(X)), moments(X, None), moments(Y, None)
    D, T = np.column_stack([(X - mx) / sx, ones]), (Y - my) / sy
    noise = np.ravel(model.noise_variance_ / sy**2)[0]
    ridge = np.diag(model.prior_precision_[0] * noise)

    def refit(rows):
        return np.linalg.solve(D[rows].T @ D[rows] + ridge, D[rows].T @ T[rows])

    everything = refit(np.arange(len(X)))
    assert_close(model.predict(X), squeezed(D @ everything * sy + my), 1e-6)
    found = influence(model, X, squeezed(Y), X[:5])
    refits = [refit(np.delete(np.arange(len(X)), i)) for i in range(len(X))]
    loo = np.array([row @ B for row, B in zip(D, refits, strict=True)]) * sy + my
    assert_close(found.loo_residuals, squeezed(Y - loo), 1e-6)
    changes = np.stack([D[:5] @ (B - everything) * sy for B in refits], axis=1)
    assert_close(found.changes, squeezed(changes), 1e-6)
    # With the prior all but gone they are Cook's distances.
    h = np.einsum("ni,ij,nj->n", D, np.linalg.inv(D.T @ D + ridge), D)
    assert_close(found.leverage, n_targets * h, 1e-8)
    e = (T - D @ everything) / (1 - h)[:, None]
    cook = (e**2).sum(axis=1) * h / (noise * n_targets * h.sum())
    assert_close(found.cooks_distance, cook, 1e-5)


def tanh_outputs(theta, X):
    W, V = theta[:20].reshape(4, 5), theta[20:]
    return np.tanh(X @ W[:, :-1].T + W[:, -1]) @ V[:-1] + V[-1]


def put(model, theta, X, y):
    """Let a model with four hidden neurons be that of the maximum theta."""
    (mx, sx), (my, sy) = moments(X, None), moments(y, None)
    objective, _ = Objective.from_estimator(model, X, y)
    total = len(X) / float(model.noise_variance_[0] / sy**2)
    model.posterior_ = laplace(objective, theta, model.posterior_.scale, total)
    W, V = theta[:20].reshape(4, 5), theta[20:]
    model.coefs_ = [(W[:, :-1] / sx).T, sy * V[:-1, None]]
    model.intercepts_ = [W[:, -1] - (W[:, :-1] / sx) @ mx, sy * V[-1:] + my]


@cache
def refitted():
    """Moves of outputs where each of some rows is left out, and what is found.

    Refits are of the posterior's maximum at the same prior, noise and scaling. Where a
    fit by the evidence ends there is a way to go to it.
    """
    n, rng = 100, np.random.default_rng(5)
    X = rng.uniform(-1, 1, (n, 4))
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.1 * rng.standard_normal(n)
    model = GaussNewtonMLPRegressor(hidden_layer_sizes=4, random_state=0).fit(X, y)
    (mx, sx), (my, sy) = moments(X, None), moments(y, None)
    Z, t = (X - mx) / sx, (y - my) / sy
    first, last = model.prior_precision_
    root = np.sqrt(np.concatenate([np.tile(first, 4), last]))
    sigma = model.noise_variance_**0.5 / sy

    def refit(start, weights):
        def rest(theta):
            misfit = weights * (tanh_outputs(theta, Z) - t) / sigma
            return np.concatenate([misfit, root * theta])

        return least_squares(rest, start, xtol=1e-14, ftol=1e-14, gtol=1e-12).x

    start = of_scaled_columns(model, mx, sx, my, sy[None])
    theta, rows = refit(start, np.ones(n)), np.arange(0, n, 8)
    kept = [np.where(np.arange(n) == row, 0, 1) for row in rows]
    moved = [tanh_outputs(refit(theta, weights), Z) for weights in kept]
    put(model, theta, X, y)
    return rows, sy * (moved - tanh_outputs(theta, Z)), influence(model, X, y, X)


def test_of_a_network_it_is_near_to_fits_without_the_row():
    rows, moved, found = refitted()
    own = moved[np.arange(len(rows)), rows]
    approximate = (found.residuals - found.loo_residuals)[rows]
    # Found: half of them within 8 %, all within 22 %, 5 % of the norm.
    error = np.abs(approximate / own - 1)
    assert np.median(error) < 0.1
    assert error.max() < 0.25
    assert np.linalg.norm(approximate - own) < 0.1 * np.linalg.norm(own)
    # The leverages' part in it: without, one row is off by three quarters.
    without = approximate * (1 - found.leverage[rows])
    assert np.abs(without / own - 1).max() > 0.5


def test_what_moves_elsewhere_is_near_to_what_fits_without_the_row_say():
    rows, moved, found = refitted()
    changes = found.changes[:, rows].T
    # The row's own prediction is what the two ways have in common.
    own = changes[np.arange(len(rows)), rows]
    assert_close(own, (found.residuals - found.loo_residuals)[rows], 1e-8)
    # Found: 0.987.
    assert np.corrcoef(moved.ravel(), changes.ravel())[0, 1] > 0.97


# ---- what holds of any ---------------------------------------------------------------


def test_a_row_of_weight_two_is_the_row_twice():
    estimator, X, y = tasks.task("several targets", **tasks.DEFAULTS)
    weights = np.where(np.arange(len(X)) < 5, 2.0, 1.0)
    model = tasks.fit(estimator, X, y, weights)
    once = influence(model, X, y, sample_weight=weights)
    twice = influence(model, np.vstack([X, X[:5]]), np.vstack([y, y[:5]]))
    assert_close(twice.leverage[:5], once.leverage[:5] / 2)
    assert_close(twice.leverage[len(X) :], once.leverage[:5] / 2)
    assert_close(twice.leverage[5 : len(X)], once.leverage[5:])


def test_probabilities_add_up_without_a_row_too():
    model, X, y, X_test, _ = fitted("multiclass")
    found = influence(model, X, y, X_test)
    assert np.abs(found.changes).max() > 1e-3
    assert np.abs(found.changes.sum(axis=2)).max() < 1e-14
    assert_close(found.loo_mean.sum(axis=1), np.ones(N))
    # Without a row its label is less likely.
    assert (found.loo_log_density < model.predict_log_proba(X).max(axis=1)).all()


@EACH
def test_without_a_row_its_prediction_is_farther_from_its_target(kind):
    model, X, y, _, _ = fitted(kind)
    found = influence(model, X, y)
    before, after = np.abs(found.residuals), np.abs(found.loo_residuals)
    if found.residuals.ndim == 1:
        # Next to a saturated probability the two are the same number.
        assert (after >= before).all()
    assert (after**2).sum() > (before**2).sum()


def test_class_weights_are_weights():
    model, X, y, _, _ = fitted("binary")
    weighted = tasks.fit(
        clone(model).set_params(class_weight={"yes": 3, "no": 1}), X, y
    )
    given = np.where(y == "yes", 3.0, 1.0)
    plain = tasks.fit(clone(model), X, y, sample_weight=given)
    a, b = influence(weighted, X, y), influence(plain, X, y, sample_weight=given)
    assert_close(a.leverage, b.leverage)
    assert_close(a.loo_mean, b.loo_mean)
    # What a score counts is the weights of its call.
    assert a.loo_score == pytest.approx(np.mean((a.loo_mean > 0.5) == (y == "yes")))


def test_weights_are_not_changed():
    model, X, y, _, w = fitted("regression", True)
    copy = w.copy()
    influence(model, X, y, sample_weight=w)
    np.testing.assert_array_equal(w, copy)


@pytest.mark.parametrize("kind", ["several targets", "multiclass"])
def test_chunks_of_rows_make_no_difference(kind):
    model, X, y, X_test, _ = fitted(kind)
    whole = influence(model, X, y, X_test)
    with config_context(working_memory=0.02):
        parts = influence(model, X, y, X_test)
    for name, value in vars(whole).items():
        assert_close(getattr(parts, name), value, 1e-9)


def test_sparse_rows_are_rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, 4)) * (rng.random((N, 4)) < 0.5)
    sparse_X, y = sparse.csr_array(X), X[:, 0] + 0.1 * rng.standard_normal(N)
    model = tasks.fit(GaussNewtonMLPRegressor(hidden_layer_sizes=2), sparse_X, y)
    found = influence(model, sparse_X, y, sparse_X[:3])
    dense = influence(model, X, y, X[:3])
    for name, value in vars(dense).items():
        assert_close(getattr(found, name), value)


def test_single_precision_is_near_to_double():
    _, X, y, X_test, _ = fitted("regression")
    X, y, X_test = (a.astype(np.float32) for a in (X, y, X_test))
    model = tasks.fit(GaussNewtonMLPRegressor(hidden_layer_sizes=2), X, y)
    found = influence(model, X, y, X_test)
    assert found.changes.dtype == found.leverage.dtype == np.float64
    assert_close(found.residuals, y - model.predict(X), 1e-5)


def test_of_an_autoencoder_rows_are_the_targets():
    model, X, _ = tasks.fitted("autoencoder", **tasks.DEFAULTS)
    found = influence(model, X, None, X[:3])
    assert found.loo_mean.shape == X.shape
    assert found.changes.shape == (3, *X.shape)
    assert found.loo_score == pytest.approx(-np.mean(found.loo_residuals**2))


def test_what_is_met_exactly_has_finite_diagnostics():
    # Rows that one row alone tells of, and next to no noise.
    X = np.eye(8)
    model = tasks.fit(GaussNewtonMLPRegressor(hidden_layer_sizes=6), X, X[:, 0])
    found = influence(model, X, X[:, 0], X)
    assert all(np.isfinite(value).all() for value in vars(found).values())
    assert ((found.leverage >= 0) & (found.leverage < 1)).all()
    X = np.linspace(-1, 1, 12)[:, None]
    model.set_params(max_iter=500, tol=1e-12, hidden_layer_sizes=20)
    for weights in (None, np.geomspace(1e-3, 1, 12), np.arange(12.0)):
        y = np.column_stack([X[:, 0], X[:, 0]])
        found = influence(
            tasks.fit(model, X, y, weights), X, y, X, sample_weight=weights
        )
        assert all(np.isfinite(value).all() for value in vars(found).values())
        assert ((found.leverage >= 0) & (found.leverage < 2)).all()


@pytest.mark.parametrize("solver", [KFAC(), Nystrom(rank=5)])
def test_approximate_posteriors_are_taken_as_those_without_the_row(solver):
    estimator, X, y = tasks.task("several targets", solver=solver, **tasks.DEFAULTS)
    model = tasks.fit(estimator, X, y)
    found, posterior = influence(model, X, y), model.posterior_
    scaled = model._inputs(X)
    J, (_, sy) = posterior.output_rows(scaled), moments(y, None)
    rate = float(sy[0] ** 2 / model.noise_variance_[0])
    C = np.array([posterior.covariance(j) for j in J])
    K = rate * C
    expected = [np.trace(k @ np.linalg.inv(np.eye(2) + k)) for k in K]
    assert_close(found.leverage, expected, 1e-8)
    # The infinitesimal jackknife.
    e = found.residuals / sy
    loo = e + np.einsum("nkl,nl->nk", K, e)
    assert_close(found.loo_residuals / sy, loo, 1e-8)


def test_leverages_beyond_one_are_no_poles():
    # As of rows that are not among some that a posterior is made of.
    model, X, y, _, _ = fitted("regression")
    found = influence(model, np.vstack([X, 30 * X]), np.r_[y, y + 1])
    assert found.leverage.max() < 1
    assert np.abs(found.loo_residuals).max() < 1e5 * np.abs(found.residuals).max()


# ---- at the edge of rounding


@pytest.mark.parametrize("k", [-1e-18, 0.5, 1.0, 1 + 1e-12])
def test_rounding_puts_no_leverage_out_of_its_range(k):
    one = np.ones((1, 1, 1))
    left = _left_out(k * one, one, one[0], np.ones(1), is_exact=True)
    assert 0 <= left.leverages[0, 0] < 1
    assert left.spread[0, 0] == 1 - left.leverages[0, 0]
    assert left.seeds[0, 0] == pytest.approx(1 / (1 - min(k, 1 - 1e-8)), rel=1e-6)


def test_certain_labels_have_finite_residuals():
    model, X, y, _, _ = fitted("multiclass")
    cases = _Cases.of(model, X, y, None)
    cases = cases._replace(z=1e4 * cases.z)
    rows = slice(0, N)
    _, standardized, *others = cases.diagnostics(rows, cases.leave_out(rows)[1])
    assert np.isfinite(standardized).all()
    assert all(np.isfinite(value).all() for value in others)


def test_means_and_densities_are_finite_numbers():
    model, X, y, _, _ = fitted("poisson")
    assert np.isfinite(_Cases.of(model, X, y, None).mean(np.array([[1e4]]))).all()
    for mean in (0.0, 1.0, np.finfo(float).max):
        assert np.isfinite(_log_count(np.array([0.0, 0.5, 1e6]), mean, np.inf)).all()
        assert np.isfinite(_log_count(np.array([0.0, 0.5, 1e6]), mean, 1.0)).all()
    # Rounding has taken away what the noise adds to a singular covariance.
    C = 1e20 * np.array([[[1.0, 3], [3, 9 - 1e-14]]])
    found = _log_normal(np.array([[1.0, -2.0]]), C, 1.0)
    u = np.array([1.0, 3]) / 10**0.5
    rest = np.array([1.0, -2.0]) @ [3, -1] / 10**0.5
    wide = -0.5 * (np.array([1.0, -2]) @ u) ** 2 / 1e21 - 0.5 * np.log(1e21)
    assert_close(found, [wide - 0.5 * rest**2 - np.log(2 * np.pi)], 1e-6)


# ---- bad input -----------------------------------------------------------------------


def test_bad_input_is_refused():
    model, X, y, X_test, _ = fitted("regression")
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        influence(model, X, y[:-1])
    with pytest.raises(ValueError, match="y is missing"):
        influence(model, X, None)
    with pytest.raises(ValueError, match="features"):
        influence(model, X, y, X_test[:, :2])
    with pytest.raises(ValueError, match="expected"):
        influence(model, X, y, sample_weight=np.ones(3))
    with pytest.raises(NotFittedError):
        influence(clone(model), X, y)
    with pytest.raises(ValueError, match="outputs"):
        influence(model, X, np.column_stack([y, y]))


def test_what_has_no_posterior_is_refused():
    estimator, X, y = tasks.fitted("regression")
    with pytest.raises(ValueError, match="alpha='evidence'"):
        influence(estimator, X, y)
    with pytest.raises(TypeError, match="Ridge is not an estimator of this package"):
        influence(Ridge().fit(X, y), X, y)


def test_changes_beyond_the_working_memory_are_refused():
    model, X, y, X_test, _ = fitted("regression")
    many = np.repeat(X_test, 100, axis=0)
    with (
        config_context(working_memory=0.05),
        pytest.raises(ValueError, match="changes of 400 rows by 24 rows"),
    ):
        influence(model, X, y, many)
