"""Pruning against its definition, and weights that stay zero."""

import numpy as np
import pytest
from cases import Case, assert_close
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPRegressor
from tasks import (
    KINDS,
    PENALISED,
    assert_same_model,
    fit,
    fitted,
    parameters,
    task,
    weights,
)

from skgnh import GaussNewtonMLPRegressor
from skgnh.inspection import prune, sparse_coefs
from skgnh.inspection.draws import gradient_draws
from skgnh.inspection.surgery import surgery
from skgnh.objective import Objective
from skgnh.solvers import all_solvers

SETTINGS = {"n_steps": 3, "n_gradients": 64, "n_rows": 4, "random_state": 0}
EVERY = pytest.mark.parametrize("kind", KINDS)


def n_zeros(estimator):
    return sum(int((coef == 0).sum()) for coef in estimator.coefs_)


def n_weights(estimator):
    return sum(coef.size for coef in estimator.coefs_)


# ---- a step --------------------------------------------------------------------------


def blocks_of(G, damping, block_size):
    """F by its definition, with the damping in mean diagonals."""
    data = G.T @ G / len(G)
    F = data + damping * np.mean(data.diagonal()) * np.eye(len(data))
    block = np.arange(len(F)) // block_size
    F[block[:, None] != block] = 0
    return F


def operated(joint, count=6, block_size=7, gone=(), seed=0):
    rng = np.random.default_rng(seed)
    G, theta = rng.standard_normal((9, 20)) * rng.uniform(0.1, 3, 20), rng.random(20)
    is_weight = np.arange(20) % 5 != 4
    theta[list(gone)], dropped = 0, np.zeros(20, bool)
    dropped[list(gone)] = True
    moved = theta.copy()
    surgery(moved, dropped, is_weight, count, G.copy(), 0.1, block_size, joint)
    return theta, moved, dropped, is_weight, G


def constrained(F, theta, Q):
    """theta + d with the least d^T F d / 2 under d_Q = -theta_Q, and that minimum."""
    E = np.eye(len(F))[Q]
    system = np.block([[F, E.T], [E, np.zeros((len(Q), len(Q)))]])
    d = np.linalg.solve(system, np.concatenate([np.zeros(len(F)), -theta[Q]]))[: len(F)]
    return theta + d, d @ F @ d / 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("block_size", [7, 20, 100])
def test_each_weight_in_turn_is_the_cheapest(block_size, seed):
    theta, moved, dropped, is_weight, G = operated(True, 12, block_size, seed=seed)
    F, Q = blocks_of(G, 0.1, block_size), []
    for _ in range(12):
        rest = np.setdiff1d(np.flatnonzero(is_weight), Q)
        Q.append(min(rest, key=lambda w: constrained(F, theta, [*Q, w])[1]))
    np.testing.assert_array_equal(np.flatnonzero(dropped), np.sort(Q))
    assert_close(moved, np.where(dropped, 0, constrained(F, theta, Q)[0]))
    assert (moved[dropped] == 0).all()


@pytest.mark.parametrize("count", [0, 16])
def test_no_weight_or_all_of_them_may_go(count):
    theta, moved, dropped, is_weight, _ = operated(True, count)
    np.testing.assert_array_equal(dropped, is_weight & (count > 0))
    np.testing.assert_array_equal(moved[is_weight], 0 if count else theta[is_weight])


def test_step_of_single_weights_is_that_of_the_paper():
    theta, moved, dropped, _, G = operated(False)
    inverse = np.linalg.inv(blocks_of(G, 0.1, 7))
    expected = theta.copy()
    for w in np.flatnonzero(dropped):
        expected -= theta[w] / inverse[w, w] * inverse[:, w]
    expected[dropped] = 0
    assert_close(moved, expected)
    one, other = operated(True, 1), operated(False, 1)
    assert_close(one[1], other[1])


