"""Sketched Gram solves on two-layer ReLU networks with the first layer trained.

    python benchmarks/sketched_gram.py --json sketched.json
    python benchmarks/sketched_gram.py --quick

f(x) = m^-1/2 sum_r a_r relu(w_r^T x) with a_r = +-1 fixed, rows of norm one and random
labels +-1: the setting of van den Brand, Peng, Song and Weinstein (2021), and the same
through the estimator. Then the time of one solve by the Gram matrix, by its sketch
and by conjugate gradients on fully trained networks, and what
:class:`skgnh.solvers.Auto` predicts.
"""

import argparse
import json
from time import perf_counter

import numpy as np
from hmatrix_report import table
from scipy.linalg import cholesky, solve_triangular
from sklearn import config_context
from threadpoolctl import threadpool_limits

from skgnh import GaussNewtonMLPRegressor
from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian
from skgnh.operators.sketch import sketched_grams
from skgnh.solvers import CG, Auto, Gram, SketchedGram
from skgnh.solvers.preconditioned import conjugate_gradients

N_FEATURES = 16
# In units of the mean diagonal of the Gram matrix: the reference has none.
TINY = 1e-9
# The estimator's first damping: it falls with every step.
FIRST = 1e-6


# ---- the setting of the reference ----------------------------------------------------


class TwoLayer:
    """f(x) = m^-1/2 sum_r a_r relu(w_r^T x), and random data for it."""

    def __init__(self, n, width, seed):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n, N_FEATURES))
        self.X = X / np.linalg.norm(X, axis=1, keepdims=True)
        self.y = rng.choice([-1.0, 1.0], n)
        self.network = MLP((N_FEATURES, width, 1), ("relu",))
        self.theta = self.network.initialize(rng, init="ntk")
        # With zeros in the place of their ones, these rows have no biases.
        self.inputs = np.column_stack([self.X, np.zeros(n)])

    def residual(self):
        return self.network.outputs(self.theta, self.inputs)[:, 0] - self.y

    def operator(self):
        """The Gauss-Newton Hessian in W of half the squared error."""
        rows = Linearization(self.network, self.theta, self.inputs)
        H = GaussNewtonHessian(rows, LOSSES["identity"], np.ones(len(self.X)))
        return H.restricted(np.arange(self.network.offsets[1]))

    def step(self, solver):
        """Take one unit step of Gauss-Newton."""
        H, residual = self.operator(), self.residual()
        factor = solver.factor(H)
        step = factor.lstsq(residual, TINY * H.trace() / len(self.X))
        self.theta[: len(step)] -= step
        return factor

    def regressor(self, solver, seed, n_steps):
        """The same by the estimator: first layer trained, biases too."""
        return GaussNewtonMLPRegressor(
            hidden_layer_sizes=self.network.layer_units[1:-1],
            activation="relu",
            init="ntk",
            trainable_layers=[0],
            standardize=False,
            solver=solver,
            alpha=0,
            damping=FIRST,
            tol=0,
            max_iter=n_steps,
            random_state=seed,
        )


# ---- parts ---------------------------------------------------------------------------


def quality(args):
    """Condition of the preconditioned Jacobian, and iterations to 1e-6."""
    rows, n = [], args.rows
    for width in args.widths:
        problem = TwoLayer(n, width, args.seed)
        H, target = problem.operator(), problem.residual()
        root, G = H.root, H.gram()
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
                way = (transform, factor, along, rng, [np.zeros(N_FEATURES + 1)])
                R = cholesky(sketched_grams(root, *way)[0])
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
    """Ratios of the squared residual over the steps of the estimator's training."""
    rows = []
    for width in args.widths:
        for solver in ("gram", "sketched_gram"):
            for seed in range(args.repeat):
                problem = TwoLayer(args.rows, width, seed)
                X, y = problem.X, problem.y
                model = problem.regressor(solver, seed, 5)
                model.fit(X, y)
                theta = problem.network.initialize(
                    np.random.RandomState(seed), init="ntk"
                )
                # The estimator's start has the mean as its output bias.
                f = problem.network.outputs(theta, append_one(X))[:, 0] + y.mean()
                losses = np.array([0.5 * np.mean((f - y) ** 2), *model.loss_curve_])
                # Below this, rounding and the early end of the iterations are all.
                losses = losses[: 1 + np.count_nonzero(losses > 1e-12 * losses[0])]
                ratios, history = losses[1:] / losses[:-1], model.history_
                rows.append(
                    {
                        "width": width,
                        "solver": solver,
                        "seed": seed,
                        "steps": len(ratios),
                        "refused": len(history["value"]) - model.n_iter_,
                        "worst ratio": max(ratios),
                        "ratios": " ".join(f"{r:.1g}" for r in ratios),
                        "products": int(max(history["products"])),
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
