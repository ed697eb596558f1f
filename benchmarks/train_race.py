"""Time to a training objective: this package against scikit-learn's perceptrons.

Side by side in one process: the same rows, network, objective and first weights, each
solver with the number of threads that suits it. See the README beside this file.
"""

import argparse
import json
import platform
from pathlib import Path

import joblib
import numpy as np
import scipy
import sklearn
from race_data import UNITS, file_problem, named_problem
from race_runs import Trace, best_threads, peers, train

import skgnh

QUICK = {"rows": 500, "epochs": 20, "seconds": 3.0, "repeat": 1}
# The first weights of all solvers agree to the rounding of the rows' precision.
SAME = 1e-6


# ---- reading traces ------------------------------------------------------------------


def time_to(seconds, objective, target):
    """Seconds to the first value at or below the target; inf if there is none.

    Between two points of a trace the logarithm of the objective is taken as linear.
    """
    reached = np.flatnonzero(np.asarray(objective) <= target)
    if not len(reached):
        return np.inf
    k = reached[0]
    if k == 0:
        return float(seconds[0])
    above, below = _log(objective[k - 1]), _log(objective[k])
    if not np.isfinite(above):
        return float(seconds[k])
    share = (above - _log(target)) / (above - below)
    return float(seconds[k - 1] + share * (seconds[k] - seconds[k - 1]))


def value_at(seconds, objective, time):
    """Lowest objective up to a time, interpolated as `time_to` does."""
    lowest = np.minimum.accumulate(_finite(objective))
    return float(np.exp(np.interp(time, seconds, _log(lowest))))


def lowest(trace):
    return float(np.min(_finite(trace.objective)))


def _finite(objective):
    return np.where(np.isfinite(objective), objective, np.finfo(float).max)


def _log(objective):
    return np.log(np.maximum(objective, np.finfo(float).tiny))


# ---- racing --------------------------------------------------------------------------


def race(problem, args, threads, seed):
    """One round: each solver once; the record of it."""
    objective = problem.objective(args.alpha)
    settings = {"seed": seed, "alpha": args.alpha, "epochs": args.epochs}
    names = peers(problem)
    traces = {}
    for name in names:
        trace = Trace(objective.value, args.seconds)
        train(name, problem, trace, threads=threads[name], **settings)
        traces[name] = trace
    rivals = {"scikit-learn": names[:2]}
    if len(names) > 2:
        rivals["with lbfgs*"] = names
    marks = {}
    for label, group in rivals.items():
        target = min(lowest(traces[name]) for name in group)
        times = {
            name: time_to(traces[name].seconds, traces[name].objective, target)
            for name in group
        }
        marks[label] = {"target": target, "seconds": times}
    target = min(mark["target"] for mark in marks.values())
    first = max(min(mark["seconds"].values()) for mark in marks.values())
    trace = Trace(
        objective.value,
        args.seconds,
        enough=lambda seconds, value: value <= target and seconds >= first,
    )
    options = skgnh_options(args)
    train(
        "skgnh", problem, trace, threads=threads["skgnh"], options=options, **settings
    )
    traces["skgnh"] = trace
    for name, other in traces.items():
        if not np.allclose(other.start, traces["adam"].start, rtol=0, atol=SAME):
            raise RuntimeError(f"{name} did not start from the common weights.")
    for mark in marks.values():
        best = min(mark["seconds"].values())
        own = time_to(trace.seconds, trace.objective, mark["target"])
        mark["seconds"]["skgnh"] = own
        mark["ratio"] = best / own
        # Not reached: the ratio is below this.
        mark["ratio_bound"] = best / min(own, trace.seconds[-1])
        mark["skgnh_objective_at_best_time"] = value_at(
            trace.seconds, trace.objective, best
        )
    solvers = {name: report(problem, trace) for name, trace in traces.items()}
    return {"seed": seed, "marks": marks, "solvers": solvers}


def report(problem, trace):
    return {
        "iterations": trace.iterations,
        "seconds": trace.seconds[-1],
        "status": trace.status,
        "note": trace.note,
        "start": trace.objective[0],
        "objective": trace.objective[-1],
        "lowest": lowest(trace),
        "score": problem.score(trace.theta),
        "trace": {"seconds": trace.seconds, "objective": trace.objective},
    }


def skgnh_options(args):
    options = {
        "solver": args.solver,
        "batch_size": args.batch_size,
        "curvature_batch_size": args.curvature_batch_size,
    }
    return {name: value for name, value in options.items() if value is not None}


def race_problem(problem, args):
    """All rounds of a problem, and their medians."""
    print(f"{problem.name}: {problem.describe()}", flush=True)
    threads = {
        name: best_threads(
            name,
            problem,
            args.threads,
            seed=args.seed,
            alpha=args.alpha,
            epochs=args.epochs,
            options=skgnh_options(args),
        )
        for name in (*peers(problem), "skgnh")
    }
    rounds = [
        race(problem, args, threads, args.seed + k) for k in range(args.repeat)
    ]
    result = {
        **problem.as_dict(),
        "threads": threads,
        "median": medians(rounds),
        "rounds": rounds,
    }
    print(table([result]), flush=True)
    return result


