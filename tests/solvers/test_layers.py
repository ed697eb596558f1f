"""Elimination by layers against a dense solve and dense eigenvalues."""

from dataclasses import replace

import numpy as np
import pytest
from cases import Case, all_cases, assert_close
from matrices import deep_hessian
from scipy import sparse
from scipy.linalg import LinAlgError
from sklearn import config_context

from skgnh.solvers import LayerElimination

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


CASES = [replace(case, n=4) for case in all_cases()]


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


def test_shift_too_small_for_an_indefinite_system_is_no_answer():
    H = Case("identity", 4, "poisson", n=5).exact()
    b = np.random.default_rng(0).standard_normal(H.shape[0])
    with pytest.raises(LinAlgError, match="too small for this indefinite"):
        LayerElimination(H, 1e-10 * np.linalg.norm(H.toarray(), 2)).solve(b)


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


def test_numbers_bound_what_is_allocated():
    import tracemalloc

    for H in (deep_hessian(20, 10, 2), deep_hessian(3, 5, 60), deep_hessian(6, 20, 10)):
        H.linearization.kept  # noqa: B018
        tracemalloc.start()
        LayerElimination(H, 1.0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        numbers = LayerElimination.numbers(H.network, H.linearization.n_rows)
        assert 0.2 * 8 * numbers < peak < 1.1 * 8 * numbers + 2**17


