"""Sketches by their expectations and bounds, against the oracle's dense root."""

from functools import cache

import numpy as np
import oracles
import pytest
from cases import assert_close
from marks import slow_unless
from scipy import sparse
from scipy.linalg import eigh, hadamard
from sklearn import config_context

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian
from skgnh.operators.sketch import (
    SKETCHES,
    hadamard_transform,
    neuron_costs,
    neuron_sizes,
    sketched_grams,
)

WIDTHS, N = (3, 60, 2), 4
WEIGHTS = np.array([0.1, 0.4, 0.2, 0.3])
DOUBLE = np.dtype(float)


def wide(dtype=np.float64, convert=None, seed=0):
    """The operator of a network far wider than its rows, and theta and X."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, WIDTHS[0]))
    network = MLP(WIDTHS, ("tanh",))
    theta = 0.3 * rng.standard_normal(network.n_parameters)
    inputs = append_one(X.astype(dtype))
    H = GaussNewtonHessian(
        Linearization(
            network, theta.astype(dtype), inputs if convert is None else convert(inputs)
        ),
        LOSSES["softmax"],
        WEIGHTS.astype(dtype),
    )
    return H, theta, X


@cache
def dense_root():
    _, theta, X = wide()
    curvature = oracles.Curvature(theta, X, WIDTHS, ("tanh",), "softmax")
    return curvature.root(WEIGHTS)


def dense_grams():
    J, mask = dense_root(), oracles.weight_mask(WIDTHS).astype(bool)
    return J[:, mask] @ J[:, mask].T, J[:, ~mask] @ J[:, ~mask].T


WAYS = [(t, a) for t in SKETCHES for a in ("neurons", "parameters")]


@pytest.mark.parametrize("size", [1, 2, 64, 128, 1024])
def test_fast_hadamard_transform_is_the_matrix(size):
    A = np.random.default_rng(0).standard_normal((3, size))
    given = A.copy()
    assert_close(hadamard_transform(A), A @ hadamard(size), rtol=1e-12)
    np.testing.assert_array_equal(A, given)


@pytest.mark.parametrize("transform", SKETCHES)
@pytest.mark.parametrize("n_columns", [30, 32])
def test_sketch_is_linear_and_keeps_inner_products_on_average(transform, n_columns):
    total, draws, size = 0, 1000, 8
    for seed in range(draws):
        sketch = SKETCHES[transform](
            n_columns, size, np.random.default_rng(seed), DOUBLE
        )
        S = sketch(np.eye(n_columns))
        total += S @ S.T / draws
    # An entry off the diagonal has the variance 1 / size: six deviations.
    assert np.abs(total - np.eye(n_columns)).max() < 6 / np.sqrt(size * draws)
    # More rows than a batch of the cache.
    A = np.random.default_rng(1).standard_normal((9000, n_columns))
    assert S.shape == (n_columns, size)
    assert_close(sketch(A), A @ S, rtol=1e-12)


def test_hadamard_sketch_of_all_columns_loses_nothing():
    A = np.random.default_rng(0).standard_normal((5, 50))
    sketch = SKETCHES["srht"](50, 64, np.random.default_rng(0), DOUBLE)
    assert_close(sketch(A) @ sketch(A).T, A @ A.T, rtol=1e-12)


@pytest.mark.parametrize(
    ("transform", "along"), slow_unless(("srht", "neurons").__eq__, WAYS)
)
def test_sketched_grams_equal_the_oracle_on_average(transform, along):
    root, draws = wide()[0].root, 600
    draw = [
        sketched_grams(root, transform, 2.0, along, np.random.default_rng(seed))
        for seed in range(draws)
    ]
    for k, exact in enumerate(dense_grams()):
        values = np.array([pair[k] for pair in draw])
        spread = values.std(axis=0)
        error = np.abs(values.mean(axis=0) - exact)
        assert (error <= 5 * spread / np.sqrt(draws) + 1e-12).all()
        scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
        # The sketch is used, and within its bound: two sides, 16 rows of it.
        assert 0.01 < (spread / scale).max() < 1


@pytest.mark.parametrize(("transform", "along"), WAYS)
def test_sketch_as_large_as_the_root_is_exact(transform, along):
    root = wide()[0].root
    for answer, exact in zip(
        sketched_grams(root, transform, 1e3, along, np.random.default_rng(0)),
        dense_grams(),
        strict=True,
    ):
        assert_close(answer, exact)


@pytest.mark.parametrize(("transform", "along"), WAYS)
def test_preconditioned_spectrum_is_bounded(transform, along):
    rng = np.random.default_rng(0)
    network = MLP((20, 2000, 1), ("relu",))
    H = GaussNewtonHessian(
        Linearization(
            network, network.initialize(rng), append_one(rng.standard_normal((24, 20)))
        ),
        LOSSES["identity"],
        np.ones(24),
    )
    exact = H.gram()
    for seed in range(5):
        weights, biases = sketched_grams(
            H.root, transform, 8.0, along, np.random.default_rng(seed)
        )
        values = eigh(exact, weights + biases, eigvals_only=True)
        # (1 +- sqrt(1/8))^2 are 0.42 and 1.83, the inverse of which is the spectrum.
        assert 0.3 < values[0] < values[-1] < 5


@pytest.mark.parametrize(("transform", "along"), WAYS)
def test_sketch_keeps_the_precision_and_takes_sparse_rows(transform, along):
    def grams(**kwargs):
        rng = np.random.default_rng(0)
        return sketched_grams(wide(**kwargs)[0].root, transform, 2.0, along, rng)

    expected = grams()
    for single, sparse_, double in zip(
        grams(dtype=np.float32), grams(convert=sparse.csr_array), expected, strict=True
    ):
        assert single.dtype == np.float32
        assert_close(single, double, rtol=1e-5)
        assert_close(sparse_, double, rtol=1e-12)


@pytest.mark.parametrize("along", ["neurons", "parameters"])
def test_sketch_refuses_what_exceeds_the_working_memory(along):
    root = wide()[0].root
    with (
        config_context(working_memory=1e-3),
        pytest.raises(ValueError, match="sketched Gram matrix of 4 rows and 2 outputs"),
    ):
        sketched_grams(root, "srht", 2.0, along, np.random.default_rng(0))


def test_only_the_side_that_gains_is_sketched():
    # 10 rows of 2 outputs: 40 rows of sketch.
    sizes = list(neuron_sizes(((500, 4), (2, 501), (3, 4)), 10, 2, 2.0))
    saved = [400 * (500 - 10), 100 * (500 - 20), 0]
    assert sizes == [
        (None, 10, saved[0]),
        (20, None, saved[1]),
        (None, None, saved[2]),
    ]
    kept = 20 * (60 + (4 + 10) + (20 + 2) + (4 + 3))
    assert neuron_costs(((500, 4), (2, 501), (3, 4)), 10, 2, 2.0) == (kept, sum(saved))
