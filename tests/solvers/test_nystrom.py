"""The low-rank solver against its dense definition, and as a preconditioner."""

import numpy as np
import pytest
from cases import Case, assert_close
from matrices import correlated_hessian, digits_hessian, low_rank, symmetric
from scipy.linalg import LinAlgError

from skgnh.linalg.nystrom import nystrom
from skgnh.operators import DenseMatrix
from skgnh.solvers import CG, Nystrom

EXACT = {"max_iter": 10_000, "rtol": 1e-12}


def decaying(P=60, ratio=0.7):
    U, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((P, P)))
    return DenseMatrix(symmetric((U * ratio ** np.arange(P)) @ U.T))


def right_hand_side(H, *shape):
    rng = np.random.default_rng(1)
    return rng.standard_normal((H.shape[0], *shape)).astype(H.dtype)


def approximation(H, rank, power=2, seed=0):
    """Eigenvectors and eigenvalues of the approximation, from its root."""
    G = nystrom(H, min(rank, H.shape[0]), np.random.default_rng(seed), power)
    values, vectors = np.linalg.eigh(G @ G.T)
    return vectors[:, -G.shape[1] :], values[-G.shape[1] :]


@pytest.mark.parametrize("rank", [4, 6, 40])
def test_direct_solution_is_exact_at_the_rank_of_the_matrix(rank):
    H = DenseMatrix(low_rank(40, 4))
    factor, rhs = Nystrom(rank, direct=True).factor(H), right_hand_side(H, 3)
    for damping in (1e-4, 1e-1, 10.0):
        A = H.array + damping * np.eye(40)
        assert_close(factor.solve(rhs, damping), np.linalg.solve(A, rhs), rtol=1e-9)


@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("rank", [1, 5, 20])
def test_direct_solution_is_that_of_the_approximation(rank, power):
    H = decaying()
    U, values = approximation(H, rank, power)
    factor = Nystrom(rank, power, direct=True).factor(H)
    rhs = right_hand_side(H, 2)
    for damping in (1e-4, 1.0):
        M = (U * values) @ U.T + damping * np.eye(60)
        x = factor.solve(rhs, damping)
        assert_close(x, np.linalg.solve(M, rhs), rtol=1e-9)
        assert_close(factor.solve(rhs[:, 0], damping), x[:, 0], rtol=1e-12)
        A = H.array + damping * np.eye(60)
        residual = A @ np.linalg.solve(M, rhs) - rhs
        np.testing.assert_allclose(A @ x - rhs, residual, atol=1e-8)


def test_preconditioner_takes_the_rest_for_its_least_eigenvalue():
    H = decaying()
    U, values = approximation(H, 8)
    inner = Nystrom(8).factor(H).inner
    rhs = right_hand_side(H, 2)
    for damping in (1e-4, 1.0):
        M = (U * values + 0) @ U.T + values[0] * (np.eye(60) - U @ U.T)
        M += damping * np.eye(60)
        assert_close(inner.solve(rhs, damping), np.linalg.solve(M, rhs), rtol=1e-9)


@pytest.mark.parametrize("damping", [1e-6, 1e-3, 1.0])
def test_preconditioned_condition_number_is_bounded(damping):
    # With the rest below lambda_k, what is left lies between damping and 2 lambda_k.
    H = decaying()
    inner = Nystrom(15).factor(H).inner
    inverse = symmetric(inner.solve(np.eye(60), damping))
    L = np.linalg.cholesky(H.array + damping * np.eye(60))
    spectrum = np.linalg.eigvalsh(L.T @ inverse @ L)
    tail = 0.7**14
    assert spectrum[-1] <= 1.1 * (2 * tail + damping) / (tail + damping)
    assert spectrum[0] >= 0.9 * damping / (tail + damping)


@pytest.mark.parametrize("rank", [1, 10, 31, 500])
def test_iteration_solves_whatever_the_rank(rank):
    case = Case("tanh", 1, "softmax", weighted=True, n=40)
    H = case.operator()
    factor, rhs = Nystrom(rank, **EXACT).factor(H), right_hand_side(H, 2)
    for damping in (1e-2, 1.0, 1e-3):
        A = case.array() + damping * np.eye(31)
        assert_close(factor.solve(rhs, damping), np.linalg.solve(A, rhs), rtol=1e-8)


def test_few_iterations_are_left_at_full_rank():
    H = decaying()
    factor = Nystrom(60, max_iter=100, rtol=1e-8).factor(H)
    factor.solve(right_hand_side(H), 1e-3)
    assert factor.products <= 3


@pytest.mark.parametrize("make", [correlated_hessian, digits_hessian])
def test_preconditioner_takes_fewer_iterations_the_higher_its_rank(make):
    H = make()
    rhs = H @ right_hand_side(H)
    damping = 1e-2 * H.diagonal().mean()
    solvers = [CG(max_iter=5000, rtol=1e-3)]
    solvers += [Nystrom(rank, max_iter=5000, rtol=1e-3) for rank in (10, 40)]
    products = []
    for solver in solvers:
        factor = solver.factor(H)
        x = factor.solve(rhs, damping)
        residual = H @ x + damping * x - rhs
        assert np.linalg.norm(residual) <= 1.1e-3 * np.linalg.norm(rhs)
        products.append(factor.products)
    assert products == sorted(set(products), reverse=True)
    assert products[-1] < 0.5 * products[0]


@pytest.mark.parametrize("direct", [False, True])
def test_matrix_of_zeros_is_only_damped(direct):
    H = DenseMatrix(np.zeros((6, 6)))
    x = Nystrom(3, direct=direct).factor(H).solve(np.ones(6), 0.5)
    assert_close(x, np.full(6, 2.0), rtol=1e-14)


@pytest.mark.parametrize("direct", [False, True])
def test_float32_stays_float32(direct):
    H = digits_hessian(40, (3,), dtype=np.float32)
    factor, rhs = Nystrom(20, direct=direct).factor(H), right_hand_side(H)
    x = factor.solve(rhs, np.float64(0.01))
    assert x.dtype == np.float32
    double = Nystrom(20, direct=direct).factor(digits_hessian(40, (3,)))
    assert_close(x, double.solve(rhs.astype(float), 0.01), rtol=2e-3)


def test_seed_decides_the_approximation():
    H = decaying()
    rhs = right_hand_side(H)

    def solve(seed):
        solver = Nystrom(3, power=0, random_state=seed, direct=True)
        return solver.factor(H).solve(rhs, 1e-2)

    np.testing.assert_array_equal(solve(0), solve(0))
    assert np.any(solve(0) != solve(1))


@pytest.mark.parametrize("rank", [0, -3])
def test_rank_out_of_range_is_refused(rank):
    with pytest.raises(ValueError, match=f"rank must be an integer >= 1, got {rank}"):
        Nystrom(rank).factor(decaying())


def test_curvature_that_is_not_finite_raises():
    H = Case("tanh", 1, "softmax").operator()
    H.theta[0] = np.nan
    with pytest.raises(LinAlgError):
        Nystrom(3).factor(H)
