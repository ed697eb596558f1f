"""The factorisation against dense solves of the same matrix, and its definiteness."""

import numpy as np
import pytest
from cases import assert_close
from marks import slow_unless
from matrices import (
    PSD,
    digits_hessian,
    kernel,
    low_rank,
    points,
    random_network,
    symmetric,
)
from scipy.linalg import LinAlgError

from skgnh.hmatrix import compress
from skgnh.hmatrix.factor import batched_cholesky
from skgnh.operators import DenseMatrix

ORDERS = ("natural", "angle", "kernel")
# In units of the mean diagonal.
DAMPINGS = (1e2, 1.0, 1e-3, 1e-6, 1e-8, 1e-10)
# Of 70 indices: three levels at least, whose leaves are filled up but for (8, 8).
SIZES = [(1, 1), (1, 4), (3, 4), (4, 8), (8, 8), (5, 16)]
EPS = np.finfo(float).eps


def made(array, **settings):
    return compress(DenseMatrix(array), **settings)


def damped(A, damping):
    P = A.shape[0]
    return symmetric(A @ np.eye(P)) + damping * np.eye(P)


def mean_diagonal(array):
    return np.diag(array).mean() or 1.0


def rounding(condition):
    """Backward error of the factors, of the order eps sqrt(condition)."""
    return 10 * EPS * (1 + np.sqrt(condition))


# ---- solutions -----------------------------------------------------------------------


@pytest.mark.parametrize("global_rank", [0, 4])
@pytest.mark.parametrize(
    ("rank", "leaf_size"),
    slow_unless([(1, 4), (3, 4), (8, 8)].__contains__, SIZES),
)
@pytest.mark.parametrize("name", PSD)
def test_solution_and_determinant_are_those_of_the_dense_matrix(
    name, rank, leaf_size, global_rank
):
    array = PSD[name]()
    A = made(array, rank=rank, leaf_size=leaf_size, global_rank=global_rank)
    rhs = np.random.default_rng(5).standard_normal((70, 3))
    for share in DAMPINGS:
        damping = share * mean_diagonal(array)
        factor, B = A.factor(damping), damped(A, damping)
        condition, norm = np.linalg.cond(B), np.linalg.norm(B, 2)
        x = factor.solve(rhs)
        tol = rounding(condition)
        residual = np.linalg.norm(B @ x - rhs)
        assert residual <= tol * norm * np.linalg.norm(x)
        assert_close(x, np.linalg.solve(B, rhs), rtol=10 * tol * condition)
        sign, expected = np.linalg.slogdet(B)
        assert sign == 1
        answer = factor.logdet()
        assert type(answer) is float
        assert answer == pytest.approx(expected, rel=1e-12, abs=10 * tol * condition)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("P", [64, 65, 100, 127])
def test_leaves_that_are_filled_up_change_nothing(P, order):
    array = kernel("matern", points(P, 2)) + 0.01 * np.eye(P)
    A = made(array, rank=3, leaf_size=8, global_rank=2, order=order)
    assert (np.any(A.index < 0)) == (P != 64)
    for damping in (1e-3, 1.0):
        factor, B = A.factor(damping), damped(A, damping)
        assert_close(factor.solve(np.eye(P)), np.linalg.inv(B), rtol=1e-11)
        assert factor.logdet() == pytest.approx(np.linalg.slogdet(B)[1], rel=1e-12)


def test_filling_that_is_taken_for_a_skeleton_changes_nothing():
    array = kernel("exponential", points(53, 1))
    A = made(array, rank=4, leaf_size=4)
    assert np.any(np.take_along_axis(A.index, A.levels[0].skeleton, axis=1) < 0)
    for damping in (1e-6, 1.0):
        factor, B = A.factor(damping), damped(A, damping)
        assert_close(factor.solve(np.eye(53)), np.linalg.inv(B), rtol=1e-9)
        assert factor.logdet() == pytest.approx(np.linalg.slogdet(B)[1], rel=1e-11)


@pytest.mark.parametrize("global_rank", [0, 3])
def test_right_hand_side_in_the_range_is_solved_to_rounding(global_rank):
    # As a gradient is. What cancels is of the size of any other solution.
    array = low_rank(70, 3)
    A = made(array, rank=3, leaf_size=8, global_rank=global_rank)
    rhs = array @ np.random.default_rng(0).standard_normal(70)
    for share in (1.0, 1e-3, 1e-6):
        damping = share * mean_diagonal(array)
        B = damped(A, damping)
        residual = B @ A.factor(damping).solve(rhs) - rhs
        tol = 10 * EPS * np.linalg.cond(B)
        assert np.linalg.norm(residual) <= tol * np.linalg.norm(rhs)


