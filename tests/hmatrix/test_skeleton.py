"""The greedy choice of skeletons against one that conditions from scratch."""

import numpy as np
import pytest
from matrices import low_rank

from skgnh.hmatrix.skeleton import select


def definite(m, seed):
    return low_rank(m, 2 * m, seed) / m + 0.1 * np.eye(m)


def far_of(m, rank, seed):
    """Columns of a far field of given rank, and their Gram matrix."""
    rng = np.random.default_rng(seed)
    F = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, 3 * m))
    return F, F @ F.T


def stack(K, m, rank):
    D = np.stack([definite(m, k) for k in range(K)])
    return D, np.stack([far_of(m, rank, 10 + k)[1] for k in range(K)])


def greedy(D, F, rank):
    """Take the index of most far field, given those taken."""
    chosen = []
    for _ in range(rank):
        if chosen:
            W = D[:, chosen] @ np.linalg.inv(D[np.ix_(chosen, chosen)])
            left = F - W @ F[chosen]
        else:
            left = F
        gain = np.sum(left**2, axis=1)
        gain[chosen] = -1
        chosen.append(int(np.argmax(gain)))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_choice_is_that_of_conditioning_from_scratch(seed):
    D, (F, far) = definite(12, seed), far_of(12, 12, 50 + seed)
    chosen = select(D[None], far[None], 6, 0.0)
    assert chosen.tolist() == [greedy(D, F, 6)]


def test_nodes_do_not_see_each_other():
    D, far = stack(6, 9, 9)
    together = select(D, far, 4, 0.0)
    assert together.shape == (6, 4)
    for k in range(6):
        np.testing.assert_array_equal(
            together[k], select(D[k : k + 1], far[k : k + 1], 4, 0.0)[0]
        )


@pytest.mark.parametrize("rank", [1, 5, 10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_skeletons_are_distinct_indices_of_the_node(rank, dtype):
    D, far = stack(7, 10, 10)
    chosen = select(D.astype(dtype), far.astype(dtype), rank, 0.0)
    assert chosen.shape == (7, rank)
    assert np.issubdtype(chosen.dtype, np.integer)
    for row in chosen:
        assert len(set(row.tolist())) == rank
        assert 0 <= min(row) <= max(row) < 10


def test_arguments_are_not_overwritten():
    D, far = stack(2, 6, 6)
    given = D.copy(), far.copy()
    select(D, far, 3, 0.0)
    np.testing.assert_array_equal(D, given[0])
    np.testing.assert_array_equal(far, given[1])


def test_indices_without_a_far_field_come_last():
    D = np.eye(8)[None]
    F = np.zeros((8, 5))
    F[[2, 5]] = np.random.default_rng(0).standard_normal((2, 5))
    chosen = select(D, (F @ F.T)[None], 2, 0.0)
    assert set(chosen[0].tolist()) == {2, 5}


def test_twin_of_a_skeleton_is_not_taken_while_others_are_free():
    # Indices 0 and 1 are one; so are 2 and 3: two of the four say it all.
    F = np.random.default_rng(0).standard_normal((3, 20))
    index = np.array([0, 0, 1, 1, 2])
    D = definite(3, 1)[np.ix_(index, index)]
    far = (F @ F.T)[np.ix_(index, index)]
    chosen = select(D[None], far[None], 3, 0.0)[0]
    assert set(index[chosen].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(20))
def test_multiple_of_a_skeleton_is_not_taken_for_what_rounding_leaves_of_it(seed):
    # All but nothing of the far field is theirs; the third index still comes second.
    rng = np.random.default_rng(seed)
    D, F = np.eye(2), rng.standard_normal((2, 30))
    F[1] *= 1e-6
    index, factors = np.array([0, 0, 1]), np.array([1, rng.uniform(1, 10), 1])
    D = D[np.ix_(index, index)] * factors[:, None] * factors
    F = F[index] * factors[:, None]
    chosen = select(D[None], (F @ F.T)[None], 2, 0.0)[0]
    assert 2 in chosen


def test_dead_indices_are_taken_last():
    D, far = definite(6, 0), far_of(6, 6, 1)[1]
    for dead in (1, 4):
        D[dead] = D[:, dead] = far[dead] = far[:, dead] = 0
    chosen = select(D[None], far[None], 6, 0.0)[0]
    assert set(chosen[:4].tolist()) == {0, 2, 3, 5}


def test_one_skeleton_is_enough_where_there_is_no_far_field():
    D = np.stack([np.zeros((6, 6)), definite(6, 0)])
    chosen = select(D, np.zeros((2, 6, 6)), 4, 0.0)
    assert chosen.shape == (2, 1)


def test_indices_of_any_scale_are_taken_by_the_far_field_that_is_left():
    D, (F, far) = definite(10, 0), far_of(10, 10, 1)
    s = 10.0 ** np.random.default_rng(2).uniform(-3, 3, 10)
    scale = s[:, None] * s
    chosen = select(np.stack([D, scale * D]), np.stack([far, scale * far]), 5, 0.0)
    assert chosen[0].tolist() == greedy(D, F, 5)
    assert chosen[1].tolist() == greedy(scale * D, s[:, None] * F, 5)


@pytest.mark.parametrize(("tol", "expected"), [(1e-6, 3), (2.0, 1)])
def test_tolerance_ends_the_choice_at_the_rank_of_the_far_field(tol, expected):
    F = np.zeros((8, 20))
    F[[1, 4, 6]] = np.random.default_rng(0).standard_normal((3, 20))
    chosen = select(np.eye(8)[None], (F @ F.T)[None], 8, tol)
    assert chosen.shape == (1, expected)
    assert set(chosen[0].tolist()) <= {1, 4, 6}


def test_tolerance_waits_for_every_node():
    F = np.zeros((2, 8, 20))
    F[0, 1] = 1.0
    F[1, [1, 4, 6]] = np.random.default_rng(0).standard_normal((3, 20))
    far = F @ np.swapaxes(F, 1, 2)
    assert select(np.stack([np.eye(8)] * 2), far, 8, 1e-6).shape == (2, 3)
    assert select(np.eye(8)[None], far[:1], 8, 1e-6).shape == (1, 1)


def test_tolerance_bounds_the_far_field_that_is_left():
    D, (F, far) = definite(14, 3), far_of(14, 14, 4)
    whole = np.sum(F**2 / np.diag(D)[:, None])
    for tol in (0.5, 0.2, 0.05):
        chosen = select(D[None], far[None], 14, tol)[0]
        lefts = []
        for S in (chosen, chosen[:-1]):
            left = F - D[:, S] @ np.linalg.solve(D[np.ix_(S, S)], F[S])
            lefts.append(np.sum(left**2 / np.diag(D)[:, None]))
        assert lefts[0] <= tol**2 * whole < lefts[1]
