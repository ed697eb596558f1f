"""Training by the exact Hessian: what it is given, and what it makes of it."""

import numpy as np
import pytest
from cases import Case, assert_close
from matrices import deep_hessian
from scipy.linalg import LinAlgError
from sklearn import config_context
from sklearn.datasets import make_friedman1

from skgnh import GaussNewtonMLPRegressor
from skgnh.network import append_one
from skgnh.objective import Objective
from skgnh.operators import DenseMatrix, ExactHessian, GaussNewtonHessian
from skgnh.optimize import levenberg_marquardt
from skgnh.solvers import Dense, ExactHessianSolver, LayerElimination
from skgnh.solvers.dense import DenseFactor
from skgnh.solvers.exact_hessian import LayerFactor, SaddleFreeFactor
from skgnh.solvers.preconditioned import PreconditionedFactor

CASE = Case("tanh", 3, "squared", weighted=True, n=8)


def objective(curvature, case=CASE):
    X, Y, weights, theta, ridge = case.data()
    inputs = append_one(X)
    return (
        Objective(case.network, case.loss, inputs, Y, weights, ridge, curvature),
        theta,
    )


def force(monkeypatch, pays):
    monkeypatch.setattr(LayerElimination, "pays", classmethod(lambda cls, H: pays))


def test_training_builds_the_curvature_that_the_solver_names():
    f, theta = objective(ExactHessianSolver.curvature)
    rows = np.array([0, 2, 3])
    H = f.linearize(theta, None, rows)[2]
    assert isinstance(H, ExactHessian)
    np.testing.assert_array_equal(H.targets, f.targets[rows])
    h, gradients = 1e-5, []
    for sign in (1, -1):
        moved = theta + sign * h * np.eye(len(theta))
        gradients.append(np.array([f.linearize(t, rows)[1] for t in moved]))
    differences = (gradients[0] - gradients[1]) / (2 * h)
    assert_close(H.toarray(), differences, rtol=1e-7)
    f, theta = objective(Dense.curvature)
    assert isinstance(f.linearize(theta)[2], GaussNewtonHessian)
    with pytest.raises(ValueError, match="Unknown curvature 'H'"):
        objective("H")


@pytest.mark.parametrize("pays", [True, False])
def test_indefinite_shift_fails_and_says_so(pays, monkeypatch):
    force(monkeypatch, pays)
    H = CASE.exact()
    least = np.linalg.eigvalsh(H.toarray())[0]
    assert least < 0
    factor = ExactHessianSolver().factor(H)
    assert isinstance(factor, LayerFactor if pays else DenseFactor)
    with pytest.raises(LinAlgError, match="positive definite"):
        factor.solve(H.theta, -0.99 * least)
    A = H.toarray() - 1.01 * least * np.eye(H.shape[0])
    x = factor.solve(H.theta, -1.01 * least)
    assert_close(x, np.linalg.solve(A, H.theta), rtol=1e-9)
    assert factor.logdet(-1.01 * least) == pytest.approx(np.linalg.slogdet(A)[1])


def test_layers_are_taken_for_few_rows_of_deep_networks():
    def kind(H):
        return type(ExactHessianSolver().factor(H))

    assert kind(deep_hessian(30, 5, 2)) is LayerFactor
    assert kind(deep_hessian(3, 5, 200)) is DenseFactor
    with config_context(working_memory=0.01):
        assert kind(deep_hessian(30, 5, 2)) is PreconditionedFactor


def test_products_are_counted():
    H = CASE.exact()
    factor = LayerFactor(H)
    assert factor.products == 0
    for k, damping in enumerate((10.0, 10.0, 20.0), start=1):
        factor.solve(H.theta, damping)
        assert k <= factor.products <= 3 * k


def test_saddle_free_solve_takes_the_size_of_the_eigenvalues():
    A = np.array([[1.0, 2.0], [2.0, 1.0]])  # eigenvalues 3 and -1
    factor = ExactHessianSolver(saddle_free=True).factor(DenseMatrix(A))
    absolute = np.array([[2.0, 1.0], [1.0, 2.0]])
    b = np.array([1.0, -2.0])
    for damping in (0.0, 0.5):
        x = np.linalg.solve(absolute + damping * np.eye(2), b)
        assert_close(factor.solve(b, damping), x)
        assert_close(factor.solve(np.c_[b, b], damping), np.c_[x, x])
    zero = ExactHessianSolver(saddle_free=True).factor(DenseMatrix(np.zeros((2, 2))))
    with pytest.raises(LinAlgError, match="singular: raise the damping"):
        zero.solve(b, 0.0)
    H = CASE.exact()
    H.theta[0] = np.nan
    with pytest.raises(LinAlgError, match="not finite"):
        SaddleFreeFactor(H)


@pytest.mark.parametrize("solver", [{}, {"saddle_free": True}], ids=str)
@pytest.mark.parametrize("pays", [True, False])
def test_training_converges_to_a_minimum(solver, pays, monkeypatch):
    force(monkeypatch, pays)
    f, theta = objective("exact")
    steps = list(
        levenberg_marquardt(
            f,
            theta,
            ExactHessianSolver(**solver),
            gradient_tol=1e-8,
        )
    )
    assert steps[-1].status == "gradient"
    accepted = [step for step in steps if step.accepted]
    values = [step.value for step in accepted]
    assert values == sorted(values, reverse=True)
    # A minimum, and not just any stationary point.
    H = f.linearize(steps[-1].theta)[2].toarray()
    assert np.linalg.eigvalsh(H)[0] > -1e-9
    # Quadratically: the gradients at the end square, up to the damping that is left.
    norms = [step.gradient_norm for step in accepted]
    assert norms[-1] < 0.05 * norms[-2]
    if not solver:
        assert all(step.residual < 1e-8 for step in accepted)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("batch_size", ["auto", 20])
def test_estimators_take_it_by_name(batch_size):
    X, y = make_friedman1(60, n_features=5, random_state=0)
    y = (y - y.mean()) / y.std()
    mlp = GaussNewtonMLPRegressor(
        hidden_layer_sizes=(5, 5),
        solver="exact_hessian",
        alpha=1e-4,
        batch_size=batch_size,
        max_iter=60,
        tol=0,
        random_state=0,
    ).fit(X, y)
    assert isinstance(mlp.solver_, ExactHessianSolver)
    assert mlp.score(X, y) > 0.75
    again = ExactHessian.from_estimator(mlp, X, y)
    assert again.shape[0] == sum(c.size for c in mlp.coefs_ + mlp.intercepts_)
