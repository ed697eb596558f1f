"""Elimination by layers against a dense solve and dense eigenvalues."""

from dataclasses import replace

import numpy as np
import pytest
from cases import Case, all_cases, assert_close, is_shallow
from marks import slow_unless
from matrices import deep_hessian
from scipy import sparse
from scipy.linalg import LinAlgError, lu_factor, lu_solve
from scipy.sparse.linalg import eigsh
from sklearn import config_context

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import ExactHessian
from skgnh.solvers import LayerElimination
from skgnh.solvers.layer_block import LayerBlock

# Shifts in units of the norm of H: indefinite for the first, definite for the last.
SHIFTS = (1e-5, 1e-2, 0.3, 3.0)


def assert_solves(H, shift, rtol=1e-11):
    """Compare inertia and solution; errors are in units of the condition."""
    A = H.toarray().astype(np.float64) + float(shift) * np.eye(H.shape[0])
    eigenvalues = np.linalg.eigvalsh(A)
    factor = LayerElimination(H, shift)
    negative = int((eigenvalues < 0).sum())
    assert factor.inertia == (negative, 0, len(A) - negative)
    if negative == 0:
        expected = np.log(eigenvalues).sum()
        assert factor.logdet() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    else:
        with pytest.raises(LinAlgError, match=f"{negative} negative eigenvalues"):
            factor.logdet()
    sizes = np.abs(eigenvalues)
    rhs = np.random.default_rng(0).standard_normal((len(A), 2)).astype(H.dtype)
    tolerance = rtol * sizes.max() / sizes.min()
    for b in (rhs, rhs[:, 0]):
        x = factor.solve(b)
        assert x.dtype == H.dtype
        assert_close(x, np.linalg.solve(A, b), rtol=tolerance)
    return negative


CASES = slow_unless(is_shallow, [replace(case, n=4) for case in all_cases()])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_solution_and_inertia_equal_those_of_the_array(case):
    H = case.exact()
    norm = np.linalg.norm(H.toarray(), 2)
    negative = [assert_solves(H, shift * norm) for shift in SHIFTS]
    assert negative[-1] == 0
    # The outputs of a linear model are not bent.
    assert (negative[0] > 0) is (case.n_hidden > 0)


@pytest.mark.parametrize("n", [1, 2, 12])
def test_any_number_of_rows(n):
    assert assert_solves(deep_hessian(5, n=n), 1e-2) > 0
    assert assert_solves(deep_hessian(5, n=n), 100) == 0


def test_deep_network():
    H = deep_hessian(40)
    least = np.linalg.eigvalsh(H.toarray())[0]
    assert assert_solves(H, -0.5 * least) > 0
    assert assert_solves(H, -1.01 * least) == 0


def test_ridge_that_differs_within_layers():
    H = deep_hessian(4)
    H.ridge = np.random.default_rng(0).uniform(0.01, 1, H.shape[0])
    assert_solves(H, 0.0)
    assert_solves(H, 5.0)


def test_sparse_rows_and_rows_without_weight():
    H = Case("tanh", 3, "softmax", weighted=True).exact(convert=sparse.csr_array)
    assert assert_solves(H, 0.05) > 0
    H.weights = np.zeros_like(H.weights)
    assert assert_solves(H, 0.05) == 0


def test_float32_stays_float32():
    H = deep_hessian(6, dtype=np.float32)
    assert_solves(H, 10.0, rtol=1e-5)
    assert LayerElimination(H, np.float64(10)).solve(H.theta).dtype == np.float32


def test_zeros_are_solved_by_zeros():
    factor = LayerElimination(deep_hessian(3), 1.0)
    for shape in (deep_hessian(3).shape[0], (deep_hessian(3).shape[0], 2)):
        np.testing.assert_array_equal(factor.solve(np.zeros(shape)), 0)


def plain_hessian(depth, width, n, seed):
    """An untrained tanh network without biases or ridge, of equal widths."""
    rng = np.random.default_rng(seed)
    network = MLP((width,) * (depth + 1), ("tanh",) * (depth - 1))
    theta = network.initialize(rng) * network.weight_mask()
    inputs = append_one(rng.standard_normal((n, width)))
    inputs[:, -1] = 0
    targets, weights = rng.standard_normal((n, width)), np.full(n, 1 / n)
    linearization = Linearization(network, theta, inputs)
    return ExactHessian(linearization, LOSSES["identity"], targets, weights)


def refined(A, b, x):
    """Refine a solution with residuals in extended precision."""
    A_long, x = A.astype(np.longdouble), x.astype(np.longdouble)
    factors = lu_factor(A)
    for _ in range(3):
        x = x + lu_solve(factors, (b - A_long @ x).astype(np.float64))
    return x


