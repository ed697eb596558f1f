"""Rotations, the Kronecker basis and the GNH in it, against dense ones."""

from functools import cache, cached_property

import numpy as np
import oracles
import pytest
from cases import LOSS_KINDS, Case, assert_close
from marks import slow_unless
from scipy import sparse
from sklearn import config_context

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian, KroneckerBasis, RotatedHessian
from skgnh.operators.kronecker import Rotation, kronecker_factors
from skgnh.operators.root import GaussNewtonRoot
from skgnh.operators.tables import PairTables

TAILS = (0.0, 0.05, 0.5)
TOL = {np.float64: 1e-11, np.float32: 5e-5}


def orthonormal(n, k, seed=0):
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, k)))
    return Q


# ---- rotations -----------------------------------------------------------------------

VECTORS = {
    "random": lambda n, k: orthonormal(n, k),
    "unit vectors": lambda n, k: np.eye(n)[:, :k],
    "unit vectors, negative": lambda n, k: -np.eye(n)[:, :k],
    "unit vectors from the last": lambda n, k: np.eye(n)[:, ::-1][:, :k],
    "a unit vector first": lambda n, k: np.linalg.qr(
        np.c_[np.eye(n)[:, :1], np.random.default_rng(0).standard_normal((n, k - 1))]
    )[0],
}


@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (7, 1), (7, 3), (7, 6), (7, 7)])
@pytest.mark.parametrize("dtype", TOL)
def test_rotation_is_orthogonal_and_begins_with_the_vectors(dtype, n, k, kind):
    vectors = VECTORS[kind](n, k).astype(dtype)
    rotation = Rotation(vectors)
    Q = rotation.right(np.eye(n, dtype=dtype))
    assert Q.dtype == dtype
    eps = np.finfo(dtype).eps
    assert np.max(np.abs(Q.T @ Q - np.eye(n))) < 50 * eps
    assert np.max(np.abs(Q @ Q.T - np.eye(n))) < 50 * eps
    signs = np.sign(np.sum(Q[:, :k] * vectors, axis=0))
    assert np.max(np.abs(Q[:, :k] * signs - vectors)) < 50 * eps
    for rows in (4, 20):
        X = np.random.default_rng(1).standard_normal((3, rows, n)).astype(dtype)
        assert rotation.right(X).dtype == dtype
        assert_close(rotation.right(X), X @ Q, rtol=50 * eps)
        assert_close(rotation.right(X, transposed=True), X @ Q.T, rtol=50 * eps)
    assert rotation.right(X[:0]).shape == (0, rows, n)


def test_rotation_holds_its_reflectors_and_a_triangle():
    assert Rotation(orthonormal(30, 4)).size == 30 * 4 + 4 * 5 // 2
    # A unit vector that stays where it is takes no reflector.
    assert Rotation(np.eye(30)[:, :4]).size == 0


# ---- problems ------------------------------------------------------------------------


class Problem:
    """A case with one ridge, its dense H and the operator."""

    def __init__(self, case, ridge="weights", dtype=np.float64, convert=None):
        self.case, self.dtype = case, dtype
        self.H = case.operator(dtype, convert, ridge=ridge == "weights")
        if ridge == "both":
            # Other numbers for the weights and the biases of every layer.
            for depth, layer in enumerate(self.H.network.unpack(self.H.ridge)):
                layer[:, :-1], layer[:, -1] = 0.02 * (depth + 1), 0.07

    @cached_property
    def array(self):
        J = self.case.root()
        return J.T @ J + np.diag(self.H.ridge.astype(float))


# With 40 outputs their pairs are tabulated.
TABULATED = {"squared": "identity", "multilabel": "logistic"}
OUTPUTS = {**TABULATED, "softmax": "softmax"}