def test_weights_dropped_before_take_no_part():
    theta, moved, dropped, is_weight, G = operated(True, 3, 20, gone=(0, 6, 12))
    kept = np.setdiff1d(np.arange(20), (0, 6, 12))
    alone, lost = theta[kept], np.zeros(17, bool)
    # The same without them.
    surgery(alone, lost, is_weight[kept], 3, G[:, kept], 0.1, 20, True)
    assert_close(moved[kept], alone)
    np.testing.assert_array_equal(dropped[kept], lost)
    assert dropped.sum() == 6


def test_without_curvature_the_smallest_are_dropped():
    theta, dropped = np.array([3.0, -1, 2, 0.5]), np.zeros(4, bool)
    surgery(theta, dropped, np.ones(4, bool), 2, np.zeros((2, 4)), 1.0, 4, True)
    np.testing.assert_array_equal(theta, [3, 0, 2, 0])


# ---- draws ---------------------------------------------------------------------------


def objective(case, weights=None):
    X, Y, w, theta, ridge = case.data()
    inputs = np.column_stack([X, np.ones(len(X))])
    w = w if weights is None else weights
    return Objective(case.network, case.loss, inputs, Y, w, ridge), theta


@pytest.mark.parametrize("kind", ["squared", "poisson", "multilabel", "softmax"])
def test_draws_have_the_curvature_as_their_second_moment(kind):
    case = Case("tanh", 1, kind, weighted=True, n=12)
    problem, theta = objective(case)
    m, rng = 6000, np.random.default_rng(0)
    for n_rows in (1, 3):
        G = gradient_draws(problem, theta, m, n_rows, "curvature", rng)
        A = case.root().T @ case.root()
        error = np.linalg.norm(G.T @ G / m - A) / np.trace(A)
        assert error < 10 / np.sqrt(m)


def test_gradients_are_means_over_rows_by_their_weights():
    case = Case("tanh", 1, "softmax", n=6)
    weights = np.array([0.5, 0, 0.25, 0, 0.25, 0])
    problem, theta = objective(case, weights)
    problem.ridge = np.zeros_like(problem.ridge)
    rng = np.random.default_rng(0)
    single = gradient_draws(problem, theta, 400, 1, "gradient", rng)
    # Of 400 draws exactly half are of the first row: the mean is the gradient.
    _, gradient, _ = problem.linearize(theta)
    assert_close(single.mean(axis=0), gradient)
    assert len(np.unique(single.round(12), axis=0)) == 3
    # Means of the four rows that the weights make, whatever their order.
    quarter = gradient_draws(problem, theta, 1, 4, "gradient", rng)
    assert_close(quarter[0], gradient)


@pytest.mark.parametrize("source", ["curvature", "gradient"])
def test_draws_take_no_heed_of_order_and_weights_count_as_repeats(source):
    case = Case("tanh", 1, "softmax", n=12)
    counts = np.random.default_rng(1).integers(0, 4, 12)
    problem, theta = objective(case, counts / counts.sum())

    def drawn(rows, weights):
        inputs, targets = problem.inputs[rows], problem.targets[rows]
        other = Objective(
            problem.network, problem.loss, inputs, targets, weights, problem.ridge
        )
        return gradient_draws(other, theta, 20, 3, source, np.random.default_rng(0))

    expected = drawn(np.arange(12), problem.weights)
    shuffled = np.random.default_rng(2).permutation(12)
    assert_close(drawn(shuffled, problem.weights[shuffled]), expected)
    repeated = np.random.default_rng(3).permutation(np.arange(12).repeat(counts))
    equal = np.full(len(repeated), 1 / len(repeated))
    assert_close(drawn(repeated, equal), expected)


# ---- whole networks ------------------------------------------------------------------


