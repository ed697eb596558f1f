"""Tables of the benchmark of defaults: bundled, made, and from files."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

TEST_SHARE = 0.2
# A file's targets are classes if they are strings, or integers of fewer values.
MAX_CLASSES = 50
# MNIST has its own test rows; of the others the first of them are taken.
FIRST_ROWS = 10_000


@dataclass(frozen=True)
class Table:
    """Rows and targets, and how they are split into training and test rows."""

    name: str
    X: Any
    y: Any
    """Targets (n,), or classes as 0, 1, ..."""
    classes: int
    """How many classes; 0 for regression."""
    tests: tuple = ()
    """Indices of the test rows of each split, where the data say them."""

    def splits(self, count):
        """Yield training and test rows: the data's splits, or seeded random ones."""
        rows = np.arange(len(self.X))
        stratify = self.y if self.classes and np.bincount(self.y).min() > 1 else None
        for seed in range(min(count, len(self.tests) or count)):
            if self.tests:
                yield np.setdiff1d(rows, self.tests[seed]), self.tests[seed]
            else:
                yield train_test_split(
                    rows, test_size=TEST_SHARE, random_state=seed, stratify=stratify
                )


def make_table(name, X, y, tests=()):
    """A table whose targets say by themselves what they are."""
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y)
    if y.size != len(X):
        raise SystemExit(f"{name}: y must have one column.")
    y = y.ravel()
    values, codes = np.unique(y, return_inverse=True)
    integers = values.dtype.kind not in "fiu" or np.array_equal(values, values.round())
    if integers and len(values) < MAX_CLASSES:
        return Table(name, X, codes, len(values), tuple(tests))
    return Table(name, X, y.astype(np.float64), 0, tuple(tests))


# ---- bundled with scikit-learn -------------------------------------------------------

BUNDLED = {
    "diabetes": datasets.load_diabetes,
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}


def bundled(name):
    X, y = BUNDLED[name](return_X_y=True)
    # Diabetes has integers, but of many values.
    return make_table(name, X, y)


# ---- Friedman's functions ------------------------------------------------------------

FRIEDMAN = {
    "1": datasets.make_friedman1,
    "2": datasets.make_friedman2,
    "3": datasets.make_friedman3,
}
FRIEDMAN_NAME = re.compile(r"friedman([123])-(\d+)-([\d.]+)")
# Deviations of the noise: none, or about a third of the function's.
FRIEDMAN_TABLES = (
    "friedman1-300-1",
    "friedman1-1000-0",
    "friedman1-3000-1",
    "friedman2-500-0",
    "friedman2-1000-125",
    "friedman3-500-0",
    "friedman3-1000-0.1",
)


def friedman(name):
    which, rows, noise = FRIEDMAN_NAME.fullmatch(name).groups()
    X, y = FRIEDMAN[which](int(rows), noise=float(noise), random_state=0)
    return make_table(name, X, y)


# ---- made to be hard -----------------------------------------------------------------


def _noise(rng):
    return rng.normal(size=(400, 8)), rng.normal(size=400)


def _noise_classes(rng):
    return rng.normal(size=(400, 10)), rng.integers(0, 3, size=400)


def _wide(rng):
    X = rng.normal(size=(400, 100))
    signal = 2 * X[:, 0] + 1.5 * np.sin(2 * X[:, 1]) + X[:, 2] * X[:, 3]
    return X, signal + 0.5 * rng.normal(size=400)


def _linear(rng):
    X = rng.normal(size=(300, 20))
    return X, X @ rng.normal(size=20) + 2 * rng.normal(size=300)


def _heavy_tails(rng):
    X = rng.normal(size=(1200, 6))
    signal = np.sin(2 * X[:, 0]) + (X[:, 1] ** 2 + X[:, 2] * X[:, 3]) / 2
    return X, signal + 0.5 * rng.standard_t(2, size=1200)


def _uneven_noise(rng):
    X = rng.uniform(-2, 2, size=(1500, 3))
    deviation = 0.4 * np.exp(0.8 * X[:, 2])
    return X, X[:, 0] * np.exp(0.7 * X[:, 1]) + deviation * rng.normal(size=1500)


def _steps(rng):
    X = rng.uniform(size=(1500, 5))
    signal = 2.0 * (X[:, 0] > 0.5) + (X[:, 1] > X[:, 2])
    return X, signal + 0.1 * rng.normal(size=1500)


def _flipped(rng):
    return datasets.make_classification(
        1000, 20, n_informative=8, n_classes=3, flip_y=0.2, random_state=0
    )


def _rare(rng):
    return datasets.make_classification(
        2000, 12, n_informative=6, weights=[0.97], flip_y=0.005, random_state=0
    )


def _moons(rng):
    return datasets.make_moons(600, noise=0.25, random_state=0)


SYNTHETIC = {
    "noise": _noise,
    "noise_classes": _noise_classes,
    "wide": _wide,
    "linear": _linear,
    "heavy_tails": _heavy_tails,
    "uneven_noise": _uneven_noise,
    "steps": _steps,
    "flipped": _flipped,
    "rare": _rare,
    "moons": _moons,
}


def synthetic(name):
    return make_table(name, *SYNTHETIC[name](np.random.default_rng(0)))


# ---- files ---------------------------------------------------------------------------


def file(path):
    """Read arrays X, y and test_0, test_1, ..., or X_train, y_train, X_test, y_test."""
    with np.load(path, allow_pickle=False) as data:
        if "X" in data:
            tests = [data[f"test_{k}"] for k in range(len(data)) if f"test_{k}" in data]
            return make_table(path.stem, data["X"], data["y"], tests)
        X, y = data["X_train"][:FIRST_ROWS], data["y_train"][:FIRST_ROWS]
        X_test, y_test = data["X_test"], data["y_test"]
    test = np.arange(len(X), len(X) + len(X_test))
    return make_table(
        path.stem, np.concatenate([X, X_test]), np.concatenate([y, y_test]), [test]
    )


# ---- by name -------------------------------------------------------------------------


def names(wanted, data_dir=None):
    """Names of tables in place of those of groups, each once.

    Groups are bundled, friedman, synthetic, files (all of `data_dir`) and all.
    """
    groups = {
        "bundled": list(BUNDLED),
        "friedman": list(FRIEDMAN_TABLES),
        "synthetic": list(SYNTHETIC),
        "files": sorted(p.stem for p in Path(data_dir).glob("*.npz"))
        if data_dir
        else [],
    }
    groups["all"] = [name for group in groups.values() for name in group]
    found = [name for part in wanted for name in groups.get(part, [part])]
    return list(dict.fromkeys(found))


def load(name, data_dir=None):
    """The table of a name."""
    for known, read in ((BUNDLED, bundled), (SYNTHETIC, synthetic)):
        if name in known:
            return read(name)
    if FRIEDMAN_NAME.fullmatch(name):
        return friedman(name)
    path = Path(data_dir or ".", f"{name}.npz")
    if not path.exists():
        raise SystemExit(f"No table {name}: pass --data-dir with {name}.npz.")
    return file(path)
