"""Fitted networks to and from scikit-learn's own perceptrons."""

from copy import deepcopy
from inspect import signature
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skgnh.arrays import to_host
from skgnh.estimators.publish import publish
from skgnh.network import MLP
from skgnh.scaling import Scaling
from skgnh.training import State

# What both call alike: of the network, of its training, where there is one, and
# parameters.
_NETWORK = ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_")
_RECORDS = ("n_iter_", "loss_", "feature_names_in_")
_CURVES = ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_")
_PARAMETERS = (
    "activation",
    "alpha",
    "early_stopping",
    "random_state",
    "validation_fraction",
    "warm_start",
)


class SklearnExchangeMixin:
    """Conversion to and from scikit-learn's multi-layer perceptron."""

    _has_labels: bool
    classes_: Any
    n_iter_: int

    def to_sklearn(self) -> Any:
        """Return scikit-learn's perceptron with these weights.

        It predicts the same, to rounding, and is independent of this estimator.
        Parameters are scikit-learn's defaults but for the layers, `activation`, `loss`,
        `random_state` and, if it is a number, `alpha`, which counts on raw columns
        there. `loss_` and `loss_curve_` are this estimator's.

        Returns
        -------
        MLPClassifier or MLPRegressor
            The fitted perceptron, which ``partial_fit`` and ``warm_start`` go on from.

        Raises
        ------
        NotFittedError
            If this estimator is not fitted.
        ValueError
            If scikit-learn has no such network: with probabilities averaged over the
            posterior, layers of different activations, or a loss that its version
            does not have.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skgnh import GaussNewtonMLPClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = GaussNewtonMLPClassifier(5, random_state=0).fit(X, y)
        >>> mlp = model.to_sklearn()
        >>> mlp
        MLPClassifier(activation='tanh', hidden_layer_sizes=(5,), random_state=0)
        >>> bool(abs(mlp.predict_proba(X) - model.predict_proba(X)).max() < 1e-10)
        True
        """
        check_is_fitted(self)
        mlp = (MLPClassifier if self._has_labels else MLPRegressor)(**_settings(self))
        made = _common(self, _NETWORK + _RECORDS)
        # Served by what knows NumPy alone, wherever the fit was.
        for name in ("coefs_", "intercepts_"):
            made[name] = [to_host(layer) for layer in made[name]]
        # One that came from L-BFGS has none.
        made["loss_curve_"] = list(getattr(self, "loss_curve_", []))
        # Of scikit-learn's objective, on raw columns, nothing has been reached yet.
        made |= {"best_loss_": np.inf, "_no_improvement_count": 0}
        made |= {"validation_scores_": None, "best_validation_score_": None}
        made["t_"] = round(self.n_iter_ * getattr(self, "_n_seen_", 0))
        if self._has_labels:
            made["classes_"] = np.array(to_host(self.classes_))
            made["_label_binarizer"] = _binarizer(self)
        vars(mlp).update(made)
        return mlp

    @classmethod
    def from_sklearn(cls, mlp: Any, **params: Any) -> Any:
        """Return an estimator with the weights of scikit-learn's perceptron.

        It predicts the same, and ``partial_fit`` and ``warm_start`` go on from its
        weights. Its objective is the perceptron's too: `standardize` is False and
        `alpha` that number, unless `params` say otherwise. It has no posterior, nor
        what else only a fit by the evidence gives, until it has had one.

        Parameters
        ----------
        mlp : MLPClassifier or MLPRegressor
            Fitted; of the kind of this class.
        **params : dict
            Parameters of the estimator.

        Returns
        -------
        estimator
            Fitted, and independent of `mlp`.

        Raises
        ------
        TypeError
            If it is of another kind.
        NotFittedError
            If it is not fitted.
        ValueError
            If it has learned one class only.

        Examples
        --------
        What the evidence makes of a perceptron that was stopped early:

        >>> from sklearn.datasets import make_friedman1
        >>> from sklearn.neural_network import MLPRegressor
        >>> from skgnh import GaussNewtonMLPRegressor
        >>> X, y = make_friedman1(200, random_state=0)
        >>> mlp = MLPRegressor(hidden_layer_sizes=10, activation="tanh", random_state=0)
        >>> for _ in range(10):
        ...     mlp = mlp.partial_fit(X, y)
        >>> model = GaussNewtonMLPRegressor.from_sklearn(
        ...     mlp, alpha="evidence", standardize=True, warm_start=True
        ... )
        >>> bool(abs(model.predict(X) - mlp.predict(X)).max() < 1e-10)
        True
        >>> model.fit(X, y).score(X, y) > 0.9 > mlp.score(X, y)
        True
        """
        kind = MLPClassifier if cls._has_labels else MLPRegressor
        if not isinstance(mlp, kind):
            raise TypeError(
                f"{cls.__name__}.from_sklearn needs a fitted {kind.__name__}, got "
                f"{type(mlp).__name__}."
            )
        check_is_fitted(mlp)
        made = _common(mlp, _NETWORK + _RECORDS + _CURVES)
        made["hidden_activations_"] = [mlp.activation] * (len(mlp.coefs_) - 1)
        if cls._has_labels:
            made |= _labels(mlp)
        theta = MLP(_widths(mlp), tuple(made["hidden_activations_"])).from_coefs(
            made["coefs_"], made["intercepts_"]
        )
        seed = check_random_state(mlp.random_state).randint(2**31 - 1)
        made["_state_"] = State(theta, np.random.default_rng(seed))
        given = {name: getattr(mlp, name) for name in _PARAMETERS}
        given |= {"hidden_layer_sizes": _widths(mlp)[1:-1], "standardize": False}
        if not cls._has_labels:
            given["loss"] = getattr(mlp, "loss", "squared_error")
        estimator = cls(**given | params)
        publish(estimator, made | {"_scaling_": Scaling(), "_penalty_": None})
        return estimator


