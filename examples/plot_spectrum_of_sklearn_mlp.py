"""
The curvature of a network that scikit-learn has trained
========================================================

Nothing has to be trained by this package to be studied with it. The Gauss-Newton
Hessian of a fitted :class:`~sklearn.neural_network.MLPClassifier` tells along how many
directions the data determine its weights, and which rows do.
"""

# %%
# A fitted network
# ----------------

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

X, y = load_digits(return_X_y=True)
X = X / 16
mlp = MLPClassifier(hidden_layer_sizes=(32,), alpha=0.1, max_iter=500, random_state=0)
mlp.fit(X, y)
print(f"{mlp.n_iter_} epochs, loss {mlp.loss_:.3f}")

# %%
# Its Hessian as an operator
# --------------------------
# :class:`~skgnh.operators.GaussNewtonHessian` is a SciPy
# :class:`~scipy.sparse.linalg.LinearOperator`. It is never formed unless asked for:
# products, the diagonal, the trace and single entries come from the network itself.

import numpy as np
from scipy.sparse.linalg import eigsh

from skgnh.operators import GaussNewtonHessian

H = GaussNewtonHessian.from_estimator(mlp, X, y)
largest = eigsh(H, k=3, return_eigenvectors=False)
print(f"{H.shape[0]} parameters, trace {H.trace():.2f}")
print("largest eigenvalues", largest[::-1].round(3))
print("a block of entries\n", H.entries([2080, 2081], [2080, 2081, 2082]))

# %%
# Eigenvalues and their density
# -----------------------------
# :class:`~skgnh.GNHSpectrum` decomposes the part of the Hessian that comes
# from the data, without the penalty. By default it finds the leading eigenpairs by
# products, and estimates the density of the others by stochastic Lanczos quadrature:
# that works for any number of parameters. These 2,410 can also be decomposed as an
# array, which takes some seconds and is exact.

import matplotlib.pyplot as plt

from skgnh import GNHSpectrum
from skgnh.inspection import SpectrumDisplay

estimated = GNHSpectrum(mlp, n_components=100, prefit=True, random_state=0).fit(X, y)
exact = GNHSpectrum(mlp, n_components=100, prefit=True, solver="dense").fit(X, y)
print(
    f"10 eigenvalues have {exact.explained_trace_ratio_[:10].sum():.0%} of the trace, "
    f"100 have {exact.explained_trace_ratio_.sum():.0%}"
)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
grid = np.logspace(-16, 1, 500)
right.axvline(exact.damping_, color="gray", linestyle=":", label=r"$\alpha / n$")
for name, spectrum, style in (("exact", exact, "-"), ("estimated", estimated, "--")):
    display = SpectrumDisplay.from_estimator(
        spectrum, grid=grid, ax=left, name=name, linestyle=style
    )
    display.plot(right, kind="density", linestyle=style)
left.set(title="Leading eigenvalues")
right.set(title="All eigenvalues")
plt.show()

# %%
# A few directions carry most of the curvature, and the others spread over ten decades.
# The small peak of the exact density at the left holds the eigenvalues of zero, up to
# rounding: weights of pixels that are always blank, among others. The estimate has the
# leading eigenvalues exactly and follows the density down to 1e-5; what lies below, 64
# Lanczos steps gather in a few lumps. Small eigenvalues need more `lanczos_steps`.
#
# Effective dimension
# -------------------
# How many parameters do the data determine? A direction counts fully where the data
# curve it much more than the penalty, and not at all where much less:
#
# .. math::
#
#    d_{\text{eff}}(\lambda) = \sum_k \frac{\lambda_k}{\lambda_k + \lambda}.
#
# `effective_dimension_` is that number at the estimator's penalty; the masses of the
# density give it for every other.

# sphinx_gallery_thumbnail_number = 2
dampings = np.logspace(-8, 0, 200)
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, spectrum, style in (("exact", exact, "-"), ("estimated", estimated, "--")):
    nodes, weights = spectrum.density_nodes_, spectrum.density_weights_
    dimensions = H.shape[0] * (nodes / (nodes + dampings[:, None])) @ weights
    ax.semilogx(dampings, dimensions, style, label=name)
ax.plot(exact.damping_, exact.effective_dimension_, "ko", label=r"at $\alpha / n$")
ax.set(xlabel=r"damping $\lambda$", ylabel="effective dimension", ylim=(0, None))
ax.legend()
plt.show()
print(
    f"effective dimension {exact.effective_dimension_:.0f}, "
    f"estimated {estimated.effective_dimension_:.0f}, of {H.shape[0]} parameters"
)

# %%
# Ranks of its blocks
# -------------------
# What one group of weights has to do with another is of low rank, which is what
# hierarchical matrices live by. With 200 numbers a parameter (the whole triangle has
# 1,205) the blocks far from the diagonal are left with ranks of some tens; those on it
# are exact. It is enough for a preconditioner: products are off by a fifth.

from skgnh.inspection import HMatrixDisplay

display = HMatrixDisplay.from_estimator(mlp, X, y, storage=200, leaf_size=160)
display.ax_.set(title="The Hessian in HODLR form")
plt.show()

# %%
# Which rows curve the loss?
# --------------------------
# The Hessian is a sum over the rows, and so is its trace. A row that the network is
# sure of gives next to nothing: the curvature of the cross-entropy is :math:`p (1 - p)`
# in each class. The rows that give most are those at the borders between classes, where
# one more label would move the weights the most.

traces = H.row_traces()
order = np.argsort(traces)[::-1]
share = np.cumsum(traces[order]) / traces.sum()
half = np.searchsorted(share, 0.5) + 1
print(f"half of the trace comes from {half} of {len(X)} rows")

figure, axes = plt.subplots(2, 10, figsize=(10, 3.2), layout="constrained")
for row, rows in zip(axes, (order[:10], order[-10:]), strict=True):
    for ax, i in zip(row, rows, strict=True):
        p = mlp.predict_proba(X[[i]])[0]
        first, second = np.argsort(p)[::-1][:2]
        ax.imshow(X[i].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        title = f"{y[i]}\n{first}: {p[first]:.2f}\n{second}: {p[second]:.2f}"
        ax.set_title(title, fontsize=8)
        ax.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("most")
axes[1, 0].set_ylabel("least")
figure.suptitle("Rows of most and of least curvature: label, likeliest classes")
plt.show()

# %%
# `transform` splits a row's curvature by the leading directions. It is a transformer's
# output like any other, here summed up by class: the leading directions of a classifier
# belong to single classes or pairs of them.

parts = exact.transform(X)[:, :10]
by_class = np.stack([parts[y == digit].sum(axis=0) for digit in range(10)])
figure, ax = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
image = ax.imshow(by_class / parts.sum(axis=0), cmap="viridis", vmin=0)
ax.set(xlabel="eigenvector", ylabel="digit", yticks=range(10), xticks=range(10))
figure.colorbar(image, label="share of the eigenvalue")
plt.show()
