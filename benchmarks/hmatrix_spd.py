"""Part g: is every factorisation positive definite?"""

import numpy as np

from skgnh.hmatrix import compress
from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import ACTIVATIONS, MLP, append_one
from skgnh.operators import GaussNewtonHessian

# In units of the mean diagonal.
DAMPINGS = (1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10)
ORDERS = ("natural", "diagonal", "angle", "kernel")
VECTORS = 4


def definiteness(args):
    """Count, over random networks and ways to compress them, what is positive.

    `factorised`: the factorisation succeeded; `positive`: ``x^T A^-1 x > 0`` for all
    vectors; `overflow`: squares of the curvature are not finite, nothing is asked.
    """
    rows = []
    for dtype in (np.float64, np.float32):
        counts = {share: _empty(dtype, share) for share in DAMPINGS}
        for seed in range(args.random_networks):
            rng = np.random.default_rng((args.seed, seed))
            H = random_network(rng, dtype)
            with np.errstate(over="ignore", invalid="ignore"):
                finite = np.isfinite(H.diagonal() ** 2).all()
            if not finite:
                for row in counts.values():
                    row["overflow"] += 1
                continue
            settings = _settings(rng, H.shape[0])
            try:
                matrix = compress(H, **settings)
            except np.linalg.LinAlgError:
                matrix = None
            for share, row in counts.items():
                _count(row, matrix, H, share, rng)
        rows += counts.values()
    return rows


def _empty(dtype, share):
    counts = ("networks", "overflow", "factorised", "positive", "P", "levels")
    return {"dtype": np.dtype(dtype).name, "damping": share} | dict.fromkeys(counts, 0)


def _count(row, matrix, H, share, rng):
    row["networks"] += 1
    if matrix is None:
        return
    row["P"] = max(row["P"], H.shape[0])
    row["levels"] = max(row["levels"], len(matrix.levels))
    # A matrix of zeros, of dead units alone, has no scale of its own.
    damping = share * float(H.diagonal().mean() or 1)
    try:
        factor = matrix.factor(damping)
    except np.linalg.LinAlgError:
        return
    row["factorised"] += 1
    X = rng.standard_normal((H.shape[0], VECTORS)).astype(H.dtype)
    row["positive"] += bool((np.einsum("pk,pk->k", X, factor.solve(X)) > 0).all())


def _settings(rng, P):
    leaf_size = int(rng.integers(1, max(2, min(32, P // 4)) + 1))
    return {
        "rank": int(rng.integers(leaf_size + 1)),
        "leaf_size": leaf_size,
        "global_rank": int(rng.choice([0, rng.integers(1, 9)])),
        "head_size": int(rng.choice([0, rng.integers(1, P)])) if P > 1 else 0,
        "order": str(rng.choice(ORDERS)),
        "random_state": int(rng.integers(2**31)),
    }


def random_network(rng, dtype):
    """A network in a random state: dead units, zero inputs and any scale among them."""
    hidden = tuple(rng.integers(1, 11, rng.integers(0, 4)).tolist())
    units = (int(rng.integers(1, 13)), *hidden, int(rng.integers(1, 8)))
    network = MLP(units, tuple(rng.choice([*ACTIVATIONS], len(hidden)).tolist()))
    n = int(rng.integers(1, 60))
    X = rng.standard_normal((n, units[0])) * 10.0 ** rng.uniform(-2, 2, units[0])
    X[:, rng.random(units[0]) < 0.2] = 0
    X[rng.random(n) < 0.1] = 0
    theta = rng.standard_normal(network.n_parameters) * 10.0 ** rng.uniform(-2, 1)
    for layer in network.unpack(theta):
        layer[rng.random(len(layer)) < 0.2] = 0
    ridge = rng.choice([0, 10.0 ** rng.uniform(-8, -2)]) * network.weight_mask()
    return GaussNewtonHessian(
        Linearization(network, theta.astype(dtype), append_one(X.astype(dtype))),
        LOSSES[str(rng.choice([*LOSSES]))],
        (rng.dirichlet(np.ones(n)) * (rng.random(n) > 0.1)).astype(dtype),
        ridge.astype(dtype),
    )