@pytest.mark.parametrize("P", [5, 70])
@pytest.mark.parametrize("global_rank", [0, 3])
def test_right_hand_sides_keep_their_shape_and_their_values(P, global_rank):
    A = made(low_rank(P, 90), rank=4, leaf_size=8, global_rank=global_rank)
    factor = A.factor(0.5)
    many = np.random.default_rng(0).standard_normal((P, 4))
    given = many.copy()
    x = factor.solve(many)
    assert x.shape == (P, 4)
    for j in range(4):
        assert factor.solve(many[:, j]).shape == (P,)
        assert_close(factor.solve(many[:, j]), x[:, j], rtol=1e-12)
    assert_close(factor.solve(many[:, :1]), x[:, :1], rtol=1e-12)
    assert_close(factor.solve(np.asfortranarray(many)), x, rtol=1e-12)
    np.testing.assert_array_equal(many, given)
    np.testing.assert_array_equal(factor.solve(np.zeros(P)), 0)


def test_factors_of_several_dampings_do_not_disturb_each_other():
    A = made(low_rank(70, 90), rank=4, leaf_size=8, global_rank=2)
    before = A @ np.eye(70)
    factors = {damping: A.factor(damping) for damping in (10.0, 0.1, 1e-4)}
    rhs = np.random.default_rng(0).standard_normal(70)
    for damping, factor in factors.items():
        expected = np.linalg.solve(damped(A, damping), rhs)
        assert_close(factor.solve(rhs), expected, rtol=1e-9)
    np.testing.assert_array_equal(A @ np.eye(70), before)


@pytest.mark.parametrize("order", ORDERS)
def test_network_is_solved(order):
    H = digits_hessian()
    A = compress(H, rank=12, leaf_size=30, global_rank=10, order=order)
    rhs = np.random.default_rng(0).standard_normal(H.shape[0])
    for share in (1.0, 1e-3, 1e-6):
        damping = share * H.diagonal().mean()
        B = damped(A, damping)
        x = A.factor(damping).solve(rhs)
        assert_close(x, np.linalg.solve(B, rhs), rtol=1e-14 * np.linalg.cond(B))


@pytest.mark.parametrize("global_rank", [0, 2])
@pytest.mark.parametrize("P", [20, 150])
def test_float32_stays_float32(P, global_rank):
    array = kernel("matern", points(P, 1)).astype(np.float32)
    A = made(array, rank=8, leaf_size=24, global_rank=global_rank)
    B = damped(A, 0.1).astype(float)
    rhs = np.random.default_rng(0).standard_normal((P, 2)).astype(np.float32)
    for damping in (0.1, np.float64(0.1)):
        factor = A.factor(damping)
        x = factor.solve(rhs)
        assert x.dtype == factor.solve(rhs[:, 0]).dtype == np.float32
        assert_close(x, np.linalg.solve(B, rhs), rtol=1e-3)
        assert factor.logdet() == pytest.approx(np.linalg.slogdet(B)[1], rel=1e-4)


def test_bytes_are_those_of_the_factors():
    A = made(low_rank(64, 80), rank=2, leaf_size=8, global_rank=3)
    nbytes = A.factor(1.0).nbytes
    # The inverse triangle and Z of each node; then those of the global part.
    leaf, pairs = 64 + 8 * 2, 16 + 4 * 2
    numbers = 8 * leaf + (4 + 2) * pairs + 16 + 64 * 3 + 9
    assert nbytes == 8 * numbers
    sizes = [
        made(kernel("exponential", points(P, 1)), rank=4, leaf_size=8).factor(1).nbytes
        for P in (128, 256, 512)
    ]
    assert sizes[2] == pytest.approx(2 * sizes[1], rel=0.05)
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.05)


@pytest.mark.parametrize("P", [5, 70])
@pytest.mark.parametrize("damping", [0.0, -1.0, np.nan, np.inf, "1", None, 1j])
def test_damping_that_is_not_positive_is_refused(P, damping):
    A = made(low_rank(P, 3), rank=2, leaf_size=8)
    with pytest.raises(ValueError, match="damping must be positive and finite, got"):
        A.factor(damping)


@pytest.mark.parametrize("P", [5, 70])
def test_right_hand_side_of_another_shape_or_kind_is_refused(P):
    factor = made(low_rank(P, 3), rank=2, leaf_size=8).factor(1.0)
    wrong = [np.ones(P + 1), np.ones(P - 1), np.ones((1, P)), np.ones((P, 2, 2)), 1.0]
    wrong += [np.ones(P, complex), np.array(["1"] * P), np.array([None] * P)]
    for rhs in wrong:
        with pytest.raises(ValueError, match=rf"of shape \({P},\) or \({P}, k\), got"):
            factor.solve(rhs)


