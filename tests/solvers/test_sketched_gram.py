"""The sketched dual solver against dense solves, by its bounds and its refusals."""

import numpy as np
import pytest
from cases import Case, assert_close
from scipy.linalg import LinAlgError
from sklearn import config_context

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian
from skgnh.solvers import CG, Auto, Gram, SketchedGram

CASES = [
    Case("tanh", 3, "binary", weighted=True),
    Case("relu", 1, "softmax", weighted=True, n=12),
    Case("logistic", 2, "poisson", n=9),
]


def wide(n=20, width=1500, outputs=3, dtype=np.float64, ridge=0.0):
    rng = np.random.default_rng(0)
    network = MLP((8, width, outputs), ("tanh",))
    inputs = append_one(rng.standard_normal((n, 8)).astype(dtype))
    return GaussNewtonHessian(
        Linearization(network, network.initialize(rng, dtype), inputs),
        LOSSES["identity"],
        np.full(n, 1 / n, dtype),
        (ridge * network.weight_mask()).astype(dtype),
    )


def vector(size, seed=1):
    return np.random.default_rng(seed).standard_normal(size)


@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-6, 1e-9])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_error_is_at_most_that_asked_for(case, rtol):
    H, A = case.operator(), case.array()
    factor = SketchedGram(rtol=rtol).factor(H)
    for damping in (1e-4, 1e-2, 1.0):
        K = A + damping * np.eye(len(A))
        for b in (vector(len(A)), H.root.T @ vector(H.root.shape[0])):
            x = np.linalg.solve(K, b)
            e = factor.solve(b, damping) - x
            # Relative in the norm of K, and the rounding of the oracle's own solve.
            assert np.sqrt(e @ K @ e) <= 1.01 * rtol * np.sqrt(b @ x) + 1e-12


def test_error_of_many_solutions_is_at_most_that_asked_for():
    H = wide()
    damping = 1e-3 * H.trace() / H.root.shape[0]
    exact = Gram().factor(H)
    for rtol in (0.2, 0.05, 0.01):
        factor, errors = SketchedGram(2, rtol=rtol).factor(H), []
        for seed in range(5):
            b = H.root.T @ vector(H.root.shape[0], seed)
            x = exact.solve(b, damping)
            e = factor.solve(b, damping) - x
            errors.append(np.sqrt((e @ (H @ e) + damping * e @ e) / (b @ x)))
        # Not far below it either: what is not asked for costs products.
        assert 0.1 * rtol < max(errors) <= 1.01 * rtol


