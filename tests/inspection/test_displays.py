"""The displays by what they draw, against coverages and bands worked out here."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color
from scipy.stats import norm
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import make_column_transformer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import BayesianRidge, LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skgnh import GaussNewtonMLPRegressor
from skgnh.inspection.displays import CoverageDisplay, PredictionBandDisplay

LEVELS = [0.2, 0.5, 0.9]


@pytest.fixture(autouse=True)
def _figures():
    plt.switch_backend("Agg")
    yield
    plt.close("all")


class Stated(RegressorMixin, BaseEstimator):
    """Predicts X @ W, with intervals that are not normal: one below, three above."""

    def __init__(self, W=None):
        self.W = W

    def fit(self, X, y):
        self.is_fitted_ = True
        return self

    def predict(self, X, return_std=False):
        assert not return_std, "where intervals are predicted, they are to be taken"
        self.seen_ = X
        return np.asarray(X, dtype=float) @ np.asarray(self.W)

    def predict_interval(self, X, coverage):
        mean = self.predict(X)
        return np.stack([mean - coverage, mean + 3 * coverage], axis=-1)


def stated(W):
    return Stated(np.asarray(W, dtype=float)).fit(None, None)


def data(n=60, p=3, d=None, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * [1, 2, 5][:p]
    W = rng.standard_normal((p,) if d is None else (p, d))
    noise = rng.standard_normal(n if d is None else (n, d))
    return X, X @ W + noise, W


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def edges(band, x):
    """Return the band's bounds at its points, from the outline of what is filled."""
    outline = band.get_paths()[0].vertices
    at = [outline[np.isclose(outline[:, 0], value), 1] for value in x]
    return [min(ys) for ys in at], [max(ys) for ys in at]


# ---- coverage ------------------------------------------------------------------------


def normal_shares(y, mean, std, levels, weights=None):
    tails = 2 * norm.sf(np.abs(y - mean) / std)
    shares = [tails.reshape(len(y), -1) >= 1 - level for level in levels]
    return [np.average(share.mean(axis=1), weights=weights) for share in shares]


