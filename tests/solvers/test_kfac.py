"""The Kronecker approximation against its dense definition, and as a preconditioner."""

import numpy as np
import oracles
import pytest
from cases import LOSS_KINDS, Case, assert_close
from matrices import correlated_hessian, digits_hessian
from scipy import sparse
from scipy.linalg import LinAlgError, block_diag

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
    """The whole damped approximation; the ridge is the mean of the layer's."""
    blocks, start = kronecker_layers(case, **settings), 0
    for block in blocks:
        penalty = case.data()[4][start : start + len(block)].mean() if ridge else 0
        block += (penalty + damping) * np.eye(len(block))
        start += len(block)
    return block_diag(*blocks)


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


def test_values_are_the_eigenvalues_of_the_layers(case):
    factor = KroneckerFactor(case.operator())
    found = np.concatenate([part.ravel() for part in factor.values(0.1)])
    expected = np.linalg.eigvalsh(kronecker(case, 0.1))
    assert_close(np.sort(found), expected, rtol=1e-12)


def test_powers_are_those_of_one_matrix(case):
    factor, damping = KroneckerFactor(case.operator()), 1e-2
    M = kronecker(case, damping)
    rhs = columns(len(M))
    half = factor.power(rhs, damping, -0.5)
    assert_close(
        factor.power(half, damping, -0.5), factor.solve(rhs, damping), rtol=1e-12
    )
    assert_close(factor.power(rhs, damping, 1.0), M @ rhs, rtol=1e-12)
    assert_close(factor.power(rhs, damping, 0.0), rhs, rtol=1e-12)
    back = factor.power(half, damping, 0.5)
    assert_close(back, rhs, rtol=1e-10)
    assert_close(factor.power(rhs[:, 0], damping, -0.5), half[:, 0], rtol=1e-12)


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
    np.testing.assert_array_equal(solve(n_probes=2, random_state=7), probed)
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


@pytest.mark.parametrize("deflate", [0, 3])
def test_float32_stays_float32(deflate):
    factor = KFAC(deflate=deflate, direct=True).factor(DEEP.operator(np.float32))
    double = KFAC(deflate=deflate, direct=True).factor(DEEP.operator())
    rhs = columns(DEEP.operator().shape[0], 1)[:, 0]
    x = factor.solve(rhs.astype(np.float32), np.float64(0.1))
    assert x.dtype == np.float32
    assert_close(x, double.solve(rhs, 0.1), rtol=1e-2)


# ---- deflation -----------------------------------------------------------------------


def scaled_matrix(H, factor, damping):
    """``K^-1/2 (H + damping I) K^-1/2`` for the Kronecker approximation K."""
    half = factor.power(np.eye(H.shape[0]), damping, -0.5)
    A = half @ (H.toarray() + damping * np.eye(H.shape[0])) @ half
    return (A + A.T) / 2


def preconditioned_spectrum(H, factor, damping):
    """Eigenvalues of ``M^-1 (H + damping I)``."""
    A = H.toarray() + damping * np.eye(H.shape[0])
    inverse = np.stack([factor.solve(e, damping) for e in np.eye(len(A))], axis=1)
    assert_close(inverse, inverse.T, rtol=1e-8)
    L = np.linalg.cholesky(A)
    return np.linalg.eigvalsh(L.T @ (inverse + inverse.T) @ L / 2)


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_deflation_moves_the_farthest_eigenvalues_to_one(k):
    H, damping = DEEP.operator(), 1e-3
    spectrum = np.linalg.eigvalsh(scaled_matrix(H, KroneckerFactor(H), damping))
    factor = KFAC(deflate=k, direct=True).factor(H)
    found = preconditioned_spectrum(H, factor, damping)
    # SciPy takes k // 2 from one end and the rest from the other.
    low, high = k // 2, (k + 1) // 2
    left = spectrum[low : len(spectrum) - high]
    expected = np.sort(np.concatenate([left, np.ones(k)]))
    if k > 1:
        np.testing.assert_allclose(found, expected, rtol=0.1)
    assert found[-1] / found[0] <= 1.001 * spectrum[-1] / spectrum[0]


def test_deflation_shrinks_the_condition_number_step_by_step():
    H, damping = DEEP.operator(), 1e-3
    conditions = []
    for k in (0, 2, 6, 12):
        found = preconditioned_spectrum(
            H, KFAC(deflate=k, direct=True).factor(H), damping
        )
        conditions.append(found[-1] / found[0])
    assert conditions == sorted(conditions, reverse=True)
    assert conditions[-1] < 0.2 * conditions[0]


def test_deflation_stays_positive_definite_for_other_dampings():
    # The eigenvectors are those of the first damping; the values are anew.
    H = DEEP.operator()
    factor = KFAC(deflate=5, direct=True).factor(H)
    for damping in (1e-2, 1.0, 1e-5, 1e-2):
        assert preconditioned_spectrum(H, factor, damping)[0] > 0
    V = factor._vectors
    assert_close(V.T @ V, np.eye(5), rtol=1e-8)
    scaled = scaled_matrix(H, KroneckerFactor(H), 1e-5)
    half = KroneckerFactor(H).power(np.eye(H.shape[0]), 1e-5, -0.5)
    middle = np.eye(len(V)) + V @ (np.linalg.inv(V.T @ scaled @ V) - np.eye(5)) @ V.T
    assert_close(factor.solve(np.eye(len(V)), 1e-5), half @ middle @ half, rtol=1e-8)


@pytest.mark.parametrize("deflate", [0, 1, 2, 10, 30])
def test_iteration_solves_whatever_is_deflated(deflate):
    case = Case("tanh", 1, "softmax", weighted=True, n=40)
    H = case.operator()
    rhs = columns(H.shape[0])
    factor = KFAC(deflate=deflate, **EXACT).factor(H)
    for damping in (1e-2, 1.0, 1e-3):
        A = case.array() + damping * np.eye(H.shape[0])
        assert_close(factor.solve(rhs, damping), np.linalg.solve(A, rhs), rtol=1e-8)


@pytest.mark.parametrize("deflate", [-1, 31, 10**4])
def test_deflation_out_of_range_is_refused(deflate):
    H = Case("tanh", 1, "squared", n=9).operator()
    assert H.shape[0] == 31
    with pytest.raises(ValueError, match=r"deflate must lie in \[0, P\), got"):
        KFAC(deflate=deflate).factor(H)


def test_seed_decides_the_eigenvectors_start():
    H, rhs = DEEP.operator(), columns(DEEP.operator().shape[0], 1)[:, 0]

    def solve(seed):
        return KFAC(deflate=4, direct=True, random_state=seed).factor(H).solve(rhs, 0.1)

    np.testing.assert_array_equal(solve(0), solve(0))


# ---- as a solver ---------------------------------------------------------------------


def wide_hessian():
    return digits_hessian(400, (20, 20))


@pytest.mark.parametrize(
    ("make", "deflate"),
    [(wide_hessian, 0), (correlated_hessian, 10), (digits_hessian, 20)],
)
def test_preconditioner_takes_fewer_iterations_than_the_diagonal(make, deflate):
    H = make()
    rhs = H @ columns(H.shape[0], 1)[:, 0]
    damping = 1e-2 * H.diagonal().mean()
    products = {}
    for name, solver in {
        "diagonal": CG(max_iter=5000, rtol=1e-3),
        "kfac": KFAC(deflate, max_iter=5000, rtol=1e-3),
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
