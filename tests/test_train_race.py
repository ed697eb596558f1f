"""The training race: that it measures what it says, on small rows."""

import json
from importlib import import_module
from pathlib import Path
from time import sleep
from types import SimpleNamespace

import numpy as np
import oracles
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)

# Of a benchmark, and not of the package.
pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "benchmarks"
ALPHA = 0.1
KINDS = ["one output", "two outputs", "two classes", "three classes", "autoencoder"]
PEERS = ["adam", "lbfgs", "lbfgs*"]


@pytest.fixture(scope="module")
def scripts():
    names = ("train_race", "race_data", "race_results", "race_runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield SimpleNamespace(**{name: import_module(name) for name in names})


def make(scripts, kind, n=300):
    rng = np.random.default_rng(0)
    X, X_test = rng.standard_normal((2, n, 4))
    kinds = {
        "one output": ("reg", lambda X: np.sin(X[:, 0]) + X[:, 1]),
        "two outputs": ("reg", lambda X: X[:, :2] ** 2),
        "two classes": ("clf", lambda X: np.where(X[:, 0] > 1, "yes", "no")),
        "three classes": ("clf", lambda X: 10 * X[:, :3].argmax(axis=1)),
        "autoencoder": ("ae", lambda X: X),
    }
    task, targets = kinds[kind]
    parts = X + 1, X_test + 1, targets(X), targets(X_test)
    hidden = (5, 2, 5) if task == "ae" else (6, 5)
    return scripts.race_data.make_problem(kind, task, parts, hidden, "tanh", "float64")


def oracle(problem, theta):
    Y = np.asarray(problem.y)
    if problem.task == "clf":
        columns = np.unique(Y)[-1:] if len(np.unique(Y)) == 2 else np.unique(Y)
        Y = np.array([[float(label == c) for c in columns] for label in Y])
    widths = problem.network.layer_units
    n = len(Y)
    return oracles.objective(
        theta,
        problem.X,
        Y.reshape(n, -1),
        widths,
        problem.network.activations,
        problem.output_activation,
        np.full(n, 1 / n),
        oracles.weight_mask(widths) * ALPHA / n,
    )


def run(scripts, name, problem, points=6, epochs=5):
    value = problem.objective(ALPHA).value
    trace = scripts.race_runs.Trace(value, max_points=points)
    settings = {"seed": 3, "alpha": ALPHA, "epochs": epochs, "threads": 1}
    return scripts.race_runs.train(name, problem, trace, **settings)


# ---- reading a trace -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "seconds"),
    [(2.0, 0.5), (1.0, 0.5), (1e-1, 1.0), (1e-2, 1.5), (1e-3, 2.5), (1e-4, 3.5)],
)
def test_a_time_is_interpolated_in_the_logarithm(scripts, target, seconds):
    trace = [0.5, 1.5, 3.5], [1.0, 1e-2, 1e-4]
    assert scripts.race_results.time_to(*trace, target) == pytest.approx(seconds)
    value = scripts.race_results.value_at(*trace, seconds)
    assert value == pytest.approx(min(target, 1.0))


def test_the_first_crossing_counts_and_values_may_rise_or_overflow(scripts):
    time_to, value_at = scripts.race_results.time_to, scripts.race_results.value_at
    seconds = [0.0, 1.0, 2.0, 3.0, 4.0]
    objective = [np.inf, 1.0, np.nan, 3.0, 0.1]
    assert time_to(seconds, objective, 1.0) == 1.0
    assert time_to(seconds, objective, 2.0) == 1.0
    assert time_to(seconds, objective, 0.3) == pytest.approx(4 - np.log10(3) / 1.477, 1)
    assert time_to(seconds, objective, 0.05) == np.inf
    assert value_at(seconds, objective, 2.5) == pytest.approx(1.0)
    assert value_at(seconds, objective, 3.5) == pytest.approx(0.1**0.5)
    assert value_at(seconds, objective, 99.0) == pytest.approx(0.1)


def test_measuring_is_not_on_the_clock(scripts):
    def value(theta):
        sleep(0.05)
        return 1.0

    trace = scripts.race_runs.Trace(value)
    trace.begin()
    for _ in range(4):
        trace.record(lambda: np.zeros(1))
    assert trace.seconds[-1] < 0.05
    sleep(0.01)
    trace.record(lambda: np.zeros(1))
    assert trace.seconds[-1] > 0.01


