"""The share-out of the storage, and what it leaves of hierarchical matrices."""

import numpy as np
import pytest
from cases import assert_close
from matrices import digits_hessian, kernel, low_rank, points, with_zeros

from skgnh.hmatrix import compress
from skgnh.hmatrix.budget import plan
from skgnh.operators import DenseMatrix


def dense(A):
    return A @ np.eye(A.shape[0], dtype=A.dtype)


def numbers(A):
    return A.nbytes / A.dtype.itemsize / A.shape[0]


# ---- the plan ------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("storage", [24, 40.3, 64])
@pytest.mark.parametrize("P", [400, 1000, pytest.param(1733, marks=pytest.mark.slow)])
def test_storage_is_what_was_asked_for(P, storage, share):
    H = DenseMatrix(kernel("matern", points(P, 3)) + 0.1 * np.eye(P))
    settings = plan(P, storage, share)
    A = compress(H, **settings)
    # The triangles' diagonals, and what fills leaves up, are a number or two more.
    assert 0.9 * storage <= numbers(A) <= 1.03 * storage + 1.5
    if share < 1:
        assert A.low.shape[1] == round(share * storage)
        assert settings["leaf_size"] >= 2 * settings["rank"]
    else:
        assert A.low.shape[1] == int(storage) - 1


@pytest.mark.parametrize("head", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.75])
@pytest.mark.parametrize("storage", [24, 40.3, 64])
@pytest.mark.parametrize("P", [400, pytest.param(1733, marks=pytest.mark.slow)])
def test_storage_with_a_head_is_what_was_asked_for(P, storage, share, head):
    H = DenseMatrix(kernel("matern", points(P, 3)) + 0.1 * np.eye(P))
    settings = plan(P, storage, share, head)
    A = compress(H, **settings)
    assert 0.97 * storage <= numbers(A) <= storage
    assert A.levels == []
    assert A.low.shape[1] >= round(share * storage)
    rest = storage - round(share * storage)
    h = settings["head_size"]
    assert h * (h + 1) / 2 >= 0.9 * head * (rest - 1) * P
    assert (settings["leaf_size"] <= 3) == (head == 1)


@pytest.mark.parametrize("P", [3 * 10**5, 10**6])
@pytest.mark.parametrize(("share", "head"), [(0.5, 0.5), (0.75, 1.0)])
def test_head_is_bounded_and_what_it_leaves_is_not_lost(P, share, head):
    settings = plan(P, 128, share, head)
    m, h = settings["leaf_size"], settings["head_size"]
    assert h == 4096
    assert settings["global_rank"] >= share * 128
    leaves = 2 ** np.ceil(np.log2((P - h) / m))
    total = settings["global_rank"] + (h * (h + 1) + leaves * m * (m + 1)) / (2 * P)
    assert 126 <= total <= 128


@pytest.mark.parametrize("storage", [16, 32, 128])
def test_storage_does_not_grow_with_the_indices(storage):
    for P in (10**3, 10**4, 10**5, 10**6):
        settings = plan(P, storage, 0.25)
        m = P / 2 ** np.ceil(np.log2(P / settings["leaf_size"]))
        r, g = settings["rank"], settings["global_rank"]
        total = g + m / 2 + r + 4 * r**2 / m
        assert 0.9 * storage <= total <= 1.01 * storage


def test_largest_rank_is_taken():
    # Against a search over all ranks and depths.
    for P, storage, share in [(1000, 24, 0.0), (3000, 40, 0.25), (777, 64, 0.5)]:
        settings = plan(P, storage, share)
        rest = storage - settings["global_rank"]
        fitting = [
            r
            for m in P / 2 ** np.arange(1, int(np.log2(P)))
            for r in range(1, int(m / 2) + 1)
            if m / 2 + r + 4 * r**2 / m <= rest
        ]
        assert settings["rank"] == max(fitting)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("P", [1, 2, 20, 47])
