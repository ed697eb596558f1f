"""UCI regression: error, likelihood and coverage on the published test splits.

``python benchmarks/uci.py --data DATA --methods default,gp --splits 5 --json
uci.json``. See the README beside this file.
"""

import argparse
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from defaults import ONE_THREAD, parse_stored, stored, words, write
from scipy.stats import norm
from threadpoolctl import threadpool_limits
from uci_methods import METHODS, installed, make_model
from uci_report import COVERAGES, report

# ---- data ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Rows, targets, and the published test rows."""

    name: str
    X: Any
    y: Any
    tests: tuple
    """Indices of the test rows of each split; all other rows train."""

    def split(self, number):
        """Indices of training and of test rows."""
        test = self.tests[number]
        return np.setdiff1d(np.arange(len(self.X)), test), test


def load(path):
    """The data of a file, None where it has no test rows of its own."""
    with np.load(path) as arrays:
        if not {"X", "y", "test_0"} <= set(arrays):
            return None
        tests = []
        while (key := f"test_{len(tests)}") in arrays:
            tests.append(arrays[key])
        X, y = (arrays[key].astype(np.float64) for key in "Xy")
    return Data(Path(path).stem, X, y.reshape(len(X)), tuple(tests))


def load_all(paths):
    """The data of files, and of those files of folders that have test rows."""
    found = []
    for path in paths:
        files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        for file in files:
            data = load(file)
            if data is not None:
                found.append(data)
            elif file is path:
                raise SystemExit(f"{path} must have arrays X, y and test_0.")
    if not found:
        raise SystemExit("None of the files has arrays X, y and test_0.")
    return found


# ---- one fit -------------------------------------------------------------------------


def scores(y, mean, std):
    """How far Gaussian predictions are from targets."""
    error = np.abs(y - mean)
    found = {
        "rmse": np.sqrt(np.mean(error**2)),
        "log_likelihood": np.mean(norm.logpdf(y, mean, std)),
    }
    for percent in COVERAGES:
        inside = error <= std * norm.ppf(0.5 + percent / 200)
        found[f"coverage_{percent}"] = 100 * np.mean(inside)
    return {key: float(value) for key, value in found.items()}


def warm_up(name):
    """Fit a few rows, so that nothing is loaded while a fit is timed."""
    X = np.linspace(-1, 1, 20)[:, None]
    run(name, Data("a few rows", X, X[:, 0] ** 2, (np.arange(5),)), 0)


def run(name, data, split):
    """Fit one method on one split; None where it does not apply."""
    train, test = data.split(split)
    X, y = data.X[train], data.y[train]
    model = make_model(name, X.shape, split)
    if model is None:
        return None
    try:
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            start = perf_counter()
            model.fit(X, y)
            seconds = perf_counter() - start
            mean, std = model.predict(data.X[test], return_std=True)
    except Exception as failure:
        failure.add_note(f"{name} on {data.name}, split {split}")
        raise
    return {**scores(data.y[test], mean, std), "seconds": seconds}


def run_data(data, methods, count, record, save):
    """Fill in the runs that a record lacks, the methods taking turns."""
    for split in range(min(count or len(data.tests), len(data.tests))):
        turn = split % len(methods)
        for name in (*methods[turn:], *methods[:turn]):
            if str(split) in record["methods"].get(name, {}):
                continue
            result = run(name, data, split)
            if result is None:
                continue
            record["methods"].setdefault(name, {})[str(split)] = result
            print(
                f"{data.name}, split {split}, {name}: RMSE {result['rmse']:.4g}, "
                f"log-likelihood {result['log_likelihood']:.4g}, "
                f"{result['seconds']:.3g} s",
                flush=True,
            )
        save()


# ---- the command line ----------------------------------------------------------------


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, help="files or folders of .npz")
    add("--methods", type=words, default=list(METHODS), help=",".join(METHODS))
    add("--splits", type=int, help="of each file, at most (all that it has)")
    args = parse_stored(parser, argv)
    if unknown := set(args.methods) - set(METHODS):
        parser.error(f"unknown methods: {', '.join(sorted(unknown))}")
    return args


def describe(data):
    """The record of a file without any runs."""
    train, test = data.split(0)
    return {
        "name": data.name,
        "rows": len(train),
        "test_rows": len(test),
        "features": data.X.shape[1],
        "methods": {},
    }


def main(argv=None):
    args = parse(argv)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    methods = [name for name in args.methods if installed(name)]
    for name in args.methods:
        if name not in methods:
            print(f"{name} is not installed: left out")
    records = stored(args)

    def save():
        if args.json:
            write(args.json, records)

    found = load_all(args.data)
    for name in methods:
        warm_up(name)
    for data in found:
        record = records.setdefault(data.name, describe(data))
        run_data(data, methods, args.splits, record, save)
    tables = list(records.values())
    print(report(tables))
    return tables


if __name__ == "__main__":
    main()