# ---- what is measured ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_all_solvers_start_alike_and_are_judged_by_the_oracle(scripts, kind):
    problem = make(scripts, kind)
    names = [*scripts.race_runs.peers(problem), "skgnh"]
    several = kind in ("two outputs", "autoencoder")
    assert names == [*PEERS[: 3 if several else 2], "skgnh"]
    traces = {name: run(scripts, name, problem) for name in names}
    for trace in traces.values():
        np.testing.assert_allclose(trace.start, traces["adam"].start, atol=1e-15)
        assert len(trace.objective) == len(trace.seconds) == 6
        assert trace.objective[0] == pytest.approx(oracle(problem, trace.start))
        assert trace.objective[-1] == pytest.approx(oracle(problem, trace.theta))
        assert trace.objective[-1] < trace.objective[0]
        assert all(np.diff(trace.seconds) > 0)
    assert all(np.diff(traces["skgnh"].objective) < 0)


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        ("one output", MLPRegressor),
        ("autoencoder", MLPRegressor),
        ("three classes", MLPClassifier),
    ],
)
def test_a_traced_fit_is_scikit_learns_own(scripts, name, kind, estimator):
    problem = make(scripts, kind)
    trace = run(scripts, name, problem, points=np.inf)
    assert (trace.iterations, trace.status) == (5, "epochs")
    several = problem.network.n_outputs if problem.task == "ae" else 1
    model = estimator(
        hidden_layer_sizes=problem.hidden,
        activation="tanh",
        solver=name,
        alpha=ALPHA * several * (200 / 300 if name == "adam" else 1),
        batch_size=200,
        max_iter=5,
        random_state=3,
        tol=0.0,
    )
    start = model._init_coef

    def shifted(fan_in, fan_out, dtype):
        coef, intercept = start(fan_in, fan_out, dtype)
        last = fan_out == problem.network.n_outputs
        return coef, intercept + problem.base_rate if last else intercept

    model._init_coef = shifted
    with pytest.warns(ConvergenceWarning):
        model.fit(problem.X, problem.y)
    theta = problem.network.from_coefs(model.coefs_, model.intercepts_)
    np.testing.assert_allclose(trace.theta, theta, rtol=1e-9, atol=1e-12)
    if name == "lbfgs" and several == 1:
        assert trace.objective[-1] == pytest.approx(model.loss_, rel=1e-12)


def test_adam_sees_other_batches_in_each_epoch(scripts, monkeypatch):
    problem, seen = make(scripts, "one output"), []
    backprop = MLPRegressor._backprop

    def watched(self, X, *args):
        seen.append(X[0].copy())
        return backprop(self, X, *args)

    monkeypatch.setattr(MLPRegressor, "_backprop", watched)
    run(scripts, "adam", problem)
    assert len(np.unique(seen, axis=0)) == len(seen) == 10


@pytest.mark.parametrize("kind", ["two outputs", "autoencoder"])
def test_mended_lbfgs_gets_loss_and_gradient_of_a_multiple_of_the_objective(
    scripts, kind, monkeypatch
):
    problem, calls = make(scripts, kind), []
    objective, d = problem.objective(ALPHA), problem.network.n_outputs
    traced = scripts.race_runs._TracedRegressor
    evaluate = traced._loss_grad_lbfgs

    def watched(self, *args):
        loss, gradient = evaluate(self, *args)
        ends = np.cumsum([c.size for c in self.coefs_])
        coefs = np.split(gradient[: ends[-1]], ends[:-1])
        coefs = [g.reshape(c.shape) for g, c in zip(coefs, self.coefs_, strict=True)]
        sizes = np.cumsum([i.size for i in self.intercepts_])[:-1]
        intercepts = np.split(gradient[ends[-1] :], sizes)
        theta = problem.network.from_coefs(self.coefs_, self.intercepts_)
        calls.append((theta, loss, problem.network.from_coefs(coefs, intercepts)))
        return loss, gradient

    monkeypatch.setattr(traced, "_loss_grad_lbfgs", watched)
    run(scripts, "lbfgs*", problem)
    assert len(calls) > 5
    for theta, loss, gradient in calls:
        value, expected, _ = objective.linearize(theta)
        assert loss == pytest.approx(d * value, rel=1e-10)
        np.testing.assert_allclose(gradient, d * expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("batch_size", ["auto", 100])
@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        ("one output", GaussNewtonMLPRegressor),
        ("three classes", GaussNewtonMLPClassifier),
        ("autoencoder", GaussNewtonAutoencoder),
    ],
)
def test_a_traced_fit_of_this_package_is_its_own(scripts, kind, estimator, batch_size):
    problem = make(scripts, kind)
    trace = scripts.race_runs.Trace(problem.objective(ALPHA).value)
    settings = {
        "alpha": ALPHA,
        "standardize": False,
        "random_state": 3,
        "tol": 0.0,
        "batch_size": batch_size,
    }
    layers = {"hidden_layer_sizes": (6, 5), "activation": "tanh"}
    if kind == "autoencoder":
        layers = {"encoder_layer_sizes": (5, 2), "code_activation": "tanh"}
    model = estimator(**layers, **settings, max_iter=4)
    trace.begin()
    with scripts.race_runs.watched(trace), pytest.warns(ConvergenceWarning):
        model.fit(problem.X, problem.y)
    theta = problem.network.from_coefs(model.coefs_, model.intercepts_)
    np.testing.assert_allclose(trace.theta, theta, rtol=1e-12)
    assert trace.objective[-1] == pytest.approx(model.loss_, rel=1e-12)
    if batch_size == "auto":
        np.testing.assert_allclose(trace.objective[1:], model.loss_curve_, rtol=1e-12)
    raced = scripts.race_runs.challenger(problem, 3, ALPHA, {"batch_size": batch_size})
    changed = ("max_iter", "n_iter_no_change")
    expected = {k: v for k, v in model.get_params().items() if k not in changed}
    assert {k: v for k, v in raced.get_params().items() if k in expected} == expected


