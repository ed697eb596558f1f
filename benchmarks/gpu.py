"""Products, K-FAC and an autoencoder's fit on a device, on the CPU and by a peer.

``python benchmarks/gpu.py --data mnist.npz``. Needs torch; curvlinops, where it is
installed, is the peer. See the README beside this file.
"""

import argparse
import json
import os
import warnings
from pathlib import Path
from time import perf_counter

# Before SciPy is imported: scikit-learn asks for it.
os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
import torch
from hmatrix_report import table
from sklearn import config_context, set_config
from sklearn.exceptions import ConvergenceWarning

from skgnh import GaussNewtonAutoencoder
from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian
from skgnh.solvers import KFAC

try:
    import curvlinops
except ImportError:
    curvlinops = None

# Encoders of about 2e5 and 1e7 parameters for 784 columns; what a CPU alone takes.
ENCODERS = {"2e5": (128,), "1e7": (2200, 1500)}
ROWS, ROWS_ON_CPU = 60_000, 3000
DAMPING, ALPHA, ITERATIONS = 1e-2, 1e-4, 8
PEER_BATCHES = (1024, 8192, None)
# Square matrices whose product tells the rate of the device.
SIDE = {"cuda": 8192, "cpu": 2048}


def widths_of(encoder, columns):
    return (columns, *encoder, *encoder[-2::-1], columns)


def rows_of(args, n):
    """Rows of pixels from 0 to 1, or random ones."""
    if args.data is None:
        return np.random.default_rng(0).random((n, args.columns), np.float32)
    X = np.load(args.data)["X_train"].reshape(-1, args.columns)[:n]
    return X.astype(np.float32) / np.float32(X.max())


class Case:
    """The same network and rows as our operators, on a device or not, and a peer's."""

    def __init__(self, encoder, X, device):
        self.X, self.device = X, device
        rng = np.random.default_rng(0)
        widths = widths_of(encoder, X.shape[1])
        self.network = MLP(widths, ("tanh",) * (len(widths) - 2))
        self.theta = self.network.initialize(rng, np.float32)
        self.v = rng.standard_normal(len(self.theta)).astype(np.float32)

    @property
    def flops(self):
        """Of a product: forward and back, without what would move the inputs."""
        first = self.network.offsets[1]
        return 4.0 * len(self.X) * (2 * len(self.theta) - first)

    def there(self, x):
        return torch.asarray(x, device=self.device)

    def ours(self, place):
        n, P = len(self.X), len(self.theta)
        given = self.theta, append_one(self.X), np.full(n, 1 / n, np.float32)
        theta, inputs, weights = map(place, given)
        ridge = place(np.full(P, ALPHA, np.float32))
        rows = Linearization(self.network, theta, inputs)
        return GaussNewtonHessian(rows, LOSSES["identity"], weights, ridge)

    def module(self):
        """The same network as a module of torch, and its parameters."""
        layers = []
        for matrix in self.network.unpack(self.theta):
            linear = torch.nn.Linear(matrix.shape[1] - 1, matrix.shape[0])
            with torch.no_grad():
                linear.weight.copy_(torch.asarray(matrix[:, :-1].copy()))
                linear.bias.copy_(torch.asarray(matrix[:, -1].copy()))
            layers += [linear, torch.nn.Tanh()]
        module = torch.nn.Sequential(*layers[:-1]).to(self.device)
        return module, list(module.parameters())

    def batches(self, size):
        X = self.there(self.X)
        return [(x, x) for x in (X.split(size) if size else [X])]

    def flat(self, v):
        """A vector in the peer's order: all weights of a layer, then its biases."""
        parts = [(m[:, :-1], m[:, -1]) for m in self.network.unpack(v)]
        return np.concatenate([x.ravel() for pair in parts for x in pair])


def waited(device, work):
    """Return what some work gives, and the seconds until the device has done it."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = perf_counter()
    made = work()
    wait()
    return made, perf_counter() - start


def in_turn(device, works, repeat):
    """Return the seconds of each work: medians of rounds of all, after one to warm."""
    seconds = {name: [] for name in works}
    for k in range(repeat + 1):
        for name, work in works.items():
            taken = waited(device, work)[1]
            if k:
                seconds[name].append(taken)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


def gemm_rate(device, repeat):
    """Return the floating-point operations a second of a large product."""
    A = torch.rand((SIDE[device],) * 2, device=device)
    return 2 * SIDE[device] ** 3 / in_turn(device, {"": lambda: A @ A}, repeat)[""]


def best_batches(case, make, use):
    """Return the peer's work with the batches that it is fastest with."""
    fits = [size for size in PEER_BATCHES if size is None or size < len(case.X)]
    best = None
    for size in fits:
        try:
            operator = make(case.batches(size))
            use(operator)
            taken = waited(case.device, lambda operator=operator: use(operator))[1]
        except torch.OutOfMemoryError:
            continue
        if best is None or taken < best[0]:
            best = taken, operator
    return best[1]


