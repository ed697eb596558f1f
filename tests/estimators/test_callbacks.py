"""scikit-learn's callbacks, where the installed release has them."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from tasks import DEFAULTS, KINDS, assert_same_model, fit, fitted, predictions, task

pytestmark = pytest.mark.skipif(
    find_spec("sklearn.callback") is None, reason="callbacks came with 1.9"
)


class Recorder:
    """A callback that writes down what it is told, and stops after some iterations."""

    def __init__(self, stop_after=np.inf, interrupt_after=np.inf):
        self.stop_after, self.interrupt_after = stop_after, interrupt_after
        self.events, self.models, self.iterations = [], [], 0

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, fitted_estimator=None
    ):
        self.events.append(f"end {context.task_name}")
        self.models.append((fitted_estimator.loss_, predictions(fitted_estimator, X)))
        if context.task_name != "iteration":
            return False
        self.iterations += 1
        if self.iterations == self.interrupt_after:
            raise KeyboardInterrupt
        return self.iterations == self.stop_after


@pytest.mark.parametrize("kind", KINDS)
def test_callback_sees_every_iteration_and_a_model_that_predicts(kind):
    estimator, X, y = task(kind, max_iter=4)
    recorder = Recorder()
    fit(estimator.set_callbacks(recorder), X, y)
    iteration = ["begin iteration", "end iteration"]
    assert recorder.events == [
        "setup",
        "begin fit",
        *(4 * iteration),
        "end fit",
        "teardown",
    ]
    losses = [loss for loss, _ in recorder.models]
    np.testing.assert_allclose(losses, [*estimator.loss_curve_, estimator.loss_])
    np.testing.assert_array_equal(recorder.models[-1][1], predictions(estimator, X))
    assert_same_model(estimator, fitted(kind, max_iter=4).estimator)


@pytest.mark.parametrize("kind", KINDS)
def test_callback_changes_nothing_by_the_evidence(kind):
    settings = {"max_iter": 8, **DEFAULTS}
    estimator, X, y = task(kind, **settings)
    recorder = Recorder()
    fit(estimator.set_callbacks(recorder), X, y)
    assert recorder.iterations > 0
    assert_same_model(estimator, fitted(kind, **settings).estimator)


def test_callback_may_stop_the_fit_without_a_warning():
    estimator, X, y = task("multiclass")
    estimator.set_callbacks(Recorder(stop_after=3)).fit(X, y)
    assert estimator.n_iter_ == 3
    assert_same_model(estimator, fitted("multiclass", max_iter=3).estimator)


def test_interrupt_within_a_callback_leaves_the_model_so_far():
    estimator, X, y = task("multiclass")
    recorder = Recorder(interrupt_after=3)
    with pytest.warns(UserWarning, match="interrupted"):
        estimator.set_callbacks(recorder).fit(X, y)
    assert_same_model(estimator, fitted("multiclass", max_iter=3).estimator)
    assert recorder.events[-1] == "teardown"


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_nothing_of_a_callback_stays_behind(method):
    estimator, X, y = task("regression", max_iter=2)
    recorder = Recorder()
    estimator.set_callbacks(recorder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        getattr(estimator, method)(X, y)
    assert recorder.events.count("setup") == recorder.events.count("teardown")
    assert not {name for name in vars(estimator) if "context" in name or "ctx" in name}


def test_scoring_monitor_records_the_training_score():
    from sklearn.callback import ScoringMonitor

    estimator, X, y = task("multiclass", max_iter=4)
    monitor = ScoringMonitor(scoring="accuracy")
    fit(estimator.set_callbacks(monitor), X, y)
    logs = monitor.get_logs().data_as_pandas
    scores = logs.loc[logs["task_name"] == "iteration", "accuracy"]
    assert len(scores) == 4
    assert scores.iloc[-1] == estimator.score(X, y)


def test_progress_bar_shows_the_iterations(capsys):
    from sklearn.callback import ProgressBar

    estimator, X, y = task("regression", max_iter=3)
    fit(estimator.set_callbacks(ProgressBar()), X, y)
    assert "GaussNewtonMLPRegressor - fit" in capsys.readouterr().out


def test_callbacks_work_within_a_grid_search(capsys):
    from sklearn.callback import ProgressBar, ScoringMonitor

    estimator, X, y = task("multiclass", tol=1e-2)
    monitor = ScoringMonitor(scoring="accuracy")
    search = GridSearchCV(estimator.set_callbacks(monitor), {"alpha": [0.1, 1]}, cv=2)
    search.set_callbacks(ProgressBar()).fit(X, y)
    assert "GaussNewtonMLPClassifier" in capsys.readouterr().out
    logs = monitor.get_logs().data_as_pandas
    assert {"iteration", "fit"} & set(logs["task_name"])
    alone = fit(clone(search.best_estimator_), X, y)
    assert_same_model(search.best_estimator_, alone)
