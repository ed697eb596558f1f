"""Sampled entries of a Gauss-Newton Hessian against their bounds and the oracle."""

import numpy as np
import oracles
import pytest
from cases import Case, assert_close
from marks import slow_unless
from scipy import sparse
from sklearn import config_context

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import EntrySampler, GaussNewtonHessian

CASES = [
    Case("tanh", 1, "softmax", weighted=True, n=120),
    Case("relu", 2, "multilabel", n=120),
    Case("logistic", 1, "binary", n=120),
]
CASE = CASES[0]
DRAWS = 100
# Of a mean over 100 draws, in standard errors: beyond it lies one in 10^4.
SIGMAS = 4.5


@pytest.fixture(params=CASES, ids=str, scope="module")
def case(request):
    return request.param


def random_index(P, k, seed=0):
    return np.random.default_rng(seed).integers(0, P, k)


def row_parts(case):
    """The rows of the oracle's root by sample: of shape (n, r, P)."""
    J = case.root()
    return J.reshape(case.n, -1, J.shape[1])


def single_draw_variance(parts, k, m):
    """Variance of ``<B_ik, B_im> / p_i`` for p_i proportional to the norms, exactly."""
    dots = np.einsum("ir,ir->i", parts[:, :, k], parts[:, :, m])
    norms = np.linalg.norm(parts[:, :, k], axis=1)
    norms = norms * np.linalg.norm(parts[:, :, m], axis=1)
    squares = np.divide(dots**2, norms, out=np.zeros_like(dots), where=norms > 0)
    return max(norms.sum() * squares.sum() - dots.sum() ** 2, 0)


def single_draw_error(parts, rows, columns):
    """Mean of ``||B_iI^T B_iJ / p_i - H_IJ||_F^2``, p_i proportional to the norms."""
    left, right = parts[:, :, rows], parts[:, :, columns]
    blocks = np.einsum("irk,irm->ikm", left, right)
    norms = np.linalg.norm(left, axis=(1, 2)) * np.linalg.norm(right, axis=(1, 2))
    squares = np.sum(blocks**2, axis=(1, 2))
    squares = np.divide(squares, norms, out=np.zeros_like(norms), where=norms > 0)
    return norms.sum() * squares.sum() - np.sum(blocks.sum(axis=0) ** 2)


# ---- single entries ------------------------------------------------------------------


@pytest.fixture(
    params=slow_unless((0.2).__eq__, [1.0, 0.2]), ids="eps={}".format, scope="module"
)
def pairs(request, case):
    """60 pairs of parameters, each with 100 independent estimates."""
    sampler = EntrySampler(case.operator())
    P = case.operator().shape[0]
    rows, columns = random_index(P, 60), random_index(P, 60, seed=1)
    rows[:5] = columns[:5]
    drawn = sampler.pairs(
        np.tile(rows, DRAWS), np.tile(columns, DRAWS), request.param, random_state=0
    )
    return rows, columns, request.param, drawn.reshape(DRAWS, 60)


def test_rms_error_of_an_entry_keeps_its_bound(case, pairs):
    rows, columns, epsilon, drawn = pairs
    H = case.array()
    J = case.root()
    norms = np.linalg.norm(J, axis=0)  # of the data's part: the ridge is exact
    bound = epsilon * norms[rows] * norms[columns]
    error = np.sqrt(np.mean((drawn - H[rows, columns]) ** 2, axis=0))
    assert np.all(error <= 1.05 * bound)


def test_entries_are_unbiased_and_of_the_variance_of_their_importance(case, pairs):
    rows, columns, epsilon, drawn = pairs
    H, parts = case.array(), row_parts(case)
    variance = np.array(
        [single_draw_variance(parts, k, m) for k, m in zip(rows, columns, strict=True)]
    )
    variance /= np.ceil(1 / epsilon**2 - 1e-9)
    expected = H[rows, columns]
    scale = np.sqrt(H[rows, rows] * H[columns, columns])
    error = drawn.mean(axis=0) - expected
    assert np.all(np.abs(error) <= SIGMAS * np.sqrt(variance / DRAWS) + 1e-6 * scale)
    # Pooled, as a variance of few draws is itself a rough estimate.
    spread = np.mean((drawn - expected) ** 2, axis=0)
    loose = variance > 1e-6 * scale**2
    assert np.mean(spread[loose] / variance[loose]) == pytest.approx(1, rel=0.1)


