"""Loss curves of one or several trainings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skgnh.inspection.axes import axes_of

Array = Any


class LossCurveDisplay:
    """Loss after each iteration, of the training and of the validation rows.

    Those of one model have one colour, the validation rows' being dashed.

    Parameters
    ----------
    curves : dict of str to array-like of shape (n_iter,)
        Training losses, by the name of the model.
    validation_curves : dict of str to array-like of shape (n_iter,), default=None
        Validation losses of those models that have any.

    Attributes
    ----------
    lines_, validation_lines_ : dict of str to matplotlib Artist
        The curves.
    ax_ : matplotlib Axes
        Axes that they are drawn on.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    LossCurveDisplay.from_estimator : Of one fitted model.
    LossCurveDisplay.from_estimators : Of several.

    Notes
    -----
    Losses compare where objectives do: those of this package with a number `alpha` and
    ``standardize=False`` are scikit-learn's.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.inspection import LossCurveDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussNewtonMLPClassifier(5, alpha=0.1, random_state=0)
    >>> model = model.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    >>> display = LossCurveDisplay.from_estimator(model)
    >>> [text.get_text() for text in display.ax_.get_legend().get_texts()]
    ['GaussNewtonMLPClassifier', 'GaussNewtonMLPClassifier, validation']
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, curves: Mapping, validation_curves: Mapping | None = None):
        self.curves = curves
        self.validation_curves = validation_curves

    def plot(self, ax=None, *, log=False, **kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None those of a new figure.
        log : bool, default=False
            Whether the axis of the losses is logarithmic.
        **kwargs : dict
            Passed to :meth:`matplotlib.axes.Axes.plot` for every curve.

        Returns
        -------
        display : LossCurveDisplay
            Itself.
        """
        self.ax_ = axes_of(ax, "LossCurveDisplay.plot")
        self.figure_ = self.ax_.figure
        self.lines_, self.validation_lines_ = {}, {}
        for name, curve in self.curves.items():
            style = {"label": name, **kwargs}
            self.lines_[name] = self._line(curve, style)
            held_out = (self.validation_curves or {}).get(name)
            if held_out is not None:
                color = self.lines_[name].get_color()
                beside = {"color": color, "label": f"{name}, validation"}
                style = {**kwargs, **beside, "linestyle": "--"}
                self.validation_lines_[name] = self._line(held_out, style)
        self.ax_.set(xlabel="Iteration", ylabel="Loss")
        if log:
            self.ax_.set_yscale("log")
        self.ax_.legend()
        return self

    def _line(self, curve: Array, style: dict) -> Any:
        (line,) = self.ax_.plot(np.arange(1, len(curve) + 1), curve, **style)
        return line

    @classmethod
    def from_estimator(cls, estimator, *, name=None, **kwargs):
        """Draw the loss curves of a fitted model.

        Parameters
        ----------
        estimator : estimator
            Of this package, or scikit-learn's perceptron; it may be the last step of a
            pipeline or the best of a search.
        name : str, default=None
            Name in the legend, by default that of its class.
        **kwargs : dict
            Passed to :meth:`plot`: `ax`, `log` and more.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ValueError
            If it has no `loss_curve_`, as scikit-learn's after L-BFGS.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.neural_network import MLPRegressor
        >>> from skgnh.inspection import LossCurveDisplay
        >>> X, y = load_diabetes(return_X_y=True)
        >>> mlp = MLPRegressor(random_state=0).partial_fit(X, y)
        >>> display = LossCurveDisplay.from_estimator(mlp, name="Adam")
        >>> len(display.lines_["Adam"].get_ydata())
        1
        >>> plt.close(display.figure_)
        """
        name = type(_network(estimator)).__name__ if name is None else name
        return cls.from_estimators({name: estimator}, **kwargs)

    @classmethod
    def from_estimators(cls, estimators, **kwargs):
        """Draw the loss curves of several fitted models.

        Parameters
        ----------
        estimators : dict of str to estimator
            Models by their names in the legend.
        **kwargs : dict
            Passed to :meth:`plot`: `ax`, `log` and more.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.

        Raises
        ------
        NotFittedError, ValueError
            See :meth:`from_estimator`.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_iris
        >>> from skgnh import GaussNewtonMLPClassifier
        >>> from skgnh.inspection import LossCurveDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> models = {
        ...     solver: GaussNewtonMLPClassifier(
        ...         5, alpha=1, solver=solver, random_state=0
        ...     ).fit(X, y)
        ...     for solver in ("dense", "cg")
        ... }
        >>> display = LossCurveDisplay.from_estimators(models, log=True)
        >>> list(display.lines_)
        ['dense', 'cg']
        >>> plt.close(display.figure_)
        """
        curves, held_out = {}, {}
        for name, estimator in estimators.items():
            network = _network(estimator)
            check_is_fitted(network)
            curves[name] = getattr(network, "loss_curve_", None)
            if curves[name] is None:
                raise ValueError(f"{network} has recorded no loss_curve_.")
            held_out[name] = getattr(network, "validation_loss_curve_", None)
        return cls(curves=curves, validation_curves=held_out).plot(**kwargs)


def _network(estimator: Any) -> Any:
    """Return the network inside pipelines and searches."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    return _network(estimator[-1]) if isinstance(estimator, Pipeline) else estimator
