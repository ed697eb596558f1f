"""M-FAC: accuracy, cost, pruning and training, and beside its authors' algorithms.

    python benchmarks/mfac.py --quick
    python benchmarks/mfac.py --data mnist.npz --json mfac.json

What is measured, and how, is said in benchmarks/README.md.
"""

import argparse
import json
import warnings
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skgnh import GaussNewtonMLPClassifier
from skgnh.inspection import prune
from skgnh.operators import GradientBuffer, RankOneInverse
from skgnh.solvers import MFAC

SPARSITIES = (0.9, 0.95, 0.98)


def mnist(path, quick):
    """Training and test rows in [0, 1], in single precision."""
    if quick:
        X, y = load_digits(return_X_y=True)
        parts = train_test_split(X / 16, y, test_size=0.3, random_state=0)
        X, X_test, y, y_test = parts
    elif path:
        with np.load(path, allow_pickle=False) as data:
            names = ("X_train", "X_test", "y_train", "y_test")
            X, X_test, y, y_test = (data[name] for name in names)
        X, X_test = (part.reshape(len(part), -1) / 255 for part in (X, X_test))
    else:
        X, y = fetch_openml("mnist_784", return_X_y=True, as_frame=False)
        X, y = X / 255, y.astype(int)
        X, X_test, y, y_test = X[:60_000], X[60_000:], y[:60_000], y[60_000:]
    return X.astype(np.float32), y, X_test.astype(np.float32), y_test


