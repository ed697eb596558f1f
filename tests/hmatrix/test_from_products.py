"""Hierarchical matrices from products alone, against dense ones."""

import numpy as np
import pytest
from cases import assert_close
from matrices import (
    PSD,
    digits_hessian,
    kernel,
    low_rank,
    nested,
    points,
    random_network,
    symmetric,
)
from scipy.linalg import LinAlgError, block_diag
from scipy.sparse.linalg import aslinearoperator

from skgnh.hmatrix import compress
from skgnh.hmatrix.from_products import diagonal_blocks, n_products, nested_bases
from skgnh.operators import DenseMatrix

SIZES = [(1, 1), (1, 4), (3, 4), (4, 8), (8, 8), (5, 16)]


def made(array, **settings):
    return compress(DenseMatrix(array), source="products", **settings)


def dense(A):
    return A @ np.eye(A.shape[0], dtype=A.dtype)


def block_separable(K, m, r, seed=0):
    """A symmetric matrix of K leaves with nested bases of rank r."""
    rng = np.random.default_rng(seed)
    if K == 1:
        return symmetric(rng.standard_normal((m, m)))
    U = block_diag(*[np.linalg.qr(rng.standard_normal((m, r)))[0] for _ in range(K)])
    blocks = [symmetric(rng.standard_normal((m, m))) for _ in range(K)]
    return U @ block_separable(K // 2, 2 * r, r, seed + 1) @ U.T + block_diag(*blocks)


def assemble(levels, top):
    C = top[0]
    for level in levels[::-1]:
        U = block_diag(*level.U)
        C = U @ C @ U.T + block_diag(*level.rest)
    return C


# ---- nested bases --------------------------------------------------------------------


@pytest.mark.parametrize(("K", "m", "r"), [(1, 5, 2), (2, 6, 2), (8, 5, 3), (16, 9, 2)])
def test_matrix_of_this_structure_is_recovered_from_products(K, m, r):
    array = block_separable(K, m, r)
    s = max(m, 2 * r) + r + 2
    omega = np.random.default_rng(5).standard_normal((len(array), s))
    levels, top = nested_bases(
        omega.reshape(K, m, s), (array @ omega).reshape(K, m, s), r
    )
    assert_close(assemble(levels, top), array, rtol=1e-9)
    blocks = diagonal_blocks(levels, top)
    expected = [array[k * m : (k + 1) * m, k * m : (k + 1) * m] for k in range(K)]
    assert_close(blocks[0], np.stack(expected), rtol=1e-9)
    for level in levels:
        gram = np.swapaxes(level.U, 1, 2) @ level.U
        assert_close(gram, np.tile(np.eye(r), (len(gram), 1, 1)), rtol=1e-12)


def test_more_columns_blur_the_blocks_less():
    array = kernel("exponential", points(256, 2))
    errors = []
    for s in (45, 80, 200):
        omega = np.random.default_rng(0).standard_normal((256, s))
        Y = array @ omega
        levels, top = nested_bases(omega.reshape(8, 32, s), Y.reshape(8, 32, s), 8)
        errors.append(np.linalg.norm(assemble(levels, top) - array))
    assert errors == sorted(errors, reverse=True)


# ---- the hierarchical matrix ---------------------------------------------------------


@pytest.mark.parametrize(("K", "m", "r"), [(2, 6, 2), (4, 6, 2), (8, 8, 3)])
def test_matrix_of_this_structure_is_exact(K, m, r):
    array = nested(K, m, r)
    A = made(array, rank=r, leaf_size=m)
    assert A.index.shape == (K, m)
    assert_close(dense(A), array, rtol=1e-9)


@pytest.mark.parametrize("rank", [2, 5])
def test_exponential_kernel_on_a_line_is_exact_at_rank_two(rank):
    array = kernel("exponential", points(150, 1), length=1.0)
    A = made(array, rank=rank, leaf_size=12)
    assert len(A.levels) >= 4
    assert np.linalg.norm(dense(A) - array) < 1e-9 * np.linalg.norm(array)


def test_products_are_all_it_asks_for():
    array = kernel("matern", points(200, 1))
    asked = []

    class Products:
        shape, dtype = array.shape, array.dtype

        def __matmul__(self, V):
            asked.append(V.shape[1])
            return array @ V

    A = compress(Products(), rank=8, leaf_size=16, global_rank=4)
    leaf = A.index.shape[1]
    assert sum(asked) == n_products(leaf, 8, None) + 3 * 4
    assert np.linalg.norm(dense(A) - array) < 1e-2 * np.linalg.norm(array)
    np.testing.assert_array_equal(
        dense(A),
        dense(compress(aslinearoperator(array), rank=8, leaf_size=16, global_rank=4)),
    )


@pytest.mark.parametrize("P", [1, 5, 16])
@pytest.mark.parametrize("global_rank", [0, 2])
def test_matrix_of_one_leaf_is_exact(P, global_rank):
    array = low_rank(P, 2 * P)
    A = compress(aslinearoperator(array), rank=16, global_rank=global_rank)
    assert_close(dense(A), array, rtol=1e-12)


@pytest.mark.parametrize("global_rank", [0, 20])
def test_error_of_a_network_falls_with_the_rank(global_rank):
    H = digits_hessian()
    array = H.toarray()
    errors = [
        np.linalg.norm(
            dense(
                compress(
                    H,
                    rank=rank,
                    leaf_size=32,
                    global_rank=global_rank,
                    source="products",
                )
            )
            - array
        )
        for rank in (2, 8, 32)
    ]
    assert errors == sorted(errors, reverse=True)


# ---- definiteness --------------------------------------------------------------------


@pytest.mark.parametrize("global_rank", [0, 4])
@pytest.mark.parametrize("name", PSD)
def test_matrix_is_positive_semidefinite(name, global_rank):
    array = PSD[name]()
    for rank, leaf_size in SIZES:
        A = made(array, rank=rank, leaf_size=leaf_size, global_rank=global_rank)
        answer = dense(A)
        assert np.all(np.isfinite(answer))
        eigenvalues = np.linalg.eigvalsh(symmetric(answer))
        assert eigenvalues[0] >= -1e-12 * max(eigenvalues[-1], np.max(array))


@pytest.mark.parametrize("seed", range(30))
def test_indices_that_fill_leaves_up_are_uncoupled(seed):
    # A basis that takes all of a node takes them too.
    rng = np.random.default_rng(seed)
    P = int(rng.integers(20, 60))
    F = rng.standard_normal((P, P // 2)) * np.exp(rng.uniform(-8, 0, P))[:, None]
    A = made(F @ F.T, rank=3, leaf_size=4, random_state=seed)
    damping = np.mean(np.sum(F**2, axis=1))
    B = symmetric(dense(A)) + damping * np.eye(P)
    factor = A.factor(damping)
    assert_close(factor.solve(B), np.eye(P), rtol=1e-9)
    assert factor.logdet() == pytest.approx(np.linalg.slogdet(B)[1], rel=1e-9)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_damped_network_is_positive_definite(first):
    for seed in range(first, first + 50):
        rng = np.random.default_rng(seed)
        H = random_network(rng)
        P, mean = H.shape[0], H.diagonal().mean() or 1.0
        leaf_size = int(rng.integers(1, min(8, max(2, P // 4)) + 1))
        A = compress(
            H,
            rank=int(rng.integers(1, leaf_size + 1)),
            leaf_size=leaf_size,
            global_rank=int(rng.integers(0, 4)),
            source="products",
            random_state=seed,
        )
        for share in (1e2, 1e-3, 1e-7):
            factor, x = A.factor(share * mean), rng.standard_normal((P, 3))
            assert np.all(np.sum(x * factor.solve(x), axis=0) > 0), (seed, share)
            assert np.isfinite(factor.logdet())


@pytest.mark.parametrize("P", [20, 150])
def test_float32_stays_float32(P):
    array = kernel("matern", points(P, 1)).astype(np.float32)
    A = made(array, rank=8, leaf_size=24)
    assert A.dtype == (A @ np.ones(P)).dtype == np.float32
    assert np.linalg.norm(dense(A) - array) < 5e-2 * np.linalg.norm(array)


# ---- refusals ------------------------------------------------------------------------


def test_products_that_are_not_finite_are_refused():
    array = np.eye(70)
    array[3, 60] = array[60, 3] = np.nan
    with pytest.raises(LinAlgError, match="must be finite"):
        compress(aslinearoperator(array), rank=2, leaf_size=6)


@pytest.mark.parametrize("P", [5, 70])
@pytest.mark.parametrize("settings", [{"source": "entries"}, {"order": "angle"}])
def test_entries_that_are_asked_for_must_be_there(settings, P):
    H = aslinearoperator(np.eye(P))
    with pytest.raises(ValueError, match="has no entries and no diagonal: source="):
        compress(H, **settings)


def test_unknown_source_is_refused():
    with pytest.raises(ValueError, match="Unknown source 'rows'; choose among"):
        compress(DenseMatrix(np.eye(5)), source="rows")
