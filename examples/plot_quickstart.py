"""
A quickstart: raw tables and defaults, next to MLP and boosting
===============================================================

:class:`~skgnh.GaussNewtonMLPRegressor` and :class:`~skgnh.GaussNewtonMLPClassifier`
take a table as it is. Here they are compared with scikit-learn's networks and with
boosting, each with its defaults, by test error and seconds.
"""

# %%
# One regression
# --------------
# Friedman's second function is the impedance of a circuit. Its four columns have units
# of their own: resistances up to 100, frequencies up to 1,759, capacitances below 1.
# What is measured has errors of 10 ohm.

from sklearn.datasets import make_friedman2
from sklearn.model_selection import train_test_split

from skgnh import GaussNewtonMLPRegressor

X, y = make_friedman2(2000, noise=10, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model = GaussNewtonMLPRegressor(random_state=0).fit(X_train, y_train)
print(f"test R2 {model.score(X_test, y_test):.4f}")

# %%
# Nothing was scaled or searched for. What the fit has found out by the evidence, among
# it the size of the errors, it tells:

widths = [len(biases) for biases in model.intercepts_[:-1]]
print(f"noise {model.noise_variance_.item() ** 0.5:.1f} ohm")
print(f"hidden layers {widths}, {model.n_iter_} iterations, solver {model.solver_}")
print(f"{model.effective_parameters_:.0f} effective parameters")
print(f"log evidence {model.log_marginal_likelihood_:.0f} nats")

# %%
# Smooth tables
# -------------
# How much of the targets' variance is left unexplained on unseen rows? Friedman's three
# functions with noise, and the one table of measurements that scikit-learn brings for
# regression. scikit-learn's network gets columns and targets scaled, without which it
# is far behind; boosting needs no scaling. Each point is the mean of three splits, and
# all fits run in one thread, so that the seconds compare.

import warnings
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, make_friedman1, make_friedman3
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

threadpool_limits(1)
# MLPRegressor and MLPClassifier stop by default after 200 epochs, and warn.
warnings.simplefilter("ignore", ConvergenceWarning)


def regressors(seed):
    """Return the three regressors with their defaults."""
    mlp = make_pipeline(StandardScaler(), MLPRegressor(random_state=seed))
    return {
        "Gauss-Newton": GaussNewtonMLPRegressor(random_state=seed),
        "MLP, all scaled": TransformedTargetRegressor(
            mlp, transformer=StandardScaler()
        ),
        "boosting": HistGradientBoostingRegressor(random_state=seed),
    }


def unexplained(model, X, y):
    """Return the share of the variance that is left."""
    return 1 - model.score(X, y)


def compare(tables, make_models, error, n_splits=3):
    """Return {table: {method: (mean error, mean seconds)}}, and print it."""
    results = {}
    print(f"{'':14}" + "".join(f"{name:>22}" for name in make_models(0)))
    for table, (X, y) in tables.items():
        runs = {name: [] for name in make_models(0)}
        for seed in range(n_splits):
            X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed)
            for name, model in make_models(seed).items():
                start = perf_counter()
                model.fit(X_train, y_train)
                seconds = perf_counter() - start
                runs[name].append((error(model, X_test, y_test), seconds))
        results[table] = {name: np.mean(run, axis=0) for name, run in runs.items()}
        cells = (f"{e:12.4f} in {s:4.2f} s" for e, s in results[table].values())
        print(f"{table:14}" + "".join(f"{cell:>22}" for cell in cells))
    return results


def draw(results, ylabel, title):
    """Draw errors over seconds: a colour for each method, a marker for each table."""
    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    markers = dict(zip(results, "osD^v", strict=False))
    for table, methods in results.items():
        for color, (error, seconds) in zip(
            ("C0", "C1", "C2"), methods.values(), strict=True
        ):
            ax.loglog(seconds, error, markers[table], color=color, markersize=9)
    for color, name in zip(("C0", "C1", "C2"), methods, strict=True):
        ax.plot([], [], "-", color=color, linewidth=4, label=name)
    for table, marker in markers.items():
        ax.plot([], [], marker, color="gray", label=table)
    ax.set(xlabel="seconds of the fit", ylabel=ylabel, title=title)
    ax.tick_params(which="minor", labelbottom=False, labelleft=False)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


