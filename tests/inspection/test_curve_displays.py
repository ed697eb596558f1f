"""Displays of losses, spectra and ranks, by what they draw."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color
from scipy.integrate import trapezoid
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import task

from skgnh.hmatrix import compress, hodlr
from skgnh.inspection import (
    GNHSpectrum,
    HMatrixDisplay,
    LossCurveDisplay,
    SpectrumDisplay,
)
from skgnh.operators import DenseMatrix, GaussNewtonHessian

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _figures():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def network():
    model, X, y = task("multiclass", max_iter=4, alpha=0.1)
    return model.fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:]), X, y


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# ---- losses --------------------------------------------------------------------------


def test_losses_of_training_and_validation_rows(network):
    model = network[0]
    display = LossCurveDisplay.from_estimator(model, name="net")
    train, held_out = display.lines_["net"], display.validation_lines_["net"]
    assert display.ax_.get_lines() == [train, held_out]
    n = model.n_iter_
    np.testing.assert_array_equal(train.get_xdata(), np.arange(1, n + 1))
    np.testing.assert_array_equal(train.get_ydata(), model.loss_curve_)
    np.testing.assert_array_equal(held_out.get_ydata(), model.validation_loss_curve_)
    assert same_color(train.get_color(), held_out.get_color())
    assert (train.get_linestyle(), held_out.get_linestyle()) == ("-", "--")
    assert labels(display.ax_) == ["net", "net, validation"]
    assert display.ax_.get_xlabel() == "Iteration"
    assert display.ax_.get_ylabel() == "Loss"
    assert display.ax_.get_yscale() == "linear"
    assert display.figure_ is display.ax_.figure


def test_losses_of_several_models_share_axes(network):
    model, X, _ = network
    adam = MLPRegressor(hidden_layer_sizes=3, random_state=0, max_iter=5)
    adam.fit(X, X[:, 0])
    _, ax = plt.subplots()
    models = {"ours": model, "Adam": make_pipeline(StandardScaler(), adam)}
    display = LossCurveDisplay.from_estimators(models, ax=ax, log=True, marker="o")
    assert display.ax_ is ax
    assert plt.get_fignums() == [ax.figure.number]
    assert labels(ax) == ["ours", "ours, validation", "Adam"]
    np.testing.assert_array_equal(display.lines_["Adam"].get_ydata(), adam.loss_curve_)
    assert list(display.validation_lines_) == ["ours"]
    assert not same_color(*(line.get_color() for line in display.lines_.values()))
    assert {line.get_marker() for line in ax.get_lines()} == {"o"}
    assert ax.get_yscale() == "log"
    again = display.plot()
    assert again.ax_ is not ax


def test_losses_are_found_inside_searches():
    model, X, y = task("regression", max_iter=3)
    pipeline = make_pipeline(StandardScaler(), model)
    search = GridSearchCV(pipeline, {"gaussnewtonmlpregressor__alpha": [1.0]}, cv=2)
    display = LossCurveDisplay.from_estimator(search.fit(X, y))
    (line,) = display.ax_.get_lines()
    inner = search.best_estimator_[-1]
    np.testing.assert_array_equal(line.get_ydata(), inner.loss_curve_)
    assert labels(display.ax_) == ["GaussNewtonMLPRegressor"]


def test_losses_that_there_are_not():
    mlp = MLPRegressor(hidden_layer_sizes=2, solver="lbfgs", max_iter=2)
    with pytest.raises(NotFittedError):
        LossCurveDisplay.from_estimator(mlp)
    mlp.fit(np.eye(3), np.arange(3))
    with pytest.raises(ValueError, match="no loss_curve_"):
        LossCurveDisplay.from_estimator(mlp)
    assert not plt.get_fignums()


# ---- spectra -------------------------------------------------------------------------


def eigenvalues(model, X):
    """Return the eigenvalues of the data's share, in falling order."""
    H = GaussNewtonHessian.from_estimator(model, X)
    return np.linalg.eigvalsh(H.toarray() - np.diag(H.ridge))[::-1]


def test_leading_eigenvalues(network):
    model, X, y = network
    spectrum = GNHSpectrum(model, 15, prefit=True, solver="dense").fit(X, y)
    display = SpectrumDisplay.from_estimator(spectrum, color="red", name="exact")
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, 16))
    exact = eigenvalues(model, X)[:15]
    np.testing.assert_allclose(display.line_.get_ydata(), exact, atol=1e-12)
    assert display.line_.get_color() == "red"
    assert labels(display.ax_) == ["exact"]
    assert display.ax_.get_xlabel() == "Rank"
    assert display.ax_.get_ylabel() == "Eigenvalue"
    assert display.ax_.get_xscale() == display.ax_.get_yscale() == "log"