@pytest.mark.parametrize("d", [None, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_coverage_from_predictions(d, weighted):
    X, y, W = data(d=d)
    std = np.abs(np.random.default_rng(1).standard_normal(y.shape)) + 0.3
    weights = np.arange(len(y)) / 10 if weighted else None
    display = CoverageDisplay.from_predictions(y, X @ W, std, sample_weight=weights)
    nominal = np.linspace(0.05, 0.95, 19)
    shares = normal_shares(y, X @ W, std, nominal, weights)
    np.testing.assert_allclose(display.line_.get_xdata(), nominal)
    np.testing.assert_allclose(display.line_.get_ydata(), shares)
    np.testing.assert_allclose(display.nominal, nominal)
    np.testing.assert_allclose(display.empirical, shares)
    assert display.mean_absolute_deviation == pytest.approx(
        np.mean(np.abs(shares - nominal))
    )


def test_coverage_of_one_column_is_that_of_its_values():
    X, y, W = data()
    mean, std = X @ W, np.ones(len(y))
    flat = CoverageDisplay.from_predictions(y, mean, std)
    mixed = CoverageDisplay.from_predictions(y[:, None], mean, std[:, None])
    np.testing.assert_array_equal(mixed.empirical, flat.empirical)


def test_targets_on_a_bound_are_inside():
    display = CoverageDisplay.from_predictions([1, 2], [1, 2.5], [0, 0], levels=[0.5])
    assert display.empirical == [0.5]


def test_coverage_of_predicted_intervals():
    X, _, W = data(n=4)
    y = X @ W + [-0.4, 0.4, 1.4, 2.6]
    display = CoverageDisplay.from_estimator(stated(W), X, y, levels=[0.9, 0.3, 0.5])
    assert list(display.nominal) == [0.3, 0.5, 0.9]
    assert list(display.empirical) == [0.25, 0.75, 1]


def test_coverage_of_predicted_intervals_of_several_outputs():
    X, _, W = data(n=2, d=2)
    y = X @ W + [[-0.6, -0.1], [1.6, 0.1]]
    display = CoverageDisplay.from_estimator(
        stated(W), X, y, levels=[0.5, 0.8], sample_weight=[1, 3]
    )
    np.testing.assert_allclose(display.empirical, [0.5, 1])
    display = CoverageDisplay.from_estimator(
        stated(W), X, y + [[0, 9], [0, 0]], levels=[0.5, 0.8], sample_weight=[1, 3]
    )
    np.testing.assert_allclose(display.empirical, [0.375, 0.875])


@pytest.mark.parametrize(
    "model", [BayesianRidge(), GaussianProcessRegressor(alpha=0.1)], ids=str
)
def test_coverage_of_standard_deviations(model):
    X, y, _ = data()
    model.fit(X[::2], y[::2])
    mean, std = model.predict(X, return_std=True)
    display = CoverageDisplay.from_estimator(model, X, y, levels=LEVELS)
    shares = normal_shares(y, mean, std, LEVELS)
    np.testing.assert_allclose(display.empirical, shares)
    assert 0 < shares[0] < shares[-1]


def test_coverage_of_a_gaussian_process_of_several_outputs():
    X, y, _ = data(d=2)
    model = GaussianProcessRegressor(alpha=0.1).fit(X[::2], y[::2])
    mean, std = model.predict(X, return_std=True)
    display = CoverageDisplay.from_estimator(model, X, y, levels=LEVELS)
    np.testing.assert_allclose(display.empirical, normal_shares(y, mean, std, LEVELS))


def test_coverage_of_the_network():
    X, y, _ = data()
    model = GaussNewtonMLPRegressor(hidden_layer_sizes=4, random_state=0)
    model.fit(X[::2], y[::2])
    display = CoverageDisplay.from_estimator(model, X, y, levels=LEVELS)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(display.empirical, normal_shares(y, mean, std, LEVELS))


def test_intervals_are_found_inside_pipelines_and_searches():
    X, _, W = data(n=6)
    scaled = StandardScaler().fit_transform(X)
    y = scaled @ W + [-0.4, -0.4, -0.4, 1.4, 1.4, 2.6]
    pipeline = make_pipeline(StandardScaler(), Stated(W)).fit(X, y)
    search = GridSearchCV(pipeline, {"stated__W": [W]}, cv=2).fit(X, y)
    for model in pipeline, search, make_pipeline(pipeline):
        display = CoverageDisplay.from_estimator(model, X, y, levels=LEVELS)
        assert list(display.empirical) == [0, 5 / 6, 1]
        assert display.name == type(model).__name__


def test_coverage_is_drawn():
    display = CoverageDisplay(
        nominal=np.array([0.2, 0.6]), empirical=np.array([0.3, 0.4])
    )
    assert display.plot() is display
    assert display.figure_ is display.ax_.figure is plt.gcf()
    diagonal, line = display.ax_.get_lines()
    assert line is display.line_
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    assert labels(display.ax_) == ["Perfectly calibrated", "MAD = 0.150"]
    assert display.ax_.get_xlabel() == "Nominal coverage"
    assert display.ax_.get_ylabel() == "Share of targets inside"
    assert display.ax_.get_xlim() == display.ax_.get_ylim() == (-0.01, 1.01)


def test_curves_share_axes_and_one_diagonal():
    _, ax = plt.subplots()
    X, y, W = data()
    model = BayesianRidge().fit(X, y)
    first = CoverageDisplay.from_estimator(model, X, y, ax=ax)
    second = CoverageDisplay.from_predictions(
        y, X @ W, np.ones(len(y)), ax=ax, name="Truth", color="red", linestyle="--"
    )
    assert first.ax_ is second.ax_ is ax
    assert first.figure_ is second.figure_ is ax.figure
    assert plt.get_fignums() == [ax.figure.number]
    assert len(ax.get_lines()) == 3
    one, two = first.mean_absolute_deviation, second.mean_absolute_deviation
    assert labels(ax) == [
        "Perfectly calibrated",
        f"BayesianRidge (MAD = {one:.3f})",
        f"Truth (MAD = {two:.3f})",
    ]
    assert second.line_.get_color() == "red"
    assert second.line_.get_linestyle() == "--"
    assert second.name == "Truth"


def test_names_and_styles_given_win():
    X, y, _ = data()
    model = BayesianRidge().fit(X, y)
    display = CoverageDisplay.from_estimator(
        model, X, y, name="Mine", ref_line=False, marker="x"
    )
    assert len(display.ax_.get_lines()) == 1
    assert display.line_.get_marker() == "x"
    assert labels(display.ax_)[0].startswith("Mine (MAD = ")
    again = display.plot(name="Yours", label="All mine")
    assert labels(again.ax_)[1] == "All mine"
    assert again.ax_ is not plt.figure(1).axes[0]


ROWS = [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"y_pred": [1.0, 2.0]}, "y_pred"),
        ({"y_std": [1.0]}, "y_std"),
        ({"y_std": [1.0, -1e-9, 1.0]}, "y_std"),
        ({"y_std": [1.0, np.nan, 1.0]}, "y_std"),
        ({"y_true": ["a", "b", "c"]}, "y_true"),
        ({"y_true": []}, "y_true"),
        ({"y_true": np.ones((3, 1, 1))}, "y_true"),
        ({"y_pred": np.ones((3, 2))}, "y_pred"),
        ({"levels": [0.0, 0.5]}, "levels"),
        ({"levels": [0.5, 1.0]}, "levels"),
        ({"levels": [0.5, np.nan]}, "levels"),
        ({"levels": []}, "levels"),
        ({"levels": 0.5}, "levels"),
        ({"levels": [[0.5]]}, "levels"),
        ({"sample_weight": [1.0, 1.0]}, "sample_weight"),
        ({"sample_weight": [1.0, 1.0, -1.0]}, "sample_weight"),
        ({"sample_weight": [0.0, 0.0, 0.0]}, "sample_weight"),
    ],
)
def test_faulty_predictions_are_refused(wrong, named):
    given = {"y_true": ROWS, "y_pred": ROWS, "y_std": ROWS, **wrong}
    with pytest.raises(ValueError, match=f"^{named} "):
        CoverageDisplay.from_predictions(**given)
    assert not plt.get_fignums()


