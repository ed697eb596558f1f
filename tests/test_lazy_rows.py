"""Lazy rows are the rows of an array, whatever is asked of them."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn import config_context

from skgnh.lazy_rows import LazyRows, is_mapped, is_sparse, lazily, release
from skgnh.linearization import Linearization
from skgnh.network import MLP, append_one
from skgnh.scaling import Moments, Scaling

N = 40
CHOICES = [
    slice(3, 17),
    slice(None, None, 7),
    np.array([5, 2, 2, 39]),
    np.arange(N) % 3 == 0,
]


@pytest.fixture(params=["dense", "CSR"])
def X(request):
    made = np.random.default_rng(0).standard_normal((N, 3)) + 5
    made[:, 2] = 7
    return made if request.param == "dense" else sparse.csr_array(made)


def dense(rows):
    return rows.toarray() if sparse.issparse(rows) else rows


@pytest.mark.parametrize("rows", CHOICES, ids=["slice", "strided", "index", "mask"])
def test_rows_are_scaled_and_have_their_ones_bit_for_bit(X, rows):
    scaling = Scaling(Moments.of(X), centred=not sparse.issparse(X))
    whole = append_one(scaling.scale_inputs(X)).astype(np.float32)
    lazy = append_one(scaling.scale_inputs(LazyRows(X))).astype(np.float32)
    assert lazy.shape == whole.shape
    assert lazy.dtype == whole.dtype
    assert is_sparse(lazy) == sparse.issparse(X)
    assert_array_equal(dense(lazy[rows]), dense(whole[rows]))


def test_a_choice_too_large_to_hold_is_as_lazy_and_can_be_chosen_from(X):
    lazy, odd = LazyRows(X), np.arange(1, N, 2)
    with config_context(working_memory=1e-9):
        some = lazy[odd]
    assert isinstance(some, LazyRows)
    assert_array_equal(dense(some[3:5]), dense(X)[[7, 9]])
    assert_array_equal(dense(some[[0, -1]]), dense(X)[[1, 39]])


def test_rows_are_lazy_only_where_copies_do_not_fit(X):
    assert lazily(X) is X
    with config_context(working_memory=1e-9):
        assert isinstance(lazily(X), LazyRows)


def test_forward_passes_of_lazy_rows_are_the_same_and_not_kept(X):
    network = MLP((3, 4, 2), ("tanh",))
    theta = network.initialize(np.random.default_rng(0))
    lazy = Linearization(network, theta, append_one(LazyRows(X)))
    held = Linearization(network, theta, append_one(X))
    assert lazy.kept is None
    assert held.kept is not None
    assert_array_equal(lazy.output(slice(0, N)), held.output(slice(0, N)))


def test_moments_of_parts_are_those_of_all_and_constants_stay_constant(X):
    weights = np.random.default_rng(1).uniform(0.1, 1, N)
    whole = Moments.of(X, weights)
    with config_context(working_memory=300 / 2**20):  # four dense rows
        parts = Moments.of(LazyRows(X), weights)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(parts.deviation, whole.deviation, rtol=1e-13)
    assert parts.deviation[2] == 0


@pytest.mark.parametrize("mode", ["r+", "c"])
def test_what_is_written_to_a_mapped_array_outlives_the_release(tmp_path, mode):
    np.save(tmp_path / "X.npy", np.zeros((N, 3)))
    X = np.load(tmp_path / "X.npy", mmap_mode=mode)
    view = np.asarray(X)[2:]
    assert is_mapped(view)
    assert not is_mapped(np.zeros(3))
    view[0] = 1
    release(view)
    assert (X[2] == 1).all()


def test_rows_far_apart_in_a_file_are_picked_in_parts(tmp_path, monkeypatch, X):
    monkeypatch.setattr("skgnh.lazy_rows._SPAN", 100)
    whole = dense(X)
    np.save(tmp_path / "X.npy", X.data if sparse.issparse(X) else X)
    x = np.load(tmp_path / "X.npy", mmap_mode="r")
    if sparse.issparse(X):
        x = sparse.csr_array((x, X.indices, X.indptr), shape=X.shape)
    index = np.arange(N)[::-2]
    assert_array_equal(dense(LazyRows(x)[index]), whole[index])
    assert_array_equal(dense(LazyRows(x)[::7]), whole[::7])
    assert LazyRows(x)[index[:0]].shape == (0, 3)
