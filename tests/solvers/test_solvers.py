"""Every solver on every operator against a dense solve."""

from itertools import islice

import numpy as np
import pytest
from cases import Case, assert_close
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import aslinearoperator
from sklearn import config_context
from sklearn.base import clone
from solved import (
    OPERATORS,
    PAIRS,
    TALL,
    WIDE,
    exact,
    missing,
    prescribed,
    right_hand_side,
)

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import DenseMatrix, GaussNewtonHessian
from skgnh.solvers import CG, KFAC, Auto, Dense, Gram, Solver, all_solvers
from skgnh.solvers.preconditioned import Iterate, conjugate_gradients

DAMPINGS = (1e-5, 1e-2, 1.0, 1e3)


@pytest.fixture(params=all_solvers())
def name(request):
    return request.param


# ---- solutions -----------------------------------------------------------------------


@pytest.mark.parametrize("k", [None, pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(("name", "operator"), PAIRS)
def test_one_factor_solves_for_every_damping_as_dense_does(name, operator, k):
    H = OPERATORS[operator]()
    factor, rhs = exact(name).factor(H), right_hand_side(H, k)
    given = rhs.copy()
    for damping in (*DAMPINGS, DAMPINGS[1]):
        A = H.toarray() + damping * np.eye(len(rhs))
        x = factor.solve(rhs, damping)
        assert_close(x, np.linalg.solve(A, rhs), rtol=1e-8)
        assert_close(A @ x, rhs, rtol=1e-8)
    np.testing.assert_array_equal(rhs, given)


@pytest.mark.parametrize("damping", [1e-2, np.float64(1e-2)], ids=type)
def test_float32_stays_float32(name, damping):
    H, double = TALL.operator(np.float32), TALL.operator()
    b = right_hand_side(H)
    iterative = {"rtol": 1e-6, "max_iter": 1000}
    settings = iterative if name in ("cg", "kfac", "sketched_gram") else {}
    factor = all_solvers()[name](**settings).factor(H)
    for rhs in (b, b[:, None]):
        x = factor.solve(rhs, damping)
        assert x.dtype == np.float32
        A = double.toarray() + damping * np.eye(len(rhs))
        assert_close(x, np.linalg.solve(A, rhs), rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "operator"),
    [pair for pair in PAIRS if pair[1] in ("more rows than parameters", "dense")],
)
def test_damping_costs_no_second_factorisation(name, operator, monkeypatch):
    H = OPERATORS[operator]()
    factor, rhs = exact(name).factor(H), right_hand_side(H)

    def refuse(*args, **kwargs):
        raise AssertionError("asked for after the factorisation")

    for question in ("toarray", "gram", "gram_by_ridge", "diagonal", "entries"):
        monkeypatch.setattr(type(H), question, refuse, raising=False)
    for damping in DAMPINGS:
        factor.solve(rhs, damping)


@pytest.mark.parametrize("name", ["cg", "gram"])
def test_products_are_counted(name):
    H = TALL.operator()
    factor, asked = exact(name).factor(H), []
    assert factor.products == 0
    product = H._matmat
    H._matmat = lambda V: asked.append(V.shape[1]) or product(V)
    factor.solve(right_hand_side(H), 0.1)
    assert factor.products >= len(asked) > 0
    if name == "cg":
        assert factor.products == len(asked)


# ---- refusals ------------------------------------------------------------------------


def test_missing_requirements_are_named(name):
    H = aslinearoperator(np.eye(3))
    solver = exact(name)
    if not (solver.requires or isinstance(solver, Auto)):
        return
    with pytest.raises(ValueError, match="needs an operator with") as error:
        solver.factor(H)
    for requirement in missing(solver, H):
        assert requirement in str(error.value)
    assert type(H).__name__ in str(error.value)


@pytest.mark.parametrize("name", [name for name, kind in PAIRS if kind == "dense"])
def test_indefinite_matrix_raises_instead_of_answering(name):
    H = prescribed(-2, -1, 1, 2, 3, 4)
    rhs = right_hand_side(H)
    if name == "hmatrix":
        with pytest.raises(LinAlgError, match="non-negative diagonal"):
            exact(name).factor(H)
        return
    factor = exact(name).factor(H)
    for damping in (0.0, 1.5):
        with pytest.raises(LinAlgError, match="positive"):
            factor.solve(rhs, damping)
    A = H.array + 2.5 * np.eye(6)
    assert_close(factor.solve(rhs, 2.5), np.linalg.solve(A, rhs), rtol=1e-9)


def test_matrix_that_is_not_finite_raises_instead_of_answering(name):
    operator = Case("tanh", 3, "squared").operator()
    operator.theta[0] = np.nan
    with pytest.raises(LinAlgError):
        exact(name).factor(operator).solve(right_hand_side(operator), 0.1)


def test_dual_form_is_accurate_for_a_small_damping():
    # Woodbury's difference cancels: unrefined, the residual is of the order 1e-9.
    H = WIDE.operator(ridge=False)
    b = H @ right_hand_side(H)
    x = Gram().factor(H).solve(b, 1e-8)
    assert np.linalg.norm(H @ x + 1e-8 * x - b) < 1e-12 * np.linalg.norm(b)


def test_dual_form_needs_a_damping():
    H = WIDE.operator()
    factor = Gram().factor(H)
    for ask in (
        lambda: factor.solve(right_hand_side(H), 0.0),
        lambda: factor.logdet(0),
    ):
        with pytest.raises(LinAlgError, match="positive damping"):
            ask()


def test_solvers_are_plain_estimators_found_by_name(name):
    solver = all_solvers()[name]()
    assert isinstance(solver, Solver)
    class_name = type(solver).__name__.removesuffix("Solver").lower()
    assert name.replace("_", "") == class_name
    assert repr(clone(solver)) == repr(solver)
    assert clone(solver).get_params() == solver.get_params()
    assert isinstance(solver.requires, tuple)


def test_solver_selects_itself_unless_it_is_auto(name):
    solver = all_solvers()[name]()
    assert (solver.select(WIDE.operator()) is solver) is (name != "auto")


# ---- conjugate gradients -------------------------------------------------------------


def quadratic(A, b, x):
    return 0.5 * x @ A @ x - b @ x


@pytest.mark.parametrize("start", [None, np.linspace(-1, 1, 12)])
def test_iterates_carry_their_residual_and_quadratic(start):
    A = prescribed(*np.geomspace(0.1, 10, 12)).array
    b = right_hand_side(A)
    iterates = conjugate_gradients(lambda x: A @ x, b, lambda r: 0.5 * r, start)
    values = []
    for x, residual, value in islice(iterates, 13):
        np.testing.assert_allclose(residual, b - A @ x, rtol=0, atol=1e-12)
        assert value == pytest.approx(quadratic(A, b, x), rel=1e-9, abs=1e-12)
        values.append(value)
    assert values == sorted(values, reverse=True)
    best = quadratic(A, b, np.linalg.solve(A, b))
    assert values[-1] == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("scale", [3e38, np.inf, np.nan, -1.0])
def test_curvature_that_is_not_positive_and_finite_ends_the_iteration(scale):
    b = np.ones(5, np.float32)
    iterates = conjugate_gradients(lambda x: np.float32(scale) * x, b, lambda r: r)
    with pytest.raises(LinAlgError, match="met non-positive curvature, or one that is"):
        list(iterates)


def test_martens_rule_stops_early_with_little_left_to_gain():
    H = prescribed(*np.geomspace(1e-6, 1, 300))
    b = right_hand_side(H)
    A = H.array + 1e-6 * np.eye(300)
    best = quadratic(A, b, np.linalg.solve(A, b))
    relative, products = [], []
    for tol in (5e-2, 5e-3, 5e-4):
        factor = CG(max_iter=10_000, tol=tol).factor(H)
        relative.append(1 - quadratic(A, b, factor.solve(b, 1e-6)) / best)
        products.append(factor.products)
    exact = CG(max_iter=10_000, rtol=1e-8).factor(H)
    exact.solve(b, 1e-6)
    assert products == sorted(set(products))
    assert products[-1] < 0.8 * exact.products
    assert relative == sorted(relative, reverse=True)
    assert relative[-1] < 0.05


def test_iterations_end_at_their_maximum():
    H = prescribed(*np.geomspace(1e-6, 1, 100))
    factor = CG(max_iter=7, rtol=1e-14).factor(H)
    factor.solve(right_hand_side(H), 1e-6)
    assert factor.products == 7
    with pytest.raises(ValueError, match="max_iter must be an integer >= 1, got 0"):
        CG(max_iter=0).factor(H)


def test_residual_keeps_the_tolerance_asked_for():
    H = prescribed(*np.geomspace(1e-3, 1, 100))
    b = right_hand_side(H)
    for rtol in (1e-1, 1e-4, 1e-8):
        x = CG(max_iter=1000, rtol=rtol).factor(H).solve(b, 1e-4)
        residual = np.linalg.norm(H @ x + 1e-4 * x - b) / np.linalg.norm(b)
        assert 1e-3 * rtol < residual <= 1.01 * rtol


def test_full_preconditioner_solves_a_diagonal_matrix_in_one_iteration():
    H = DenseMatrix(np.diag(np.geomspace(1e-4, 1e4, 50)))
    b = right_hand_side(H)
    products = {}
    for exponent in (1.0, 0.75, 0.0):
        factor = CG(max_iter=1000, rtol=1e-8, exponent=exponent).factor(H)
        assert_close(factor.solve(b, 1e-3), b / (H.array.diagonal() + 1e-3), 1e-4)
        products[exponent] = factor.products
    assert products[1.0] == 1
    assert products[1.0] < products[0.75] < products[0.0]


def test_first_direction_is_the_last_solution():
    H = prescribed(*np.geomspace(1e-3, 1, 50))
    b = right_hand_side(H)
    solver = CG(max_iter=1000, rtol=1e-8)
    first = solver.factor(H)
    x = first.solve(b, 1e-2)
    for scale in (1.0, -1e30):
        again = solver.factor(H, first.carried()._replace(solution=scale * x))
        assert_close(again.solve(b, 1e-2), x, rtol=1e-10)
        assert again.products == 1 < first.products
    # A factor of another solver has no solution to give.
    other = solver.factor(H, Dense().factor(H).carried())
    assert_close(other.solve(b, 1e-2), x, rtol=1e-12)


def test_one_iteration_is_the_best_of_gradient_and_momentum():
    H = prescribed(*np.geomspace(1e-3, 1, 50))
    A = H.array + 1e-2 * np.eye(50)
    b, momentum = right_hand_side(H), np.random.default_rng(1).standard_normal(50)
    factor = CG(max_iter=1, rtol=1e-8, exponent=0.0).factor(H, Iterate(momentum, None))
    x = factor.solve(b, 1e-2)
    residual = b - A @ momentum * (momentum @ b) / (momentum @ A @ momentum)
    plane = np.column_stack([momentum, residual])
    best = plane @ np.linalg.solve(plane.T @ A @ plane, plane.T @ b)
    assert_close(x, best, rtol=1e-10)
    assert_close(factor.image(x), H.array @ x, rtol=1e-10)
    assert factor.products == 2


def test_rough_solves_are_in_single_precision_and_come_back_in_double():
    H = TALL.operator()
    b, A = right_hand_side(H), H.toarray() + 0.1 * np.eye(H.shape[0])
    rough = KFAC(max_iter=1000, rtol=1e-2).factor(H)
    assert rough.inner.solve(b.astype(np.float32), 0.1).dtype == np.float32
    x = rough.solve(b, 0.1)
    assert x.dtype == rough.image(x).dtype == np.float64
    assert np.linalg.norm(A @ x - b) < 1.01e-2 * np.linalg.norm(b)
    assert_close(rough.image(x), H @ x, rtol=1e-5)
    # However short the right-hand side is.
    short = KFAC(max_iter=1000, rtol=1e-2).factor(H).solve(1e-60 * b, 0.1)
    assert_close(1e60 * short, x, rtol=1e-5)


def test_what_overflows_in_single_precision_is_solved_in_double():
    case = Case("tanh", 1, "squared", n=40)
    H = case.operator()
    large = GaussNewtonHessian(H.linearization, H.loss, 1e60 * H.weights, H.ridge)
    b = right_hand_side(H)
    with np.errstate(over="ignore", invalid="ignore"):
        x = KFAC(max_iter=1000, rtol=1e-2).factor(large).solve(b, 1e59)
    left = large @ x + 1e59 * x - b
    assert np.linalg.norm(left) < 1.01e-2 * np.linalg.norm(b)


def test_several_right_hand_sides_do_not_disturb_the_beginning():
    H = prescribed(*np.geomspace(1e-3, 1, 50))
    factor = CG(max_iter=1000, rtol=1e-8).factor(H)
    factor.solve(right_hand_side(H, 2), 1e-2)
    assert factor.solution is None


def test_right_hand_side_of_zeros_has_the_solution_zero(name):
    H = WIDE.operator()
    for rhs in (np.zeros(H.shape[0]), np.zeros((H.shape[0], 2))):
        np.testing.assert_array_equal(exact(name).factor(H).solve(rhs, 0.1), 0)


# ---- the choice ----------------------------------------------------------------------


def over(n, *widths):
    """A Gauss-Newton Hessian of n rows that nobody asks anything."""
    network = MLP(widths, ("tanh",) * (len(widths) - 2))
    inputs = append_one(np.zeros((n, widths[0])))
    theta = np.zeros(network.n_parameters)
    return GaussNewtonHessian(
        Linearization(network, theta, inputs), LOSSES["identity"], np.full(n, 1 / n)
    )


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: over(5000, 4, 8, 3), Dense),  # few parameters, many rows
        (lambda: over(20, 100, 300, 3), Gram),  # few rows, many parameters
        (lambda: over(50_000, 100, 900, 900, 1), KFAC),  # neither fits
        (lambda: over(20_000, 100, 50, 50), KFAC),  # dense fits, but costs too much
        (lambda: over(5000, 4, 8, 3).probe(1, 0), Dense),
        (OPERATORS["low rank"], Gram),
        (lambda: prescribed(1, 2, 3), Dense),
        (lambda: aslinearoperator(np.eye(3)), CG),
    ],
)
def test_auto_takes_the_cheapest_that_fits(make, expected):
    assert type(Auto().select(make())) is expected


@pytest.mark.parametrize(
    ("make", "nbytes", "smaller"),
    [
        (lambda: over(5000, 4, 8, 3), 2 * 67**2 * 8, CG),
        (lambda: over(20, 100, 300, 3), 3 * 60**2 * 8, CG),
        (lambda: over(200, 4, 8, 3), 2 * 67**2 * 8, KFAC),
        (lambda: over(40, 4, 8, 3), 3 * 120**2 * 8, Dense),
        (lambda: prescribed(1, 2, 3), 2 * 3**2 * 8, CG),
    ],
)
def test_auto_takes_only_what_fits_the_working_memory(make, nbytes, smaller):
    H = make()
    usual = type(Auto().select(H))
    with config_context(working_memory=nbytes / 2**20):
        assert type(Auto().select(H)) is usual
    with config_context(working_memory=(nbytes - 8) / 2**20):
        assert type(Auto().select(H)) is smaller


def test_auto_factors_with_the_solver_that_it_selects():
    for H in (TALL.operator(), WIDE.operator(), prescribed(1, 2, 3)):
        chosen = Auto().select(H)
        assert type(Auto().factor(H)) is type(chosen.factor(H))
