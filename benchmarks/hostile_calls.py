"""Calls of operators, hierarchical matrices, solvers and inspection with odd values."""

import inspect
import warnings
from functools import cache

import numpy as np
from sklearn.neural_network import MLPRegressor

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
    GNHSpectrum,
)
from skgnh.hmatrix import compress, hodlr
from skgnh.inspection import OBSPruner, influence, prune
from skgnh.operators import (
    DenseMatrix,
    EntrySampler,
    GaussNewtonHessian,
    GradientBuffer,
    compress_jacobian,
)
from skgnh.solvers import KFAC, HMatrix, all_solvers

N = 40
COUNTS = [0, 1, 2, 3, 7, 200, -1, 2.5, np.nan, np.inf, "two", None, True]
NUMBERS = [0.0, 1e-300, 1e-12, 0.5, 1.0, 1e12, 1e300, -1.0, np.nan, np.inf, "one", None]
SEEDS = [0, 7, None, -1, "seed", 2.5]
NAMES = ("X", "y", "H", "rows", "columns", "index", "vector", "shape", "posterior_")


@cache
def fitted(k):
    """Return a fitted network with its rows and targets."""
    rng = np.random.default_rng(k)
    X = rng.standard_normal((N, 3))
    y = np.sin(X[:, 0]) + 0.1 * rng.standard_normal(N)
    few = {"max_iter": 5, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match k:
            case 0:
                return (
                    GaussNewtonMLPRegressor(hidden_layer_sizes=(4,), **few).fit(X, y),
                    X,
                    y,
                )
            case 1:
                labels = np.digitize(y, [-0.3, 0.3])
                return GaussNewtonMLPClassifier((4, 3), **few).fit(X, labels), X, labels
            case 2:
                return GaussNewtonAutoencoder((2,), **few).fit(X), X, None
            case 3:
                X = X.astype(np.float32)
                model = GaussNewtonMLPRegressor(
                    hidden_layer_sizes=(3,), alpha=1.0, **few
                )
                return model.fit(X, y), X, y
        return (
            MLPRegressor(hidden_layer_sizes=(4,), max_iter=20, random_state=0).fit(
                X, y
            ),
            X,
            y,
        )


def drawn(seed):
    """Return a name, the names that a refusal may mention, and the call."""
    rng = np.random.default_rng(seed)
    model, X, y = fitted(int(rng.integers(5)))
    H = GaussNewtonHessian.from_estimator(model, X, y)
    kind = KINDS[rng.integers(len(KINDS))]
    function, arguments, finite = kind(rng, model, X, y, H)
    names = {*NAMES, *arguments}
    if callable(function):
        names |= set(inspect.signature(function).parameters)

    def call():
        found = function(**arguments)
        assert not finite or numbers_of(found), "not finite"

    shown = {key: brief(value) for key, value in arguments.items()}
    title = f"{getattr(function, '__qualname__', function)} of {model}: {shown}"
    return title, sorted(names), call


def brief(value):
    """Return what tells a value in a line."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return repr(value)[:80]


def numbers_of(found):
    """Say whether all numbers of an answer are finite."""
    if hasattr(found, "shape") and hasattr(found, "matmat"):
        return np.isfinite(found @ np.ones(found.shape[1], found.dtype)).all()
    if isinstance(found, tuple | list):
        return all(numbers_of(each) for each in found)
    if isinstance(found, np.ndarray | float):
        return np.issubdtype(np.asarray(found).dtype, np.number) and bool(
            np.isfinite(found).all()
        )
    return True


def pick(rng, values):
    """Draw one of a list."""
    return values[rng.integers(len(values))]


def vectors(rng, P):
    """Draw a right-hand side: its array, and whether its products are numbers."""
    match pick(rng, ["plain", "block", "long", "nan", "huge", "text", "none", "empty"]):
        case "plain":
            return rng.standard_normal(P), True
        case "block":
            return rng.standard_normal((P, 3)), True
        case "long":
            return rng.standard_normal(P + 1), True
        case "nan":
            return np.full(P, np.nan), False
        case "huge":
            return np.full(P, 1e300), False
        case "text":
            return np.full(P, "text"), True
        case "empty":
            return np.empty((P, 0)), True
    return None, True


def indices(rng, P):
    """Draw an index of parameters."""
    k = int(rng.integers(1, P))
    return pick(
        rng,
        [
            rng.integers(0, P, k),
            rng.integers(0, P, 0),
            np.arange(P) - 2,
            np.array([P]),
            np.array([0.5]),
            np.zeros((2, 2), int),
            ["a"],
            None,
            3,
            rng.random(P) < 0.5,
            rng.random(P + 1) < 0.5,
        ],
    )


def product(rng, model, X, y, H):
    """A product with the Hessian."""
    x, finite = vectors(rng, H.shape[0])
    return (lambda vector: H @ vector), {"vector": x}, finite


def of_index(rng, model, X, y, H):
    """Entries, columns, blocks and restrictions."""
    P = H.shape[0]
    match pick(rng, ["entries", "columns", "restricted", "entry_blocks"]):
        case "entries":
            return H.entries, {"rows": indices(rng, P), "columns": indices(rng, P)}, 1
        case "entry_blocks":
            pairs = [(indices(rng, P), indices(rng, P)) for _ in range(2)]
            return H.entry_blocks, {"pairs": pairs}, True
        case name:
            return getattr(H, name), {"index": indices(rng, P)}, True


def of_probes(rng, model, X, y, H):
    """Diagonals and samples."""
    seed = pick(rng, SEEDS)
    if rng.random() < 0.5:
        count = pick(rng, COUNTS)
        return H.diagonal, {"n_probes": count, "random_state": seed}, True
    return H.sample, {"n_rows": pick(rng, COUNTS), "random_state": seed}, True


def of_scale(rng, model, X, y, H):
    """Scaled matrices and Gram matrices."""
    d, _ = vectors(rng, H.shape[0])
    name, key = pick(rng, [("scaled", "d"), ("gram", "scale")])
    return getattr(H, name), {key: d}, False


def sampler(rng, model, X, y, H):
    """The sampler of entries."""

    def entries(rows, columns, epsilon, random_state):
        made = EntrySampler(H)
        return made.entries(rows, columns, epsilon, random_state)

    P = H.shape[0]
    rows, columns = indices(rng, P), indices(rng, P)
    epsilon = pick(rng, [*NUMBERS[3:], 0.1, 0.3])
    values = rows, columns, epsilon, pick(rng, SEEDS)
    keys = "rows", "columns", "epsilon", "random_state"
    return entries, dict(zip(keys, values, strict=True)), True


def low_rank(rng, model, X, y, H):
    """Adaptive cross approximation."""
    values = {"rank": pick(rng, COUNTS), "tol": pick(rng, NUMBERS)}
    return compress_jacobian, {"H": H, **values, "random_state": pick(rng, SEEDS)}, True


def hierarchical(rng, model, X, y, H):
    """Hierarchical compression, with one or two odd values."""
    known = {
        "rank": COUNTS,
        "leaf_size": COUNTS,
        "tol": NUMBERS,
        "global_rank": COUNTS,
        "head_size": COUNTS,
        "n_samples": COUNTS,
        "order": ["natural", "diagonal", "angle", "kernel", "none", None, 3],
        "source": [None, "entries", "products", "none", 3],
        "random_state": SEEDS,
    }
    names = rng.choice(list(known), int(rng.integers(1, 3)), replace=False)
    settings = {str(name): pick(rng, known[str(name)]) for name in names}
    return compress, {"H": matrix(rng, H), **settings}, True


def off_diagonal(rng, model, X, y, H):
    """HODLR compression."""
    settings = {
        "storage": pick(rng, [*NUMBERS, 2, 5, 16, 128]),
        "leaf_size": pick(rng, COUNTS),
        "order": pick(rng, ["natural", "diagonal", "angle", "kernel", "none", None]),
    }
    return hodlr, {"H": matrix(rng, H), **settings}, True


def matrix(rng, H):
    """Draw what is to be compressed."""
    P = int(rng.integers(1, 40))
    A = rng.standard_normal((P, P))
    return pick(
        rng,
        [
            H,
            H,
            DenseMatrix(A @ A.T),
            DenseMatrix(np.zeros((P, P))),
            DenseMatrix(1e-300 * np.eye(P)),
            DenseMatrix(1e150 * np.eye(P)),
            DenseMatrix(np.ones((P, P))),
            DenseMatrix((A @ A.T).astype(np.float32)),
        ],
    )


def solve(rng, model, X, y, H):
    """A solver's factor, and what it answers."""
    name = str(rng.choice([n for n in all_solvers() if n != "exact_hessian"]))

    def answers(rhs, damping):
        factor = all_solvers()[name]().factor(H, None)
        return factor.solve(rhs, damping)

    answers.__qualname__ = f"solver {name}"
    rhs, _ = vectors(rng, H.shape[0])
    damping = pick(rng, [1e-12, 1e-2, 1.0, 1e12, 0.0, -1.0, np.nan, "one", None])
    return answers, {"rhs": rhs, "damping": damping}, False


def parameters(rng, model, X, y, H):
    """Solvers of odd parameters."""
    cls = pick(rng, [HMatrix, KFAC])
    known = {
        "storage": COUNTS,
        "share": NUMBERS,
        "patience": NUMBERS,
        "epsilon": [*NUMBERS, "auto"],
        "n_probes": COUNTS,
        "refresh": COUNTS,
        "max_iter": COUNTS,
        "tol": NUMBERS,
        "rtol": NUMBERS,
    }
    own = [n for n in inspect.signature(cls).parameters if n in known]
    name = str(rng.choice(own))

    def answers(**settings):
        factor = cls(**settings).factor(H, None)
        return factor.solve(np.ones(H.shape[0], H.dtype), 1e-2)

    answers.__qualname__ = cls.__name__
    return answers, {name: pick(rng, known[name])}, False


def inspected(rng, model, X, y, H):
    """Spectra and pruning by odd parameters."""
    spectrum = {
        "n_components": COUNTS,
        "tol": NUMBERS,
        "damping": NUMBERS,
        "n_probes": COUNTS,
        "lanczos_steps": COUNTS,
        "solver": ["auto", "none", None],
        "random_state": SEEDS,
    }
    pruner = {
        "sparsity": [*NUMBERS, "evidence"],
        "n_steps": COUNTS,
        "n_gradients": COUNTS,
        "n_rows": COUNTS,
        "block_size": COUNTS,
        "damping": NUMBERS,
        "source": ["curvature", "none", None],
        "random_state": SEEDS,
    }
    cls, known = pick(rng, [(GNHSpectrum, spectrum), (OBSPruner, pruner)])
    name = str(rng.choice(list(known)))

    def answers(**settings):
        cls(model, prefit=True, **settings).fit(X, y)

    answers.__qualname__ = cls.__name__
    return answers, {name: pick(rng, known[name])}, True


def of_rows(rng, model, X, y, H):
    """Influence, pruning and Hessians of faulty rows."""
    function = pick(rng, [influence, prune, GaussNewtonHessian.from_estimator])
    rows = pick(
        rng, [X, X[:0], X[:, :2], X[:, 0], X * np.nan, X[:1], None, "X", 1e9 * X]
    )
    targets = pick(rng, [y, None, X[:1, 0], np.full(N, np.nan), np.full(N, "text")])
    made = {"estimator": model, "X": rows, "y": targets}
    if rng.random() < 0.5:
        w = pick(rng, [np.ones(N), np.zeros(N), -np.ones(N), np.ones(3), np.nan, "w"])
        made["sample_weight"] = w
    return function, made, function is not influence


def gradients(rng, model, X, y, H):
    """The buffer of gradients."""
    P = H.shape[0]
    G = rng.standard_normal((int(rng.integers(1, 6)), P))
    G = pick(rng, [G, 1e-300 * G, 1e150 * G, 0 * G, G * np.nan, G[:, :0], G[0], None])

    def answers(gradient, rhs, damping):
        buffer = GradientBuffer(4, P)
        for each in [gradient] if gradient is None else gradient:
            buffer.append(each)
        return buffer.solve(rhs, damping)

    rhs, _ = vectors(rng, P)
    return answers, {"gradient": G, "rhs": rhs, "damping": pick(rng, NUMBERS)}, False


KINDS = (
    product,
    of_index,
    of_probes,
    of_scale,
    sampler,
    low_rank,
    hierarchical,
    off_diagonal,
    solve,
    parameters,
    inspected,
    of_rows,
    gradients,
)
