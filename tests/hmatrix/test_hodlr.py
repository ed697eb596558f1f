"""Matrices with off-diagonal blocks of low rank against dense ones."""

from itertools import product

import numpy as np
import pytest
from cases import assert_close
from marks import slow_unless
from matrices import PSD, digits_hessian, kernel, low_rank, points
from scipy.linalg import LinAlgError
from sklearn import config_context

from skgnh.hmatrix import hodlr
from skgnh.hmatrix.hodlr import Block, contracted
from skgnh.hmatrix.hodlr_build import decomposed, shared
from skgnh.operators import DenseMatrix

P = 150


def made(array, storage=12, leaf_size=10, **settings):
    return hodlr(DenseMatrix(array), storage, leaf_size=leaf_size, **settings)


def dense(A):
    return A @ np.eye(A.shape[0], dtype=A.dtype)


def from_definition(A):
    """The leaves and ``X Y^T``, put where they belong."""
    C, start = np.zeros(A.shape), 0
    for D in A.leaves:
        C[start : start + len(D), start : start + len(D)] = D
        start += len(D)
    for level in A.levels:
        for b in level:
            C[b.rows, b.columns] = b.X @ b.Y.T
            C[b.columns, b.rows] = (b.X @ b.Y.T).T
    out = np.zeros(A.shape)
    out[np.ix_(A.order, A.order)] = C
    return out


def error(A, array):
    return np.linalg.norm(dense(A) - array) / np.linalg.norm(array)


def dominant(n=P, seed=0):
    """Blocks of any ranks, so far from singular that none is shrunk."""
    C = low_rank(n, n, seed) * np.outer(*[1.1 ** -np.arange(n)] * 2)
    return C / np.linalg.norm(C, 2) + 10 * np.eye(n)


# ---- what it is ----------------------------------------------------------------------


@pytest.mark.parametrize("order", ["natural", "diagonal", "angle", "kernel"])
@pytest.mark.parametrize("name", PSD)
def test_products_and_bytes_are_those_of_the_definition(name, order):
    array = PSD[name]()
    A = made(array, storage=8, leaf_size=5, order=order)
    expected = from_definition(A)
    assert_close(dense(A), expected, rtol=1e-12)
    v = np.arange(float(len(array)))
    assert_close(A.T @ v, expected @ v, rtol=1e-12)
    assert len(A.levels) >= 3
    assert A.nbytes <= 8 * 8 * len(array)


@pytest.mark.parametrize("storage", slow_unless((8).__eq__, [4, 8, 16]))
@pytest.mark.parametrize("name", PSD)
def test_matrix_is_positive_definite(name, storage):
    A = made(PSD[name](), storage, leaf_size=4)
    values = np.linalg.eigvalsh(dense(A))
    assert values[0] >= -1e-14 * values[-1]
    v = np.random.default_rng(0).standard_normal((A.shape[0], 5))
    for damping in (1e-12, 1e-6, 1.0):
        x = A.factor(damping * (values[-1] or 1)).solve(v)
        assert (np.sum(x * v, axis=0) > 0).all()


@pytest.mark.parametrize("order", ["natural", "diagonal", "angle", "kernel"])
@pytest.mark.parametrize("n", [4, 5, 7, 12])
def test_no_leaf_is_empty(n, order):
    array = low_rank(n, 2 * n)
    A = made(array, 2, leaf_size=1, order=order)
    assert len(A.leaves) > 1
    assert min(len(D) for D in A.leaves) >= 1
    assert np.linalg.eigvalsh(dense(A))[0] > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_block_of_zeros_beside_one_too_large_is_no_division(dtype):
    # One direction is shrunk, another has underflown.
    X = np.array([[2, 0], [0, 0]], dtype)
    given = Block(slice(0, 2), slice(2, 4), X, np.eye(2, dtype=dtype))
    ((block,),) = contracted([np.eye(2, dtype=dtype)] * 2, [[given]], 0.5)
    assert_close(block.X @ block.Y.T, np.diag([0.5, 0.0]), rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 23])
