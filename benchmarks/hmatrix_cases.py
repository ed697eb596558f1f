"""Matrices of the H-matrix benchmark: networks in training, and kernels."""

import warnings
from functools import cache

import numpy as np
from scipy.sparse.linalg import LinearOperator
from sklearn.datasets import fetch_openml, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import gen_batches

from skgnh import GaussNewtonAutoencoder, GaussNewtonMLPClassifier
from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian

NETWORKS = (
    "784-16-784",
    "784-32-784",
    "784-64-16-64-784",
    "784-32-10",
    "784-100-50-10",
)
QUICK_NETWORKS = ("64-24-8-24-64", "64-32-24-10")
QUICK_MNIST = ("196-10-196",)
ACTIVATION = "tanh"
ALPHA = 1e-4
MNIST_ID = 554


# ---- networks ------------------------------------------------------------------------


@cache
def images(width, path=None):
    """Rows and labels: MNIST (784), its pixels averaged by fours (196), digits (64)."""
    if width == 64:
        X, y = load_digits(return_X_y=True)
        return X / 16, y
    if path:
        with np.load(path, allow_pickle=False) as data:
            X, y = data["X_train"], data["y_train"]
    else:
        X, y = fetch_openml(data_id=MNIST_ID, return_X_y=True, as_frame=False)
        X, y = X[:60_000], y[:60_000]
    X, y = X.reshape(len(X), -1) / 255.0, y.astype(int)
    if width == 196:
        X = X.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196)
    if X.shape[1] != width:
        raise SystemExit(f"There are no images of {width} pixels.")
    return X, y


def network_of(name):
    """The network of a name such as '784-16-784'; autoencoders end as they begin."""
    units = tuple(int(part) for part in name.split("-"))
    return MLP(units, (ACTIVATION,) * (len(units) - 2))


def hessian(network, theta, X):
    """The GNH of the mean loss over the rows, with the penalty of ALPHA."""
    n = len(X)
    kind = "identity" if network.n_outputs == X.shape[1] else "softmax"
    return GaussNewtonHessian(
        Linearization(network, theta.astype(X.dtype), append_one(X)),
        LOSSES[kind],
        np.full(n, 1 / n, X.dtype),
        (network.weight_mask() * (ALPHA / n)).astype(X.dtype),
    )


def states(name, args):
    """Yield (state, GNH): before training, after a few iterations, after many."""
    network = network_of(name)
    X, y = images(network.layer_units[0], args.data)
    order = np.random.default_rng(args.seed).permutation(len(X))[: args.train_rows]
    X, y = X[order].astype(args.dtype), y[order]
    rows = X[: args.rows]
    if "start" in args.states:
        rng = np.random.RandomState(args.seed)
        yield "start", hessian(network, network.initialize(rng, X.dtype), rows)
    model, done = _estimator(network, args), 0
    for state, iterations in (("early", args.early), ("late", args.late)):
        if state not in args.states:
            continue
        model.set_params(max_iter=iterations - done)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
        done += model.n_iter_
        theta = network.from_coefs(model.coefs_, model.intercepts_)
        yield state, hessian(network, theta, rows)


def _estimator(network, args):
    settings = {
        "activation": ACTIVATION,
        "solver": "cg",
        "alpha": ALPHA,
        "curvature_batch_size": min(args.rows, 500),
        "tol": 0.0,
        "n_iter_no_change": np.inf,
        "random_state": args.seed,
        "warm_start": True,
    }
    hidden = network.layer_units[1:-1]
    if network.n_outputs == network.layer_units[0]:
        code = hidden[: len(hidden) // 2 + 1]
        settings["code_activation"] = ACTIVATION
        return GaussNewtonAutoencoder(code, **settings)
    return GaussNewtonMLPClassifier(hidden, **settings)


def smooth_network(n_parameters, n_rows, seed, hidden=16, outputs=10):
    """An untrained GNH of about that many parameters; its inputs alone grow.

    The rows are random smooth functions on [0, 1] at ever more points, so that all
    sizes have the same structure.
    """
    width = round((n_parameters - outputs * (hidden + 1)) / hidden) - 1
    rng = np.random.RandomState(seed)
    waves = np.arange(64)
    basis = np.cos(np.pi * waves[:, None] * np.linspace(0, 1, width))
    X = rng.standard_normal((n_rows, len(waves))) / (1 + waves) @ basis
    network = MLP((width, hidden, outputs), (ACTIVATION,))
    return hessian(network, network.initialize(rng), X)


def wide_network(n_parameters, n_rows, seed, inputs=16, outputs=10):
    """An untrained GNH of about that many parameters in two equal hidden layers."""
    b = inputs + outputs + 2
    width = round((-b + np.sqrt(b**2 + 4 * n_parameters)) / 2)
    rng = np.random.RandomState(seed)
    network = MLP((inputs, width, width, outputs), (ACTIVATION,) * 2)
    X = rng.standard_normal((n_rows, inputs))
    return hessian(network, network.initialize(rng), X)


# ---- kernels -------------------------------------------------------------------------


class KernelMatrix(LinearOperator):
    """A kernel over points, its entries made when asked for; its diagonal is 1."""

    def __init__(self, points, kernel, bandwidth, block=1000):
        super().__init__(points.dtype, (len(points), len(points)))
        self.points, self._kernel = points, KERNELS[kernel]
        self._bandwidth, self._block = bandwidth, block

    def entries(self, rows, columns):
        left, right = self.points[rows], self.points[columns]
        squares = euclidean_distances(left, right, squared=True)
        block = self._kernel(squares / self._bandwidth**2)
        block[np.equal.outer(rows, columns)] = 1
        return block

    def diagonal(self):
        return np.ones(len(self.points), self.dtype)

    def _matmat(self, V):
        out, every = np.empty(V.shape, self.dtype), np.arange(len(self.points))
        for rows in gen_batches(len(every), self._block):
            out[rows] = self.entries(every[rows], every) @ V
        return out

    def _adjoint(self):
        return self


def _matern(squares):
    distances = np.sqrt(3 * squares)
    return (1 + distances) * np.exp(-distances)


# Of squared distances in units of the bandwidth; Matern's nu is 3/2.
KERNELS = {"gaussian": lambda squares: np.exp(-squares / 2), "matern": _matern}


def kernel_matrix(kernel, n_points, dimension, bandwidth, seed):
    """A kernel over uniform random points in the unit cube."""
    points = np.random.default_rng(seed).uniform(size=(n_points, dimension))
    return KernelMatrix(points, kernel, bandwidth)
