"""Errors and seconds of cross approximation against singular value decompositions.

    python benchmarks/cross_approximation.py --quick
    python benchmarks/cross_approximation.py --json cross.json

The root J_S of networks at their start and trained. `error` is the Frobenius error over
that of the truncated SVD of the same rank: the worst of the seeds. ARPACK and the
randomised SVD (10 more columns, 2 passes) get exact products with J_S, not an array.
"""

import argparse
import json
import warnings
from time import perf_counter

import numpy as np
from scipy.sparse.linalg import svds
from sklearn.datasets import load_digits, make_friedman1
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from skgnh import GaussNewtonMLPClassifier, GaussNewtonMLPRegressor
from skgnh.operators import GaussNewtonHessian, compress_jacobian


def networks(quick):
    """Yield names and Hessians."""
    images, labels = load_digits(return_X_y=True)
    images, labels = images[:300] / 16, labels[:300]
    X, y = make_friedman1(1000, random_state=0)
    y = (y - y.mean()) / y.std()
    softmax = GaussNewtonMLPClassifier(hidden_layer_sizes=(16,), random_state=0)
    tanh = GaussNewtonMLPRegressor(
        hidden_layer_sizes=(30, 20), activation="tanh", random_state=0
    )
    for state, steps in {"start": 1, "trained": 50}.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            if not quick:
                softmax.set_params(max_iter=steps).fit(images, labels)
                yield (
                    f"digits 64-16-10 {state}",
                    GaussNewtonHessian.from_estimator(softmax, images, labels),
                )
            tanh.set_params(max_iter=steps).fit(X, y)
            yield (
                f"friedman1 10-30-20-1 {state}",
                GaussNewtonHessian.from_estimator(tanh, X, y),
            )


def randomised(J, rank, rng, more=10, passes=2):
    """Return the singular value decomposition of a random projection."""
    Q = np.linalg.qr(J @ rng.standard_normal((J.shape[1], rank + more)))[0]
    for _ in range(passes):
        Q = np.linalg.qr(J @ np.linalg.qr(J.T @ Q)[0])[0]
    U, s, Vt = np.linalg.svd((J.T @ Q).T, full_matrices=False)
    return Q @ U[:, :rank], s[:rank], Vt[:rank].T


def arpack(J, rank, rng):
    U, s, Vt = svds(J, k=rank, v0=rng.standard_normal(min(J.shape)))
    return U, s, Vt.T


def crosses(J, H, rank, seed):
    low = compress_jacobian(H, rank=rank, random_state=seed)
    return low.left, low.values, low.right


def measure(H, rank, seeds):
    """Return, for each way, the worst error over the SVD's and the median seconds."""
    A = H.root @ np.eye(H.shape[0], dtype=H.dtype)
    tail = np.linalg.norm(np.linalg.svd(A, compute_uv=False)[rank:])
    ways = {
        "cross": lambda H, k: crosses(H.root, H, rank, k),
        "randomised": lambda H, k: randomised(H.root, rank, np.random.default_rng(k)),
        "arpack": lambda H, k: arpack(H.root, rank, np.random.default_rng(k)),
    }
    out = {name: {"errors": [], "seconds": []} for name in ways}
    for seed in range(seeds):
        for name, way in ways.items():
            # Anew, so that every way makes what it keeps.
            fresh = GaussNewtonHessian(H.linearization, H.loss, H.weights, H.ridge)
            start = perf_counter()
            U, s, V = way(fresh, seed)
            out[name]["seconds"].append(perf_counter() - start)
            error = np.linalg.norm(A - (U * s) @ V.T) / tail
            out[name]["errors"].append(float(error))
    return {"relative": float(tail / np.linalg.norm(A)), **out}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one network, three ranks")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    ranks = (4, 16, 64) if arguments.quick else (4, 8, 16, 32, 64)
    results = []
    print("network rank | SVD's error | cross, randomised, ARPACK: error (seconds)")
    with threadpool_limits(arguments.threads):
        for name, H in networks(arguments.quick):
            print(f"{name}: root {H.root.shape[0]} x {H.root.shape[1]}")
            for rank in ranks:
                row = measure(H, rank, arguments.seeds)
                results.append({"network": name, "rank": rank, **row})
                ways = ", ".join(
                    f"{max(row[way]['errors']):.2f} "
                    f"({np.median(row[way]['seconds']):.3f})"
                    for way in ("cross", "randomised", "arpack")
                )
                print(f"  {rank} | {row['relative']:.1e} | {ways}", flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
