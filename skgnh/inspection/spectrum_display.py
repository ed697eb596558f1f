"""Spectra of Gauss-Newton Hessians."""

from math import prod
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skgnh.arrays import check_at_home
from skgnh.inspection.axes import axes_of
from skgnh.inspection.spectrum import GNHSpectrum
from skgnh.linalg import check_choice

Array = Any

_KINDS = ("eigenvalues", "density")
# Width of the density, in decades, its points, and the decades beyond the eigenvalues.
_WIDTH, _POINTS, _BEYOND = 0.25, 500, 1.0
# Eigenpairs of a network that comes without its spectrum.
_COMPONENTS = 10


class SpectrumDisplay:
    """Leading eigenvalues of a network's Gauss-Newton Hessian, or the density of all.

    Both axes of the eigenvalues are logarithmic; the density is one over the decimal
    logarithm.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n_components,)
        Leading eigenvalues, in falling order.
    grid, density : ndarray of shape (n_points,)
        Eigenvalues, and the density there, per decade.
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

    See Also
    --------
    SpectrumDisplay.from_estimator : Of a spectrum, or of a network and rows.
    GNHSpectrum : The eigenvalues and their density.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_iris
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.inspection import GNHSpectrum, SpectrumDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> network = GaussNewtonMLPClassifier(5, alpha=0.1, random_state=0)
    >>> spectrum = GNHSpectrum(network, n_components=20).fit(X, y)
    >>> display = SpectrumDisplay.from_estimator(spectrum)
    >>> display.line_.get_ydata().shape
    (20,)
    >>> display = display.plot(kind="density")
    >>> display.ax_.get_ylabel()
    'Density per decade'
    >>> plt.close("all")
    """

    def __init__(
        self, *, eigenvalues: Array, grid: Array, density: Array, name: Any = None
    ):
        self.eigenvalues = eigenvalues
        self.grid = grid
        self.density = density
        self.name = name

    def plot(self, ax=None, *, kind="eigenvalues", name=None, **kwargs):
        """Draw the eigenvalues or the density.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None those of a new figure.
        kind : {'eigenvalues', 'density'}, default='eigenvalues'
            Which.
        name : str, default=None
            Name in the legend; it takes the place of the attribute.
        **kwargs : dict
            Passed to :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : SpectrumDisplay
            Itself.
        """
        check_choice(kind, "kind", _KINDS)
        self.ax_ = axes_of(ax, "SpectrumDisplay.plot")
        self.figure_ = self.ax_.figure
        self.name = self.name if name is None else name
        kwargs = kwargs if self.name is None else {"label": self.name, **kwargs}
        if kind == "eigenvalues":
            ranks = np.arange(1, len(self.eigenvalues) + 1)
            (self.line_,) = self.ax_.plot(ranks, self.eigenvalues, **kwargs)
            self.ax_.set(xlabel="Rank", ylabel="Eigenvalue")
            self.ax_.set(xscale="log", yscale="log")
        else:
            (self.line_,) = self.ax_.plot(self.grid, self.density, **kwargs)
            self.ax_.set(xlabel="Eigenvalue", ylabel="Density per decade")
            self.ax_.set(xscale="log")
        if "label" in kwargs:
            self.ax_.legend()
        return self

    @classmethod
    def from_estimator(
        cls, estimator, X=None, y=None, *, grid=None, width=_WIDTH, **kwargs
    ):
        """Draw the spectrum of a fitted GNHSpectrum, or of a network and rows.

        Parameters
        ----------
        estimator : GNHSpectrum or estimator
            A fitted spectrum, or a fitted multi-layer perceptron, scikit-learn's or
            this package's, of which at most 10 eigenvalues are found.
        X : {array-like, sparse matrix} of shape (n, n_features), default=None
            Rows, for a network.
        y : array-like, default=None
            Their targets, which only ``class_weight`` of a network asks for.
        grid : array-like of float, default=None
            Eigenvalues where the density is asked for; if None from one decade below
            the least that rounding leaves to one above the largest.
        width : float, default=0.25
            Standard deviation that the density is smoothed by, in decades.
        **kwargs : dict
            Passed to :meth:`plot`: `ax`, `kind`, `name` and more.

        Returns
        -------
        display : SpectrumDisplay
            The display, drawn.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If a network comes without rows.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skgnh.inspection import SpectrumDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> mlp = MLPClassifier(8, solver="lbfgs", alpha=1, max_iter=999).fit(X, y)
        >>> display = SpectrumDisplay.from_estimator(mlp, X, kind="density", name="mlp")
        >>> display.line_.get_label()
        'mlp'
        >>> plt.close(display.figure_)
        """
        spectrum = estimator
        if not isinstance(estimator, GNHSpectrum):
            spectrum = _spectrum(estimator, X, y)
        check_is_fitted(spectrum)
        if grid is None:
            grid = _grid(spectrum)
        density = spectrum.spectral_density(grid, width, log=True)
        made = {"eigenvalues": spectrum.eigenvalues_, "grid": np.asarray(grid)}
        return cls(**made, density=density).plot(**kwargs)


def _spectrum(network: Any, X: Array, y: Array) -> GNHSpectrum:
    if X is None:
        raise ValueError(f"The spectrum of {type(network).__name__} needs X.")
    check_at_home(X, "SpectrumDisplay")
    P = sum(prod(coef.shape) for coef in getattr(network, "coefs_", ())) or _COMPONENTS
    k = min(_COMPONENTS, P)
    return GNHSpectrum(network, k, prefit=True, random_state=0).fit(X, y)


def _grid(spectrum: GNHSpectrum) -> Array:
    """Return eigenvalues from below rounding to above the largest."""
    nodes = spectrum.density_nodes_
    largest = nodes.max() or 1.0
    least = max(nodes.min(), np.finfo(float).eps * largest)
    return np.logspace(np.log10(least) - _BEYOND, np.log10(largest) + _BEYOND, _POINTS)