@EVERY
def test_share_of_zeros_is_the_sparsity_and_the_given_is_not_changed(kind):
    estimator, X, y = fitted(kind)
    before = parameters(estimator).copy()
    pruned = prune(estimator, X, y, sparsity=0.6, **SETTINGS)
    assert n_zeros(pruned) == round(0.6 * n_weights(pruned))
    assert not hasattr(estimator, "pruned_")
    np.testing.assert_array_equal(parameters(estimator), before)
    for coef, mask in zip(pruned.coefs_, pruned.pruned_, strict=True):
        np.testing.assert_array_equal(coef == 0, mask)
    assert pruned.loss_ == pytest.approx(
        Objective.from_estimator(pruned, X, y)[0].value(
            pruned._network.from_coefs(pruned.coefs_, pruned.intercepts_)
        )
    )
    assert_same_model(pruned, prune(estimator, X, y, sparsity=0.6, **SETTINGS))


@pytest.mark.parametrize("n_steps", [1, 8])
def test_surgery_harms_less_than_the_magnitude(n_steps):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 12)) @ rng.standard_normal((12, 12))
    y = np.tanh(X[:, :3] / 4).sum(axis=1)
    settings = {"hidden_layer_sizes": (12,), "activation": "tanh", "random_state": 0}
    settings |= PENALISED
    model = fit(GaussNewtonMLPRegressor(max_iter=30, **settings), X, y)
    pruned = prune(model, X, y, sparsity=0.8, **SETTINGS | {"n_steps": n_steps})
    magnitudes = np.concatenate([np.abs(c).ravel() for c in model.coefs_])
    cut = np.quantile(magnitudes, 0.8)
    naive = prune(model, X, y, sparsity=0, **SETTINGS)
    naive.coefs_ = [np.where(np.abs(c) > cut, c, 0) for c in model.coefs_]
    assert pruned.score(X, y) > naive.score(X, y) + 0.1


def test_pruning_goes_on_from_the_present_zeros():
    estimator, X, y = fitted("multiclass")
    half = prune(estimator, X, y, sparsity=0.5, **SETTINGS)
    more = prune(half, X, y, sparsity=0.7, **SETTINGS)
    for before, after in zip(half.pruned_, more.pruned_, strict=True):
        assert (after >= before).all()
    assert n_zeros(more) == round(0.7 * n_weights(more))
    same = prune(half, X, y, sparsity=0.5, **SETTINGS)
    np.testing.assert_array_equal(parameters(same), parameters(half))
    with pytest.raises(ValueError, match=r"less than the present one, 0\.\d+"):
        prune(half, X, y, sparsity=0.4)


@EVERY
def test_zeros_stay_in_partial_fit_and_warm_start(kind):
    estimator, X, y = fitted(kind)
    pruned = prune(estimator, X, y, sparsity=0.6, **SETTINGS)
    losses = [pruned.loss_]
    for _ in range(3):
        pruned.partial_fit(X, y)
        losses.append(pruned.loss_)
    fit(pruned.set_params(warm_start=True), X, y)
    losses.append(pruned.loss_)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    for coef, mask in zip(pruned.coefs_, pruned.pruned_, strict=True):
        np.testing.assert_array_equal(coef == 0, mask)
    again = prune(pruned, X, y, sparsity=0.7, **SETTINGS)
    assert n_zeros(again) == round(0.7 * n_weights(again))
    # Begun anew, all weights are free.
    fit(pruned.set_params(warm_start=False), X, y)
    assert not hasattr(pruned, "pruned_")
    assert n_zeros(pruned) == 0


@pytest.mark.parametrize("solver", all_solvers())
def test_solvers_go_on_with_zeros_or_say_why_not(solver):
    estimator, X, y = fitted("multiclass")
    pruned = prune(estimator, X, y, sparsity=0.6, **SETTINGS)
    pruned.set_params(solver=solver)
    if solver in ("gram", "kfac", "sketched_gram"):
        with pytest.raises(ValueError, match="which RestrictedHessian lacks"):
            pruned.partial_fit(X, y)
        return
    before = pruned.loss_
    pruned.partial_fit(X, y)
    assert pruned.loss_ < before
    assert n_zeros(pruned) == round(0.6 * n_weights(pruned))


