"""Fitting: what it leaves, random states, stopping, mini-batches, validation."""

import re
from ast import literal_eval
from inspect import signature
from itertools import product

import numpy as np
import pandas as pd
import pytest
from marks import slow_unless
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from tasks import (
    CLASSIFICATION,
    KINDS,
    MODES,
    Failing,
    assert_same_model,
    fit,
    fitted,
    parameters,
    task,
)

from skgnh import GaussNewtonMLPClassifier
from skgnh.estimators.prior import EVIDENCE
from skgnh.objective import Objective
from skgnh.solvers import CG, Dense, all_solvers, preconditioned
from skgnh.training import Step

EVERY = pytest.mark.parametrize("kind", KINDS)
MOSTLY = slow_unless(("binary", "several targets").__contains__, KINDS)
BOTH = pytest.mark.parametrize("mode", MODES)
SOLVERS = pytest.mark.parametrize("solver", all_solvers())
MOSTLY_SLOW = pytest.mark.parametrize(
    "solver", slow_unless("auto".__eq__, all_solvers())
)


def validation_rows(kind, n=30):
    """More rows of the same distribution: keyword arguments of fit."""
    _, X, y = task(kind, n=100)
    rows = {"X_val": X[-n:]}
    return rows if y is None else {**rows, "y_val": y[-n:]}


def loss_without_penalty(estimator, X, y):
    objective, theta = Objective.from_estimator(clone_of_fitted(estimator), X, y)
    return objective.value(theta)


def clone_of_fitted(estimator):
    """The same weights with no penalty and no class weights."""
    other = clone(estimator).set_params(alpha=0)
    vars(other).update({k: v for k, v in vars(estimator).items() if k.endswith("_")})
    vars(other).update({k: v for k, v in vars(estimator).items() if k.startswith("_")})
    return other


# ---- what a fit leaves --------------------------------------------------------------


def documented(estimator, section):
    """Names and types of a section of the class's docstring."""
    text = type(estimator).__doc__
    lines = text.split(f"    {section}\n    ")[1].split("\n\n")[0].splitlines()[1:]
    entries = [re.fullmatch(r"    (\S.*?) : (.*)", line) for line in lines]
    return [
        (name, entry[2])
        for entry in entries
        if entry
        for name in re.split(r"\s*,\s*", entry[1])
    ]


@BOTH
@EVERY
def test_fitted_attributes_are_those_documented(kind, mode):
    settings = {"max_iter": 3, "early_stopping": True, **MODES[mode]}
    estimator, X, y = task(kind, **settings)
    fit(estimator, pd.DataFrame(X, columns=list("abcd")), y)
    names = {name for name, _ in documented(estimator, "Attributes")}
    found = {name for name in vars(estimator) if re.fullmatch(r"[a-z]\w*_", name)}
    # Known of a pruned estimator only, of one that was asked for it, or when asked for.
    absent = {"pruned_", "noise_model_", "feature_importances_"}
    absent |= set() if mode == "evidence" else {*EVIDENCE}
    assert found == names - absent
    assert names >= {*EVIDENCE} - {"_sensitivity_"}


@pytest.mark.parametrize("kind", ["binary", "regression", "autoencoder"])
def test_parameters_and_defaults_are_those_documented(kind):
    estimator = type(task(kind).estimator)()
    written = {
        name: text.split("default=")[1]
        for name, text in documented(estimator, "Parameters")
    }
    parameters = signature(type(estimator)).parameters
    assert list(written) == list(parameters)
    for name, literal in written.items():
        assert literal_eval(literal) == parameters[name].default, name


