"""Sketched Gram solves on two-layer ReLU networks with the first layer trained.

    python benchmarks/sketched_gram.py --json sketched.json
    python benchmarks/sketched_gram.py --quick

f(x) = m^-1/2 sum_r a_r relu(w_r^T x) with a_r = +-1 fixed, rows of norm one and random
labels +-1: the setting of van den Brand, Peng, Song and Weinstein (2021). Then the time
of one solve by the exact Gram matrix, by its sketch and by plain conjugate gradients on
fully trained networks, and what :class:`skgnh.solvers.Auto` predicts.
"""

import argparse
import json
from time import perf_counter
from types import SimpleNamespace

import numpy as np
from hmatrix_report import table
from scipy.linalg import cholesky, solve_triangular
from scipy.sparse.linalg import LinearOperator
from sklearn import config_context
from sklearn.utils import gen_batches
from threadpoolctl import threadpool_limits

from skgnh.linalg import Curvature
from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian
from skgnh.operators.layer_factors import LayerFactors
from skgnh.operators.sketch import sketched_grams
from skgnh.solvers import CG, Auto, Gram, SketchedGram
from skgnh.solvers.preconditioned import conjugate_gradients

N_FEATURES = 16
# In units of the mean diagonal of the Gram matrix: the reference has none.
TINY = 1e-9


# ---- the setting of the reference ----------------------------------------------------


class FirstLayerRoot(LinearOperator):
    """Row i is ``B_i x x_i`` with ``B_i = m^-1/2 a * (W x_i > 0)``: (n, m d)."""

    n_roots = 1

    def __init__(self, B, X):
        self.B, self.X = B, X
        n, (m, d) = len(X), (B.shape[1], X.shape[1])
        super().__init__(B.dtype, (n, m * d))
        self.network = MLP((d, m), ())
        self.linearization = Linearization(self.network, np.zeros(1), X)

    def _matvec(self, v):
        V = v.reshape(self.B.shape[1], -1)
        return sum(
            np.einsum("im,im->i", self.X @ V[part].T, self.B[:, part])
            for part in cached(self.B.shape[1])
        )

    def _rmatvec(self, u):
        scaled = u.reshape(-1, 1) * self.X
        return (self.B.T @ scaled).ravel()

    def walk_anew(self, n_columns=0):
        return 1, self._factors

    def _factors(self, rows):
        return LayerFactors([append_one(self.X[rows])], [self.B[rows, None]])

    def grams(self):
        return (self.X @ self.X.T) * (self.B @ self.B.T), 0


class FirstLayer(Curvature):
    """The Gauss-Newton Hessian in W of half the squared error, as solvers take it."""

    offers = frozenset({"root", "gram", "layers"})

    def __init__(self, B, X):
        self.root = FirstLayerRoot(B, X)
        self.network, P = self.root.network, self.root.shape[1]
        super().__init__(B.dtype, (P, P))
        self.ridge = np.zeros(P)

    def _matvec(self, v):
        return self.root.rmatvec(self.root.matvec(v))

    def gram_by_ridge(self, grams=FirstLayerRoot.grams):
        return [(0.0, grams(self.root)[0])]


class TwoLayer:
    """f(x) = m^-1/2 sum_r a_r relu(w_r^T x), and random data for it."""

    def __init__(self, n, width, seed):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n, N_FEATURES))
        self.X = X / np.linalg.norm(X, axis=1, keepdims=True)
        self.y = rng.choice([-1.0, 1.0], n)
        self.W = rng.standard_normal((width, N_FEATURES))
        self.signs = rng.choice([-1.0, 1.0], width) / width**0.5

    def residual(self):
        return -self.y + sum(
            np.maximum(self.X @ self.W[part].T, 0) @ self.signs[part]
            for part in cached(len(self.W))
        )

    def operator(self):
        B = np.empty((len(self.X), len(self.W)))
        for part in cached(len(self.W)):
            B[:, part] = (self.X @ self.W[part].T > 0) * self.signs[part]
        return FirstLayer(B, self.X)

    def step(self, solver):
        """Take one unit step of Gauss-Newton."""
        H, residual = self.operator(), self.residual()
        damping = TINY * (H.root.B**2).sum() / len(self.X)
        factor = solver.factor(H)
        self.W -= factor.lstsq(residual, damping).reshape(self.W.shape)
        return factor


def cached(width):
    """Return slices of neurons whose numbers stay in cache."""
    return list(gen_batches(width, 1024))


class Exact:
    """``J^T (J J^T + damping I)^-1 target`` by the exact Gram matrix."""

    def factor(self, H):
        ((_, G),) = H.gram_by_ridge()

        def lstsq(target, damping):
            return H.root.rmatvec(np.linalg.solve(G + damping * np.eye(len(G)), target))

        return SimpleNamespace(lstsq=lstsq, iterations=0)


# ---- parts ---------------------------------------------------------------------------


def quality(args):
    """Condition of the preconditioned Jacobian, and iterations to 1e-6."""
    rows, n = [], args.rows
    for width in args.widths:
        problem = TwoLayer(n, width, args.seed)
        root, target = problem.operator().root, problem.residual()
        G = root.grams()[0]
        rows.append(
            {
                "width": width,
                "sketch": "none",
                "s / n": 0,
                "condition": np.linalg.cond(G) ** 0.5,
                "iterations": iterations(root, target, None),
            }
        )
        for along, transform, factor in args.sketches:
            found = []
            for seed in range(args.repeat):
                rng = np.random.default_rng((args.seed, seed))
                R = cholesky(sketched_grams(root, transform, factor, along, rng)[0])
                M = solve_triangular(R, G, trans="T")
                M = solve_triangular(R, M.T, trans="T")
                found.append((np.linalg.cond(M) ** 0.5, iterations(root, target, R)))
            condition, count = np.array(found).T
            rows.append(
                {
                    "width": width,
                    "sketch": f"{transform}, {along}",
                    "s / n": factor,
                    "condition": condition.max(),
                    "iterations": np.median(count),
                    "most": int(count.max()),
                }
            )
    return rows


