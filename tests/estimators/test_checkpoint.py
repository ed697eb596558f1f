"""A fit that was killed goes on from its file as if it had not stopped."""

import multiprocessing
import os
import pickle
import sys
from importlib.util import find_spec
from time import perf_counter

import killed
import numpy as np
import pytest
from sklearn.base import clone
from tasks import (
    DEFAULTS,
    KINDS,
    assert_same_model,
    fit,
    fitted,
    parameters,
    predictions,
    task,
)
from threadpoolctl import threadpool_limits

import skgnh
from skgnh import Checkpoint, GaussNewtonMLPClassifier, GaussNewtonMLPRegressor
from skgnh.estimators.callbacks import WithoutCallbacks
from skgnh.solvers import all_solvers

KILLS = 20


class Killed(Exception):
    """Stands for the end of the process."""


class Dying(Checkpoint):
    """Dies behind the given writing, as a killed process does: nothing more is done."""

    def __init__(self, path, after, every=1):
        super().__init__(path, every)
        self.after = after

    def write(self, record):
        super().write(record)
        self.after -= 1
        if self.after == 0:
            raise Killed


def died(path, estimator, X, y, after, every=1, **more):
    """Fit until the checkpoint has been written so often."""
    estimator = clone(estimator).set_callbacks(Dying(path, after, every))
    with pytest.raises(Killed):
        fit(estimator, X, y, **more)


def assert_goes_on(path, estimator, X, y, after, **more):
    whole = fit(clone(estimator), X, y, **more)
    died(path, estimator, X, y, after, **more)
    resumed = fit(clone(estimator), X, y, resume_from=path, **more)
    assert_same_fit(resumed, whole)
    return whole


def assert_same_fit(one, other):
    assert_same_model(one, other)
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_loss_curve_ == other.validation_loss_curve_
    for name in one.history_.keys() - {"time"}:
        np.testing.assert_array_equal(one.history_[name], other.history_[name])
    states = (each._state_.rng.bit_generator.state for each in (one, other))
    assert next(states) == next(states)


# ---- the path ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [{}, DEFAULTS], ids=["penalised", "evidence"])
def test_a_fit_goes_on_as_if_it_had_not_stopped(tmp_path, kind, mode):
    settings = {"max_iter": 8, "early_stopping": kind == "regression", **mode}
    assert_goes_on(tmp_path / "fit", *task(kind, **settings), after=3)


@pytest.mark.parametrize("solver", all_solvers())
def test_every_solver_goes_on(tmp_path, solver):
    settings = {"solver": solver, "max_iter": 7, "tol": 0}
    assert_goes_on(tmp_path / "fit", *task("multiclass", **settings), after=3)


@pytest.mark.parametrize(
    "settings", [{"batch_size": 25}, {"batch_size": 25, "curvature_batch_size": 10}]
)
def test_batches_go_on(tmp_path, settings):
    estimator, X, y = task("regression", max_iter=7, tol=0, **settings)
    assert_goes_on(tmp_path / "fit", estimator, X, y, after=3)


def test_batches_that_grow_go_on(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2700, 3))
    y = np.sin(X[:, 0]) + rng.standard_normal(2700)
    estimator = GaussNewtonMLPRegressor(
        hidden_layer_sizes=3, alpha=1.0, max_iter=6, tol=0, random_state=0
    )
    for after in (2, 4):
        assert_goes_on(tmp_path / "fit", estimator, X, y, after)


def test_patience_goes_on(tmp_path):
    settings = {"max_iter": 500, "tol": 1e-2, "n_iter_no_change": 6}
    estimator, X, y = task("regression", **settings)
    n_iter = fit(clone(estimator), X, y).n_iter_
    assert_goes_on(tmp_path / "fit", estimator, X, y, after=n_iter - 3)