def test_faulty_rows_are_refused():
    X, y, W = data()
    for model in stated(W), BayesianRidge().fit(X, y):
        with pytest.raises(ValueError, match="^y has shape"):
            CoverageDisplay.from_estimator(model, X, y[:-1])
        with pytest.raises(ValueError, match="^sample_weight has shape"):
            CoverageDisplay.from_estimator(model, X, y, sample_weight=y[:-1])
        with pytest.raises(ValueError, match="^levels must be"):
            CoverageDisplay.from_estimator(model, X, y, levels=[1.5])
    model = LinearRegression().fit(X, y)
    with pytest.raises(TypeError, match="LinearRegression predicts neither"):
        CoverageDisplay.from_estimator(make_pipeline(model), X, y)


# ---- the band ------------------------------------------------------------------------


def test_band_of_one_feature():
    X, y, W = data(p=1)
    display = PredictionBandDisplay.from_estimator(stated(W), X, y, coverage=0.8)
    low, high = X.min(), X.max()
    beyond = (high - low) / 10
    x = np.linspace(low - beyond, high + beyond, 100)
    np.testing.assert_allclose(display.line_.get_xdata(), x)
    np.testing.assert_allclose(display.line_.get_ydata(), x * W[0])
    lower, upper = edges(display.band_, x)
    np.testing.assert_allclose(lower, x * W[0] - 0.8)
    np.testing.assert_allclose(upper, x * W[0] + 2.4)
    np.testing.assert_allclose(display.scatter_.get_offsets(), np.c_[X, y])
    assert labels(display.ax_) == ["Stated", "80% interval", "Data"]
    assert display.ax_.get_xlabel() == "x0"
    assert display.ax_.get_ylabel() == "y"
    assert display.figure_ is display.ax_.figure


def test_other_features_are_held_at_their_medians():
    X, y, W = data()
    X[0] = 1e3  # so that means are not medians
    display = PredictionBandDisplay.from_estimator(
        stated(W), X, y, feature=1, grid_resolution=7
    )
    x = display.line_.get_xdata()
    assert len(x) == 7
    held = np.median(X[:, 0]) * W[0] + np.median(X[:, 2]) * W[2]
    np.testing.assert_allclose(display.line_.get_ydata(), held + x * W[1])
    np.testing.assert_array_equal(display.scatter_.get_offsets()[:, 0], X[:, 1])
    assert display.ax_.get_xlabel() == "x1"


def test_without_targets_no_rows_are_drawn():
    X, _, W = data()
    display = PredictionBandDisplay.from_estimator(stated(W), X, name="Mine")
    assert display.scatter_ is None
    assert len(display.ax_.collections) == 1
    assert labels(display.ax_) == ["Mine", "90% interval"]


@pytest.mark.parametrize(
    "model", [BayesianRidge(), GaussianProcessRegressor(alpha=0.1)], ids=str
)
def test_band_of_standard_deviations(model):
    X, y, _ = data()
    model.fit(X, y)
    display = PredictionBandDisplay.from_estimator(model, X, feature=2, coverage=0.5)
    points = np.tile(np.median(X, axis=0), (100, 1))
    points[:, 2] = display.x
    mean, std = model.predict(points, return_std=True)
    lower, upper = edges(display.band_, display.x)
    np.testing.assert_allclose(display.line_.get_ydata(), mean)
    np.testing.assert_allclose(lower, mean - norm.ppf(0.75) * std)
    np.testing.assert_allclose(upper, mean + norm.ppf(0.75) * std)


