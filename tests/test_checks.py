"""What is asked for is checked in one place; every refusal names the argument."""

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor

from skgnh.hmatrix import compress, hodlr
from skgnh.linalg import check_count, check_number, check_seed, check_vector
from skgnh.operators import DenseMatrix, GaussNewtonHessian, GradientBuffer
from skgnh.operators import compress_jacobian as low_rank
from skgnh.solvers import KFAC, MFAC, HMatrix, Nystrom, all_solvers

P = 9
WRONG_VECTORS = (
    None,
    "text",
    3.0,
    np.ones(P + 1),
    np.full(P, "text"),
    np.ones((P, 2, 2)),
)
WRONG_DAMPINGS = (None, "one", np.nan)
WRONG_SEEDS = (-1, "seed", 2.5, 2**32)
SOLVERS = sorted(all_solvers().keys() - {"exact_hessian"})


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(0).standard_normal((20, 2))
    model = MLPRegressor(
        hidden_layer_sizes=2, random_state=0, solver="lbfgs", alpha=1.0
    )
    return model.fit(X, X[:, 0]), X


@pytest.fixture(scope="module")
def H(fitted):
    return GaussNewtonHessian.from_estimator(*fitted)


def named(name):
    return pytest.raises(ValueError, match=rf"(?<!\w){name}(?!\w)")


@pytest.mark.parametrize("value", WRONG_VECTORS)
def test_a_vector_is_refused_by_name(H, value):
    assert H.shape == (P, P)
    for columns in (False, True):
        with named("x"):
            check_vector(value, "x", P, columns)
    with named("d"):
        H.scaled(value)
    with named("d"):
        DenseMatrix(np.eye(P)).scaled(value)
    with named("rhs"):
        GradientBuffer(2, P).solve(value, 1.0)
    if value is not None:
        with named("scale"):
            H.gram(value)
    if np.ndim(value):
        with named("vector"):
            H @ value


def test_columns_are_a_block_where_that_is_allowed():
    block = np.ones((P, 2))
    check_vector(block, "x", P, columns=True)
    with named("x"):
        check_vector(block, "x", P)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solve_refuses_by_name(H, name):
    factor = all_solvers()[name]().factor(H)
    for value in WRONG_VECTORS:
        with named("rhs"):
            factor.solve(value, 1.0)
    for value in WRONG_DAMPINGS:
        with named("damping"):
            factor.solve(np.ones(P), value)
    assert factor.solve(np.ones((P, 0)), 1.0).shape == (P, 0)


@pytest.mark.parametrize("solver", ["dense", "cg", "auto"])
def test_a_matrix_that_is_not_positive_definite_asks_for_damping(solver):
    factor = all_solvers()[solver]().factor(DenseMatrix(np.diag([-1.0, 1.0])))
    with pytest.raises(np.linalg.LinAlgError, match="damping"):
        factor.solve(np.array([1.0, 0.5]), 0.5)


@pytest.mark.parametrize("value", WRONG_SEEDS)
def test_a_seed_is_refused_by_name(H, value):
    with named("random_state"):
        check_seed(value)
    for call, name in (
        (compress, "rank"),
        (hodlr, "storage"),
        (low_rank, "rank"),
        (type(H).sample, "n_rows"),
    ):
        with named("random_state"):
            call(H, **{name: 4, "random_state": value})
    for solver in (Nystrom, MFAC):
        with named("random_state"):
            solver(random_state=value).factor(H)


@pytest.mark.parametrize("value", ["one", 2.0, -1.0, np.nan])
def test_an_accuracy_is_refused_by_name(H, value):
    with named("epsilon"):
        HMatrix(epsilon=value).factor(H)


def test_an_accuracy_of_nothing_asks_for_all_rows(H):
    assert HMatrix(epsilon=1e-300).sampled(H) is H


def test_seeds_of_all_kinds_are_taken():
    generator, state = np.random.default_rng(0), np.random.RandomState(0)
    for value in (None, 0, np.int64(3), 2**32 - 1, generator, state, np.random):
        check_seed(value)


def test_numbers_and_counts_are_refused_by_name(H):
    for value in (True, "two", None, np.nan, -1):
        with named("n"):
            check_count(value, "n")
        with named("n"):
            check_number(value, "n", 0)
    with pytest.raises(ValueError, match="of at least 0, below 1, got 1"):
        check_number(1, "n", 0, 1)
    check_number(np.float32(-0.5), "n", below=1)
    for value in ("two", True, 2.5):
        with named("n_probes"):
            H.diagonal(value)
        with named("n_probes"):
            KFAC(n_probes=value).factor(H)
    for value in ("one", None):
        with named("tol"):
            low_rank(H, rank=2, tol=value)
    with named("rtol"):
        KFAC(rtol="one").factor(H)
    with named("storage"):
        HMatrix(storage=None).factor(H).solve(np.ones(P), 1.0)


@pytest.mark.parametrize("index", [[-1], [P], [0.5], None, 3, [[0]], ["a"]])
def test_an_index_is_refused_as_one(H, index):
    for call in (H.columns, H.restricted, lambda i: H.entries(i, i)):
        with named("index"):
            call(index)


def test_targets_of_text_are_refused(fitted):
    with pytest.raises(ValueError, match="y must be numbers"):
        GaussNewtonHessian.from_estimator(*fitted, np.full(20, "text"))