def test_a_fit_ends_at_its_limits(scripts):
    problem = make(scripts, "one output")
    value = problem.objective(ALPHA).value
    settings = {"seed": 3, "alpha": ALPHA, "epochs": 10**6, "threads": 1}
    for name in ("adam", "skgnh"):
        trace = scripts.race_runs.Trace(value, max_seconds=1e-3)
        scripts.race_runs.train(name, problem, trace, **settings)
        assert trace.status == "time"
        trace = scripts.race_runs.Trace(value, enough=lambda seconds, f: f < 0.2)
        scripts.race_runs.train(name, problem, trace, **settings)
        assert trace.status == "target"
        assert trace.objective[-1] < 0.2 <= min(trace.objective[:-1])


# ---- the script ----------------------------------------------------------------------


def test_a_quick_race_prints_a_table_and_writes_json(scripts, tmp_path, capsys):
    path = tmp_path / "race.json"
    quick = "--quick --threads 1 --rows 100 --epochs 5 --repeat 2 --seconds 1"
    names = "friedman1,digits,digits_ae"
    scripts.train_race.main([*quick.split(), "--problems", names, "--json", str(path)])
    printed = capsys.readouterr().out
    record = json.loads(path.read_text())
    assert [p["name"] for p in record["problems"]] == names.split(",")
    assert record["problems"][0]["layer_units"] == [10, 50, 50, 1]
    assert record["problems"][1]["layer_units"] == [64, 64, 32, 10]
    assert record["problems"][2]["layer_units"] == [64, 32, 8, 32, 64]
    for problem in record["problems"]:
        assert f"| {problem['name']}" in printed
        assert len(problem["rounds"]) == 2
        for one in problem["rounds"]:
            for label, mark in one["marks"].items():
                group = PEERS[: 2 if label == "scikit-learn" else 3]
                lowest = min(one["solvers"][name]["lowest"] for name in group)
                assert mark["target"] == lowest
                best = min(mark["seconds"][name] or np.inf for name in group)
                own = mark["seconds"]["skgnh"]
                assert mark["ratio"] == pytest.approx(best / own if own else 0)
            steps = one["solvers"]["skgnh"]["steps"]
            assert sum(steps["accepted"]) == one["solvers"]["skgnh"]["iterations"]
            starts = [s["start"] for s in one["solvers"].values()]
            np.testing.assert_allclose(starts, starts[0])


@pytest.mark.parametrize("task", ["reg", "clf", "ae"])
def test_any_file_of_arrays_can_be_raced(scripts, task, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 5))
    y = {"reg": X[:, :2], "clf": np.where(X[:, 0] > 0, "a", "b")}
    np.savez(tmp_path / "mine.npz", X=X, **({} if task == "ae" else {"y": y[task]}))
    arguments = f"--quick --threads 1 --epochs 3 --seconds 1 --task {task} --hidden 4,3"
    [result] = scripts.train_race.main(
        [*arguments.split(), "--data", str(tmp_path / "mine.npz")]
    )
    assert result["name"] == "mine"
    expected = {"reg": [5, 4, 3, 2], "clf": [5, 4, 3, 1], "ae": [5, 4, 3, 4, 5]}
    assert result["layer_units"] == expected[task]
    assert (result["rows"], result["held_out_rows"]) == (72, 8)


def test_other_first_weights_are_an_error(scripts, monkeypatch):
    problem = scripts.race_data.Problem
    monkeypatch.setattr(problem, "base_rate", property(lambda self: np.full(1, 0.1)))
    with pytest.raises(RuntimeError, match="skgnh did not start"):
        scripts.train_race.main(
            ["--quick", "--problems", "friedman1", "--threads", "1"]
        )


def test_a_missing_file_is_named(scripts, tmp_path):
    with pytest.raises(SystemExit, match=r"power_plant\.npz"):
        scripts.train_race.main(
            ["--problems", "power_plant", "--data-dir", str(tmp_path)]
        )
    with pytest.raises(SystemExit):
        scripts.train_race.main(["--problems", "no_such"])