def _widths(fitted: Any) -> tuple[int, ...]:
    return (fitted.n_features_in_, *(coef.shape[1] for coef in fitted.coefs_))


def _common(fitted: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return copies of the weights, and of the attributes of these names it has."""
    names = ("coefs_", "intercepts_", *names)
    return {
        name: deepcopy(vars(fitted)[name]) for name in names if name in vars(fitted)
    }


def _settings(estimator: Any) -> dict[str, Any]:
    """Return the parameters of scikit-learn's perceptron.

    Raises
    ------
    ValueError
        If it has no such network.
    """
    activations = set(estimator.hidden_activations_)
    if len(activations) > 1:
        raise ValueError(
            "scikit-learn's perceptron has one activation for all hidden layers, not "
            f"{estimator.hidden_activations_}."
        )
    if getattr(estimator, "average", False) and estimator._posterior is not None:
        raise ValueError(
            "scikit-learn's perceptron cannot average probabilities over the "
            "posterior: set_params(average=False) first."
        )
    made = {
        "hidden_layer_sizes": _widths(estimator)[1:-1],
        "random_state": estimator.random_state,
    }
    if activations:
        made["activation"] = activations.pop()
    if not isinstance(estimator.alpha, str):
        made["alpha"] = estimator.alpha
    if estimator.out_activation_ == "exp":
        if "loss" not in signature(MLPRegressor).parameters:
            raise ValueError("The Poisson loss needs scikit-learn 1.7 or later.")
        made["loss"] = "poisson"
    return made


def _binarizer(classifier: Any) -> LabelBinarizer:
    """Return what scikit-learn's classifier reads and gives labels by."""
    classes = to_host(classifier.classes_)
    if classifier._multilabel_:
        return LabelBinarizer().fit(np.eye(len(classes), dtype=int))
    return LabelBinarizer().fit(classes)


def _labels(mlp: Any) -> dict[str, Any]:
    """Return what a classifier knows of labels.

    Raises
    ------
    ValueError
        If there is one class only.
    """
    if len(mlp.classes_) < 2:
        raise ValueError(f"A classifier needs at least 2 classes, not {mlp.classes_}.")
    kind = mlp._label_binarizer.y_type_
    classes = np.array(mlp.classes_)
    return {"classes_": classes, "_multilabel_": kind == "multilabel-indicator"}
