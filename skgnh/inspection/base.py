"""What estimators about a network share: where it comes from, and its features."""

from typing import Any

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import has_fit_parameter

from skgnh.arrays import check_at_home
from skgnh.estimators import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)

Array = Any


class NetworkMixin:
    """Parameters `estimator`, `prefit` and `random_state` say which network it is.

    That is a clone, fitted; a default for the data if `estimator` is None; or the one
    given, if it is `prefit` or in a FrozenEstimator. Fitted it is `estimator_`.
    """

    estimator: Any
    estimator_: Any
    prefit: bool
    random_state: Any

    def _given(self) -> tuple[Any, bool]:
        """Return the estimator, not frozen, and whether it is taken as it is."""
        if isinstance(self.estimator, FrozenEstimator):
            return self.estimator.estimator, True
        return self.estimator, self.prefit

    def _fit_network(self, X: Array, y: Array, sample_weight: Array) -> Any:
        """Return the network, fitted to the data of ``fit`` unless it is already.

        Raises
        ------
        TypeError
            If X is of another library than NumPy.
        ValueError
            If `prefit` comes without an estimator, or it does not take the weights
            given.
        """
        check_at_home(X, type(self).__name__)
        estimator, prefit = self._given()
        if prefit:
            if estimator is None:
                raise ValueError("prefit=True needs the fitted estimator.")
            return estimator
        if estimator is None:
            network = _default(y)(random_state=self.random_state)
        else:
            network = clone(estimator)
        if sample_weight is None:
            return network.fit(X, y)
        if not has_fit_parameter(network, "sample_weight"):
            raise ValueError(f"{type(network).__name__} takes no sample_weight.")
        return network.fit(X, y, sample_weight=sample_weight)

    @property
    def n_features_in_(self) -> int:
        """Number of features."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> Array:
        """Names of the features, where the network was fitted with any."""
        return self.estimator_.feature_names_in_


def _default(y: Array) -> Any:
    if y is None:
        return GaussNewtonAutoencoder
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind.startswith("continuous"):
        return GaussNewtonMLPRegressor
    return GaussNewtonMLPClassifier
