"""The objective against the oracle, and against the loss that scikit-learn reports."""

import numpy as np
import oracles
import pytest
from cases import ACTIVATIONS, LOSS_KINDS, Case, assert_close
from fitted import KINDS, WEIGHTED, fitted
from scipy import sparse

from skgnh.network import append_one
from skgnh.objective import Objective
from skgnh.operators import GaussNewtonHessian

NETS = [("identity", 0), *((name, 1) for name in ACTIVATIONS), ("tanh", 4), ("relu", 3)]
CASES = [Case(*net, kind, weighted=True, n=7) for net in NETS for kind in LOSS_KINDS]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


def problem(case, dtype=np.float64, convert=None):
    """The package's objective and theta."""
    X, Y, weights, theta, ridge = (part.astype(dtype) for part in case.data())
    inputs = append_one(X if convert is None else convert(X))
    return Objective(case.network, case.loss, inputs, Y, weights, ridge), theta


def oracle(case, rows=None):
    """The oracle's objective over some rows, as a function of theta."""
    X, Y, weights, _, ridge = case.data()
    rows = np.arange(len(X)) if rows is None else rows
    w = weights[rows] / sum(weights[rows])
    return lambda theta: oracles.objective(
        theta,
        X[rows],
        Y[rows],
        case.widths,
        case.activations,
        case.output_activation,
        w,
        ridge,
    )


@pytest.mark.parametrize("rows", [None, np.array([0, 2, 3])], ids=["all", "some"])
def test_value_and_gradient_equal_the_oracle(case, rows):
    objective, theta = problem(case)
    f = oracle(case, rows)
    value, gradient, _ = objective.linearize(theta, rows)
    assert value == pytest.approx(f(theta), rel=1e-12)
    assert objective.value(theta, rows) == pytest.approx(f(theta), rel=1e-12)
    assert_close(gradient, oracles.complex_step(f, theta), rtol=1e-12)


def test_gradient_is_that_of_the_value_by_differences(case):
    objective, theta = problem(case)
    _, gradient, _ = objective.linearize(theta)
    h = 1e-6
    for direction in np.random.default_rng(0).standard_normal((3, len(theta))):
        ahead, behind = (objective.value(theta + s * h * direction) for s in (1, -1))
        slope = gradient @ direction
        assert (ahead - behind) / (2 * h) == pytest.approx(slope, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_curvature_is_the_gauss_newton_hessian_of_its_rows(kind):
    case = Case("tanh", 1, kind, weighted=True, n=7)
    objective, theta = problem(case)
    _, _, weights, _, ridge = case.data()
    assert_close(objective.linearize(theta)[2].toarray(), case.array())
    rows = np.array([0, 2, 3])
    chosen = np.where(np.isin(np.arange(7), rows), weights, 0)
    expected = case.curvature().array(chosen / chosen.sum(), ridge)
    for arguments in ((rows, rows), (None, rows), (np.array([4, 5]), rows)):
        H = objective.linearize(theta, *arguments)[2]
        assert isinstance(H, GaussNewtonHessian)
        assert H.linearization.n_rows == 3
        assert_close(H.toarray(), expected)


def test_curvature_is_the_hessian_where_the_network_is_linear():
    case = Case("identity", 0, "softmax", weighted=True, n=7)
    objective, theta = problem(case)
    H, h = objective.linearize(theta)[2].toarray(), 1e-5
    for k, e in enumerate(np.eye(len(theta))):
        ahead, behind = (objective.linearize(theta + s * h * e)[1] for s in (1, -1))
        assert_close((ahead - behind) / (2 * h), H[k], rtol=1e-8)


def test_gradient_after_the_value_makes_no_further_forward_pass(monkeypatch):
    objective, theta = problem(Case("tanh", 1, "softmax", weighted=True, n=7))
    moved = theta + 0.1
    fresh = problem(Case("tanh", 1, "softmax", weighted=True, n=7))[0]
    expected = fresh.linearize(moved)
    forward, passes = type(objective.network).trace, []

    def counted(self, theta, inputs):
        passes.append(len(inputs))
        return forward(self, theta, inputs)

    monkeypatch.setattr(type(objective.network), "trace", counted)
    value = objective.value(moved)
    assert passes == [7]
    again, gradient, _ = objective.linearize(moved)
    assert passes == [7]
    assert again == value == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])
    # The penalty is that of now, the rows those asked for, the parameters too.
    objective.ridge = 2 * objective.ridge
    gradient = objective.linearize(moved)[1]
    assert_close(gradient - expected[1], fresh.ridge * moved, rtol=1e-12)
    assert passes == [7]
    objective.linearize(moved, np.arange(4))
    objective.linearize(theta)
    assert passes == [7, 4, 7]