@BOTH
@EVERY
def test_frames_are_known_by_their_names_to_every_method(kind, mode):
    settings = {"max_iter": 2, "early_stopping": True, **MODES[mode]}
    estimator, X, y = task(kind, **settings)
    X = pd.DataFrame(X, columns=list("abcd"))
    rows = {"X_val": X} if y is None else {"X_val": X, "y_val": y}
    fit(estimator, X, y, **rows)
    np.testing.assert_array_equal(estimator.feature_names_in_, list("abcd"))
    # Any warning is an error.
    methods = ("predict", "predict_proba", "predict_log_proba", "transform")
    for method in (*methods, "score_samples"):
        if hasattr(estimator, method):
            getattr(estimator, method)(X)
    estimator.score(X, y)
    estimator.partial_fit(X, y)


@BOTH
@EVERY
def test_fitted_attributes_describe_the_network(kind, mode):
    estimator, X, y = fitted(kind, **MODES[mode])
    shapes = [coef.shape for coef in estimator.coefs_]
    assert [len(b) for b in estimator.intercepts_] == [out for _, out in shapes]
    assert shapes[0][0] == estimator.n_features_in_ == X.shape[1]
    assert shapes[-1][1] == estimator.n_outputs_
    assert estimator.n_layers_ == len(shapes) + 1
    assert len(estimator.hidden_activations_) == len(shapes) - 1
    expected = {"multiclass": "softmax", "binary": "logistic", "multilabel": "logistic"}
    expected["poisson"] = "exp"
    assert estimator.out_activation_ == expected.get(kind, "identity")
    outputs = {"multiclass": 3, "multilabel": 3, "several targets": 2, "autoencoder": 4}
    assert estimator.n_outputs_ == outputs.get(kind, 1)


@EVERY
def test_full_batches_never_raise_the_loss(kind):
    estimator, X, _ = fitted(kind, max_iter=25)
    curve = estimator.loss_curve_
    assert len(curve) == estimator.n_iter_
    assert (np.diff(curve) <= 0).all()
    assert curve[-1] < curve[0]
    assert estimator.loss_ == pytest.approx(curve[-1], rel=1e-12)
    assert estimator.best_loss_ == min(curve)
    assert estimator.validation_loss_curve_ is None
    assert estimator.validation_scores_ is None
    assert estimator.best_validation_score_ is None


@MOSTLY_SLOW
def test_every_solver_lowers_the_loss(solver):
    for kind in KINDS:
        estimator, _, _ = fitted(kind, solver=solver)
        assert (np.diff(estimator.loss_curve_) <= 0).all()
        assert estimator.loss_ < 0.7 * estimator.history_["value"][0]


@pytest.mark.parametrize("batch_size", ["auto", 16])
@BOTH
@EVERY
def test_history_has_one_entry_for_each_trial(kind, mode, batch_size):
    estimator, _, _ = fitted(kind, batch_size=batch_size, **MODES[mode])
    history = pd.DataFrame(estimator.history_)
    fields = set(Step.__dataclass_fields__) - {"theta", "point", "posterior"}
    assert set(history.columns) == fields | {"iteration"}
    assert (history["time"].diff().dropna() >= 0).all()
    assert (history["damping"] > 0).all()
    assert history["iteration"].tolist() == sorted(history["iteration"])
    assert set(history["iteration"]) == set(range(estimator.n_iter_))
    assert history["ends_epoch"].sum() == estimator.n_iter_
    assert history["next_damping"].iloc[-1] == estimator.damping_
    if batch_size == "auto":
        values = history.loc[history["ends_batch"], "value"]
        assert values.tolist() == estimator.loss_curve_
        assert (history["accepted"] | ~history["ends_batch"]).all()


def test_solver_says_what_was_taken():
    assert isinstance(fitted("binary", solver="dense").estimator.solver_, Dense)
    assert isinstance(fitted("binary", solver="cg").estimator.solver_, CG)
    own = CG(max_iter=7)
    taken = fitted("binary", solver=own).estimator.solver_
    assert taken.max_iter == 7
    assert taken is not own
    taken = fitted("binary", solver="auto").estimator.solver_
    assert type(taken).__name__.lower() in set(all_solvers()) - {"auto"}