def product(case, repeat, on_cpu):
    """Seconds of a product with the Gauss-Newton Hessian, and how far it is off."""
    H, v = case.ours(case.there), case.there(case.v)
    works, off = {"device": lambda: H @ v}, {}
    found = np.asarray((H @ v).cpu())
    if on_cpu:
        own = case.ours(np.asarray)
        works["cpu"] = lambda: own @ case.v
        off["cpu"] = distance(own @ case.v, found)
    if curvlinops is not None:
        module, parameters = case.module()
        loss, u = torch.nn.MSELoss(), case.there(case.flat(case.v))

        def make(batches):
            kind = curvlinops.GGNLinearOperator
            return kind(module, loss, parameters, batches, check_deterministic=False)

        G = best_batches(case, make, lambda G: G @ u)
        works["peer"] = lambda: G @ u
        # Its squares are not halved, and it has no ridge.
        theirs = 0.5 * np.asarray((G @ u).cpu())
        off["peer"] = distance(theirs, case.flat(found - np.float32(ALPHA) * case.v))
    return in_turn(case.device, works, repeat), off


def distance(x, y):
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


def kfac_step(case, repeat, on_cpu):
    """Seconds of making K-FAC from one probe and solving with it once."""

    def step(H, v):
        return KFAC(n_probes=1, direct=True).factor(H).solve(v, DAMPING)

    H, v = case.ours(case.there), case.there(case.v)
    works = {"device": lambda: step(H, v)}
    if on_cpu:
        own = case.ours(np.asarray)
        works["cpu"] = lambda: step(own, case.v)
    if curvlinops is not None:
        module, parameters = case.module()
        loss, u = torch.nn.MSELoss(), case.there(case.flat(case.v))
        options = {"check_deterministic": False, "separate_weight_and_bias": False}

        def make(batches):
            return batches

        def use(batches):
            kind = curvlinops.KFACLinearOperator
            K = kind(module, loss, parameters, batches, **options)
            return curvlinops.KFACInverseLinearOperator(K, damping=DAMPING) @ u

        batches = best_batches(case, make, use)
        works["peer"] = lambda: use(batches)
    return in_turn(case.device, works, repeat), {}


def fit(case, repeat, on_cpu):
    """Seconds an iteration of a fit by default but for its penalty, and its loss."""
    hidden = case.network.layer_units[1:-1]
    model = GaussNewtonAutoencoder(
        hidden[: (len(hidden) + 1) // 2],
        code_activation="tanh",
        alpha=ALPHA,
        max_iter=ITERATIONS,
        standardize=False,
        random_state=0,
    )
    X, seconds, losses = case.there(case.X), {}, {}
    places = {"device": X} | ({"cpu": case.X} if on_cpu else {})
    for name, rows in places.items():
        device = case.device if name == "device" else "cpu"
        with config_context(array_api_dispatch=name == "device"):
            taken = waited(device, lambda rows=rows: model.fit(rows))[1]
        seconds[name], losses[name] = taken / model.n_iter_, float(model.loss_)
    gap = {"cpu": losses["cpu"] / losses["device"] - 1} if on_cpu else {}
    return seconds, gap


PARTS = {"product": product, "kfac": kfac_step, "fit": fit}


def run(args):
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu":
        print("No GPU: torch on the CPU, fewer rows.")
    else:
        print(torch.cuda.get_device_name())
        # What is kept of forward passes and in chunks may take a good part of it.
        set_config(working_memory=torch.cuda.mem_get_info()[0] / 2**22)
    if curvlinops is None:
        print("curvlinops is not installed: no peer.")
    n = args.rows or (ROWS if device == "cuda" else ROWS_ON_CPU)
    rate, results = gemm_rate(device, args.repeat), []
    X = rows_of(args, n)
    print(
        f"{len(X)} rows, {rate / 1e12:.2f} TFLOP/s, {torch.get_num_threads()} threads"
    )
    for name, encoder in args.encoders.items():
        case = Case(encoder, X, device)
        # The large network takes the processor minutes.
        on_cpu = len(case.theta) * n < args.most_on_cpu
        for part in args.parts:
            seconds, off = PARTS[part](case, args.repeat, on_cpu)
            share = case.flops / rate / seconds["device"] if part == "product" else None
            results.append(
                {"P": name, "part": part, "seconds": seconds, "off": off}
                | {"share": share, "device": device, "n": n}
            )
            torch.cuda.empty_cache()
    return results


def report(results):
    """The table: what CPU and peer take as multiples of the device's seconds."""
    rows = []
    for row in results:
        seconds, own = row["seconds"], row["seconds"]["device"]
        line = {"P": row["P"], "part": row["part"], "device s": f"{own:.4f}"}
        for name in ("cpu", "peer"):
            ratio = f"{seconds[name] / own:.2f}" if name in seconds else ""
            line[f"{name} / device"] = ratio
        line["of GEMM"] = "" if row["share"] is None else f"{row['share']:.2f}"
        line["off"] = ", ".join(f"{name} {x:.0e}" for name, x in row["off"].items())
        rows.append(line)
    return table(rows)


def encoders(text):
    return {text: tuple(map(int, text.split(",")))}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="file with X_train; random without")
    parser.add_argument("--columns", type=int, default=784)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--encoders", type=encoders, default=ENCODERS)
    parser.add_argument("--parts", type=lambda text: text.split(","), default=PARTS)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--most-on-cpu", type=float, default=2e10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore", ConvergenceWarning)
    results = run(args)
    print(report(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