def test_right_hand_sides_may_be_integers_or_a_list():
    factor = made(low_rank(70, 3), rank=2, leaf_size=8).factor(1.0)
    expected = factor.solve(np.ones(70))
    for rhs in (np.ones(70, int), np.ones(70, bool), [1] * 70):
        assert_close(factor.solve(rhs), expected, rtol=1e-14)
    assert factor.solve(np.ones((70, 0))).shape == (70, 0)


# ---- definiteness --------------------------------------------------------------------


SEEDS = {f"{n} to {n + 49}": range(n, n + 50) for n in range(0, 500, 50)}
# Here rounding takes more than a ten-thousandth off a node above the leaves.
SEEDS["hard"] = (3492, 4429)


@pytest.mark.parametrize("name", slow_unless(("0 to 49", "hard").__contains__, SEEDS))
def test_damped_network_is_positive_definite(name):
    shares = (1e2, 1e-3, 1e-7, 1e-10)
    n_levels = []
    for seed in SEEDS[name]:
        rng = np.random.default_rng(seed)
        H = random_network(rng)
        P, mean = H.shape[0], H.diagonal().mean() or 1.0
        leaf_size = int(rng.integers(1, min(8, max(2, P // 4)) + 1))
        A = compress(
            H,
            rank=int(rng.integers(1, leaf_size + 1)),
            leaf_size=leaf_size,
            global_rank=int(rng.integers(0, 4)),
            order=ORDERS[seed % 3],
            random_state=seed,
        )
        n_levels.append(len(A.levels))
        for share in shares:
            factor = A.factor(share * mean)
            x = rng.standard_normal((P, 3))
            assert np.all(np.sum(x * factor.solve(x), axis=0) > 0), (seed, share)
            assert np.isfinite(factor.logdet())
    assert np.mean(np.array(n_levels) >= 3) > 0.7


@pytest.mark.parametrize("length", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("order", ORDERS)
def test_damped_smooth_kernel_is_positive_definite(order, length):
    # Numerically singular in every node.
    array = kernel("gaussian", points(128, 1), length)
    x = np.random.default_rng(0).standard_normal((128, 5))
    for rank, leaf_size in ((2, 4), (4, 32), (8, 16), (16, 32)):
        A = made(array, rank=rank, leaf_size=leaf_size, order=order)
        for share in DAMPINGS:
            assert np.all(np.sum(x * A.factor(share).solve(x), axis=0) > 0)


@pytest.mark.parametrize("seed", range(10))
def test_inverse_of_a_network_in_float32_is_positive(seed):
    rng = np.random.default_rng(seed)
    array = random_network(rng).toarray().astype(np.float32)
    A = made(symmetric(array), rank=3, leaf_size=4, global_rank=2)
    x = rng.standard_normal(len(array)).astype(np.float32)
    for share in (1.0, 1e-3, 1e-6, 1e-10):
        factor = A.factor(share * float(mean_diagonal(array)))
        assert x @ factor.solve(x) > 0


# ---- Cholesky factors ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stack_of_definite_blocks_is_factorised_as_it_is(dtype):
    D = np.stack([low_rank(5, 8, seed) for seed in range(4)]).astype(dtype)
    L = batched_cholesky(D)
    assert L.dtype == dtype
    np.testing.assert_array_equal(L, np.linalg.cholesky(D))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_block_that_rounding_spoils_is_shifted_by_rounding(dtype):
    singular = np.ones((6, 6))
    spoilt = singular - 4 * np.finfo(dtype).eps * np.eye(6)
    definite = low_rank(6, 9)
    zero = np.zeros((6, 6))
    L = batched_cholesky(np.stack([definite, spoilt, singular, zero]).astype(dtype))
    assert L.dtype == dtype
    assert np.all(np.isfinite(L))
    for factor, block in zip(L, (definite, spoilt, singular, zero), strict=True):
        error = np.max(np.abs(factor @ factor.T - block))
        assert error <= 1e3 * np.finfo(dtype).eps * np.max(np.abs(definite))
        assert np.all(np.diag(factor) > 0)


def test_block_that_is_indefinite_is_refused():
    D = np.stack([np.eye(3), np.diag([1.0, 1.0, -0.5])])
    with pytest.raises(LinAlgError, match="not positive"):
        batched_cholesky(D)
