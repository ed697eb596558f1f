"""The Hessian of some parameters is a principal submatrix, and solvers take it."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from cases import Case, assert_close
from sklearn import config_context

from skgnh.operators import (
    EntrySampler,
    GaussNewtonHessian,
    KroneckerBasis,
    RestrictedHessian,
)
from skgnh.operators.assembly import by_neurons, by_root
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


DEEP = Case("tanh", 3, "softmax", weighted=True, n=9)
SUBSETS = [s for k in (1, 2, 3) for s in combinations(range(4), k)]


def of_layers(case, layers):
    """Indices of all parameters of some layers."""
    sizes = [(fan + 1) * width for fan, width in pairwise(case.widths)]
    offsets = np.cumsum([0, *sizes])
    return np.concatenate([np.arange(*offsets[k : k + 2]) for k in layers])


@pytest.mark.parametrize("layers", SUBSETS, ids=str)
@pytest.mark.parametrize("kind", ["softmax", "multilabel"])
def test_whole_layers_answer_all_that_the_whole_does(kind, layers):
    case = Case("tanh", 3, kind, weighted=True, n=9)
    index = of_layers(case, layers)
    H, A = case.operator().restricted(index), case.array()[np.ix_(index, index)]
    root = case.root()[:, index]
    assert isinstance(H, GaussNewtonHessian)
    assert H.offers == case.operator().offers
    assert_close(H @ np.eye(len(A)), A)
    assert_close(H.toarray(), A)
    assert_close(by_neurons(H.root) + np.diag(H.ridge), A)
    assert_close(by_root(H.root) + np.diag(H.ridge), A)
    basis = KroneckerBasis(H)
    assert_close(basis.restore(basis.rotate(A)), A)
    assert_close(H.diagonal(), A.diagonal())
    every = np.arange(len(A))
    assert_close(H.entries(every, every[::-1]), A[:, ::-1])
    assert_close(H.root @ np.eye(len(A)), root)
    assert_close(H.root.T @ np.eye(len(root)), root.T)
    assert_close(H.columns(every[::2]), root[:, ::2])
    assert_close(H.gram(), root @ root.T)
    parts = sum(gram / (ridge + 0.3) for ridge, gram in H.gram_by_ridge())
    assert_close(parts, root / (H.ridge + 0.3) @ root.T)
    assert_close(EntrySampler(H).entries(every, every), A)
    # Of these layers alone, and in other units.
    scaled = H.scaled(np.full(len(A), 2.0))
    assert_close(scaled.gram(), 4 * root @ root.T)
    assert_close(H.sample(10**6, 0).toarray(), A, rtol=0.05)


def test_layers_of_layers_are_those_of_the_whole():
    H = DEEP.operator().restricted(of_layers(DEEP, (0, 1, 3)))
    some = np.flatnonzero(np.isin(of_layers(DEEP, (0, 1, 3)), of_layers(DEEP, (1, 3))))
    index = of_layers(DEEP, (1, 3))
    assert_close(H.restricted(some).toarray(), DEEP.array()[np.ix_(index, index)])
    few = H.restricted(some[1:])
    assert isinstance(few, RestrictedHessian)
    assert_close(few.toarray(), DEEP.array()[np.ix_(index[1:], index[1:])])
    # Coordinates of all layers have no part of their own.
    scaled = DEEP.operator().scaled(np.full(DEEP.network.n_parameters, 2.0))
    assert_close(
        scaled.restricted(index) @ np.eye(len(index)),
        4 * DEEP.array()[np.ix_(index, index)],
    )


@pytest.mark.parametrize("layers", [(0,), (1, 2), (3,)], ids=str)
@pytest.mark.parametrize("name", sorted(set(all_solvers()) - {"exact_hessian"}))
def test_solvers_solve_for_whole_layers(name, layers):
    index, solver = of_layers(DEEP, layers), all_solvers()[name]()
    H = DEEP.operator().restricted(index)
    if isinstance(solver, Preconditioned):
        solver.set_params(max_iter=1000, rtol=1e-13)
    if name == "sketched_gram":
        solver.set_params(rtol=1e-12)
    rhs = np.linspace(-1, 1, len(index))
    x = solver.factor(H).solve(rhs, 0.01)
    A = DEEP.array()[np.ix_(index, index)] + 0.01 * np.eye(len(index))
    assert_close(x, np.linalg.solve(A, rhs), rtol=1e-8)


def test_float32_stays_float32():
    H = restricted(np.float32)
    answers = (H @ np.ones(6, np.float32), H.toarray(), H.diagonal())
    assert all(answer.dtype == np.float32 for answer in answers)


def test_dense_form_beyond_the_working_memory_is_refused():
    with config_context(working_memory=2 * 35 * 8 / 2**20):
        with pytest.raises(ValueError, match="Take a solver such as 'cg'"):
            restricted().toarray()
        assert type(Auto().select(restricted())).__name__ == "CG"