def test_diagonal_entries_have_no_error(case):
    H = case.array()
    index = np.arange(len(H))
    estimate = EntrySampler(case.operator()).pairs(index, index, 1.0, random_state=0)
    np.testing.assert_allclose(estimate, np.diag(H), rtol=1e-5)


def test_every_pair_has_a_draw_of_its_own():
    sampler = EntrySampler(CASE.operator())
    same = np.full(50, 3), np.full(50, 17)
    assert len(np.unique(sampler.pairs(*same, 1.0, random_state=0))) > 5


@pytest.mark.parametrize(
    ("epsilon", "t"), [(1, 1), (0.5, 4), (0.1, 100), (0.05, 400), (0.3, 12)]
)
def test_accuracy_says_how_many_rows_are_drawn(epsilon, t):
    assert EntrySampler(CASE.operator()).n_draws(epsilon) == t


@pytest.mark.parametrize("epsilon", [0.0, -0.1, 1.5, np.nan])
def test_accuracy_out_of_range_is_refused(epsilon):
    sampler = EntrySampler(CASE.operator())
    index = np.arange(2)
    for ask in (sampler.pairs, sampler.entries):
        with pytest.raises(ValueError, match=r"epsilon must be in \(0, 1\], got"):
            ask(index, index, epsilon)


def test_block_is_drawn_by_the_norms_of_both_its_sides():
    # Half of the features are alive in half of the rows: either side alone misleads.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4))
    X[:30, 2:] *= 1e-2
    X[30:, :2] *= 1e-2
    theta = rng.standard_normal(15)
    H = hessian(X, theta, (4, 3), "tanh", np.full(60, 1 / 60))
    rows, columns = np.array([0, 1, 5, 6]), np.array([2, 3, 7, 8])
    bound = np.sum(H.diagonal()[rows]) * np.sum(H.diagonal()[columns])
    exact = H.entries(rows, columns)
    sampler = EntrySampler(H)
    for epsilon in (1.0, 0.3):
        errors = [
            np.sum((sampler.entries(rows, columns, epsilon, seed) - exact) ** 2)
            for seed in range(300)
        ]
        # The norms overlap in a hundredth: so much less than the bound is the error.
        assert np.mean(errors) < 0.01 * epsilon**2 * bound


# ---- blocks --------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [1.0, 0.2])
def test_block_keeps_its_frobenius_bound_and_is_unbiased(case, epsilon):
    H, J = case.array(), case.root()
    rows, columns = random_index(len(H), 7), random_index(len(H), 9, seed=1)
    columns[0] = rows[0]
    sampler, rng = EntrySampler(case.operator()), np.random.default_rng(2)
    draws = np.stack(
        [sampler.entries(rows, columns, epsilon, rng) for _ in range(2 * DRAWS)]
    )
    errors = np.sum((draws - H[np.ix_(rows, columns)]) ** 2, axis=(1, 2))
    bound = epsilon**2 * np.sum(J[:, rows] ** 2) * np.sum(J[:, columns] ** 2)
    deviation = np.std(errors, ddof=1) / np.sqrt(len(errors))
    expected = epsilon**2 * single_draw_error(row_parts(case), rows, columns)
    assert expected <= bound
    assert np.mean(errors) == pytest.approx(expected, abs=SIGMAS * deviation)
    bias = draws.mean(axis=0) - H[np.ix_(rows, columns)]
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    assert np.all(np.abs(bias) <= SIGMAS * error + 1e-12)


@pytest.mark.parametrize("epsilon", [1.0, 0.2])
def test_principal_block_is_symmetric_positive_semidefinite(case, epsilon):
    sampler = EntrySampler(case.operator())
    index = np.random.default_rng(3).permutation(case.operator().shape[0])[:12]
    for seed in range(20):
        block = sampler.entries(index, index, epsilon, seed)
        assert_close(block, block.T, rtol=1e-13)
        eigenvalues = np.linalg.eigvalsh(block)
        assert eigenvalues[0] >= -1e-13 * eigenvalues[-1]


def test_accuracy_that_needs_all_rows_or_none_given_is_exact(case):
    H = case.operator()
    sampler, n = EntrySampler(H), case.n
    rows, columns = random_index(H.shape[0], 6), random_index(H.shape[0], 4, seed=1)
    exact = case.array()[np.ix_(rows, columns)]
    for epsilon in (None, 0.01, n**-0.5):
        assert_close(sampler.entries(rows, columns, epsilon), exact)
    sampled = sampler.entries(rows, columns, (n - 1) ** -0.5, random_state=0)
    assert np.max(np.abs(sampled - exact)) > 1e-6 * np.max(np.abs(exact))