def seconds(call, repeat=5):
    """Least of some times, after a warm call."""
    call()
    times = []
    for _ in range(repeat):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def slope(sizes, times):
    """Of the logarithms, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


# ---- parts ---------------------------------------------------------------------------


def accuracy(_):
    """Largest error of every form, relative to the largest entry of the inverse."""
    rows = []
    for m, P, damping in ((8, 300, 1e-2), (64, 300, 1e-2), (64, 300, 1e-5)):
        rng = np.random.default_rng(m)
        G = rng.standard_normal((m, P))
        small = np.linalg.inv(m * damping * np.eye(m) + G @ G.T)
        dense = (np.eye(P) - G.T @ small @ G) / damping
        scale = np.abs(dense).max()
        buffer = GradientBuffer(m, P)
        for g in np.vstack([rng.standard_normal((m, P)), G]):
            buffer.append(g)
        static, index = RankOneInverse(G, damping), np.arange(P)
        forms = {
            "product": static @ np.eye(P),
            "entries": static.entries(index, index),
            "diagonal": np.diag(static.diagonal()) + dense - np.diag(dense.diagonal()),
            "dynamic": buffer.solve(np.eye(P), damping),
        }
        size = 50
        blocks = np.zeros((P, P))
        for start in range(0, P, size):
            b = slice(start, start + size)
            F = damping * np.eye(size) + G[:, b].T @ G[:, b] / m
            blocks[b, b] = np.linalg.inv(F)
        errors = {k: float(np.abs(v - dense).max() / scale) for k, v in forms.items()}
        error = np.abs(RankOneInverse(G, damping, size) @ np.eye(P) - blocks).max()
        errors["blocks"] = float(error / np.abs(blocks).max())
        rows.append({"m": m, "P": P, "damping": damping, **errors})
    return rows


def cost(arguments):
    """Seconds of every form over P and over m."""
    sizes = (10_000, 30_000, 100_000) if arguments.quick else (10**4, 10**5, 10**6)
    grid = [(32, P) for P in sizes]
    grid += [(m, 30_000) for m in ((64, 128) if arguments.quick else (64, 128, 256))]
    rows, rng = [], np.random.default_rng(0)
    for m, P in grid:
        G = rng.standard_normal((m, P), dtype=np.float32)
        x, g = G[0].copy(), G[1].copy()
        inverse = RankOneInverse(G, 0.1)
        buffer = GradientBuffer(m, P, np.float32)
        for row in G:
            buffer.append(row)
        pairs = iter(rng.integers(0, P, (10_000, 2, 1)))

        def entry(inverse=inverse, pairs=pairs):
            for _ in range(100):
                inverse.entries(*next(pairs))

        def replace(buffer=buffer, g=g, x=x):
            buffer.append(g)
            buffer._factorised(0.1)

        rows.append(
            {
                "m": m,
                "P": P,
                "precompute": seconds(lambda G=G: RankOneInverse(G, 0.1), 2),
                "product": seconds(lambda i=inverse, x=x: i @ x),
                "entry": seconds(entry, 20) / 100,
                "replace": seconds(replace),
                "dynamic product": seconds(lambda b=buffer, x=x: b.solve(x, 0.1)),
            }
        )
    names = ("precompute", "product", "entry", "replace", "dynamic product")
    by_P = rows[: len(sizes)]
    by_m = sorted((r for r in rows if r["P"] == 30_000), key=lambda r: r["m"])
    for label, chosen in (("P", by_P), ("m", by_m)):
        slopes = {
            k: slope([r[label] for r in chosen], [r[k] for r in chosen]) for k in names
        }
        rows.append({"slope in": label, **slopes})
    return rows


def as_skgnh(mlp, X, y):
    """The same network as an estimator of this package."""
    out = GaussNewtonMLPClassifier(
        mlp.hidden_layer_sizes, alpha=mlp.alpha, max_iter=1, random_state=0
    )
    out.partial_fit(X[:200], y[:200], classes=np.unique(y))
    out.coefs_, out.intercepts_ = mlp.coefs_, mlp.intercepts_
    return out


def by_magnitude(model, sparsity, X_test, y_test):
    sizes = np.concatenate([np.abs(c).ravel() for c in model.coefs_])
    cut = np.partition(sizes, k := round(sparsity * len(sizes)))[k]
    kept, model.coefs_ = model.coefs_, [c * (np.abs(c) >= cut) for c in model.coefs_]
    score = model.score(X_test, y_test)
    model.coefs_ = kept
    return score


def pruning(arguments):
    """Test accuracy after pruning, without any training afterwards."""
    X, y, X_test, y_test = mnist(arguments.data, arguments.quick)
    rows = []
    ways = {"one-shot": {"n_steps": 1}, "16 steps": {"n_steps": 16}}
    if arguments.paper:
        paper = {"joint": False, "source": "gradient"}
        ways |= {f"{name}, M-FAC": way | paper for name, way in ways.items()}
    for alpha in map(float, arguments.penalties.split(",")):
        for seed in range(arguments.seeds):
            mlp = MLPClassifier((40, 20), alpha=alpha, max_iter=30, random_state=seed)
            # scikit-learn divides alpha by the rows of a batch.
            mlp.set_params(alpha=alpha * 200 / len(X)).fit(X, y)
            model = as_skgnh(mlp, X, y)
            dense = model.score(X_test, y_test)
            for sparsity in SPARSITIES:
                row = {"alpha": alpha, "seed": seed, "dense": dense}
                row["sparsity"] = sparsity
                row["magnitude"] = by_magnitude(model, sparsity, X_test, y_test)
                for name, settings in ways.items():
                    settings = {"sparsity": sparsity, "random_state": seed} | settings
                    pruned = prune(model, X, y, **settings)
                    row[name] = pruned.score(X_test, y_test)
                rows.append(row)
                print(row, flush=True)
    return rows


def training(arguments):
    """Mean loss of each epoch over the seconds, adam and mfac."""
    X, y, *_ = mnist(arguments.data, arguments.quick)
    epochs, rows = 3 if arguments.quick else arguments.epochs, []
    start = perf_counter()
    adam = MLPClassifier((100,), max_iter=4 * epochs, tol=0, random_state=0).fit(X, y)
    each = (perf_counter() - start) / len(adam.loss_curve_)
    rows += [
        {"solver": "adam", "seconds": (k + 1) * each, "loss": float(loss)}
        for k, loss in enumerate(adam.loss_curve_)
    ]
    contenders = {
        "mfac 64": MFAC(64, direct=True),
        "mfac 64, 4 new": MFAC(64, n_new=4, direct=True),
        "mfac 256, 4 new": MFAC(256, n_new=4, direct=True),
        "mfac 64, gradients": MFAC(64, source="gradient", direct=True),
    }
    for name, solver in contenders.items():
        model = GaussNewtonMLPClassifier(
            (100,),
            solver=solver,
            batch_size=500,
            curvature_batch_size=250,
            damping=1e3,
            max_iter=epochs,
            tol=0,
            random_state=0,
        ).fit(X, y)
        at, epoch = model.history_["time"], model.history_["iteration"]
        rows += [
            {"solver": name, "seconds": float(at[epoch == k].max()), "loss": loss}
            for k, loss in enumerate(model.loss_curve_)
        ]
        print(rows[-1], flush=True)
    return rows


# ---- the algorithms of the paper -----------------------------------------------------


class Static:
    """Algorithm 1: ``H_i^-1 x = H_(i-1)^-1 x - v_i (v_i^T x) / q_i``, by blocks.

    ``v_i = g_i / lam - sum_(j<i) (v_j^T g_i / q_j) v_j`` and ``q_i = m + g_i^T v_i``,
    for all blocks of coordinates at once, with V of shape (blocks, m, b).
    """

    def __init__(self, G, damping, block_size=None):
        (m, P), self.damping = G.shape, damping
        G = G.reshape(m, -1, block_size or P).swapaxes(0, 1)
        self.V, self.q = np.empty(G.shape, G.dtype), np.empty((len(G), m), G.dtype)
        for i in range(m):
            g, V, v = G[:, i], self.V[:, :i], self.V[:, i]
            inside = np.matmul(V, g[:, :, None])[..., 0] / self.q[:, :i]
            v[:] = g / damping - np.matmul(inside[:, None], V)[:, 0]
            self.q[:, i] = m + np.einsum("nb,nb->n", g, v)

    def product(self, x):
        blocks = x.reshape(len(self.V), -1)
        inside = np.matmul(self.V, blocks[:, :, None])[..., 0] / self.q
        out = blocks / self.damping - np.matmul(inside[:, None], self.V)[:, 0]
        return out.ravel()

    def entry(self, a, b):
        (n, i), (k, j) = (divmod(c, self.V.shape[2]) for c in (a, b))
        inside = self.V[n, :, i] @ (self.V[k, :, j] / self.q[n]) if n == k else 0.0
        return (a == b) / self.damping - inside


class Dynamic:
    """Algorithm 2: all of it in the m x m scalar products of a ring of gradients.

    ``D_ij = g_i^T H_(i-1)^-1 g_j`` for j >= i, ``q_i = m + D_ii``, and the vectors of
    the static form as ``v_i = sum_k C_ik g_k``.
    """

    def __init__(self, G, damping):
        self.G, self.damping, self.last = G.copy(), damping, 0
        self.dots = self.G @ self.G.T
        self._recur()

    def _recur(self):
        m, D = len(self.G), self.dots / self.damping
        C, q = np.eye(m, dtype=D.dtype) / self.damping, np.empty(m, D.dtype)
        for i in range(m):
            q[i] = m + D[i, i]
            D[i + 1 :, i + 1 :] -= np.outer(D[i, i + 1 :] / q[i], D[i, i + 1 :])
            C[i, :i] = -(D[:i, i] / q[:i]) @ C[:i, :i]
        self.D, self.C, self.q = D, C, q

    def product(self, x, dots=None):
        inside = (self.G @ x if dots is None else dots) / self.damping
        for i in range(len(inside) - 1):
            inside[i + 1 :] -= self.D[i, i + 1 :] * (inside[i] / self.q[i])
        return x / self.damping - ((inside / self.q) @ self.C) @ self.G

    def replace(self, g):
        self.G[self.last] = g
        dots = self.G @ g
        self.dots[self.last], self.dots[:, self.last] = dots, dots
        self.last = (self.last + 1) % len(self.G)
        self._recur()
        return dots

    def replace_and_product(self, g):
        return self.product(g, self.replace(g))


def beside_authors(arguments):
    """Milliseconds of the paper's algorithms and of ours, in turn, single precision."""
    sizes = [(32, 100_000), (128, 100_000), (32, 1_000_000)]
    rows = []
    for m, P in sizes[: 1 if arguments.quick else None]:
        rng = np.random.default_rng(0)
        G, damping = rng.standard_normal((m, P), dtype=np.float32), 0.1
        rate = least_passes(G, G[0].copy())
        for block_size in (None, 2000, 250):
            rows += static_forms(G, damping, block_size, rate, arguments.repeat)
        rows += dynamic_forms(G, damping, rate, arguments.repeat)
    return rows


