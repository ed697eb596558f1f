"""How the seconds to a target objective grow with the rows, parameters and outputs.

``python benchmarks/growth.py --json growth.json --plot growth.png``. See the README
beside this file.
"""

import argparse
import json
import os
from pathlib import Path
from time import process_time

import numpy as np
from defaults import ONE_THREAD, environment, words
from hmatrix_report import table
from race_data import make_problem
from race_results import time_to
from race_runs import Trace, peers, train

METHODS = ("skgnh", "adam", "lbfgs")
# Sizes that grow, and what stays: rows n, parameters P and outputs d.
SERIES = {
    "n": ((10**3, 10**4, 10**5, 10**6), {"P": 1000, "d": 1}),
    "P": ((10**3, 10**4, 10**5, 10**6), {"n": 1000, "d": 1}),
    "d": ((1, 10, 100, 1000), {"n": 1000, "P": 20_000}),
}
QUICK = {
    "n": ((200, 400), {"P": 100, "d": 1}),
    "P": ((100, 200), {"n": 200, "d": 1}),
    "d": ((1, 4), {"n": 200, "P": 200}),
}
AXES = {"n": "rows n", "P": "parameters P", "d": "outputs d"}
INPUTS, TEACHER, NOISE = 10, 4, 0.1
ALPHA = 1e-4


# ---- problems ------------------------------------------------------------------------


def student(P, d):
    """The width of two equal hidden layers that comes next to P parameters."""
    b = INPUTS + d + 2
    return max(1, round((-b + np.sqrt(b**2 + 4 * (P - d))) / 2))


def problem_of(n, P, d, seed):
    """Rows of a tanh teacher with four hidden units, noise added."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, INPUTS))
    hidden = np.tanh(X @ rng.standard_normal((INPUTS, TEACHER)) / INPUTS**0.5)
    y = hidden @ rng.standard_normal((TEACHER, d))
    y += NOISE * y.std(axis=0) * rng.standard_normal(y.shape)
    parts, widths = (X, X[:1], y, y[:1]), (student(P, d),) * 2
    return make_problem("teacher", "reg", parts, widths, "tanh", "float64")


# ---- seconds to the target -----------------------------------------------------------


def seconds(method, problem, args, seed):
    """CPU seconds of a fit up to the target; inf where it is not reached in time."""
    target = args.share * 0.5  # of the best constant: targets have variance one
    trace = Trace(
        problem.objective(ALPHA).value,
        args.seconds,
        enough=lambda _, lowest: lowest <= target,
        clock=process_time,
    )
    if method == "lbfgs":
        # The one whose loss is that of its gradient, where they differ.
        method = peers(problem)[-1]
    train(method, problem, trace, seed=seed, alpha=ALPHA, epochs=10**6, threads=1)
    return time_to(trace.seconds, trace.objective, target), trace.note


def measure(args, save):
    """A row for each size and method, the methods taking turns."""
    rows = []
    for axis, (sizes, fixed) in (QUICK if args.quick else SERIES).items():
        going = list(args.methods)
        for size in (s for s in sizes if axis not in args.most or s <= args.most[axis]):
            shape = {**fixed, axis: size}
            made = {method: [] for method in going}
            for seed in range(args.repeat):
                problem = problem_of(**shape, seed=seed)
                shape["P"] = problem.network.n_parameters
                for method in going:
                    made[method].append(seconds(method, problem, args, seed))
            for method, runs in made.items():
                taken = float(np.median([spent for spent, _ in runs]))
                row = {"axis": axis} | {name: shape[name] for name in AXES}
                row |= {"method": method, "seconds": taken, "note": runs[0][1]}
                rows.append(row)
                print(table(rows[-1:]).splitlines()[-1], flush=True)
            going = [m for m in going if rows_of(rows, axis, m)[-1]["seconds"] < np.inf]
            save(rows)
    return rows


def rows_of(rows, axis, method):
    """The rows of a line of the plot."""
    return [row for row in rows if (row["axis"], row["method"]) == (axis, method)]


def slopes(rows):
    """Exponents of the seconds, by least squares of the logarithms."""
    out = []
    for axis, method in dict.fromkeys((row["axis"], row["method"]) for row in rows):
        line = [r for r in rows_of(rows, axis, method) if r["seconds"] < np.inf]
        if len(line) > 1:
            x, y = np.log([(row[axis], row["seconds"]) for row in line]).T
            slope = float(np.polyfit(x, y, 1)[0])
            out.append({"axis": axis, "method": method, "slope": slope})
    return out


# ---- picture -------------------------------------------------------------------------


def plot(rows, path):
    """Seconds against each size, with the slopes in the legends."""
    from matplotlib.figure import Figure

    figure = Figure((11, 3.8), layout="constrained")
    axes = dict(zip(SERIES, figure.subplots(1, len(SERIES), sharey=True), strict=True))
    for fit in slopes(rows):
        line = rows_of(rows, fit["axis"], fit["method"])
        points = [(row[fit["axis"]], row["seconds"]) for row in line]
        label = f"{fit['method']}, slope {fit['slope']:.2f}"
        axes[fit["axis"]].plot(*zip(*points, strict=True), "o-", label=label)
    for axis, panel in axes.items():
        panel.set(xscale="log", yscale="log", xlabel=AXES[axis])
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize="small")
    axes["n"].set_ylabel("CPU seconds to the target")
    figure.savefig(path, dpi=120)


# ---- the command line ----------------------------------------------------------------


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--methods", type=words, default=list(METHODS), help=",".join(METHODS))
    add("--quick", action="store_true", help="a smoke run on small sizes")
    add("--most", type=limits, default={}, help="largest sizes: n=100000,P=100000")
    add("--share", type=float, default=0.02, help="target, of the best constant's")
    add("--seconds", type=float, default=30.0, help="most CPU seconds of a fit")
    add("--repeat", type=int, default=1, help="data and first weights; the median")
    add("--json", type=Path, help="write settings, rows and slopes here")
    add("--plot", type=Path, help="write the plot here")
    args = parser.parse_args(argv)
    if unknown := set(args.methods) - set(METHODS):
        parser.error(f"unknown methods: {', '.join(sorted(unknown))}")
    return args


def limits(text):
    """Largest sizes by axis, from a text such as n=1000,d=10."""
    pairs = (part.split("=") for part in text.split(","))
    return {{axis: axis for axis in SERIES}[axis]: float(most) for axis, most in pairs}


def main(argv=None):
    args = parse(argv)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}

    def save(rows):
        if args.json:
            record = {"environment": environment(), "settings": settings}
            # JSON has no infinity: a target that is not reached is null.
            finite = [r | {"seconds": _finite(r["seconds"])} for r in rows]
            record |= {"rows": finite, "slopes": slopes(rows)}
            args.json.write_text(json.dumps(record, indent=1) + "\n")

    rows = measure(args, save)
    print(f"\n{table(rows)}\n\n{table(slopes(rows))}")
    if args.plot:
        plot(rows, args.plot)
    return rows


def _finite(value):
    return value if np.isfinite(value) else None


if __name__ == "__main__":
    main()
