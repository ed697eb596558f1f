"""The ring buffer of gradients as a solver."""

import numpy as np
import pytest
from cases import Case, assert_close
from scipy.linalg import LinAlgError
from sklearn import config_context
from tasks import assert_same_model, fitted

from skgnh.operators import DenseMatrix
from skgnh.solvers import CG, MFAC, Dense
from skgnh.solvers.mfac import curvature_draws

CASE = Case("tanh", 1, "softmax", weighted=True, n=40)
OTHER = Case("tanh", 2, "softmax", n=40)


def dense(gradients, damping):
    gradients = np.asarray(gradients)
    F = gradients.T @ gradients / len(gradients)
    return F + damping * np.eye(gradients.shape[1])


def vectors(*shape):
    return np.random.default_rng(3).standard_normal(shape)


def test_draws_have_the_curvature_as_their_second_moment():
    H = CASE.operator(ridge=False)
    array = CASE.root().T @ CASE.root()
    draws = np.array(list(curvature_draws(H.root, 4000, np.random.default_rng(0))))
    error = np.linalg.norm(draws.T @ draws / 4000 - array)
    # The variance of g g^T is at most 2 (trace^2 + norm^2), over 4000 draws.
    bound = np.sqrt((np.trace(array) ** 2 + np.linalg.norm(array) ** 2) * 2 / 4000)
    assert error < bound
    assert abs(draws.mean(axis=0)).max() < 5 * np.sqrt(array.diagonal().max() / 4000)


def test_draws_are_made_in_chunks_of_any_size():
    H = CASE.operator()
    first = list(curvature_draws(H.root, 600, np.random.default_rng(0)))
    assert len(first) == 600
    with config_context(working_memory=1e-2):
        assert len(list(curvature_draws(H.root, 7, np.random.default_rng(0)))) == 7


def test_direct_solve_is_that_of_the_draws():
    H = CASE.operator()
    factor, rhs = MFAC(12, direct=True).factor(H), vectors(H.shape[0])
    G = factor.buffer.gradients
    assert G.shape == (12, H.shape[0])
    for damping in (1e-3, 1.0):
        F = dense(G, damping)
        assert_close(factor.solve(rhs, damping), np.linalg.solve(F, rhs))
        assert factor.logdet(damping) == pytest.approx(np.linalg.slogdet(F)[1])
    assert factor.products == 6


@pytest.mark.parametrize("direct", [False, True])
def test_buffer_goes_from_point_to_point(direct):
    H, solver = CASE.operator(), MFAC(5, n_new=2, direct=direct)

    def gradients(factor):
        return getattr(factor, "inner", factor).buffer.gradients

    first = solver.factor(H)
    before = gradients(first).copy()
    second = solver.factor(H, first.carried())
    changed = (gradients(second) != before).any(axis=1)
    np.testing.assert_array_equal(changed, [True, True, False, False, False])
    assert second.products == 1
    # What was carried is as it was: a point that failed begins at it once more.
    np.testing.assert_array_equal(gradients(first), before)
    again = solver.factor(H, first.carried())
    np.testing.assert_array_equal(gradients(again), gradients(second))
    # What was made for another size, or by another solver, begins anew.
    single = CASE.operator(np.float32)
    for other in (
        solver.factor(OTHER.operator()),
        solver.factor(single),
        MFAC(4, direct=direct).factor(H),
        CG().factor(H),
        Dense().factor(H),
    ):
        again = solver.factor(H, other.carried())
        np.testing.assert_array_equal(gradients(again), before)


def test_gradients_enter_once_a_point():
    H = CASE.operator()
    solver, factor = MFAC(3, source="gradient", direct=True), None
    gradients = vectors(5, H.shape[0])
    for k, g in enumerate(gradients):
        factor = solver.factor(H, factor and factor.carried())
        for damping in (0.1, 0.2):
            F = dense(gradients[max(0, k - 2) : k + 1], damping)
            assert_close(factor.solve(-g, damping), np.linalg.solve(F, -g))
        # Another right-hand side at the same point is no gradient of it.
        other = gradients[k - 1]
        assert_close(factor.solve(other, 0.2), np.linalg.solve(F, other))
        several = factor.solve(gradients.T, 0.2)
        assert_close(several, np.linalg.solve(F, gradients.T))


def test_steps_of_many_draws_near_those_of_the_hessian():
    H, rhs = CASE.operator(ridge=False), vectors(31)
    exact = np.linalg.solve(H.toarray() + 0.1 * np.eye(31), rhs)
    errors = [
        np.linalg.norm(MFAC(m, direct=True).factor(H).solve(rhs, 0.1) - exact)
        for m in (20, 200, 2000)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("source", ["curvature", "gradient"])
def test_training_by_it_alone_learns_and_repeats(source):
    solver = MFAC(16, source=source, direct=True)
    settings = {"solver": solver, "batch_size": 20, "max_iter": 30, "tol": 0}
    one, X, y = fitted("multiclass", **settings)
    assert one.loss_curve_[-1] < 0.8 * np.log(3)
    assert_same_model(one, fitted("multiclass", **settings).estimator)
    assert one.history_["residual"][0] > 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_gradients": 0}, "n_gradients must be an integer >= 1, got 0"),
        ({"n_gradients": 2.5}, "n_gradients must be an integer >= 1"),
        ({"n_new": 0}, "n_new must be an integer >= 1, got 0"),
        ({"source": "fisher"}, "Unknown source 'fisher'; choose among"),
        ({"source": "gradient", "direct": False}, "needs direct=True"),
    ],
)
def test_bad_parameters_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        MFAC(**{"direct": True, **settings}).factor(CASE.operator())


def test_operator_without_a_root_is_refused():
    with pytest.raises(ValueError, match="needs an operator with root"):
        MFAC().factor(DenseMatrix([[1.0]]))


def test_buffer_beyond_the_working_memory_is_refused():
    with (
        config_context(working_memory=1e-2),
        pytest.raises(ValueError, match="Keep fewer gradients"),
    ):
        MFAC(1000, direct=True).factor(CASE.operator())


def test_it_needs_a_damping():
    H = CASE.operator()
    for direct in (False, True):
        with pytest.raises(LinAlgError, match="positive damping"):
            MFAC(direct=direct).factor(H).solve(vectors(H.shape[0]), 0.0)
