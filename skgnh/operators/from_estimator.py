"""From a fitted estimator to a network, its parameters, data and loss."""

from numbers import Number
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device
from sklearn.preprocessing import label_binarize
from sklearn.utils import check_array, check_consistent_length, compute_sample_weight
from sklearn.utils.validation import check_is_fitted, validate_data

from skgnh.arrays import (
    as_precision,
    detached,
    float_dtypes,
    is_alike,
    is_foreign,
    library,
    like,
    precision,
    reshape,
    to_host,
)
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one, densified
from skgnh.scaling import Scaling

Array = Any

# What all perceptrons have, scikit-learn's too, and what one without it stands for.
_NEEDED = ("coefs_", "intercepts_", "out_activation_", "activation", "alpha")
_OWN = {
    "classes_": None,
    "class_weight": None,
    "hidden_activations_": None,
    "_needs_targets": True,
    "_penalty_": None,
    "_scaling_": Scaling(),
}


class LoadedModel(NamedTuple):
    """A fitted estimator over given rows, in the terms of the curvature library.

    An estimator that standardizes is a network of scaled columns and targets here, as
    it was trained.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.operators import load_estimator
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> fitted = GaussNewtonMLPRegressor(hidden_layer_sizes=3, random_state=0).fit(
    ...     X, np.sin(3 * X[:, 0])
    ... )
    >>> model = load_estimator(fitted, X)
    >>> model.network.shapes
    ((3, 2), (1, 4))
    >>> model.targets is None
    True
    """

    network: MLP
    theta: Array | None
    """Parameters, of shape (P,); None where there are none yet."""
    inputs: Array
    """Rows with their ones, of shape (n, n_features + 1)."""
    targets: Array | None
    """Targets or encoded labels, of shape (n, d); None if not given."""
    loss: Any
    """One of `skgnh.losses.LOSSES`."""
    weights: Array
    """Weights of the rows, with sum one."""
    ridge: Array
    """Curvature of the penalty, ``alpha / sum(sample_weight)`` at the weights."""
    scaling: Scaling = Scaling()
    """What the columns of other rows are to be scaled by."""


def encode_labels(y: Array, classes: Array, dtype: Any) -> Array:
    """Return the (n, d) targets of labels: one column for two classes.

    A 2-D `y` is a multilabel indicator already.

    Raises
    ------
    ValueError
        If there are labels that are not among the classes.
    """
    y, classes = np.asarray(to_host(y)), to_host(classes)
    if y.ndim == 2 and y.shape[1] > 1:
        return y.astype(dtype)
    y = np.ravel(y)
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"y has classes {unknown} that are not among {classes}.")
    return label_binarize(y, classes=classes).astype(dtype)


def normalized_weights(weights: Array | None, n: int, dtype: Any) -> tuple:
    """Return weights of sum one and the sum that they had."""
    if weights is None:
        return np.full(n, 1 / n, dtype), float(n)
    total = float(np.sum(weights, dtype=np.float64))
    return np.asarray(weights / total, dtype=dtype), total


def assemble(
    network: MLP,
    loss: Any,
    X: Array,
    targets: Array | None,
    weights: Array | None,
    penalty: Array | float,
    theta: Array | None = None,
) -> LoadedModel:
    """Return the parts of scikit-learn's objective over rows of given weights.

    The one place that says what an estimator's objective is: inputs with their ones,
    weights of sum one, and the ridge ``penalty / sum(weights)``: one number is that of
    the network's weights, an array of shape (P,) that of each parameter.
    """
    dtype, penalty = precision(X), to_host(penalty)
    weights, total = normalized_weights(weights, X.shape[0], dtype)
    if np.ndim(penalty) == 0:
        penalty = penalty * network.weight_mask()
    # Weights near zero leave a penalty that is a number all the same.
    with np.errstate(over="ignore"):
        ridge = np.minimum(penalty / total, np.finfo(dtype).max ** 0.5).astype(dtype)
    weights, ridge = like(weights, X), like(ridge, X)
    return LoadedModel(network, theta, append_one(X), targets, loss, weights, ridge)


