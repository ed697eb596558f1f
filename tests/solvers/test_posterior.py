"""What a posterior asks of a factor, for every solver, against dense inverses."""

import numpy as np
import pytest
from cases import Case, assert_close
from marks import slow_unless
from matrices import deep_hessian, digits_hessian
from sklearn import config_context
from solved import OPERATORS, PAIRS, TALL, exact

from skgnh.operators import DenseMatrix
from skgnh.solvers import (
    CG,
    KFAC,
    MFAC,
    Dense,
    ExactHessianSolver,
    Gram,
    HMatrix,
    Nystrom,
    SketchedGram,
    all_solvers,
)
from skgnh.solvers.exact_hessian import LayerFactor

DAMPINGS = (1e-2, 1.0)
# Of what is smaller than 128 parameters all is exact but the log-determinants of these.
APPROXIMATIONS = ("kfac", "nystrom", "mfac")
NONE = ("cg", "sketched_gram")
FACTORED = ("auto", "dense", "gram", "exact_hessian")
# A solver that iterates takes long to be exact: by default on one operator.
EVERY = pytest.mark.parametrize(
    ("name", "operator"),
    slow_unless(
        lambda pair: pair[0] in FACTORED or pair[1] == "more rows than parameters",
        PAIRS,
    ),
)
# Solved directly, they answer of their own matrix.
DIRECT = {
    "kfac": KFAC(direct=True),
    "nystrom": Nystrom(rank=8, direct=True),
    "mfac": MFAC(n_gradients=12, direct=True),
    "hmatrix": HMatrix(storage=24, direct=True),
}


def groups_of(P):
    return np.arange(P) * 3 // P


def inverse(H, damping):
    return np.linalg.inv(H.toarray() + damping * np.eye(H.shape[0]))


def rows_of(P, k=4):
    return np.random.default_rng(2).standard_normal((k, P))


@EVERY
def test_answers_are_those_of_the_dense_inverse(name, operator):
    H = OPERATORS[operator]()
    factor, P = exact(name).factor(H), H.shape[0]
    groups, rows = groups_of(P), rows_of(P)
    for damping in DAMPINGS:
        C = inverse(H, damping)
        assert_close(factor.diagonal_of_inverse(damping), C.diagonal(), rtol=1e-7)
        traces = [C.diagonal()[groups == g].sum() for g in range(groups[-1] + 1)]
        assert_close(factor.trace_of_inverse(groups, damping), traces, rtol=1e-7)
        quadratic = np.einsum("kp,pq,kq->k", rows, C, rows)
        assert_close(factor.inverse_quadratic(rows, damping), quadratic, rtol=1e-7)


@pytest.mark.parametrize(("name", "operator"), PAIRS)
def test_log_determinant_is_exact_an_estimate_or_refused(name, operator):
    H = OPERATORS[operator]()
    factor = exact(name).factor(H)
    for damping in DAMPINGS:
        if name in NONE:
            with pytest.raises(ValueError, match="has no log-determinant; take") as e:
                factor.logdet(damping)
            assert str(e.value).startswith({"cg": "CG"}.get(name, "SketchedGram"))
            continue
        answer = factor.logdet(damping)
        assert type(answer) is float
        expected = -np.linalg.slogdet(inverse(H, damping))[1]
        if name not in APPROXIMATIONS:
            assert answer == pytest.approx(expected, rel=1e-8, abs=1e-8)
        elif name != "mfac":
            # K-FAC and a low rank, to half of what H has to say beside the damping.
            least = H.shape[0] * np.log(damping)
            assert abs(answer - expected) <= 0.5 * (expected - least) + 1e-8
            assert name == "kfac" or answer <= expected + 1e-8


def test_auto_answers_by_what_it_takes():
    # P of 31 and 40 rows of three outputs: an array.
    assert "logdet" in vars(type(all_solvers()["auto"]().factor(TALL.operator())))


@EVERY
def test_draws_have_the_covariance_of_the_inverse(name, operator):
    H = OPERATORS[operator]()
    factor, damping = exact(name).factor(H), 0.5
    if "root" not in H.offers and name not in ("auto", "dense", "exact_hessian"):
        with pytest.raises(ValueError, match="draws by the root of H, which DenseMat"):
            factor.draw(np.random.default_rng(0), 2, damping)
        return
    # What iterates is asked for fewer: a draw is a solve.
    n = 2000 if name in FACTORED else 150
    draws = factor.draw(np.random.default_rng(0), n, damping)
    assert_covariance(draws, inverse(H, damping))