def test_ridge_is_exact():
    with_ridge, without = CASE.operator(), CASE.operator(ridge=False)
    index = np.arange(with_ridge.shape[0])
    ridge = CASE.data()[4]

    def block(H):
        return EntrySampler(H).entries(index, index, 1.0, random_state=0)

    def entries(H):
        return EntrySampler(H).pairs(index, index[::-1], 1.0, random_state=0)

    assert_close(block(with_ridge) - block(without), np.diag(ridge), rtol=1e-12)
    here = index == index[::-1]
    assert_close(entries(with_ridge) - entries(without), here * ridge, rtol=1e-12)


def test_no_entries_are_an_empty_block():
    sampler = EntrySampler(CASE.operator())
    none = np.array([], dtype=int)
    assert sampler.entries(none, np.arange(3), 0.5, 0).shape == (0, 3)
    assert sampler.pairs(none, none, 0.5, 0).shape == (0,)


@pytest.mark.parametrize("index", [[-1], [10**6], [0.5]])
def test_parameters_that_do_not_exist_are_refused(index):
    sampler = EntrySampler(CASE.operator())
    good, bad = np.arange(1), np.array(index)
    for pair in ((good, bad), (bad, good)):
        for ask in (sampler.entries, sampler.pairs):
            with pytest.raises(ValueError, match=r"numbered from 0|1-D array of int"):
                ask(*pair, 0.5)


# ---- what rows and networks may be like ----------------------------------------------


def hessian(X, theta, layer_units, activation, weights):
    network = MLP(layer_units, (activation,) * (len(layer_units) - 2))
    return GaussNewtonHessian(
        Linearization(network, theta, append_one(X)), LOSSES["softmax"], weights
    )


def test_entries_of_dead_units_are_exactly_zero():
    # Layer 0 has 4 neurons of 3 + 1 parameters; the second is off for every row.
    X, _, weights, theta, _ = Case("relu", 1, "softmax", n=30).data()
    theta[4:8] = [0, 0, 0, -1]
    H = hessian(X, theta, (3, 4, 3), "relu", weights)
    dead = np.array([4, 5, 6, 7, 16 + 1, 16 + 5 + 1, 16 + 10 + 1])
    others = np.setdiff1d(np.arange(H.shape[0]), dead)
    assert np.all(H.diagonal()[dead] == 0)
    assert np.all(H.diagonal()[others] > 0)
    sampler = EntrySampler(H)
    for pair in ((dead, others), (others, dead), (dead, dead)):
        np.testing.assert_array_equal(sampler.entries(*pair, 0.5, 0), 0)
        left, right = (part.ravel() for part in np.meshgrid(*pair))
        np.testing.assert_array_equal(sampler.pairs(left, right, 0.5, 0), 0)
    # One draw for a block that holds both: zero rows stay zero, others do not.
    block = sampler.entries(np.arange(31), np.arange(31), 0.5, 0)
    np.testing.assert_array_equal(block[dead], 0)
    np.testing.assert_array_equal(block[:, dead], 0)
    assert np.all(np.diag(block)[others] > 0)


def test_rows_of_no_weight_are_never_drawn():
    # All the weight is on one row: whatever is drawn, the answer is exact.
    X, _, _, theta, _ = CASE.data()
    weights = np.zeros(CASE.n)
    weights[40] = 0.7
    H = hessian(X, theta, CASE.widths, "tanh", weights)
    exact = CASE.curvature().array(weights, np.zeros(len(theta)))
    index = np.arange(len(theta))
    sampler = EntrySampler(H)
    for seed in range(5):
        assert_close(sampler.entries(index, index, 0.5, seed), exact, rtol=1e-6)
        pairs = sampler.pairs(index, index[::-1], 0.5, seed)
        assert_close(pairs, exact[index, index[::-1]], rtol=1e-6)