# More rows than the width leave no parameter out, fewer leave most. Pivots are kept
# back at the smallest of these shifts, and more than meet the states before.
@pytest.mark.parametrize(
    ("depth", "width", "n", "seed"),
    [
        pytest.param(10, 10, 20, 0, marks=pytest.mark.slow),
        pytest.param(10, 10, 20, 1, marks=pytest.mark.slow),
        (5, 10, 20, 2),
        (20, 6, 12, 3),
        (10, 10, 2, 4),
        (40, 5, 3, 5),
    ],
)
def test_tiny_shifts_of_indefinite_systems(depth, width, n, seed):
    H = plain_hessian(depth, width, n, seed)
    array, b = H.toarray(), np.random.default_rng(1).standard_normal(H.shape[0])
    values = np.linalg.eigvalsh(array)
    norm, kept = np.abs(values).max(), []
    for shift in norm * np.array([1e-5, 1e-7, 1e-9]):
        A, moved = array + shift * np.eye(len(array)), values + shift
        factor = LayerElimination(H, shift)
        # Of the zero eigenvalues that a missing bias leaves, the shift tells the sign.
        assert np.abs(moved).min() > 1e-13 * norm
        assert factor.inertia[0] == (moved < 0).sum()
        x, dense = factor.solve(b), np.linalg.solve(A, b)
        exact = refined(A, b, dense)
        error, own = (np.linalg.norm(v - exact) for v in (x, dense))
        size = np.linalg.norm(x)
        assert error <= 10 * own + 1e-15 * size
        assert error <= 1e-14 * norm / np.abs(moved).min() * size
        assert np.linalg.norm(A @ x - b) <= 1e-15 * norm * size
        kept.append(max(len(block.kept) for block in factor._blocks))
    assert 0 < kept[-1] <= 1.3 * n * width


@pytest.mark.parametrize(
    ("depth", "width", "n"), [(10, 6, 12), (10, 10, 2), (80, 6, 12)]
)
def test_tiny_shift_without_refinement(depth, width, n):
    H = plain_hessian(depth, width, n, 0)
    start = np.ones((H.shape[0], 1))
    norm = abs(eigsh(H, 1, v0=start, tol=1e-2, return_eigenvectors=False)[0])
    # Of a right-hand side that H has made, what no row tells is no part.
    for b in (start, H @ start):
        x = LayerElimination(H, 1e-9 * norm)._solve(b)
        residual = np.linalg.norm(H @ x + 1e-9 * norm * x - b)
        assert residual <= 3e-15 * norm * np.linalg.norm(x)


def test_symmetries_leave_eigenvalues_of_the_shift():
    H = Case("identity", 4, "poisson", n=5).exact()
    b = np.random.default_rng(0).standard_normal(H.shape[0])
    array = H.toarray()
    norm = np.linalg.norm(array, 2)
    A = array + 1e-10 * norm * np.eye(len(array))
    x = LayerElimination(H, 1e-10 * norm).solve(b)
    assert np.linalg.norm(A @ x - b) <= 1e-15 * norm * np.linalg.norm(x)


def test_float32_at_a_tiny_shift():
    H = deep_hessian(8, width=6, n=10, dtype=np.float32)
    H.ridge = np.zeros_like(H.ridge)
    array = H.toarray().astype(np.float64)
    norm = np.linalg.norm(array, 2)
    x = LayerElimination(H, 1e-4 * norm).solve(H.theta)
    assert x.dtype == np.float32
    residual = np.linalg.norm(array @ x + 1e-4 * norm * x - H.theta)
    assert residual <= 1e-6 * norm * np.linalg.norm(x)


def test_work_is_linear_in_the_depth_at_a_tiny_shift():
    size = []
    for depth in (20, 40, 80):
        H = plain_hessian(depth, 5, 8, 0)
        blocks = LayerElimination(H, 1e-9)._blocks
        size.append(max(len(block.pivots) + len(block.kept) for block in blocks))
        assert size[-1] <= 1.3 * 8 * 5 + 5 * 6
    numbers = [
        LayerElimination.numbers(plain_hessian(depth, 5, 8, 0).network, 8)
        for depth in (20, 40, 80)
    ]
    assert numbers[2] - numbers[1] == pytest.approx(2 * (numbers[1] - numbers[0]))


def test_singular_system_is_no_answer():
    # One row through two linear units at rest: eigenvalues +-1, and 0 of no bias.
    network = MLP((1, 1, 1), ("identity",))
    linearization = Linearization(network, np.zeros(4), np.array([[1.0, 0.0]]))
    one = np.ones((1, 1))
    H = ExactHessian(linearization, LOSSES["identity"], one, np.ones(1))
    values = np.linalg.eigvalsh(H.toarray())
    with pytest.raises(LinAlgError, match="singular"):
        LayerElimination(H, -values[0]).solve(np.array([1.0, 2.0, 3.0, 4.0]))


