"""The growth benchmark: that it measures what it says, on small sizes."""

import json

import numpy as np
import pytest
from scripts import imported

from skgnh import GaussNewtonMLPRegressor


@pytest.fixture(scope="module")
def growth():
    with imported("defaults", "growth") as made:
        yield made.growth


# ---- problems ------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 10, 1000])
@pytest.mark.parametrize("P", [20_000, 1_000_000])
def test_networks_have_the_parameters_that_are_asked_for(growth, P, d):
    width = growth.student(P, d)
    sizes = [
        (h * (growth.INPUTS + 1) + h * (h + 1) + d * (h + 1))
        for h in (width - 1, width, width + 1)
    ]
    assert np.argmin(np.abs(np.subtract(sizes, P))) == 1


@pytest.mark.parametrize("d", [1, 5])
def test_targets_are_the_teachers_with_noise(growth, d):
    problem = growth.problem_of(4000, 100, d, 0)
    assert problem.network.layer_units[0] == growth.INPUTS
    assert problem.targets.shape == (4000, d)
    np.testing.assert_allclose(problem.targets.var(axis=0), 1)
    # The teacher without noise is all but its share, by its own hidden units.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4000, growth.INPUTS))
    weights = rng.standard_normal((growth.INPUTS, growth.TEACHER))
    units = np.tanh(X @ weights / growth.INPUTS**0.5)
    units = np.column_stack((units, np.ones(4000)))
    fitted = units @ np.linalg.lstsq(units, problem.targets, rcond=None)[0]
    left = np.mean((problem.targets - fitted) ** 2, axis=0)
    np.testing.assert_allclose(left, growth.NOISE**2 / (1 + growth.NOISE**2), rtol=0.1)


# ---- seconds -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["skgnh", "adam", "lbfgs"])
def test_seconds_are_those_of_the_processor_to_the_target(growth, monkeypatch, method):
    args = growth.parse(["--quick", "--share", "0.3", "--seconds", "1e9"])
    problem = growth.problem_of(200, 100, 2, 0)
    traces, train = [], growth.train

    def kept(name, problem, trace, **settings):
        traces.append(train(name, problem, trace, **settings))
        return traces[-1]

    clock = iter(range(10**9))
    monkeypatch.setattr(growth, "process_time", lambda: float(next(clock)))
    monkeypatch.setattr(growth, "train", kept)
    spent, _ = growth.seconds(method, problem, args, 0)
    (trace,) = traces
    assert trace.status == "target"
    *above, last = trace.objective
    assert last <= 0.15 < min(above)
    assert trace.seconds[-2] < spent <= trace.seconds[-1]
    # Readings of that clock, which no wall has.
    assert all(value == int(value) for value in trace.seconds)


def test_a_target_out_of_reach_is_inf(growth):
    args = growth.parse(["--quick", "--share", "1e-9", "--seconds", "0.05"])
    problem = growth.problem_of(200, 100, 1, 0)
    assert growth.seconds("lbfgs", problem, args, 0)[0] == np.inf


def test_fits_are_of_the_estimator_as_a_user_has_it(growth, monkeypatch):
    seen, fit = [], GaussNewtonMLPRegressor.fit

    def spy(self, X, y):
        seen.append((self.get_params(), X.shape, y.shape))
        return fit(self, X, y)

    monkeypatch.setattr(GaussNewtonMLPRegressor, "fit", spy)
    args = growth.parse(["--quick", "--share", "0.5"])
    growth.seconds("skgnh", growth.problem_of(200, 100, 3, 7), args, 7)
    ((given, *shapes),) = seen
    assert shapes == [(200, growth.INPUTS), (200, 3)]
    own = GaussNewtonMLPRegressor().get_params()
    changed = {name for name in own if given[name] != own[name]}
    assert changed <= {
        "activation",
        "alpha",
        "hidden_layer_sizes",
        "max_iter",
        "n_iter_no_change",
        "random_state",
        "standardize",
        "tol",
    }
    assert (given["alpha"], given["standardize"]) == (growth.ALPHA, False)


# ---- a run ---------------------------------------------------------------------------


def test_slopes_leave_out_what_was_not_reached(growth):
    sizes, spent = [10, 100, 1000, 10_000], [2.0, 63.2, 2000.0, np.inf]
    rows = [
        {"axis": "n", "n": n, "method": "adam", "seconds": s}
        for n, s in zip(sizes, spent, strict=True)
    ]
    (fit,) = growth.slopes([*rows, {**rows[0], "axis": "P", "P": 3}])
    assert (fit["axis"], fit["method"]) == ("n", "adam")
    assert fit["slope"] == pytest.approx(1.5, abs=1e-3)


def test_a_method_ends_its_series_where_it_is_too_slow(growth, monkeypatch):
    spent = {("adam", 200): (np.inf, ""), ("skgnh", 200): (1.0, "")}

    def seconds(method, problem, args, seed):
        return spent.get((method, len(problem.X)), (2.0, ""))

    monkeypatch.setattr(growth, "seconds", seconds)
    args = growth.parse(["--quick", "--methods", "adam,skgnh"])
    rows = growth.measure(args, lambda rows: None)
    ran = [(r["method"], r["n"]) for r in rows if r["axis"] == "n"]
    assert ran == [("adam", 200), ("skgnh", 200), ("skgnh", 400)]


def test_a_run_writes_rows_slopes_and_a_picture(growth, tmp_path):
    pytest.importorskip("matplotlib")
    found, picture = tmp_path / "growth.json", tmp_path / "growth.png"
    options = ["--quick", "--methods", "skgnh", "--share", "0.5", "--most", "d=1"]
    rows = growth.main([*options, "--json", str(found), "--plot", str(picture)])
    record = json.loads(found.read_text())
    assert record["rows"] == rows
    assert [(r["axis"], r["n"], r["d"]) for r in rows] == [
        ("n", 200, 1),
        ("n", 400, 1),
        ("P", 200, 1),
        ("P", 200, 1),
        ("d", 200, 1),
    ]
    assert [fit["axis"] for fit in record["slopes"]] == ["n", "P"]
    assert record["settings"]["most"] == {"d": 1}
    assert picture.read_bytes()[:4] == b"\x89PNG"
