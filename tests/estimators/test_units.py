"""Units of columns and targets do not matter; what is learned is of raw columns."""

import numpy as np
import pytest
from fitted import needs_weights
from marks import slow_unless
from scipy import sparse
from sklearn.neural_network import MLPClassifier, MLPRegressor
from tasks import (
    CLASSIFICATION,
    DEFAULTS,
    KINDS,
    REGRESSION,
    fit,
    fitted,
    parameters,
    predictions,
    task,
)

EVERY = pytest.mark.parametrize("kind", KINDS)
ALPHAS = pytest.mark.parametrize("alpha", ["evidence", 1e-3])
FEW = {"max_iter": 8, "standardize": True}
# Units of a column, and of a target: of several, each its own.
UNITS = slow_unless((1e-12, 1e12).__contains__, [1e-12, 1e-6, 1e3, 1e12])


def moved(values, unit, dtype=np.float64):
    """The same in other units, and from another zero a few units off."""
    return (values * unit + 2 * unit).astype(dtype)


def in_units_of(predicted, unit):
    return (predicted - 2 * unit) / unit


def compare(found, expected, rtol):
    np.testing.assert_allclose(found, expected, atol=rtol * np.abs(expected).max())


@ALPHAS
@pytest.mark.parametrize("unit", UNITS)
@EVERY
def test_units_of_the_columns_do_not_matter(kind, unit, alpha):
    estimator, X, y = fitted(kind, alpha=alpha, **FEW)
    other = fit(task(kind, alpha=alpha, **FEW).estimator, moved(X, unit), y)
    found = predictions(other, moved(X, unit))
    if kind == "autoencoder":
        found = in_units_of(found, unit)
    compare(found, predictions(estimator, X), 1e-6)


@ALPHAS
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", ["regression", "several targets"])
def test_units_of_the_targets_do_not_matter(kind, unit, alpha):
    estimator, X, y = fitted(kind, alpha=alpha, **FEW)
    other = fit(task(kind, alpha=alpha, **FEW).estimator, X, moved(y, unit))
    compare(in_units_of(other.predict(X), unit), estimator.predict(X), 1e-6)
    assert other.score(X, moved(y, unit)) == pytest.approx(estimator.score(X, y))


def test_units_of_both_may_be_of_opposite_size():
    one, X, y = fitted("regression", alpha="evidence", **FEW)
    for a, c in ((1e-12, 1e12), (1e12, 1e-12)):
        other = task("regression", alpha="evidence", **FEW).estimator
        fit(other, moved(X, a), moved(y, c))
        compare(in_units_of(other.predict(moved(X, a)), c), one.predict(X), 1e-6)


@ALPHAS
@pytest.mark.parametrize("unit", UNITS)
@EVERY
def test_units_hardly_matter_in_single_precision(kind, unit, alpha):
    settings = FEW | {"max_iter": 4, "alpha": alpha}
    estimator, X, y = task(kind, **settings)
    fit(estimator, X.astype(np.float32), y)
    far = moved(X, unit, np.float32)
    target = y
    if kind in ("regression", "several targets"):
        target = moved(y, unit, np.float32)
    other = fit(task(kind, **settings).estimator, far, target)
    found = predictions(other, far).astype(float)
    if kind in ("regression", "several targets", "autoencoder"):
        found = in_units_of(found, unit)
    compare(found, predictions(estimator, X.astype(np.float32)), 1e-2)


def test_each_column_has_its_own_unit():
    units = np.array([1e-9, 1.0, 1e4, 1e9])
    # What an autoencoder leaves counts in the units of its columns.
    for kind in CLASSIFICATION + REGRESSION:
        estimator, X, y = fitted(kind, alpha="evidence", **FEW)
        other = fit(task(kind, alpha="evidence", **FEW).estimator, moved(X, units), y)
        found = predictions(other, moved(X, units))
        compare(found, predictions(estimator, X), 1e-6)


@pytest.mark.parametrize("alpha", ["evidence", 1e-4])
def test_targets_of_three_scales_are_all_learned(alpha):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3))
    y = np.column_stack([np.sin(X[:, 0]), 1e3 * X[:, 1] ** 2, 1e6 * X[:, 0] * X[:, 2]])
    settings = {"hidden_layer_sizes": (12,), "alpha": alpha, "standardize": True}
    estimator = fit(task("several targets", **settings).estimator, X, y)
    residual = y - estimator.predict(X)
    assert (residual.var(axis=0) < 0.05 * y.var(axis=0)).all()
    raw = fit(task("several targets", **settings | {"standardize": False})[0], X, y)
    assert ((y - raw.predict(X)).var(axis=0) > 0.05 * y.var(axis=0)).any()


# ---- what is centred, and what is not ------------------------------------------------