class ManyOutputs:
    """A case of more than 32 outputs."""

    def __init__(self, kind, ridge="weights", dtype=np.float64, d=40, n=9):
        rng = np.random.default_rng(3)
        network = MLP((3, 4, 2, d), ("tanh", "tanh"))
        theta = network.initialize(rng, np.float64)
        theta += 0.1 * rng.standard_normal(len(theta))
        X, weights = rng.standard_normal((n, 3)), rng.dirichlet(np.ones(n))
        penalty = {"none": 0.0, "weights": 0.03, "both": 0.03}[ridge]
        penalty = penalty * network.weight_mask() + 0.05 * (ridge == "both")
        self.dtype = dtype
        self.H = GaussNewtonHessian(
            Linearization(network, theta.astype(dtype), append_one(X.astype(dtype))),
            LOSSES[OUTPUTS[kind]],
            weights.astype(dtype),
            penalty.astype(dtype),
        )
        units, output = network.layer_units, OUTPUTS[kind]
        self.oracle = oracles.Curvature(theta, X, units, ("tanh", "tanh"), output)
        self.weights, self.penalty = weights, penalty

    @cached_property
    def array(self):
        return self.oracle.array(self.weights, self.penalty)


@cache
def many_outputs(kind, ridge="weights", dtype=np.float64):
    return ManyOutputs(kind, ridge, dtype)


def basis_array(basis):
    return basis.restore(np.eye(basis.network.n_parameters))


def check(problem, tail, n_probes=32, basis=None):
    """Compare all that the rotated operator answers with ``Q^T H Q``."""
    rtol = TOL[problem.dtype]
    basis = KroneckerBasis(problem.H, tail, n_probes) if basis is None else basis
    rotated = RotatedHessian(problem.H, basis)
    Q, P = basis_array(basis), len(problem.array)
    assert np.max(np.abs(Q.T @ Q - np.eye(P))) < rtol
    A = Q.T @ problem.array @ Q
    rng = np.random.default_rng(0)
    V = rng.standard_normal((P, 3)).astype(problem.dtype)
    assert_close(rotated @ V, A @ V, rtol)
    assert_close(rotated @ V[:, 0], A @ V[:, 0], rtol)
    assert_close(rotated.T @ V, A @ V, rtol)
    assert_close(rotated.diagonal(), np.diag(A), rtol)
    every = np.arange(P)
    assert_close(rotated.entries(every, every), A, rtol)
    # With tables, which entries ask for, and repeated, out of order, of few neurons.
    assert_close(rotated.diagonal(), np.diag(A), rtol)
    for rows, columns in [
        (rng.integers(0, P, 20), rng.integers(0, P, 7)),
        (every[-3:], every[::-2]),
        (every[:1], every[:0]),
    ]:
        block = rotated.entries(rows, columns)
        scale = np.max(np.abs(A))
        assert block.shape == (len(rows), len(columns))
        error = np.max(np.abs(block - A[np.ix_(rows, columns)]), initial=0)
        assert error <= rtol * scale
    J = rotated._data.root.columns(every)
    data = A - Q.T @ np.diag(problem.H.ridge.astype(float)) @ Q
    assert_close(J.T @ J, data, rtol)
    for answer in (rotated @ V, rotated.diagonal(), rotated.entries(every, every), J):
        assert answer.dtype == problem.dtype
    return rotated


# ---- the Hessian in the basis --------------------------------------------------------


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("kind", LOSS_KINDS)
@pytest.mark.parametrize("n_hidden", slow_unless((0, 2).__contains__, range(4)))
def test_rotated_hessian_equals_the_rotated_oracle(n_hidden, kind, weighted, tail):
    check(Problem(Case("tanh", n_hidden, kind, weighted, n=9)), tail)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("ridge", ["none", "weights", "both"])
@pytest.mark.parametrize("kind", LOSS_KINDS)
@pytest.mark.parametrize("tail", TAILS)
def test_ridge_is_rotated_too(tail, kind, ridge, dtype):
    check(Problem(Case("logistic", 2, kind, True, n=9), ridge, dtype), tail)


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize(
    "ridge", slow_unless("both".__eq__, ["none", "weights", "both"])
)
@pytest.mark.parametrize("kind", TABULATED)
@pytest.mark.parametrize("tail", TAILS)
def test_many_outputs_are_tabulated_in_the_basis(tail, kind, ridge, dtype):
    problem = many_outputs(kind, ridge, dtype)
    rotated = check(problem, tail)
    # A diagonal root of the outputs stays one, though probes have blurred the factor.
    assert rotated._data._tables is not None
    assert rotated.basis.rotations[-1][0] is None


