"""The estimators as parts: clone, pickle, grid search, pipelines, routing."""

import pickle

import numpy as np
import pytest
from marks import slow_unless
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import (
    KINDS,
    assert_same_model,
    fit,
    fitted,
    predictions,
    task,
)

from skgnh.solvers import CG, Auto, Dense, Gram, Solver, all_solvers

EVERY = pytest.mark.parametrize("kind", KINDS)
MOSTLY = pytest.mark.parametrize(
    "kind", slow_unless(("multiclass", "regression").__contains__, KINDS)
)
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# ---- parameters ---------------------------------------------------------------------


def test_parameters_of_a_solver_are_reached_by_its_prefix():
    estimator = task("binary", solver=CG(max_iter=7)).estimator
    assert estimator.get_params()["solver__max_iter"] == 7
    estimator.set_params(solver__max_iter=9, solver__rtol=0.1)
    assert (estimator.solver.max_iter, estimator.solver.rtol) == (9, 0.1)
    assert (
        "solver__max_iter" not in clone(estimator).set_params(solver="cg").get_params()
    )


@EVERY
def test_clone_copies_the_parameters_only(kind):
    estimator, _, _ = fitted(kind, solver=CG(max_iter=7), alpha=0.3)
    copy = clone(estimator)
    assert not [name for name in vars(copy) if name.endswith("_")]
    assert copy.solver is not estimator.solver
    settings, others = estimator.get_params(), copy.get_params()
    assert settings.pop("solver").get_params() == others.pop("solver").get_params()
    assert settings == others


@EVERY
def test_fit_changes_no_parameter(kind):
    solver = CG(max_iter=7)
    estimator, X, y = task(kind, solver=solver, max_iter=2)
    before = estimator.get_params()
    fit(estimator, X, y)
    assert estimator.get_params() == before
    assert estimator.solver is solver
    assert vars(solver) == vars(CG(max_iter=7))


@pytest.mark.parametrize("solver", [*all_solvers(), CG(max_iter=7)])
@MOSTLY
def test_pickle_keeps_the_model(kind, solver):
    estimator, X, y = fitted(kind, solver=solver, max_iter=2, warm_start=True)
    copy = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(predictions(copy, X), predictions(estimator, X))
    assert_same_model(fit(copy, X, y), fit(estimator, X, y))


# ---- searches -----------------------------------------------------------------------


@MOSTLY
def test_grid_search_over_solvers_by_name_and_instance(kind):
    estimator, X, y = task(kind, max_iter=4)
    solvers = [*all_solvers(), CG(max_iter=5), Dense(), Gram()]
    search = GridSearchCV(estimator, {"solver": solvers}, cv=2).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert isinstance(search.best_estimator_.solver_, Solver)
    by_name = scores[list(all_solvers()).index("gram")]
    assert scores[-1] == by_name


