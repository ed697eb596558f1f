"""Problems of the training race: rows, targets, network, and the one objective."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import fetch_openml, load_digits, make_friedman1
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.objective import Objective

# Ids of https://www.openml.org; it has no copy of UCI's power plant.
OPENML = {"kin8nm": 44980, "protein": 44963, "mnist": 554}
UNITS = {
    "friedman1": ("reg", (50, 50), "tanh"),
    "kin8nm": ("reg", (50, 50), "tanh"),
    "power_plant": ("reg", (50, 50), "tanh"),
    "protein": ("reg", (50, 50), "tanh"),
    "digits": ("clf", (64, 32), "relu"),
    "mnist": ("clf", (100,), "relu"),
    "digits_ae": ("ae", (32, 8, 32), "tanh"),
    "mnist_ae": ("ae", (128, 16, 128), "tanh"),
}
LARGE = {"mnist", "mnist_ae"}
HELD_OUT = 0.1
FRIEDMAN_ROWS = 10_000
MNIST_AE_ROWS = 10_000


@dataclass(frozen=True)
class Problem:
    """Training and held-out rows, ready to fit, and the network that fits them."""

    name: str
    task: str
    """'reg', 'clf' or 'ae'."""
    X: Any
    y: Any
    """Targets; labels for 'clf', X itself for 'ae'."""
    X_test: Any
    y_test: Any
    hidden: tuple[int, ...]
    activation: str

    @cached_property
    def classes(self):
        return np.unique(self.y)

    def encode(self, y):
        """Targets as (n, d) doubles: one column for two classes."""
        if self.task != "clf":
            return np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        columns = self.classes[1:] if len(self.classes) == 2 else self.classes
        return (np.asarray(y)[:, None] == columns).astype(np.float64)

    @cached_property
    def targets(self):
        return self.encode(self.y)

    @cached_property
    def network(self):
        units = (self.X.shape[1], *self.hidden, self.targets.shape[1])
        return MLP(units, (self.activation,) * len(self.hidden))

    @property
    def output_activation(self):
        if self.task != "clf":
            return "identity"
        return "logistic" if len(self.classes) == 2 else "softmax"

    @property
    def gradient_factor(self):
        """How many times too large scikit-learn's gradient is for its own loss.

        With d outputs its squared error is the mean over them, the gradient that of
        the sum.
        """
        return self.network.n_outputs if self.task != "clf" else 1

    @cached_property
    def base_rate(self):
        """Output intercepts of the best constant prediction."""
        mean = self.targets.mean(axis=0)
        if self.task != "clf":
            return mean
        if self.output_activation == "softmax":
            return np.log(mean)
        return np.log(mean / (1 - mean))

    def objective(self, alpha):
        """The objective that all solvers are judged by, in double precision."""
        n = len(self.X)
        return Objective(
            self.network,
            LOSSES[self.output_activation],
            append_one(self.X.astype(np.float64)),
            self.targets,
            np.full(n, 1 / n),
            self.network.weight_mask() * (alpha / n),
        )

    def score(self, theta):
        """Held-out R^2, accuracy, or minus the mean squared error."""
        inputs = append_one(self.X_test.astype(np.float64))
        z = self.network.outputs(np.asarray(theta, np.float64), inputs)
        true = self.encode(self.y_test)
        if self.task == "reg":
            return float(r2_score(true, z))
        if self.task == "ae":
            return -float(np.mean((true - z) ** 2))
        if z.shape[1] == 1:
            return float(accuracy_score(true[:, 0], z[:, 0] > 0))
        return float(accuracy_score(true.argmax(axis=1), z.argmax(axis=1)))

    def describe(self):
        units = "-".join(map(str, self.network.layer_units))
        return (
            f"{self.task}, {len(self.X)} rows, {units} {self.activation}, "
            f"{self.network.n_parameters} parameters, {self.X.dtype}"
        )

    def as_dict(self):
        return {
            "name": self.name,
            "task": self.task,
            "rows": len(self.X),
            "held_out_rows": len(self.X_test),
            "layer_units": list(self.network.layer_units),
            "activation": self.activation,
            "parameters": self.network.n_parameters,
            "dtype": str(self.X.dtype),
        }


def named_problem(name, data_dir=None, dtype=None, rows=None):
    """One of UNITS: made, bundled, read from `data_dir`, or fetched."""
    task, hidden, activation = UNITS[name]
    if name == "friedman1":
        n_test = FRIEDMAN_ROWS // 5
        X, y = make_friedman1(FRIEDMAN_ROWS + n_test, noise=0.0, random_state=0)
        parts = train_test_split(X, y, test_size=n_test, random_state=0)
    elif name.startswith("digits"):
        X, y = load_digits(return_X_y=True)
        parts = split(X / 16, y)
    else:
        parts = arrays(name.removesuffix("_ae"), data_dir)
    if name == "mnist_ae":
        rows = min(rows or MNIST_AE_ROWS, MNIST_AE_ROWS)
    dtype = dtype or ("float32" if name in LARGE else "float64")
    return make_problem(name, task, parts, hidden, activation, dtype, rows)


def file_problem(path, task, hidden, activation=None, dtype=None, rows=None):
    """A file of arrays X and y (y not for 'ae', whose hidden layers are mirrored)."""
    with np.load(path, allow_pickle=False) as data:
        X = data["X"].astype(np.float64)
        y = data["y"] if "y" in data else np.zeros(len(X))
    X, X_test, y, y_test = split(X, y)
    scaler = StandardScaler().fit(X)
    parts = scaler.transform(X), scaler.transform(X_test), y, y_test
    if task == "ae":
        hidden = (*hidden, *hidden[-2::-1])
    activation = activation or ("relu" if task == "clf" else "tanh")
    dtype = dtype or "float64"
    return make_problem(Path(path).stem, task, parts, hidden, activation, dtype, rows)


def make_problem(name, task, parts, hidden, activation, dtype, rows=None):
    """Take the first rows and scale regression data by the mean and deviation."""
    X, X_test, y, y_test = parts
    X, y = X[:rows], y[:rows]
    if task == "reg":
        scaler = StandardScaler().fit(X)
        X, X_test = scaler.transform(X), scaler.transform(X_test)
        scaler = StandardScaler().fit(y.reshape(len(y), -1))
        y, y_test = (
            scaler.transform(part.reshape(len(part), -1)).astype(dtype)
            for part in (y, y_test)
        )
        if y.shape[1] == 1:
            y, y_test = y[:, 0], y_test[:, 0]
    X, X_test = X.astype(dtype), X_test.astype(dtype)
    if task == "ae":
        y, y_test = X, X_test
    return Problem(name, task, X, y, X_test, y_test, tuple(hidden), activation)


def arrays(name, data_dir):
    """Training and held-out arrays from ``name.npz``, or from OpenML."""
    path = Path(data_dir or "", f"{name}.npz")
    if data_dir and path.exists():
        with np.load(path, allow_pickle=False) as data:
            if "X_train" in data:
                parts = (data[k] for k in ("X_train", "X_test", "y_train", "y_test"))
                X, X_test, y, y_test = parts
                return X / 255.0, X_test / 255.0, y, y_test
            return split(data["X"], data["y"])
    if name not in OPENML:
        raise SystemExit(
            f"{name} is not on OpenML: pass --data-dir with {name}.npz, arrays X and y."
        )
    X, y = fetch_openml(data_id=OPENML[name], return_X_y=True, as_frame=False)
    if name == "mnist":
        X, y = X / 255.0, y.astype(int)
        return X[:60_000], X[60_000:], y[:60_000], y[60_000:]
    return split(X.astype(np.float64), y.astype(np.float64))


def split(X, y):
    return train_test_split(X, y, test_size=HELD_OUT, random_state=0)


def pack(coefs, intercepts, network):
    """The parameters of scikit-learn's lists, in doubles."""
    shapes = [(o, i) for i, o in pairwise(network.layer_units)]
    assert [c.T.shape for c in coefs] == shapes
    return network.from_coefs(coefs, intercepts).astype(np.float64)