def test_no_weight_at_all_is_no_curvature():
    X, _, _, theta, _ = CASE.data()
    H = hessian(X, theta, CASE.widths, "tanh", np.zeros(CASE.n))
    index = np.arange(len(theta))
    sampler = EntrySampler(H)
    np.testing.assert_array_equal(sampler.entries(index, index, 0.5, 0), 0)
    np.testing.assert_array_equal(sampler.pairs(index, index, 0.5, 0), 0)


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.csr_matrix])
def test_sparse_rows_give_what_dense_rows_give(convert):
    dense, made = CASE.operator(), CASE.operator(convert=convert)
    rows, columns = random_index(31, 6), random_index(31, 6, seed=1)
    for epsilon in (0.3, None):
        expected = EntrySampler(dense).entries(rows, columns, epsilon, 0)
        answer = EntrySampler(made).entries(rows, columns, epsilon, 0)
        assert type(answer) is np.ndarray
        assert_close(answer, expected)
    expected = EntrySampler(dense).pairs(rows, columns, 0.3, 0)
    assert_close(EntrySampler(made).pairs(rows, columns, 0.3, 0), expected)


def test_float32_stays_float32_and_keeps_the_bound():
    sampler = EntrySampler(CASE.operator(np.float32))
    H, J = CASE.array(), CASE.root()
    index = np.arange(len(H))
    rng, epsilon = np.random.default_rng(0), 0.3
    blocks = [sampler.entries(index, index, epsilon, rng) for _ in range(50)]
    pairs = [sampler.pairs(index, index[::-1], epsilon, rng) for _ in range(50)]
    assert {answer.dtype for answer in (*blocks, *pairs)} == {np.dtype(np.float32)}
    error = np.mean([np.sum((block - H) ** 2) for block in blocks])
    assert error <= (epsilon * np.sum(J**2)) ** 2
    bound = epsilon * np.linalg.norm(J, axis=0) * np.linalg.norm(J, axis=0)[::-1]
    errors = np.sqrt(np.mean((np.array(pairs) - H[index, index[::-1]]) ** 2, axis=0))
    assert np.all(errors <= 1.05 * bound)
    assert sampler.entries(index, index).dtype == np.float32


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scale_of_the_rows_does_not_matter(scale):
    X, _, weights, theta, _ = CASE.data()
    first = slice(0, 16)  # parameters of the first layer, whose inputs are scaled
    theta = theta.copy()
    theta[first].reshape(4, 4)[:, :3] /= scale
    H = hessian(X * scale, theta, CASE.widths, "tanh", weights)
    index = np.arange(len(theta))
    estimate = EntrySampler(H).pairs(index, index, 1.0, random_state=0)
    np.testing.assert_allclose(estimate, H.diagonal(), rtol=1e-5)


@pytest.mark.parametrize("thin", [lambda H: H.probe(2, 0), lambda H: H.sample(60, 0)])
def test_probed_and_sampled_operators_can_be_sampled(thin):
    H = thin(CASE.operator())
    sampler, rng = EntrySampler(H), np.random.default_rng(1)
    rows, columns = random_index(31, 5), random_index(31, 6, seed=1)
    draws = np.stack([sampler.entries(rows, columns, 0.3, rng) for _ in range(200)])
    error = np.std(draws, axis=0, ddof=1) / np.sqrt(len(draws))
    bias = draws.mean(axis=0) - H.toarray()[np.ix_(rows, columns)]
    assert np.all(np.abs(bias) <= SIGMAS * error + 1e-12)


# ---- seeds and memory ----------------------------------------------------------------


@pytest.mark.parametrize("ask", ["entries", "pairs"])
def test_seeds_decide_the_draws(ask):
    sampler, index = EntrySampler(CASE.operator()), np.arange(9)

    def draw(seed):
        return getattr(sampler, ask)(index, index[::-1], 0.5, seed)

    np.testing.assert_array_equal(draw(1), draw(1))
    np.testing.assert_array_equal(
        draw(np.random.RandomState(1)), draw(np.random.RandomState(1))
    )
    np.testing.assert_array_equal(
        draw(np.random.default_rng(1)), draw(np.random.default_rng(1))
    )
    assert np.any(draw(1) != draw(2))


def test_memory_beyond_the_working_memory_is_refused_with_the_way_out():
    H = CASE.operator()
    message = "An entry sampler of 120 rows and 3 outputs needs .* Sample rows first"
    with (
        config_context(working_memory=0.005),
        pytest.raises(ValueError, match=message),
    ):
        EntrySampler(H)


def test_oracle_of_the_variance_keeps_the_bound_too():
    parts = row_parts(CASE)
    squares = np.sum(parts**2, axis=(0, 1))
    for k, m in np.random.default_rng(4).integers(0, 31, (200, 2)):
        assert single_draw_variance(parts, k, m) <= squares[k] * squares[m]
    assert oracles.weight_mask(CASE.widths).sum() == 24
