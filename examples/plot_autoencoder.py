"""
Autoencoder: the digits in two dimensions
=========================================

An autoencoder reproduces its input through a narrow code. A code of two numbers can be
drawn. :class:`~skgnh.GaussNewtonAutoencoder` is a transformer, used here like
:class:`~sklearn.decomposition.PCA` and compared with it.
"""

# %%
# Two transformers
# ----------------
# The layers are 64-32-16-2-16-32-64, all tanh but the output. The default penalty, by
# the evidence, fits so narrow a code too closely: its errors on the 64 pixels of an
# image are far from independent, as which it counts them. So the penalty is a number
# here, and with `early_stopping` a tenth of the training rows is kept apart: weights
# that reproduce these best are the result. All fits run in one thread, so that the
# seconds compare.

from time import perf_counter

from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from skgnh import GaussNewtonAutoencoder

threadpool_limits(1)
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, stratify=y, random_state=0
)
pca = PCA(n_components=2).fit(X_train)
autoencoder = GaussNewtonAutoencoder(
    encoder_layer_sizes=(32, 16, 2),
    code_activation="tanh",
    standardize=False,
    alpha=0.01,
    early_stopping=True,
    random_state=0,
)
start = perf_counter()
autoencoder.fit(X_train)
print(
    f"{autoencoder.n_iter_} iterations in {perf_counter() - start:.1f} seconds, "
    f"solver {autoencoder.solver_}"
)

# %%
# The codes
# ---------
# Each test image is drawn as its digit, which neither method has seen. How often do the
# nearest training codes have the same digit?

import matplotlib.pyplot as plt
from sklearn.neighbors import KNeighborsClassifier

figure, axes = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
models = {"PCA": pca, "Autoencoder": autoencoder}
for ax, (name, model) in zip(axes, models.items(), strict=True):
    neighbours = KNeighborsClassifier().fit(model.transform(X_train), y_train)
    codes = model.transform(X_test)
    accuracy = neighbours.score(codes, y_test)
    for digit in range(10):
        ax.scatter(*codes[y_test == digit].T, marker=f"${digit}$", s=30, linewidth=0.3)
    ax.set(title=f"{name}: {accuracy:.0%} of neighbours agree")
    ax.set(xlabel="first code", ylabel="second code")
plt.show()

# %%
# Reconstructions
# ---------------
# `inverse_transform` decodes. For comparison, scikit-learn's own network of these
# layers is trained by L-BFGS to predict its input, on all training rows. Its error is
# no larger, but its codes and its decoder have to be computed from `coefs_`.

from sklearn.neural_network import MLPRegressor

mlp = MLPRegressor(
    hidden_layer_sizes=(32, 16, 2, 16, 32),
    activation="tanh",
    solver="lbfgs",
    alpha=0.01,
    max_iter=5000,
    random_state=0,
)
start = perf_counter()
mlp.fit(X_train, X_train)
print(f"MLPRegressor: {mlp.n_iter_} iterations in {perf_counter() - start:.1f} seconds")

images = {
    "input": X_test,
    "PCA": pca.inverse_transform(pca.transform(X_test)),
    "Autoencoder": autoencoder.inverse_transform(autoencoder.transform(X_test)),
    "MLPRegressor": mlp.predict(X_test),
}
for name, reconstruction in list(images.items())[1:]:
    error = ((reconstruction - X_test) ** 2).mean()
    print(f"{name:12} mean squared error {error:.4f}")

# %%
# One test image of each digit, and what is left of it after two numbers:

import numpy as np

first = [np.flatnonzero(y_test == digit)[0] for digit in range(10)]
figure, axes = plt.subplots(4, 10, figsize=(10, 4.6), layout="constrained")
for row, (name, rows) in zip(axes, images.items(), strict=True):
    for ax, image in zip(row, rows[first], strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name, fontsize=9)
plt.show()

# %%
# The codes lie between -1 and 1. A grid over this square shows how the decoder passes
# from digit to digit.

# sphinx_gallery_thumbnail_number = 3
grid = (np.arange(14) + 0.5) / 7 - 1
codes = np.stack(np.meshgrid(grid, grid[::-1]), axis=2).reshape(-1, 2)
tiles = autoencoder.inverse_transform(codes).reshape(14, 14, 8, 8)
tiles = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)))
figure, ax = plt.subplots(figsize=(6, 6), layout="constrained")
mosaic = tiles.swapaxes(1, 2).reshape(140, 140)
ax.imshow(mosaic, cmap="gray_r", vmin=0, vmax=1, extent=(-1, 1, -1, 1))
ax.set(xlabel="first code", ylabel="second code")
plt.show()
