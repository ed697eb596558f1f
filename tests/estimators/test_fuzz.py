"""A thousand small fits on awkward data: all stay finite, and none complains."""

import warnings

import numpy as np
import pytest
from marks import slow_unless
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from tasks import CLASSIFICATION, KINDS, predictions, weights

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.inspection import influence
from skgnh.network import ACTIVATIONS
from skgnh.solvers import all_solvers

FITS, BLOCKS = 1000, 20
BY_BLOCKS = pytest.mark.parametrize(
    "block", slow_unless(lambda block: block < 2, range(BLOCKS))
)


def awkward_rows(rng, n, largest):
    """Columns that are constant, repeated, of one sign, or of extreme scale."""
    X = rng.standard_normal((n, int(rng.integers(1, 6))))
    for j in range(X.shape[1]):
        match rng.choice(["plain", "constant", "repeated", "sign", "large", "small"]):
            case "constant":
                X[:, j] = rng.choice([0.0, 1.0, -1e3])
            case "repeated":
                X[:, j] = X[:, rng.integers(X.shape[1])]
            case "sign":
                # Units of relu are dead, or never rest.
                X[:, j] = -np.abs(X[:, j]) - 10
            case "large":
                X[:, j] *= largest
            case "small":
                X[:, j] *= 1e-12
    return X


def awkward_targets(kind, rng, n):
    scale = rng.choice([1e-12, 1.0, 1.0, 1e12])
    offset = rng.choice([0.0, 0.0, 1e6])
    match kind:
        case "binary":
            return np.array(["a", "b"])[
                np.append([0, 1, 0, 1], rng.integers(0, 2, n))[:n]
            ]
        case "multiclass":
            return np.append([0, 1, 2, 0, 1, 2], rng.integers(0, 3, n))[:n]
        case "multilabel":
            return rng.integers(0, 2, (n, 3))
        case "regression":
            return scale * rng.standard_normal(n) + offset
        case "several targets":
            return [scale, 1.0] * rng.standard_normal((n, 2)) + offset
        case "poisson":
            return rng.poisson(rng.choice([0.1, 1.0, 1e6]), n).astype(float)
    return None


def settings(rng, n):
    drawn = {
        "activation": str(rng.choice(list(ACTIVATIONS))),
        "solver": str(rng.choice(list(all_solvers()))),
        "alpha": float(rng.choice([0, 1e-4, 1, 1e3])),
        "damping": float(rng.choice([1e-12, 1e-2, 1e-2, 1e6])),
        "max_iter": int(rng.integers(1, 6)),
        "tol": float(rng.choice([0, 1e-5, 0.1])),
        "random_state": int(rng.integers(1000)),
    }
    if rng.random() < 0.3:
        drawn["batch_size"] = int(rng.integers(1, n + 1))
    if rng.random() < 0.3:
        drawn["curvature_batch_size"] = int(rng.integers(1, n + 1))
    if n >= 15 and rng.random() < 0.3:
        drawn |= {"early_stopping": True, "validation_fraction": 0.4}
    return drawn


def problem(seed):
    """Kind, estimator, rows, targets and weights."""
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(KINDS))
    fewest = {"binary": 2, "multiclass": 3}.get(kind, 1)
    n = max(fewest, int(rng.choice([1, 2, 3, 6, 15, 40])))
    # The exponential of a large number is no prediction.
    X = awkward_rows(rng, n, 1.0 if kind == "poisson" else 1e12)
    y = awkward_targets(kind, rng, n)
    X = X.astype(rng.choice(["float32", "float64"]))
    if kind != "autoencoder" and rng.random() < 0.2:
        X = sparse.csr_array(X)
    w = None
    if rng.random() < 0.4:
        w = rng.choice([0, 0, 1, 2.5, 1e-9, 1e9], n)
        # Each class keeps a row.
        w[:3] = 1
    sizes = tuple(rng.integers(1, 6, rng.integers(0, 4)).tolist())
    drawn = settings(rng, n)
    if kind == "autoencoder":
        return kind, GaussNewtonAutoencoder(sizes or (1,), **drawn), X, y, w
    if kind in CLASSIFICATION:
        return kind, GaussNewtonMLPClassifier(sizes, **drawn), X, y, w
    loss = "poisson" if kind == "poisson" else "squared_error"
    return kind, GaussNewtonMLPRegressor(loss, sizes, **drawn), X, y, w


