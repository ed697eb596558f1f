"""Probabilities with and without the average over the posterior.

``python benchmarks/calibration.py --tables bundled,synthetic``: log-loss and expected
calibration error on unseen rows. See the README beside this file.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from defaults_data import load, names
from hmatrix_report import table
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from skgnh import GaussNewtonMLPClassifier

BINS = 10


def calibration_error(y, shares):
    """Mean gap of the largest probability and how often it is right, in ten bins.

    Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    sure, right = shares.max(axis=1), shares.argmax(axis=1) == y
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, right - sure, BINS)
    return float(np.abs(gaps).sum() / len(y))


def measure(data, split, rows):
    """Return log-loss and error of both kinds of probabilities."""
    train, test = rows
    model = GaussNewtonMLPClassifier(random_state=split)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")
        model.fit(data.X[train], data.y[train])
    found = []
    for average in (False, True):
        shares = np.zeros((len(test), data.classes))
        model.set_params(average=average)
        shares[:, model.classes_] = model.predict_proba(data.X[test])
        y = data.y[test]
        loss = log_loss(y, shares, labels=np.arange(data.classes))
        found += [loss, calibration_error(y, shares)]
    return found


def summary(data, count):
    """Return a row of the table: means over the splits."""
    splits = enumerate(data.splits(count))
    plain, gap, average, other = np.mean(
        [measure(data, split, rows) for split, rows in splits], axis=0
    )
    return {
        "table": data.name,
        "classes": data.classes,
        "log-loss": plain,
        "averaged": average,
        "ratio": average / plain,
        "calibration error": gap,
        "averaged ": other,
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", default="bundled,synthetic")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    options = parser.parse_args(arguments)
    found = []
    for name in names(options.tables.split(","), options.data_dir):
        data = load(name, options.data_dir)
        if data.classes:
            found.append(summary(data, options.splits))
            print(f"{name}: log-loss times {found[-1]['ratio']:.3f}", flush=True)
    print(table(found))
    for few, label in ((True, "two classes"), (False, "more classes")):
        ratios = [row["ratio"] for row in found if (row["classes"] == 2) == few]
        if ratios:
            mean = np.exp(np.log(ratios).mean())
            print(f"{label}: log-loss times {mean:.3f} in the geometric mean")


if __name__ == "__main__":
    main()