@pytest.mark.parametrize("kind", TABULATED)
def test_tables_of_some_samples_at_a_time_serve_too(kind, monkeypatch):
    monkeypatch.setattr(PairTables, "suit", lambda root: False)
    monkeypatch.setattr("skgnh.memory._CACHE_BYTES", 1)
    monkeypatch.setattr("skgnh.memory._MIN_ROWS", 4)
    monkeypatch.setattr(GaussNewtonRoot, "is_kept", False)
    rotated = check(many_outputs(kind), 0.0)
    assert rotated._data._tables is None


def test_many_outputs_of_a_softmax_are_rotated():
    rotated = check(many_outputs("softmax"), 0.05)
    assert rotated._data._tables is None
    assert rotated.basis.rotations[-1][0] is not None


@pytest.mark.parametrize("n_probes", [1, 3])
@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_basis_of_few_probes_is_as_exact_a_basis(kind, n_probes):
    case = Case("tanh", 2, kind, True, n=9)
    check(Problem(case), 0.05, n_probes=n_probes)
    bases = [KroneckerBasis(Problem(case).H, 0.05, 1, seed) for seed in (0, 0, 1)]
    same, again, other = (basis_array(basis) for basis in bases)
    np.testing.assert_array_equal(same, again)
    assert np.max(np.abs(same - other)) > 1e-3


def test_hessian_of_probes_is_rotated():
    many = ManyOutputs("multilabel")
    many.H = many.H.probe(36, 0)
    many.array = many.H.toarray()
    check(many, 0.05)


def test_basis_of_another_hessian_may_rotate_the_outputs():
    # Of probes, whose root is not diagonal: then nothing is tabulated.
    problem = many_outputs("multilabel")
    basis = KroneckerBasis(problem.H.probe(36, 0), 0.05)
    assert basis.rotations[-1][0] is not None
    rotated = check(problem, 0.05, basis=basis)
    assert rotated._data._tables is None


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.csr_matrix])
@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_sparse_rows_are_rotated_as_dense_ones(kind, convert):
    check(Problem(Case("tanh", 1, kind, True, n=9), convert=convert), 0.05)


def test_relu_and_dead_inputs_are_rotated():
    check(Problem(Case("relu", 3, "multilabel", True, n=4)), 0.0)


def test_integer_vectors_are_not_cut_off():
    problem = Problem(Case("tanh", 1, "softmax", n=9))
    basis = KroneckerBasis(problem.H)
    ones = np.ones(len(problem.array), int)
    assert_close(basis.rotate(ones), basis.rotate(ones.astype(float)), rtol=1e-14)
    rotated = RotatedHessian(problem.H, basis)
    assert_close(rotated @ ones, rotated @ ones.astype(float), rtol=1e-14)


@pytest.mark.parametrize("place", ["weight", "bias"])
def test_ridge_that_differs_within_a_layer_is_refused(place):
    H = Case("tanh", 2, "softmax").operator()
    layer = H.network.unpack(H.ridge)[1]
    layer[1, 0 if place == "weight" else -1] += 0.1
    with pytest.raises(ValueError, match="needs one ridge for a layer's weights"):
        RotatedHessian(H, KroneckerBasis(H))


# ---- the basis -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("tail", TAILS)
def test_rotating_and_restoring_are_inverse_and_keep_lengths(tail, dtype):
    basis = KroneckerBasis(Case("tanh", 3, "softmax", n=9).operator(dtype), tail)
    P = basis.network.n_parameters
    X = np.random.default_rng(0).standard_normal((P, 5)).astype(dtype)
    given, rtol = X.copy(), TOL[dtype]
    for x in (X, X[:, 0], np.asfortranarray(X), X[:, ::2]):
        assert basis.rotate(x).dtype == dtype
        assert_close(basis.restore(basis.rotate(x)), x, rtol)
        assert_close(basis.rotate(basis.restore(x)), x, rtol)
        turned = np.linalg.norm(basis.rotate(x), axis=0)
        assert_close(turned, np.linalg.norm(x, axis=0), rtol)
    np.testing.assert_array_equal(X, given)
    assert np.max(np.abs(basis.rotate(X) - X)) > 0.1