@EVERY
def test_grid_search_over_parameters_of_the_solver(kind):
    estimator, X, y = task(kind, solver=CG(), max_iter=4)
    grid = {"solver__max_iter": [1, 20], "alpha": [1e-4, 1e-1]}
    search = GridSearchCV(estimator, grid, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert (
        search.best_estimator_.solver_.max_iter
        == (search.best_params_["solver__max_iter"])
    )
    assert len(set(search.cv_results_["mean_test_score"])) > 1


def test_grid_search_over_solvers_with_their_own_parameters():
    estimator, X, y = task("multiclass", max_iter=4)
    grid = [
        {"solver": [CG()], "solver__max_iter": [5, 20]},
        {"solver": [Dense()], "solver__max_cholesky": [0, 4]},
        {"solver": ["gram", Auto()]},
    ]
    search = GridSearchCV(estimator, grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 6
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_number_of_jobs_changes_nothing():
    estimator, X, y = task("multiclass", max_iter=4)
    grid = {"solver": ["dense", CG()], "batch_size": ["auto", 16]}
    one, two = (
        GridSearchCV(estimator, grid, cv=2, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )
    assert_same_model(one.best_estimator_, two.best_estimator_)


def test_sample_weight_reaches_every_fold():
    estimator, X, y = task("regression", max_iter=4)
    w = (np.arange(len(X)) % 2).astype(float)
    weighted = GridSearchCV(estimator, {"alpha": [0.1]}, cv=2).fit(
        X, y, sample_weight=w
    )
    alone = fit(clone(weighted.best_estimator_), X, y, w)
    assert_same_model(weighted.best_estimator_, alone)
    assert not np.allclose(weighted.predict(X), fit(clone(alone), X, y).predict(X))


# ---- composites ---------------------------------------------------------------------


@EVERY
def test_pipeline_with_a_scaler(kind):
    estimator, X, y = task(kind, max_iter=10)
    pipeline = make_pipeline(StandardScaler(), estimator)
    pipeline.fit(100 * X - 3, y)
    alone = fit(clone(estimator), StandardScaler().fit_transform(X), y)
    expected = predictions(alone, StandardScaler().fit_transform(X))
    np.testing.assert_allclose(
        predictions(pipeline, 100 * X - 3), expected, rtol=1e-4, atol=1e-4
    )


@EVERY
def test_cross_validation(kind):
    estimator, X, y = task(kind, max_iter=5)
    assert np.isfinite(cross_val_score(estimator, X, y, cv=3)).all()


def test_estimators_of_scikit_learn_that_wrap_others():
    estimator, X, y = task("multiclass", max_iter=3)
    p = CalibratedClassifierCV(estimator, cv=2).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    estimator, X, y = task("several targets", max_iter=3)
    assert MultiOutputRegressor(estimator).fit(X, y).predict(X).shape == y.shape
    estimator, X, y = task("regression", max_iter=3)
    bag = BaggingRegressor(estimator, 3, random_state=0).fit(X, y)
    assert np.isfinite(bag.predict(X)).all()
    scaled = TransformedTargetRegressor(estimator, transformer=StandardScaler())
    assert np.isfinite(scaled.fit(X, y).predict(X)).all()


# ---- metadata routing ---------------------------------------------------------------


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@EVERY
def test_pipeline_transforms_the_validation_rows(kind):
    estimator, X, y = task(kind, max_iter=30, early_stopping=True)
    _, X_val, y_val = task(kind, n=40)
    requests, rows = {"X_val": True}, {"X_val": X_val}
    if y is not None:
        requests["y_val"], rows["y_val"] = True, y_val
    pipeline = Pipeline(
        [("scale", StandardScaler()), ("net", estimator.set_fit_request(**requests))],
        transform_input=["X_val"],
    )
    pipeline.fit(X, y, **rows)

    scaler = StandardScaler().fit(X)
    rows["X_val"] = scaler.transform(X_val)
    alone = fit(clone(estimator), scaler.transform(X), y, **rows)
    assert_same_model(pipeline["net"], alone)
    assert pipeline["net"].validation_loss_curve_ == alone.validation_loss_curve_


@pytest.mark.usefixtures("routing")
def test_weights_of_validation_rows_are_routed():
    estimator, X, y = task("regression", max_iter=3)
    requests = dict.fromkeys(
        ["sample_weight", "X_val", "y_val", "sample_weight_val"], True
    )
    estimator.set_fit_request(**requests)
    w = np.linspace(0.1, 1, len(X))
    rows = {"X_val": X, "y_val": y, "sample_weight": w, "sample_weight_val": w}
    pipeline = Pipeline([("net", estimator)]).fit(X, y, **rows)
    alone = fit(clone(estimator), X, y, **rows)
    assert_same_model(pipeline["net"], alone)
    assert pipeline["net"].validation_scores_ == alone.validation_scores_


@pytest.mark.usefixtures("routing")
def test_weights_are_routed_to_fit_and_score():
    estimator, X, y = task("multiclass", max_iter=3)
    estimator.set_fit_request(sample_weight=True)
    estimator.set_score_request(sample_weight=True)
    w = np.random.default_rng(1).uniform(0.5, 1, len(X))
    found = cross_validate(estimator, X, y, cv=2, params={"sample_weight": w})
    assert np.isfinite(found["test_score"]).all()


def test_fit_warns_where_iterations_run_out():
    # That this module ignores it must not hide that it is there.
    estimator, X, y = task("multiclass", max_iter=1)
    with pytest.warns(ConvergenceWarning):
        estimator.fit(X, y)