def assert_covariance(draws, C):
    """Whitened, the entries of the sample covariance have the deviation n^-1/2."""
    n = draws.shape[1]
    white = np.linalg.solve(np.linalg.cholesky(C), draws)
    error = white @ white.T / n - np.eye(len(C))
    assert np.abs(error - np.diag(error.diagonal())).max() < 5.5 * n**-0.5
    assert np.abs(error.diagonal()).max() < 5.5 * (2 / n) ** 0.5
    assert np.abs(white.mean(axis=1)).max() < 5 * n**-0.5


# ---- approximations that are solved directly -----------------------------------------


@pytest.mark.parametrize("name", DIRECT)
def test_direct_answers_are_of_the_approximation(name):
    H = digits_hessian(60, (3,)) if name == "hmatrix" else TALL.operator()
    factor, P = DIRECT[name].factor(H), H.shape[0]
    for damping in DAMPINGS:
        C = factor.solve(np.eye(P), damping)
        assert_close(C, C.T, rtol=1e-9)
        logdet = -np.linalg.slogdet(C)[1]
        assert factor.logdet(damping) == pytest.approx(logdet, rel=1e-8)
        if name != "hmatrix":  # of more parameters than it is solved for
            diagonal = factor.diagonal_of_inverse(damping)
            assert_close(diagonal, C.diagonal(), rtol=1e-8)
            assert_covariance(factor.draw(np.random.default_rng(1), 4000, damping), C)


def test_iterative_log_determinant_is_that_of_the_approximation():
    H = TALL.operator()
    for solver in (KFAC(), MFAC(n_gradients=12)):
        factor = solver.factor(H)
        C = factor.inner.solve(np.eye(H.shape[0]), 0.1)
        logdet = -np.linalg.slogdet(C)[1]
        assert factor.logdet(0.1) == pytest.approx(logdet, rel=1e-8)


# ---- estimates -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(CG(rtol=1e-10, max_iter=5000), marks=pytest.mark.slow),
        pytest.param(HMatrix(rtol=1e-10, max_iter=5000), marks=pytest.mark.slow),
        pytest.param(KFAC(rtol=1e-10, max_iter=5000), marks=pytest.mark.slow),
        SketchedGram(rtol=1e-8),
    ],
    ids=str,
)
def test_diagonal_of_many_parameters_is_estimated_within_its_deviation(solver):
    H, damping = digits_hessian(60, (6,)), 1e-2
    C = inverse(H, damping)
    assert len(C) > 128
    factor = solver.factor(H)
    beside = C - np.diag(C.diagonal())
    deviation = np.sqrt((beside**2).sum(axis=1) / 32)
    error = factor.diagonal_of_inverse(damping) - C.diagonal()
    assert np.all(np.abs(error) <= 4.5 * deviation + 1e-9 * C.max())
    assert np.abs(error).max() > 1e-3 * deviation.max()
    groups = groups_of(len(C))
    traces = np.bincount(groups, C.diagonal())
    answer = factor.trace_of_inverse(groups, damping)
    # Two per cent of each trace, of some fifty to eighty parameters.
    assert np.all(np.abs(answer - traces) <= 0.02 * traces)
    np.testing.assert_array_equal(answer, factor.trace_of_inverse(groups, damping))


def test_what_a_posterior_asks_does_not_disturb_the_training():
    H = digits_hessian(60, (6,))
    factor = HMatrix(storage=32).factor(H)
    factor.solve(H @ np.ones(H.shape[0]), 1e-2)
    before, solution = factor.inner.iterations, factor.solution
    factor.trace_of_inverse(groups_of(H.shape[0]), 1e-2)
    assert factor.inner.iterations == before
    assert factor.solution is solution


# ---- by solver -----------------------------------------------------------------------


@pytest.mark.parametrize("max_cholesky", [0, 4])
def test_dense_answers_by_either_factorisation(max_cholesky):
    H = TALL.operator()
    factor = Dense(max_cholesky).factor(H)
    C = inverse(H, 0.3)
    assert_close(factor.diagonal_of_inverse(0.3), C.diagonal(), rtol=1e-9)
    assert_covariance(factor.draw(np.random.default_rng(0), 4000, 0.3), C)
    # Nothing of it spoils what is kept for the damping.
    assert_close(factor.solve(np.eye(31), 0.3), C, rtol=1e-9)
    assert factor.logdet(0.3) == pytest.approx(-np.linalg.slogdet(C)[1])


def test_inverse_of_dense_beyond_the_working_memory_is_refused():
    H = TALL.operator()
    factor = Dense().factor(H)
    with (
        config_context(working_memory=2.5 * 31**2 * 8 / 2**20),
        pytest.raises(ValueError, match="The inverse of 31 parameters needs"),
    ):
        factor.diagonal_of_inverse(0.1)


