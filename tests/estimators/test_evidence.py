"""alpha='evidence': what is learned of it, and that it holds against noise."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split
from tasks import DEFAULTS, KINDS, fit, fitted, predictions, task

from skgnh import GaussNewtonMLPClassifier, GaussNewtonMLPRegressor
from skgnh.estimators.prior import EVIDENCE
from skgnh.solvers import all_solvers

EVERY = pytest.mark.parametrize("kind", KINDS)


@EVERY
def test_attributes_of_the_evidence(kind):
    estimator, X, y = fitted(kind, **DEFAULTS)
    P = sum(coef.size + coef.shape[1] for coef in estimator.coefs_)
    assert np.isfinite(estimator.log_marginal_likelihood_)
    assert 0 < estimator.effective_parameters_ < P
    assert len(estimator.prior_precision_) == len(estimator.coefs_)
    layers = zip(estimator.prior_precision_, estimator.coefs_, strict=True)
    for precision, coef in layers:
        # One for each input, and one for the bias.
        assert precision.shape == (len(coef) + 1,)
        assert (precision > 0).all()
    assert estimator.feature_relevance_.shape == (X.shape[1],)
    assert estimator.feature_relevance_.max() == 1
    noise = estimator.noise_variance_
    if estimator.out_activation_ in ("identity", "exp"):
        assert (np.asarray(noise) > 0).all()
    else:
        assert noise is None


@EVERY
def test_a_number_for_alpha_leaves_none_of_them(kind):
    estimator, X, y = fitted(kind, **DEFAULTS)
    fit(estimator.set_params(alpha=0.1), X, y)
    assert not [name for name in EVIDENCE if hasattr(estimator, name)]
    fit(estimator.set_params(alpha="evidence"), X, y)
    assert not [name for name in EVIDENCE if not hasattr(estimator, name)]


@pytest.mark.parametrize("kind", ["regression", "multiclass"])
def test_ard_has_a_precision_for_each_column(kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 5))
    y = np.sin(2 * X[:, 1]) + 0.1 * rng.standard_normal(300)
    if kind == "multiclass":
        y = np.digitize(y, [-0.5, 0.5])
    settings = DEFAULTS | {"alpha": "ard"}
    estimator = fit(task(kind, **settings).estimator, X, y)
    relevance = estimator.feature_relevance_
    assert relevance.argmax() == 1
    assert (np.delete(relevance, 1) < 0.1).all()
    assert len(set(estimator.prior_precision_[0])) > 2


def test_noise_variance_is_that_of_the_data_in_their_units():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 2))
    y = 100 * np.sin(X[:, 0]) + 20 * rng.standard_normal(2000)
    estimator = fit(task("regression", **DEFAULTS).estimator, X, y)
    assert np.ravel(estimator.noise_variance_) == pytest.approx(400, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_is_no_worse_than_the_best_constant(seed):
    rng = np.random.default_rng(seed)
    X, X_test = rng.standard_normal((2, 150, 6))
    y, y_test = rng.standard_normal((2, 150))
    model = fit(GaussNewtonMLPRegressor(random_state=seed), X, y)
    constant = np.mean((y_test - y.mean()) ** 2)
    assert np.mean((y_test - model.predict(X_test)) ** 2) < 1.02 * constant


@pytest.mark.parametrize("seed", range(3))
def test_labels_by_chance_are_no_worse_than_their_rates(seed):
    rng = np.random.default_rng(seed)
    X, X_test = rng.standard_normal((2, 150, 6))
    y, y_test = rng.integers(0, 3, (2, 150))
    model = fit(GaussNewtonMLPClassifier(random_state=seed), X, y)
    rates = np.bincount(y) / len(y)
    constant = -np.mean(np.log(rates[y_test]))
    p = model.predict_proba(X_test)[np.arange(150), y_test]
    assert -np.mean(np.log(p)) < 1.05 * constant


def test_counts_by_chance_are_no_worse_than_their_mean():
    rng = np.random.default_rng(0)
    X, X_test = rng.standard_normal((2, 150, 6))
    y, y_test = rng.poisson(3.0, (2, 150)).astype(float)
    model = fit(GaussNewtonMLPRegressor("poisson", random_state=0), X, y)

    def deviance(mean):
        return 2 * np.mean(mean - y_test * np.log(mean))

    predicted, constant = model.predict(X_test), np.full(150, y.mean())
    excess = deviance(predicted) - deviance(constant)
    assert excess < 0.02 * abs(deviance(constant))


def test_kept_parameters_are_those_of_the_best_evidence():
    # More iterations never leave less evidence.
    found = []
    for n in (3, 6, 12, 24):
        estimator, _, _ = fitted("regression", max_iter=n, **DEFAULTS)
        found.append(estimator.log_marginal_likelihood_)
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("solver", sorted({*all_solvers()} - {"exact_hessian"}))
def test_every_solver_goes_by_the_evidence(solver):
    for kind in ("regression", "multiclass"):
        settings = {"solver": solver, "max_iter": 15, **DEFAULTS}
        estimator, X, y = fitted(kind, **settings)
        exact = fitted(kind, **settings | {"solver": "dense"}).estimator
        assert np.isfinite(estimator.log_marginal_likelihood_)
        # Evidence by an approximation ends elsewhere.
        assert estimator.score(X, y) > exact.score(X, y) - 0.3


def test_exact_hessian_is_refused():
    estimator, X, y = task("regression", solver="exact_hessian", **DEFAULTS)
    with pytest.raises(ValueError, match="needs the Gauss-Newton Hessian"):
        estimator.fit(X, y)


@pytest.mark.parametrize("alpha", ["Evidence", "auto", ""])
def test_unknown_words_for_alpha(alpha):
    estimator, X, y = task("regression", alpha=alpha)
    with pytest.raises(ValueError, match="alpha must be a number or one of"):
        estimator.fit(X, y)


@EVERY
def test_weights_of_the_rows_are_those_of_repeated_rows(kind):
    settings = {"solver": "dense", "max_iter": 8, **DEFAULTS}
    one, X, y = task(kind, **settings)
    other = task(kind, **settings).estimator
    # What principal components leave to an autoencoder is little, to more digits.
    rtol = 1e-4 if kind == "autoencoder" else 1e-6
    w = np.random.default_rng(1).integers(0, 4, len(X))
    fit(one, X, y, w)
    fit(other, np.repeat(X, w, axis=0), None if y is None else np.repeat(y, w, axis=0))
    assert one.log_marginal_likelihood_ == pytest.approx(
        other.log_marginal_likelihood_, rel=rtol
    )
    np.testing.assert_allclose(
        predictions(one, X), predictions(other, X), rtol=rtol, atol=rtol
    )


@EVERY
def test_mini_batches_go_by_the_evidence_too(kind):
    estimator, X, y = task(kind, n=400, batch_size=64, max_iter=30, **DEFAULTS)
    fit(estimator, X, y)
    assert np.isfinite(estimator.log_marginal_likelihood_)
    assert len(estimator.loss_curve_) == estimator.n_iter_
    assert np.isfinite(predictions(estimator, X)).all()


def test_evidence_needs_no_validation_rows_to_hold_back():
    # Many weights for few noisy rows: the penalised network overfits, this does not.
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (400, 1))
    y = np.sin(2 * X[:, 0]) + 0.3 * rng.standard_normal(400)
    X, X_test, y, y_test = train_test_split(X, y, train_size=40, random_state=0)
    settings = {"hidden_layer_sizes": (30,)}
    by_evidence = fit(task("regression", **DEFAULTS, **settings).estimator, X, y)
    penalised = fit(task("regression", **settings).estimator, X, y)
    assert by_evidence.score(X_test, y_test) > 0.75
    assert by_evidence.score(X_test, y_test) > penalised.score(X_test, y_test)