def test_small_matrix_is_one_exact_leaf(n):
    array = low_rank(n, 2 * n)
    A = made(array)
    assert A.levels == []
    assert_close(dense(A), array, rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype):
    array = kernel("exponential", points(P, 1)).astype(dtype)
    A = made(array, storage=20)
    F = A.factor(0.1)
    assert {A.dtype, dense(A).dtype, F.solve(np.ones(P)).dtype} == {np.dtype(dtype)}
    assert error(A, array) < 0.2
    assert_close(
        F.solve(np.ones(P)),
        np.linalg.solve(dense(A).astype(float) + 0.1 * np.eye(P), np.ones(P)),
        rtol=1e-3 if dtype == np.float32 else 1e-10,
    )


# ---- accuracy ------------------------------------------------------------------------


def test_exponential_kernel_on_a_line_is_exact_at_rank_one():
    # A Markov process: what couples two intervals goes through one point.
    array = kernel("exponential", np.arange(P)[:, None], length=5.0)
    A = made(array, storage=14)
    assert error(A, array) < 1e-9


def test_ranks_save_the_most_error():
    # Against a search over all ranks of the seven blocks of eight leaves.
    array, numbers = dominant(40), 200
    rng = np.random.default_rng(0)
    levels = decomposed(DenseMatrix(array), np.arange(40), [5] * 8, 99, rng)
    cut = [b for level in shared(levels, numbers, 1.0) for b in level]
    spent = sum(b.X.size + b.Y.size for b in cut)
    assert spent <= numbers
    whole = [b for level in levels for b in level]
    errors = [np.cumsum(np.sum(b.X**2, axis=0)[::-1])[::-1] for b in whole]
    errors = [np.append(e, 0) for e in errors]
    costs = [len(b.X) + len(b.Y) for b in whole]
    own = sum(e[b.X.shape[1]] for e, b in zip(errors, cut, strict=True))
    for ranks in product(*(range(min(len(e), 5)) for e in errors)):
        if sum(c * r for c, r in zip(costs, ranks, strict=True)) <= spent:
            assert sum(e[r] for e, r in zip(errors, ranks, strict=True)) >= own - 1e-12


def test_finer_levels_get_more_where_they_weigh_more():
    rng, array = np.random.default_rng(0), kernel("matern", points(80, 2))
    levels = decomposed(DenseMatrix(array), np.arange(80), [10] * 8, 30, rng)
    tops = [shared(levels, 800, w)[0][0].X.shape[1] for w in (1.0, 2.0, 4.0)]
    assert tops == sorted(tops, reverse=True)
    assert tops[0] > tops[-1]


