"""
Regression to high accuracy, and how the damping adapts
=======================================================

A smooth function without noise, such as the output of a simulation, can be learned to
many digits, if the training gets there. This is where second-order steps pay.
:class:`~skgnh.GaussNewtonMLPRegressor` is compared here with
:class:`~sklearn.neural_network.MLPRegressor`; then its `history_` shows how
Levenberg-Marquardt chooses its damping.
"""

# %%
# Data
# ----
# Friedman's first function is nonlinear in three of its inputs, linear in two, and does
# not depend on the other five. With a target of unit variance the loss, half the mean
# squared error, begins at about 1/2.

from sklearn.datasets import make_friedman1
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

X, y = make_friedman1(2000, random_state=0)
y = (y - y.mean()) / y.std()
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

# %%
# Three ways to train one network
# -------------------------------
# With a number for `alpha` and ``standardize=False`` the objective is scikit-learn's.
# Layers, penalty and first weights are the same (but for the output intercept, which
# begins at the mean of the target here, near zero in scikit-learn). With a small `tol`
# all three go on for long. Each runs in one thread, so that the seconds compare.

from time import perf_counter

from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits

from skgnh import GaussNewtonMLPRegressor

threadpool_limits(1)
common = {
    "hidden_layer_sizes": (20,),
    "activation": "tanh",
    "tol": 1e-6,
    "max_iter": 5000,
    "random_state": 0,
}
networks = {
    "Gauss-Newton": GaussNewtonMLPRegressor(alpha=1e-4, standardize=False, **common),
    "Adam": MLPRegressor(solver="adam", **common),
    "L-BFGS": MLPRegressor(solver="lbfgs", **common),
}
print(f"{'':12}{'train loss':>12}{'test 1 - R2':>13}{'iterations':>12}{'seconds':>9}")
for name, network in networks.items():
    start = perf_counter()
    network.fit(X_train, y_train)
    seconds = perf_counter() - start
    train_loss = ((network.predict(X_train) - y_train) ** 2).mean() / 2
    unexplained = 1 - network.score(X_test, y_test)
    print(
        f"{name:12}{train_loss:12.1e}{unexplained:13.1e}{network.n_iter_:12d}"
        f"{seconds:9.2f}"
    )

# %%
# Loss curves
# -----------
# `history_` has one entry for each trial step, with the time and the objective among
# them. scikit-learn keeps no times, and for L-BFGS no losses: its two networks are
# fitted anew with more and more iterations, and timed. These fits are cut short on
# purpose, hence without their warnings. The penalty is so small that the objective is
# nearly the loss itself.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from skgnh.objective import Objective

figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
history = networks["Gauss-Newton"].history_
axes.loglog(history["time"], history["value"], label="Gauss-Newton")
for name in ("Adam", "L-BFGS"):
    seconds, objectives = [], []
    last = networks[name].n_iter_
    for max_iter in [*2 ** np.arange(3, np.log2(last), dtype=int), last]:
        model = clone(networks[name]).set_params(max_iter=max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            start = perf_counter()
            model.fit(X_train, y_train)
            seconds.append(perf_counter() - start)
        objective, theta = Objective.from_estimator(model, X_train, y_train)
        objectives.append(objective.value(theta))
    axes.loglog(seconds, objectives, "o-", markersize=3, label=name)
axes.set(xlabel="seconds", ylabel="training objective")
axes.legend()
plt.show()

# %%
# Damping
# -------
# Each trial step solves :math:`(H + \lambda I) s = -g`. Its gain ratio is the reduction
# of the objective over the one that the quadratic model predicted. Near 1 the model can
# be trusted, and the damping :math:`\lambda` falls; near 0 it grows; a step without any
# reduction is rejected. Those are the crosses, drawn at -0.5 where they lie below.
# Three fits begin with dampings a million apart, and within ten trials have come to the
# same range: there is nothing to tune.

figure, (top, bottom) = plt.subplots(
    2, 1, sharex=True, figsize=(7, 5.5), layout="constrained"
)
for damping in (1e-4, 1e-1, 1e2):
    network = clone(networks["Gauss-Newton"]).set_params(damping=damping)
    history = network.fit(X_train, y_train).history_
    (line,) = top.semilogy(history["damping"], label=f"first damping {damping:g}")
    taken = history["accepted"]
    trials = np.arange(len(taken))
    gains = np.clip(history["gain_ratio"], -0.5, None)
    bottom.plot(trials[taken], gains[taken], ".", color=line.get_color())
    bottom.plot(trials[~taken], gains[~taken], "x", color=line.get_color())
    print(
        f"first damping {damping:7g}: objective {network.loss_:.1e} after "
        f"{len(taken)} trials, {np.count_nonzero(~taken)} of them rejected"
    )
top.set(ylabel="damping")
top.legend()
bottom.axhline(0, color="gray", linewidth=0.8)
bottom.set(xlabel="trial step", ylabel="gain ratio")
plt.show()
