"""Fits of dask collections: those in memory, whatever becomes of a worker."""

import os
import signal

import joblib
import numpy as np
import pytest

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

from scipy import sparse  # noqa: E402
from scripts import imported  # noqa: E402

from skgnh import (  # noqa: E402
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.block_objective import BlockHessian, BlockObjective  # noqa: E402
from skgnh.blocks import Blocks, each  # noqa: E402
from skgnh.progress import in_parallel  # noqa: E402
from skgnh.solvers import CG, KFAC  # noqa: E402

N, BLOCK = 700, 300
SMALL = {"hidden_layer_sizes": (3,), "max_iter": 3, "random_state": 0}
ALL = {"alpha": 1e-3, "batch_size": N, "curvature_batch_size": N}
CASES = {
    "rows drawn for the curvature": {"alpha": 1e-3, "curvature_batch_size": 100},
    "the default, all rows": ALL,
    "dense, all rows": {**ALL, "solver": "dense"},
    "cg, all rows": {**ALL, "solver": CG(max_iter=4)},
    "kfac, all rows": {**ALL, "solver": KFAC(n_probes=1)},
    "exact Hessian": {**ALL, "solver": "exact_hessian"},
    "batches": {"alpha": 1e-3, "batch_size": 350, "solver": "kfac"},
    "the evidence": {},
    "the evidence, kfac": {"solver": "kfac"},
    "early stopping": {"alpha": 1e-3, "early_stopping": True},
}
pytestmark = [
    pytest.mark.extra,
    pytest.mark.filterwarnings("ignore:Levenberg-Marquardt"),
]


@pytest.fixture(autouse=True)
def one_thread():
    """No threads unless a test starts workers."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def data():
    X = np.random.default_rng(0).standard_normal((N, 4))
    return X, np.tanh(X[:, 0] + X[:, 1])


def in_blocks(*arrays):
    return [da.from_array(x, chunks=(BLOCK, *x.shape[1:])) for x in arrays]


def told(model):
    """What a fit has learned, and how it has fared."""
    curves = model.loss_curve_, model.validation_loss_curve_, model.validation_scores_
    return *model.coefs_, *(np.array(curve) for curve in curves if curve is not None)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("head", [GaussNewtonMLPRegressor, GaussNewtonMLPClassifier])
def test_a_fit_of_blocks_is_that_in_memory(monkeypatch, data, head, case):
    X, y = data
    weights = 1.0 + (np.arange(N) % 5 > 0)
    if case == "early stopping":
        weights *= np.arange(N) % 3 > 0
    y = y if head is GaussNewtonMLPRegressor else np.digitize(y, [-0.5, 0.5])
    model = head(**SMALL, **CASES[case])
    expected = told(model.fit(X, y, weights))
    # No product is so cheap that its rows would be fetched.
    monkeypatch.setattr("skgnh.block_objective._TASK", 0)
    found = told(model.fit(*in_blocks(X, y, weights)))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("task", [0, 1e6], ids=["in blocks", "fetched"])
def test_growing_batches_are_those_in_memory(monkeypatch, task):
    monkeypatch.setattr("skgnh.block_objective._TASK", task)
    X = np.random.default_rng(0).standard_normal((2600, 3))
    y = np.tanh(X[:, 0] + X[:, 1])
    model = GaussNewtonMLPRegressor(**{**SMALL, "max_iter": 1}, alpha=1e-3)
    expected = model.fit(X, y).coefs_
    found = model.fit(*(da.from_array(x, chunks=1000) for x in (X, y))).coefs_
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


CODES = {
    "PCA start": {},
    "random start": {"init": "ntk"},
    "early stopping": {"alpha": 1e-3, "early_stopping": True},
}


@pytest.mark.parametrize("case", CODES)
def test_an_autoencoder_of_blocks_is_that_in_memory(monkeypatch, data, case):
    monkeypatch.setattr("skgnh.estimators.candidates._TRIAL", 2)
    X = data[0] @ np.random.default_rng(1).standard_normal((4, 6))
    weights = 1.0 + (np.arange(N) % 5 > 0)
    model = GaussNewtonAutoencoder((3, 2), max_iter=3, random_state=0, **CODES[case])
    expected = told(model.fit(X, sample_weight=weights))
    scores = model.score(X, sample_weight=weights)
    monkeypatch.setattr("skgnh.block_objective._TASK", 0)
    rows, weights = in_blocks(X, weights)
    found = told(model.fit(rows, sample_weight=weights))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    assert model.score(rows, sample_weight=weights) == pytest.approx(scores, abs=1e-10)


@pytest.mark.parametrize("head", [GaussNewtonMLPRegressor, GaussNewtonAutoencoder])
def test_rows_held_out_may_be_blocks(data, head):
    X, y = data
    rows, target = in_blocks(X, y)
    sizes = {"hidden_layer_sizes": (3,)}, {"encoder_layer_sizes": (2,)}
    needs_targets = head is GaussNewtonMLPRegressor
    model = head(**sizes[not needs_targets], alpha=1e-3, max_iter=2, random_state=0)
    held = {"X_val": X[:350]} | ({"y_val": y[:350]} if needs_targets else {})
    expected = told(model.fit(X, y, **held))
    held = {"X_val": rows[:350]} | ({"y_val": target[:350]} if needs_targets else {})
    found = told(model.fit(rows, target, **held))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_an_autoencoder_fetches_no_rows(monkeypatch, data):
    fetched, get = [], Blocks.__getitem__

    def watched(self, rows):
        some = get(self, rows)
        fetched.append(some.shape[0])
        return some

    monkeypatch.setattr(Blocks, "__getitem__", watched)
    monkeypatch.setattr("skgnh.block_objective._TASK", 0)
    model = GaussNewtonAutoencoder((3, 2), max_iter=2, alpha=1e-3, random_state=0)
    model.fit(*in_blocks(data[0]))
    assert sum(fetched) == 1  # to see what they are like


def found_by(model, name, X, **options):
    found = getattr(model, name)(X, **options)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize(
    ("head", "calls"),
    [
        (
            GaussNewtonMLPClassifier,
            {
                "predict": {},
                "predict_proba": {},
                "predict_log_proba": {},
                "decision_function": {},
                "transform": {},
            },
        ),
        (
            GaussNewtonMLPRegressor,
            {"predict": {"return_std": True}, "predict_interval": {}, "transform": {}},
        ),
        (
            GaussNewtonAutoencoder,
            {
                "predict": {},
                "transform": {},
                "inverse_transform": {},
                "score_samples": {},
            },
        ),
    ],
)
def test_predictions_are_lazy_and_of_the_same_blocks(data, head, calls):
    X, y = data
    X = X[:, :3]
    sizes = {} if head is GaussNewtonAutoencoder else {"hidden_layer_sizes": (3,)}
    model = head(**sizes, max_iter=3, random_state=0)
    if head is GaussNewtonAutoencoder:
        model.set_params(encoder_layer_sizes=(3,))
    model.fit(X, y > 0 if head is GaussNewtonMLPClassifier else y)
    (rows,) = in_blocks(X)
    for name, options in calls.items():
        expected = found_by(model, name, X, **options)
        for a, b in zip(found_by(model, name, rows, **options), expected, strict=True):
            assert isinstance(a, da.Array)
            assert a.chunks[0] == rows.chunks[0]
            assert a.shape == b.shape
            np.testing.assert_array_equal(a.compute(), b)


def test_features_are_not_gathered_in_a_frame(data):
    X, y = data
    model = GaussNewtonMLPRegressor(**SMALL, alpha=1e-3).fit(X, y)
    with pytest.raises(ValueError, match="set_output"):
        model.set_output(transform="pandas").transform(*in_blocks(X))


def test_a_dataframe_gives_names_and_a_series_with_its_index(data):
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    X, y = data
    frame = pd.DataFrame(X, columns=list("abcd"))
    rows, target = (dd.from_pandas(x, npartitions=3) for x in (frame, pd.Series(y)))
    model = GaussNewtonMLPRegressor(**SMALL, **CASES["dense, all rows"])
    expected = model.fit(frame, y).predict(frame)
    found = model.fit(rows, target).predict(rows)
    assert list(model.feature_names_in_) == list("abcd")
    assert isinstance(found, dd.Series)
    np.testing.assert_allclose(found.compute(), expected, atol=1e-10)
    assert found.compute().index.equals(frame.index)


def test_curvature_of_all_rows_is_a_sum_over_blocks(monkeypatch, data):
    kinds, linearize = set(), BlockObjective.linearize

    def watched(self, *args):
        made = linearize(self, *args)
        kinds.add(type(made[2]))
        return made

    monkeypatch.setattr(BlockObjective, "linearize", watched)
    X, y = in_blocks(*data)
    GaussNewtonMLPRegressor(**SMALL, **CASES["cg, all rows"]).fit(X, y)
    assert kinds == {BlockHessian}


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array], ids=["dense", "CSR"])
def test_rows_are_fetched_in_the_order_asked_for(make):
    whole = np.arange(30.0).reshape(10, 3)
    blocks = Blocks([each(make, whole[k : k + 4]) for k in (0, 4, 8)])
    some = np.array([9, 0, 5, 5, 2])
    for rows in (some, slice(2, 7), np.arange(10) > 6, some[:0]):
        found = blocks[rows]
        found = found.toarray() if sparse.issparse(found) else found
        np.testing.assert_array_equal(found, whole[rows])


def test_what_is_not_finite_is_found_in_its_block(data):
    X, y = data
    X[-1, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        GaussNewtonMLPRegressor().fit(*in_blocks(X, y))


def test_what_takes_no_collection_says_so(data):
    X, y = in_blocks(*data)
    with pytest.raises(TypeError, match="dask"):
        GaussNewtonMLPRegressor().partial_fit(X, y)


@pytest.fixture(scope="module")
def client():
    """Two workers, which take some seconds to start."""
    with (
        dask.config.set(scheduler=None),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def workers(client):
    with client.as_current(), dask.config.set(scheduler="dask.distributed"):
        yield client


def test_what_joblib_does_in_parallel_may_be_done_by_the_workers(workers):
    with joblib.parallel_config("dask", n_jobs=2, client=workers):
        found = dict(in_parallel(lambda k: (k, os.getpid()), [5, 6, 7]))
    numbers, pids = zip(*(found[k] for k in range(3)), strict=True)
    assert numbers == (5, 6, 7)
    assert set(pids) <= set(workers.run(os.getpid).values())


def test_the_benchmark_counts_tasks_and_round_trips(workers):
    with imported("defaults", "dask_blocks") as scripts:
        made = scripts.dask_blocks
        workers.register_plugin(made.Tasks())
        case = made.QUICK["overhead"]
        found = made.over_blocks("overhead", case, 3, 1, workers)
        assert found["round trips"] >= 2
        # A term of each block and a sum.
        assert found["tasks"] >= 4 * found["round trips"]
        line = [{"round trips": k, "tasks": 9 - k} for k in (1, 2)]
        for record, seconds in zip(line, (0.025, 0.023), strict=True):
            record["of scheduler's CPU"] = seconds
        trip, task = made.overhead(line)
        assert (trip, task) == pytest.approx((1.0, 3.0))
        assert made.on_paper(trip, task, 2) == pytest.approx(6.9, rel=0.01)


def test_a_worker_that_dies_loses_nothing(monkeypatch, workers, data):
    X, y = data
    model = GaussNewtonMLPRegressor(**SMALL, **CASES["kfac, all rows"])
    expected = model.fit(X, y).coefs_
    pids, calls = workers.run(os.getpid), []
    dead, value = next(iter(pids.values())), BlockObjective._value_and_gradient

    def deadly(self, *args):
        calls.append(args)
        if len(calls) == 3:
            os.kill(dead, signal.SIGKILL)
        return value(self, *args)

    monkeypatch.setattr(BlockObjective, "_value_and_gradient", deadly)
    found = model.fit(*in_blocks(X, y)).coefs_
    assert dead not in workers.run(os.getpid).values()
    assert len(calls) > 3
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
