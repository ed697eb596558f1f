"""The exact Hessian: accuracy, elimination by layers over depth, and training.

    python benchmarks/exact_hessian.py --quick
    python benchmarks/exact_hessian.py --json exact_hessian.json

Part a compares the Hessian of each activation and loss with differences of the gradient
and solves with those of the array; part b times a factorisation and a solve over the
depth, against array and dense solve; part c trains a 10-layer network.
"""

import argparse
import json
import tracemalloc
from itertools import product
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from scipy.linalg import solve
from sklearn import config_context
from threadpoolctl import threadpool_limits

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import ACTIVATIONS, MLP, append_one
from skgnh.objective import Objective
from skgnh.operators import ExactHessian
from skgnh.optimize import levenberg_marquardt
from skgnh.solvers import Dense, ExactHessianSolver, LayerElimination

# Shifts of part a, in units of the norm of H.
SHIFTS = (1e-6, 1e-4, 1e-2, 1.0, 10.0)
SOLVERS = {
    "dense": Dense(),
    "exact": ExactHessianSolver(),
    "saddle free": ExactHessianSolver(saddle_free=True),
}


def draw_targets(output, n, d, rng):
    """Return targets in the domain of the loss."""
    if output == "identity":
        return rng.standard_normal((n, d))
    if output == "exp":
        return rng.poisson(1.0, (n, d)).astype(float)
    if output == "logistic":
        return rng.integers(0, 2, (n, d)).astype(float)
    return np.eye(d)[rng.integers(0, d, n)]


def problem(units, activation, output, n, seed=0, alpha=0.0):
    """Return an objective with the exact curvature, and a start."""
    rng = np.random.default_rng(seed)
    network = MLP(units, (activation,) * (len(units) - 2))
    theta = network.initialize(rng)
    X = append_one(rng.standard_normal((n, units[0])))
    Y = draw_targets(output, n, units[-1], rng)
    weights, ridge = np.full(n, 1 / n), alpha / n * network.weight_mask()
    return Objective(network, LOSSES[output], X, Y, weights, ridge, "exact"), theta


# ---- a: accuracy ---------------------------------------------------------------------


def accuracy(args):
    """Errors of the array against differences, of solves in units of the condition."""
    rows = []
    for activation, output in product(ACTIVATIONS, LOSSES):
        f, theta = problem((4, 5, 4, 5, 3), activation, output, 4, alpha=1e-2)
        theta = theta + 0.1
        H = f.linearize(theta)[2].toarray()
        h = 1e-5
        differences = [
            (f.linearize(theta + s)[1] - f.linearize(theta - s)[1]) / (2 * h)
            for s in h * np.eye(len(theta))
        ]
        norm = np.linalg.norm(H, 2)
        checks = [check(f, theta, H, shift * norm) for shift in SHIFTS]
        errors, residuals, same = zip(*checks, strict=True)
        rows.append(
            {
                "activation": activation,
                "output": output,
                "array error": np.abs(H - differences).max() / np.abs(H).max(),
                "solve error / condition": max(errors),
                "residual": max(residuals),
                "inertia right": all(same),
            }
        )
    return rows


def check(f, theta, array, shift):
    """Return error over condition, residual, and whether the inertia is right."""
    A = array + shift * np.eye(len(array))
    values = np.linalg.eigvalsh(A)
    b = np.random.default_rng(1).standard_normal(len(A))
    elimination = LayerElimination(f.linearize(theta)[2], shift)
    x, exact = elimination.solve(b), np.linalg.solve(A, b)
    condition = np.abs(values).max() / np.abs(values).min()
    error = np.linalg.norm(x - exact) / np.linalg.norm(exact) / condition
    residual = np.linalg.norm(A @ x - b) / np.linalg.norm(b)
    return error, residual, elimination.inertia[0] == int((values < 0).sum())


# ---- b: scaling in the depth ---------------------------------------------------------


def hessian(depth, args):
    """Return the Hessian of a tanh network of equal widths, untrained."""
    units = (args.width,) * (depth + 1)
    f, theta = problem(units, "tanh", "identity", args.rows)
    linearization = Linearization(f.network, theta, f.inputs)
    return ExactHessian(linearization, f.loss, f.targets, f.weights, f.ridge)


def factorised(H, shift):
    """Factorise by layers, forward pass included."""
    fresh = Linearization(H.network, H.theta, H.linearization.inputs)
    H = ExactHessian(fresh, H.loss, H.targets, H.weights, H.ridge)
    return LayerElimination(H, shift)


def by_layers(H, b, shift):
    """Solve by layers, forward pass included."""
    return factorised(H, shift).solve(b)


def by_array(H, b, shift):
    """Solve by the array and LAPACK's symmetric indefinite factors."""
    A = H.toarray()
    A.flat[:: len(A) + 1] += shift
    return solve(A, b, assume_a="sym", overwrite_a=True, check_finite=False)


def seconds(call, repeat):
    """Least CPU seconds of several calls: of one thread, and blind to other work."""
    times = []
    for _ in range(repeat):
        start = process_time()
        call()
        times.append(process_time() - start)
    return min(times)


def peak(call):
    """Most MiB that are allocated during a call."""
    tracemalloc.start()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 2**20