def least_passes(G, x, repeat=9):
    """Seconds of one pass over G by a product with it: the rate of the memory."""
    calls = {"there": lambda: G @ x, "back": lambda: G[:, 0].copy() @ G}
    return min(np.median(times) for times in in_turn(calls, repeat).values())


def static_forms(G, damping, block_size, rate, repeat):
    x = G[0].copy()
    made = {
        "theirs": Static(G, damping, block_size),
        "ours": RankOneInverse(G, damping, block_size),
    }
    theirs, ours = made.values()
    a, b = np.array([3]), np.array([7])
    forms = {
        "build": (
            None,
            lambda: Static(G, damping, block_size),
            lambda: RankOneInverse(G, damping, block_size),
        ),
        "product": (2, lambda: theirs.product(x), lambda: ours @ x),
        "entry": (None, lambda: theirs.entry(3, 7), lambda: ours.entries(a, b)),
    }
    label = "static" if block_size is None else f"static, blocks of {block_size}"
    return [
        compared(f"{label}: {name}", G, form, rate, 3 if name == "build" else repeat)
        for name, form in forms.items()
    ]


def dynamic_forms(G, damping, rate, repeat):
    x, g = G[0].copy(), G[1].copy()
    theirs, ours = Dynamic(G, damping), GradientBuffer(*G.shape, G.dtype)
    for row in G:
        ours.append(row)

    def replace():
        ours.append(g)
        ours._factorised(damping)

    def replace_and_product():
        ours.append(g)
        return ours.solve_last(damping)

    forms = {
        "product": (2, lambda: theirs.product(x), lambda: ours.solve(x, damping)),
        "replace": (1, lambda: theirs.replace(g), replace),
        "both": (2, lambda: theirs.replace_and_product(g), replace_and_product),
    }
    return [
        compared(f"dynamic: {name}", G, form, rate, repeat)
        for name, form in forms.items()
    ]


