"""Hierarchical matrices of Gauss-Newton Hessians, measured.

Part a: errors at equal storage; b: iterations; c: eigenvalues; d: scaling in P; e: the
entry sampler; f: kernel matrices; g: definiteness; h: errors by storage. See the
README beside this file.
"""

import argparse
import json
import platform
from pathlib import Path

import joblib
import numpy as np
import scipy
from hmatrix_cases import NETWORKS, QUICK_MNIST, QUICK_NETWORKS, network_of, states
from hmatrix_measures import (
    Approximations,
    accuracy,
    best_errors,
    eigenvalues,
    iterations_table,
    preconditioning,
)
from hmatrix_report import plots, table
from hmatrix_scaling import (
    block_times,
    entry_errors,
    entry_times,
    kernels,
    large,
    scaling,
    slopes,
    sources,
)
from hmatrix_spd import definiteness
from hmatrix_storage import storages
from sklearn import config_context

import skgnh

STATES = ("start", "early", "late")
FULL = {
    "rows": 1000,
    "train_rows": 5000,
    "storage": 128,
    "to_parameters": 256_000,
    "large_parameters": 100_000,
    "source_parameters": (16_000, 64_000),
    "sampler_parameters": (10_000, 100_000, 1_000_000),
    "sampler_rows": 60_000,
    "pairs": 2000,
    "draws": 200,
    "points": 20_000,
    "kernel_global_rank": 2048,
    "random_networks": 2000,
}
QUICK = {
    "rows": 200,
    "train_rows": 500,
    "storage": 64,
    "to_parameters": 32_000,
    "large_parameters": 16_000,
    "source_parameters": (4000,),
    "sampler_parameters": (10_000, 100_000),
    "sampler_rows": 2000,
    "pairs": 100,
    "draws": 30,
    "points": 2000,
    "kernel_global_rank": 512,
    "random_networks": 100,
}


# ---- the parts -----------------------------------------------------------------------


def run_networks(args, parts, save):
    """Parts a, b and c, whose approximations are made once for each case."""
    measures = {"a": accuracy, "b": preconditioning, "c": eigenvalues}
    for name in args.networks:
        for state, H in states(name, args):
            case = {"network": name, "state": state}
            print(f"{name}, {state}: P {H.shape[0]}, {args.rows} rows", flush=True)
            with config_context(working_memory=args.working_memory):
                made = Approximations(H, args)
                for part in filter(args.parts.__contains__, measures):
                    rows = measures[part](case, made, args)
                    parts.setdefault(part, []).extend(rows)
                    save()
                    show(part, rows, args)


def show(part, rows, args):
    """Print the tables of a, b or c."""
    if part == "b":
        for target in args.residuals:
            print(f"\nPart b: iterations (and seconds) to a residual of {target:g}")
            print(table(iterations_table(rows, target)), flush=True)
        return
    print(f"\nPart {part}")
    print(table(rows))
    if part == "a":
        print("\nbest of the H-matrices\n" + table(best_errors(rows)))
    print(flush=True)


def run_others(args, parts, save):
    """Parts d to h."""
    jobs = {
        "d": {"d": scaling, "d large": large, "d sources": sources},
        "e": {
            "e entries": entry_times,
            "e errors": entry_errors,
            "e block": block_times,
        },
        "f": {"f": kernels},
        "g": {"g": definiteness},
        "h": {"h": storages},
    }
    for part in filter(args.parts.__contains__, jobs):
        for name, job in jobs[part].items():
            parts[name] = job(args)
            save()
            print(f"\nPart {name}\n{table(parts[name])}", flush=True)
            if name == "d" and len(parts[name]) > 1:
                parts["d slopes"] = slopes(parts[name])
                print("\n" + table(parts["d slopes"]), flush=True)


# ---- the command line ----------------------------------------------------------------