# ---- random states ------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"batch_size": 16}, {"early_stopping": True}])
@BOTH
@pytest.mark.parametrize("kind", MOSTLY)
def test_same_random_state_gives_the_same_model(kind, mode, settings):
    settings = settings | MODES[mode]
    one, other = (fitted(kind, max_iter=4, **settings).estimator for _ in range(2))
    assert_same_model(one, other)
    assert one.loss_curve_ == other.loss_curve_
    state = np.random.RandomState(0)
    assert_same_model(one, fitted(kind, max_iter=4, random_state=state, **settings)[0])
    third = fitted(kind, max_iter=4, random_state=1, **settings).estimator
    assert not np.allclose(parameters(one), parameters(third))


@SOLVERS
def test_same_random_state_gives_the_same_model_by_every_solver(solver):
    settings = {"solver": solver, "max_iter": 4, "curvature_batch_size": 20}
    one, other = (fitted("multiclass", **settings).estimator for _ in range(2))
    assert_same_model(one, other)


def test_refit_forgets_the_first_fit():
    estimator, X, y = fitted("multiclass", max_iter=4)
    fit(estimator, X[:30, :3], y[:30] == 10)
    np.testing.assert_array_equal(estimator.classes_, [False, True])
    assert_same_model(fit(estimator, X, y), fitted("multiclass", max_iter=4).estimator)


# ---- stopping -----------------------------------------------------------------------


def test_iterations_run_out_with_a_warning():
    estimator, X, y = task("regression", max_iter=3)
    with pytest.warns(ConvergenceWarning, match="3 iterations reached"):
        estimator.fit(X, y)
    assert estimator.n_iter_ == 3


def iterations_by_the_rule(curve, tol, n_iter_no_change):
    """Where `tol` and `n_iter_no_change` end a fit, by their description."""
    best, in_vain = np.inf, 0
    for n_iter, value in enumerate(curve, start=1):
        in_vain = 0 if value <= best - tol else in_vain + 1
        best = min(best, value)
        if in_vain > n_iter_no_change or value < tol:
            return n_iter
    return None


@pytest.mark.parametrize("n_iter_no_change", [1, 4])
@pytest.mark.parametrize("tol", [0.01, 0.1])
@EVERY
def test_tolerance_and_patience_stop_a_fit(kind, tol, n_iter_no_change):
    estimator, X, y = task(kind, tol=tol, n_iter_no_change=n_iter_no_change, alpha=1)
    estimator.fit(X, y)
    unit = 1 if kind in CLASSIFICATION else null_loss(estimator, X, y)
    curve = estimator.loss_curve_
    assert iterations_by_the_rule(curve, tol * unit, n_iter_no_change) == len(curve)


def null_loss(estimator, X, y):
    """Loss of the best constant prediction."""
    targets = X if y is None else y.reshape(len(y), -1)
    mean = targets.mean(axis=0)
    if estimator.out_activation_ == "exp":
        safe = np.where(targets > 0, targets, 1)
        return np.mean(np.sum(targets * np.log(safe / mean) - targets + mean, axis=1))
    return 0.5 * np.mean((targets - mean) ** 2)


@pytest.mark.parametrize("kind", ["regression", "poisson", "autoencoder", "binary"])
def test_loss_below_the_tolerance_stops_at_once(kind):
    estimator, X, y = task(kind, tol=0.5, n_iter_no_change=10)
    estimator.fit(X, y)
    unit = 1 if kind == "binary" else null_loss(estimator, X, y)
    curve = np.array(estimator.loss_curve_)
    assert curve[-1] < 0.5 * unit
    assert (curve[:-1] >= 0.5 * unit).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_tolerance_does_not_depend_on_the_scale_of_the_targets(scale):
    # One output layer only: the start's weights do not grow with y, the errors do.
    one, X, y = task("regression", hidden_layer_sizes=(), tol=1e-3)
    other = clone(one)
    one.fit(X, y), other.fit(X, scale * y)
    assert one.n_iter_ == pytest.approx(other.n_iter_, abs=5)
    np.testing.assert_allclose(other.predict(X) / scale, one.predict(X), atol=0.05)


