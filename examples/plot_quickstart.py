"""
A quickstart: handwritten digits, next to MLPClassifier
=======================================================

:class:`~skgnh.GaussNewtonMLPClassifier` goes into a pipeline and a grid search like
:class:`~sklearn.neural_network.MLPClassifier`, and takes the same architectures. Here
both are searched over the same penalties and compared by loss, accuracy and seconds.
"""

# %%
# Data
# ----
# The digits are 1,797 images of 8 x 8 pixels in ten classes. A quarter is set aside.

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

# %%
# One pipeline, one grid
# ----------------------
# All networks have 32 hidden neurons and the defaults of their class, except that the
# two solvers of scikit-learn may take as many iterations as they need to converge. The
# searches look for the penalty with the lowest cross-entropy on unseen rows. Every fit
# runs in one thread, so that the seconds compare.

from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skgnh import GaussNewtonMLPClassifier

threadpool_limits(1)
common = {"hidden_layer_sizes": (32,), "random_state": 0}
networks = {
    "Gauss-Newton": GaussNewtonMLPClassifier(**common),
    "Adam": MLPClassifier(solver="adam", max_iter=2000, **common),
    "L-BFGS": MLPClassifier(solver="lbfgs", max_iter=2000, **common),
}
searches = {}
for name, network in networks.items():
    pipeline = Pipeline([("scale", StandardScaler()), ("mlp", network)])
    grid = {"mlp__alpha": [0.03, 0.3, 3]}
    search = GridSearchCV(pipeline, grid, scoring="neg_log_loss", cv=3, n_jobs=2)
    searches[name] = search.fit(X_train, y_train)

# %%
# The table
# ---------
# Losses are the mean cross-entropy, without the penalty. The seconds and the iterations
# are those of the last fit, on all training rows with the best penalty.

from sklearn.metrics import log_loss

print(
    f"{'':12}{'alpha':>8}{'cv loss':>10}{'test loss':>11}{'accuracy':>10}"
    f"{'iterations':>12}{'seconds':>9}"
)
for name, search in searches.items():
    best = search.best_estimator_
    print(
        f"{name:12}{search.best_params_['mlp__alpha']:8g}{-search.best_score_:10.3f}"
        f"{log_loss(y_test, best.predict_proba(X_test)):11.3f}"
        f"{best.score(X_test, y_test):10.3f}{best['mlp'].n_iter_:12d}"
        f"{search.refit_time_:9.2f}"
    )

# %%
# On 450 test images an accuracy has a standard error of 0.007, more than lies between
# the three. The Gauss-Newton network takes the fewest iterations, and the most time for
# each; a small problem such as this one is solved soonest by L-BFGS.
#
# Loss curves
# -----------
# How do the three go down one objective, the cross-entropy plus one penalty? For each
# point of the curves a network is fitted anew, with so many iterations, and timed; then
# its objective is computed over all training rows, in one way for all. Adam in
# scikit-learn divides the penalty by the 200 rows of a batch, not by all: for the same
# objective its `alpha` must be smaller by that ratio. The fits are cut short on
# purpose; their warnings are off.

import warnings
from time import perf_counter

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skgnh.objective import Objective

ALPHA = 0.3
Z_train = StandardScaler().fit_transform(X_train)
curves, fitted = {}, {}
for name, network in networks.items():
    share = 200 / len(Z_train) if name == "Adam" else 1
    curves[name] = []
    for max_iter in 2 ** np.arange(1, 12):
        model = clone(network).set_params(alpha=ALPHA * share, max_iter=max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            start = perf_counter()
            model.fit(Z_train, y_train)
            seconds = perf_counter() - start
        model.set_params(alpha=ALPHA)
        objective, theta = Objective.from_estimator(model, Z_train, y_train)
        curves[name].append((seconds, objective.value(theta)))
        if model.n_iter_ < max_iter:
            break
    fitted[name] = model
    seconds, value = curves[name][-1]
    print(f"{name:12} objective {value:.4f} after {seconds:5.2f} seconds")

# %%
# The curvature where they end
# ----------------------------
# :class:`~skgnh.GNHSpectrum` decomposes the Gauss-Newton Hessian of any
# fitted network, scikit-learn's included. A few of the 2,410 directions are curved much
# more than all others; a gradient step ignores this, a Gauss-Newton step divides by it.
# The effective dimension is the number of parameters that the data determine, against
# the penalty.

import matplotlib.pyplot as plt

from skgnh import GNHSpectrum

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for name, model in fitted.items():
    left.loglog(*zip(*curves[name], strict=True), "o-", ms=4, label=name)
    spectrum = GNHSpectrum(model, n_components=100, prefit=True, random_state=0)
    spectrum.fit(Z_train, y_train)
    right.loglog(np.arange(1, 101), spectrum.eigenvalues_)
    share = spectrum.explained_trace_ratio_[:10].sum()
    print(
        f"{name:12} 10 directions have {share:.0%} of the curvature, "
        f"effective dimension {spectrum.effective_dimension_:.0f}"
    )
left.set(xlabel="seconds", ylabel="training objective", title="Loss curves")
right.set(xlabel="rank", ylabel="eigenvalue", title="Gauss-Newton Hessian at the end")
figure.legend(loc="outside lower center", ncols=3)
figure.savefig("quickstart.png", dpi=150)
print("The figure is in quickstart.png.")
