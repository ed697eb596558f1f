"""Whatever is at fault is named by the message, and nothing is trained on it."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from tasks import (
    CLASSIFICATION,
    KINDS,
    REGRESSION,
    assert_same_model,
    fit,
    fitted,
    task,
)

from skgnh import GaussNewtonMLPClassifier
from skgnh.solvers import CG

EVERY = pytest.mark.parametrize("kind", KINDS)
SUPERVISED = pytest.mark.parametrize("kind", CLASSIFICATION + REGRESSION)
# One head of each class.
HEADS = pytest.mark.parametrize("kind", ["multiclass", "regression", "autoencoder"])


def with_entry(array, value):
    array = np.array(array, dtype=float)
    array.flat[3] = value
    return array


# ---- parameters ---------------------------------------------------------------------

PARAMETERS = {
    "solver": ["nope", "CG", None, 3, CG],
    "activation": ["nope", None],
    "alpha": [-1, "a", None, np.nan, np.inf],
    "damping": [0, -1, "a", None, np.nan, np.inf],
    "max_iter": [0, -1, 2.5, None, np.inf],
    "tol": [-1, "a", None, np.nan],
    "n_iter_no_change": [0, -1, "a", None, np.nan],
    "batch_size": [0, -1, 2.5, "all", None],
    "curvature_batch_size": [0, -1, 2.5, "all", None],
    "validation_fraction": [0, 1, -1, 1.5, "a", None, np.nan],
    "random_state": ["a", -1, 2.5],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in PARAMETERS.items() for value in values],
)
@HEADS
def test_parameter_outside_its_range(kind, name, value):
    estimator, X, y = task(kind, **{name: value})
    match = {"random_state": "seed|Seed|random_state"}.get(name, name)
    with pytest.raises((ValueError, TypeError), match=match):
        estimator.fit(X, y)


@pytest.mark.parametrize(
    "sizes", [0, -1, 2.5, (0,), (4, -2), (2.5,), "a", None, ((2, 3),), (4, None)]
)
@HEADS
def test_widths_that_are_no_positive_integers(kind, sizes):
    name = "hidden_layer_sizes" if kind != "autoencoder" else "encoder_layer_sizes"
    estimator, X, y = task(kind, **{name: sizes})
    with pytest.raises(ValueError, match=f"{name} must be positive integers, got"):
        estimator.fit(X, y)


def test_autoencoder_without_a_code():
    estimator, X, _ = task("autoencoder", encoder_layer_sizes=())
    with pytest.raises(ValueError, match="encoder_layer_sizes must name at least"):
        estimator.fit(X)


def test_unknown_activation_of_the_code():
    estimator, X, _ = task("autoencoder", code_activation="nope")
    with pytest.raises(ValueError, match="Unknown activation 'nope'"):
        estimator.fit(X)


@pytest.mark.parametrize("loss", ["nope", None, "squared_loss"])
def test_unknown_loss(loss):
    estimator, X, y = task("regression")
    with pytest.raises(ValueError, match=r"Unknown loss .*choose among"):
        estimator.set_params(loss=loss).fit(X, y)


def test_parameter_of_the_solver_outside_its_range():
    estimator, X, y = task("regression", solver=CG(max_iter=0))
    with pytest.raises(ValueError, match="max_iter .*got 0|max_iter >= 1"):
        estimator.fit(X, y)


# ---- rows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "match"), [(np.nan, "X contains NaN"), (np.inf, "X contains infinity")]
)
@EVERY
def test_rows_that_are_not_finite(kind, value, match):
    estimator, X, y = task(kind)
    with pytest.raises(ValueError, match=match):
        estimator.fit(with_entry(X, value), y)
    estimator = fitted(kind, max_iter=1).estimator
    with pytest.raises(ValueError, match=match):
        estimator.predict(with_entry(X, value))


@EVERY
def test_rows_of_another_width(kind):
    estimator, X, _ = fitted(kind, max_iter=1)
    for method in ("predict", "predict_proba", "transform", "score_samples"):
        if hasattr(estimator, method):
            with pytest.raises(ValueError, match="X has 3 features.* expecting 4"):
                getattr(estimator, method)(X[:, :3])


@EVERY
def test_columns_of_other_names(kind):
    estimator, X, y = task(kind, max_iter=1)
    fit(estimator, pd.DataFrame(X, columns=list("abcd")), y)
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(pd.DataFrame(X, columns=list("abce")))


@EVERY
def test_rows_of_no_shape_to_learn_from(kind):
    estimator, X, y = task(kind)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        estimator.fit(X[:, 0], y)
    with pytest.raises(ValueError, match="0 sample"):
        estimator.fit(X[:0], None if y is None else y[:0])
    with pytest.raises(ValueError, match="0 feature"):
        estimator.fit(X[:, :0], y)


@EVERY
def test_strings_for_numbers(kind):
    estimator, X, y = task(kind)
    with pytest.raises(ValueError, match="could not convert string to float"):
        estimator.fit(np.full(X.shape, "a"), y)


@EVERY
def test_not_fitted_yet(kind):
    estimator, X, _ = task(kind)
    for method in ("predict", "predict_proba", "transform", "score_samples"):
        if hasattr(estimator, method):
            with pytest.raises(NotFittedError, match="not fitted yet"):
                getattr(estimator, method)(X)


def test_autoencoder_takes_no_sparse_rows():
    estimator, X, _ = task("autoencoder", max_iter=1)
    with pytest.raises(ValueError, match="Sparse input is not supported"):
        estimator.fit(sparse.csr_array(X))
    fit(estimator, X)
    for method in ("transform", "score_samples"):
        with pytest.raises(ValueError, match="Sparse input is not supported"):
            getattr(estimator, method)(sparse.csr_array(X))
    with pytest.raises((ValueError, TypeError), match=r"[Ss]parse|dense"):
        estimator.predict(sparse.csr_array(X))


def test_codes_of_another_width():
    estimator, X, _ = fitted("autoencoder", max_iter=1)
    with pytest.raises(ValueError, match="Codes have 4 columns, expected 2"):
        estimator.inverse_transform(X)
    with pytest.raises(ValueError, match="contains NaN"):
        estimator.inverse_transform(with_entry(X[:, :2], np.nan))
    with pytest.raises(NotFittedError, match="not fitted yet"):
        task("autoencoder").estimator.inverse_transform(X[:, :2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@HEADS
def test_rows_whose_objective_overflows(kind, dtype):
    estimator, X, y = task(kind, activation="identity", max_iter=2)
    X = X.astype(dtype) * dtype(np.finfo(dtype).max / 1e3)
    try:
        fit(estimator, X, y)
    except ValueError as error:
        assert "overflows at the start: scale X and y" in str(error)  # noqa: PT017
    else:
        assert all(np.isfinite(coef).all() for coef in estimator.coefs_)
        assert np.isfinite(estimator.loss_)


# ---- targets ------------------------------------------------------------------------


@SUPERVISED
def test_targets_missing_or_of_another_number(kind):
    estimator, X, y = task(kind)
    with pytest.raises(ValueError, match="requires y to be passed"):
        estimator.fit(X, None)
    with pytest.raises(
        ValueError, match=r"inconsistent numbers of samples: \[60, 59\]"
    ):
        estimator.fit(X, y[:-1])
    with pytest.raises(ValueError, match="dim"):
        estimator.fit(X, np.zeros((len(X), 2, 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel", *REGRESSION])
def test_targets_that_are_not_finite(kind, value):
    estimator, X, y = task(kind)
    with pytest.raises(ValueError, match="y contains (NaN|infinity)"):
        estimator.fit(X, with_entry(y, value))


@pytest.mark.parametrize("y", [np.zeros(60), np.full(60, "a"), np.ones(60, bool)])
def test_single_class(y):
    estimator, X, _ = task("binary")
    with pytest.raises(ValueError, match="at least 2 classes; y has one class"):
        estimator.fit(X, y)


def test_single_class_of_positive_weight():
    estimator, X, y = task("multiclass")
    match = "at least 2 classes; the rows of positive weight have one class"
    with pytest.raises(ValueError, match=match):
        estimator.fit(X, y, (y == 10).astype(float))
    estimator.set_params(class_weight={10: 1, 20: 0, 30: 0})
    with pytest.raises(ValueError, match=match):
        estimator.fit(X, y)


def test_labels_of_another_kind():
    estimator, X, y = task("multiclass")
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        estimator.fit(X, X[:, 0])
    with pytest.raises(ValueError, match="y has several multiclass outputs"):
        estimator.fit(X, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="y must be numbers, got text"):
        task("regression").estimator.fit(X, np.full(len(X), "a"))


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.csr_matrix])
@pytest.mark.parametrize("kind", ["multilabel", "several targets"])
def test_sparse_targets_train_as_dense_ones_or_are_named(kind, convert):
    estimator, X, y = task(kind, max_iter=3)
    try:
        fit(estimator, X, convert(y))
    except (ValueError, TypeError) as error:
        assert "y" in str(error).split()  # noqa: PT017
        assert "parse" in str(error)  # noqa: PT017
    else:
        expected = fitted(kind, max_iter=3).estimator
        assert_same_model(estimator, expected)


def test_poisson_targets_below_zero():
    estimator, X, y = task("poisson")
    with pytest.raises(ValueError, match=r"y is outside the domain .* targets >= 0"):
        estimator.fit(X, -y)
    with pytest.raises(ValueError, match=r"y_val is outside the domain"):
        estimator.fit(X, y, X_val=X, y_val=-y)


@pytest.mark.parametrize(
    ("class_weight", "match"),
    [
        ("nope", "class_weight"),
        (3, "class_weight"),
        ({40: 1}, "not in class_weight|Class label"),
        ({10: -1}, "class_weight"),
        ({10: np.nan}, "class_weight"),
        ({10: np.inf}, "class_weight"),
        ({10: 0, 20: 0, 30: 0}, "positive weight"),
    ],
)
def test_class_weight_out_of_place(class_weight, match):
    estimator, X, y = task("multiclass", class_weight=class_weight, max_iter=2)
    with pytest.raises(ValueError, match=match):
        estimator.fit(X, y)


# ---- weights ------------------------------------------------------------------------

WEIGHTS = {
    "zero": (np.zeros(60), "sample_weight is zero for every row"),
    "negative": (with_entry(np.ones(60), -1), "sample_weight must not be negative"),
    "nan": (with_entry(np.ones(60), np.nan), "sample_weight contains NaN"),
    "inf": (with_entry(np.ones(60), np.inf), "sample_weight contains infinity"),
    "short": (np.ones(59), r"sample_weight has shape \(59,\), expected \(60,\)"),
    "2d": (np.ones((60, 2)), r"sample_weight has shape \(60, 2\), expected"),
    "text": (np.full(60, "a"), "could not convert string to float"),
}


@pytest.mark.parametrize(("weights", "match"), WEIGHTS.values(), ids=WEIGHTS)
@HEADS
def test_weights_out_of_place(kind, weights, match):
    estimator, X, y = task(kind)
    with pytest.raises(ValueError, match=match):
        estimator.fit(X, y, weights)
    classes = {"classes": [10, 20, 30]} if kind == "multiclass" else {}
    with pytest.raises(ValueError, match=match):
        estimator.partial_fit(X, y, weights, **classes)
    targets = {} if y is None else {"y_val": y}
    with pytest.raises(ValueError, match=match):
        estimator.fit(X, y, X_val=X, **targets, sample_weight_val=weights)


@pytest.mark.parametrize("name", ["short", "negative", "nan"])
def test_weights_of_the_autoencoders_score(name):
    estimator, X, _ = fitted("autoencoder", max_iter=1)
    with pytest.raises(ValueError, match="sample_weight"):
        estimator.score(X, sample_weight=WEIGHTS[name][0])


# ---- validation rows ----------------------------------------------------------------


@SUPERVISED
def test_validation_rows_without_their_targets(kind):
    estimator, X, y = task(kind)
    with pytest.raises(ValueError, match="y_val"):
        estimator.fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="X_val"):
        estimator.fit(X, y, y_val=y)


@EVERY
def test_validation_weights_without_rows(kind):
    estimator, X, y = task(kind)
    with pytest.raises(ValueError, match="X_val"):
        estimator.fit(X, y, sample_weight_val=np.ones(len(X)))


@EVERY
def test_validation_rows_at_fault(kind):
    estimator, X, y = task(kind)
    targets = {} if y is None else {"y_val": y}
    with pytest.raises(ValueError, match="X has 3 features"):
        estimator.fit(X, y, X_val=X[:, :3], **targets)
    with pytest.raises(ValueError, match="X contains NaN"):
        estimator.fit(X, y, X_val=with_entry(X, np.nan), **targets)
    if y is not None:
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            estimator.fit(X, y, X_val=X, y_val=y[:-1])


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("binary", "multilabel"),
        ("multiclass", "multilabel"),
        ("multilabel", "binary"),
        ("regression", "several targets"),
        ("several targets", "regression"),
    ],
)
def test_validation_targets_of_another_kind(kind, other):
    estimator, X, y = task(kind)
    y_val = task(other).y
    y_val = (y_val == "yes").astype(int) if other == "binary" else y_val
    y = (y == "yes").astype(int) if kind == "binary" else y
    with pytest.raises(ValueError, match="y_val"):
        estimator.fit(X, y, X_val=X, y_val=y_val)


def test_validation_targets_of_an_unknown_class():
    estimator, X, y = task("multiclass")
    with pytest.raises(ValueError, match=r"classes \[40\] that are not among"):
        estimator.fit(X, y, X_val=X, y_val=np.where(y == 10, 40, y))


def test_too_few_rows_to_split():
    estimator, X, y = task("multiclass", early_stopping=True)
    rows = [np.flatnonzero(y == label)[0] for label in (10, 20, 30)]
    with pytest.raises(ValueError, match="least populated class"):
        estimator.fit(X[rows], y[rows])
    for kind in ("regression", "autoencoder"):
        estimator, X, y = task(kind, early_stopping=True)
        with pytest.raises(ValueError, match="train set will be empty"):
            estimator.fit(X[:1], None if y is None else y[:1])


def test_split_that_leaves_no_weight():
    estimator, X, y = task("regression", early_stopping=True)
    w = np.zeros(len(X))
    w[0] = 1
    with pytest.raises(ValueError, match="only rows of weight zero on one side"):
        estimator.fit(X, y, w)


# ---- partial_fit --------------------------------------------------------------------


def test_partial_fit_cannot_balance():
    estimator, X, y = task("multiclass", class_weight="balanced")
    with pytest.raises(ValueError, match="partial_fit cannot balance classes"):
        estimator.partial_fit(X, y, classes=np.unique(y))


@EVERY
def test_partial_fit_of_another_width(kind):
    estimator, X, y = fitted(kind, max_iter=1)
    with pytest.raises(ValueError, match="X has 3 features.* expecting 4"):
        estimator.partial_fit(X[:, :3], y)


# ---- memory -------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["dense", "gram"])
def test_solver_beyond_the_working_memory_is_refused_before_it_allocates(solver):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2000, 4)), rng.integers(0, 2, 2000)
    estimator = GaussNewtonMLPClassifier((500,), solver=solver, max_iter=1)
    tracemalloc.start()
    with (
        config_context(working_memory=1),
        pytest.raises(ValueError, match=r"more than the working memory of 1(\.0)? MiB"),
    ):
        estimator.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The array refused is of 72 or 92 MiB; data and activations take 10.
    assert peak < 40 * 2**20


@pytest.mark.parametrize("solver", ["auto", "cg"])
def test_other_solvers_work_within_a_small_working_memory(solver):
    settings = {"hidden_layer_sizes": (200,), "solver": solver, "max_iter": 2}
    estimator, X, y = task("multiclass", n=300, **settings)
    with config_context(working_memory=1):
        fit(estimator, X, y)
    assert type(estimator.solver_).__name__ == "CG"