@pytest.mark.parametrize("shift", [0.0, -1.0, np.nan])
def test_shift_must_be_positive_where_there_is_no_ridge(shift):
    with pytest.raises(LinAlgError, match=r"positive ridge \+ shift"):
        LayerElimination(deep_hessian(3), shift)


def test_curvature_that_is_not_finite_is_refused():
    H = deep_hessian(3)
    H.theta[0] = np.nan
    with pytest.raises(LinAlgError, match="not finite"):
        LayerElimination(H, 1.0)


def test_other_operators_and_too_many_rows_are_refused():
    with pytest.raises(ValueError, match="needs an ExactHessian, got GaussNewton"):
        LayerElimination(Case().operator(), 1.0)
    H = deep_hessian(3, n=50)
    numbers = LayerElimination.numbers(H.network, 50)
    with (
        config_context(working_memory=(8 * numbers - 8) / 2**20),
        pytest.raises(ValueError, match="over 50 rows needs .* MiB"),
    ):
        LayerElimination(H, 1.0)


@pytest.mark.parametrize("shift", [1.0, 1e-9])
def test_numbers_bound_what_is_allocated(shift):
    import tracemalloc

    for shape in ((20, 10, 2), (3, 5, 60), (6, 20, 10), (40, 30, 1)):
        H = plain_hessian(*shape, 0)
        H.linearization.kept  # noqa: B018
        tracemalloc.start()
        LayerElimination(H, shift)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        numbers = LayerElimination.numbers(H.network, H.linearization.n_rows)
        assert 0.2 * 8 * numbers < peak < 1.1 * 8 * numbers + 2**17


def test_ridge_that_differs_within_layers_holds_more():
    H = deep_hessian(6, width=10, n=2)
    equal = LayerElimination.numbers(H.network, 2)
    H.ridge = np.random.default_rng(0).uniform(0.01, 1, H.shape[0])
    assert LayerElimination.numbers(H.network, 2, alike=False) > 2 * equal
    assert_solves(H, 0.0)
    with (
        config_context(working_memory=8 * equal / 2**20),
        pytest.raises(ValueError, match="over 2 rows needs"),
    ):
        LayerElimination(H, 0.0)


@pytest.mark.parametrize("border", [2, 6, 20])
@pytest.mark.parametrize("tiny", [1e-3, 1e-12])
def test_pivots_of_a_block_keep_the_border_from_growing(border, tiny):
    rng = np.random.default_rng(border)
    basis = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    F = basis @ np.diag([3, -2, 1, -1, *(tiny * np.array([1, -2, 3, -4]))]) @ basis.T
    loose, K = np.array([1.0, tiny, tiny]), rng.standard_normal((11, border))
    K[10] = 0
    block = LayerBlock(F, loose, K, 1.0)
    n, kept = len(block.pivots), len(block.kept)
    assert 0 < kept <= max(5, border)
    assert kept == min(5, border) or border > 5
    assert np.abs(block.update()).max() < 1e3
    # What is left has the inverse of the whole, and with the pivots its inertia.
    E = rng.standard_normal((border, border))
    E += E.T
    rest = np.block([[block.kept, block.coupling], [block.coupling.T, E]])
    rest[kept:, kept:] -= block.update()
    A = np.zeros((11 + border, 11 + border))
    A[:8, :8], A[8:11, 8:11], A[11:, 11:] = F, np.diag(loose), E
    A[:11, 11:], A[11:, :11] = K, K.T
    negative = (np.linalg.eigvalsh(A) < 0).sum()
    assert (block.pivots < 0).sum() + (np.linalg.eigvalsh(rest) < 0).sum() == negative
    b = rng.standard_normal((11 + border, 3))
    mine, own, met = block.forward(b[:11])
    y = np.linalg.solve(rest, np.concatenate([own, b[11:] - met]))
    x = block.backward(mine, y[:kept], y[kept:])
    assert len(mine) == n
    x = np.concatenate([x, y[kept:]])
    residual = np.linalg.norm(A @ x - b)
    assert residual <= 1e-12 * np.linalg.norm(A) * np.linalg.norm(x)


def test_last_block_keeps_nothing_back_and_is_not_singular():
    none = np.zeros((3, 0))
    block = LayerBlock(np.diag([2.0, -1e-9, -3.0]), np.zeros(0), none, 0.0)
    assert (len(block.kept), sorted(block.pivots)) == (0, [-3.0, -1e-9, 2.0])
    with pytest.raises(LinAlgError, match="singular"):
        LayerBlock(np.diag([1.0, -1.0, 0.0]), np.zeros(0), none, 0.0)
