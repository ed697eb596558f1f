"""
Fewer weights by the optimal brain surgeon
==========================================

Most weights of a network can be zero, if those that are left make up for it. Which
weights, and how the others move, the curvature tells.
"""

# %%
# A fitted network
# ----------------

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skgnh import GaussNewtonMLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
model = GaussNewtonMLPClassifier(
    (32,), alpha=0.1, standardize=False, tol=1e-3, random_state=0
)
model.fit(X_train, y_train)
print(f"test accuracy {model.score(X_test, y_test):.3f}")

# %%
# Three ways to prune it
# ----------------------
# The smallest weights can be put to zero as they are. :func:`skgnh.inspection.prune`
# drops those whose loss costs least, and adapts the others: at once, or in steps, each
# with the curvature of the network as it then is.

from copy import deepcopy

import numpy as np

from skgnh.inspection import prune, sparse_coefs


def by_magnitude(sparsity):
    out = deepcopy(model)
    sizes = np.concatenate([abs(coef).ravel() for coef in model.coefs_])
    cut = np.quantile(sizes, sparsity)
    out.coefs_ = [np.where(abs(coef) > cut, coef, 0) for coef in model.coefs_]
    return out


def by_surgery(sparsity, n_steps):
    return prune(
        model, X_train, y_train, sparsity=sparsity, n_steps=n_steps, random_state=0
    )


sparsities = (0.5, 0.7, 0.8, 0.9, 0.95)
ways = {
    "magnitude": by_magnitude,
    "surgery, at once": lambda sparsity: by_surgery(sparsity, 1),
    "surgery, 8 steps": lambda sparsity: by_surgery(sparsity, 8),
}
scores = {
    name: [way(sparsity).score(X_test, y_test) for sparsity in sparsities]
    for name, way in ways.items()
}

import matplotlib.pyplot as plt

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name, score in scores.items():
    ax.plot(sparsities, score, "o-", label=name)
ax.axhline(
    model.score(X_test, y_test), color="gray", linestyle=":", label="all weights"
)
ax.set(xlabel="share of zeros", ylabel="test accuracy")
ax.legend()
plt.show()

# %%
# Training on with zeros
# ----------------------
# What was pruned stays zero in later training, and the rest recovers much of what was
# lost.

pruned = by_surgery(0.95, 8)
before = pruned.score(X_test, y_test)
for _ in range(5):
    pruned.partial_fit(X_train, y_train)
print(f"95 % zeros: {before:.3f}, trained on {pruned.score(X_test, y_test):.3f}")
print([f"{coef.nnz} of {np.prod(coef.shape)}" for coef in sparse_coefs(pruned)])