def load_estimator(
    estimator: Any,
    X: Array,
    y: Array | None = None,
    sample_weight: Array | None = None,
) -> LoadedModel:
    """Read a fitted multi-layer perceptron, scikit-learn's or this package's.

    Parameters
    ----------
    estimator : object
        With scikit-learn's fitted attributes ``coefs_``, ``intercepts_`` and
        ``out_activation_``.
    X : {array-like, sparse matrix} of shape (n, n_features)
        Rows.
    y : array-like, optional
        Targets in the estimator's terms; for an autoencoder X is taken.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows, multiplied with the estimator's ``class_weight``.

    Returns
    -------
    LoadedModel
        The parts.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If it is no multi-layer perceptron or the data do not belong to it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.operators import load_estimator
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(5, solver="lbfgs", alpha=1, max_iter=999, random_state=0)
    >>> model = load_estimator(mlp.fit(X, y), X, y)
    >>> model.inputs.shape, model.targets.shape, model.theta.shape
    ((150, 5), (150, 3), (43,))
    """
    fitted = _attributes(estimator)
    coefs, scaling = fitted.coefs_, fitted._scaling_
    dtype = precision(coefs[0])
    X, y = detached(X), detached(y)
    X = validate_data(
        estimator, X, reset=False, accept_sparse="csr", dtype=float_dtypes(X)
    )
    X = as_precision(check_place(X, coefs[0], estimator), dtype)
    widths = (coefs[0].shape[0], *(coef.shape[1] for coef in coefs))
    activations = fitted.hidden_activations_
    if activations is None:
        activations = [fitted.activation] * (len(coefs) - 1)
    network = MLP(widths, tuple(activations))

    loss, targets = LOSSES[fitted.out_activation_], None
    if not fitted._needs_targets:
        y = X
    if y is not None:
        targets = _targets(y, fitted.classes_, loss, network.n_outputs, dtype)
        targets = like(targets, X)
        check_consistent_length(X, targets)
        targets = scaling.scale_targets(targets)
    weights = _row_weights(fitted.class_weight, X, y, sample_weight)
    raw = network.from_coefs(coefs, fitted.intercepts_)
    theta, X = scaling.unfold(network, raw), scaling.scale_inputs(X)
    penalty = fitted.alpha if fitted._penalty_ is None else fitted._penalty_
    model = assemble(network, loss, X, targets, weights, penalty, theta)
    return model._replace(scaling=scaling)


def _attributes(estimator: Any) -> SimpleNamespace:
    """Return what is read of a fitted perceptron: the one place that knows the names.

    Raises
    ------
    NotFittedError, ValueError
        See :func:`load_estimator`.
    """
    check_is_fitted(estimator)
    found = {name: getattr(estimator, name, None) for name in _NEEDED}
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise ValueError(
            f"{type(estimator).__name__} is no multi-layer perceptron: it has no "
            f"{', '.join(missing)}. Of a pipeline, pass the last step and the rows "
            "that the others have transformed."
        )
    own = {name: getattr(estimator, name, value) for name, value in _OWN.items()}
    return SimpleNamespace(**found, **own)


def _targets(y: Array, classes: Any, loss: Any, n_outputs: int, dtype: Any) -> Array:
    """Return checked targets of shape (n, d)."""
    y = check_array(y, accept_sparse="csr", ensure_2d=False, dtype=None)
    y = densified(y)
    if classes is None:
        if getattr(y.dtype, "kind", "f") in "SU":
            raise ValueError("y must be numbers, got text.")
        targets = as_precision(reshape(y, (y.shape[0], -1)), dtype)
    else:
        targets = encode_labels(y, classes, dtype)
    if targets.shape[1] != n_outputs:
        raise ValueError(
            f"y has {targets.shape[1]} outputs, the estimator has {n_outputs}."
        )
    if not loss.accepts(targets):
        raise ValueError(
            f"y is outside the domain of the estimator's loss, {loss.domain}."
        )
    return targets


def _row_weights(class_weight: Any, X: Array, y: Array, sample_weight: Array) -> Array:
    if sample_weight is not None:
        sample_weight = check_sample_weight(sample_weight, X)
    if class_weight is None:
        return sample_weight
    if y is None:
        raise ValueError("An estimator with class_weight needs y for its row weights.")
    expanded = compute_sample_weight(class_weight, to_host(y))
    return expanded if sample_weight is None else expanded * sample_weight


def check_place(X: Array, weights: Array, estimator: Any) -> Array:
    """Return X, of the namespace and on the device of an estimator's weights.

    Raises
    ------
    ValueError
        If it is elsewhere.
    """
    if not is_alike(X, weights):
        raise ValueError(
            f"X is an array of {_place(X)}, the {type(estimator).__name__} was fitted "
            f"to arrays of {_place(weights)}: pass X as such an array, on the same "
            "device and with array_api_dispatch as in fit."
        )
    return X


def _place(x: Array) -> str:
    """Return of which library an array is, and where it lies."""
    where = f" on {device(x)}" if is_foreign(x) else ""
    return library(x) + where


def check_sample_weight(sample_weight: Array, X: Array) -> Array:
    """Return finite, non-negative weights, not all zero, of shape (n,).

    Raises
    ------
    ValueError
        If they are not.
    """
    if isinstance(sample_weight, Number):
        sample_weight = np.full(X.shape[0], sample_weight)
    weights = check_array(
        to_host(sample_weight),
        ensure_2d=False,
        dtype=np.float64,
        input_name="sample_weight",
    )
    if weights.shape != (X.shape[0],):
        raise ValueError(
            f"sample_weight has shape {weights.shape}, expected ({X.shape[0]},)."
        )
    if (weights < 0).any():
        raise ValueError("sample_weight must not be negative.")
    with np.errstate(over="ignore"):
        total = weights.sum()
    if not np.isfinite(total):
        raise ValueError("The sum of sample_weight overflows: scale the weights.")
    if not weights.any():
        raise ValueError("sample_weight is zero for every row: nothing to fit.")
    return weights