def iterations(root, target, R, rtol=1e-6):
    """Count those of ``J J^T g = target`` until its residual has fallen by `rtol`."""

    def precondition(v):
        return (
            v if R is None else solve_triangular(R, solve_triangular(R, v, trans="T"))
        )

    steps = conjugate_gradients(lambda v: root @ (root.T @ v), target, precondition)
    for k, (_, residual, _) in enumerate(steps):
        if np.linalg.norm(residual) <= rtol * np.linalg.norm(target):
            return k
    return k


def outer(args):
    """Ratios of the squared residual over the outer steps."""
    rows = []
    for width in args.widths:
        for name, solver in {"exact": Exact(), "sketched": SketchedGram()}.items():
            for seed in range(args.repeat):
                problem, ratios, counts = TwoLayer(args.rows, width, seed), [], []
                norms = [np.sum(problem.residual() ** 2)]
                # Below this, the early end of the iterations is all there is.
                while len(ratios) < 8 and norms[-1] > 1e-12 * norms[0]:
                    counts.append(problem.step(solver).iterations)
                    norms.append(np.sum(problem.residual() ** 2))
                    ratios.append(norms[-1] / norms[-2])
                rows.append(
                    {
                        "width": width,
                        "solver": name,
                        "seed": seed,
                        "steps": len(ratios),
                        "worst ratio": max(ratios),
                        "ratios": " ".join(f"{r:.1g}" for r in ratios),
                        "iterations": max(counts),
                    }
                )
    return rows


def slope(args):
    """Seconds of one outer step against the width, the least of some."""
    rows = []
    for width in args.step_widths:
        seconds = []
        for _ in range(max(args.repeat, 3)):
            problem = TwoLayer(args.rows, width, args.seed)
            seconds.append(timed(lambda: problem.step(SketchedGram()))[0])  # noqa: B023
        rows.append({"width": width, "seconds": min(seconds)})
    x, y = (np.log([row[key] for row in rows]) for key in ("width", "seconds"))
    rows[-1]["log-log slope"] = float(np.polyfit(x, y, 1)[0])
    return rows


def timed(function):
    start = perf_counter()
    out = function()
    return perf_counter() - start, out


def race(args):
    """Seconds of one solve on networks all of whose layers are trained."""
    rows = []
    for n, units in args.networks:
        H = hessian(n, units, args.seed)
        rng = np.random.default_rng(args.seed)
        b = H.root.T @ rng.standard_normal(H.root.shape[0])
        damping = args.damping * H.trace() / H.root.shape[0]
        row = {"n": n, "network": "-".join(map(str, units)), "P": H.shape[0]}
        with config_context(working_memory=args.memory):
            row["auto"] = type(Auto().select(H)).__name__
            seconds, x = solved(Gram(), H, b, damping)
            row["gram"] = seconds
            row["sketched"], close = solved(SketchedGram(), H, b, damping)
            row["error"] = error(H, damping, b, x, close)
            solver = CG(max_iter=args.max_iter, rtol=1e-3)
            row["cg"], near = solved(solver, H, b, damping)
            row["cg error"] = error(H, damping, b, x, near)
        rows.append(row)
        print(row, flush=True)
    return rows


def hessian(n, units, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, units[0]))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    network = MLP(units, ("relu",) * (len(units) - 2))
    theta = network.initialize(rng)
    loss = LOSSES["identity" if units[-1] == 1 else "softmax"]
    linearization = Linearization(network, theta, append_one(X))
    return GaussNewtonHessian(linearization, loss, np.full(n, 1 / n))


def solved(solver, H, b, damping):
    H = GaussNewtonHessian(H.linearization, H.loss, H.weights, H.ridge)
    return timed(lambda: solver.factor(H).solve(b, damping))


def error(H, damping, b, x, near):
    """Return the error in the norm of H + damping I, relative to that of x."""
    e = near - x
    return float(np.sqrt((e @ (H @ e) + damping * e @ e) / (b @ x)))


PARTS = {"quality": quality, "outer": outer, "slope": slope, "race": race}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damping", type=float, default=1e-3, help="of the race")
    parser.add_argument("--max-iter", type=int, default=150, help="of cg in the race")
    parser.add_argument("--memory", type=float, default=8192, help="MiB in the race")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    args.widths = (256, 1024) if args.quick else (256, 1024, 4096)
    args.step_widths = [2**k for k in (range(10, 14) if args.quick else range(10, 17))]
    args.sketches = [
        (along, transform, factor)
        for along, factors in (("parameters", (2, 4, 8)), ("neurons", (2, 4, 8, 16)))
        for transform in ("srht", "countsketch")
        for factor in factors
    ]
    args.networks = [(128, (16, 2048, 1)), (128, (16, 2048, 10))]
    if not args.quick:
        args.networks += [
            (128, (16, 16384, 10)),
            (256, (16, 4096, 10)),
            (256, (16, 16384, 10)),
            (256, (16, 32768, 10)),
            (512, (16, 16384, 1)),
            (128, (64, 512, 512, 10)),
            (256, (64, 1024, 1024, 10)),
        ]
    with threadpool_limits(1):
        parts = {name: PARTS[name](args) for name in args.parts.split(",")}
    for name, rows in parts.items():
        print(f"\n{PARTS[name].__doc__}\n\n{table(rows)}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(parts, file, indent=1, default=float)


if __name__ == "__main__":
    main()