tables = {
    "Friedman 1": make_friedman1(1000, noise=1, random_state=0),
    "Friedman 2": (X, y),
    "Friedman 3": make_friedman3(1000, noise=0.1, random_state=0),
    "diabetes": load_diabetes(return_X_y=True, scaled=False),
}
smooth = compare(tables, regressors, unexplained)
figure = draw(smooth, "1 - R2 on unseen rows", "Smooth tables, defaults")
figure.savefig("quickstart.png", dpi=150)
print("The figure is in quickstart.png.")

# %%
# Where it does not win
# ---------------------
# A network of tanh units is smooth. Where the targets jump, boosting's trees are the
# better model; where a column holds codes of categories, neighbouring numbers mean
# nothing, and a network finds nothing (encode them, with
# :class:`~sklearn.preprocessing.OneHotEncoder`). Where the noise has heavy tails a
# squared error is the wrong loss for all three.

rng = np.random.default_rng(0)
U = rng.uniform(size=(1500, 5))
jumps = 2.0 * (U[:, 0] > 0.5) + (U[:, 1] > U[:, 2]) + np.floor(4 * U[:, 3])
codes = rng.integers(100, size=(1500, 2))
effects = rng.standard_normal((2, 100))
of_codes = effects[0][codes[:, 0]] + effects[1][codes[:, 1]]
F, f = make_friedman1(1000, random_state=0)
hard = {
    "steps": (U, jumps + 0.1 * rng.standard_normal(1500)),
    "codes": (codes, of_codes + 0.1 * rng.standard_normal(1500)),
    "heavy tails": (F, f + rng.standard_t(2, size=1000)),
}
_ = compare(hard, regressors, unexplained)

# %%
# Classification
# --------------
# The error is the mean cross-entropy on unseen rows, which tells more than the
# accuracy: it counts how sure a classifier is of what is wrong. Here the picture is
# mixed: ahead on iris and wine, behind the MLP on breast cancer and digits. Digits take
# longer too: with 64 columns and ten outputs each step is dear, and tanh and relu are
# both trained, for the evidence to choose.

from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from skgnh import GaussNewtonMLPClassifier


def classifiers(seed):
    """Return the three classifiers with their defaults."""
    return {
        "Gauss-Newton": GaussNewtonMLPClassifier(random_state=seed),
        "MLP, scaled": make_pipeline(
            StandardScaler(), MLPClassifier(random_state=seed)
        ),
        "boosting": HistGradientBoostingClassifier(random_state=seed),
    }


def cross_entropy(model, X, y):
    """Return the mean cross-entropy."""
    return log_loss(y, model.predict_proba(X))


loaders = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}
tables = {name: load(return_X_y=True) for name, load in loaders.items()}
labels = compare(tables, classifiers, cross_entropy)
draw(labels, "cross-entropy on unseen rows", "Classification, defaults")
plt.show()

# %%
# Which columns matter
# --------------------
# With ``alpha="ard"`` each column has a prior of its own, whose variance is its
# relevance. Friedman's first function depends on the first five of ten columns, in the
# last two of these linearly, for which small weights are enough. It takes rows to tell:
# of 1,000 the linear two do not stand out yet.

X, y = make_friedman1(3000, noise=1, random_state=0)
model = GaussNewtonMLPRegressor(alpha="ard", random_state=0).fit(X, y)
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.bar(range(10), model.feature_relevance_)
ax.set_yscale("log")
ax.set(xlabel="column", ylabel="relevance", xticks=range(10))
plt.show()

# %%
# All of scikit-learn's tools take these estimators: pipelines, searches,
# cross-validation. :doc:`/defaults` says how the defaults work, and
# :doc:`plot_regression` compares solvers on one objective, scikit-learn's own.
