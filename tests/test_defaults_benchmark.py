"""The benchmark of defaults: that it measures what it says, on few rows."""

import json
import sys
from time import sleep
from types import SimpleNamespace

import numpy as np
import pytest
from scripts import imported
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB
from threadpoolctl import threadpool_info, threadpool_limits

# Of a benchmark, and not of the package.
pytestmark = pytest.mark.slow

SMALL_GRID = {"alpha": [1e-5, 10.0], "hidden_layer_sizes": [(3,)]}


@pytest.fixture(scope="module")
def scripts():
    names = ("defaults", "defaults_data", "defaults_methods", "defaults_report")
    with imported(*names) as made:
        yield made


@pytest.fixture
def folder(tmp_path):
    """A table for regression and one of two classes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    y = 3 + 100 * np.sin(X[:, 0])
    np.savez(tmp_path / "waves.npz", X=X, y=y, test_0=range(9), test_1=range(9, 20))
    np.savez(tmp_path / "halves.npz", X=X, y=np.where(y > 3, "up", "down"))
    return tmp_path


def replace(patch, scripts, name, make):
    """Put an estimator in place of a method's."""
    patch.setitem(scripts.defaults_methods.METHODS, name, lambda *_: make())


# ---- tables --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["b", "a", "b"] * 20, 2),
        ([True, False] * 30, 2),
        (np.arange(60.0) % 3 + 5, 3),
        (np.arange(60.0) % 3 + 0.5, 0),
        (np.arange(60), 0),
    ],
)
def test_targets_say_whether_they_are_classes(scripts, y, classes):
    table = scripts.defaults_data.make_table("any", np.ones((60, 1)), y)
    assert table.classes == classes
    if classes:
        assert np.array_equal(np.unique(table.y), np.arange(classes))
        assert np.array_equal(np.unique(y)[table.y], y)
    else:
        assert np.array_equal(table.y, y)


def test_a_table_of_two_targets_is_refused(scripts):
    with pytest.raises(SystemExit, match="one column"):
        scripts.defaults_data.make_table("any", np.ones((9, 1)), np.ones((9, 2)))


def test_splits_of_the_data_come_before_random_ones(scripts, folder):
    waves = scripts.defaults_data.load("waves", folder)
    (train, test), (_, second) = waves.splits(5)
    assert np.array_equal(test, np.arange(9))
    assert np.array_equal(train, np.arange(9, 60))
    assert np.array_equal(second, np.arange(9, 20))
    halves = scripts.defaults_data.load("halves", folder)
    splits = list(halves.splits(3))
    assert len({tuple(test) for _, test in splits}) == 3
    for train, test in splits:
        assert np.array_equal(np.sort([*train, *test]), np.arange(60))
        assert len(test) == 12
        assert abs(np.mean(halves.y[test]) - np.mean(halves.y)) < 0.05


def test_training_rows_of_a_file_with_test_rows_are_the_first(scripts, tmp_path):
    X, X_test = np.arange(10_004.0)[:, None], np.arange(3.0)[:, None]
    y, y_test = X[:, 0] % 7, X_test[:, 0] % 7
    path = tmp_path / "parts.npz"
    np.savez(path, X_train=X, y_train=y, X_test=X_test, y_test=y_test)
    table = scripts.defaults_data.load("parts", tmp_path)
    ((train, test),) = table.splits(5)
    assert np.array_equal(table.X[train], X[:10_000])
    assert np.array_equal(table.y[test], y_test)


def test_every_named_table_loads(scripts):
    for name in scripts.defaults_data.names(["all"]):
        table = scripts.defaults_data.load(name)
        assert len(table.X) == len(table.y) >= 100
        assert table.name == name
    assert np.std(table.y) > 0


def test_groups_hold_names_once(scripts, folder):
    names = scripts.defaults_data.names(["iris", "files", "bundled", "iris"], folder)
    assert names[:3] == ["iris", "halves", "waves"]
    assert len(names) == len(set(names)) == 7
    with pytest.raises(SystemExit, match="--data-dir"):
        scripts.defaults_data.load("nowhere")


# ---- one fit -------------------------------------------------------------------------


def test_targets_are_scaled_back_and_seconds_are_those_of_the_fit(
    scripts, folder, monkeypatch
):
    class Slow(LinearRegression):
        def fit(self, X, y):
            assert all(pool["num_threads"] == 1 for pool in threadpool_info())
            assert np.allclose([X.mean(), X.std(), y.mean(), y.std()], [0, 1, 0, 1])
            sleep(0.05)
            return super().fit(X, y)

        def predict(self, X):
            sleep(0.3)
            return super().predict(X)

    replace(monkeypatch, scripts, "mlp", Slow)
    table = scripts.defaults_data.load("waves", folder)
    train, test = next(table.splits(1))
    with threadpool_limits(2):
        found = scripts.defaults.run("mlp", table, 0, (train, test))
    assert 0.05 <= found["seconds"] < 0.3
    A = np.c_[table.X, np.ones(60)]
    coef = np.linalg.lstsq(A[train], table.y[train])[0]
    error = np.mean((A[test] @ coef - table.y[test]) ** 2)
    assert found["error"] == pytest.approx(error)


def test_log_loss_is_over_all_classes(scripts, monkeypatch):
    """Training rows lack class 1 here, which the test rows have."""
    replace(monkeypatch, scripts, "mlp", GaussianNB)
    X, y = np.arange(9.0)[:, None], np.array([0, 0, 0, 2, 2, 2, 0, 2, 1])
    table = scripts.defaults_data.Table("gap", X, y, 3)
    found = scripts.defaults.run("mlp", table, 0, (np.arange(6), np.arange(6, 8)))
    model = GaussianNB().fit(X[:6], y[:6])
    proba = model.predict_proba(X[6:8])
    assert found["error"] == pytest.approx(-np.mean(np.log([proba[0, 0], proba[1, 1]])))
    assert scripts.defaults.run("mlp", table, 0, (np.arange(6), [8]))["error"] > 30


