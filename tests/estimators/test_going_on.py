"""Going on from a fitted model: warm start, partial_fit, interrupts."""

import pickle

import numpy as np
import pytest
from marks import slow_unless
from sklearn.base import clone
from tasks import (
    CLASSIFICATION,
    KINDS,
    MODES,
    PENALISED,
    assert_same_model,
    fit,
    fitted,
    predictions,
    task,
    weights,
)

from skgnh import GaussNewtonMLPRegressor
from skgnh.objective import Objective
from skgnh.solvers import MFAC, all_solvers
from skgnh.training import FullBatch

EVERY = pytest.mark.parametrize("kind", KINDS)
MOSTLY_SLOW = pytest.mark.parametrize(
    "solver", slow_unless(("auto", "kfac").__contains__, all_solvers())
)
SOLVERS = pytest.mark.parametrize("solver", all_solvers())


# ---- warm start ---------------------------------------------------------------------


@MOSTLY_SLOW
def test_warm_start_goes_on_where_it_stopped(solver):
    for kind in KINDS:
        settings = {"warm_start": True, "solver": solver, "max_iter": 4}
        estimator, X, y = fitted(kind, **settings)
        before, damping = estimator.loss_, estimator.damping_
        fit(estimator, X, y)
        assert estimator.loss_ < before
        assert (np.array(estimator.loss_curve_) <= before).all()
        assert estimator.n_iter_ == len(estimator.loss_curve_) == 4
        assert estimator.history_["damping"][0] == pytest.approx(damping)


@EVERY
def test_warm_start_in_two_halves_equals_one_fit(kind):
    settings = {"solver": "dense", "warm_start": True, "tol": 0}
    halves, X, y = fitted(kind, max_iter=3, **settings)
    fit(halves, X, y)
    whole = fitted(kind, max_iter=6, **settings).estimator
    np.testing.assert_allclose(
        predictions(halves, X), predictions(whole, X), rtol=1e-6, atol=1e-8
    )


def test_warm_start_takes_other_rows_and_parameters():
    estimator, X, y = fitted("multiclass", warm_start=True)
    estimator.set_params(solver="cg", alpha=1.0, batch_size=8)
    fit(estimator, X[:20], y[:20])
    assert estimator.predict(X).shape == y.shape


def test_warm_start_cannot_change_the_layers():
    estimator, X, y = fitted("multiclass", warm_start=True)
    with pytest.raises(ValueError, match=r"\(4, 5, 4, 3\).* cannot go on as"):
        estimator.set_params(hidden_layer_sizes=(5, 3)).fit(X, y)


def test_warm_start_cannot_change_the_activation():
    estimator, X, y = fitted("multiclass", warm_start=True)
    with pytest.raises(ValueError, match="relu"):
        estimator.set_params(activation="relu").fit(X, y)


def test_warm_start_cannot_change_the_data():
    estimator, X, y = fitted("multiclass", warm_start=True)
    with pytest.raises(ValueError, match=r"classes \[40\] that are not among"):
        estimator.fit(X, np.where(y == 30, 40, y))
    with pytest.raises(ValueError, match="X has 3 features"):
        estimator.fit(X[:, :3], y)
    estimator, X, y = fitted("several targets", warm_start=True)
    with pytest.raises(ValueError, match="cannot go on as"):
        estimator.fit(X, y[:, 0])


