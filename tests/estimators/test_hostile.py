"""What `benchmarks/hostile.py` has found, each a small test."""

import numpy as np
import pytest
from tasks import fit, task

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.hmatrix import hodlr
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.objective import Objective
from skgnh.operators import DenseMatrix
from skgnh.solvers import Dense
from skgnh.training import FullBatch, LevenbergMarquardt, Problem


def test_the_most_damping_is_a_number_whatever_the_curvature():
    # With an infinite one a solve that fails was tried for ever.
    network = MLP((1, 1), ())
    inputs = append_one(np.array([[1e148], [-1e148]]))
    parts = np.array([[1.0], [2.0]]), np.full(2, 0.5), np.zeros(2)
    problem = Problem(
        Objective(network, LOSSES["identity"], inputs, *parts), np.ones(2)
    )
    method = LevenbergMarquardt(Dense(), FullBatch())
    state = method.begin(problem, np.random.default_rng(0))
    with np.errstate(all="ignore"):
        next(method.steps(problem, state))
    assert np.isfinite(state.bounds).all()
    assert state.bounds[0] < state.bounds[1]


def test_columns_and_targets_that_are_subnormal_count_as_constant():
    X = np.random.default_rng(0).standard_normal((30, 2)) * [1, 1e-310]
    model = fit(
        GaussNewtonMLPRegressor(hidden_layer_sizes=(), alpha=0.0, random_state=0),
        X,
        X[:, 0],
    )
    assert np.isfinite(model.predict(X)).all()
    model = fit(GaussNewtonMLPRegressor(random_state=0), X, X[:, 1])
    assert np.isfinite(model.predict(X)).all()


def test_a_constant_column_has_no_part_in_the_bias():
    X = np.array([[1e30, 0], [1e30, 1]], np.float32)
    model = GaussNewtonMLPRegressor(
        hidden_layer_sizes=(), alpha=1e-4, max_iter=2, random_state=0
    )
    fit(model, X, 1e25 * X[:, 1])
    assert model.coefs_[0][0] == 0
    assert np.isfinite(model.predict(X)).all()


def test_a_fit_that_ends_where_the_objective_overflows_is_refused():
    X = np.random.default_rng(0).standard_normal((4, 2)) * 1e150
    model = GaussNewtonAutoencoder((1,), standardize=False, init="ntk", random_state=0)
    with pytest.raises(ValueError, match="overflows at the end: scale X"):
        fit(model, X, None)
    assert not hasattr(model, "loss_")


def test_a_constant_is_weighed_whatever_the_weights():
    X = np.random.default_rng(0).standard_normal((40, 1))
    y = np.repeat([0, 1, 2], [11, 14, 15])
    model = GaussNewtonMLPClassifier((), max_iter=3, random_state=0)
    fit(model, X, y, np.full(40, 1e200))
    assert np.isfinite(model.predict_proba(X)).all()


def test_a_prior_stays_where_no_determinant_can_be_found(monkeypatch):
    from skgnh.solvers import KFAC

    def fails(*_):
        raise np.linalg.LinAlgError("no")

    estimator, X, y = task("regression", alpha="evidence", solver="mfac", max_iter=2)
    monkeypatch.setattr(KFAC, "factor", fails)
    fit(estimator, X, y)
    assert np.isfinite(estimator.predict(X)).all()


def test_seeds_and_targets_are_refused_by_name():
    estimator, X, y = task("regression")
    with pytest.raises(ValueError, match="random_state"):
        estimator.set_params(random_state=-1).fit(X, y)
    with pytest.raises(ValueError, match="y must be numbers"):
        estimator.set_params(random_state=0).fit(X, np.full(len(X), "text"))


@pytest.mark.parametrize("storage", [np.inf, np.nan, 1, "one", None])
def test_hodlr_refuses_a_storage_by_name(storage):
    with pytest.raises(ValueError, match="storage must be at least 2"):
        hodlr(DenseMatrix(np.eye(4)), storage)
