"""Fits of rows in a file: those of rows in memory, without a copy of them."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context

from skgnh import GaussNewtonMLPClassifier, GaussNewtonMLPRegressor

N, F = 1500, 8
SMALL = {"hidden_layer_sizes": (3,), "max_iter": 3, "random_state": 0}
CASES = {
    "a penalty": {"alpha": 1e-3},
    "the evidence": {"alpha": "evidence", "batch_size": 512},
    "early stopping": {"alpha": 1e-3, "early_stopping": True},
    "cg on all rows": {
        "alpha": 1e-3,
        "solver": "cg",
        "batch_size": N,
        "curvature_batch_size": N,
    },
}


def mapped(folder, x, name="x"):
    """The same array in a file, mapped read-only."""
    np.save(folder / f"{name}.npy", x)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def mapped_rows(folder, X):
    if not sparse.issparse(X):
        return mapped(folder, X)
    names = ("data", "indices", "indptr")
    parts = tuple(mapped(folder, getattr(X, name), name) for name in names)
    return sparse.csr_array(parts, shape=X.shape)


@pytest.fixture(params=["dense", "CSR"])
def X(request):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, F))
    if request.param == "CSR":
        X[rng.random((N, F)) < 0.5] = 0
        return sparse.csr_array(X)
    return X


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt", "ignore:batch_size")
def test_a_fit_of_mapped_rows_is_that_in_memory(tmp_path, monkeypatch, X, case):
    y = np.tanh(np.asarray(X[:, [0]].sum(axis=1)).ravel())
    weights = (np.arange(N) % 5 > 0) + 0.5 * (np.arange(N) % 5 == 1)
    model = GaussNewtonMLPRegressor(**SMALL, **CASES[case])
    expected = model.fit(X, y, weights).predict(X)
    # Not by less memory, by which solvers are chosen too.
    monkeypatch.setattr("skgnh.lazy_rows.fits", lambda nbytes: False)
    rows, y = mapped_rows(tmp_path, X), mapped(tmp_path, y, "y")
    found = model.fit(rows, y, weights).predict(rows)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
def test_no_copy_of_the_rows_is_made(tmp_path):
    X = np.random.default_rng(0).standard_normal((6000, 100))
    rows, y = mapped(tmp_path, X), X[:, 0] > 0
    size = X.nbytes
    del X
    model = GaussNewtonMLPClassifier((3,), max_iter=2, alpha=1e-3, random_state=0)
    with config_context(working_memory=0.5):
        tracemalloc.start()
        try:
            model.fit(rows, y).predict_proba(rows)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < size / 2


def test_what_is_not_finite_is_found_in_the_file(tmp_path, X):
    (X.data if sparse.issparse(X) else X)[-1:] = np.nan
    message = "Input X contains NaN"
    with config_context(working_memory=0.5), pytest.raises(ValueError, match=message):
        GaussNewtonMLPRegressor().fit(mapped_rows(tmp_path, X), np.zeros(N))