def test_weights_of_the_last_fit_are_not_overwritten():
    estimator, X, y = fitted("regression", warm_start=True)
    kept = [w.copy() for w in weights(estimator)]
    held = weights(estimator)
    fit(estimator, X, y)
    for a, b in zip(held, kept, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- partial_fit --------------------------------------------------------------------


@EVERY
def test_partial_fit_takes_one_iteration_a_call(kind):
    estimator, X, y = task(kind)
    losses, classes = [], {}
    if kind in CLASSIFICATION:
        classes = {"classes": np.arange(3) if kind == "multilabel" else np.unique(y)}
    for _ in range(8):
        assert estimator.partial_fit(X, y, **classes) is estimator
        assert estimator.n_iter_ == len(estimator.loss_curve_) == 1
        losses.append(estimator.loss_)
        classes = {}
    assert (np.diff(losses) <= 0).all()
    assert losses[-1] < 0.8 * losses[0]


@EVERY
def test_partial_fit_learns_from_blocks_of_rows(kind):
    estimator, X, y = task(kind, n=2000)
    classes = {}
    if kind in CLASSIFICATION:
        classes = {"classes": np.arange(3) if kind == "multilabel" else np.unique(y)}
    losses = []
    for _ in range(4):
        for rows in np.array_split(np.arange(len(X)), 4):
            estimator.partial_fit(X[rows], None if y is None else y[rows], **classes)
            objective, theta = Objective.from_estimator(estimator, X, y)
            losses.append(objective.value(theta))
    assert losses[-1] < 0.8 * losses[0]


def test_partial_fit_needs_the_classes_at_first_only():
    estimator, X, y = task("multiclass")
    with pytest.raises(ValueError, match="first call of partial_fit needs classes"):
        estimator.partial_fit(X, y)
    ten = y == 10
    estimator.partial_fit(X[ten], y[ten], classes=[30, 20, 10])
    np.testing.assert_array_equal(estimator.classes_, [10, 20, 30])
    estimator.partial_fit(X[~ten], y[~ten])
    estimator.partial_fit(X, y, classes=[10, 20, 30])
    with pytest.raises(ValueError, match="differ from those of the first call"):
        estimator.partial_fit(X, y, classes=[10, 20])
    with pytest.raises(ValueError, match=r"classes \[40\] that are not among"):
        estimator.partial_fit(X, np.where(y == 30, 40, y))


def test_partial_fit_of_a_class_at_a_time_takes_weights():
    estimator, X, y = task("multiclass", class_weight={10: 2.0, 20: 1.0, 30: 1.0})
    for label in (10, 20, 30):
        rows = y == label
        w = np.ones(rows.sum())
        estimator.partial_fit(X[rows], y[rows], sample_weight=w, classes=[10, 20, 30])
    assert np.isfinite(estimator.loss_)


def test_partial_fit_goes_on_after_fit():
    for kind in KINDS:
        estimator, X, y = fitted(kind)
        before = estimator.loss_
        estimator.partial_fit(X, y)
        assert estimator.loss_ < before


def test_partial_fit_does_not_stop_early():
    estimator, X, y = task("regression", early_stopping=True)
    estimator.partial_fit(X, y)
    objective, theta = Objective.from_estimator(estimator, X, y)
    assert estimator.loss_ == pytest.approx(objective.value(theta))


# ---- interrupts ---------------------------------------------------------------------


def interrupt_after(monkeypatch, calls, method="linearize"):
    """Let the user press Ctrl-C in the middle of the objective's work."""
    count = iter(range(10**9))
    original = getattr(Objective, method)

    def interrupted(self, *args, **kwargs):
        if next(count) >= calls:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Objective, method, interrupted)


@pytest.mark.parametrize("done", [0, 1, 5])
@EVERY
def test_interrupt_leaves_the_model_so_far(monkeypatch, kind, done):
    estimator, X, y = task(kind)
    interrupt_after(monkeypatch, done)
    with pytest.warns(UserWarning, match="interrupted"):
        estimator.fit(X, y)
    monkeypatch.undo()
    assert estimator.n_iter_ == len(estimator.loss_curve_) == done
    assert np.isfinite(predictions(estimator, X)).all()
    assert np.isfinite(estimator.loss_)
    if done:
        assert_same_model(estimator, fitted(kind, max_iter=done).estimator)
        assert estimator.loss_ == pytest.approx(estimator.loss_curve_[-1])


def test_interrupt_with_early_stopping_leaves_the_best_weights(monkeypatch):
    settings = {"early_stopping": True, "alpha": 0, "n_iter_no_change": 100, "tol": 0}
    whole, X, y = fitted("regression", max_iter=30, **settings)
    best = int(np.argmin(whole.validation_loss_curve_))
    assert best < 25
    estimator = clone(whole)
    interrupt_after(monkeypatch, best + 4)
    with pytest.warns(UserWarning, match="interrupted"):
        estimator.fit(X, y)
    monkeypatch.undo()
    assert_same_model(estimator, whole)


