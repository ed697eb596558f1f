"""Warnings point at the user's line, and a fit says why it ended."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import KINDS, MODES, fit, task

from skgnh.objective import Objective

EVERY = pytest.mark.parametrize("kind", KINDS)
BOTH = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(autouse=True)
def refusals_leave_the_model_as_it_was():
    """Take the watch of refusals away: its line would be the caller's."""


def warned(call, category=UserWarning):
    """The one warning of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    [found] = [w for w in caught if issubclass(w.category, category)]
    return found


@BOTH
@EVERY
def test_iterations_run_out_at_the_users_line(kind, mode):
    estimator, X, y = task(kind, max_iter=1, **MODES[mode])
    found = warned(lambda: estimator.fit(X, y), ConvergenceWarning)
    assert found.filename == __file__
    assert "1 iterations reached" in str(found.message)


def test_a_pipeline_or_a_search_is_between():
    estimator, X, y = task("regression", max_iter=1)
    pipeline = make_pipeline(StandardScaler(), estimator)
    found = warned(lambda: pipeline.fit(X, y), ConvergenceWarning)
    assert found.filename == __file__
    search = GridSearchCV(estimator, {"alpha": [1.0]}, cv=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X, y)
    assert {w.filename for w in caught if w.category is ConvergenceWarning} <= {
        __file__
    }


def test_batches_larger_than_the_rows_are_named_at_the_users_line():
    estimator, X, y = task("regression", batch_size=61, tol=0.1)
    found = warned(lambda: estimator.fit(X, y))
    assert found.filename == __file__
    assert "batch_size=61" in str(found.message)


@pytest.mark.parametrize("mode", MODES)
def test_a_validation_set_of_one_row_is_named_once(mode):
    settings = {"early_stopping": True, "max_iter": 5, **MODES[mode]}
    estimator, X, y = task("regression", **settings)
    rows = {"X_val": X[:1], "y_val": y[:1]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X, y, **rows)
    [found] = [w for w in caught if "one row" in str(w.message)]
    assert found.filename == __file__
    # No other but that iterations may run out.
    assert {w.category for w in caught} == {ConvergenceWarning}
    assert np.isnan(estimator.validation_scores_).all()


def test_an_interrupt_is_said_at_the_users_line(monkeypatch):
    def interrupted(self, *args, **kwargs):
        raise KeyboardInterrupt

    estimator, X, y = task("regression")
    monkeypatch.setattr(Objective, "linearize", interrupted)
    found = warned(lambda: estimator.fit(X, y))
    assert found.filename == __file__
    assert "interrupted" in str(found.message)


# ---- verbose -------------------------------------------------------------------------


def ended(capsys, kind="regression", **settings):
    estimator, X, y = task(kind, verbose=True, **settings)
    fit(estimator, X, y)
    return capsys.readouterr().out.splitlines()[-1]


@BOTH
def test_the_last_line_says_that_iterations_ran_out(capsys, mode):
    found = ended(capsys, max_iter=2, **MODES[mode])
    assert found == "Training ended: max_iter is reached."


@BOTH
@EVERY
def test_the_last_line_says_that_patience_ended(capsys, kind, mode):
    settings = {"tol": 0.5, "n_iter_no_change": 1, **MODES[mode]}
    found = ended(capsys, kind, **settings)
    assert found == "Training ended: the loss no longer improves by tol."


def test_the_last_line_says_that_nothing_is_left_to_do(capsys):
    settings = {"hidden_layer_sizes": (), "alpha": 1.0, "tol": 0}
    found = ended(capsys, n_iter_no_change=np.inf, solver="dense", **settings)
    assert found in (
        "Training ended: the gradient vanishes.",
        "Training ended: steps have become too small.",
        "Training ended: no damping brings a reduction.",
    )