def test_a_failure_names_its_table(scripts, folder, monkeypatch):
    replace(monkeypatch, scripts, "mlp", lambda: LinearRegression(positive="no"))
    table = scripts.defaults_data.load("waves", folder)
    with pytest.raises(ValueError, match="positive") as failure:
        scripts.defaults.run("mlp", table, 4, next(table.splits(1)))
    assert failure.value.__notes__ == ["mlp on waves, split 4"]


def test_gaussian_processes_are_for_few_rows_of_regression(scripts):
    make = scripts.defaults_methods.make_model
    assert make("gp", 0, (1500, 3), 0) is not None
    assert make("gp", 0, (1501, 3), 0) is None
    assert make("gp", 2, (100, 3), 0) is None


def test_folds_of_the_search_do_not_follow_the_order_of_rows(scripts):
    for classes in (0, 2):
        search = scripts.defaults_methods.make_model("tuned", classes, (100, 1), 0)
        search = search if classes else search.regressor
        _, held_out = next(search[-1].cv.split(np.ones(100), np.arange(100) // 50))
        assert len(held_out) == 20
        assert np.ptp(held_out[:10]) > 10


def test_realmlp_runs_on_one_thread_where_it_is_installed(scripts, monkeypatch):
    seen = []
    stand_ins = {
        "RealMLP_TD_S_Regressor": lambda **k: seen.append(k) or LinearRegression(),
        "RealMLP_TD_S_Classifier": lambda **k: seen.append(k) or GaussianNB(),
    }
    monkeypatch.setitem(sys.modules, "pytabkit", SimpleNamespace(**stand_ins))
    make = scripts.defaults_methods.make_model
    models = [make("realmlp", classes, (9, 2), 7) for classes in (0, 2)]
    assert [hasattr(model, "predict_proba") for model in models] == [False, True]
    for given in seen:
        assert (given["random_state"], given["n_threads"]) == (7, 1)


def test_realmlp_is_left_out_where_it_is_not(scripts, folder, monkeypatch, capsys):
    monkeypatch.setattr(scripts.defaults_methods, "find_spec", lambda name: None)
    options = ["--data-dir", str(folder), "--tables", "halves", "--splits", "1"]
    (table,) = scripts.defaults.main([*options, "--peers", "realmlp"])
    assert set(table["methods"]) == {"constant", "skgnh"}
    assert "realmlp is not installed" in capsys.readouterr().out


# ---- a run ---------------------------------------------------------------------------


def test_a_run_resumes(scripts, folder, monkeypatch, capsys):
    monkeypatch.setattr(scripts.defaults_methods, "GRID", SMALL_GRID)
    monkeypatch.setattr(scripts.defaults_methods, "TUNED_EPOCHS", 20)
    path, picture = folder / "runs.json", folder / "runs.svg"
    common = ["--data-dir", str(folder), "--json", str(path), "--splits", "1"]

    def main(*options):
        scripts.defaults.main([*common, *options])
        return {t["name"]: t for t in json.loads(path.read_text())["tables"]}

    first = main("--tables", "waves", "--peers", "tuned,boosting,gp")
    methods = first["waves"]["methods"]
    assert set(methods) == {"constant", "skgnh", "tuned", "boosting", "gp"}
    assert all(run["seconds"] > 0 for runs in methods.values() for run in runs.values())
    assert methods["skgnh"]["0"]["error"] < methods["constant"]["0"]["error"]
    text = capsys.readouterr().out
    assert "| MLP, tuned | 1 |" in text
    assert "Worse than the best constant: none." in text

    more = ["--resume", "--redo", "boosting", "--plot", str(picture)]
    second = main("--tables", "files", "--peers", "mlp,boosting,gp", *more)
    assert set(second["halves"]["methods"]) == {"constant", "skgnh", "mlp", "boosting"}
    again = second["waves"]["methods"]
    for name in ("constant", "skgnh", "tuned", "gp"):
        assert again[name] == methods[name]
    assert again["boosting"]["0"]["error"] == methods["boosting"]["0"]["error"]
    assert again["boosting"] != methods["boosting"]
    assert "mlp" in again
    assert picture.read_text().count("<!-- waves -->") == 4


def test_ratios_are_on_splits_that_both_have(scripts):
    def runs(*pairs):
        return {
            str(k): {"error": e, "seconds": s} for k, (e, s) in enumerate(pairs) if s
        }

    tables = [
        {
            "name": "one",
            "methods": {
                "constant": runs((9, 1), (9, 1)),
                "skgnh": runs((1, 2), (3, 4)),
                "mlp": runs((4, 6), (4, 12)),
                "gp": runs((0, 0), (6, 1)),
            },
        },
        {
            "name": "two",
            "methods": {
                "constant": runs((7, 1)),
                "skgnh": runs((8, 1)),
                "mlp": runs((1, 3)),
            },
        },
    ]
    ratios = scripts.defaults_report.ratios
    assert ratios(tables[0]) == {
        "mlp": {"error": 0.5, "seconds": 3.0},
        "gp": {"error": 0.5, "seconds": 0.25},
    }
    mlp = scripts.defaults_report.summary(tables)["mlp"]
    assert mlp["error"] == pytest.approx(2.0)
    assert (mlp["worst error"], mlp["worst error on"]) == (8.0, "two")
    assert mlp["seconds"] == pytest.approx(3.0)
    (worse,) = scripts.defaults_report.worse_than_constant(tables)
    assert worse == "two (skgnh, split 0): 1.14"
