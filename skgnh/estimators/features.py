"""What hidden layers make of rows."""

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import check_is_fitted

from skgnh.arrays import as_precision, float_dtypes, precision
from skgnh.estimators.collections import maps_blocks
from skgnh.estimators.mapped import validate_rows
from skgnh.network import ACTIVATIONS, append_one
from skgnh.operators.from_estimator import check_place

Array = Any


def run_layers(estimator: Any, a: Array, first: int, last: int) -> Array:
    """Run layers `first` to ``last - 1`` of a fitted network on their scaled inputs.

    The last layer of all has no activation here.
    """
    names = [*estimator.hidden_activations_, "identity"]
    theta = as_precision(estimator._scaled_parameters, precision(a))
    layers = estimator._network.unpack(theta)
    for layer, name in zip(layers[first:last], names[first:last], strict=True):
        a = ACTIVATIONS[name].value(append_one(a) @ layer.T)
    return a


class HiddenFeaturesMixin(ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Transform rows to the activations of a hidden layer."""

    @maps_blocks
    def transform(self, X: Array, layer: int = -1) -> Array:
        """Return the activations of a hidden layer.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        layer : int, default=-1
            Which hidden layer, from the first on; negative ones count from the last.
            Of others than the last, outputs are arrays: ``set_output`` and
            ``get_feature_names_out`` are of the last.

        Returns
        -------
        ndarray of shape (n_samples, width)
            Features that the next layer is linear in.

        Raises
        ------
        ValueError
            If there is no such layer, or one that ``set_output`` has no names for.
        """
        check_is_fitted(self)
        X = validate_rows(
            self, X, reset=False, accept_sparse="csr", dtype=float_dtypes(X)
        )
        check_place(X, self.coefs_[0], self)
        place = self._checked_layer(layer)
        container = _get_output_config("transform", self)["dense"]
        if place + 1 < len(self.hidden_activations_) and container != "default":
            raise ValueError(
                f"layer={layer} has no names of columns: outputs of {container!r} are "
                "of the last layer only. Call set_output(transform='default')."
            )
        with np.errstate(over="ignore"):
            return run_layers(self, self._scaling_.scale_inputs(X), 0, place + 1)

    def get_feature_names_out(self, input_features: Array | None = None) -> Array:
        """Return the names of the last hidden layer's features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Ignored.

        Returns
        -------
        ndarray of str
            The class's name in small letters, numbered.

        Raises
        ------
        ValueError
            If there is no hidden layer.
        """
        check_is_fitted(self)
        self._checked_layer(-1)
        return super().get_feature_names_out(input_features)

    def _checked_layer(self, layer: int) -> int:
        """Return which hidden layer is meant, from the first on.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        depth = len(self.hidden_activations_)
        if not -depth <= layer < depth:
            raise ValueError(f"layer={layer!r}, but there are {depth} hidden layers.")
        return layer % depth

    @property
    def _n_features_out(self) -> int:
        """Width of the last hidden layer, that names of the features are made from."""
        return self.coefs_[-1].shape[0]

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