def scaling(args):
    """Seconds and MiB of one solve over the depth."""
    rows = []
    for depth in args.depths:
        H = hessian(depth, args)
        b = np.random.default_rng(1).standard_normal(H.shape[0])
        ask = (H, b, args.shift)
        row = {
            "depth": depth,
            "P": H.shape[0],
            "seconds": seconds(lambda ask=ask: by_layers(*ask), args.repeat),
            "factor s": seconds(lambda H=H: factorised(H, args.shift), args.repeat),
            "MiB": peak(lambda ask=ask: by_layers(*ask)),
        }
        elimination = factorised(H, args.shift)
        x = elimination.solve(b)
        row["refinements"] = elimination.products
        residual = H @ x + args.shift * x - b
        row["residual"] = np.linalg.norm(residual) / np.linalg.norm(b)
        if depth <= args.dense_depth:
            repeat = 1 if depth > 20 else 3
            row["dense s"] = seconds(lambda ask=ask: by_array(*ask), repeat)
            row["speedup"] = row["dense s"] / row["seconds"]
        rows.append(row)
        print(rows[-1], flush=True)
    return rows


def slopes(rows):
    """Return the log-log slopes in the depth."""
    depth = np.log([row["depth"] for row in rows])
    return [
        {
            "column": name,
            "slope": np.polyfit(depth, np.log([row[name] for row in rows]), 1)[0],
        }
        for name in ("seconds", "factor s", "MiB")
    ]


# ---- c: training ---------------------------------------------------------------------


def teacher_problem(seed, args):
    """Return parts of a problem: a deep network's outputs with noise, standardised."""
    rng = np.random.default_rng(seed)
    units = (5,) * 11
    network = MLP(units, ("tanh",) * 9)
    X = append_one(rng.standard_normal((args.train_rows, 5)))
    Y = network.outputs(1.5 * network.initialize(rng), X)
    Y += 0.1 * rng.standard_normal(Y.shape)
    Y = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    n = len(X)
    parts = (X, Y, np.full(n, 1 / n), args.alpha / n * network.weight_mask())
    return network, parts, network.initialize(rng)


def training(args):
    """Objective after some accepted steps, by each curvature, from the same starts."""
    rows = []
    for seed, (name, solver) in product(range(args.seeds), SOLVERS.items()):
        network, parts, theta = teacher_problem(seed, args)
        f = Objective(network, LOSSES["identity"], *parts, solver.curvature)
        row = {"seed": seed, "solver": name, "steps": 0, "solves": 0, "failed": 0}
        start = perf_counter()
        with np.errstate(all="ignore"):
            for step in levenberg_marquardt(f, theta, solver, gradient_tol=1e-9):
                row["solves"] += 1
                row["steps"] += step.accepted
                row["failed"] += bool(np.isnan(step.gain_ratio))
                if row["steps"] in args.steps and step.accepted:
                    row[f"loss {row['steps']}"] = step.value
                if row["steps"] >= max(args.steps):
                    break
        for k in args.steps:
            row.setdefault(f"loss {k}", step.value)
        row |= {"seconds": perf_counter() - start, "end": step.status}
        rows.append(row)
        print(row, flush=True)
    return rows


def summary(rows, args):
    """Ratios of the objective to that of Gauss-Newton: geometric mean, and wins."""
    out = []
    for name, k in product(list(SOLVERS)[1:], args.steps):
        ratios = np.array(
            [
                row[f"loss {k}"] / other[f"loss {k}"]
                for row, other in product(rows, rows)
                if (row["solver"], other["solver"]) == (name, "dense")
                and row["seed"] == other["seed"]
            ]
        )
        out.append(
            {
                "solver": name,
                "steps": k,
                "loss / dense": np.exp(np.log(ratios).mean()),
                "at most dense": f"{(ratios <= 1).sum()} of {len(ratios)}",
            }
        )
    return out


# ---- the command line ----------------------------------------------------------------


def table(rows):
    """Return rows as Markdown."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        cells = (row.get(name, "-") for name in names)
        texts = [f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells]
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke run")
    add("--parts", default="abc", help="such as ab")
    add("--json", type=Path, help="write settings and all rows here")
    add("--width", type=int, default=10)
    add("--rows", type=int, default=2)
    add("--shift", type=float, default=0.1)
    add("--depths", type=int, nargs="+", default=[10, 20, 30, 40, 60, 80, 100])
    add("--dense-depth", type=int, default=40, help="the deepest that is solved so")
    add("--repeat", type=int, default=5)
    add("--train-rows", type=int, default=20)
    add("--alpha", type=float, default=1e-3)
    add("--seeds", type=int, default=10)
    add("--steps", type=int, nargs="+", default=[100, 300, 1000])
    args = parser.parse_args(argv)
    if args.quick:
        args.depths, args.dense_depth, args.repeat = [10, 20, 40], 20, 2
        args.seeds, args.steps = 1, [20]
    return args


def main():
    args = parse()
    parts = {}
    with config_context(working_memory=4096), threadpool_limits(1):
        if "a" in args.parts:
            parts["a"] = accuracy(args)
        if "b" in args.parts:
            parts["b"] = scaling(args)
            parts["b slopes"] = slopes(parts["b"])
        if "c" in args.parts:
            parts["c"] = training(args)
            parts["c summary"] = summary(parts["c"], args)
    for name, rows in parts.items():
        print(f"\nPart {name}\n{table(rows)}")
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k != "json"}
        report = {"settings": settings, "parts": parts}
        args.json.write_text(json.dumps(report, indent=1, default=float))


if __name__ == "__main__":
    main()