def check(seed):
    kind, estimator, X, y, w = problem(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Rows of weight zero and those of validation do not count.
        warnings.filterwarnings("ignore", "batch_size=.* is larger than")
        estimator.fit(X, y, w)
    assert all(np.isfinite(a).all() for a in weights(estimator)), "weights"
    assert {a.dtype for a in weights(estimator)} == {X.dtype}, "precision"
    assert np.isfinite(estimator.loss_), "loss"
    assert len(estimator.loss_curve_) == estimator.n_iter_, "curve"
    if "batch_size" not in estimator.get_params() or estimator.batch_size == "auto":
        assert (np.diff(estimator.loss_curve_) <= 0).all(), "monotone"
    found = predictions(estimator, X)
    assert np.isfinite(found).all(), "predictions"
    if kind in CLASSIFICATION:
        assert ((found >= 0) & (found <= 1)).all(), "probabilities"
        estimator.predict(X)
    if kind == "autoencoder":
        assert np.isfinite(estimator.transform(X)).all(), "codes"


@BY_BLOCKS
def test_fits_on_awkward_data_stay_finite(block):
    failures = {}
    for seed in range(block, FITS, BLOCKS):
        try:
            check(seed)
        except Exception as error:
            failures[seed] = f"{problem(seed)[1]}: {error!r}"
    assert not failures


def test_the_fits_cover_what_they_should():
    drawn = [problem(seed) for seed in range(FITS)]
    assert {kind for kind, *_ in drawn} == set(KINDS)
    for name, values in {
        "solver": set(all_solvers()),
        "activation": set(ACTIVATIONS),
        "early_stopping": {True, False},
    }.items():
        assert {getattr(estimator, name) for _, estimator, *_ in drawn} == values
    assert {X.shape[0] for _, _, X, *_ in drawn} >= {1, 2, 3, 6, 15, 40}
    assert {X.dtype.name for _, _, X, *_ in drawn} == {"float32", "float64"}


def far_out(size=1e300, n=40, f=3):
    X = np.random.default_rng(0).standard_normal((n, f))
    X[0, 0] = size
    return X


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("size", [1e150, 1e300])
def test_a_value_far_out_leaves_finite_weights(size):
    model = GaussNewtonAutoencoder((3, 2), max_iter=10, random_state=0)
    model.fit(far_out(size))
    for part in (*model.coefs_, *model.intercepts_):
        assert np.isfinite(part).all()


def test_an_objective_that_overflows_is_refused():
    model = GaussNewtonAutoencoder((3, 2), standardize=False, random_state=0)
    with pytest.raises(ValueError, match="overflows at the start: scale X"):
        model.fit(far_out(1e300))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("weight", [1e-300, 1e-12, 1e12])
@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_weights_and_targets_of_any_size_leave_finite_predictions(weight, scale):
    X = np.random.default_rng(0).standard_normal((30, 2))
    model = GaussNewtonMLPRegressor(max_iter=10, random_state=0)
    model.fit(X, scale * X[:, 0], np.full(30, weight))
    assert np.isfinite(model.predict(X)).all()


def test_a_penalty_over_weights_near_zero_is_a_number():
    X = np.random.default_rng(0).standard_normal((30, 2)).astype(np.float32)
    model = GaussNewtonMLPClassifier((3,), alpha=1.0, max_iter=10, random_state=0)
    model.fit(X, X[:, 0] > 0, np.full(30, 1e-300))
    assert np.isfinite(model.predict_proba(X)).all()


def test_targets_beyond_the_precision_of_the_columns_are_refused():
    X = np.random.default_rng(0).standard_normal((30, 2)).astype(np.float32)
    with pytest.raises(ValueError, match="too large for float32"):
        GaussNewtonMLPRegressor().fit(X, 1e150 * X[:, 0].astype(float))


# ---- uncertainty ---------------------------------------------------------------------


def uncertain(seed):
    """A problem by the evidence, all that is uncertain asked for."""
    kind, estimator, X, y, w = problem(seed)
    rng = np.random.default_rng(seed)
    drawn = {"alpha": str(rng.choice(["evidence", "ard"]))}
    if estimator.solver == "exact_hessian":
        drawn["solver"] = "auto"
    if kind in CLASSIFICATION:
        drawn["average"] = bool(rng.random() < 0.8)
    elif kind in ("regression", "several targets") and rng.random() < 0.5:
        drawn["noise"] = "heteroscedastic"
    return kind, estimator.set_params(**drawn), X, y, w


def check_uncertainty(seed):
    kind, estimator, X, y, w = uncertain(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "batch_size=.* is larger than")
        estimator.fit(X, y, w)
        check_answers(kind, estimator, X)
        found = influence(estimator, X, y, sample_weight=w)
        assert np.isfinite(found.leverage).all(), "leverage"
        assert (found.leverage >= 0).all(), "leverage"
        assert np.isfinite(found.loo_mean).all(), "left out"
        more = {"classes": estimator.classes_} if kind in CLASSIFICATION else {}
        estimator.partial_fit(X, y, w, **more)
        assert all(np.isfinite(a).all() for a in weights(estimator)), "stream"
        check_answers(kind, estimator, X)


def check_answers(kind, estimator, X):
    if "posterior_" not in vars(estimator):
        return
    v = estimator.posterior_.output_variance(estimator._inputs(X))
    assert np.isfinite(v).all(), "variance"
    assert (v >= 0).all(), "variance"
    assert np.isfinite(estimator.posterior_.logdet()), "determinant"
    if kind in CLASSIFICATION:
        found = estimator.predict_proba(X)
        assert np.isfinite(found).all(), "probabilities"
        assert ((found >= 0) & (found <= 1)).all(), "probabilities"
    elif kind != "autoencoder":
        _, std = estimator.predict(X, return_std=True)
        assert np.isfinite(std).all(), "deviation"
        assert (std >= 0).all(), "deviation"
        assert np.isfinite(estimator.predict(X, return_cov=True)[1]).all(), "covariance"
        bounds = estimator.predict_interval(X)
        assert np.isfinite(bounds).all(), "interval"
        assert (bounds[..., 0] <= bounds[..., 1]).all(), "interval"
        if estimator.solver != "hmatrix":
            assert np.isfinite(estimator.sample_y(X, 2)).all(), "draws"


@BY_BLOCKS
def test_uncertainty_on_awkward_data_is_a_number(block):
    failures = {}
    for seed in range(block, FITS // 4, BLOCKS):
        try:
            check_uncertainty(seed)
        except Exception as error:
            failures[seed] = f"{uncertain(seed)[1]}: {error!r}"
    assert not failures
