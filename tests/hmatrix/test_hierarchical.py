"""The hierarchical matrix against dense ones: definition, accuracy, definiteness."""

import tracemalloc

import numpy as np
import pytest
from cases import assert_close
from marks import slow_unless
from matrices import (
    PSD,
    digits_hessian,
    kernel,
    low_rank,
    nested,
    points,
    random_network,
    repeated,
    scaled,
    symmetric,
    with_zeros,
)
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import LinearOperator, eigsh

from skgnh.hmatrix import HierarchicalMatrix, compress
from skgnh.operators import DenseMatrix

ORDERS = ("natural", "angle", "kernel")
EPS = np.finfo(float).eps
# Rank and leaf size, so that 70 indices make three levels at least.
SIZES = [(1, 1), (1, 4), (3, 4), (4, 8), (8, 8), (5, 16)]


def made(array, **settings):
    return compress(DenseMatrix(array), **settings)


def dense(A):
    return A @ np.eye(A.shape[0], dtype=A.dtype)


def from_definition(A):
    """``D + U (C' - D') U^T`` from the topmost level down, with loops over nodes."""
    C = A.top[0]
    for level in A.levels[::-1]:
        K, m, r = level.U.shape
        D, inner = np.zeros((K * m, K * m)), np.zeros((K * r, K * r))
        U = np.zeros((K * m, K * r))
        for k in range(K):
            here, above = slice(k * m, (k + 1) * m), slice(k * r, (k + 1) * r)
            S = level.skeleton[k]
            D[here, here] = level.D[k]
            inner[above, above] = level.D[k][np.ix_(S, S)]
            U[here, above] = level.U[k]
        C = D + U @ (C - inner) @ U.T
    places = A.index.ravel()
    inside = places >= 0
    out = np.zeros(A.shape)
    out[np.ix_(places[inside], places[inside])] = C[np.ix_(inside, inside)]
    return out + A.low @ A.low.T


def relative_error(A, array):
    return np.linalg.norm(dense(A) - array) / np.linalg.norm(array)


# ---- the definition ------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("global_rank", [0, 3])
@pytest.mark.parametrize(("rank", "leaf_size"), SIZES)
def test_products_are_those_of_the_definition(rank, leaf_size, global_rank, order):
    array = low_rank(70, 20) + 0.1 * np.eye(70)
    A = made(
        array, rank=rank, leaf_size=leaf_size, global_rank=global_rank, order=order
    )
    assert len(A.levels) >= 3
    expected = from_definition(A)
    assert_close(dense(A), expected, rtol=1e-12)
    v = np.random.default_rng(0).standard_normal(70)
    assert_close(A @ v, expected @ v, rtol=1e-12)
    assert_close(A.T @ v, expected @ v, rtol=1e-12)
    assert_close(A.rmatvec(v), expected @ v, rtol=1e-12)
    assert_close(A @ np.arange(70), expected @ np.arange(70), rtol=1e-12)


@pytest.mark.parametrize(("rank", "leaf_size"), SIZES)
@pytest.mark.parametrize("name", PSD)
def test_interpolation_is_the_conditioning_on_the_skeletons(name, rank, leaf_size):
    A = made(PSD[name](), rank=rank, leaf_size=leaf_size)
    for level in A.levels:
        for D, U, S in zip(level.D, level.U, level.skeleton, strict=True):
            np.testing.assert_array_equal(U[S], np.eye(len(S)))
            growth = max(1, np.max(np.abs(U)))
            scale = np.max(np.abs(D))
            np.testing.assert_allclose(
                U @ D[np.ix_(S, S)], D[:, S], atol=1e-13 * growth * scale
            )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["rank 10", "wild scales", "network", "dead rows"])
def test_leaf_blocks_are_those_of_the_matrix(name, order):
    array = PSD[name]()
    A = made(array, rank=3, leaf_size=7, global_rank=2, order=order)
    answer, rounding = dense(A), 1e-12 * np.diag(array).mean()
    for leaf in A.index:
        block = np.ix_(leaf[leaf >= 0], leaf[leaf >= 0])
        np.testing.assert_allclose(answer[block], array[block], atol=rounding)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("P", [64, 70, 33])