def compared(name, G, form, rate, repeat):
    """Return a row: both times, the quartiles of their ratio, and our memory's rate."""
    passes, theirs, ours = form
    times = in_turn({"theirs": theirs, "ours": ours}, repeat)
    ratio = np.quantile(times["theirs"] / times["ours"], (0.25, 0.5, 0.75))
    row = {"form": name, "m": len(G), "P": G.shape[1]}
    row |= {key: 1e3 * float(np.median(value)) for key, value in times.items()}
    row |= {"theirs / ours": float(ratio[1]), "quartiles": ratio[::2].round(2).tolist()}
    if passes:
        took = float(np.median(times["ours"]))
        row["GB / s"] = passes * G.nbytes / took / 1e9
        row["of the rate"] = passes * rate / took
    return row


def in_turn(calls, repeat):
    """Return the processor's seconds of each call, taken in turn after a warm one."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeat):
        for name, call in calls.items():
            start = process_time()
            call()
            times[name].append(process_time() - start)
    return {name: np.array(values) for name, values in times.items()}


PARTS = {
    "a": accuracy,
    "b": cost,
    "c": pruning,
    "d": training,
    "e": beside_authors,
}


def show(part, rows):
    print(f"\n{part.__doc__.splitlines()[0]}")
    for row in rows:
        cells = (
            f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}"
            for k, v in row.items()
        )
        print("  " + ", ".join(cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="a,b,c,d,e")
    parser.add_argument("--data", help="MNIST as .npz; from OpenML if not given")
    parser.add_argument("--quick", action="store_true", help="digits, small sizes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--penalties", default="1e-4,10", help="alphas of part c")
    parser.add_argument("--paper", action="store_true", help="its form too in part c")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=15, help="of part e")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {}
    for name in arguments.parts.split(","):
        found[name] = PARTS[name](arguments)
        show(PARTS[name], found[name])
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
