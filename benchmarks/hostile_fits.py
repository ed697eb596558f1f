"""Fits of awkward and of faulty data, by random parameters."""

import tempfile

import numpy as np
from scipy import sparse

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.network import ACTIVATIONS, INITS
from skgnh.solvers import all_solvers

KINDS = (
    "binary",
    "multiclass",
    "multilabel",
    "regression",
    "several targets",
    "poisson",
    "autoencoder",
)
CLASSIFICATION = KINDS[:3]
CONTAINERS = (
    "array",
    "array",
    "csr",
    "csc",
    "memmap",
    "fortran",
    "strided",
    "list",
    "read-only",
)
SIZES = {"tiny": 1e-150, "subnormal": 1e-310, "large": 1e12, "huge": 1e150}
# What data and parameters are spoilt by; two thirds of the fits have no such fault.
FAULTS = {
    "X": ["nan", "inf", "empty", "no columns", "one dimension", "text", "complex"],
    "y": ["nan", "short", "one class", "text", "none"],
    "sample_weight": ["nan", "negative", "zeros", "short", "matrix", "inf"],
    "alpha": [-1.0, np.nan, np.inf, "evidences", None],
    "hidden_layer_sizes": [(0,), (-3, 2), (2.5,), "three", None],
    "encoder_layer_sizes": [(0,), (), (2.5,), "three", None],
    "solver": ["none", 3, None],
    "damping": [0.0, -1.0, np.nan, np.inf, "big", None],
    "max_iter": [0, -1, 2.5, "many", None],
    "tol": [-1.0, np.nan, "small", None],
    "n_iter_no_change": [0, np.nan, "few", None],
    "batch_size": [0, -5, 2.5, "all", None],
    "curvature_batch_size": [0, -5, 2.5, "all", None],
    "trainable_layers": [[], [7], [-9], "first", [0.5], 1, [None]],
    "init": ["zeros", 0, None],
    "activation": ["sine", 3, None],
    "random_state": [-1, "seed", 2.5],
    "validation_fraction": [0.0, 1.0, -0.5, np.nan, "half"],
}
# What a refusal may name beside the parameters: the rows and labels it speaks of.
NAMES = ("X", "y", "sample_weight", "class", "classes", "rows", "Sparse", "input")


def drawn(seed):
    """Return a name, the names that a refusal may mention, and the call."""
    rng = np.random.default_rng(seed)
    kind, model, X, y, w = problem(rng)
    fault = None
    if rng.random() < 1 / 3:
        fault, model, X, y, w = spoilt(rng, kind, model, X, y, w)
    names = [*NAMES, *model.get_params(deep=False)]
    told = type(X).__name__, getattr(X, "dtype", None), np.shape(X)
    title = f"{model} X={told} fault={fault}"
    return title, names, lambda: check(kind, model, X, y, w)


