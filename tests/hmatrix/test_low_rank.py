"""The randomised low-rank part."""

import numpy as np
import pytest
from cases import assert_close
from matrices import PSD, digits_hessian, low_rank, random_network, symmetric

from skgnh.linalg.nystrom import nystrom
from skgnh.operators import DenseMatrix


def parts(array, rank, power=2, seed=0):
    return nystrom(DenseMatrix(array), rank, np.random.default_rng(seed), power)


def decaying(ratio, P=60, seed=0):
    U, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((P, P)))
    A = (U * ratio ** np.arange(P)) @ U.T
    return (A + A.T) / 2


@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("rank", [4, 7, 70, 100])
def test_matrix_of_low_rank_is_met_exactly(rank, power):
    array = low_rank(70, 4)
    G = parts(array, min(rank, 70), power)
    assert G.shape[0] == 70
    assert_close(G @ G.T, array, rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_scale_of_the_matrix_does_not_matter(scale):
    array = decaying(0.7)
    G = parts(scale * array, 12)
    assert_close(G @ G.T, scale * (parts(array, 12) @ parts(array, 12).T), rtol=1e-9)


@pytest.mark.parametrize("rank", [1, 5, 20])
@pytest.mark.parametrize("name", PSD)
def test_remainder_is_positive_semidefinite(name, rank):
    array = PSD[name]()
    G = parts(array, rank)
    eigenvalues = np.linalg.eigvalsh(array - G @ G.T)
    assert eigenvalues[0] >= -1e-13 * np.linalg.norm(array, 2)
    assert G.shape[1] <= rank


@pytest.mark.parametrize("seed", [6339, 26277, 36710])
def test_rest_of_a_network_is_definite_on_each_index_s_own_scale(seed):
    # Taken with the accuracy of the largest direction, small ones spoil it by 1e-3.
    H = random_network(np.random.default_rng(seed), ridge=0.0)
    array = H.toarray()
    alive = np.diag(array) > 0
    scale = 1 / np.sqrt(np.diag(array)[alive])
    G = nystrom(H, 6, np.random.default_rng(0))
    rest = scale[:, None] * (array - G @ G.T)[np.ix_(alive, alive)] * scale
    assert np.linalg.eigvalsh(symmetric(rest))[0] > -1e-13


@pytest.mark.parametrize("rank", [3, 8])
def test_definition_is_met_for_the_range_of_the_products(rank):
    # Without a power the start Q is the only one that the products can have seen.
    array = decaying(0.8)
    seen = []

    class Recording(DenseMatrix):
        def _matmat(self, V):
            seen.append(V.copy())
            return super()._matmat(V)

    G = nystrom(Recording(array), rank, np.random.default_rng(0), power=1)
    Q = seen[-1]
    assert_close(Q.T @ Q, np.eye(rank), rtol=1e-12)
    HQ = array @ Q
    assert_close(G @ G.T, HQ @ np.linalg.solve(Q.T @ HQ, HQ.T), rtol=1e-10)


@pytest.mark.parametrize("rank", [10, 30])
def test_two_passes_come_near_the_best_approximation(rank):
    array, best = decaying(0.7), 0.7**rank
    errors = [
        np.linalg.norm(array - G @ G.T, 2)
        for G in (parts(array, rank, power) for power in (0, 1, 2))
    ]
    assert errors[2] < errors[1] < errors[0]
    # No approximation of this rank is better than the best (Eckart and Young).
    assert (1 - 1e-6) * best <= errors[2] <= 2 * best


def test_cost_is_a_product_a_column_and_pass():
    asked = []

    class Counting(DenseMatrix):
        def _matmat(self, V):
            asked.append(V.shape[1])
            return super()._matmat(V)

    nystrom(Counting(decaying(0.9)), 7, np.random.default_rng(0), power=3)
    assert sum(asked) == 4 * 7


def test_nothing_is_the_low_rank_part_of_rank_or_curvature_zero():
    assert parts(low_rank(9, 2), 0).shape == (9, 0)
    assert parts(np.zeros((9, 9)), 4).shape == (9, 0)


def test_seed_decides_the_start():
    array = decaying(0.9)
    np.testing.assert_array_equal(parts(array, 5), parts(array, 5))
    assert np.any(parts(array, 5) != parts(array, 5, seed=1))


def test_float32_stays_float32():
    G = parts(decaying(0.5).astype(np.float32), 10)
    assert G.dtype == np.float32
    assert_close(G @ G.T, decaying(0.5), rtol=2e-3)


def test_products_of_a_network_are_enough():
    H = digits_hessian(40, (3,))
    G = nystrom(H, 10, np.random.default_rng(0))
    assert_close(G, parts(H.toarray(), 10), rtol=1e-8)
    left = np.linalg.norm(H.toarray() - G @ G.T, 2)
    assert left <= 1.2 * np.linalg.eigvalsh(H.toarray())[-11]
