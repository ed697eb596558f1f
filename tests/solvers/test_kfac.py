"""The Kronecker approximation against its dense definition, and as a preconditioner."""

import numpy as np
import oracles
import pytest
from cases import LOSS_KINDS, Case, assert_close
from matrices import digits_hessian
from scipy import sparse
from scipy.linalg import LinAlgError, block_diag

from skgnh.operators.kronecker import kronecker_factors
from skgnh.solvers import CG, KFAC
from skgnh.solvers.kfac import KroneckerFactor

CASES = [
    Case("tanh", 1, "softmax", weighted=True),
    Case("relu", 3, "multilabel"),
    Case("logistic", 2, "squared", weighted=True),
    Case("identity", 0, "poisson", weighted=True),
    Case("tanh", 4, "binary"),
]
DEEP = Case("tanh", 2, "softmax", weighted=True, n=30)
EXACT = {"max_iter": 10_000, "rtol": 1e-12}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


def layer_inputs(case, x, theta):
    """Input of each layer for one sample, its one last."""
    a, start, found = np.append(x, 1.0), 0, []
    for depth, (fan, out) in enumerate(
        zip(case.widths[:-1], case.widths[1:], strict=True)
    ):
        found.append(a)
        Theta = theta[start : start + out * (fan + 1)].reshape(out, fan + 1)
        start += Theta.size
        if depth < case.n_hidden:
            a = np.append(oracles.SCALARS[case.activation](Theta @ a), 1.0)
    return found


def kronecker_layers(case, weights=None, mixtures=None):
    """The layers' blocks, sums over samples of the oracle: without ridge or damping.

    The columns of the root at the biases are the roots carried back to the neurons.
    """
    X, _, given, theta, _ = case.data()
    weights = given if weights is None else weights
    J = case.curvature().root(weights, mixtures)
    inputs = [layer_inputs(case, x, theta) for x in X]
    blocks, start = [], 0
    for depth, (fan, out) in enumerate(
        zip(case.widths[:-1], case.widths[1:], strict=True)
    ):
        B = J[:, start + fan : start + out * (fan + 1) : fan + 1]
        outer = sum(np.outer(b, b) for b in B)
        inner = sum(
            w * np.outer(a[depth], a[depth])
            for w, a in zip(weights, inputs, strict=True)
        )
        blocks.append(np.kron(outer, inner / weights.sum()))
        start += out * (fan + 1)
    return blocks


def kronecker(case, damping, ridge=True, **settings):
    """The whole damped approximation, with the ridge as it is."""
    M = block_diag(*kronecker_layers(case, **settings))
    return M + np.diag((case.data()[4] if ridge else 0) + np.full(len(M), damping))


def columns(P, k=3, seed=0):
    return np.random.default_rng(seed).standard_normal((P, k))


# ---- the approximation ---------------------------------------------------------------


@pytest.mark.parametrize("damping", [1e-6, 1e-2, 10.0])
def test_solution_is_that_of_the_dense_definition(case, damping):
    factor, M = KroneckerFactor(case.operator()), kronecker(case, damping)
    rhs = columns(len(M))
    given = rhs.copy()
    x = factor.solve(rhs, damping)
    assert_close(x, np.linalg.solve(M, rhs), rtol=1e-9)
    assert_close(factor.solve(rhs[:, 1], damping), x[:, 1], rtol=1e-12)
    np.testing.assert_array_equal(rhs, given)


def test_one_factor_serves_every_damping(case):
    factor = KroneckerFactor(case.operator(ridge=False))
    rhs = columns(case.operator().shape[0])
    for damping in (1e-3, 1.0, 1e3, 1e-3):
        M = kronecker(case, damping, ridge=False)
        assert_close(factor.solve(rhs, damping), np.linalg.solve(M, rhs), rtol=1e-9)


@pytest.mark.parametrize("weights", [0.0, 0.3, 1e4])
@pytest.mark.parametrize("biases", [0.0, 0.05, 1e4])
def test_weights_and_biases_of_each_layer_have_their_own_ridge(weights, biases):
    # Both far from each other too, where the rank-one update of a bias cancels.
    H = DEEP.operator()
    H.ridge = np.concatenate(
        [
            np.where(np.arange(fan) < fan - 1, weights, biases)
            for fan in np.repeat(*np.array(H.network.shapes).T[::-1])
        ]
    )
    factor, rhs = KroneckerFactor(H), columns(len(H.ridge))
    for damping in (1e-3, 1.0):
        M = block_diag(*kronecker_layers(DEEP)) + np.diag(H.ridge + damping)
        assert_close(factor.solve(rhs, damping), np.linalg.solve(M, rhs), rtol=1e-8)
        diagonal = factor.diagonal_of_inverse(damping)
        assert_close(diagonal, np.linalg.inv(M).diagonal(), rtol=1e-8)
        assert factor.logdet(damping) == pytest.approx(np.linalg.slogdet(M)[1])