def test_density_of_eigenvalues(network):
    model, X, y = network
    spectrum = GNHSpectrum(model, 5, prefit=True, solver="dense").fit(X, y)
    _, ax = plt.subplots()
    display = SpectrumDisplay.from_estimator(spectrum, kind="density", ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    grid, density = display.line_.get_data()
    expected = spectrum.spectral_density(grid, 0.25, log=True)
    np.testing.assert_allclose(density, expected)
    # The default range holds all eigenvalues.
    assert trapezoid(density, np.log10(grid)) == pytest.approx(1, abs=0.01)
    assert ax.get_xlabel() == "Eigenvalue"
    assert ax.get_ylabel() == "Density per decade"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert ax.get_legend() is None
    own = [1e-3, 1e-2, 1e-1]
    display = SpectrumDisplay.from_estimator(
        spectrum, kind="density", grid=own, width=0.5
    )
    expected = spectrum.spectral_density(own, 0.5, log=True)
    np.testing.assert_allclose(display.line_.get_xydata(), np.c_[own, expected])
    assert len(display.plot().line_.get_ydata()) == 5


def test_spectrum_of_a_network(network):
    model, X, y = network
    display = SpectrumDisplay.from_estimator(model, X, y)
    exact = eigenvalues(model, X)[:10]
    np.testing.assert_allclose(display.line_.get_ydata(), exact, rtol=1e-6)
    with pytest.raises(ValueError, match="needs X"):
        SpectrumDisplay.from_estimator(model)
    with pytest.raises(ValueError, match="kind"):
        display.plot(kind="histogram")
    with pytest.raises(NotFittedError):
        SpectrumDisplay.from_estimator(GNHSpectrum(model))


# ---- ranks ---------------------------------------------------------------------------


def kernel(n=96):
    x = np.random.default_rng(0).random((n, 3))
    distances = np.linalg.norm(x[:, None] - x, axis=2)
    return DenseMatrix(np.exp(-distances) + 0.1 * np.eye(n))


def in_leaves(matrix):
    """Return the array in the order of the leaves, the global part taken out."""
    array = matrix @ np.eye(matrix.shape[0])
    if hasattr(matrix, "leaves"):
        order = matrix.order
    else:
        array -= matrix.low @ matrix.low.T
        index = matrix.index.ravel()
        order = np.concatenate((index[index >= 0], matrix.head.index))
    return array[np.ix_(order, order)]


@pytest.mark.parametrize(
    "matrix",
    [
        hodlr(kernel(), storage=30, leaf_size=13),
        compress(kernel(), rank=5, leaf_size=13, order="kernel"),
        compress(kernel(), rank=4, leaf_size=24, global_rank=3, head_size=7),
        compress(kernel(), rank=48, leaf_size=96),
    ],
    ids=["hodlr", "nested", "head", "one leaf"],
)
def test_ranks_are_those_of_the_blocks(matrix):
    display = HMatrixDisplay.from_matrix(matrix)
    array, covered = in_leaves(matrix), np.zeros(matrix.shape, bool)
    for block in display.blocks:
        part = array[block.rows, block.columns]
        covered[block.rows, block.columns] = covered[block.columns, block.rows] = True
        if block.rows == block.columns:
            assert block.rank == len(part)
        else:
            assert np.linalg.matrix_rank(part, tol=1e-9) == block.rank
    # What no block covers is zero.
    assert np.abs(array[~covered]).max(initial=0) < 1e-9
    assert display.size == len(array)
    assert display.global_rank == getattr(matrix, "low", array[:, :0]).shape[1]


def test_ranks_are_drawn():
    A = hodlr(kernel(), storage=30, leaf_size=24)
    _, ax = plt.subplots()
    display = HMatrixDisplay.from_matrix(A, ax=ax, cmap="magma")
    assert display.ax_ is ax
    assert ax.collections[0] is display.collection_
    drawn = [path.get_extents().bounds for path in display.collection_.get_paths()]
    expected, ranks = [], []
    for rows, columns, rank in display.blocks:
        sides = [(rows, columns)] + [(columns, rows)] * (rows != columns)
        for down, right in sides:
            width, height = right.stop - right.start, down.stop - down.start
            expected.append((right.start, down.start, width, height))
            ranks.append(rank)
    np.testing.assert_allclose(drawn, expected)
    # Four leaves, two pairs and the pair of both.
    assert len(drawn) == 4 + 2 * 2 + 2
    np.testing.assert_array_equal(display.collection_.get_array(), ranks)
    assert [text.get_text() for text in display.texts_] == [str(r) for r in ranks]
    assert display.collection_.get_cmap().name == "magma"
    assert ax.get_ylim() == (96, 0)
    assert len(ax.figure.axes) == 2
    assert ax.figure.axes[1].get_ylabel() == "Rank"
    assert len(display.plot(colorbar=False).figure_.axes) == 1


def test_many_blocks_have_no_numbers():
    display = HMatrixDisplay.from_matrix(hodlr(kernel(), storage=12, leaf_size=3))
    assert not display.texts_
    assert not display.ax_.texts


def test_ranks_of_a_network(network):
    model, X, y = network
    display = HMatrixDisplay.from_estimator(model, X, y, storage=10, leaf_size=8)
    H = GaussNewtonHessian.from_estimator(model, X, y)
    same = HMatrixDisplay.from_matrix(hodlr(H, 10, leaf_size=8))
    assert display.blocks == same.blocks
    with pytest.raises(TypeError, match="ndarray is no hierarchical"):
        HMatrixDisplay.from_matrix(np.eye(3))
