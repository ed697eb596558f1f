"""The exact Hessian against differences of the oracle's gradient."""

from dataclasses import replace
from functools import cache

import numpy as np
import oracles
import pytest
from cases import LOSS_KINDS, Case, all_cases, assert_close
from fitted import fitted, needs_weights
from marks import slow_unless
from scipy import sparse
from sklearn import config_context

from skgnh.network import ACTIVATIONS
from skgnh.operators import ExactHessian, GaussNewtonHessian

CASES = [
    replace(case, n=3)
    for case in all_cases()
    if case.n_hidden in (0, 1, 3) and not case.weighted
]
STEP = 1e-5


def differenced(gradient, theta):
    """Central differences of a gradient that has no error of its own."""
    pairs = [
        gradient(theta + s) - gradient(theta - s) for s in STEP * np.eye(len(theta))
    ]
    return np.array(pairs) / (2 * STEP)


@cache
def parts(activation, n_hidden, kind, n):
    """Hessians of every row's loss, in plain loops."""
    case = Case(activation, n_hidden, kind, n=n)
    X, Y, _, theta, _ = case.data()

    def hessian(x, y):
        def value(t):
            z = oracles.outputs(t, x, case.widths, case.activations)
            return oracles.VALUES[case.output_activation](z, y)

        return differenced(lambda t: oracles.complex_step(value, t), theta)

    return [hessian(x, y) for x, y in zip(X, Y, strict=True)]


def expected(case):
    _, _, weights, _, ridge = case.data()
    hessians = parts(case.activation, case.n_hidden, case.kind, case.n)
    return np.diag(ridge) + np.tensordot(weights, hessians, 1)


def is_quick(case):
    return case.n_hidden < 2 or (case.activation, case.kind) == ("tanh", "softmax")


@pytest.mark.parametrize("case", slow_unless(is_quick, CASES), ids=str)
def test_array_products_and_diagonal_equal_differences_of_the_gradient(case):
    for weighted in (False, True):
        check(replace(case, weighted=weighted))


def check(case):
    H, desired = case.exact(), expected(case)
    array = H.toarray()
    assert_close(array, desired, rtol=1e-7)
    V = np.random.default_rng(0).standard_normal((len(array), 3))
    # Two formulas of the same matrix: to rounding.
    assert_close(H @ V, array @ V, rtol=1e-12)
    assert_close(H.T @ V[:, 0], array @ V[:, 0], rtol=1e-12)
    assert_close(H.diagonal(), np.diag(array), rtol=1e-12)
    assert_close(array, array.T, rtol=1e-13)
    rows, columns = np.array([3, 0, 3]), np.array([1, len(array) - 1])
    assert_close(H.entries(rows, columns), array[np.ix_(rows, columns)], rtol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_second_derivative_of_the_activations(name):
    z, h = np.linspace(-3, 3, 40), 1e-4
    values = ACTIVATIONS[name].value
    desired = (values(z + h) - 2 * values(z) + values(z - h)) / h**2
    np.testing.assert_allclose(ACTIVATIONS[name].bend(values(z)), desired, atol=1e-6)


@pytest.mark.parametrize("kind", LOSS_KINDS)
def test_equals_gauss_newton_where_the_residuals_vanish(kind):
    case = Case("tanh", 3, kind, weighted=True)
    H = case.exact()
    mean = case.loss.mean(H.network.outputs(H.theta, H.linearization.inputs))
    fitted = ExactHessian(H.linearization, H.loss, mean, H.weights, H.ridge)
    assert_close(fitted.toarray(), case.array())
    assert np.abs(H.toarray() - case.array()).max() > 1e-2


def test_equals_gauss_newton_where_the_network_is_linear():
    case = Case("identity", 0, "softmax")
    assert_close(case.exact().toarray(), case.array())


def test_chunks_of_rows_and_traces_made_again_change_nothing():
    case = Case("tanh", 3, "softmax", weighted=True, n=600)
    H, small = case.exact(), case.exact()
    V = np.random.default_rng(0).standard_normal((H.shape[0], 2))
    desired = [H @ V, H.diagonal(), H.toarray()]
    with config_context(working_memory=0.07):
        assert small.linearization.kept is None
        for answer, once in zip([small @ V, small.diagonal()], desired, strict=False):
            assert_close(answer, once, rtol=1e-12)
        chunks = [rows for rows, _ in small.linearization.chunks(100)]
        assert len(chunks) > 5
    chunked = case.exact()
    with config_context(working_memory=0.5):
        assert_close(chunked.toarray(), desired[2], rtol=1e-12)


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.csr_matrix])
def test_sparse_rows_are_dense_ones(convert):
    case = Case("tanh", 1, "softmax")
    H, twin = case.exact(convert=convert), case.exact()
    assert_close(H.toarray(), twin.toarray())
    assert_close(H.diagonal(), twin.diagonal())
    assert_close(H @ np.eye(H.shape[0]), twin.toarray())


def test_float32_stays_float32():
    case = Case("tanh", 3, "softmax", weighted=True)
    H, desired = case.exact(np.float32), case.exact().toarray()
    for answer in (H.toarray(), H @ np.eye(len(desired)), H.entries([0], [1])):
        assert answer.dtype == np.float32
    assert_close(H.toarray(), desired, rtol=1e-5)
    assert H.diagonal().dtype == np.float32


@pytest.mark.parametrize(
    "kind", ["binary", "regression", pytest.param("poisson", marks=needs_weights)]
)
def test_operator_of_an_estimator_is_that_of_its_parts(kind):
    fit = fitted(kind)
    H = ExactHessian.from_estimator(fit.estimator, fit.X, fit.y, fit.sample_weight)
    gradient = oracle_gradient(fit)
    V = np.random.default_rng(0).standard_normal(H.shape[0])
    h = 1e-4 / np.linalg.norm(V)
    slopes = (gradient(fit.theta + h * V) - gradient(fit.theta - h * V)) / (2 * h)
    assert_close(H @ V, slopes, rtol=1e-6)


def oracle_gradient(fit):
    def value(theta):
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

    return lambda theta: oracles.complex_step(value, theta)


def test_targets_are_needed():
    fit = fitted("binary")
    with pytest.raises(ValueError, match="depends on the targets: pass y"):
        ExactHessian.from_estimator(fit.estimator, fit.X)
    H = Case().exact()
    with pytest.raises(ValueError, match=r"targets have shape \(4, 3\), expected"):
        ExactHessian(H.linearization, H.loss, H.targets[1:], H.weights)


def test_array_and_entries_beyond_the_working_memory_are_refused():
    H = Case("tanh", 4).exact()
    with config_context(working_memory=0.01):
        for ask in (H.toarray, lambda: H.entries([0], np.arange(40))):
            with pytest.raises(ValueError, match="working memory"):
                ask()


def test_products_are_linear_in_the_curvature_beyond_gauss_newton():
    # Opposite residuals bend the network in opposite ways: their mean is Gauss-Newton.
    case = Case("tanh", 3, "squared", weighted=True)
    H = case.exact()
    z = H.network.outputs(H.theta, H.linearization.inputs)
    other = ExactHessian(H.linearization, H.loss, 2 * z - H.targets, H.weights, H.ridge)
    G = GaussNewtonHessian(H.linearization, H.loss, H.weights, H.ridge)
    assert_close((H.toarray() + other.toarray()) / 2, G.toarray())
