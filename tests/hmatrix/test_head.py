"""Indices that are kept out of the tree, against the definition by dense matrices."""

import numpy as np
import pytest
from cases import assert_close
from matrices import PSD, digits_hessian, kernel, low_rank, points, symmetric
from scipy.sparse.linalg import aslinearoperator
from sklearn import config_context

from skgnh.hmatrix import compress
from skgnh.linalg import PrincipalSubmatrix
from skgnh.operators import DenseMatrix

ORDERS = ("natural", "diagonal", "angle", "kernel")
SIZES = [(0, 1), (0, 4), (1, 4), (3, 4), (5, 16)]
SETTINGS = {"rank": 3, "leaf_size": 8}


def made(array, **settings):
    return compress(DenseMatrix(array), **settings)


def dense(A):
    return A @ np.eye(A.shape[0], dtype=A.dtype)


def growing(P, k):
    """A matrix of rank k, and more, whose diagonal differs."""
    scale = np.random.default_rng(1).uniform(0.1, 3, P)
    return (low_rank(P, k) + 0.1 * np.eye(P)) * np.outer(scale, scale)


def largest_left(array, A, size):
    left = np.diag(array) - np.sum(A.low**2, axis=1)
    return np.sort(np.argsort(-left)[:size])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("global_rank", [0, 4])
@pytest.mark.parametrize("head_size", [1, 9, 40, 69])
def test_head_is_the_block_of_the_largest_diagonal(head_size, global_rank, order):
    array = growing(70, 20)
    settings = {"global_rank": global_rank, "order": order, **SETTINGS}
    A = made(array, head_size=head_size, **settings)
    S = largest_left(array, A, head_size)
    np.testing.assert_array_equal(A.head.index, S)
    F = np.delete(np.arange(70), S)
    remainder, answer = array - A.low @ A.low.T, dense(A) - A.low @ A.low.T
    assert_close(answer[np.ix_(S, S)], remainder[np.ix_(S, S)], rtol=1e-12)
    np.testing.assert_allclose(answer[np.ix_(S, F)], 0, atol=1e-13 * array.max())
    np.testing.assert_array_equal(np.sort(A.index[A.index >= 0]), F)
    for leaf in A.index:
        block = np.ix_(leaf[leaf >= 0], leaf[leaf >= 0])
        np.testing.assert_allclose(answer[block], remainder[block], atol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("source", ["entries", "products"])
def test_others_are_compressed_as_their_own_matrix_is(source, order):
    array = growing(90, 5)
    settings = {"order": order, "source": source, **SETTINGS}
    A = made(array, head_size=26, **settings)
    F = np.delete(np.arange(90), A.head.index)
    alone = made(array[np.ix_(F, F)], **settings)
    assert len(A.levels) == len(alone.levels) == 3
    answer = dense(A)[np.ix_(F, F)]
    assert_close(answer, dense(alone), rtol=1e-11 if source == "entries" else 1e-6)


@pytest.mark.parametrize(("rank", "leaf_size"), SIZES)
@pytest.mark.parametrize("global_rank", [0, 4])
@pytest.mark.parametrize("name", PSD)
def test_solution_and_determinant_are_those_of_the_dense_matrix(
    name, global_rank, rank, leaf_size
):
    array = PSD[name]()
    settings = {"rank": rank, "leaf_size": leaf_size, "global_rank": global_rank}
    A = made(array, head_size=20, **settings)
    answer = dense(A)
    eigenvalues = np.linalg.eigvalsh(symmetric(answer))
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]
    rhs = np.random.default_rng(5).standard_normal((70, 3))
    for share in (1e2, 1.0, 1e-3, 1e-6):
        damping = share * (np.diag(array).mean() or 1.0)
        B = symmetric(answer) + damping * np.eye(70)
        condition = np.linalg.cond(B)
        factor = A.factor(damping)
        x, rtol = factor.solve(rhs), 1e-13 * condition * (1 + condition**0.5)
        assert_close(x, np.linalg.solve(B, rhs), rtol=rtol)
        assert_close(factor.solve(rhs[:, 0]), x[:, 0], rtol=1e-12 * condition)
        expected = np.linalg.slogdet(B)[1]
        assert factor.logdet() == pytest.approx(expected, rel=1e-12, abs=rtol)


