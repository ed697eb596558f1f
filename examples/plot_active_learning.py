"""
Active learning: which row to label next
========================================

Labels cost, rows do not: of a pool of rows without labels, some can be sent to be
measured. :class:`~skgnh.GaussNewtonMLPRegressor` says how sure it is of each. Here it
asks for the rows that it is least sure of, and is compared with a choice by chance.
"""

# %%
# Two pools
# ---------
# A smooth function of two columns, measured with errors of 0.1. What counts is the
# error on the whole square, from -1 to 1 in both columns. Once the pool is drawn like
# that, evenly. Once it is crowded: most of its rows are near the middle, as where
# machines or patients mostly are as usual.

import numpy as np

from skgnh import GaussNewtonMLPRegressor

N_POOL, N_TEST, NOISE = 500, 1000, 0.1


def draw(pool, rng):
    """Return rows and targets, those of the pool first."""
    X = rng.uniform(-1, 1, (N_POOL + N_TEST, 2))
    if pool == "crowded":
        X[:N_POOL] = np.clip(rng.normal(0, 0.3, (N_POOL, 2)), -1, 1)
    y = np.sin(3 * X[:, 0]) * np.cos(2 * X[:, 1])
    return X, y + NOISE * rng.standard_normal(len(y))


# %%
# The loop
# --------
# It begins with 20 rows by chance. Then, again and again, it fits the labelled rows,
# asks for the standard deviation at all others, and labels the five of the largest.
# With noise of one variance for all rows (``noise="constant"``, the default) these
# differ by what the network does not know, and not by how noisy a place is: more rows
# would not help there.


def learn(pool, ask, seed, n_first=20, n_batch=5, n_rounds=7):
    """Return the test errors over the rounds, and the rows that were labelled."""
    rng = np.random.default_rng(seed)
    X, y = draw(pool, rng)
    order = rng.permutation(N_POOL)
    labelled, rest, errors = order[:n_first], order[n_first:], []
    for _ in range(n_rounds):
        model = GaussNewtonMLPRegressor(hidden_layer_sizes=10, random_state=seed)
        model.fit(X[labelled], y[labelled])
        misses = model.predict(X[N_POOL:]) - y[N_POOL:]
        errors.append(np.sqrt(np.mean(misses**2)))
        if ask == "largest std":
            _, std = model.predict(X[rest], return_std=True)
            rest = rest[np.argsort(-std)]
        labelled, rest = np.append(labelled, rest[:n_batch]), rest[n_batch:]
    return np.array(errors), X[labelled]


n_labelled = 20 + 5 * np.arange(7)
results = {}
for pool in ("crowded", "even"):
    for ask in ("by chance", "largest std"):
        runs = [learn(pool, ask, seed) for seed in range(3)]
        errors = np.array([errors for errors, _ in runs])
        results[pool, ask] = errors, runs[0][1]

# %%
# What it saves
# -------------
# Mean root mean squared errors on the test rows, over three draws of everything. They
# hold the errors of measurement, so that no choice gets below 0.1.

print(f"{'labelled rows':24}" + "".join(f"{n:7d}" for n in n_labelled))
for (pool, ask), (errors, _) in results.items():
    means = "".join(f"{error:7.2f}" for error in errors.mean(axis=0))
    print(f"{pool:9}{ask:15}{means}")

# %%
# From the crowded pool, rows by their standard deviation are worth far more than rows
# by chance: with 30 labels the error is below half of what 50 by chance leave. Chance
# takes rows where the crowd is, of which there are enough; the network asks for those
# at the edge. The even pool has the edge in it, and there chance is the better choice
# at first, and as good later.

import matplotlib.pyplot as plt


def draw_errors(ax, pool):
    """Draw the errors of one pool, the mean of the draws and each of them."""
    for ask in ("by chance", "largest std"):
        errors, _ = results[pool, ask]
        (line,) = ax.plot(
            n_labelled, errors.mean(axis=0), "o-", markersize=4, label=ask
        )
        ax.plot(n_labelled, errors.T, color=line.get_color(), alpha=0.25, linewidth=0.8)
    ax.axhline(NOISE, color="gray", linestyle=":", label="noise")
    ax.set(xlabel="labelled rows", title=f"{pool} pool", ylim=(0, 0.7))
    ax.set(ylabel="RMSE on the whole square")


figure, ax = plt.subplots(figsize=(5.5, 4), layout="constrained")
draw_errors(ax, "crowded")
ax.legend()
plt.show()

# %%
# The even pool, and the rows that were asked for in the crowded one:

figure, axes = plt.subplots(1, 2, figsize=(8.5, 4), layout="constrained")
draw_errors(axes[0], "even")
for ask in ("by chance", "largest std"):
    _, rows = results["crowded", ask]
    axes[1].scatter(*rows[20:].T, s=16, label=ask)
axes[1].set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
axes[1].set(title="rows asked for, crowded pool")
axes[1].legend()
plt.show()

# %%
# Two warnings. A network of few rows is a poor judge of what it does not know: in the
# even pool its questions are the worse ones up to 30 rows. And the largest standard
# deviations are often neighbours, of which one would do: ask for few rows at a time.