def test_band_of_the_network():
    X, y, _ = data(p=1)
    model = GaussNewtonMLPRegressor(hidden_layer_sizes=4, random_state=0).fit(X, y)
    display = PredictionBandDisplay.from_estimator(model, X, y)
    points = display.x[:, None]
    np.testing.assert_allclose(display.line_.get_ydata(), model.predict(points))
    bounds = model.predict_interval(points, 0.9).T
    np.testing.assert_allclose(edges(display.band_, display.x), bounds)


@pytest.mark.parametrize("target", [0, 1])
def test_band_of_one_output_of_several(target):
    X, y, W = data(d=2)
    display = PredictionBandDisplay.from_estimator(stated(W), X, y, target=target)
    held = np.median(X, axis=0)[1:] @ W[1:, target]
    line = held + display.x * W[0, target]
    np.testing.assert_allclose(display.line_.get_ydata(), line)
    lower, upper = edges(display.band_, display.x)
    np.testing.assert_allclose(lower, line - 0.9)
    np.testing.assert_allclose(upper, line + 2.7)
    np.testing.assert_array_equal(display.scatter_.get_offsets()[:, 1], y[:, target])


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("feature", ["size", 1])
def test_features_of_a_data_frame(library, feature):
    frame = pytest.importorskip(library).DataFrame
    X, y, W = data()
    # An index that does not start at zero must not misplace anything.
    rows = {} if library == "polars" else {"index": np.arange(5, 5 + len(X))}
    table = frame(dict(zip(["age", "size", "weight"], X.T, strict=True)), **rows)
    series, model = table["age"] + y, stated(W)
    named = series.alias if library == "polars" else series.rename
    display = PredictionBandDisplay.from_estimator(
        model, table, named("price"), feature=feature
    )
    assert isinstance(model.seen_, frame)
    assert list(model.seen_.columns) == ["age", "size", "weight"]
    held = np.median(X[:, 0]) * W[0] + np.median(X[:, 2]) * W[2]
    np.testing.assert_allclose(display.line_.get_ydata(), held + display.x * W[1])
    rows = np.c_[X[:, 1], X[:, 0] + y]
    np.testing.assert_allclose(display.scatter_.get_offsets(), rows)
    assert display.ax_.get_xlabel() == "size"
    assert display.ax_.get_ylabel() == "price"


def test_categories_and_whole_numbers_are_held():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(
        {
            "kind": pd.Categorical(["b", "a", "b", "c", "b", "a"]),
            "count": [1, 2, 4, 8, 16, 32],
            "is_new": [True, True, False, True, False, False],
            "value": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        }
    )
    y = X["value"] + X["kind"].cat.codes
    encoder = make_column_transformer(
        (OneHotEncoder(), ["kind", "is_new"]), remainder="passthrough"
    )
    model = make_pipeline(encoder, BayesianRidge()).fit(X, y)
    display = PredictionBandDisplay.from_estimator(model, X, y, feature="value")
    points = pd.DataFrame(
        {"kind": "b", "count": 6.0, "is_new": True, "value": display.x}
    )
    mean, std = model.predict(points, return_std=True)
    np.testing.assert_allclose(display.line_.get_ydata(), mean)
    half = norm.ppf(0.95) * std
    np.testing.assert_allclose(
        edges(display.band_, display.x), [mean - half, mean + half]
    )
    with pytest.raises(ValueError, match="^feature='kind' must be"):
        PredictionBandDisplay.from_estimator(model, X, y, feature="kind")


def test_points_given_are_drawn_in_order():
    display = PredictionBandDisplay.from_predictions(
        [3, 1, 2],
        [30, 10, 20],
        [29, 9, 19],
        [31, 11, 25],
        x_rows=[5, 4],
        y_rows=[1, 2],
        feature_name="dose",
        target_name="effect",
    )
    points = display.line_.get_xydata()
    np.testing.assert_array_equal(points, [[1, 10], [2, 20], [3, 30]])
    lower, upper = edges(display.band_, [1, 2, 3])
    assert lower == [9, 19, 29]
    assert upper == [11, 25, 31]
    np.testing.assert_array_equal(display.scatter_.get_offsets(), [[5, 1], [4, 2]])
    assert labels(display.ax_) == ["Prediction", "interval", "Data"]
    assert display.ax_.get_xlabel() == "dose"
    assert display.ax_.get_ylabel() == "effect"


