"""Positive semidefinite matrices: kernels, of low rank, badly scaled, of networks."""

import numpy as np

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import ACTIVATIONS, MLP, append_one
from skgnh.operators import ExactHessian, GaussNewtonHessian

KERNELS = {
    "exponential": lambda d: np.exp(-d),
    "matern": lambda d: (1 + np.sqrt(3) * d) * np.exp(-np.sqrt(3) * d),
    "gaussian": lambda d: np.exp(-(d**2) / 2),
}


def points(n, dimension):
    """Random points of the unit cube, in the order of the first coordinate."""
    x = np.random.default_rng(dimension).uniform(0, 1, (n, dimension))
    return x[np.argsort(x[:, 0])]


def kernel(name, x, length=0.2):
    distances = np.sqrt(((x[:, None] - x) ** 2).sum(axis=2)) / length
    return KERNELS[name](distances)


def low_rank(P, rank, seed=0):
    F = np.random.default_rng(seed).standard_normal((P, rank))
    return F @ F.T


def scaled(array, decades, seed=1):
    """The matrix with rows and columns scaled by 10^-decades to 10^decades."""
    s = 10.0 ** np.random.default_rng(seed).uniform(-decades, decades, len(array))
    return s[:, None] * array * s


def repeated(array, times):
    index = np.repeat(np.arange(len(array)), times)
    return array[np.ix_(index, index)]


def with_zeros(array, share=0.3, seed=2):
    """The matrix with some rows and columns set to zero, as dead units leave them."""
    alive = np.random.default_rng(seed).random(len(array)) >= share
    return alive[:, None] * array * alive


def random_network(rng, ridge=None):
    """The Gauss-Newton Hessian of a small network in a random state, zeros included."""
    hidden = tuple(rng.integers(1, 6, rng.integers(0, 4)))
    layer_units = tuple(map(int, (rng.integers(1, 6), *hidden, rng.integers(1, 5))))
    network = MLP(layer_units, tuple(map(str, rng.choice([*ACTIVATIONS], len(hidden)))))
    n = int(rng.integers(1, 40))
    X = rng.standard_normal((n, layer_units[0]))
    if rng.random() < 0.3:
        X *= 10.0 ** rng.uniform(-3, 3, layer_units[0])
    theta = rng.standard_normal(network.n_parameters) * 10.0 ** rng.uniform(-2, 0.5)
    if rng.random() < 0.3:
        theta[rng.random(len(theta)) < 0.4] = 0
    output = str(rng.choice(["identity", "logistic", "softmax"]))
    if ridge is None:
        ridge = 10.0 ** rng.uniform(-8, -2) if rng.random() < 0.5 else 0.0
    return GaussNewtonHessian(
        Linearization(network, theta, append_one(X)),
        LOSSES[output],
        rng.dirichlet(np.ones(n)),
        ridge * network.weight_mask(),
    )


def digits_hessian(n=150, hidden=(6,), ridge=1e-5, dtype=np.float64):
    """An ill-conditioned Gauss-Newton Hessian: a softmax network on images."""
    from sklearn.datasets import load_digits

    X = (load_digits().data[:n, 16:48] / 16).astype(dtype)
    network = MLP((X.shape[1], *hidden, 10), ("tanh",) * len(hidden))
    theta = network.initialize(np.random.default_rng(0), dtype)
    return GaussNewtonHessian(
        Linearization(network, theta, append_one(X)),
        LOSSES["softmax"],
        np.full(n, 1 / n, dtype),
        (ridge * network.weight_mask()).astype(dtype),
    )


def correlated_hessian(n=300, seed=0):
    """A Gauss-Newton Hessian whose features hang together in no axis's direction."""
    rng = np.random.default_rng(seed)
    network = MLP((10, 6, 3), ("tanh",))
    axes, _ = np.linalg.qr(rng.standard_normal((10, 10)))
    X = rng.standard_normal((n, 10)) @ (np.geomspace(1e-2, 1, 10)[:, None] * axes)
    return GaussNewtonHessian(
        Linearization(network, network.initialize(rng), append_one(X)),
        LOSSES["softmax"],
        np.full(n, 1 / n),
        1e-6 * network.weight_mask(),
    )