def test_small_matrix_is_held_exactly(P, share):
    array = low_rank(P, P + 2)
    A = compress(DenseMatrix(array), **plan(P, 24, share))
    assert_close(dense(A), array, rtol=1e-12)
    assert numbers(A) <= 24
    larger = plan(48, 24, share)
    assert larger["leaf_size"] < 48 or larger["rank"] == 0


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan])
def test_share_off_its_range_is_refused(share):
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\], got"):
        plan(1000, 24, share)


def test_head_off_its_range_is_refused():
    with pytest.raises(ValueError, match=r"head must be in \[0, 1\], got 1.5"):
        plan(1000, 24, 0.5, 1.5)


@pytest.mark.parametrize(
    ("storage", "share", "head"),
    [(1.5, 0, 0), (0.5, 1, 0), (-3, 0.5, 0), (24, 0.99, 0), (-3, 0.5, 0.5), (1, 0, 1)],
)
def test_storage_too_small_is_refused(storage, share, head):
    with pytest.raises(ValueError, match="too few for a hierarchical matrix"):
        plan(1000, storage, share, head)


# ---- no far field --------------------------------------------------------------------


@pytest.mark.parametrize("order", ["natural", "diagonal", "angle", "kernel"])
@pytest.mark.parametrize("global_rank", [0, 5])
@pytest.mark.parametrize("leaf_size", [1, 7, 16])
def test_rank_zero_is_the_blocks_alone(leaf_size, global_rank, order):
    array = with_zeros(kernel("matern", points(70, 2)), share=0.1)
    H = DenseMatrix(array)
    settings = {"leaf_size": leaf_size, "global_rank": global_rank, "order": order}
    A = compress(H, rank=0, **settings)
    assert A.levels == []
    rest = dense(A) - A.low @ A.low.T
    expected = np.zeros_like(array)
    for leaf in A.index:
        inside = np.ix_(leaf[leaf >= 0], leaf[leaf >= 0])
        expected[inside] = (array - A.low @ A.low.T)[inside]
    assert np.max(np.abs(rest - expected)) <= 1e-11
    assert np.linalg.eigvalsh(rest)[0] >= -1e-11
    B = dense(A) + 0.1 * np.eye(70)
    rhs = np.random.default_rng(0).standard_normal((70, 2))
    assert_close(A.factor(0.1).solve(rhs), np.linalg.solve(B, rhs), rtol=1e-9)
    assert A.factor(0.1).logdet() == pytest.approx(np.linalg.slogdet(B)[1], rel=1e-9)


def test_leaves_of_one_index_are_the_diagonal():
    H = digits_hessian(40, (3,))
    A = compress(H, rank=0, leaf_size=1, global_rank=6)
    answer = dense(A) - A.low @ A.low.T
    own = np.diag(H.toarray() - A.low @ A.low.T)
    rounding = 1e-11 * H.diagonal().max()
    assert np.max(np.abs(answer - np.diag(own))) <= rounding


@pytest.mark.parametrize("source", ["entries", "products"])
def test_far_field_may_be_left_out_whatever_the_source(source):
    array = np.diag(np.arange(1.0, 71))
    A = compress(DenseMatrix(array), rank=0, leaf_size=8, source=source)
    assert_close(dense(A), array, rtol=1e-9)


# ---- the order of the diagonal -------------------------------------------------------


def test_order_of_the_diagonal_falls():
    rng = np.random.default_rng(0)
    scale = 10.0 ** rng.uniform(-3, 3, 70)
    array = scale[:, None] * kernel("exponential", points(70, 2)) * scale
    A = compress(DenseMatrix(array), rank=3, leaf_size=8, order="diagonal")
    order = A.index[A.index >= 0]
    assert (np.diff(np.diag(array)[order]) <= 0).all()
    np.testing.assert_array_equal(np.sort(order), np.arange(70))
    assert_close(np.diag(dense(A)), np.diag(array), rtol=1e-11)


def test_equal_entries_of_the_diagonal_keep_their_order():
    array = kernel("exponential", points(70, 2))
    natural, falling = (
        compress(DenseMatrix(array), rank=3, leaf_size=8, order=order)
        for order in ("natural", "diagonal")
    )
    np.testing.assert_array_equal(natural.index, falling.index)