def test_every_index_has_one_place(P, order):
    A = made(low_rank(P, 9), rank=2, leaf_size=5, order=order)
    index = A.index[A.index >= 0]
    np.testing.assert_array_equal(np.sort(index), np.arange(P))
    counts = np.sum(A.index >= 0, axis=1)
    assert counts.max() - counts.min() <= 1
    assert A.index.shape[1] <= 5


def test_matrix_is_a_scipy_operator():
    A = made(low_rank(70, 9), rank=2, leaf_size=5)
    assert isinstance(A, HierarchicalMatrix)
    assert isinstance(A, LinearOperator)
    assert (A.shape, A.dtype) == ((70, 70), np.float64)


def test_eigenvalues_come_from_scipy():
    A = made(kernel("matern", points(200, 2)), rank=8, order="angle")
    answer = eigsh(A, k=4, return_eigenvectors=False)
    assert_close(answer, np.linalg.eigvalsh(dense(A))[-4:], rtol=1e-10)


# ---- what it stands for --------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("global_rank", [0, 5])
@pytest.mark.parametrize("P", [1, 2, 16, 31, 32])
def test_matrix_of_one_leaf_is_exact(P, global_rank, order):
    array = low_rank(P, 2 * P)
    A = made(array, rank=16, global_rank=global_rank, order=order)
    assert A.levels == []
    assert_close(dense(A), array, rtol=1e-13)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rank", [2, 5])
def test_exponential_kernel_on_a_line_is_exact_at_rank_two(rank, order):
    # A Markov process: the two ends of an interval tell all about what lies outside.
    array = kernel("exponential", points(150, 1), length=1.0)
    shuffled = np.random.default_rng(0).permutation(150)
    if order != "natural":
        array = array[np.ix_(shuffled, shuffled)]
    # All columns are seen, so that no node misses what lies beyond one of its ends.
    A = made(array, rank=rank, leaf_size=12, order=order, n_samples=150)
    assert len(A.levels) >= 4
    assert relative_error(A, array) < 1e-12


@pytest.mark.parametrize(("K", "m", "r"), [(2, 6, 2), (4, 6, 2), (8, 8, 3)])
def test_matrix_of_this_structure_is_exact(K, m, r):
    array = nested(K, m, r)
    assert np.linalg.eigvalsh(array)[0] > 0
    A = made(array, rank=r, leaf_size=m, n_samples=K * m)
    assert A.index.shape == (K, m)
    off = array.copy()
    for k in range(K):
        off[k * m : (k + 1) * m, k * m : (k + 1) * m] = 0
    assert np.linalg.norm(off) > 0.1 * np.linalg.norm(array)
    assert relative_error(A, array) < 1e-12


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rank", [3, 4, 6])
def test_matrix_of_low_rank_is_exact_at_its_rank(rank, order):
    for array in (low_rank(70, 3), repeated(low_rank(35, 3), 2)):
        A = made(array, rank=rank, leaf_size=8, order=order)
        assert relative_error(A, array) < 1e-9


def test_skeletons_are_those_of_what_the_global_part_leaves():
    # The structure is at right angles to the global part, which is far larger.
    structure = np.kron(nested(4, 6, 2), [[1.0, -1.0], [-1.0, 1.0]])
    v = np.kron(np.random.default_rng(0).standard_normal(24), [1.0, 1.0])
    array = structure + 1e3 * np.outer(v, v)
    A = made(array, rank=2, leaf_size=12, n_samples=48, global_rank=1)
    left = dense(A) - A.low @ A.low.T
    assert np.linalg.norm(left - structure) < 1e-5 * np.linalg.norm(structure)


def test_global_part_takes_what_is_large_everywhere():
    structure = np.kron(np.eye(8), low_rank(8, 12))
    array = structure + 1e4 * low_rank(64, 3)
    errors = [
        np.linalg.norm(dense(A) - array) / np.linalg.norm(structure)
        for A in (
            made(array, rank=2, leaf_size=8),
            made(array, rank=2, leaf_size=8, global_rank=3),
        )
    ]
    assert errors[1] < 0.3 < 1 < errors[0]


