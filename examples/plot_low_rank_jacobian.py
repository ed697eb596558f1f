"""
Jacobians from a few of their rows and columns
==============================================

The Jacobian of a network over many rows is large, but often of low rank to the accuracy
that matters. :func:`~skgnh.operators.compress_jacobian` finds it by adaptive cross
approximation, from entries alone, and returns a Gauss-Newton Hessian that the solvers
take.
"""

# %%
# A trained network
# -----------------

import numpy as np
from sklearn.datasets import make_friedman1

from skgnh import GaussNewtonMLPRegressor
from skgnh.operators import GaussNewtonHessian, compress_jacobian

X, y = make_friedman1(600, random_state=0)
y = (y - y.mean()) / y.std()
network = GaussNewtonMLPRegressor(
    hidden_layer_sizes=(20, 10),
    alpha=1e-4,
    standardize=False,
    tol=1e-3,
    random_state=0,
).fit(X, y)
H = GaussNewtonHessian.from_estimator(network, X, y)
print(f"root of {H.root.shape[0]} x {H.root.shape[1]}")

# %%
# Error and rank
# --------------
# No approximation of rank k is nearer than the truncated singular value decomposition.
# The crosses come within a small factor, though they never see the whole matrix.

import matplotlib.pyplot as plt

J = H.root @ np.eye(H.shape[0])
singular_values = np.linalg.svd(J, compute_uv=False)
ranks = [2, 4, 8, 16, 32, 64]
best = [np.linalg.norm(singular_values[k:]) / np.linalg.norm(J) for k in ranks]
errors = []
for rank in ranks:
    low = compress_jacobian(H, rank=rank, random_state=0)
    difference = J - (low.left * low.values) @ low.right.T
    errors.append(np.linalg.norm(difference) / np.linalg.norm(J))

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
axes.loglog(ranks, errors, "o-", label="cross approximation")
axes.loglog(ranks, best, "k--", label="truncated SVD")
axes.set(xlabel="rank", ylabel="relative error")
axes.set_xticks(ranks, ranks)
axes.set_xticks([], minor=True)
axes.tick_params(axis="y", which="minor", labelleft=False)
axes.legend()
plt.show()

# %%
# A damped step
# -------------
# Instead of a rank a tolerance can be given. With the rank k found, the dual solver
# works on k x k matrices in place of one row for each sample and output. What is left
# out is of norm `tol` squared times the trace at most, and does no harm to a step whose
# damping is larger.

from skgnh.solvers import Dense, Gram

gradient = J.T @ (network.predict(X) - y)
damping = 1e-3 * H.trace()
exact = Dense().factor(H).solve(gradient, damping)
for tol in (1e-1, 1e-2, 1e-3):
    low = compress_jacobian(H, tol=tol, random_state=0)
    step = Gram().factor(low).solve(gradient, damping)
    error = np.linalg.norm(step - exact) / np.linalg.norm(exact)
    print(f"tol {tol:g}: rank {len(low.values)}, error of the step {error:.1e}")