@pytest.mark.parametrize("damping", [1e-10, 1e-4])
def test_singular_head_is_positive_definite_with_a_damping(damping):
    array = low_rank(70, 2)
    factor = made(array, head_size=30, **SETTINGS).factor(damping)
    X = np.random.default_rng(0).standard_normal((70, 20))
    assert np.all(np.sum(X * factor.solve(X), axis=0) > 0)


@pytest.mark.parametrize("head_size", [70, 100])
def test_head_of_all_indices_is_exact(head_size):
    array = growing(70, 20)
    A = made(array, head_size=head_size, global_rank=3, **SETTINGS)
    assert_close(dense(A), array, rtol=1e-13)


def test_few_others_are_one_leaf():
    array = growing(70, 20)
    A = made(array, head_size=65, **SETTINGS)
    assert A.levels == []
    assert A.index.shape == (1, 5)
    F = A.index[0]
    assert_close(dense(A)[np.ix_(F, F)], array[np.ix_(F, F)], rtol=1e-13)


def test_network_is_compressed_as_its_array_is():
    H = digits_hessian(60, (5,))
    settings = {"head_size": 40, "global_rank": 4, **SETTINGS}
    A, expected = compress(H, **settings), made(H.toarray(), **settings)
    assert_close(dense(A), dense(expected), rtol=1e-9)


def test_bytes_count_a_triangle_of_the_head():
    array = growing(84, 40)
    A = made(array, head_size=20, rank=0, leaf_size=8, global_rank=3)
    assert A.nbytes == 8 * (20 * 21 // 2 + 8 * (8 * 9 // 2) + 3 * 84)
    plain = made(array, rank=0, leaf_size=16, global_rank=3)
    assert plain.head.D.shape == (0, 0)
    assert A.factor(1.0).nbytes - 8 * 20**2 == 8 * (8 * 64 + 3 * 84 + 9)


def test_float32_stays_float32():
    array = kernel("matern", points(150, 1)).astype(np.float32)
    A = made(array, head_size=40, global_rank=1, **SETTINGS)
    assert A.head.D.dtype == np.float32
    assert (A @ np.ones(150)).dtype == np.float32
    assert A.factor(1e-2).solve(np.ones(150)).dtype == np.float32


def test_head_needs_entries():
    H = aslinearoperator(np.eye(70))
    with pytest.raises(ValueError, match="no entries and no diagonal: .* a head need"):
        compress(H, head_size=3, **SETTINGS)


def test_asymmetric_entries_of_the_head_are_refused():
    array = np.eye(70)
    array[:30] += 10 * np.eye(30, 70)

    class Asymmetric(DenseMatrix):
        def entries(self, rows, columns):
            block = super().entries(rows, columns)
            return np.triu(block + 1) if len(rows) == 30 else block

    with pytest.raises(ValueError, match="H must be symmetric"):
        compress(Asymmetric(array), head_size=30, **SETTINGS)


def test_submatrix_is_that_of_the_array():
    array, index = growing(30, 8), np.array([3, 4, 9, 25])
    H = PrincipalSubmatrix(DenseMatrix(array), index)
    expected = array[np.ix_(index, index)]
    assert_close(H @ np.eye(4), expected, rtol=1e-14)
    assert_close(H.T @ np.eye(4), expected, rtol=1e-14)
    assert_close(H.diagonal(), np.diag(expected), rtol=1e-14)
    rows, columns = np.array([2, 0]), np.array([1, 3, 3])
    answer = H.entries(rows, columns)
    assert_close(answer, expected[np.ix_(rows, columns)], rtol=1e-14)


def test_head_is_read_in_strips_within_the_working_memory():
    H = digits_hessian(60, (9,))
    sizes, entry_blocks = [], H.entry_blocks

    def record(pairs):
        sizes.append(sum(len(i) * len(j) for i, j in pairs) * 8)
        return entry_blocks(pairs)

    H.entry_blocks = record
    with config_context(working_memory=0.5):
        A = compress(H, head_size=300, rank=0, leaf_size=4)
    assert max(sizes) <= 2**16 < 8 * 300**2
    S = A.head.index
    assert_close(A.head.D, H.toarray()[np.ix_(S, S)], rtol=1e-10)
