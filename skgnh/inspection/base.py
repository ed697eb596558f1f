"""From the parameters of a transformer to a fitted network."""

from typing import Any

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import has_fit_parameter

from skgnh.estimators import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)

Array = Any


def is_prefit(estimator: Any, prefit: bool) -> bool:
    """Say whether the estimator is to be taken as it is."""
    return prefit or isinstance(estimator, FrozenEstimator)


def fit_network(
    estimator: Any,
    prefit: bool,
    random_state: Any,
    X: Array,
    y: Array,
    sample_weight: Array,
) -> Any:
    """Return a fitted network: a clone, a default for the data, or the one given.

    Parameters
    ----------
    estimator : estimator or None
        The network; if None, the classifier or the regressor by the type of the
        target, or the autoencoder if there is none.
    prefit : bool
        Whether the estimator is fitted; so is one in a FrozenEstimator.
    random_state : int, RandomState instance or None
        Seed of a default network.
    X, y, sample_weight : array-like
        The data of ``fit``.

    Returns
    -------
    estimator
        Fitted.

    Raises
    ------
    ValueError
        If `prefit` comes without an estimator, or it does not take the weights given.
    """
    if isinstance(estimator, FrozenEstimator):
        return estimator.estimator
    if prefit:
        if estimator is None:
            raise ValueError("prefit=True needs the fitted estimator.")
        return estimator
    network = (
        _default(y)(random_state=random_state)
        if estimator is None
        else clone(estimator)
    )
    if sample_weight is None:
        return network.fit(X, y)
    if not has_fit_parameter(network, "sample_weight"):
        raise ValueError(f"{type(network).__name__} takes no sample_weight.")
    return network.fit(X, y, sample_weight=sample_weight)


def _default(y: Array) -> Any:
    if y is None:
        return GaussNewtonAutoencoder
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind.startswith("continuous"):
        return GaussNewtonMLPRegressor
    return GaussNewtonMLPClassifier