def test_matrix_that_is_singular_is_refused():
    factor = KroneckerFactor(DEEP.operator(ridge=False))
    with pytest.raises(LinAlgError, match="singular: raise the damping"):
        factor.solve(columns(DEEP.operator().shape[0]), 0.0)


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.csr_matrix])
def test_sparse_rows_give_what_dense_rows_give(case, convert):
    rhs = columns(case.operator().shape[0])
    answer = KroneckerFactor(case.operator(convert=convert)).solve(rhs, 0.1)
    assert_close(answer, KroneckerFactor(case.operator()).solve(rhs, 0.1), rtol=1e-12)


def test_probed_operator_is_approximated_by_its_probes():
    H = DEEP.operator().probe(2, 0)
    mixtures = np.swapaxes(H.root.probes, 1, 2) / np.sqrt(2)
    M = kronecker(DEEP, 0.1, mixtures=mixtures)
    rhs = columns(len(M))
    assert_close(KroneckerFactor(H).solve(rhs, 0.1), np.linalg.solve(M, rhs))


def test_few_probes_stand_for_many_outputs():
    H, rhs = DEEP.operator(), columns(DEEP.operator().shape[0], 1)[:, 0]

    def solve(**settings):
        return KFAC(direct=True, **settings).factor(H).solve(rhs, 0.1)

    probed = KroneckerFactor(H.probe(2, 7)).solve(rhs, 0.1)
    assert_close(solve(n_probes=2, random_state=7), probed, rtol=1e-13)
    assert np.any(solve(n_probes=2, random_state=8) != probed)
    exact = KroneckerFactor(H).solve(rhs, 0.1)
    for n_probes in (3, 8):
        np.testing.assert_array_equal(solve(n_probes=n_probes), exact)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_layers_of_a_single_sample_are_exact(kind, activation):
    case = Case(activation, 2, kind, n=1)
    H, start = case.array() - np.diag(case.data()[4]), 0
    factor = KroneckerFactor(case.operator(ridge=False))
    for block in kronecker_layers(case):
        here = slice(start, start + len(block))
        assert_close(block, H[here, here], rtol=1e-12)
        rhs = np.zeros(len(H))
        rhs[here] = columns(len(block), 1)[:, 0]
        damped = H[here, here] + 0.1 * np.eye(len(block))
        expected = np.zeros(len(H))
        expected[here] = np.linalg.solve(damped, rhs[here])
        assert_close(factor.solve(rhs, 0.1), expected, rtol=1e-10)
        start += len(block)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("make", [lambda H: H, lambda H: H.sample(10, 0)])
def test_linear_least_squares_are_exact(make, weighted):
    # Q is the same for all rows: the sum of the products is the product of the sums.
    H = make(Case("identity", 0, "squared", weighted, n=20).operator(ridge=False))
    rhs = columns(H.shape[0])
    for damping in (1e-4, 1.0):
        A = H.toarray() + damping * np.eye(H.shape[0])
        x = np.stack(
            [KFAC(direct=True).factor(H).solve(b, damping) for b in rhs.T], axis=1
        )
        assert_close(x, np.linalg.solve(A, rhs), rtol=1e-9)
    factor = KFAC(**EXACT).factor(H)
    factor.solve(rhs[:, 0], 1e-4)
    assert factor.products <= 2


def test_no_weight_at_all_is_no_curvature():
    H = DEEP.operator(ridge=False)
    nothing = type(H)(H.linearization, H.loss, np.zeros_like(H.weights))
    rhs = columns(H.shape[0])
    assert_close(KroneckerFactor(nothing).solve(rhs, 0.5), 2 * rhs, rtol=1e-14)


def test_dead_units_are_only_damped():
    # The second of four hidden neurons is off for every row.
    case = Case("relu", 1, "softmax", n=30)
    H = case.operator(ridge=False)
    H.theta[4:8] = [0, 0, 0, -1]
    rhs = np.ones(H.shape[0])
    x = KroneckerFactor(H).solve(rhs, 0.5)
    assert np.all(np.isfinite(x))
    assert_close(x[4:8], np.full(4, 2.0), rtol=1e-12)


