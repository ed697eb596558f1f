"""Columns and targets scaled inside: moments, and networks that undo it."""

import numpy as np
import pytest
from scipy import sparse

from skgnh.network import MLP, append_one
from skgnh.scaling import Moments, Scaling


def data(n=40, f=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, f)) * [1e-9, 1.0, 1e9] + [1e-8, 3.0, -1e10]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_moments_are_those_of_numpy(form, weighted):
    X = data()
    X[np.quantile(X, 0.1, axis=0) > X] = 0
    w = np.random.default_rng(1).integers(0, 4, len(X)).astype(float)
    rows = np.repeat(X, w.astype(int), axis=0) if weighted else X
    found = Moments.of(form(X), w if weighted else None)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.deviation, rows.std(axis=0), rtol=1e-8)
    assert found.weight == len(rows)


@pytest.mark.parametrize("size", [1e-160, 1.0, 1e160])
def test_no_column_overflows_and_constants_do_not_vary(size):
    X = np.column_stack([np.full(7, size / 3), size * np.arange(7.0), np.zeros(7)])
    moments = Moments.of(X)
    assert moments.deviation[0] == moments.deviation[2] == 0
    np.testing.assert_allclose(moments.scale, [1, 2 * size, 1], rtol=1e-12)


def test_moments_of_blocks_merge():
    X = data(50)
    merged = Moments.of(X[:9]).merged(Moments.of(X[9:30])).merged(Moments.of(X[30:]))
    whole = Moments.of(X)
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(merged.deviation, whole.deviation, rtol=1e-9)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
def test_folded_networks_take_raw_columns(hidden, centred):
    X, y = data(), data(f=3, seed=2)[:, 1:]
    scaling = Scaling(Moments.of(X), Moments.of(y), centred)
    network = MLP((3, *hidden, 2), ("tanh",) * len(hidden))
    theta = network.initialize(np.random.default_rng(3))
    scaled = network.outputs(theta, append_one(scaling.scale_inputs(X)))
    raw = scaling.fold(network, theta)
    expected = scaling.restore_outputs(scaled)
    spread = y.std(axis=0)
    np.testing.assert_allclose(
        network.outputs(raw, append_one(X)) / spread, expected / spread, atol=1e-9
    )
    np.testing.assert_allclose(scaling.unfold(network, raw), theta, atol=1e-9)


def test_nothing_is_scaled_where_nothing_is_asked_for():
    X, network = data(), MLP((3, 2), ())
    theta = network.initialize(np.random.default_rng(0))
    scaling = Scaling()
    assert scaling.scale_inputs(X) is X
    assert scaling.scale_targets(X) is X
    np.testing.assert_array_equal(scaling.fold(network, theta), theta)
    np.testing.assert_array_equal(scaling.unfold(network, theta), theta)


def test_scaled_columns_have_mean_zero_and_deviation_one():
    X = data()
    Z = Scaling(Moments.of(X)).scale_inputs(X)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(Z.std(axis=0), 1, rtol=1e-12)


def test_the_rounding_of_equal_means_is_no_deviation():
    one, next_to_it = (
        Moments(3.0, np.array([mean]), np.zeros(1)) for mean in (1.0, 1 + 2e-16)
    )
    assert one.merged(next_to_it).deviation > 0
    assert Moments.of_all([one, next_to_it], np.float64).deviation == 0
