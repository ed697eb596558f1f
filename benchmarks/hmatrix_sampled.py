"""Hierarchical matrices of sampled rows: iterations, builds, and trainings.

Part i: iterations by preconditioners of a sample and of all rows; part t: trainings of
an autoencoder. See the README beside this file.
"""

import argparse
import time
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
from hmatrix_cases import ACTIVATION, ALPHA, images, states
from hmatrix_report import table
from sklearn.exceptions import ConvergenceWarning

from skgnh import GaussNewtonAutoencoder
from skgnh.solvers import HMatrix
from skgnh.solvers.hmatrix_factor import HMatrixFactor
from skgnh.solvers.preconditioned import conjugate_gradients

RESIDUAL = 1e-3


def seconds(function, *given):
    """Return what a function returns, and the seconds of this process it took."""
    start = time.process_time()
    made = function(*given)
    return made, time.process_time() - start


def n_iterations(H, factor, damping, seed, most):
    """Return the iterations to the residual; one more than `most` if they end."""
    b = np.random.default_rng(seed).standard_normal(H.shape[0]).astype(H.dtype)
    iterates = conjugate_gradients(
        lambda x: H @ x + damping * x, b, lambda r: factor.solve(r, damping)
    )
    target, done = RESIDUAL * np.linalg.norm(b), 0
    for _, residual, _ in islice(iterates, most + 1):
        if np.linalg.norm(residual) <= target:
            return done
        done += 1
    return done


def built(solver, H):
    """Return the first of the choices, of the rows that the solver takes."""
    S = solver.sampled(H)
    made = solver.approximation(S, solver.choices(S)[0])
    return HMatrixFactor(H, [made], solver.random_state), S.linearization.n_rows


def iterations(args):
    """Compare samples with all rows, the structure being the same."""
    rows = []
    for name in args.networks:
        for state, H in states(name, args):
            mean = H.diagonal().mean()
            for epsilon in (None, "auto", *args.epsilons):
                made = built, HMatrix(args.storage, epsilon=epsilon), H
                (factor, n_rows), spent = seconds(*made)
                row = {"network": name, "state": state, "epsilon": str(epsilon)}
                row |= {"rows": n_rows, "build s": spent}
                for share in args.dampings:
                    counted = H, factor, share * mean, args.seed, args.max_iter
                    row[f"{share:g}"] = n_iterations(*counted)
                rows.append(row)
                print(row, flush=True)
    return rows


def trainings(args):
    """Train the autoencoder by several solvers, in alternation."""
    X, _ = images(784, args.data)
    order = np.random.default_rng(args.seed).permutation(len(X))[: args.train_rows]
    X, rows = X[order].astype(args.dtype), []
    for repetition in range(args.repeat):
        for solver in args.solvers:
            model = GaussNewtonAutoencoder(
                args.code,
                activation=ACTIVATION,
                code_activation=ACTIVATION,
                solver=solver,
                alpha=ALPHA,
                tol=0.0,
                n_iter_no_change=np.inf,
                random_state=args.seed,
                max_iter=args.steps,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                _, spent = seconds(model.fit, X)
            row = {"solver": solver, "repetition": repetition}
            rows.append(row | {"seconds": spent, "loss": model.loss_})
            print(rows[-1], flush=True)
    return rows


def parse(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--parts", default="it", help="i, t or both")
    add("--data", type=Path, help="MNIST as .npz of X_train, y_train; else OpenML")
    add("--networks", nargs="+", default=["784-16-784", "784-32-10"])
    add("--states", nargs="+", default=["early", "late"])
    add("--early", type=int, default=3)
    add("--late", type=int, default=30)
    add("--rows", type=int, default=5000)
    add("--train-rows", type=int, default=5000)
    add("--dtype", choices=("float32", "float64"), default="float64")
    add("--storage", type=int, default=128)
    add("--epsilons", type=float, nargs="*", default=[1 / 40])
    add("--dampings", type=float, nargs="+", default=[1e-1, 1e-2, 1e-3])
    add("--max-iter", type=int, default=300)
    add("--solvers", nargs="+", default=["cg", "kfac", "hmatrix"])
    add("--code", type=int, nargs="+", default=[16])
    add("--steps", type=int, default=20)
    add("--repeat", type=int, default=1)
    add("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv=None):
    args = parse(argv)
    parts = {"i": iterations, "t": trainings}
    made = {part: parts[part](args) for part in args.parts}
    for rows in made.values():
        print(table(rows))
    return made


if __name__ == "__main__":
    main()
