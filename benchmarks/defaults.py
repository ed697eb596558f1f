"""Defaults against defaults: test error and seconds beside other estimators.

``python benchmarks/defaults.py --tables bundled,friedman --peers mlp,boosting,gp
--json defaults.json --plot defaults.svg``. See the README beside this file.
"""

import argparse
import json
import os
import platform
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import scipy
import sklearn
from defaults_data import load, names
from defaults_methods import CONSTANT, OURS, PEERS, RAW, installed, make_model
from defaults_report import plot, report
from sklearn.metrics import log_loss, mean_squared_error
from threadpoolctl import threadpool_limits

import skgnh

DEFAULT_PEERS = [name for name in PEERS if name != RAW]
# For libraries that are loaded later; threadpoolctl limits those that are there.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


# ---- one fit -------------------------------------------------------------------------


def run(name, table, split, rows):
    """Fit one method on one split; None where it does not apply."""
    train, test = rows
    X, y = table.X[train], table.y[train]
    model = make_model(name, table.classes, X.shape, split)
    if model is None:
        return None
    try:
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            start = perf_counter()
            model.fit(X, y)
            seconds = perf_counter() - start
            error = test_error(model, table, test)
    except Exception as failure:
        failure.add_note(f"{name} on {table.name}, split {split}")
        raise
    return {"error": error, "seconds": seconds}


def test_error(model, table, test):
    """Mean squared error, or log-loss, over the test rows."""
    X, y = table.X[test], table.y[test]
    if not table.classes:
        return float(mean_squared_error(y, model.predict(X)))
    # Training rows may lack a class; single precision may not sum to one.
    shares = np.zeros((len(X), table.classes))
    shares[:, model.classes_] = model.predict_proba(X)
    shares /= shares.sum(axis=1, keepdims=True)
    return float(log_loss(y, shares, labels=np.arange(table.classes)))


def run_table(table, methods, count, record, save):
    """Fill in the runs that a table's record lacks, the methods taking turns."""
    for split, rows in enumerate(table.splits(count)):
        turn = split % len(methods)
        for name in (CONSTANT, *methods[turn:], *methods[:turn]):
            runs = record["methods"].setdefault(name, {})
            if str(split) in runs:
                continue
            result = run(name, table, split, rows)
            if result is None:
                record["methods"].pop(name)
                continue
            runs[str(split)] = result
            print(
                f"{table.name}, split {split}, {name}: "
                "error {error:.4g}, {seconds:.3g} s".format(**result),
                flush=True,
            )
        save()


# ---- the command line ----------------------------------------------------------------


def environment():
    return {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "skgnh": skgnh.__version__,
        "scikit-learn": sklearn.__version__,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
    }


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--tables", type=words, default=["all"], help="names and groups of tables")
    add("--peers", type=words, default=DEFAULT_PEERS, help=f"of {','.join(PEERS)}")
    add("--splits", type=int, default=5, help="of each table, at most (5)")
    add("--data-dir", type=Path, help="folder of NAME.npz")
    add("--plot", type=Path, help="write an SVG here")
    args = parse_stored(parser, argv)
    if unknown := set(args.peers) - set(PEERS):
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}")
    return args


def parse_stored(parser, argv):
    """Parse arguments, and those that say where runs are kept."""
    add = parser.add_argument
    add("--json", type=Path, help="write all runs here, after every split")
    add("--resume", action="store_true", help="keep the runs that --json has")
    add("--redo", type=words, default=[], help="with --resume: run these anew")
    args = parser.parse_args(argv)
    if args.resume and not args.json:
        parser.error("--resume needs --json")
    return args


def describe(table):
    """The record of a table without any runs."""
    train, test = next(table.splits(1))
    return {
        "name": table.name,
        "rows": len(train),
        "test_rows": len(test),
        "features": table.X.shape[1],
        "classes": table.classes,
        "methods": {},
    }


def words(text):
    return [word for word in text.split(",") if word]


def stored(args):
    """Records of tables by name, of an earlier run where it is to go on."""
    if not (args.resume and args.json.exists()):
        return {}
    records = {t["name"]: t for t in json.loads(args.json.read_text())["tables"]}
    for record in records.values():
        for name in args.redo:
            record["methods"].pop(name, None)
    return records


def write(path, records):
    """Replace the file at once, so that a run that is cut off leaves it whole."""
    beside = path.with_suffix(".part")
    result = {"environment": environment(), "tables": list(records.values())}
    beside.write_text(json.dumps(result, indent=1) + "\n")
    beside.replace(path)


def main(argv=None):
    args = parse(argv)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    methods = [OURS, *filter(installed, args.peers)]
    for name in set(args.peers) - set(methods):
        print(f"{name} is not installed: left out")
    records = stored(args)

    def save():
        if args.json:
            write(args.json, records)

    for name in names(args.tables, args.data_dir):
        table = load(name, args.data_dir)
        record = records.setdefault(name, describe(table))
        run_table(table, methods, args.splits, record, save)
    tables = [record for record in records.values() if record["methods"]]
    print(report(tables))
    if args.plot:
        plot(tables, args.plot)
    return tables


if __name__ == "__main__":
    main()
