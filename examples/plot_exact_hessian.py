"""
What Gauss-Newton leaves out
============================

The Gauss-Newton Hessian has no negative eigenvalues: it drops what the residuals
contribute. :class:`~skgnh.operators.ExactHessian` has them, and a deep, narrow network
can be solved with it in time linear in the depth.
"""

# %%
# Two spectra
# -----------
# A network on its way: after three iterations the residuals are large, at the end they
# are what is noise.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_friedman1
from sklearn.exceptions import ConvergenceWarning

from skgnh import GaussNewtonMLPRegressor
from skgnh.operators import ExactHessian, GaussNewtonHessian

warnings.simplefilter("ignore", ConvergenceWarning)
X, y = make_friedman1(200, n_features=5, noise=1.0, random_state=0)
y = (y - y.mean()) / y.std()

figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
for ax, max_iter in zip(axes, (3, 300), strict=True):
    mlp = GaussNewtonMLPRegressor(
        hidden_layer_sizes=(8, 8),
        activation="tanh",
        alpha=0.1,
        standardize=False,
        max_iter=max_iter,
        tol=0,
        random_state=0,
    ).fit(X, y)
    for kind in (GaussNewtonHessian, ExactHessian):
        H = kind.from_estimator(mlp, X, y).toarray()
        values = np.linalg.eigvalsh(H)
        negative = int((values < -1e-12).sum())
        ax.plot(values[::-1], label=f"{kind.__name__}: {negative} negative")
    ax.set_yscale("symlog", linthresh=1e-4)
    ax.set(xlabel="rank", title=f"{mlp.n_iter_} iterations, loss {mlp.loss_:.3f}")
    ax.legend()
axes[0].set_ylabel("eigenvalue")
plt.show()

# %%
# Solving in time linear in the depth
# -----------------------------------
# :class:`~skgnh.solvers.LayerElimination` solves ``(H + shift I) x = g`` without
# forming H, and counts the negative eigenvalues on its way. The array is the reference.

from time import perf_counter

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.solvers import LayerElimination


def deep(depth, width=8, n=2):
    """Return the exact Hessian of an untrained tanh network."""
    rng = np.random.default_rng(0)
    network = MLP((width,) * (depth + 1), ("tanh",) * (depth - 1))
    theta, inputs = network.initialize(rng), rng.standard_normal((n, width))
    linearization = Linearization(network, theta, append_one(inputs))
    targets = rng.standard_normal((n, width))
    return ExactHessian(linearization, LOSSES["identity"], targets, np.full(n, 1 / n))


def seconds(call):
    """Return the time of the second call."""
    call()
    start = perf_counter()
    call()
    return perf_counter() - start


# sphinx_gallery_thumbnail_number = 2
shift, depths, layers, arrays = 0.1, (5, 10, 20, 40, 80), [], []
for depth in depths:
    H = deep(depth)
    g = np.ones(H.shape[0])
    layers.append(seconds(lambda H=H, g=g: LayerElimination(H, shift).solve(g)))
    line = f"depth {depth}, {H.shape[0]} parameters: {1e3 * layers[-1]:.1f} ms"
    if depth <= 20:
        eye = shift * np.eye(len(g))
        arrays.append(
            seconds(lambda H=H, g=g, eye=eye: np.linalg.solve(H.toarray() + eye, g))
        )
        line += f", array {1e3 * arrays[-1]:.1f} ms"
    print(line, "- inertia", LayerElimination(H, shift).inertia)

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.loglog(depths, layers, "o-", label="elimination by layers")
ax.loglog(depths[: len(arrays)], arrays, "s-", label="array and dense solve")
ax.set(xlabel="layers", ylabel="seconds")
ax.set_xticks(depths, depths)
ax.set_xticks([], minor=True)
ax.legend()
plt.show()

# %%
# Convergence
# -----------
# With noise left in the residuals, Gauss-Newton converges linearly. On the exact
# Hessian, begun where Gauss-Newton has come close, the last steps are Newton's.

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for solver, style in (("dense", "-"), ("exact_hessian", "--")):
    mlp = GaussNewtonMLPRegressor(
        hidden_layer_sizes=(3,),
        activation="tanh",
        alpha=1.0,
        standardize=False,
        solver="dense",
        max_iter=60,
        tol=0,
        random_state=0,
    ).fit(X[:60], y[:60])
    mlp.set_params(solver=solver, warm_start=True, max_iter=200).fit(X[:60], y[:60])
    accepted = mlp.history_["accepted"]
    norms = mlp.history_["gradient_norm"][accepted]
    ax.semilogy(norms, style, label=solver)
ax.set(xlabel="accepted step", ylabel="norm of the gradient")
ax.legend()
plt.show()