@pytest.mark.parametrize("order", ["natural", "angle"])
@pytest.mark.parametrize(
    ("name", "dimension", "last"),
    [
        ("matern", 1, 1e-6),
        ("gaussian", 1, 1e-6),
        ("exponential", 2, 0.1),
        ("matern", 2, 0.1),
        ("gaussian", 2, 0.1),
    ],
)
def test_error_falls_with_the_rank(name, dimension, last, order):
    if (dimension, order) == (2, "natural"):
        return  # points of a plane have no order of their own
    array = kernel(name, points(250, dimension))
    ranks = (1, 4, 16, 32)
    errors = [
        relative_error(made(array, rank=rank, leaf_size=32, order=order), array)
        for rank in ranks
    ]
    assert errors[-1] < last
    for worse, better in zip(errors[:-1], errors[1:], strict=True):
        assert better < worse


@pytest.mark.parametrize("order", ORDERS)
def test_error_of_a_network_falls_with_either_rank(order):
    H = digits_hessian()
    array = H.toarray()
    settings = {"leaf_size": 32, "order": order}
    errors = [
        [
            relative_error(compress(H, rank=r, global_rank=g, **settings), array)
            for r in (2, 8, 32)
        ]
        for g in (0, 30)
    ]
    for worse, better in zip(*errors, strict=True):
        assert better < 0.5 * worse
    for row in errors:
        assert row == sorted(row, reverse=True)


def test_tolerance_ends_the_ranks():
    array = kernel("matern", points(200, 1))
    sizes, errors = [], []
    for tol in (0.3, 1e-2, 1e-4, 0.0):
        A = made(array, rank=16, leaf_size=16, tol=tol)
        sizes.append(max(level.U.shape[2] for level in A.levels))
        errors.append(relative_error(A, array))
        assert tol == 0 or errors[-1] < 3 * tol
    assert sizes == sorted(set(sizes))
    assert errors == sorted(errors, reverse=True)