def test_gram_answers_in_chunks_and_never_forms_the_inverse():
    case = Case("tanh", 3, "binary")
    H, C = case.operator(), inverse(case.operator(), 0.1)
    factor = Gram().factor(H)
    whole = factor.diagonal_of_inverse(0.1)
    assert_close(whole, C.diagonal(), rtol=1e-9)
    with config_context(working_memory=1e-3):
        assert_close(factor.diagonal_of_inverse(0.1), whole, rtol=1e-12)
        quadratic = factor.inverse_quadratic(rows_of(len(C)), 0.1)
    rows = rows_of(len(C))
    assert_close(quadratic, np.einsum("kp,pq,kq->k", rows, C, rows), rtol=1e-9)


def test_saddle_free_answers_of_the_size_of_the_hessian():
    H = Case("tanh", 3, "squared", weighted=True, n=8).exact()
    factor = ExactHessianSolver(saddle_free=True).factor(H)
    values, U = np.linalg.eigh(H.toarray())
    assert values[0] < 0
    C = (U / (np.abs(values) + 0.1)) @ U.T
    assert factor.logdet(0.1) == pytest.approx(-np.linalg.slogdet(C)[1])
    assert_close(factor.diagonal_of_inverse(0.1), C.diagonal(), rtol=1e-9)
    assert_covariance(factor.draw(np.random.default_rng(0), 4000, 0.1), C)


def test_elimination_by_layers_answers_by_its_solves():
    H = deep_hessian(5, 3, 2)
    factor = LayerFactor(H)
    values = np.linalg.eigvalsh(H.toarray())
    damping = 0.1 + abs(values[0])
    C = inverse(H, damping)
    assert_close(factor.diagonal_of_inverse(damping), C.diagonal(), rtol=1e-8)
    with pytest.raises(ValueError, match="Elimination by layers draws by the root of"):
        factor.draw(np.random.default_rng(0), 1, damping)


@pytest.mark.parametrize("shift", [0.0, 0.1])
@pytest.mark.parametrize("direct", [False, True])
def test_log_determinant_is_of_the_damping_whatever_the_shift(shift, direct):
    H = digits_hessian(60, (6,))
    solver = HMatrix(storage=24, direct=direct)
    factor = solver.factor(H)
    inner = factor if direct else factor.inner
    (choice, *_) = solver.choices(H)
    made = solver.approximation(H, choice._replace(shift=shift))
    shifted = type(inner)(H, [made], 0)
    assert (shifted.approximation.shift > 0) == (shift > 0)
    M = made @ np.eye(H.shape[0])
    for damping in (1e-3, 1e-1):
        expected = np.linalg.slogdet(M + damping * np.eye(len(M)))[1]
        assert shifted.logdet(damping) == pytest.approx(expected, rel=1e-8)


def test_log_determinant_after_trials_is_of_the_damping():
    H = digits_hessian(60, (6,))
    factor = HMatrix(storage=24, epsilon=None).factor(H)
    damping = 1e-4 * H.diagonal().mean()
    factor.solve(H @ np.ones(H.shape[0]), damping)
    approximation = factor.inner.approximation
    M = approximation @ np.eye(H.shape[0])
    expected = np.linalg.slogdet(M + damping * np.eye(len(M)))[1]
    assert factor.logdet(damping) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", all_solvers())
def test_answers_keep_the_precision(name):
    H = TALL.operator(np.float32)
    factor = all_solvers()[name]().factor(H)
    rows = rows_of(31).astype(np.float32)
    for answer in (
        factor.diagonal_of_inverse(np.float64(0.1)),
        factor.draw(np.random.default_rng(0), 2, np.float64(0.1)),
        factor.inverse_quadratic(rows, np.float64(0.1)),
    ):
        assert answer.dtype == np.float32
        assert np.isfinite(answer).all()
    assert factor.trace_of_inverse(groups_of(31), 0.1).dtype == np.float64


def test_matrix_without_a_root_is_drawn_from_by_dense():
    H = DenseMatrix(np.diag([1.0, 4.0]))
    assert Dense().factor(H).draw(np.random.default_rng(0), 5, 0.0).shape == (2, 5)


@pytest.mark.parametrize("solver", [KFAC(direct=True), Dense(), Gram()])
def test_rows_held_by_layers_are_answered_as_arrays_are(solver):
    # Weights and biases have ridges of their own: K-FAC's blocks are not diagonal.
    H = Case(n_hidden=2, kind="softmax", weighted=True).operator()
    made = H.root.make_factors(slice(0, 5))
    rows = made.array()
    factor = solver.factor(H)
    expected = factor.inverse_quadratic(rows.reshape(-1, rows.shape[2]), 0.1)
    found = factor.inverse_quadratic_of(made, 0.1)
    assert_close(found, expected.reshape(found.shape), 1e-9)