def rows(rng, kind):
    """Return an array with columns and rows of many kinds."""
    n = max({"multiclass": 6, "binary": 4}.get(kind, 1), int(rng.choice([1, 2, 6, 40])))
    X = rng.standard_normal((n, int(rng.integers(1, 6))))
    # The exponential of a large number is no prediction.
    sizes = dict.fromkeys(SIZES, 1.0) if kind == "poisson" else SIZES
    for j in range(X.shape[1]):
        match rng.choice(["plain", "plain", "constant", "repeated", "sign", *SIZES]):
            case "constant":
                X[:, j] = rng.choice([0.0, 1.0, -1e3])
            case "repeated":
                X[:, j] = X[:, rng.integers(X.shape[1])]
            case "sign":
                X[:, j] = -np.abs(X[:, j]) - 10
            case "plain":
                pass
            case size:
                X[:, j] *= sizes[str(size)]
    if rng.random() < 0.2:
        X = X[rng.integers(0, max(1, n // 3), n)]
    if rng.random() < 0.3:
        with np.errstate(over="ignore"):
            X = np.clip(X, -1e30, 1e30).astype(np.float32)
    return X


def contained(rng, X):
    """Return rows in one of many containers."""
    match rng.choice(CONTAINERS):
        case "csr":
            return sparse.csr_array(np.where(rng.random(X.shape) < 0.5, X, 0))
        case "csc":
            return sparse.csc_matrix(X)
        case "memmap":
            with tempfile.TemporaryFile() as file:
                held = np.memmap(file, X.dtype, "w+", shape=X.shape)
            held[:] = X
            return held
        case "fortran":
            return np.asfortranarray(X)
        case "strided":
            return np.repeat(X, 2, axis=0)[::2]
        case "list":
            return X.tolist()
        case "read-only":
            X.flags.writeable = False
    return X


def targets(rng, kind, n):
    """Return targets of a kind, of many scales."""
    scale = rng.choice([1.0, 1.0, 1e12, 1e-12, 1e-150, 1e-310, 1e25])
    match kind:
        case "binary":
            return np.array(["a", "b"])[
                np.append([0, 1, 0, 1], rng.integers(0, 2, n))[:n]
            ]
        case "multiclass":
            return np.append([0, 1, 2, 0, 1, 2], rng.integers(0, 3, n))[:n]
        case "multilabel":
            return rng.integers(0, 2, (n, 3))
        case "regression":
            return scale * rng.standard_normal(n) * rng.choice([0, 1, 1])
        case "several targets":
            return [scale, 1.0] * rng.standard_normal((n, 2))
        case "poisson":
            return rng.poisson(rng.choice([0.0, 0.1, 1.0, 1e6]), n).astype(float)
    return None


def weights(rng, n):
    """Return weights, or none; the first rows keep theirs."""
    match rng.choice(["none", "none", "mixed", "tiny", "huge", "few"]):
        case "mixed":
            w = rng.choice([0, 0, 1, 2.5, 1e-9, 1e9], n)
        case "tiny":
            return np.full(n, 1e-300)
        case "huge":
            return np.full(n, 1e200)
        case "few":
            w = np.zeros(n)
        case _:
            return None
    w[:6] = 1
    return w


def settings(rng, n):
    """Return parameters, all of them allowed."""
    solver = str(rng.choice(list(all_solvers())))
    alpha = rng.choice(["evidence", "ard", "0", "1e-4", "1e3"])
    alpha = str(alpha) if alpha in ("evidence", "ard") else float(alpha)
    if isinstance(alpha, str) and solver == "exact_hessian":
        solver = "auto"
    made = {
        "activation": str(rng.choice(list(ACTIVATIONS))),
        "solver": solver,
        "alpha": alpha,
        "standardize": bool(rng.random() < 0.8),
        "damping": float(rng.choice([1e-12, 1e-2, 1.0, 1e6])),
        "max_iter": int(rng.integers(1, 7)),
        "tol": float(rng.choice([0, 1e-5, 0.1])),
        "init": str(rng.choice(list(INITS))),
        "random_state": int(rng.integers(1000)),
    }
    for name in ("batch_size", "curvature_batch_size"):
        if rng.random() < 0.25:
            made[name] = int(rng.integers(1, n + 1))
    if n >= 15 and rng.random() < 0.2:
        made |= {"early_stopping": True, "validation_fraction": 0.4}
    if rng.random() < 0.15:
        made["trainable_layers"] = [-1]
    return made


def problem(rng):
    """Return kind, estimator, rows, targets and weights."""
    kind = str(rng.choice(KINDS))
    X = rows(rng, kind)
    n = len(X)
    y, w, drawn_ = targets(rng, kind, n), weights(rng, n), settings(rng, n)
    X = contained(rng, X)
    sizes = tuple(rng.integers(1, 6, rng.integers(0, 4)).tolist())
    if kind == "autoencoder":
        return kind, GaussNewtonAutoencoder(sizes or (1,), **drawn_), X, y, w
    if kind in CLASSIFICATION:
        return kind, GaussNewtonMLPClassifier(sizes, **drawn_), X, y, w
    loss = "poisson" if kind == "poisson" else "squared_error"
    return kind, GaussNewtonMLPRegressor(loss, sizes, **drawn_), X, y, w


def spoilt(rng, kind, model, X, y, w):
    """Return the fault, and everything with it."""
    known = model.get_params(deep=False)
    names = [name for name in FAULTS if name in (*known, "X", "y", "sample_weight")]
    name = str(rng.choice(names))
    value = FAULTS[name][rng.integers(len(FAULTS[name]))]
    if name == "X":
        X = spoilt_rows(X, value)
    elif name == "y":
        y = spoilt_targets(y, value)
    elif name == "sample_weight":
        w = spoilt_weights(np.shape(X)[0], value)
    else:
        model.set_params(**{name: value})
    return f"{name}={value!r}", model, X, y, w


def spoilt_rows(X, value):
    """Return rows with a fault."""
    X = X.toarray() if sparse.issparse(X) else np.array(X)
    match value:
        case "nan" | "inf":
            X[0, -1] = float(value)
        case "empty":
            X = X[:0]
        case "no columns":
            X = X[:, :0]
        case "one dimension":
            X = X[:, 0]
        case "text":
            X = np.full(X.shape, "text")
        case "complex":
            X = X + 1j
    return X


def spoilt_targets(y, value):
    """Return targets with a fault; those of an autoencoder count for nothing."""
    if y is None:
        return None
    match value:
        case "nan":
            return np.where(np.ones(y.shape, bool), np.nan, 0)
        case "short":
            return y[:-1]
        case "one class":
            return np.repeat(y[:1], len(y), axis=0)
        case "text":
            return np.full(y.shape, "text")
    return None


def spoilt_weights(n, value):
    """Return weights with a fault."""
    made = np.ones(n)
    match value:
        case "nan" | "inf":
            made[0] = float(value)
        case "negative":
            made[-1] = -1
        case "zeros":
            made[:] = 0
        case "short":
            made = made[:-1]
        case "matrix":
            made = made[:, None] * [1.0, 2.0]
    return made


def check(kind, model, X, y, w):
    """Fit, and raise an AssertionError where not all that is answered is a number."""
    model.fit(X, y, w)
    for name in ("coefs_", "intercepts_"):
        assert all(np.isfinite(a).all() for a in getattr(model, name)), name
    assert np.isfinite(model.loss_), "loss_"
    assert len(model.loss_curve_) == model.n_iter_, "loss_curve_"
    found = model.predict_proba(X) if kind in CLASSIFICATION else model.predict(X)
    assert np.isfinite(found).all(), "predictions"
    if kind in CLASSIFICATION:
        assert ((found >= 0) & (found <= 1)).all(), "probabilities"
    elif kind == "autoencoder":
        assert np.isfinite(model.transform(X)).all(), "codes"
    elif hasattr(model, "posterior_"):
        assert np.isfinite(model.predict(X, return_std=True)[1]).all(), "deviations"
        assert np.isfinite(model.predict_interval(X)).all(), "intervals"