@pytest.mark.parametrize("working_memory", [1024, 1e-4])
@pytest.mark.parametrize("kind", ["softmax", "multilabel"])
@pytest.mark.parametrize("weighted", [False, True])
def test_factors_are_sums_over_the_samples_of_the_oracle(
    weighted, kind, working_memory
):
    case = Case("tanh", 1, kind, weighted, n=9)
    J, (X, _, weights, theta, _) = case.root(), case.data()
    with config_context(working_memory=working_memory):
        factors = kronecker_factors(case.operator())
    # Of the biases' columns the root is B itself.
    first, last = J[:, 3:16:4], J[:, 20::5]
    hidden = np.tanh(X @ theta[:16].reshape(4, 4)[:, :3].T + theta[3:16:4])
    for (S, A), B, a in zip(factors, (first, last), (X, hidden), strict=True):
        ones = np.column_stack([a, np.ones(len(a))])
        assert_close(S, B.T @ B)
        assert_close(A, (ones * weights[:, None]).T @ ones / weights.sum())


@pytest.mark.parametrize("tail", TAILS)
def test_first_coordinates_are_the_leading_eigenvectors(tail):
    H = Case("tanh", 2, "softmax", n=9).operator()
    basis = KroneckerBasis(H, tail)
    for pair, factors in zip(basis.rotations, kronecker_factors(H), strict=True):
        for rotation, S in zip(pair, factors, strict=True):
            values, vectors = np.linalg.eigh(S)
            k = next(
                k for k in range(1, len(S) + 1) if values[:-k].sum() <= tail * S.trace()
            )
            Q = rotation.right(np.eye(len(S)))[:, :k]
            expected = vectors[:, ::-1][:, :k]
            products = np.abs(Q.T @ expected)
            assert np.max(np.abs(products - np.eye(k))) < 1e-6


def test_larger_tail_takes_less():
    H = Case("tanh", 3, "softmax", n=9).operator()
    sizes = [KroneckerBasis(H, tail).size for tail in TAILS]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_linear_model_of_one_block_is_diagonalised():
    # Of a squared error H is exactly I kron A.
    H = Case("identity", 0, "squared", n=9).operator(ridge=False)
    rotated = RotatedHessian(H, KroneckerBasis(H, 0.0))
    every = np.arange(H.shape[0])
    A = rotated.entries(every, every)
    assert_close(A, np.diag(rotated.diagonal()), rtol=1e-12)


def test_diagonal_is_nearer_to_the_matrix_in_the_basis():
    for kind in ("softmax", "squared"):
        H = Case("tanh", 2, kind, n=40).operator()
        rotated = RotatedHessian(H, KroneckerBasis(H, 0.0))
        assert np.linalg.norm(rotated.diagonal()) > np.linalg.norm(H.diagonal())


@pytest.mark.parametrize("tail", [-0.1, 1.0, np.nan])
def test_tail_off_its_range_is_refused(tail):
    with pytest.raises(ValueError, match=r"tail must be in \[0, 1\), got"):
        KroneckerBasis(Case().operator(), tail)


# ---- tables --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOL)
@pytest.mark.parametrize("kind", TABULATED)
def test_diagonal_of_the_tables_is_that_of_the_columns(kind, dtype):
    H = many_outputs(kind, dtype=dtype).H
    assert PairTables.suit(H.root)
    answer = PairTables.of(H.root).diagonal()
    assert answer.dtype == dtype
    assert_close(answer, H.root.column_norms(), rtol=TOL[dtype])
    before = H.diagonal()
    H.entries(np.arange(2), np.arange(2))
    assert H._tables is not None
    assert_close(H.diagonal(), before, rtol=TOL[dtype])


@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_a_scaled_hessian_is_rotated_as_it_is(kind):
    H = Case("tanh", 2, kind, True, n=9).operator()
    scaled = H.scaled(np.where(H.network.weight_mask() > 0, 0.5, 3.0))
    rotated = RotatedHessian(scaled, KroneckerBasis(scaled))
    index = np.arange(H.shape[0])
    Q = rotated.basis.restore(np.eye(len(index)))
    expected = Q.T @ scaled.toarray() @ Q
    assert_close(rotated.entries(index, index), expected)
    assert_close(rotated.diagonal(), expected.diagonal())
    assert_close(rotated @ np.eye(len(index)), expected)