def test_networks_that_have_grown_are_taken_up_one_after_the_other(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.uniform(-3, 3, (400, 2))
    y = np.sin(1.5 * X[:, 0]) * np.cos(1.5 * X[:, 1])
    y += 0.02 * rng.standard_normal(400)
    estimator = GaussNewtonMLPRegressor(random_state=0, max_iter=500)
    noted = Noted(tmp_path / "whole")
    whole = fit(clone(estimator).set_callbacks(noted), X, y)
    assert whole.coefs_[0].shape[1] > 15
    first, all_ = noted.written[1], sum(noted.written.values())
    for after in (first // 2, (first + all_) // 2):
        died(tmp_path / "fit", estimator, X, y, after)
        noted = Noted(tmp_path / "other")
        resumed = clone(estimator).set_callbacks(noted)
        assert_same_fit(fit(resumed, X, y, resume_from=tmp_path / "fit"), whole)
        # What was trained is not trained again.
        assert sum(noted.written.values()) == all_ - after


class Noted(Checkpoint):
    """Counts writings by how many networks they are of."""

    def __init__(self, path):
        super().__init__(path, every=1)
        self.written = {}

    def write(self, record):
        n = len(record.trainings)
        self.written[n] = self.written.get(n, 0) + 1
        super().write(record)


@pytest.mark.parametrize("seed", [None, "RandomState"])
def test_draws_go_on_without_a_seed(tmp_path, seed):
    settings = {"batch_size": 25, "max_iter": 6, "tol": 0}
    estimator, X, y = task("regression", **settings)

    def model():
        drawn = None if seed is None else np.random.RandomState(3)
        return clone(estimator).set_params(random_state=drawn)

    before = np.random.get_state()  # noqa: NPY002
    whole = fit(model(), X, y)
    np.random.set_state(before)  # noqa: NPY002
    died(tmp_path / "fit", model(), X, y, after=3)
    other = model().set_params(random_state=None)
    assert_same_fit(fit(other, X, y, resume_from=tmp_path / "fit"), whole)


def test_a_warm_start_goes_on_from_what_it_started_from(tmp_path):
    settings = {"warm_start": True, "batch_size": 25, "tol": 0, "max_iter": 5}
    first, X, y = fitted("regression", **settings)
    record = pickle.dumps(first)
    whole = fit(pickle.loads(record), X, y)
    started = pickle.loads(record).set_callbacks(Dying(tmp_path / "fit", after=3))
    with pytest.raises(Killed):
        started.fit(X, y)
    # The model that it started from is gone with the process.
    resumed = fit(clone(first), X, y, resume_from=tmp_path / "fit")
    assert_same_fit(resumed, whole)


def test_a_finished_fit_is_not_done_again(tmp_path):
    estimator, X, y = task("multiclass", **DEFAULTS)
    whole = clone(estimator).set_callbacks(Checkpoint(tmp_path / "fit", every=1000))
    fit(whole, X, y)
    noted = Noted(tmp_path / "other")
    resumed = clone(estimator).set_callbacks(noted)
    assert_same_fit(fit(resumed, X, y, resume_from=tmp_path / "fit"), whole)
    assert sum(noted.written.values()) == 1
    np.testing.assert_array_equal(predictions(resumed, X), predictions(whole, X))


def test_an_interrupted_fit_goes_on(tmp_path, monkeypatch):
    from skgnh.objective import Objective

    estimator, X, y = task("regression", batch_size=25, max_iter=6, tol=0)
    whole = fit(clone(estimator), X, y)
    linearize, calls = Objective.linearize, iter(range(100))

    def interrupted(self, *args):
        if next(calls) == 7:
            raise KeyboardInterrupt
        return linearize(self, *args)

    monkeypatch.setattr(Objective, "linearize", interrupted)
    stopped = clone(estimator).set_callbacks(Checkpoint(tmp_path / "fit", every=2))
    with pytest.warns(UserWarning, match="interrupted"):
        stopped.fit(X, y)
    monkeypatch.undo()
    assert_same_fit(fit(clone(estimator), X, y, resume_from=tmp_path / "fit"), whole)


# ---- killed --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with all modules imported."""
    if os.name == "nt":
        pytest.skip("needs SIGKILL")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    with pytest.MonkeyPatch.context() as patch:
        # Python 3.11 looks for what is to be imported nowhere else.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(name, "1")
        start(context, int).join()
        yield context


def start(processes, target, *args):
    process = processes.Process(target=target, args=args)
    process.start()
    return process


@pytest.mark.parametrize("settings", [{}, DEFAULTS], ids=["penalised", "evidence"])
def test_nothing_is_lost_however_often_the_process_is_killed(
    tmp_path, processes, settings
):
    path, result = str(tmp_path / "fit"), tmp_path / "weights.npy"
    rng = np.random.default_rng(0)
    with threadpool_limits(1):
        whole = killed.long_fit(str(tmp_path / "whole"), **settings)
    # The first is not killed: how long a fit takes, with the start of its process.
    begun = perf_counter()
    first = start(processes, killed.go_on, str(tmp_path / "first"), result, settings)
    first.join()
    most, kills, sizes = perf_counter() - begun, 0, set()
    while kills < KILLS // 2:
        process = start(processes, killed.go_on, path, result, settings)
        process.join(rng.uniform(0.0, 0.5) * most)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            sizes.add(os.path.getsize(path) if os.path.exists(path) else 0)
            continue
        np.testing.assert_array_equal(np.load(result), parameters(whole))
        os.remove(path)
    last = start(processes, killed.go_on, path, result, settings)
    last.join()
    assert last.exitcode == 0
    np.testing.assert_array_equal(np.load(result), parameters(whole))
    # It was killed at different moments.
    assert len(sizes) > 2


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_a_pickled_model_predicts_in_a_process_of_its_own(tmp_path, processes, kind):
    model, X, _ = fitted(kind, **DEFAULTS)
    files = [tmp_path / name for name in ("model", "X.npy", "found.npy")]
    files[0].write_bytes(pickle.dumps(model))
    np.save(files[1], X)
    process = start(processes, killed.predict, *files)
    process.join()
    np.testing.assert_array_equal(np.load(files[2]), model.predict(X))


@pytest.mark.parametrize("kind", ["multiclass", "regression", "autoencoder"])
def test_skops_loads_what_it_has_written(kind):
    io = pytest.importorskip("skops.io")
    model, X, _ = fitted(kind, **DEFAULTS)
    data = io.dumps(model)
    names = io.get_untrusted_types(data=data)
    assert all(name.startswith(("skgnh.", "numpy.", "scipy.")) for name in names)
    loaded = io.loads(data, trusted=names)
    np.testing.assert_array_equal(predictions(loaded, X), predictions(model, X))


# ---- the file ------------------------------------------------------------------------


def test_a_writing_that_is_cut_off_leaves_the_file_before(tmp_path, monkeypatch):
    estimator, X, y = task("regression")
    died(tmp_path / "fit", estimator, X, y, after=2)
    before = (tmp_path / "fit").read_bytes()

    def fails(number):
        raise Killed

    monkeypatch.setattr(os, "fsync", fails)
    died(tmp_path / "fit", estimator, X, y, after=10)
    assert (tmp_path / "fit").read_bytes() == before


def refused(path, estimator, X, y, match, **more):
    with pytest.raises(ValueError, match=match):
        estimator.fit(X, y, resume_from=path, **more)


def test_files_that_are_none_are_refused(tmp_path, monkeypatch):
    estimator, X, y = task("regression")
    path = tmp_path / "fit"
    path.write_bytes(pickle.dumps({"a": 1}))
    refused(path, estimator, X, y, "is no file of a Checkpoint: begin anew")
    path.write_bytes(b"")
    refused(path, estimator, X, y, "is no file of a Checkpoint: begin anew")
    died(path, estimator, X, y, after=2)
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) // 2, 60):
        path.write_bytes(whole[:cut])
        refused(path, estimator, X, y, "is damaged: begin anew|written by version")
    path.write_bytes(whole[:-9] + b"?" + whole[-8:])
    refused(path, estimator, X, y, "is damaged: begin anew")
    path.write_bytes(whole)
    monkeypatch.setattr(skgnh, "__version__", "9.0")
    refused(path, estimator, X, y, "written by version .*, this is .*9.0: resume with")
    with pytest.raises(FileNotFoundError):
        estimator.fit(X, y, resume_from=tmp_path / "none")
    with pytest.raises(TypeError, match="resume_from"):
        estimator.fit(X, y, resume_from=3)


def test_other_fits_are_refused_and_nothing_changes(tmp_path):
    path = tmp_path / "fit"
    estimator, X, y = task("regression")
    w = np.ones(len(X))
    died(path, estimator, X, y, after=2, sample_weight=w)
    more = {"sample_weight": w}
    refused(path, estimator, X[:-1], y[:-1], "X of shape .60, 4., not .59", **more)
    refused(path, estimator, 2 * X, y, "other values of X: resume with", **more)
    refused(path, estimator, X, 2 * y, "other values of y", **more)
    refused(path, estimator, X, y, "other values of sample_weight", sample_weight=2 * w)
    refused(path, estimator, X, y, r"sample_weight of shape \(60,\), not None")
    other = clone(estimator).set_params(alpha=2.0, tol=0.1)
    refused(path, other, X, y, "other parameters: alpha, tol. Set", **more)
    other = GaussNewtonMLPClassifier()
    refused(path, other, X, y > 0, "GaussNewtonMLPRegressor, not of a Gauss", **more)
    assert not estimator.is_fitted
    said = clone(estimator).set_params(verbose=True)
    fit(said, X, y, resume_from=path, **more)


def test_the_file_holds_no_rows(tmp_path):
    def size(n):
        estimator, X, y = task("regression", n=n, max_iter=2)
        fit(estimator.set_callbacks(Checkpoint(tmp_path / "fit")), X, y)
        return (tmp_path / "fit").stat().st_size

    assert abs(size(900) - size(60)) < 500


def test_checkpoints_are_checked(tmp_path):
    with pytest.raises(ValueError, match="lies in no folder"):
        Checkpoint(tmp_path / "none" / "fit")
    with pytest.raises(ValueError, match="every"):
        Checkpoint(tmp_path / "fit", every=0)
    with pytest.raises(TypeError, match="path"):
        Checkpoint(None)
    with pytest.raises(TypeError, match="every"):
        Checkpoint(tmp_path / "fit", every=1.5)


def test_a_checkpoint_is_written_every_so_many_iterations(tmp_path):
    estimator, X, y = task("regression", max_iter=10, tol=0)
    noted = Noted(tmp_path / "fit")
    noted.every = 4
    fit(estimator.set_callbacks(noted), X, y)
    # The fourth, the eighth, and the end.
    assert noted.written == {1: 3}
    estimator.partial_fit(X, y)
    assert noted.written == {1: 3}


def test_releases_without_callbacks_take_a_checkpoint(tmp_path, monkeypatch):
    estimator, X, y = task("regression", max_iter=5)
    for name in ("set_callbacks", "_init_callback_context"):
        stand_in = getattr(WithoutCallbacks, name)
        monkeypatch.setattr(type(estimator), name, stand_in)
    noted = Noted(tmp_path / "fit")
    assert estimator.set_callbacks(noted) is estimator
    whole = fit(estimator, X, y)
    assert noted.written == {1: 6}
    resumed = fit(clone(estimator), X, y, resume_from=tmp_path / "fit")
    assert_same_fit(resumed, whole)
    with pytest.raises(TypeError, match=r"need scikit-learn 1.9"):
        estimator.set_callbacks(print)


@pytest.mark.skipif(
    find_spec("sklearn.callback") is None, reason="callbacks came with 1.9"
)
def test_estimators_of_others_refuse_a_checkpoint(tmp_path):
    from sklearn.linear_model import LogisticRegression

    other = LogisticRegression().set_callbacks(Checkpoint(tmp_path / "fit"))
    with pytest.raises(TypeError, match="LogisticRegression writes no Checkpoint"):
        other.fit([[0.0], [1.0]], [0, 1])