def test_float32_stays_float32():
    factor = KFAC(direct=True).factor(DEEP.operator(np.float32))
    double = KFAC(direct=True).factor(DEEP.operator())
    rhs = columns(DEEP.operator().shape[0], 1)[:, 0]
    x = factor.solve(rhs.astype(np.float32), np.float64(0.1))
    assert x.dtype == np.float32
    assert_close(x, double.solve(rhs, 0.1), rtol=1e-2)


# ---- as a solver ---------------------------------------------------------------------


def test_preconditioner_takes_fewer_iterations_than_the_diagonal():
    H = digits_hessian(400, (20, 20))
    rhs = H @ columns(H.shape[0], 1)[:, 0]
    damping = 1e-2 * H.diagonal().mean()
    products = {}
    for name, solver in {
        "diagonal": CG(max_iter=5000, rtol=1e-3),
        "kfac": KFAC(max_iter=5000, rtol=1e-3),
    }.items():
        factor = solver.factor(H)
        x = factor.solve(rhs, damping)
        residual = H @ x + damping * x - rhs
        assert np.linalg.norm(residual) <= 1.1e-3 * np.linalg.norm(rhs)
        products[name] = factor.products
    assert products["kfac"] < 0.9 * products["diagonal"]


def test_direct_solution_has_the_residual_of_the_dense_approximation(case):
    H = case.operator()
    A, M = case.array() + 0.1 * np.eye(H.shape[0]), kronecker(case, 0.1)
    rhs = columns(H.shape[0], 1)[:, 0]
    factor = KFAC(direct=True).factor(H)
    x = factor.solve(rhs, 0.1)
    assert_close(A @ x - rhs, A @ np.linalg.solve(M, rhs) - rhs, rtol=1e-8)
    assert factor.products == 0


def test_curvature_that_is_not_finite_raises():
    H = DEEP.operator()
    H.theta[0] = np.nan
    with pytest.raises(LinAlgError):
        KFAC().factor(H)


def test_operator_of_many_probes_is_taken_as_it_is():
    H = Case("tanh", 1, "softmax", n=20).operator().probe(40, 0)
    rhs = np.linspace(-1, 1, H.shape[0])
    x = KFAC(direct=True).factor(H).solve(rhs, 0.1)
    assert_close(x, KroneckerFactor(H).solve(rhs, 0.1), rtol=1e-12)


def test_approximation_serves_some_points_and_is_then_made_anew():
    solver = KFAC(refresh=3, rtol=1e-6, max_iter=100)
    first, second = (digits_hessian(50, (6,)), digits_hessian(60, (6,)))
    rhs = columns(first.shape[0], 1)[:, 0]
    factor, made = solver.factor(first), []
    for _ in range(6):
        made.append(factor.inner.solve(rhs, 0.1))
        # What is of an earlier matrix has no determinant of this one.
        assert factor.inner.knows_determinant == (len(made) in (1, 4))
        factor = solver.factor(second, factor.carried())
    old, new = (KroneckerFactor(H).solve(rhs, 0.1) for H in (first, second))
    for k, x in enumerate(made):
        np.testing.assert_array_equal(x, old if k < 3 else new)
    # The solves are of the matrix at hand all the same.
    x = factor.solve(rhs, 0.1)
    left = second @ x + 0.1 * x - rhs
    assert np.linalg.norm(left) < 1.1e-6 * np.linalg.norm(rhs)


def test_kept_approximation_has_the_ridge_of_now():
    case = Case("tanh", 1, "softmax", n=20)
    H, bare = case.operator(), case.operator(ridge=False)
    solver, rhs = KFAC(refresh=9, n_probes=9), columns(H.shape[0], 1)[:, 0]
    kept = solver.factor(bare).carried()
    x = solver.factor(H, kept).inner.solve(rhs, 0.1)
    assert_close(x, KroneckerFactor(H).solve(rhs, 0.1), rtol=1e-12)


def test_probes_of_independent_outputs_are_diagonal_and_exact_in_the_last_layer():
    H = Case("tanh", 1, "multilabel", n=20).operator()
    (S, _), (probed, _) = (kronecker_factors(H, k, 0)[-1] for k in (None, 1))
    assert_close(probed, S, rtol=1e-13)
    assert np.count_nonzero(S) == len(S)