def deep_hessian(depth=30, width=4, n=3, seed=0, dtype=np.float64):
    """The exact Hessian of a deep, narrow network whose biases have no ridge."""
    rng = np.random.default_rng(seed)
    network = MLP((2, *[width] * depth, 2), ("tanh",) * depth)
    theta = (1.2 * network.initialize(rng)).astype(dtype)
    inputs = append_one(rng.standard_normal((n, 2)).astype(dtype))
    targets = 3 * rng.standard_normal((n, 2)).astype(dtype)
    weights = rng.dirichlet(np.ones(n)).astype(dtype)
    ridge = (1e-3 * network.weight_mask()).astype(dtype)
    linearization = Linearization(network, theta, inputs)
    return ExactHessian(linearization, LOSSES["identity"], targets, weights, ridge)


def symmetric(array):
    return (array + array.T) / 2


def nested(K, m, r, seed=0):
    """A matrix of K leaves whose far field is conditioned on r indices of each node.

    Within a node skeletons speak for the others weakly, and across nodes strongly, so
    that they are what a greedy choice finds.
    """
    rng = np.random.default_rng(seed)
    blocks = [np.eye(m) + 0.1 / m * low_rank(m, m, seed + k) for k in range(K)]
    skeletons = [rng.permutation(m)[:r] for _ in range(K)]
    if K == 1:
        return blocks[0]
    U = np.zeros((K * m, K * r))
    for k, (D, S) in enumerate(zip(blocks, skeletons, strict=True)):
        U[k * m : (k + 1) * m, k * r : (k + 1) * r] = D[:, S] @ np.linalg.inv(
            D[np.ix_(S, S)]
        )
    inner = [D[np.ix_(S, S)] for D, S in zip(blocks, skeletons, strict=True)]
    C = _upper(inner, r, rng)
    out = U @ C @ U.T
    for k, D in enumerate(blocks):
        out[k * m : (k + 1) * m, k * m : (k + 1) * m] = D
    return symmetric(out)


def _upper(inner, r, rng):
    """The matrix of the skeletons: its diagonal blocks given, nested itself."""
    if len(inner) == 1:
        return inner[0]
    half = len(inner) // 2
    left, right = _upper(inner[:half], r, rng), _upper(inner[half:], r, rng)
    # Coupled through the first r indices of either half, weakly enough for a positive
    # definite whole: the norm of the whitened coupling is below one.
    W, V = (
        block[:, :r] @ np.linalg.inv(np.linalg.cholesky(block[:r, :r])).T
        for block in (left, right)
    )
    Q, _ = np.linalg.qr(rng.standard_normal((r, r)))
    coupling = W @ (0.8 * Q) @ V.T
    return np.block([[left, coupling], [coupling.T, right]])


# Of 70 indices each, so that leaves differ in length.
PSD = {
    "rank 1": lambda: low_rank(70, 1),
    "rank 3": lambda: low_rank(70, 3),
    "rank 10": lambda: low_rank(70, 10),
    "full rank": lambda: low_rank(70, 90),
    "repeated rows": lambda: repeated(low_rank(35, 5), 2),
    "all rows equal": lambda: np.ones((70, 70)),
    "dead rows": lambda: with_zeros(low_rank(70, 10)),
    "wild scales": lambda: scaled(low_rank(70, 90), 6),
    "wild scales, rank 10": lambda: scaled(low_rank(70, 10), 6),
    "diagonal": lambda: np.diag(np.geomspace(1e-6, 1e6, 70)),
    "zero": lambda: np.zeros((70, 70)),
    "exponential kernel": lambda: kernel("exponential", points(70, 1)),
    "matern kernel": lambda: kernel("matern", points(70, 2)),
    "network": lambda: digits_hessian(20, (2,), ridge=0).toarray()[20:90, 20:90],
}