CURVES = {"x": ROWS, "y_pred": ROWS, "lower": [0, 0, 0], "upper": [4, 4, 4]}


def test_bands_share_axes_and_have_their_lines_colours():
    _, ax = plt.subplots()
    first = PredictionBandDisplay.from_predictions(**CURVES, ax=ax, coverage=0.95)
    second = PredictionBandDisplay.from_predictions(
        **CURVES, ax=ax, name="Green", color="green", coverage=0.995
    )
    assert first.ax_ is second.ax_ is ax
    assert first.figure_ is second.figure_ is ax.figure
    assert plt.get_fignums() == [ax.figure.number]
    expected = ["Prediction", "95% interval", "Green", "99.5% interval"]
    assert labels(ax) == expected
    for display, color in (first, "C0"), (second, "green"):
        drawn = display.band_.get_facecolor()[0]
        assert same_color(drawn, (color, 0.25))


def test_styles_given_go_to_their_artists():
    display = PredictionBandDisplay.from_predictions(
        **CURVES,
        x_rows=ROWS,
        y_rows=ROWS,
        linewidth=5,
        label="Line",
        band_kwargs={"facecolor": "red", "alpha": 0.5, "label": "Band"},
        scatter_kwargs={"c": ROWS, "label": "Rows"},
    )
    assert display.line_.get_linewidth() == 5
    drawn = display.band_.get_facecolor()[0]
    assert same_color(drawn, ("red", 0.5))
    np.testing.assert_array_equal(display.scatter_.get_array(), ROWS)
    assert labels(display.ax_) == ["Line", "Band", "Rows"]
    again = display.plot(name="Again", color="black")
    assert labels(again.ax_) == ["Again", "interval", "Data"]
    assert same_color(again.scatter_.get_facecolor()[0], ("k", 0.4))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"y_pred": [1.0, 2.0]}, "y_pred"),
        ({"lower": [1.0]}, "lower"),
        ({"upper": [4, 4, 4, 4]}, "upper"),
        ({"lower": [0, 5, 0]}, "lower"),
        ({"x": np.ones((3, 1))}, "x"),
        ({"x": [1, np.inf, 2]}, "x"),
        ({"y_rows": [1.0]}, "x_rows"),
        ({"x_rows": ROWS, "y_rows": [1.0]}, "y_rows"),
        ({"coverage": 1.0}, "coverage"),
    ],
)
def test_faulty_curves_are_refused(wrong, named):
    with pytest.raises(ValueError, match=f"^{named} "):
        PredictionBandDisplay.from_predictions(**{**CURVES, **wrong})
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"feature": 3}, "feature=3"),
        ({"feature": -1}, "feature=-1"),
        ({"feature": "size"}, "feature='size'"),
        ({"feature": 0.0}, "feature=0.0"),
        ({"target": 1}, "target=1"),
        ({"target": -1}, "target=-1"),
        ({"coverage": 0}, "^coverage "),
        ({"coverage": 1.0}, "^coverage "),
        ({"coverage": float("nan")}, "^coverage "),
        ({"grid_resolution": 1}, "grid_resolution"),
        ({"y": [1.0, 2.0]}, "^y has shape"),
        ({"X": np.ones((60, 3))}, "feature is constant"),
        ({"X": np.full((60, 3), np.nan)}, "Input X contains NaN"),
        ({"X": np.ones(60)}, "Expected 2D array"),
    ],
)
def test_faulty_parameters_are_refused(wrong, message):
    X, y, W = data()
    with pytest.raises(ValueError, match=message):
        PredictionBandDisplay.from_estimator(stated(W), **{"X": X, "y": y, **wrong})
    assert not plt.get_fignums()


def test_a_mean_without_spread_has_no_band():
    X, y, _ = data()
    with pytest.raises(TypeError, match="LinearRegression predicts neither"):
        PredictionBandDisplay.from_estimator(LinearRegression().fit(X, y), X, y)


def test_matplotlib_is_needed_for_the_plot_only(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    shown = CoverageDisplay(nominal=np.array(LEVELS), empirical=np.array(LEVELS))
    assert shown.mean_absolute_deviation == 0
    with pytest.raises(ImportError, match="CoverageDisplay.plot requires matplotlib"):
        shown.plot()
    with pytest.raises(ImportError, match="PredictionBandDisplay.plot requires"):
        PredictionBandDisplay.from_predictions(**CURVES)