@pytest.mark.parametrize("kind", CLASSIFICATION + REGRESSION)
def test_sparse_columns_are_scaled_and_stay_sparse(kind):
    units = np.array([1e-6, 1.0, 1e3, 1e6])
    estimator, X, y = task(kind, alpha="evidence", **FEW)
    X = X * (X > 0)
    fit(estimator, sparse.csr_array(X), y)
    other = fit(task(kind, alpha="evidence", **FEW)[0], sparse.csr_array(X * units), y)
    found = predictions(other, sparse.csr_array(X * units))
    compare(found, predictions(estimator, sparse.csr_array(X)), 1e-6)
    # The same model predicts dense rows alike.
    compare(predictions(other, X * units), found, 1e-9)
    # Scaled about zero these are the columns themselves.
    plain = task(kind, alpha="evidence", **FEW | {"standardize": False}).estimator
    scaled = X / X.std(axis=0)
    if kind in ("regression", "several targets"):
        mean, spread = y.mean(axis=0), y.std(axis=0)
        fit(plain, scaled, (y - mean) / spread)
        compare(found, mean + spread * plain.predict(scaled), 1e-5)
    else:
        compare(found, predictions(fit(plain, scaled, y), scaled), 1e-5)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize(
    "value", slow_unless((0.0, 1 / 3).__contains__, [0.0, 1.0, -1e9, 1 / 3])
)
@EVERY
def test_constant_columns_change_nothing(kind, value, form):
    if kind == "autoencoder":
        form = np.asarray
    estimator, X, y = task(kind, alpha="evidence", **FEW)
    X = np.column_stack([X, np.full(len(X), value)])
    fit(estimator, form(X), y)
    found = predictions(estimator, form(X))
    assert np.isfinite(found).all()
    assert np.isfinite(parameters(estimator)).all()
    if kind == "autoencoder":
        # Of no spread it has no unit but its own.
        np.testing.assert_allclose(found[:, -1], value, rtol=1e-9, atol=0.05)


def test_one_row_is_no_spread():
    for kind in REGRESSION:
        estimator, X, y = task(kind, alpha="evidence", **FEW)
        fit(estimator, X[:1], y[:1])
        np.testing.assert_allclose(estimator.predict(X[:1]), y[:1], atol=0.05)


def test_counts_are_neither_shifted_nor_scaled():
    estimator, X, y = fitted("poisson", alpha=1e-4, **FEW)
    assert estimator._scaling_.outputs is None
    assert (estimator.predict(X) > 0).all()
    # In its own units: the loss is that of the counts.
    other = fit(task("poisson", alpha=1e-4, **FEW).estimator, X, 10 * y)
    assert other.loss_ > 3 * estimator.loss_


def test_labels_are_not_scaled():
    for kind in CLASSIFICATION:
        estimator, _, _ = fitted(kind, **DEFAULTS, max_iter=2)
        assert estimator._scaling_.outputs is None
        assert estimator._scaling_.inputs is not None


@EVERY
def test_scaling_is_that_of_the_rows_with_weight(kind):
    one, X, y = task(kind, alpha="evidence", **FEW)
    other = task(kind, alpha="evidence", **FEW).estimator
    w = (np.arange(len(X)) % 3).astype(float)
    far = np.where(w[:, None] == 0, 1e6, X)
    kept = np.repeat(np.arange(len(X)), w.astype(int))
    fit(one, far, y, w), fit(other, X[kept], None if y is None else y[kept])
    compare(predictions(one, X), predictions(other, X), 1e-6)


# ---- scikit-learn's networks carry what is learned -----------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        *CLASSIFICATION,
        "regression",
        "several targets",
        pytest.param("poisson", marks=needs_weights),
        "autoencoder",
    ],
)
def test_scikit_learns_network_predicts_alike_with_the_coefs(kind):
    estimator, X, y = task(kind, alpha="evidence", **FEW)
    X = X * [1e-3, 1, 10, 1e3] + [1, -2, 30, 1e3]
    settings = {"activation": "tanh", "max_iter": 1, "random_state": 0}
    if kind == "autoencoder":
        mlp = MLPRegressor(hidden_layer_sizes=(5, 2, 5), **settings)
        estimator.set_params(code_activation="tanh")
    elif kind in CLASSIFICATION:
        mlp = MLPClassifier((5, 4), **settings)
    else:
        loss = {"loss": "poisson"} if kind == "poisson" else {}
        mlp = MLPRegressor(hidden_layer_sizes=(5, 4), **loss, **settings)
    fit(estimator, X, y)
    fit(mlp, X, X if y is None else y)
    mlp.coefs_, mlp.intercepts_ = estimator.coefs_, estimator.intercepts_
    compare(predictions(mlp, X), predictions(estimator, X), 1e-9)


@EVERY
def test_weights_may_be_set_from_outside(kind):
    # What was learned is `coefs_` and `intercepts_`, however it was scaled.
    estimator, X, _ = fitted(kind, alpha="evidence", **FEW)
    estimator.coefs_[-1] = 0 * estimator.coefs_[-1]
    found = predictions(estimator, X)
    assert np.ptp(found, axis=0).max() <= 1e-9 * np.abs(found).max()