def test_steps_are_exact_on_the_weights_that_are_left():
    # For a quadratic objective training ends at its minimum under the zeros.
    rng = np.random.default_rng(0)
    X, alpha = rng.standard_normal((50, 6)), 0.5
    y = X @ rng.standard_normal(6) + 3
    settings = {"solver": "dense", "tol": 0, "max_iter": 30, "random_state": 0}
    settings |= {"alpha": alpha, "standardize": False}
    model = GaussNewtonMLPRegressor(hidden_layer_sizes=(), **settings)
    pruned = prune(fit(model, X, y), X, y, sparsity=0.5, **SETTINGS)
    fit(pruned.set_params(warm_start=True), X, y)
    kept = ~pruned.pruned_[0][:, 0]
    A = np.column_stack([X[:, kept], np.ones(50)])
    ridge = alpha * np.diag([1.0] * 3 + [0])
    expected = np.linalg.solve(A.T @ A + ridge, A.T @ y)
    assert_close(pruned.coefs_[0][kept, 0], expected[:-1], rtol=1e-6)
    assert_close(pruned.intercepts_[0], expected[-1:], rtol=1e-6)


def test_weights_of_rows_count():
    estimator, X, y = fitted("multiclass")
    rows = np.random.default_rng(0).random(len(X))
    rows[: len(X) // 2] = 0
    settings = {"sparsity": 0.6, **SETTINGS}
    weighted = prune(estimator, X, y, rows, **settings)
    other = X.copy()
    other[: len(X) // 2] = 1e3
    assert_same_model(weighted, prune(estimator, other, y, rows, **settings))
    difference = parameters(weighted) - parameters(prune(estimator, X, y, **settings))
    assert np.abs(difference).max() > 0


def test_float32_stays_float32():
    estimator, X, y = task("multiclass", max_iter=5)
    fit(estimator, X.astype(np.float32), y)
    pruned = prune(estimator, X, y, sparsity=0.5, **SETTINGS)
    pruned.partial_fit(X.astype(np.float32), y)
    assert all(a.dtype == np.float32 for a in weights(pruned))
    assert all(mask.dtype == bool for mask in pruned.pruned_)


def test_weights_are_exported_sparse():
    estimator, X, y = fitted("multiclass")
    pruned = prune(estimator, X, y, sparsity=0.5, **SETTINGS)
    exported = sparse_coefs(pruned)
    for matrix, coef in zip(exported, pruned.coefs_, strict=True):
        assert matrix.nnz == (coef != 0).sum()
        np.testing.assert_array_equal(matrix.toarray(), coef)


# ---- refusals ------------------------------------------------------------------------


def test_unknown_parameters_are_named():
    estimator, X, y = fitted("multiclass")
    with pytest.raises(TypeError, match="sparseness"):
        prune(estimator, X, y, sparseness=0.5)


def test_other_estimators_and_missing_targets_are_refused():
    estimator, X, y = fitted("multiclass")
    for other in (MLPRegressor(), LogisticRegression()):
        with pytest.raises(ValueError, match="cannot be pruned"):
            prune(other, X, y)
    with pytest.raises(ValueError, match="needs y, unless"):
        prune(estimator, X)
    with pytest.raises(NotFittedError):
        prune(clone(estimator), X, y)


def test_draws_beyond_the_working_memory_are_refused():
    estimator, X, y = fitted("multiclass")
    with (
        config_context(working_memory=0.1),
        pytest.raises(ValueError, match="Take fewer gradients"),
    ):
        prune(estimator, X, y, n_gradients=1000)


def test_blocks_beyond_the_working_memory_are_refused():
    estimator, X, y = fitted("multiclass")
    with (
        config_context(working_memory=0.01),
        pytest.raises(ValueError, match="Take a smaller block_size"),
    ):
        prune(estimator, X, y, n_gradients=1)


@pytest.mark.parametrize("damping", [1e-17, 1e-20])
def test_too_small_a_damping_is_refused(damping):
    estimator, X, y = fitted("multiclass")
    with pytest.raises(np.linalg.LinAlgError, match="raise the damping"):
        prune(estimator, X, y, n_gradients=200, damping=damping)
