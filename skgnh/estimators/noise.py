"""A variance of the noise that differs from row to row."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgnh.arrays import as_precision, pick, to_host
from skgnh.estimators.rows import outputs
from skgnh.lazy_rows import made
from skgnh.network import append_one

Array = Any

# Rows that the noise is learned from at most, and the most leverage of one.
_ROWS, _MOST_LEVERAGE = 5000, 0.95


class NoiseModel(NamedTuple):
    """Variance of the noise of each row, as a multiple of its mean."""

    estimator: Any
    """A network of scaled rows with a log link."""
    least: Array
    """The least that training rows were given, (d,)."""
    most: Array
    """The most, (d,): a network does not know better outside."""

    def ratio(self, inputs: Array) -> Array:
        """Return the multiples of scaled rows with their ones, (n, d)."""
        with np.errstate(over="ignore"):
            found = np.exp(self.estimator._outputs(to_host(inputs)))
        return np.clip(found, self.least, self.most)


def noise_model(template: Any, fit: Any, posterior: Any) -> NoiseModel | None:
    r"""Return a network of the noise's variance, from what the mean's network leaves.

    Its targets are squared residuals :math:`e^2 / (1 - h)`, whose expectation is the
    variance where the leverage h is taken account of, over the mean variance. It is fit
    by quasi-likelihood under its own evidence, which finds a constant where the rows
    give no reason for more.

    Parameters
    ----------
    template : estimator
        Unfitted, with a log link, for scaled rows.
    fit : Fit
        The finished fit of the mean.
    posterior : LaplacePosterior
        Of its parameters.

    Returns
    -------
    NoiseModel or None
        None where residuals are not finite. From 5,000 rows at most.
    """
    rows, dispersion = fit.ground.rows, float(fit.hyper.dispersion)
    kept = np.arange(rows.X.shape[0])
    if len(kept) > _ROWS:
        kept = np.sort(fit.state.rng.choice(kept, _ROWS, replace=False))
    weights = np.ones(len(kept)) if rows.weights is None else rows.weights[kept]
    inputs = append_one(made(pick(rows.X, kept)))
    z = outputs(fit.network, fit.expand(fit.training.theta), inputs)
    v = posterior.output_variance(as_precision(inputs, np.float64))
    # The noise is learned by arrays of NumPy.
    inputs, z, v = map(to_host, (inputs, z, v))
    X, targets = inputs[:, :-1], to_host(pick(rows.targets, kept))
    with np.errstate(all="ignore"):
        leverage = np.minimum(weights[:, None] * v / dispersion, _MOST_LEVERAGE)
        squares = (targets - z) ** 2 / dispersion / (1 - leverage)
        squares = squares.astype(X.dtype)
    if squares.shape[1] == 1:
        squares = squares[:, 0]
    if not np.isfinite(squares).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        learned = template.fit(X, squares, weights)
    with np.errstate(over="ignore"):
        found = np.exp(learned._outputs(inputs))
    return NoiseModel(learned, found.min(axis=0), found.max(axis=0))