def medians(rounds):
    def middle(pick):
        return float(np.median([pick(r) for r in rounds]))

    numbers = ("iterations", "seconds", "objective", "lowest", "score")
    solvers = {
        name: {k: middle(lambda r, n=name, k=k: r["solvers"][n][k]) for k in numbers}
        for name in rounds[0]["solvers"]
    }
    marks = {}
    for label, mark in rounds[0]["marks"].items():
        marks[label] = {
            key: middle(lambda r, label=label, key=key: r["marks"][label][key])
            for key in mark
            if key != "seconds"
        }
        marks[label]["seconds"] = {
            name: middle(lambda r, m=label, n=name: r["marks"][m]["seconds"][n])
            for name in mark["seconds"]
        }
    return {"solvers": solvers, "marks": marks}


# ---- output --------------------------------------------------------------------------

COLUMNS = (
    "problem",
    "solver",
    "threads",
    "iterations",
    "seconds",
    "final objective",
    "held-out score",
    "s to target",
    "ratio",
    "s to target*",
    "ratio*",
    "note",
)


def table(results):
    """Markdown: a row for each problem and solver, of the medians of the rounds."""
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for result in results:
        marks = result["median"]["marks"]
        for name, solver in result["median"]["solvers"].items():
            last = result["rounds"][-1]["solvers"][name]
            row = [
                result["name"],
                name,
                result["threads"][name],
                f"{solver['iterations']:.0f}",
                f"{solver['seconds']:.3g}",
                f"{solver['objective']:.4g}",
                f"{solver['score']:.4f}",
            ]
            for label in ("scikit-learn", "with lbfgs*"):
                mark = marks.get(label, {"seconds": {}})
                row += [_seconds(mark, name), _ratio(mark, name)]
            notes = [last["status"], last["note"]]
            if name == "skgnh":
                at = marks["scikit-learn"]["skgnh_objective_at_best_time"]
                notes.append(f"{at:.4g} at the best time")
            rows.append((*row, ", ".join(filter(None, notes))))
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for row in texts:
        cells = (
            cell.ljust(w, "-" if cell == "---" else " ")
            for cell, w in zip(row, widths, strict=True)
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _seconds(mark, name):
    if name not in mark["seconds"]:
        return ""
    seconds = mark["seconds"][name]
    return f"{seconds:.3g}" if np.isfinite(seconds) else "-"


def _ratio(mark, name):
    if name != "skgnh" or "ratio" not in mark:
        return ""
    if mark["ratio"] == 0:
        return f"< {mark['ratio_bound']:.2g}"
    return f"{mark['ratio']:.3g}"


def environment():
    return {
        "machine": platform.machine(),
        "cores": joblib.cpu_count(),
        "python": platform.python_version(),
        "skgnh": skgnh.__version__,
        "scikit-learn": sklearn.__version__,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
    }


def to_json(value):
    """Replace what JSON has no number for by None."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--problems", default=",".join(UNITS), help="comma-separated names")
    add("--data-dir", type=Path, help="folder of NAME.npz; else from OpenML")
    add("--data", type=Path, help="race this .npz of arrays X, y instead")
    add("--task", choices=("reg", "clf", "ae"), default="reg", help="of --data")
    add("--hidden", type=_integers, default=(50, 50), help="of --data: 50,50")
    add("--activation", help="of --data; tanh, for clf relu")
    add("--repeat", type=int, help="rounds, each from other first weights (3)")
    add("--epochs", type=int, help="most epochs or iterations of scikit-learn (200)")
    add("--seconds", type=float, help="most seconds of each fit (120)")
    add("--rows", type=int, help="take the first training rows only")
    add("--quick", action="store_true", help=f"a smoke run: {QUICK}")
    add("--threads", type=_integers, help="numbers of threads to choose from: 1,2")
    add("--alpha", type=float, default=1e-4, help="penalty of all solvers")
    add("--seed", type=int, default=0, help="of the first round")
    add("--dtype", choices=("float32", "float64"), help="of all but lbfgs")
    add("--solver", help="of skgnh")
    add("--batch-size", type=int, help="of skgnh")
    add("--curvature-batch-size", type=int, help="of skgnh")
    add("--json", type=Path, help="write settings, medians and traces here")
    args = parser.parse_args(argv)
    defaults = {"rows": None, "epochs": 200, "seconds": 120.0, "repeat": 3}
    for name, value in (QUICK if args.quick else defaults).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.threads = args.threads or tuple(sorted({1, joblib.cpu_count()}))
    args.problems = args.problems.split(",")
    for name in args.problems:
        if name not in UNITS:
            parser.error(f"unknown problem {name!r}; choose among {', '.join(UNITS)}")
    return args


def _integers(text):
    return tuple(int(part) for part in text.split(","))


def problems(args):
    """Yield the problems one by one, so that only one is held."""
    if args.data:
        yield file_problem(
            args.data, args.task, args.hidden, args.activation, args.dtype, args.rows
        )
        return
    for name in args.problems:
        yield named_problem(name, args.data_dir, args.dtype, args.rows)


def main(argv=None):
    args = parse(argv)
    results = []
    for problem in problems(args):
        results.append(race_problem(problem, args))
        if args.json:
            # After each problem: a long race that is broken off has its results.
            record = {
                "environment": environment(),
                "settings": vars(args),
                "problems": results,
            }
            args.json.write_text(json.dumps(to_json(record)) + "\n")
    if len(results) > 1:
        print("\n" + table(results))
    return results


if __name__ == "__main__":
    main()
