"""Ridges that vary, as evidence sets them: of layers, of biases, of input columns."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from cases import Case, assert_close
from marks import slow_unless
from scipy import sparse
from sklearn import config_context
from solved import exact, right_hand_side

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian, compress_jacobian
from skgnh.operators.sketch import sketched_grams
from skgnh.solvers import Gram, SketchedGram, all_solvers

CASES = [
    Case("tanh", 1, "softmax", weighted=True, n=12),
    Case("tanh", 3, "binary"),
    Case("tanh", 2, "squared", n=6),
]


def by_layer(network):
    """Weights and biases of each layer for themselves."""
    ridge = np.empty(network.n_parameters)
    for depth, layer in enumerate(network.unpack(ridge)):
        layer[:, :-1], layer[:, -1] = 10.0 ** (depth - 2), 0.3 / (depth + 1)
    return ridge


def by_column(network):
    """Every input of the first layer for itself, too."""
    ridge = by_layer(network)
    first = network.unpack(ridge)[0]
    first[...] = np.geomspace(1e-3, 10, first.shape[1])
    return ridge


def by_input(network):
    """Every input of every layer: more values than Gram matrices are kept for."""
    ridge = np.empty(network.n_parameters)
    for layer in network.unpack(ridge):
        layer[...] = np.random.default_rng(layer.size).uniform(0.01, 2, layer.shape[1])
    return ridge


def by_parameter(network):
    return np.random.default_rng(0).uniform(0.01, 2, network.n_parameters)


KINDS = {f.__name__: f for f in (by_layer, by_column, by_input, by_parameter)}


def hessian(case, kind, **settings):
    H = case.operator(**settings)
    H.ridge = KINDS[kind](H.network).astype(H.dtype)
    return H


def array(case, H):
    J = case.root()
    return J.T @ J + np.diag(H.ridge.astype(float))


def is_quick(drawn):
    """Whether no iteration is needed, or the case is the smallest."""
    name, case, _ = drawn
    return name in ("auto", "dense", "gram", "exact_hessian") or case is CASES[0]


@pytest.mark.parametrize(
    ("name", "case", "kind"),
    slow_unless(is_quick, product(all_solvers(), CASES, KINDS)),
    ids=str,
)
def test_every_solver_is_right_for_every_ridge(name, case, kind):
    H, damping = hessian(case, kind), 1e-2
    factor, rhs = exact(name).factor(H), right_hand_side(H, 2)
    A = array(case, H) + damping * np.eye(H.shape[0])
    assert_close(factor.solve(rhs, damping), np.linalg.solve(A, rhs), rtol=1e-8)
    C = np.linalg.inv(A)
    assert_close(factor.diagonal_of_inverse(damping), C.diagonal(), rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gram_is_exact_with_and_without_a_damping(case, kind):
    H = hessian(case, kind)
    factor, rhs = Gram().factor(H), right_hand_side(H)
    for damping in (0.0, 1e-3, 1.0, 0.0):
        A = array(case, H) + damping * np.eye(H.shape[0])
        assert_close(factor.solve(rhs, damping), np.linalg.solve(A, rhs), rtol=1e-9)
        logdet = np.linalg.slogdet(A)[1]
        assert factor.logdet(damping) == pytest.approx(logdet, rel=1e-9)
        diagonal = np.linalg.inv(A).diagonal()
        assert_close(factor.diagonal_of_inverse(damping), diagonal, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_gram_matrices_by_ridge_add_up(kind):
    case = CASES[0]
    H, J = hessian(case, kind), case.root()
    pairs = H.gram_by_ridge()
    assert [value for value, _ in pairs] == sorted(set(map(float, H.ridge)))[::-1]
    for value, gram in pairs:
        some = J[:, H.ridge == value]
        assert_close(gram, some @ some.T)
    scale = 1 / (H.ridge + 0.1)
    assert_close(H.gram(scale), (J * scale) @ J.T)
    sparse_ = hessian(case, kind, convert=sparse.csr_array)
    assert_close(sparse_.gram(scale), (J * scale) @ J.T)
    for (_, expected), (_, gram) in zip(pairs, sparse_.gram_by_ridge(), strict=True):
        assert_close(gram, expected)


def test_many_values_of_the_ridge_are_not_kept_as_many_matrices(monkeypatch):
    H = hessian(CASES[0], "by_input")
    assert len(np.unique(H.ridge)) > 8

    def refuse(*args):
        raise AssertionError("kept")

    monkeypatch.setattr(type(H), "gram_by_ridge", refuse)
    rhs = right_hand_side(H)
    A = array(CASES[0], H) + 0.1 * np.eye(H.shape[0])
    assert_close(Gram().factor(H).solve(rhs, 0.1), np.linalg.solve(A, rhs), rtol=1e-9)


def test_parts_that_do_not_fit_the_working_memory_are_not_kept():
    H = hessian(CASES[0], "by_layer")
    rows = H.root.shape[0]
    rhs, A = right_hand_side(H), array(CASES[0], H) + 0.1 * np.eye(H.shape[0])
    with config_context(working_memory=3 * rows**2 * 8 / 2**20):
        x = Gram().factor(H).solve(rhs, 0.1)
    assert_close(x, np.linalg.solve(A, rhs), rtol=1e-9)


@pytest.mark.parametrize("along", ["neurons", "parameters"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transform", ["srht", "countsketch"])
def test_sketches_precondition_whatever_the_ridge(transform, kind, along):
    case = CASES[0]
    H, rhs = hessian(case, kind), right_hand_side(hessian(case, kind))
    solver = SketchedGram(2, transform, along, rtol=1e-12, max_iter=500)
    factor = solver.factor(H)
    A = array(case, H) + 1e-2 * np.eye(H.shape[0])
    assert_close(factor.solve(rhs, 1e-2), np.linalg.solve(A, rhs), rtol=1e-9)


@pytest.mark.parametrize("varies", [False, True])
def test_inputs_are_sketched_only_where_they_have_one_ridge(varies):
    rng, network = np.random.default_rng(0), MLP((300, 2, 1), ("tanh",))
    inputs = append_one(rng.standard_normal((12, 300)))
    linearization = Linearization(network, network.initialize(rng), inputs)
    ridge = by_layer(network)
    network.unpack(ridge)[0][:, :150] *= 5 if varies else 1
    H = GaussNewtonHessian(linearization, LOSSES["identity"], np.ones(12), ridge)
    way = {"transform": "srht", "oversampling": 2, "along": "neurons", "rng": rng}
    exact_ones = [gram for _, gram in H.gram_by_ridge()]
    sketched = [gram for _, gram in H.gram_by_ridge(partial(sketched_grams, **way))]
    errors = [abs(a - b).max() for a, b in zip(sketched, exact_ones, strict=True)]
    assert (max(errors) > 0.1) is not varies
    assert not varies or max(errors) < 1e-10


def test_low_rank_takes_a_ridge_of_every_parameter():
    low = compress_jacobian(CASES[0].operator(), rank=5, random_state=0)
    low.ridge = by_parameter(CASES[0].network)
    rhs, factor = right_hand_side(low), Gram().factor(low)
    for damping in (0.0, 0.1):
        A = low.toarray() + damping * np.eye(len(rhs))
        assert_close(factor.solve(rhs, damping), np.linalg.solve(A, rhs), rtol=1e-9)
        diagonal = np.linalg.inv(A).diagonal()
        assert_close(factor.diagonal_of_inverse(damping), diagonal, rtol=1e-9)