@pytest.mark.parametrize("along", ["neurons", "parameters"])
@pytest.mark.parametrize("transform", ["srht", "countsketch"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_least_squares_equal_the_dense_ones(case, transform, along):
    H, J, target = case.operator(), case.root(), vector(case.root().shape[0])
    _, _, _, _, ridge = case.data()
    for damping in (1e-3, 1.0):
        stacked = np.vstack([J, np.diag(np.sqrt(ridge + damping))])
        expected = np.linalg.lstsq(
            stacked, np.concatenate([target, np.zeros(len(ridge))]), rcond=None
        )[0]
        solver = SketchedGram(2, transform, along, rtol=1e-13, max_iter=1000)
        assert_close(solver.factor(H).lstsq(target, damping), expected, rtol=1e-9)


def test_iterations_do_not_grow_as_the_damping_falls():
    H = wide()
    factor, counts = SketchedGram(rtol=1e-8).factor(H), []
    target = vector(H.root.shape[0])
    for share in (1e-2, 1e-4, 1e-6, 1e-8):
        damping = share * H.trace() / H.root.shape[0]
        factor.lstsq(target, damping)
        counts.append(factor.iterations)
    assert max(counts) <= 30
    assert counts[-1] <= counts[-2] + 1


def test_larger_sketch_takes_fewer_iterations_and_sketches_beat_none():
    H = wide()
    b = H.root.T @ vector(H.root.shape[0])
    damping = 1e-4 * H.trace() / H.root.shape[0]
    products = []
    for oversampling in (2, 8, 32):
        factor = SketchedGram(oversampling, rtol=1e-6).factor(H)
        factor.solve(b, damping)
        products.append(factor.products)
    assert products == sorted(products, reverse=True)
    assert products[-1] < 0.6 * products[0]
    plain = CG(rtol=1e-6, max_iter=1000).factor(H)
    plain.solve(b, damping)
    assert products[1] < plain.products


def test_wide_network_is_solved_as_by_the_exact_gram_matrix():
    H = wide(ridge=1e-3)
    b = vector(H.shape[0])
    exact = Gram().factor(H).solve(b, 1e-2)
    factor = SketchedGram(rtol=1e-10).factor(H)
    assert_close(factor.solve(b, 1e-2), exact, rtol=1e-8)


def test_products_are_counted():
    H = wide()
    factor, asked = SketchedGram().factor(H), []
    assert factor.products == 0
    transposed, product = H.root._rmatmat, H._matmat
    H.root._rmatmat = lambda U: asked.append(U) or transposed(U)
    H._matmat = lambda V: asked.append(V) or product(V)
    factor.solve(vector(H.shape[0]), 1e-3)
    assert factor.products == len(asked) > 2


def test_small_damping_in_single_precision_is_refined():
    single, double = wide(dtype=np.float32), wide()
    b = double.root.T @ vector(double.root.shape[0])
    damping = 1e-4 * double.trace() / double.root.shape[0]
    x = SketchedGram().factor(single).solve(b.astype(np.float32), damping)
    exact = Gram().factor(double).solve(b, damping)
    e = x - exact
    assert x.dtype == np.float32
    assert np.sqrt(e @ (double @ e) + damping * e @ e) <= 0.02 * np.sqrt(b @ exact)


def test_damping_lost_in_rounding_is_refused_instead_of_answered():
    H = wide(dtype=np.float32)
    b = H.root.T @ vector(H.root.shape[0]).astype(np.float32)
    damping = 1e-6 * H.trace() / H.root.shape[0]
    # Which of both is met first, rounding decides.
    message = "lost in the rounding of float32|met non-positive curvature"
    with pytest.raises(LinAlgError, match=message):
        SketchedGram().factor(H).solve(b, damping)


def test_same_seed_gives_the_same_solution():
    H = wide()
    b = vector(H.shape[0])
    first, again, other = (
        SketchedGram(2, random_state=seed).factor(H).solve(b, 1e-3)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# ---- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"oversampling": 0.5}, "oversampling must be at least 1, .* got 0.5"),
        ({"oversampling": np.nan}, "oversampling must be at least 1"),
        ({"oversampling": np.inf}, "oversampling must be at least 1"),
        ({"transform": "gauss"}, "Unknown transform 'gauss'; choose among .*'srht'"),
        ({"along": "rows"}, "Unknown along 'rows'; choose among .*'neurons'"),
        ({"rtol": 0.0}, "rtol must lie between 0 and 1, got 0.0"),
        ({"rtol": 1.0}, "rtol must lie between 0 and 1"),
        ({"max_iter": 0}, "max_iter must be an integer >= 1, got 0"),
    ],
)
def test_parameters_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SketchedGram(**settings).factor(CASES[0].operator())


def test_damping_must_be_positive():
    H = CASES[0].operator()
    factor = SketchedGram().factor(H)
    for ask in (
        lambda: factor.solve(vector(H.shape[0]), 0.0),
        lambda: factor.lstsq(vector(H.root.shape[0]), -1.0),
    ):
        with pytest.raises(LinAlgError, match="positive damping"):
            ask()


def test_memory_beyond_the_working_memory_is_refused():
    with (
        config_context(working_memory=1e-2),
        pytest.raises(ValueError, match="working memory"),
    ):
        SketchedGram().factor(wide())


# ---- the choice ----------------------------------------------------------------------


def test_auto_sketches_layers_far_wider_than_the_rows():
    def chosen(n, *units):
        network = MLP(units, ("relu",) * (len(units) - 2))
        inputs = append_one(np.zeros((n, units[0])))
        linearization = Linearization(network, np.zeros(network.n_parameters), inputs)
        H = GaussNewtonHessian(linearization, LOSSES["identity"], np.full(n, 1 / n))
        return type(Auto().select(H))

    assert chosen(256, 16, 32768, 10) is SketchedGram
    assert chosen(128, 16, 2048, 10) is Gram
    assert chosen(512, 16, 16384, 1) is Gram