def environment():
    return {
        "machine": platform.machine(),
        "cores": joblib.cpu_count(),
        "python": platform.python_version(),
        "skgnh": skgnh.__version__,
        "scipy": scipy.__version__,
        "numpy": np.__version__,
    }


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--parts", type=_names, default=tuple("abcdefg"), help="such as a,b,d")
    add("--data", type=Path, help="MNIST as .npz of X_train, y_train; else OpenML")
    add("--quick", action="store_true", help=f"a smoke run: {QUICK}")
    add("--json", type=Path, help="write settings and all rows here")
    add("--plot", type=Path, help="write plots into this folder")
    add("--seed", type=int, default=0)
    add("--working-memory", type=int, default=4096, help="MiB, of parts a to c")
    group = parser.add_argument_group("parts a, b, c")
    add = group.add_argument
    add("--networks", type=_names, help=f"comma-separated, of {', '.join(NETWORKS)}")
    add("--states", type=_names, default=STATES, help="start,early,late")
    add("--early", type=int, default=3, help="iterations of training")
    add("--late", type=int, default=30, help="iterations of training")
    add("--train-rows", type=int, help="rows trained on")
    add("--rows", type=int, help="rows of the curvature")
    add("--dtype", choices=("float32", "float64"), default="float64")
    add("--storage", type=int, help="numbers a parameter")
    add("--vectors", type=int, default=32, help="random vectors of the errors")
    add("--dampings", type=_floats, default=(1e-1, 1e-2, 1e-3, 1e-4, 1e-5))
    add("--residuals", type=_floats, default=(1e-3, 1e-6))
    add("--max-iter", type=int, default=500)
    add("--eigenvalues", type=int, default=20)
    group = parser.add_argument_group("part d")
    add = group.add_argument
    add("--from-parameters", type=int, default=8000)
    add("--to-parameters", type=int)
    add("--large-parameters", type=int)
    add("--source-parameters", type=_integers, help="builds from entries or products")
    add("--scaling-rows", type=int, default=500, help="also of part e")
    add("--rank", type=int, default=32)
    add("--global-rank", type=int, default=32)
    group = parser.add_argument_group("part e")
    add = group.add_argument
    add("--sampler-parameters", type=_integers)
    add("--sampler-rows", type=int)
    add("--block", type=int, default=256)
    add("--pairs", type=int)
    add("--draws", type=int)
    group = parser.add_argument_group("part f")
    add = group.add_argument
    add("--points", type=int)
    add("--dimension", type=int, default=3)
    add("--bandwidth", type=float, default=0.5)
    add("--kernel-rank", type=int, default=64)
    add("--kernel-global-rank", type=int)
    add("--tols", type=_floats, default=(1e-2, 1e-3))
    add("--kernel-dampings", type=_floats, default=(10, 1, 0.1))
    add("--kernel-orders", type=_names, default=("natural", "angle", "kernel"))
    parser.add_argument("--random-networks", type=int, help="of part g")
    group = parser.add_argument_group("part h, of --networks too")
    group.add_argument("--storages", type=_integers, default=(64, 256, 512))
    group.add_argument("--kernel-points", type=int, default=6500)
    args = parser.parse_args(argv)
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.networks is None:
        quick = QUICK_NETWORKS + (QUICK_MNIST if args.data else ())
        args.networks = quick if args.quick else NETWORKS
    try:
        for name in args.networks:
            network_of(name)
    except ValueError:
        parser.error(f"{name!r} is no network such as 784-16-784")
    unknown = set(args.parts) - set("abcdefgh") | set(args.states) - set(STATES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return args


def _names(text):
    return tuple(text.split(","))


def _integers(text):
    return tuple(int(part) for part in text.split(","))


def _floats(text):
    return tuple(float(part) for part in text.split(","))


def main(argv=None):
    args = parse(argv)
    parts = {}
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(args).items()
    }

    def save():
        # After each table: a long run that is broken off has its results.
        if args.json:
            record = {
                "environment": environment(),
                "settings": settings,
                "parts": parts,
            }
            args.json.write_text(json.dumps(record) + "\n")

    if set(args.parts) & set("abc"):
        run_networks(args, parts, save)
    run_others(args, parts, save)
    if args.plot:
        plots(parts, args.plot)
    return parts


if __name__ == "__main__":
    main()
