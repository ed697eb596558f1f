"""
Sketched Gram matrices: networks far wider than their data
==========================================================

For a network with far more parameters than rows, a Gauss-Newton step is a system in the
rows, with the Gram matrix of the Jacobian. :class:`~skgnh.solvers.SketchedGram` never
forms it: a random sketch of the Jacobian preconditions conjugate gradients so well that
a dozen products are enough.
"""

# %%
# The spectrum that is left
# -------------------------
# A network of 6,000 neurons on 60 digits has 600 rows of Jacobian (ten outputs each). A
# sketch of s rows takes the place of its 456,000 columns. What conjugate gradients see
# are the eigenvalues of the Gram matrix relative to the sketched one: the wider the
# sketch, the closer to one.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.linalg import eigvalsh
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skgnh import GaussNewtonMLPClassifier
from skgnh.operators import GaussNewtonHessian
from skgnh.operators.sketch import sketched_grams
from skgnh.solvers import SketchedGram

# The fits are cut short on purpose.
warnings.simplefilter("ignore", ConvergenceWarning)
X, y = load_digits(return_X_y=True)
X, y = X[:60] / 16, y[:60]
settings = {
    "hidden_layer_sizes": (6000,),
    "activation": "relu",
    "alpha": 0,
    "standardize": False,
    "random_state": 0,
    "tol": 0,
}
start = GaussNewtonMLPClassifier(max_iter=1, **settings).fit(X, y)
H = GaussNewtonHessian.from_estimator(start, X, y)
G = H.gram()
shift = 1e-4 * G.trace() / len(G) * np.eye(len(G))
figure, ax = plt.subplots(layout="constrained")
spectrum = eigvalsh(G + shift)[::-1]
ax.semilogy(spectrum / spectrum[0], color="k", label="none")
for oversampling in (2, 4, 8):
    rng = np.random.default_rng(0)
    weights, biases = sketched_grams(
        H.root, "countsketch", oversampling, "neurons", rng
    )
    values = eigvalsh(G + shift, weights + biases + shift)[::-1]
    ax.semilogy(values, label=f"s = {oversampling} n r")
ax.set(xlabel="index", ylabel="eigenvalue", title="Spectrum by size of the sketch")
ax.legend()
plt.show()

# %%
# The same steps
# --------------
# The solution may be off by one percent of its norm, by default. Training does not
# notice: the objective falls as with the exact Gram matrix.

from skgnh.inspection import LossCurveDisplay

models = {
    str(solver): GaussNewtonMLPClassifier(solver=solver, max_iter=8, **settings)
    for solver in ("gram", SketchedGram(), SketchedGram(rtol=0.3))
}
for model in models.values():
    model.fit(X, y)
LossCurveDisplay.from_estimators(models, log=True, marker="o", markersize=3)
plt.show()