@pytest.mark.parametrize("wider", [False, True])
def test_interrupt_ends_the_growth_as_well(monkeypatch, wider):
    rng = np.random.default_rng(0)
    X = rng.uniform(-3, 3, (400, 2))
    y = np.sin(1.5 * X[:, 0]) * np.cos(1.5 * X[:, 1])
    y += 0.02 * rng.standard_normal(400)
    points = []

    def noted(self, *args):
        points.append(self.network.layer_units[1])
        return linearize(self, *args)

    linearize = Objective.linearize
    monkeypatch.setattr(Objective, "linearize", noted)
    estimator = GaussNewtonMLPRegressor(random_state=0, max_iter=500)
    grown = clone(estimator).fit(X, y)
    monkeypatch.undo()
    first = points.count(points[0])
    assert grown.coefs_[0].shape[1] > points[0]
    interrupt_after(monkeypatch, first + 2 if wider else first // 2)
    with pytest.warns(UserWarning, match="interrupted") as warned:
        estimator.fit(X, y)
    monkeypatch.undo()
    assert sum("interrupted" in str(one.message) for one in warned) == 1
    assert estimator.coefs_[0].shape[1] == points[0]
    assert np.isfinite(estimator.predict(X)).all()
    assert np.isfinite(estimator.log_marginal_likelihood_)


@pytest.mark.parametrize("done", [0, 3])
def test_fit_goes_on_after_an_interrupt(monkeypatch, done):
    estimator, X, y = task("multiclass", warm_start=True, max_iter=5)
    interrupt_after(monkeypatch, done)
    with pytest.warns(UserWarning, match="interrupted"):
        estimator.fit(X, y)
    monkeypatch.undo()
    before = estimator.loss_
    assert fit(estimator, X, y).loss_ < before


# ---- the state that is gone on from --------------------------------------------------


def test_partial_fit_keeps_the_window_of_m_fac():
    settings = {"solver": MFAC(n_gradients=40), **PENALISED}
    estimator, X, y = task("regression", **settings)
    filled = []
    for _ in range(4):
        estimator.partial_fit(X, y)
        filled.append(estimator._state_.carried)
    sizes = [len(pickle.dumps(carried)) for carried in filled]
    assert all(carried is not None for carried in filled)
    # A window of one iteration's gradients would stay as long as it was.
    assert sizes[-1] >= sizes[0]
    assert pickle.dumps(filled[0]) != pickle.dumps(filled[-1])


@pytest.mark.parametrize("kind", ["multiclass", "regression", "autoencoder"])
def test_partial_fit_with_an_integer_seed_draws_other_rows_each_time(kind):
    drawn = []

    class Noted(FullBatch):
        def batches(self, state):
            for batch in super().batches(state):
                drawn.append(batch.curvature)
                yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skgnh.estimators.fit.FullBatch", Noted)
        settings = {"curvature_batch_size": 20, **PENALISED}
        estimator, X, y = task(kind, **settings)
        classes = {"classes": np.unique(y)} if kind == "multiclass" else {}
        for _ in range(4):
            estimator.partial_fit(X, y, **classes)
            classes = {}
    firsts = {tuple(rows) for rows in drawn}
    assert len(firsts) == len(drawn) >= 4


@pytest.mark.parametrize("mode", MODES)
@EVERY
def test_pickled_model_goes_on_as_the_model_itself(kind, mode):
    settings = {"warm_start": True, "max_iter": 3, **MODES[mode]}
    estimator, X, y = fitted(kind, batch_size=20, **settings)
    copy = pickle.loads(pickle.dumps(estimator))
    assert_same_model(fit(copy, X, y), fit(estimator, X, y))
    copy = pickle.loads(pickle.dumps(estimator))
    assert_same_model(copy.partial_fit(X, y), estimator.partial_fit(X, y))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("mode", MODES)
def test_change_of_the_link_is_refused_naming_both(mode, method):
    estimator, X, y = fitted("poisson", warm_start=True, **MODES[mode])
    before = estimator.predict(X)
    other = estimator.set_params(loss="squared_error")
    with pytest.raises(ValueError, match=r"'exp' cannot go on with 'identity'"):
        getattr(other, method)(X, y)
    np.testing.assert_array_equal(estimator.predict(X), before)
    fit(estimator.set_params(warm_start=False), X, y)
    with pytest.raises(ValueError, match=r"'identity' cannot go on with 'exp'"):
        estimator.set_params(loss="poisson", warm_start=True).fit(X, y)


def test_change_of_the_kind_of_labels_is_refused():
    estimator, X, y = fitted("multiclass", warm_start=True)
    two = np.where(y == 30, 20, y)
    fit(estimator, X, two)
    assert estimator.out_activation_ == "softmax"
    with pytest.raises(ValueError, match="of one kind: labels or multilabel"):
        estimator.fit(X, np.eye(3, dtype=int)[np.searchsorted([10, 20, 30], y)])


@pytest.mark.parametrize("standardize", [True, False])
@EVERY
def test_numbers_for_alpha_and_the_evidence_follow_one_another(kind, standardize):
    estimator, X, y = fitted(kind, warm_start=True, standardize=standardize)
    fit(estimator.set_params(alpha="evidence"), X, y)
    assert np.isfinite(estimator.log_marginal_likelihood_)
    fit(estimator.set_params(alpha=1e-3), X, y)
    assert np.isfinite(estimator.loss_)
    assert not hasattr(estimator, "log_marginal_likelihood_")


@EVERY
def test_warm_start_goes_on_with_the_evidence(kind):
    settings = {"warm_start": True, "max_iter": 5, **MODES["evidence"]}
    estimator, X, y = fitted(kind, **settings)
    before = estimator.log_marginal_likelihood_
    for _ in range(3):
        fit(estimator, X, y)
    # The step from the best point is kept before its own evidence is known.
    assert estimator.log_marginal_likelihood_ > before - 0.02 * abs(before)
