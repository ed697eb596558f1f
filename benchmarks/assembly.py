"""Seconds of the dense Gauss-Newton Hessian against those of BLAS on the Jacobian.

    python benchmarks/assembly.py --quick
    python benchmarks/assembly.py --json assembly.json

`toarray` against ``J.T @ J``, of which NumPy takes one triangle (syrk), with the root J
given for nothing, and with J made. The ways take turns; each ratio is the median over
the rounds with the lower and upper quartile, and above 1 `toarray` is faster.
"""

import argparse
import json
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_limits

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian
from skgnh.operators.assembly import is_by_neurons

# Widths up to the outputs, activations of the outputs.
NETWORKS = {
    "one layer": ((50,), "identity"),
    "narrow": ((20, 20), "identity"),
    "wide": ((50, 40), "softmax"),
    "wide first layer": ((100, 20), "softmax"),
    "many units of few inputs": ((4, 100), "identity"),
    "deep and narrow": ((10, 10, 10, 10), "softmax"),
    "deep": ((20, 25, 25, 25), "identity"),
}
OUTPUTS = (1, 2, 3, 5, 10, 30, 100)


def hessian(units, output, n, dtype, seed=0):
    """Return the operator of a network at its start over random rows."""
    rng = np.random.default_rng(seed)
    network = MLP(units, ("tanh",) * (len(units) - 2))
    inputs = append_one(rng.standard_normal((n, units[0])).astype(dtype))
    linearization = Linearization(network, network.initialize(rng, dtype), inputs)
    return GaussNewtonHessian(linearization, LOSSES[output], np.full(n, 1 / n, dtype))


def made(H):
    """Return the root as an array."""
    walk = H.root.walk_anew(H.shape[0])
    (J,) = H.linearization.collect(lambda rows, made: [made.array()], *walk)
    return J.reshape(H.root.shape)


def product_of(J):
    return J.T @ J


def timed(function, least=0.03):
    """Return the seconds of a call, the best of those within `least` seconds."""
    best, begin = np.inf, perf_counter()
    while perf_counter() - begin < least:
        start = perf_counter()
        function()
        best = min(best, perf_counter() - start)
    return best


def rate(dtype, size=1500):
    """Return the operations a second of a large matrix product."""
    A = np.random.default_rng(0).standard_normal((size, size)).astype(dtype)
    return 2 * size**3 / min(timed(lambda: A @ A) for _ in range(5))


def quartiles(values):
    return [float(x) for x in np.percentile(values, [50, 25, 75])]


def measure(H, repeat):
    """Return the seconds, ratios and error of one operator."""
    J, ours = made(H), H.toarray()
    error = np.max(np.abs(J.T @ J - ours)) / np.max(np.abs(ours))

    def fresh():
        return GaussNewtonHessian(H.linearization, H.loss, H.weights, H.ridge)

    rounds = [
        (
            timed(lambda: fresh().toarray()),
            timed(lambda: product_of(J)),
            timed(lambda: product_of(made(fresh()))),
        )
        for _ in range(repeat)
    ]
    array, product, both = np.array(rounds).T
    neurons = is_by_neurons(H.root)
    return {
        "parameters": H.shape[0],
        "way": "neurons" if neurons else "root",
        "seconds": float(np.median(array)),
        "jacobian_given": quartiles(product / array),
        "jacobian_made": quartiles(both / array),
        # Those of J^T J in one triangle, which is what is asked for.
        "root_operations": H.root.shape[0] * H.shape[0] ** 2,
        "error": float(error),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three networks, 3 rounds")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-mib", type=float, default=800, help="largest J")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    networks, repeat, outputs = NETWORKS, arguments.repeat, OUTPUTS
    if arguments.quick:
        networks = {name: NETWORKS[name] for name in ("one layer", "narrow", "wide")}
        repeat, outputs = 3, (1, 5, 30)
    results = []
    with threadpool_limits(arguments.threads):
        speed = rate(arguments.dtype)
        print(f"GEMM: {speed / 1e9:.1f} billion operations a second")
        print("network d P way seconds | J given | J made | share of GEMM | error")
        for name, (units, output) in networks.items():
            for d in outputs:
                link = "logistic" if output == "softmax" and d == 1 else output
                shape = (*units, d)
                H = hessian(shape, link, arguments.rows, arguments.dtype)
                if np.prod(H.root.shape) * H.dtype.itemsize > arguments.max_mib * 2**20:
                    continue
                row = {"network": name, "units": shape, "outputs": d}
                row |= measure(H, repeat)
                # Above 1: structure spares operations that J^T J takes.
                row["gemm_share"] = row["root_operations"] / row["seconds"] / speed
                results.append(row)
                spread = [
                    "{:.2f} ({:.2f} to {:.2f})".format(*row[key])
                    for key in ("jacobian_given", "jacobian_made")
                ]
                print(
                    f"{name} {d} {row['parameters']:,} {row['way']} "
                    f"{row['seconds']:.4f} | {spread[0]} | {spread[1]} | "
                    f"{row['gemm_share']:.2f} | {row['error']:.0e}",
                    flush=True,
                )
                if arguments.json:
                    with open(arguments.json, "w", encoding="utf-8") as file:
                        json.dump({"gemm": speed, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
