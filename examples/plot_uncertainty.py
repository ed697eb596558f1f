"""
How sure is a prediction?
=========================

:class:`~skgnh.GaussNewtonMLPRegressor` has a posterior of its weights. So it tells the
standard deviation of each target, intervals, and what each training row does to the
fit. Here are these on a table of measurements, and where it has no rows.
"""

# %%
# Intervals of a real table
# -------------------------
# 442 patients with diabetes: ten columns, and a measure of the progression within a
# year. Much of it no column explains, so that a mean alone says little. With
# ``noise="heteroscedastic"`` the noise may differ from patient to patient.

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from skgnh import GaussNewtonMLPRegressor

diabetes = load_diabetes(scaled=False)
X, y = diabetes.data, diabetes.target
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = GaussNewtonMLPRegressor(noise="heteroscedastic", random_state=0)
model.fit(X_train, y_train)
mean, std = model.predict(X_test, return_std=True)
low, high = model.predict_interval(X_test, coverage=0.9).T
inside = ((low <= y_test) & (y_test <= high)).mean()
print(f"{inside:.0%} of {len(y_test)} unseen targets are in their 90 % intervals")
print(f"standard deviations from {std.min():.0f} to {std.max():.0f}")

# %%
# Beside two of scikit-learn's models that give standard deviations as well. The columns
# of the Gaussian process are scaled, and its kernel has the noise. What is compared is
# the mean logarithm of the density of unseen targets, over five splits: it is high
# where predictions are near, and their standard deviations neither too small nor too
# large.

from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import BayesianRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def models():
    """Return the regressors by name."""
    kernel = ConstantKernel() * RBF(3.0) + WhiteKernel()
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    return {
        "network, varying noise": model,
        "network, constant noise": GaussNewtonMLPRegressor(random_state=0),
        "Gaussian process": make_pipeline(StandardScaler(), process),
        "Bayesian ridge": BayesianRidge(),
    }


scores = {name: [] for name in models()}
for seed in range(5):
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed)
    fitted = models()
    for name, each in fitted.items():
        mean, std = each.fit(X_train, y_train).predict(X_test, return_std=True)
        log_density = norm.logpdf(y_test, mean, std).mean()
        inside = (np.abs(y_test - mean) <= norm.ppf(0.95) * std).mean()
        rmse = np.sqrt(np.mean((y_test - mean) ** 2))
        scores[name].append((log_density, rmse, inside))
print(f"{'':24}{'log density':>12}{'RMSE':>7}{'in 90 %':>9}")
for name, runs in scores.items():
    log_density, rmse, inside = np.mean(runs, axis=0)
    print(f"{name:24}{log_density:12.3f}{rmse:7.2f}{inside:9.1%}")

# %%
# The Gaussian process has the smaller error here, by 2 %. Varying noise raises the
# density of the network, to about that of the process: it knows a little of which
# patients are hard to predict. A table this small does not tell methods apart: other
# splits may change the order.
#
# Are they calibrated? Of the targets, 50 % should be in intervals of 50 %, and so on:
# :class:`~skgnh.inspection.CoverageDisplay` draws one against the other. Beside it are
# the intervals along one column, all others at their medians.

import matplotlib.pyplot as plt

from skgnh.inspection import CoverageDisplay, PredictionBandDisplay

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
for name in ("network, varying noise", "Gaussian process", "Bayesian ridge"):
    CoverageDisplay.from_estimator(fitted[name], X_test, y_test, ax=left, name=name)
bmi = diabetes.feature_names.index("bmi")
PredictionBandDisplay.from_estimator(
    model, X_test, y_test, feature=bmi, ax=right, name="network, varying noise"
)
right.set(xlabel="bmi", ylabel="progression")
plt.show()

# %%
# Where there are no rows
# -----------------------
# The standard deviation has two parts: the noise, which more rows would not reduce, and
# what the network does not know, which they would. The second grows where rows are
# missing, in the gap and outside.

# sphinx_gallery_thumbnail_number = 2
rng = np.random.default_rng(0)
x = np.concatenate([rng.uniform(-3, -0.5, 60), rng.uniform(1.5, 3, 40)])
t = np.sin(2 * x) + 0.1 * rng.standard_normal(100)
curve = GaussNewtonMLPRegressor(random_state=0).fit(x[:, None], t)
noise = curve.noise_variance_.item() ** 0.5
print(f"noise {noise:.3f}")
for at in (-2.0, 0.5, 2.0, 3.5):
    mean, std = (float(found[0]) for found in curve.predict([[at]], return_std=True))
    unknown = np.sqrt(std**2 - noise**2)
    print(
        f"at {at:4}: {mean:5.2f}, truth {np.sin(2 * at):5.2f}; standard deviation "
        f"{std:.2f}, of the network {unknown:.2f}"
    )

grid = np.linspace(-4, 4, 200)
low, high = curve.predict_interval(grid[:, None], coverage=0.9).T
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
PredictionBandDisplay.from_predictions(
    grid,
    curve.predict(grid[:, None]),
    low,
    high,
    x_rows=x,
    y_rows=t,
    coverage=0.9,
    ax=ax,
)
ax.plot(grid, curve.sample_y(grid[:, None], 3), "k.", markersize=1)
ax.plot(grid, np.sin(2 * grid), "k:", label="truth")
ax.set(ylim=(-3, 3))
ax.legend()
plt.show()

# %%
# The dots are three draws of :meth:`~skgnh.GaussNewtonMLPRegressor.sample_y`, each of
# one network for all points, and with noise.
#
# Which rows matter
# -----------------
# :func:`~skgnh.inspection.influence` tells what the fit says of each training row
# without it, by one Newton step instead of 442 fits: predictions, their score, and how
# far the fit moves. The patients who are worst predicted by the others:

from skgnh.inspection import influence

model = GaussNewtonMLPRegressor(random_state=0).fit(X, y)
found = influence(model, X, y)
print(f"R2 of the rows as fitted {model.score(X, y):.2f}, each left out ", end="")
print(f"{found.loo_score:.2f}")
print(
    f"leverages add up to {found.leverage.sum():.1f}, effective parameters "
    f"{model.effective_parameters_:.1f}"
)
worst = np.argsort(-np.abs(found.loo_residuals))[:5]
print(f"{'row':>4}{'bmi':>6}{'target':>8}{'by others':>11}{'leverage':>10}{'Cook':>8}")
for row in worst:
    print(
        f"{row:4d}{X[row, bmi]:6.1f}{y[row]:8.0f}{found.loo_mean[row]:11.0f}"
        f"{found.leverage[row]:10.2f}{found.cooks_distance[row]:8.3f}"
    )

# %%
# Leverage is how much of a row's prediction is its own doing. Cook's distance has both,
# leverage and residual: it is largest where leaving a row out would move the fit most.

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
points = ax.scatter(
    found.leverage, found.loo_residuals, c=found.cooks_distance, s=12, cmap="viridis_r"
)
figure.colorbar(points, label="Cook's distance")
for row in worst:
    ax.annotate(row, (found.leverage[row], found.loo_residuals[row]))
ax.set(xlabel="leverage", ylabel="leave-one-out residual")
plt.show()
