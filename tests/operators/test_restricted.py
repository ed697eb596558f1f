"""The Hessian of some parameters is a principal submatrix, and solvers take it."""

import numpy as np
import pytest
from cases import Case, assert_close
from sklearn import config_context

from skgnh.operators import RestrictedHessian
from skgnh.solvers import Auto, all_solvers
from skgnh.solvers.preconditioned import Preconditioned

CASE = Case("tanh", 1, "softmax", weighted=True, n=20)
INDEX = np.array([0, 3, 4, 10, 17, 30])


def restricted(dtype=np.float64):
    return RestrictedHessian(CASE.operator(dtype), INDEX)


def expected():
    return CASE.array()[np.ix_(INDEX, INDEX)]


def test_answers_are_those_of_the_submatrix():
    H, A = restricted(), expected()
    V = np.random.default_rng(0).standard_normal((6, 3))
    U = np.random.default_rng(0).standard_normal((H.root.shape[0], 2))
    root = CASE.root()[:, INDEX]
    assert_close(H @ V, A @ V)
    assert_close(H.T @ V[:, 0], A @ V[:, 0])
    assert_close(H.toarray(), A)
    assert_close(H.diagonal(), A.diagonal())
    assert_close(H.entries(np.array([1, 5]), np.array([0, 5])), A[[1, 5]][:, [0, 5]])
    every = np.arange(len(A))
    first, second = H.entry_blocks([(every, every[:2]), (every[3:], every)])
    assert_close(first, A[:, :2])
    assert_close(second, A[3:])
    assert_close(H.root @ V, root @ V)
    assert_close(H.root.T @ U, root.T @ U)
    assert_close(H.root.T @ U[:, 0], root.T @ U[:, 0])


@pytest.mark.parametrize("name", all_solvers())
def test_solvers_solve_it_or_say_what_they_need(name):
    solver, H = all_solvers()[name](), restricted()
    if isinstance(solver, Preconditioned):
        solver.set_params(max_iter=1000, rtol=1e-13)
    if name in ("gram", "kfac", "sketched_gram"):
        with pytest.raises(ValueError, match="which RestrictedHessian lacks"):
            solver.factor(H)
        return
    rhs = np.linspace(-1, 1, 6)
    x = solver.factor(H).solve(rhs, 0.01)
    assert_close(x, np.linalg.solve(expected() + 0.01 * np.eye(6), rhs), rtol=1e-8)


def test_float32_stays_float32():
    H = restricted(np.float32)
    answers = (H @ np.ones(6, np.float32), H.toarray(), H.diagonal())
    assert all(answer.dtype == np.float32 for answer in answers)


def test_dense_form_beyond_the_working_memory_is_refused():
    with config_context(working_memory=2 * 35 * 8 / 2**20):
        with pytest.raises(ValueError, match="Take a solver such as 'cg'"):
            restricted().toarray()
        assert type(Auto().select(restricted())).__name__ == "CG"
