"""Plots of predictive distributions: whether they are right, and where they are."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from numbers import Integral
from typing import Any

import numpy as np
from scipy.special import ndtri
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_scalar

from skgnh.arrays import check_at_home
from skgnh.inspection.axes import axes_of

Array = Any
Bounds = tuple[Array, Array]

_DIAGONAL_LABEL = "Perfectly calibrated"


class CoverageDisplay:
    """Share of targets inside a regressor's central intervals, by nominal coverage.

    Where the predictive distributions are right, the curve lies on the diagonal; below
    it they are too narrow, above it too wide. The legend has the mean absolute
    deviation (MAD) from it. Rows should be ones that the regressor was not fitted to.

    Parameters
    ----------
    nominal : ndarray of shape (n_levels,)
        Nominal coverages, between 0 and 1.
    empirical : ndarray of shape (n_levels,)
        Shares of the targets inside the intervals.
    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Artist
        The curve.
    ax_ : matplotlib Axes
        Axes that it is drawn on.
    figure_ : matplotlib Figure
        Their figure.
    mean_absolute_deviation : float
        Mean distance of the curve from the diagonal, over the levels.

    See Also
    --------
    CoverageDisplay.from_estimator : Of a regressor and rows.
    CoverageDisplay.from_predictions : Of means and standard deviations.
    PredictionBandDisplay : The intervals along a feature.

    Notes
    -----
    The intervals are to be of targets, noise included. The standard deviations of
    :class:`~sklearn.gaussian_process.GaussianProcessRegressor` have the noise only
    where its kernel has, as a ``WhiteKernel``. Intervals of counts are whole numbers,
    and hold more than their coverage where counts are small.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import make_friedman1
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.inspection import CoverageDisplay
    >>> X, y = make_friedman1(300, noise=1.0, random_state=0)
    >>> model = GaussNewtonMLPRegressor(random_state=0).fit(X[:200], y[:200])
    >>> display = CoverageDisplay.from_estimator(model, X[200:], y[200:])
    >>> bool(display.mean_absolute_deviation < 0.1)
    True
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, nominal: Array, empirical: Array, name: str | None = None):
        self.nominal = nominal
        self.empirical = empirical
        self.name = name

    @property
    def mean_absolute_deviation(self) -> float:
        """Mean distance of the curve from the diagonal, over the levels."""
        return float(np.mean(np.abs(self.empirical - self.nominal)))

    def plot(self, ax=None, *, name=None, ref_line=True, **kwargs):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None those of a new figure.
        name : str, default=None
            Name in the legend; it takes the place of the attribute.
        ref_line : bool, default=True
            Whether to draw the diagonal. Axes that have it get no second one.
        **kwargs : dict
            Passed to :meth:`matplotlib.axes.Axes.plot` for the curve.

        Returns
        -------
        display : CoverageDisplay
            Itself.
        """
        self.ax_ = axes_of(ax, "CoverageDisplay.plot")
        self.figure_ = self.ax_.figure
        self.name = self.name if name is None else name
        if ref_line and _DIAGONAL_LABEL not in self.ax_.get_legend_handles_labels()[1]:
            self.ax_.plot([0, 1], [0, 1], "k:", label=_DIAGONAL_LABEL)
        label = f"MAD = {self.mean_absolute_deviation:.3f}"
        label = label if self.name is None else f"{self.name} ({label})"
        style = {"marker": ".", "label": label, **kwargs}
        (self.line_,) = self.ax_.plot(self.nominal, self.empirical, **style)
        self.ax_.set(xlabel="Nominal coverage", ylabel="Share of targets inside")
        self.ax_.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        self.ax_.legend()
        return self

    @classmethod
    def from_estimator(
        cls, estimator, X, y, *, levels=None, sample_weight=None, **kwargs
    ):
        """Draw the coverage of a regressor's intervals.

        Parameters
        ----------
        estimator : estimator
            A fitted regressor, the last step of a pipeline or the best of a search,
            with ``predict_interval(X, coverage)`` or else
            ``predict(X, return_std=True)``, of which normal intervals are made.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their targets. Those of all outputs count.
        levels : array-like of shape (n_levels,), default=None
            Nominal coverages, between 0 and 1; if None 0.05, 0.1, ..., 0.95.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the shares.
        **kwargs : dict
            Passed to :meth:`plot`: `ax`, `name` (by default that of the estimator's
            class) and more.

        Returns
        -------
        display : CoverageDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the data are at fault; the message names the argument.
        TypeError
            If the estimator predicts neither intervals nor standard deviations.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import BayesianRidge
        >>> from skgnh.inspection import CoverageDisplay
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = BayesianRidge().fit(X[::2], y[::2])
        >>> display = CoverageDisplay.from_estimator(model, X[1::2], y[1::2])
        >>> display.line_.get_label()
        'BayesianRidge (MAD = 0.0...)'
        >>> plt.close(display.figure_)
        """
        y, levels = _numbers(y, "y", 2), _levels(levels)
        bounds = _intervals(estimator, X, levels)
        shares = _shares_inside(y, bounds, sample_weight)
        name = type(estimator).__name__
        return cls(nominal=levels, empirical=shares, name=name).plot(**kwargs)

    @classmethod
    def from_predictions(
        cls, y_true, y_pred, y_std, *, levels=None, sample_weight=None, **kwargs
    ):
        """Draw the coverage of normal intervals.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets. Those of all outputs count.
        y_pred : array-like of the shape of `y_true`
            Predicted means.
        y_std : array-like of the shape of `y_true`
            Predicted standard deviations of the targets.
        levels : array-like of shape (n_levels,), default=None
            Nominal coverages, between 0 and 1; if None 0.05, 0.1, ..., 0.95.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in the shares.
        **kwargs : dict
            Passed to :meth:`plot`: `ax`, `name` and more.

        Returns
        -------
        display : CoverageDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the data are at fault; the message names the argument.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from skgnh.inspection import CoverageDisplay
        >>> display = CoverageDisplay.from_predictions(
        ...     [1.0, 2.0, 3.0, 4.0], [1.1, 1.8, 3.5, 1.0], [1.0] * 4, levels=[0.3, 0.9]
        ... )
        >>> display.empirical
        array([0.5 , 0.75])
        >>> plt.close(display.figure_)
        """
        levels = _levels(levels)
        y_true, y_pred, y_std = _alike(2, y_true=y_true, y_pred=y_pred, y_std=y_std)
        if y_std.min() < 0:
            raise ValueError("y_std has negative values.")
        bounds = _normal_intervals(y_pred, y_std, levels)
        shares = _shares_inside(y_true, bounds, sample_weight)
        return cls(nominal=levels, empirical=shares).plot(**kwargs)


@dataclass(eq=False, repr=False)
class PredictionBandDisplay:
    """Predictions along one feature, with a band that targets lie in.

    Parameters
    ----------
    x : ndarray of shape (n_points,)
        Values of the feature, in rising order.
    y_pred, lower, upper : ndarray of shape (n_points,)
        Predictions there, and the bounds of the band.
    x_rows, y_rows : ndarray of shape (n_samples,), default=None
        The feature and the target of rows, which are drawn as points.
    coverage : float, default=None
        Nominal coverage of the band, for the legend.
    feature_name, target_name : str, default=None
        Labels of the axes.
    name : str, default=None
        Name of the line in the legend.

    Attributes
    ----------
    line_ : matplotlib Artist
        The predictions.
    band_ : matplotlib Artist
        The band.
    scatter_ : matplotlib Artist or None
        The rows, if there are any.
    ax_ : matplotlib Axes
        Axes that they are drawn on.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    PredictionBandDisplay.from_estimator : Of a regressor and rows.
    PredictionBandDisplay.from_predictions : Of predictions and bounds.
    CoverageDisplay : Whether the intervals hold what they should.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.inspection import PredictionBandDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-3, 3, (80, 1))
    >>> y = np.sin(X[:, 0]) + 0.1 * rng.standard_normal(80)
    >>> model = GaussNewtonMLPRegressor(random_state=0).fit(X, y)
    >>> display = PredictionBandDisplay.from_estimator(model, X, y, coverage=0.95)
    >>> display.band_.get_label()
    '95% interval'
    >>> plt.close(display.figure_)
    """

    x: Array
    y_pred: Array
    lower: Array
    upper: Array
    x_rows: Array = None
    y_rows: Array = None
    coverage: float | None = None
    feature_name: str = "x"
    target_name: str = "y"
    name: str = "Prediction"

    def plot(
        self, ax=None, *, name=None, band_kwargs=None, scatter_kwargs=None, **kwargs
    ):
        """Draw the line, its band and the rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None those of a new figure.
        name : str, default=None
            Name in the legend; it takes the place of the attribute.
        band_kwargs : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.fill_between` for the band.
        scatter_kwargs : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.scatter` for the rows.
        **kwargs : dict
            Passed to :meth:`matplotlib.axes.Axes.plot` for the line.

        Returns
        -------
        display : PredictionBandDisplay
            Itself.
        """
        self.ax_ = axes_of(ax, "PredictionBandDisplay.plot")
        self.figure_ = self.ax_.figure
        self.name = self.name if name is None else name
        style = {"label": self.name, **kwargs}
        (self.line_,) = self.ax_.plot(self.x, self.y_pred, **style)
        # The band has the line's colour, whatever the user or the cycle made it.
        share = "" if self.coverage is None else f"{100 * self.coverage:g}% "
        style = {"alpha": 0.25, "label": f"{share}interval"}
        style = _colored(style, band_kwargs, self.line_.get_color())
        self.band_ = self.ax_.fill_between(self.x, self.lower, self.upper, **style)
        self.scatter_ = None
        if self.y_rows is not None:
            style = {"s": 12, "alpha": 0.4, "label": "Data"}
            style = _colored(style, scatter_kwargs, "black")
            self.scatter_ = self.ax_.scatter(self.x_rows, self.y_rows, **style)
        self.ax_.set(xlabel=self.feature_name, ylabel=self.target_name)
        self.ax_.legend()
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        feature=0,
        target=0,
        coverage=0.9,
        grid_resolution=100,
        **kwargs,
    ):
        """Draw a regressor's predictions along one feature.

        All other features are held: numbers at their medians, others at their most
        frequent values. So the band is of targets at that point, and rows drawn lie
        outside it where the other features matter.

        Parameters
        ----------
        estimator : estimator
            A fitted regressor, the last step of a pipeline or the best of a search,
            with ``predict_interval(X, coverage)`` or else
            ``predict(X, return_std=True)``, of which normal intervals are made.
        X : {array-like, DataFrame} of shape (n_samples, n_features)
            Rows, which give the range and the medians.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Their targets; if None no rows are drawn.
        feature : int or str, default=0
            Index of the feature, or its name in a DataFrame.
        target : int, default=0
            Index of the output, where there are several.
        coverage : float, default=0.9
            Nominal coverage of the band.
        grid_resolution : int, default=100
            Number of values of the feature. They go a tenth of its range over the rows
            beyond it at each end.
        **kwargs : dict
            Passed to :meth:`plot`: `ax`, `name` (by default that of the estimator's
            class) and more.

        Returns
        -------
        display : PredictionBandDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a parameter or the data are at fault; the message names the argument.
        TypeError
            If the estimator predicts neither intervals nor standard deviations.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.linear_model import BayesianRidge
        >>> from skgnh.inspection import PredictionBandDisplay
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = BayesianRidge().fit(X, y)
        >>> display = PredictionBandDisplay.from_estimator(model, X, y, feature=2)
        >>> display.ax_.get_xlabel()
        'x2'
        >>> plt.close(display.figure_)
        """
        (coverage,) = _levels([coverage], "coverage").tolist()
        check_at_home(X, cls.__name__)
        columns, names = _columns(X)
        index = _index(feature, names)
        x_rows = _numbers(columns[index], f"feature={feature!r}")
        y_rows = None if y is None else _alike(X=x_rows, y=_output(y, target))[1]
        x = _grid(x_rows, grid_resolution)
        points = _points(X, columns, index, x)
        bounds = next(_intervals(estimator, points, [coverage]))
        outputs = (estimator.predict(points), *bounds)
        kwargs["name"] = kwargs.get("name") or type(estimator).__name__
        return cls.from_predictions(
            x,
            *(_output(values, target) for values in outputs),
            x_rows=x_rows,
            y_rows=y_rows,
            coverage=coverage,
            feature_name=names[index],
            target_name=getattr(y, "name", None) or "y",
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        x,
        y_pred,
        lower,
        upper,
        *,
        x_rows=None,
        y_rows=None,
        coverage=None,
        feature_name="x",
        target_name="y",
        **kwargs,
    ):
        """Draw predictions with given bounds.

        Parameters
        ----------
        x : array-like of shape (n_points,)
            Values of the feature, in any order.
        y_pred, lower, upper : array-like of shape (n_points,)
            Predictions there, and the bounds of the band.
        x_rows, y_rows : array-like of shape (n_samples,), default=None
            The feature and the target of rows to draw as points, if both are given.
        coverage : float, default=None
            Nominal coverage of the band, for the legend.
        feature_name, target_name : str, default=None
            Labels of the axes.
        **kwargs : dict
            Passed to :meth:`plot`: `ax`, `name` and more.

        Returns
        -------
        display : PredictionBandDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the data are at fault; the message names the argument.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from skgnh.inspection import PredictionBandDisplay
        >>> display = PredictionBandDisplay.from_predictions(
        ...     [0, 1, 2], y_pred=[1, 2, 1], lower=[0, 1, 0], upper=[2, 3, 4]
        ... )
        >>> display.line_.get_ydata()
        array([1., 2., 1.])
        >>> plt.close(display.figure_)
        """
        if coverage is not None:
            (coverage,) = _levels([coverage], "coverage").tolist()
        curves = np.array(_alike(x=x, y_pred=y_pred, lower=lower, upper=upper))
        if (curves[2] > curves[3]).any():
            raise ValueError("lower exceeds upper.")
        curves = curves[:, np.argsort(curves[0], kind="stable")]
        if y_rows is not None:
            x_rows, y_rows = _alike(x_rows=x_rows, y_rows=y_rows)
        display = cls(*curves, x_rows, y_rows, coverage, feature_name, target_name)
        return display.plot(**kwargs)


def _colored(style: dict, given: Mapping | None, color: Any) -> dict:
    """Return keywords, with a colour unless one is given by whatever name."""
    given = dict(given or {})
    if {"c", "color", "fc", "facecolor", "facecolors"}.isdisjoint(given):
        style["color"] = color
    return style | given


def _numbers(values: Array, name: str, ndim: int = 1) -> Array:
    """Return finite numbers, as (n,) or where `ndim` is two as (n, n_outputs)."""
    try:
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers.") from error
    if not (1 <= values.ndim <= ndim and values.size and np.isfinite(values).all()):
        raise ValueError(
            f"{name} must be finite, not empty, and {ndim}-dimensional at most; it has "
            f"shape {values.shape}."
        )
    return values if ndim == 1 else values.reshape(len(values), -1)


def _alike(ndim: int = 1, **arrays: Array) -> list[Array]:
    """Return arrays of numbers, of which the first says what shape all must have."""
    arrays = {name: _numbers(values, name, ndim) for name, values in arrays.items()}
    (first, like), *others = arrays.items()
    for name, values in others:
        if values.shape != like.shape:
            raise ValueError(
                f"{name} has shape {values.shape}, {first} has {like.shape}."
            )
    return list(arrays.values())


def _levels(levels: Array | None, name: str = "levels") -> Array:
    """Return coverages in rising order, by default 0.05 to 0.95."""
    levels = np.arange(1, 20) / 20 if levels is None else levels
    levels = np.sort(_numbers(levels, name))
    if levels[0] <= 0 or levels[-1] >= 1:
        raise ValueError(f"{name} must be strictly between 0 and 1.")
    return levels


def _shares_inside(y: Array, bounds: Iterable[Bounds], weights: Array | None) -> Array:
    """Return the share of targets inside the bounds, or on them, for each level."""
    if weights is not None:
        _, weights = _alike(y=y[:, 0], sample_weight=weights)
        if weights.min() < 0 or weights.max() == 0:
            raise ValueError("sample_weight must not be negative, nor all zero.")
    shares = []
    for lower, upper in bounds:
        lower, upper, _ = _alike(2, prediction=lower, upper=upper, y=y)
        inside = ((lower <= y) & (y <= upper)).mean(axis=1)
        shares.append(np.average(inside, weights=weights))
    return np.array(shares)


def _intervals(estimator: Any, X: Array, levels: Iterable[float]) -> Iterator[Bounds]:
    """Yield lower and upper bounds for each level."""
    estimator, X = _last_step(estimator, X)
    if hasattr(estimator, "predict_interval"):
        for level in levels:
            bounds = np.asarray(estimator.predict_interval(X, float(level)))
            yield bounds[..., 0], bounds[..., 1]
    elif "return_std" in signature(estimator.predict).parameters:
        mean, std = estimator.predict(X, return_std=True)
        yield from _normal_intervals(mean, std, levels)
    else:
        name = type(estimator).__name__
        raise TypeError(f"{name} predicts neither intervals nor standard deviations.")


def _normal_intervals(mean: Array, std: Array, levels: Array) -> Iterator[Bounds]:
    for level in levels:
        half = ndtri(0.5 + 0.5 * level) * std
        yield mean - half, mean + half


def _last_step(estimator: Any, X: Array) -> tuple[Any, Array]:
    """Return what predicts, inside pipelines and searches, and its input."""
    # They have no `predict_interval`, and pass on `return_std` at best.
    estimator = getattr(estimator, "best_estimator_", estimator)
    if isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        return _last_step(estimator[-1], X)
    return estimator, X


def _columns(X: Array) -> tuple[list[Array], list[str]]:
    """Return the columns of an array or a DataFrame, and their names."""
    if hasattr(X, "columns"):
        return [np.asarray(X[name]) for name in X.columns], [*map(str, X.columns)]
    columns = list(check_array(X, input_name="X").T)
    return columns, [f"x{i}" for i in range(len(columns))]


def _index(feature: int | str, names: list[str]) -> int:
    if feature in names:
        return names.index(feature)
    if isinstance(feature, Integral) and 0 <= feature < len(names):
        return int(feature)
    raise ValueError(f"Unknown feature={feature!r} among {names}.")


def _grid(rows: Array, size: int) -> Array:
    """Return numbers equally far apart, over the range of the rows and a margin."""
    check_scalar(size, "grid_resolution", Integral, min_val=2)
    low, high = rows.min(), rows.max()
    if low == high:
        raise ValueError("The feature is constant over X, and has no range.")
    beyond = 0.1 * (high - low)
    return np.linspace(low - beyond, high + beyond, size)


def _points(X: Array, columns: list[Array], index: int, x: Array) -> Array:
    """Return rows of the kind of X, `x` in one column and the others held."""
    columns = [np.full(len(x), _typical(column)) for column in columns]
    columns[index] = x
    if hasattr(X, "columns"):
        return type(X)(dict(zip(X.columns, columns, strict=True)))
    return np.column_stack(columns)


def _typical(column: Array) -> Any:
    """Return the median of numbers, or the most frequent of other values."""
    if column.dtype.kind in "iuf":
        return np.median(column)
    return Counter(column.tolist()).most_common(1)[0][0]


def _output(values: Array, target: int) -> Array:
    """Return one output of predictions or targets."""
    values = np.reshape(values, (len(values), -1))
    if not 0 <= target < values.shape[1]:
        raise ValueError(f"target={target!r}, but there are {values.shape[1]} outputs.")
    return values[:, target]