def test_theta_is_not_overwritten():
    objective, theta = problem(Case(n=7))
    kept = theta.copy()
    objective.value(theta)
    _, gradient, H = objective.linearize(theta)
    gradient += 1
    H @ theta
    np.testing.assert_array_equal(theta, kept)
    assert_close(objective.linearize(theta)[1], gradient - 1, rtol=1e-14)


@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_float32_stays_float32_and_values_are_summed_in_double(kind):
    case = Case("tanh", 1, kind, weighted=True, n=7)
    objective, theta = problem(case, np.float32)
    value, gradient, H = objective.linearize(theta)
    exact = oracle(case)(case.data()[3])
    assert (type(value), gradient.dtype, H.dtype) == (float, np.float32, np.float32)
    assert type(objective.value(theta)) is float
    assert value == pytest.approx(exact, rel=1e-5)


def test_value_in_float32_does_not_lose_many_small_losses():
    case = Case("identity", 0, "squared", n=5)
    objective, theta = problem(case, np.float32)
    n = 200_000
    rows = np.zeros(n, int)
    many = Objective(
        case.network,
        case.loss,
        objective.inputs[rows],
        objective.targets[rows],
        np.full(n, 1 / n, np.float32),
        objective.ridge,
    )
    penalty = 0.5 * float(np.sum(objective.ridge * theta**2, dtype=float))
    one = objective.value(theta, rows[:1]) - penalty
    expected = float(np.sum(many.weights, dtype=float)) * one + penalty
    assert many.value(theta) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_sparse_rows_give_what_dense_rows_give(kind):
    case = Case("relu", 2, kind, weighted=True, n=7)
    objective, theta = problem(case)
    twin, _ = problem(case, convert=sparse.csr_array)
    for rows in (None, np.array([3, 0, 5])):
        assert twin.value(theta, rows) == pytest.approx(objective.value(theta, rows))
        value, gradient, _ = objective.linearize(theta, rows)
        sparse_value, sparse_gradient, _ = twin.linearize(theta, rows)
        assert sparse_value == pytest.approx(value, rel=1e-13)
        assert_close(sparse_gradient, gradient, rtol=1e-13)


@pytest.mark.parametrize("kind", LOSS_KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_overflow_gives_a_value_that_is_not_finite_and_no_error(kind, dtype):
    case = Case("identity", 1, kind, n=7)
    objective, theta = problem(case, dtype)
    value = objective.value(np.finfo(dtype).max ** dtype(0.6) * theta)
    assert type(value) is float
    assert not value <= 1e3


# ---- scikit-learn's numbers ----------------------------------------------------------


@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.parametrize("kind", KINDS)
def test_value_is_the_loss_that_scikit_learn_reports(kind, weighted):
    fit = fitted(kind, weighted)
    objective, theta = Objective.from_estimator(
        fit.estimator, fit.X, fit.y, fit.sample_weight
    )
    assert objective.value(theta) == pytest.approx(fit.estimator.loss_, rel=1e-10)
    value, gradient, _ = objective.linearize(theta)
    assert value == pytest.approx(fit.estimator.loss_, rel=1e-10)

    def f(theta):
        return oracles.objective(
            theta,
            fit.X,
            fit.targets,
            fit.widths,
            fit.activations,
            fit.output_activation,
            fit.weights,
            fit.ridge,
        )

    np.testing.assert_array_equal(theta, fit.theta)
    assert value == pytest.approx(f(theta), rel=1e-12)
    expected = oracles.complex_step(f, theta)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-13)
