"""Time and memory of a Gauss-Newton product, in gradients.

    python benchmarks/products.py

Each ratio is the median over alternating runs in one process, with the lower and upper
quartile. The memory is the peak that a product allocates beyond its operator.
"""

import argparse
import tracemalloc
from time import perf_counter

import numpy as np
from threadpoolctl import threadpool_limits

from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.objective import Objective

NETWORKS = {
    "classifier 784-120-50-10": ((784, 120, 50, 10), "relu", "softmax"),
    "wide outputs 784-110-100": ((784, 110, 100), "relu", "softmax"),
    "deep 100-250-200-100-20": ((100, 250, 200, 100, 20), "tanh", "softmax"),
    "autoencoder 400-115-16-115-400": ((400, 115, 16, 115, 400), "tanh", "identity"),
}


def problem(units, activation, output, n, dtype, seed=0):
    """Return an objective on random data and a start."""
    rng = np.random.default_rng(seed)
    network = MLP(units, (activation,) * (len(units) - 2))
    inputs = append_one(rng.standard_normal((n, units[0])).astype(dtype))
    if output == "softmax":
        targets = np.eye(units[-1], dtype=dtype)[rng.integers(0, units[-1], n)]
    else:
        targets = rng.standard_normal((n, units[-1])).astype(dtype)
    weights = np.full(n, 1 / n, dtype)
    ridge = np.zeros(network.n_parameters, dtype)
    objective = Objective(network, LOSSES[output], inputs, targets, weights, ridge)
    return objective, network.initialize(rng, dtype)


def timed(function):
    start = perf_counter()
    function()
    return perf_counter() - start


def measure(objective, theta, repeat):
    """Return the ratios product / gradient and the seconds of a product."""
    _, gradient, H = objective.linearize(theta)
    H @ gradient
    pairs = [
        (timed(lambda: H @ gradient), timed(lambda: objective.linearize(theta)))
        for _ in range(repeat)
    ]
    products, gradients = np.array(pairs).T
    return np.percentile(products / gradients, [50, 25, 75]), np.median(products)


def peak(objective, theta):
    """Return the MiB that a product allocates beyond its operator."""
    _, gradient, H = objective.linearize(theta)
    H @ gradient
    tracemalloc.start()
    H @ gradient
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=9)
    arguments = parser.parse_args()
    print("network, dtype, threads: P, product / gradient (quartiles), seconds")
    for name, network in NETWORKS.items():
        for dtype in (np.float64, np.float32):
            objective, theta = problem(*network, arguments.rows, dtype)
            for threads in (1, 2):
                with threadpool_limits(threads):
                    ratio, seconds = measure(objective, theta, arguments.repeat)
                print(
                    f"{name}, {dtype.__name__}, {threads}: {len(theta):,}, "
                    f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f}), {seconds:.3f}"
                )
    print("outputs d: MiB a product allocates (100-100-d, float64)")
    for d in (1, 10, 100, 1000):
        objective, theta = problem(
            (100, 100, d), "tanh", "identity", arguments.rows, np.float64
        )
        print(f"{d}: {peak(objective, theta):.1f}")


if __name__ == "__main__":
    main()
