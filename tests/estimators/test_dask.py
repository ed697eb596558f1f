"""Fits of dask collections: those in memory, whatever becomes of a worker."""

import os
import signal

import numpy as np
import pytest

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

from scipy import sparse  # noqa: E402

from skgnh import (  # noqa: E402
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.block_objective import BlockHessian, BlockObjective  # noqa: E402
from skgnh.blocks import Blocks, each  # noqa: E402

N, BLOCK = 700, 200
SMALL = {"hidden_layer_sizes": (3,), "max_iter": 3, "random_state": 0}
ALL = {"alpha": 1e-3, "batch_size": N, "curvature_batch_size": N}
CASES = {
    "rows fetched for the curvature": {"alpha": 1e-3, "curvature_batch_size": 100},
    "dense, all rows": {**ALL, "solver": "dense"},
    "cg, all rows": {**ALL, "solver": "cg"},
    "the evidence": {},
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


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("head", [GaussNewtonMLPRegressor, GaussNewtonMLPClassifier])
def test_a_fit_of_blocks_is_that_in_memory(monkeypatch, data, head, case):
    X, y = data
    weights = 1.0 + (np.arange(N) % 5 > 0)
    if case == "early stopping":
        weights *= np.arange(N) % 3 > 0
    y = y if head is GaussNewtonMLPRegressor else y > 0
    model = head(**SMALL, **CASES[case])
    expected = model.fit(X, y, weights).coefs_
    if case == "early stopping":  # no part of the rows is fetched
        monkeypatch.setattr("skgnh.lazy_rows.fits", lambda nbytes: False)
    found = model.fit(*in_blocks(X, y, weights)).coefs_
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_predictions_are_lazy_and_of_the_same_blocks(data):
    X, y = data
    (rows,) = in_blocks(X)
    model = GaussNewtonMLPClassifier(**SMALL, alpha=1e-3).fit(X, y > 0)
    for name in ("predict", "predict_proba", "decision_function"):
        found = getattr(model, name)(rows)
        assert isinstance(found, da.Array)
        assert found.chunks[0] == rows.chunks[0]
        np.testing.assert_array_equal(found.compute(), getattr(model, name)(X))


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
        GaussNewtonAutoencoder().fit(X)
    with pytest.raises(TypeError, match="dask"):
        GaussNewtonMLPRegressor().partial_fit(X, y)


def test_a_worker_that_dies_loses_nothing(monkeypatch, data):
    X, y = data
    model = GaussNewtonMLPRegressor(**SMALL, **CASES["cg, all rows"])
    expected = model.fit(X, y).coefs_
    value, calls = BlockObjective.value, []

    with (
        dask.config.set(scheduler=None),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = client.run(os.getpid)

        def deadly(self, *args):
            calls.append(args)
            if len(calls) == 3:
                os.kill(next(iter(pids.values())), signal.SIGKILL)
            return value(self, *args)

        monkeypatch.setattr(BlockObjective, "value", deadly)
        found = model.fit(*in_blocks(X, y)).coefs_
        assert set(client.run(os.getpid).values()) != set(pids.values())
    assert len(calls) > 3
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
