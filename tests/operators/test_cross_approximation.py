"""Cross approximation against the singular value decomposition."""

import numpy as np
import pytest
from cases import Case, all_cases, assert_close
from matrices import correlated_hessian, digits_hessian
from scipy import sparse
from sklearn import config_context

from skgnh.operators import GaussNewtonHessian, compress_jacobian
from skgnh.operators.cross_approximation import approximate

CASES = [case for case in all_cases() if case.weighted and case.n_hidden in (0, 2)]


class Matrix:
    """An array that counts what is asked of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.asked = 0

    def rows(self, index):
        self.asked += len(index)
        return self.array[index]

    def columns(self, index):
        self.asked += len(index)
        return self.array[:, index]

    def row_norms(self):
        return (self.array**2).sum(axis=1)

    def column_norms(self):
        return (self.array**2).sum(axis=0)


def prescribed(singular_values, m=120, P=90, seed=0):
    rng = np.random.default_rng(seed)
    k = len(singular_values)
    U, V = (np.linalg.qr(rng.standard_normal((size, k)))[0] for size in (m, P))
    return (U * singular_values) @ V.T


def blocks(scale=1.0, outer=6):
    """Two blocks that share no row and no column: a cross of one never leaves it."""
    out = np.zeros((300, 200))
    out[: 300 - outer, : 200 - outer] = prescribed(
        np.geomspace(1, 0.1, 8), 300 - outer, 200 - outer
    )
    out[300 - outer :, 200 - outer :] = scale * prescribed([1.0, 0.5], outer, outer)
    return out


def product(factors):
    U, s, V = factors
    return (U * s) @ V.T


def error_over_svd(array, factors):
    k = len(factors[1])
    tail = np.linalg.svd(array, compute_uv=False)[k:]
    return np.linalg.norm(array - product(factors)) / np.linalg.norm(tail)


def partial_pivoting(array, tol):
    """The textbook's algorithm, which ends at a small cross."""
    R, total, i = array.copy(), 0.0, 0
    while True:
        j = np.argmax(np.abs(R[i]))
        if R[i, j] == 0:
            return array - R
        u, v = R[:, j] / R[i, j], R[i].copy()
        R -= np.outer(u, v)
        total += np.linalg.norm(u) ** 2 * np.linalg.norm(v) ** 2
        if np.linalg.norm(u) * np.linalg.norm(v) <= tol * total**0.5:
            return array - R
        u[i] = 0
        i = np.argmax(np.abs(u))


# ---- known singular values -----------------------------------------------------------

SPECTRA = {
    "geometric": np.geomspace(1, 1e-6, 80),
    "harmonic": 1 / np.arange(1, 81),
    "flat, then small": np.r_[np.ones(6), np.full(60, 1e-3)],
}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("rank", [1, 4, 16, 30])
def test_error_is_within_three_of_the_truncated_svd(spectrum, rank):
    A = prescribed(SPECTRA[spectrum])
    for seed in range(3):
        factors = approximate(Matrix(A), rank, 0.0, np.random.default_rng(seed))
        assert len(factors[1]) == rank
        assert error_over_svd(A, factors) < 3


def test_matrix_of_low_rank_is_recovered_and_its_rank_found():
    A = prescribed(np.geomspace(1, 1e-3, 12))
    U, s, V = approximate(Matrix(A), None, 1e-10, np.random.default_rng(0))
    assert_close(product((U, s, V)), A, rtol=1e-11)
    assert_close(s, np.geomspace(1, 1e-3, 12))
    assert_close(U.T @ U, np.eye(12), rtol=1e-12)
    assert_close(V.T @ V, np.eye(12), rtol=1e-12)
    assert len(approximate(Matrix(A), 50, 0.0, np.random.default_rng(0))[1]) == 12


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("tol", [0.3, 1e-2, 1e-4])
def test_tolerance_is_met_with_few_more_columns_than_needed(spectrum, tol):
    A, values = prescribed(SPECTRA[spectrum]), SPECTRA[spectrum]
    tails = np.sqrt(np.cumsum(values[::-1] ** 2))[::-1]
    needed = np.count_nonzero(tails > tol * tails[0])
    for seed in range(3):
        factors = approximate(Matrix(A), None, tol, np.random.default_rng(seed))
        assert np.linalg.norm(A - product(factors)) <= 1.2 * tol * np.linalg.norm(A)
        assert len(factors[1]) <= 1.3 * needed + 3


def test_only_a_few_rows_and_columns_are_asked_for():
    A = Matrix(prescribed(SPECTRA["geometric"], 2000, 1500))
    approximate(A, 10, 0.0, np.random.default_rng(0))
    crosses = 2 * 10 + 8
    assert A.asked <= 32 + 4 * crosses


def test_wild_scales_of_rows_and_columns_do_not_mislead():
    rng = np.random.default_rng(5)
    A = prescribed(SPECTRA["geometric"])
    A *= 10.0 ** rng.uniform(-4, 4, (len(A), 1))
    A *= 10.0 ** rng.uniform(-4, 4, A.shape[1])
    for rank in (4, 16):
        factors = approximate(Matrix(A), rank, 0.0, np.random.default_rng(0))
        assert error_over_svd(A, factors) < 3


# ---- early stops ---------------------------------------------------------------------


@pytest.mark.parametrize("outer", [2, 6, 100])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_block_that_crosses_never_reach_is_found(scale, outer):
    A = blocks(scale, outer)
    tol = 1e-6
    size = np.linalg.norm(A)
    assert np.linalg.norm(A - partial_pivoting(A, tol)) > 10 * tol * size
    for seed in range(3):
        factors = approximate(Matrix(A), None, tol, np.random.default_rng(seed))
        assert np.linalg.norm(A - product(factors)) <= 1.2 * tol * size