def test_patience_without_end_reaches_the_minimum():
    estimator, X, y = task("regression", hidden_layer_sizes=(), solver="dense")
    estimator.set_params(tol=0, n_iter_no_change=np.inf, alpha=1)
    estimator.fit(X, y)
    assert estimator.n_iter_ < 200
    assert estimator.history_["status"][-1] in ("gradient", "step", "damping")


def test_verbose_prints_a_line_an_iteration(capsys):
    fitted("binary", verbose=True, max_iter=3)
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop() == "Training ended: max_iter is reached."
    assert [line.split(",")[0] for line in lines] == [
        "Iteration 1",
        "Iteration 2",
        "Iteration 3",
    ]
    assert all("loss = " in line and "damping = " in line for line in lines)
    fitted("binary", verbose=True, max_iter=2, early_stopping=True)
    assert capsys.readouterr().out.count("validation score = ") == 2
    fitted("binary", max_iter=3)
    assert capsys.readouterr().out == ""


# ---- mini-batches -------------------------------------------------------------------


@MOSTLY_SLOW
def test_mini_batches_lower_the_loss(solver):
    for kind in KINDS:
        settings = {"batch_size": 32, "max_iter": 12}
        estimator, X, y = task(kind, n=200, solver=solver, **settings)
        start = fit(task(kind, solver=Failing()).estimator, X, y).loss_
        fit(estimator, X, y)
        assert estimator.n_iter_ == len(estimator.loss_curve_) == 12
        # Six batches an epoch, one trial each.
        assert len(estimator.history_["value"]) == 12 * 6
        assert estimator.loss_ < 0.8 * start


@pytest.mark.parametrize("batch_size", ["auto", 20])
def test_curvature_may_take_fewer_rows(batch_size):
    settings = {"curvature_batch_size": 10, "batch_size": batch_size}
    estimator, X, y = fitted("multiclass", max_iter=20, **settings)
    assert estimator.score(X, y) > 0.8
    assert not np.allclose(
        parameters(estimator),
        parameters(fitted("multiclass", max_iter=20, batch_size=batch_size).estimator),
    )


def test_batch_of_all_rows_is_a_full_batch():
    whole = fitted("regression").estimator
    assert_same_model(whole, fitted("regression", batch_size=60).estimator)
    estimator, X, y = task("regression", batch_size=61, max_iter=10)
    with pytest.warns(UserWarning, match="batch_size=61 is larger than the 60 rows"):
        fit(estimator, X, y)
    assert_same_model(whole, estimator)


def test_rows_of_weight_zero_change_nothing():
    sizes = ({}, {"batch_size": 16}, {"curvature_batch_size": 16})
    for size, mode in product(sizes, MODES.values()):
        settings = size | mode
        one, X, y = task("multiclass", max_iter=4, **settings)
        kept = np.random.default_rng(1).random(len(X)) < 0.7
        fit(one, X, y, kept.astype(float))
        other = fit(task("multiclass", max_iter=4, **settings)[0], X[kept], y[kept])
        assert_same_model(one, other)


# ---- early stopping -----------------------------------------------------------------


@MOSTLY_SLOW
def test_early_stopping_keeps_the_weights_best_on_the_users_rows(solver):
    for kind in KINDS:
        estimator, X, y = task(kind, solver=solver, max_iter=40, early_stopping=True)
        rows = validation_rows(kind)
        fit(estimator, X, y, **rows)
        curve = estimator.validation_loss_curve_
        assert len(curve) == len(estimator.validation_scores_) == estimator.n_iter_
        found = loss_without_penalty(estimator, *unpack(rows))
        assert found == pytest.approx(min(curve), rel=1e-9)
        assert estimator.best_validation_score_ == max(estimator.validation_scores_)
        assert estimator.best_loss_ is None
        best = int(np.argmin(curve))
        score = estimator.score(*unpack(rows))
        assert score == pytest.approx(estimator.validation_scores_[best])
        # All rows given were trained on.
        objective, theta = Objective.from_estimator(estimator, X, y)
        assert estimator.loss_ == pytest.approx(objective.value(theta), rel=1e-9)
        assert estimator.loss_ == pytest.approx(estimator.loss_curve_[best], rel=1e-9)


