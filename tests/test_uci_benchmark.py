"""The UCI benchmark: that it measures what it says, on few rows."""

import json
import sys
import warnings

import numpy as np
import pytest
from scripts import imported
from sklearn.linear_model import BayesianRidge
from threadpoolctl import threadpool_info, threadpool_limits

from skgnh import GaussNewtonMLPRegressor

# Of a benchmark, and not of the package.
pytestmark = pytest.mark.slow

# Half widths of central intervals of the normal distribution, from tables.
HALF_WIDTHS = {50: 0.674490, 90: 1.644854, 95: 1.959964}


@pytest.fixture(scope="module")
def scripts():
    names = ("defaults", "uci", "uci_methods", "uci_report")
    with imported(*names) as made:
        yield made


@pytest.fixture
def waves(tmp_path):
    """A file of two splits; units are far from 1."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2)) * [1, 1000]
    y = 300 + 100 * np.sin(X[:, 0]) + 10 * rng.normal(size=60)
    path = tmp_path / "waves.npz"
    np.savez(path, X=X, y=y[:, None], test_0=range(9), test_1=range(50, 60))
    return path


def expected(y, mean, std):
    """What is measured, from the definitions."""
    likelihoods = np.exp(-((y - mean) ** 2) / (2 * std**2)) / (std * np.sqrt(2 * np.pi))
    found = {
        "rmse": np.sqrt(np.mean((y - mean) ** 2)),
        "log_likelihood": np.mean(np.log(likelihoods)),
    }
    for percent, half in HALF_WIDTHS.items():
        below, above = y < mean - half * std, y > mean + half * std
        found[f"coverage_{percent}"] = 100 * (1 - np.mean(below | above))
    return found


# ---- one fit -------------------------------------------------------------------------


def test_runs_are_of_raw_columns_and_units(scripts, waves, capsys):
    options = ["--data", str(waves), "--methods", "default,bayesian_ridge"]
    (record,) = scripts.uci.main(options)
    with np.load(waves) as arrays:
        X, y = arrays["X"], arrays["y"].ravel()
    for split, test in enumerate([np.arange(9), np.arange(50, 60)]):
        train = np.setdiff1d(np.arange(60), test)
        model = GaussNewtonMLPRegressor(random_state=split).fit(X[train], y[train])
        ours = expected(y[test], *model.predict(X[test], return_std=True))
        center, scale = y[train].mean(), y[train].std()
        columns = (X - X[train].mean(axis=0)) / X[train].std(axis=0)
        ridge = BayesianRidge().fit(columns[train], (y[train] - center) / scale)
        mean, std = ridge.predict(columns[test], return_std=True)
        theirs = expected(y[test], center + scale * mean, scale * std)
        for name, direct in (("default", ours), ("bayesian_ridge", theirs)):
            run = dict(record["methods"][name][str(split)])
            assert run.pop("seconds") > 0
            assert run == pytest.approx(direct, rel=1e-6)

    runs = record["methods"]["default"].values()
    errors = [run["rmse"] for run in runs]
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if line.startswith("| waves | def"))
    cells = [cell.strip() for cell in line.strip("| ").split("|")]
    assert cells[:3] == ["waves", "default", "2"]
    # The deviation of two values over the root of two is half their distance.
    assert cells[3] == f"{np.mean(errors):.4g} ± {abs(errors[0] - errors[1]) / 2:.2g}"
    assert "| waves | bayesian_ridge | 2 " in text
    assert "published" not in text


@pytest.mark.parametrize("percent", HALF_WIDTHS)
def test_intervals_are_central_and_of_their_width(scripts, percent):
    edges = 3 + 2 * HALF_WIDTHS[percent] * np.array(
        [-1.00001, -0.99999, 0.99999, 1.00001]
    )
    found = scripts.uci.scores(edges, np.full(4, 3.0), np.full(4, 2.0))
    assert found[f"coverage_{percent}"] == 50


def test_seconds_are_those_of_the_fit_on_one_thread(scripts, waves, monkeypatch):
    clock = [0.0]

    class Slow:
        def fit(self, X, y):
            assert all(pool["num_threads"] == 1 for pool in threadpool_info())
            clock[0] += 5
            return self

        def predict(self, X, return_std):
            clock[0] += 70
            return np.zeros(len(X)), np.ones(len(X))

    monkeypatch.setattr(scripts.uci, "perf_counter", lambda: clock[0])
    monkeypatch.setitem(scripts.uci_methods.METHODS, "gp", lambda *_: Slow())
    with threadpool_limits(2):
        found = scripts.uci.run("gp", scripts.uci.load(waves), 0)
    assert found["seconds"] == 5


def test_a_failure_names_its_data(scripts, waves, monkeypatch):
    monkeypatch.setitem(
        scripts.uci_methods.METHODS, "gp", lambda *_: BayesianRidge(tol="no")
    )
    with pytest.raises(ValueError, match="tol") as failure:
        scripts.uci.run("gp", scripts.uci.load(waves), 1)
    assert failure.value.__notes__ == ["gp on waves, split 1"]


def test_methods_depend_on_the_rows(scripts):
    make = scripts.uci_methods.make_model
    assert make("gp", (2000, 3), 0) is not None
    assert make("gp", (2001, 3), 0) is None
    for name in ("50", "50_heteroscedastic"):
        assert make(name, (40_000, 3), 7).hidden_layer_sizes == (50,)
        assert make(name, (40_001, 3), 7).hidden_layer_sizes == (100,)
        assert make(name, (9, 3), 7).random_state == 7
    assert make("50_heteroscedastic", (9, 3), 0).noise == "heteroscedastic"
    assert make("heteroscedastic", (9, 3), 0).noise == "heteroscedastic"


@pytest.mark.parametrize("most", [1500, 0])
def test_laplace_torch_where_it_is_installed(scripts, waves, monkeypatch, most):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not scripts.uci_methods.installed("laplace_torch"):
            pytest.skip("laplace-torch is not installed")
    monkeypatch.setattr(scripts.uci_methods, "FULL_PARAMETERS", most)
    data = scripts.uci.load(waves)
    found = scripts.uci.run("laplace_torch", data, 1)
    ridge = scripts.uci.run("bayesian_ridge", data, 1)
    assert 5 < found["rmse"] < ridge["rmse"]
    assert found["log_likelihood"] > ridge["log_likelihood"]


def test_laplace_torch_is_left_out_where_it_is_not(scripts, waves, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "laplace", None)
    options = ["--data", str(waves), "--methods", "laplace_torch,bayesian_ridge"]
    (record,) = scripts.uci.main(options)
    assert set(record["methods"]) == {"bayesian_ridge"}
    assert "laplace_torch is not installed" in capsys.readouterr().out


# ---- data ----------------------------------------------------------------------------


def test_folders_are_searched_for_files_with_test_rows(scripts, waves):
    np.savez(waves.with_name("digits.npz"), X_train=np.ones(3))
    (data,) = scripts.uci.load_all([waves.parent])
    assert data.name == "waves"
    train, test = data.split(1)
    assert np.array_equal(test, np.arange(50, 60))
    assert np.array_equal(train, np.arange(50))
    with pytest.raises(SystemExit, match="test_0"):
        scripts.uci.load_all([waves, waves.with_name("digits.npz")])


# ---- a run ---------------------------------------------------------------------------


def test_a_run_resumes_and_methods_take_turns(scripts, waves, capsys):
    path = waves.with_suffix(".json")
    common = ["--data", str(waves), "--json", str(path)]

    def main(*options):
        scripts.uci.main([*common, *options])
        (record,) = json.loads(path.read_text())["tables"]
        return record["methods"]

    first = main("--methods", "bayesian_ridge", "--splits", "1")
    assert set(first["bayesian_ridge"]) == {"0"}
    capsys.readouterr()
    second = main("--methods", "bayesian_ridge,gp,default", "--resume")
    assert second["bayesian_ridge"]["0"] == first["bayesian_ridge"]["0"]
    lines = capsys.readouterr().out.splitlines()
    order = [line.split(":")[0] for line in lines if line.startswith("waves, split")]
    assert order == [
        "waves, split 0, gp",
        "waves, split 0, default",
        "waves, split 1, gp",
        "waves, split 1, default",
        "waves, split 1, bayesian_ridge",
    ]


def test_published_figures_stand_beside_the_same_data(scripts):
    keys = [key for _, key, *_ in scripts.uci_report.COLUMNS]
    run = dict.fromkeys(keys, 1.0)
    records = [
        {"name": name, "methods": {"gp": {"0": run}}} for name in ("yacht", "boat")
    ]
    text = scripts.uci_report.report(records)
    lines = [line.split("|") for line in text.splitlines() if "MC dropout" in line]
    row, *rest = ([cell.strip() for cell in line] for line in lines)
    assert row[1:6] == ["yacht", "MC dropout, published", "-", "0.666", "-1.25"]
    assert len(rest) == 1  # the source
    assert "Mukhoti et al. 2018" in text
    assert "| boat  | gp                    | 1      | 1     | 1.000 " in text