def test_lone_column_in_rows_that_are_known_is_found():
    # The norms of its rows change by its square alone: what tells is its own norm.
    A = prescribed(np.ones(5), 3000, 60)
    A[7, 59] = 1e-4 * np.linalg.norm(A[7])
    A[:7, 59] = A[8:, 59] = 0
    factors = approximate(Matrix(A), None, 1e-7, np.random.default_rng(0))
    assert np.linalg.norm(A - product(factors)) <= 1.2e-7 * np.linalg.norm(A)


def test_lone_row_in_columns_that_are_known_is_found():
    # The norms of its columns change by its square alone, and it is hardly ever drawn.
    A = prescribed(np.ones(5), 3000, 60)
    A[7] = 1e-4 * np.random.default_rng(1).standard_normal(60)
    for seed in range(3):
        factors = approximate(Matrix(A), None, 1e-7, np.random.default_rng(seed))
        assert np.linalg.norm(A - product(factors)) <= 1.2e-7 * np.linalg.norm(A)


def test_rows_whose_norms_tell_nothing_are_found_by_drawing():
    # A fifth of the rows leave the span of the others, by less than their norms show.
    rng = np.random.default_rng(0)
    A = prescribed(np.ones(4), 1000, 80)
    turned = rng.permutation(1000)[:200]
    A[turned] += 1e-4 * rng.standard_normal((200, 1)) * rng.standard_normal(80) / 100
    factors = approximate(Matrix(A), None, 1e-9, np.random.default_rng(0))
    assert np.linalg.norm(A - product(factors)) <= 1.2e-9 * np.linalg.norm(A)


# ---- networks ------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_and_their_norms_equal_the_oracle(case):
    J = case.root()
    index = np.random.default_rng(0).integers(0, len(J), 7)
    norms = (J**2).sum(axis=1)
    for memory in (1024, 1e-3):
        H = case.operator()
        assert_close(H.root.rows(index), J[index])
        with config_context(working_memory=memory):
            assert_close(H.root.row_norms().ravel(), norms)


@pytest.mark.parametrize("case", [Case("tanh", 2, "softmax", True, n=40)], ids=str)
def test_rows_are_made_anew_where_the_lists_do_not_fit(case):
    for probes in (None, 2):
        H = case.operator() if probes is None else case.operator().probe(probes, 0)
        index = np.array([5, 0, 4, 5, 33])
        expected = (H.root @ np.eye(H.shape[0]))[index]
        with config_context(working_memory=2e-3):
            assert H.root._kept is None
            assert_close(H.root.rows(index), expected)
            with pytest.raises(ValueError, match="rows of the Gauss-Newton root"):
                H.root.rows(np.zeros(1000, int))


@pytest.mark.parametrize("make", [digits_hessian, correlated_hessian])
@pytest.mark.parametrize("rank", [4, 16, 40])
def test_root_is_within_three_of_the_truncated_svd(make, rank):
    H = make()
    J = H.root @ np.eye(H.shape[0])
    low = compress_jacobian(H, rank=rank, random_state=0)
    assert error_over_svd(J, (low.left, low.values, low.right)) < 3
    np.testing.assert_array_equal(low.ridge, H.ridge)
    assert np.all(np.diff(low.values) <= 0)


def test_full_rank_is_the_hessian_itself():
    H = Case("tanh", 2, "softmax", weighted=True, n=8).operator()
    low = compress_jacobian(H, tol=1e-13, random_state=0)
    assert_close(low.toarray(), H.toarray(), rtol=1e-11)


@pytest.mark.parametrize("convert", [None, sparse.csr_array])
def test_float32_stays_float32_and_sparse_rows_are_taken(convert):
    H = Case("relu", 1, "softmax", n=40).operator(np.float32, convert)
    low = compress_jacobian(H, tol=1e-3, random_state=0)
    assert low.dtype == low.left.dtype == low.values.dtype == np.float32
    assert_close(low.toarray(), H.toarray(), rtol=5e-3)


def test_same_seed_gives_the_same_factors():
    H = digits_hessian(50)
    first, again, other = (compress_jacobian(H, 8, random_state=k) for k in (0, 0, 1))
    np.testing.assert_array_equal(first.root, again.root)
    assert not np.array_equal(first.root, other.root)


def test_zero_jacobian_leaves_the_ridge():
    H = Case("relu", 1, "squared").operator()
    zero = GaussNewtonHessian(H.linearization, H.loss, 0 * H.weights, H.ridge)
    low = compress_jacobian(zero, rank=3)
    assert low.values.size == 0
    assert_close(low.toarray(), np.diag(H.ridge))
    assert_close(low @ np.ones(H.shape[0]), H.ridge)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Give a rank, a tol above 0, or both"),
        ({"rank": 0}, "rank must be an integer >= 1, got 0"),
        ({"tol": -1.0, "rank": 2}, "tol must be a number of at least 0, below 1"),
        ({"tol": 1.0}, "tol must be a number of at least 0, below 1"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        compress_jacobian(Case().operator(), **settings)


def test_root_that_is_not_finite_and_memory_are_refused():
    H = Case().operator()
    H.theta[0] = np.nan
    with pytest.raises(np.linalg.LinAlgError, match="finite"):
        compress_jacobian(H, rank=2)
    with (
        config_context(working_memory=0.5),
        pytest.raises(ValueError, match="A cross approximation of rank"),
    ):
        compress_jacobian(digits_hessian(200, hidden=(40,)), rank=100)