def unpack(rows):
    return rows["X_val"], rows.get("y_val")


@EVERY
def test_early_stopping_stops_when_the_validation_loss_rises(kind):
    estimator, X, y = task(
        kind, n=200, early_stopping=True, alpha=0, n_iter_no_change=3, tol=0
    )
    fit(estimator, X, y)
    curve = estimator.validation_loss_curve_
    assert estimator.n_iter_ < estimator.max_iter
    best = int(np.argmin(curve))
    if estimator.history_["status"][-1] == "":
        assert estimator.n_iter_ == best + 1 + 4


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_split_of_labels_is_stratified_and_scikit_learns(kind):
    estimator, X, y = task(kind, early_stopping=True, validation_fraction=0.25)
    fit(estimator, X, y)
    # The split is drawn after the weights.
    rng = np.random.RandomState(0)
    fan = list(zip([4, 5, 4], [5, 4, estimator.n_outputs_], strict=True))
    for fan_in, out in fan:
        rng.uniform(size=(fan_in, out)), rng.uniform(size=out)
    _, X_val, _, y_val = train_test_split(
        X, y, random_state=rng, test_size=0.25, stratify=y
    )
    expected = loss_without_penalty(estimator, X_val, y_val)
    assert min(estimator.validation_loss_curve_) == pytest.approx(expected, rel=1e-9)


@BOTH
@EVERY
def test_validation_rows_without_early_stopping_are_only_watched(kind, mode):
    rows = validation_rows(kind)
    settings = {"max_iter": 6, **MODES[mode]}
    estimator, X, y = task(kind, **settings)
    fit(estimator, X, y, **rows)
    assert_same_model(estimator, fitted(kind, **settings).estimator)
    assert len(estimator.validation_loss_curve_) == estimator.n_iter_ == 6
    if mode == "evidence":
        return
    expected = loss_without_penalty(estimator, *unpack(rows))
    assert estimator.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-9)
    assert estimator.best_loss_ == estimator.loss_


def test_validation_rows_have_weights():
    rows = validation_rows("regression")
    w = np.random.default_rng(1).integers(0, 4, len(rows["X_val"]))
    one, X, y = task("regression", max_iter=4)
    other = clone(one)
    fit(one, X, y, **rows, sample_weight_val=w)
    repeated = {name: np.repeat(part, w, axis=0) for name, part in rows.items()}
    fit(other, X, y, **repeated)
    np.testing.assert_allclose(one.validation_loss_curve_, other.validation_loss_curve_)
    np.testing.assert_allclose(one.validation_scores_, other.validation_scores_)


def test_early_stopping_with_mini_batches():
    estimator, X, y = task("multiclass", n=500, batch_size=100, early_stopping=True)
    rows = validation_rows("multiclass")
    estimator.fit(X, y, **rows)
    assert estimator.n_iter_ < 200
    found = loss_without_penalty(estimator, *unpack(rows))
    assert found == pytest.approx(min(estimator.validation_loss_curve_), rel=1e-9)
    assert estimator.score(X, y) > 0.7


@pytest.mark.slow
def test_products_in_single_precision_lead_to_the_minimum_of_double(monkeypatch):
    X, y = load_digits(return_X_y=True)
    losses = []
    for large in (1e6, np.inf):
        monkeypatch.setattr(preconditioned, "_LARGE", large)
        network = GaussNewtonMLPClassifier(
            32, activation="tanh", alpha=100.0, solver="kfac", max_iter=2000, tol=1e-9
        )
        losses.append(network.set_params(random_state=0).fit(X[:600], y[:600]).loss_)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
