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


class FeaturesMixin:
    """The features of a meta-estimator are those of its network, `estimator_`."""

    @property
    def n_features_in_(self) -> int:
        """Number of features."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> Array:
        """Names of the features, where the network was fitted with any."""
        return self.estimator_.feature_names_in_


def unfrozen(estimator: Any, prefit: bool) -> tuple[Any, bool]:
    """Return the network itself, and whether it is to be taken as it is."""
    if isinstance(estimator, FrozenEstimator):
        return estimator.estimator, True
    return estimator, prefit


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
    estimator, prefit = unfrozen(estimator, prefit)
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