class OnlyProductsAndEntries:
    """The least that an operator must offer; it counts what it is asked."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.n_entries = self.n_products = 0

    def __matmul__(self, V):
        self.n_products += V.shape[1]
        return self.array @ V

    def entries(self, rows, columns):
        self.n_entries += len(rows) * len(columns)
        return self.array[np.ix_(rows, columns)]

    def diagonal(self):
        return np.diag(self.array).copy()


@pytest.mark.parametrize("order", ORDERS)
def test_products_entries_and_diagonal_are_all_it_asks_for(order):
    array = kernel("matern", points(256, 2))
    H = OnlyProductsAndEntries(array)
    rank, leaf_size, global_rank = 4, 16, 5
    A = compress(
        H, rank=rank, leaf_size=leaf_size, global_rank=global_rank, order=order
    )
    assert H.n_products <= 3 * global_rank
    ordering = 0 if order == "natural" else 10 * 256 * 4
    assert H.n_entries <= 256 * (3 * leaf_size + 4 * rank) + ordering
    same = made(
        array, rank=rank, leaf_size=leaf_size, global_rank=global_rank, order=order
    )
    np.testing.assert_array_equal(dense(A), dense(same))


@pytest.mark.parametrize("order", ORDERS)
def test_network_is_compressed_as_its_array_is(order):
    H = digits_hessian(60, (4,))
    settings = {"rank": 6, "leaf_size": 16, "global_rank": 4, "order": order}
    assert_close(
        dense(compress(H, **settings)), dense(made(H.toarray(), **settings)), rtol=1e-6
    )


def test_seed_decides_the_samples():
    array = kernel("exponential", points(150, 2))

    def answer(seed):
        return dense(made(array, rank=3, leaf_size=8, n_samples=10, random_state=seed))

    np.testing.assert_array_equal(answer(0), answer(0))
    assert np.any(answer(0) != answer(1))


# ---- positive semidefiniteness -------------------------------------------------------


@pytest.mark.parametrize("order", slow_unless("kernel".__eq__, ORDERS))
@pytest.mark.parametrize("global_rank", [0, 4])
@pytest.mark.parametrize("name", PSD)
def test_matrix_is_symmetric_positive_semidefinite(name, global_rank, order):
    array = PSD[name]()
    for rank, leaf_size in SIZES:
        A = made(
            array, rank=rank, leaf_size=leaf_size, global_rank=global_rank, order=order
        )
        answer = dense(A)
        assert np.all(np.isfinite(answer))
        scale = np.max(np.abs(answer))
        assert np.max(np.abs(answer - answer.T)) <= 1e-13 * scale
        eigenvalues = np.linalg.eigvalsh(symmetric(answer))
        assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rank", [4, 8, 16])
def test_smooth_kernel_is_positive_semidefinite_to_the_rounding_of_its_weights(
    rank, order
):
    # Numerically singular nodes: interpolation weights are large, and so is rounding.
    array = kernel("gaussian", points(200, 1))
    A = made(array, rank=rank, leaf_size=32, order=order)
    growth = max(np.max(np.abs(level.U)) for level in A.levels)
    eigenvalues = np.linalg.eigvalsh(symmetric(dense(A)))
    assert eigenvalues[0] >= -1e-14 * growth**2 * eigenvalues[-1]


@pytest.mark.parametrize("seed", range(60))
def test_network_in_a_random_state_is_positive_semidefinite(seed):
    rng = np.random.default_rng(1000 + seed)
    H = random_network(rng)
    leaf_size = int(rng.integers(1, 8))
    A = compress(
        H,
        rank=int(rng.integers(1, leaf_size + 1)),
        leaf_size=leaf_size,
        global_rank=int(rng.integers(0, 4)),
        order=ORDERS[seed % 3],
    )
    answer = dense(A)
    eigenvalues = np.linalg.eigvalsh(symmetric(answer))
    assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]
    rounding = 1e-12 * (H.diagonal().mean() or 1)
    np.testing.assert_allclose(np.diag(answer), H.diagonal(), atol=rounding)


@pytest.mark.parametrize("order", ORDERS)
def test_dead_rows_stay_zero_but_for_rounding(order):
    array = with_zeros(low_rank(70, 20))
    dead = np.diag(array) == 0
    assert 0 < dead.sum() < 70
    A = made(array, rank=4, leaf_size=8, global_rank=3, order=order)
    answer, rounding = dense(A), 1e-12 * np.diag(array).mean()
    assert np.max(np.abs(answer[dead])) <= rounding
    assert relative_error(A, array) < 1


@pytest.mark.parametrize("decades", [3, 6])
def test_scaled_rows_are_compressed_as_the_rows_are(decades):
    array = scaled(kernel("exponential", points(70, 1)), decades)
    A = made(array, rank=4, leaf_size=8, n_samples=70)
    assert relative_error(A, array) < 1e-3


def test_global_part_may_leave_nothing_but_rounding():
    array = kernel("gaussian", points(2000, 3), length=0.5)
    A = made(array, rank=64, global_rank=400, order="kernel")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 5))
    # The global part stops at eps^(2/3) of the norm; what is beyond is the remainder's.
    least = EPS ** (2 / 3)
    assert np.linalg.norm(A @ X - array @ X) < least * np.linalg.norm(array @ X)
    for damping in (1e-2, 1e-8):
        assert np.all(np.sum(X * A.factor(damping).solve(X), axis=0) > 0)


# ---- memory and precision ------------------------------------------------------------


def test_bytes_are_those_of_the_arrays_with_one_triangle_of_symmetric_ones():
    A = made(low_rank(64, 80), rank=2, leaf_size=8, global_rank=3)
    # 8 leaves of 8; nodes of pairs of 2: 4 and 2 of 4 x 4, and the top.
    triangles = 8 * (8 * 9 // 2) + (4 + 2 + 1) * (4 * 5 // 2)
    others = 8 * 8 * 2 + 4 * 4 * 2 + 2 * 4 * 2 + 64 * 3
    assert A.nbytes == 8 * (triangles + others)
    assert isinstance(A.nbytes, int)


def test_bytes_grow_with_the_number_of_indices():
    sizes = [
        made(kernel("exponential", points(P, 1)), rank=4, leaf_size=8).nbytes
        for P in (128, 256, 512)
    ]
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.05)
    assert sizes[2] == pytest.approx(2 * sizes[1], rel=0.05)
    assert sizes[2] < 0.1 * 8 * 512**2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("P", [20, 150])
def test_float32_stays_float32(P, order):
    array = kernel("matern", points(P, 1)).astype(np.float32)
    A = made(array, rank=8, leaf_size=24, global_rank=1, order=order)
    assert A.dtype == np.float32
    answer = A @ np.eye(P, dtype=np.float32)
    assert answer.dtype == np.float32
    assert (A @ np.ones(P)).dtype == np.float32
    for level in A.levels:
        assert {level.D.dtype, level.U.dtype} == {np.dtype(np.float32)}
    assert np.linalg.norm(answer - array) < 2e-2 * np.linalg.norm(array)
    eigenvalues = np.linalg.eigvalsh(symmetric(answer.astype(float)))
    assert eigenvalues[0] >= -1e-5 * eigenvalues[-1]


def test_network_in_float32_stays_float32():
    H = digits_hessian(40, (4,), dtype=np.float32)
    A = compress(H, rank=6, leaf_size=16, global_rank=4, order="angle")
    assert (A @ np.ones(H.shape[0], np.float32)).dtype == np.float32
    assert relative_error(A, H.toarray()) < 0.5


def test_build_holds_the_sampled_columns_once():
    x = np.linspace(0, 1, 4096)

    class OnTheFly(OnlyProductsAndEntries):
        def __init__(self):
            self.shape, self.dtype = (len(x), len(x)), x.dtype
            self.n_products = self.n_entries = 0

        def __matmul__(self, V):
            return np.outer(x, x @ V)

        def entries(self, rows, columns):
            return np.outer(x[rows], x[columns])

        def diagonal(self):
            return x**2

    tracemalloc.start()
    try:
        compress(OnTheFly(), rank=8, n_samples=1024)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 8 * len(x) * 1024


def test_nodes_of_all_batches_have_as_many_skeletons(monkeypatch):
    # The first nodes have little of a far field, the last ones more of it.
    F = low_rank(64, 12)
    F[:32] = F[:, :32] = 0
    array = F + np.eye(64)
    whole = made(array, rank=6, leaf_size=8, tol=1e-8)
    monkeypatch.setattr("skgnh.hmatrix.levels.rows_per_chunk", lambda _: 1)
    A = made(array, rank=6, leaf_size=8, tol=1e-8)
    assert A.levels[0].skeleton.shape == (8, 6)
    for level, expected in zip(A.levels, whole.levels, strict=True):
        np.testing.assert_array_equal(level.skeleton, expected.skeleton)


# ---- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": -1}, "rank must be an integer >= 0, got -1"),
        ({"rank": 0, "leaf_size": 0}, "leaf_size must be an integer >= 1, got 0"),
        ({"rank": 9, "leaf_size": 8}, "leaf_size must be an integer >= 9, got 8"),
        ({"order": "random"}, "Unknown order 'random'; choose among .*'angle'"),
        ({"rank": 4.0}, "rank must be an integer >= 0, got 4.0"),
        ({"rank": None}, "rank must be an integer >= 0, got None"),
        ({"leaf_size": 80.5}, "leaf_size must be an integer >= .*, got 80.5"),
        ({"global_rank": "2"}, "global_rank must be an integer >= 0, got '2'"),
        ({"global_rank": -1}, "global_rank must be an integer >= 0, got -1"),
        ({"head_size": -1}, "head_size must be an integer >= 0, got -1"),
        ({"head_size": 2.0}, "head_size must be an integer"),
        ({"n_samples": 2.5}, "n_samples must be an integer >= 1, got 2.5"),
        ({"n_samples": 0}, "n_samples must be an integer >= 1, got 0"),
        ({"tol": -1e-3}, "tol must be a number of at least 0, got -0.001"),
        ({"tol": np.nan}, "tol must be a number of at least 0, got nan"),
        ({"tol": "tight"}, "tol must be a number of at least 0, got 'tight'"),
    ],
)
@pytest.mark.parametrize("P", [5, 70])
def test_parameters_that_are_off_are_refused(settings, message, P):
    with pytest.raises(ValueError, match=message):
        made(low_rank(P, 3), **settings)


def test_operator_that_is_not_square_is_refused():
    H = OnlyProductsAndEntries(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"must be square, got shape \(3, 4\)"):
        compress(H)


def test_asymmetric_array_is_refused_before_it_comes_to_this():
    with pytest.raises(ValueError, match="must be symmetric"):
        made(np.triu(np.ones((70, 70))))


@pytest.mark.parametrize("P", [5, 70])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_diagonal_that_is_not_finite_or_negative_is_refused(P, bad):
    array = np.eye(P)
    array[3, 3] = bad
    with pytest.raises(LinAlgError, match="finite, non-negative diagonal"):
        compress(OnlyProductsAndEntries(array), rank=2, leaf_size=6)


@pytest.mark.parametrize("global_rank", [0, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("P", [5, 70])
def test_entries_that_are_not_finite_are_refused(P, bad, global_rank):
    array = np.eye(P)
    array[1, -1] = array[-1, 1] = bad
    with np.errstate(invalid="ignore"), pytest.raises(LinAlgError):
        compress(
            OnlyProductsAndEntries(array),
            rank=2,
            leaf_size=6,
            global_rank=global_rank,
            n_samples=70,
        )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("P", [5, 70])
def test_operator_that_is_not_symmetric_is_refused(P, order):
    H = OnlyProductsAndEntries(np.triu(low_rank(P, 2 * P)))
    with pytest.raises(ValueError, match="must be symmetric; it is off by"):
        compress(H, rank=2, leaf_size=6, order=order)


class TwistedEntries(OnlyProductsAndEntries):
    """Products of a symmetric array, entries of one that is not."""

    def entries(self, rows, columns):
        return np.triu(self.array)[np.ix_(rows, columns)]


@pytest.mark.parametrize("P", [5, 70])
def test_entries_that_are_not_symmetric_are_refused(P):
    with pytest.raises(ValueError, match="must be symmetric; it is off by"):
        compress(TwistedEntries(low_rank(P, 2 * P)), rank=2, leaf_size=6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("P", [5, 70])
def test_asymmetry_of_rounding_is_none(P, dtype):
    array = low_rank(P, 2 * P).astype(dtype)
    noise = np.random.default_rng(0).uniform(-1, 1, (P, P)).astype(dtype)
    array *= 1 + 100 * np.finfo(dtype).eps * noise
    answer = dense(compress(OnlyProductsAndEntries(array), rank=2, leaf_size=6))
    assert_close(answer, answer.T, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [int, complex, np.float16])
@pytest.mark.parametrize("P", [5, 70])
def test_matrix_of_other_numbers_is_refused(P, dtype):
    H = OnlyProductsAndEntries(np.eye(P, dtype=dtype))
    with pytest.raises(ValueError, match="must be of float32 or float64, got"):
        compress(H, rank=2, leaf_size=6)


def test_empty_matrix_is_refused():
    with pytest.raises(ValueError, match=r"must be square, got shape \(0, 0\)"):
        compress(OnlyProductsAndEntries(np.zeros((0, 0))))


@pytest.mark.parametrize("global_rank", [0, 2])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("P", [1, 5, 70])
def test_matrix_of_zeros_is_zero(P, order, global_rank):
    settings = {"rank": 2, "leaf_size": 6, "order": order, "global_rank": global_rank}
    A = made(np.zeros((P, P)), **settings)
    assert np.max(np.abs(dense(A))) < 1e-13
    assert_close(A.factor(0.5).solve(np.ones(P)), np.full(P, 2.0), rtol=1e-12)


@pytest.mark.parametrize("global_rank", [0, 200])
@pytest.mark.parametrize("P", [1, 5, 70])
def test_rank_beyond_the_size_gives_the_dense_answer(P, global_rank):
    array = low_rank(P, 2 * P)
    A = made(array, rank=100, global_rank=global_rank)
    x = A.factor(0.1).solve(np.ones(P))
    expected = np.linalg.solve(array + 0.1 * np.eye(P), np.ones(P))
    assert_close(x, expected, rtol=1e-9)