@pytest.mark.parametrize("name", ["network", "rank 10", "dominant"])
def test_error_falls_with_the_storage(name):
    array = dominant() if name == "dominant" else PSD[name]()
    errors = [error(made(array, storage), array) for storage in (6, 12, 24, 48, 120)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-9


def test_blocks_that_fit_are_truncated_singular_values():
    array = dominant()
    A = made(array)
    for level in A.levels:
        for b in level:
            block, r = array[b.rows, b.columns], b.X.shape[1]
            least = np.linalg.norm(np.linalg.svd(block, compute_uv=False)[r:])
            error = np.linalg.norm(b.X @ b.Y.T - block)
            assert least - 1e-12 <= error <= 1.02 * least + 1e-12


def test_autoencoder_takes_less_than_nested_levels_of_one_rank():
    # Rank 0 between the neurons of its last layer, much between both layers.
    H = digits_hessian(60, (4,))
    array = H.toarray()
    assert error(hodlr(H, 40, leaf_size=8), array) < 0.1


# ---- contractions --------------------------------------------------------------------


@pytest.mark.parametrize("cap", [0.5, 0.99])
def test_block_too_large_is_shrunk_to_the_cap_and_no_further(cap):
    rng = np.random.default_rng(0)
    D1, D2 = low_rank(6, 9), low_rank(8, 12, 1)
    X, Y = rng.standard_normal((6, 3)), 2 * rng.standard_normal((8, 3))
    ((block,),) = contracted([D1, D2], [[Block(slice(0, 6), slice(6, 14), X, Y)]], cap)
    L1, L2 = np.linalg.cholesky(D1), np.linalg.cholesky(D2)

    def scaled(X, Y):
        return np.linalg.solve(L1, X) @ np.linalg.solve(L2, Y).T

    U, s, Vt = np.linalg.svd(scaled(X, Y), full_matrices=False)
    assert s[0] > 1
    expected = (U * np.minimum(s, cap)) @ Vt
    assert_close(scaled(block.X, block.Y), expected, rtol=1e-10)


def test_block_within_the_cap_is_left_as_it_is():
    D = np.eye(3)
    given = Block(slice(0, 3), slice(3, 6), 0.5 * np.eye(3)[:, :2], np.eye(3)[:, :2])
    ((block,),) = contracted([D, D], [[given]], 0.99)
    assert block is given


# ---- the factor ----------------------------------------------------------------------


@pytest.mark.parametrize("damping", [1e-3, 1.0])
@pytest.mark.parametrize("order", ["natural", "angle"])
@pytest.mark.parametrize("storage", [5, 12, 500])
def test_factor_solves_and_has_the_determinant(storage, order, damping):
    array = kernel("matern", points(P, 2))
    A = made(array, storage, order=order)
    F, B = A.factor(damping), dense(A) + damping * np.eye(P)
    rhs = np.random.default_rng(0).standard_normal((P, 3))
    expected = np.linalg.solve(B, rhs)
    assert_close(F.solve(rhs), expected, rtol=1e-9)
    assert_close(F.solve(rhs[:, 0]), expected[:, 0], rtol=1e-9)
    assert F.logdet() == pytest.approx(np.linalg.slogdet(B)[1], rel=1e-9)
    assert F.nbytes > 0


@pytest.mark.parametrize("damping", [0.0, -1.0, np.inf, "1"])
def test_damping_that_is_not_positive_is_refused(damping):
    with pytest.raises(LinAlgError, match="damping must be positive and finite"):
        made(dominant()).factor(damping)


@pytest.mark.parametrize("shape", [(), (P + 1,), (P, 1, 1)])
def test_right_hand_side_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="rhs must be real, of shape"):
        made(dominant()).factor(1.0).solve(np.ones(shape))


# ---- the build -----------------------------------------------------------------------


def test_blocks_beyond_the_memory_are_taken_by_rows():
    array = dominant(400)
    whole = dense(made(array, leaf_size=50))
    with config_context(working_memory=0.5):
        tiled = dense(made(array, leaf_size=50))
    assert_close(tiled, whole, rtol=1e-12)


def test_seed_decides():
    array = kernel("matern", points(300, 2))
    first, again, other = (dense(made(array, random_state=s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.max(np.abs(first - other)) > 0


class Entries:
    """An operator of another library, which lets anything pass."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def entries(self, rows, columns):
        return self.array[np.ix_(rows, columns)]

    def diagonal(self):
        return self.array.diagonal()

    def __matmul__(self, V):
        return self.array @ V


@pytest.mark.parametrize("memory", [0.05, 1024])
@pytest.mark.parametrize("where", [(0, 0), (3, 140)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_matrix_that_is_not_finite_is_refused(value, where, memory):
    array = dominant()
    array[where] = array[where[::-1]] = value
    with (
        config_context(working_memory=memory),
        pytest.raises(LinAlgError, match="fini"),
    ):
        hodlr(Entries(array), 12, leaf_size=10)


def test_operator_without_entries_is_refused():
    with pytest.raises(ValueError, match="lacks entries or diagonal"):
        hodlr(made(dominant()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"storage": 1}, "storage must be at least 2"),
        ({"storage": np.nan}, "storage must be at least 2"),
        ({"leaf_size": 0}, "leaf_size must be an integer >= 1"),
        ({"order": "random"}, "Unknown order"),
    ],
)
def test_parameter_that_is_off_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        made(dominant(), **settings)
