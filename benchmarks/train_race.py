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
from race_results import lowest, medians, table, time_to, to_json, value_at
from race_runs import Trace, best_threads, peers, train

import skgnh

QUICK = {"rows": 500, "epochs": 20, "seconds": 3.0, "repeat": 1}
# The first weights of all solvers agree to the rounding of single precision.
SAME = 1e-4


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
    marks = best_of(traces, names)
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


def best_of(traces, names):
    """Target and times of scikit-learn's solvers, and with the mended L-BFGS."""
    groups = {"scikit-learn": names[:2]}
    if len(names) > 2:
        groups["with lbfgs*"] = names
    marks = {}
    for label, group in groups.items():
        target = min(lowest(traces[name]) for name in group)
        times = {
            name: time_to(traces[name].seconds, traces[name].objective, target)
            for name in group
        }
        marks[label] = {"target": target, "seconds": times}
    return marks


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
        "steps": trace.steps,
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
    rounds = [race(problem, args, threads, args.seed + k) for k in range(args.repeat)]
    result = {
        **problem.as_dict(),
        "threads": threads,
        "median": medians(rounds),
        "rounds": rounds,
    }
    print(table([result]), flush=True)
    return result


# ---- the command line ----------------------------------------------------------------


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
