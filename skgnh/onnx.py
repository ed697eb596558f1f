"""Converters to ONNX, for skl2onnx: fitted estimators, alone or in a pipeline.

The package ``skl2onnx`` comes with the extra ``skgnh[onnx]``; nothing of it is imported
before :func:`register_converters` is called.
"""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skgnh.estimators import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)

Array = Any

_OPERATORS = {
    "logistic": "Sigmoid",
    "tanh": "Tanh",
    "relu": "Relu",
    "softmax": "Softmax",
    "exp": "Exp",
}


def register_converters() -> None:
    """Let skl2onnx convert the estimators of this package.

    Afterwards ``skl2onnx.to_onnx`` takes them, and pipelines that end with them:

    - a classifier gives labels and probabilities, as scikit-learn's do, with the
      options `zipmap` and `output_class_labels`;
    - a regressor gives its means, of shape (n_samples, n_outputs);
    - an autoencoder gives the codes of ``transform``, also amid a pipeline.

    Columns are scaled in double precision; of an input of single precision the network
    itself is of single precision. skl2onnx takes a classifier or regressor for one
    amid a pipeline too, never for its hidden features.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Examples
    --------
    >>> from skl2onnx import to_onnx  # doctest: +SKIP
    >>> from sklearn.datasets import load_iris
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.onnx import register_converters
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussNewtonMLPClassifier(5, random_state=0).fit(X, y)
    >>> register_converters()  # doctest: +SKIP
    >>> proto = to_onnx(model, X, options={"zipmap": False})  # doctest: +SKIP
    """
    from skl2onnx import update_registered_converter

    options = {
        "zipmap": [True, False, "columns"],
        "output_class_labels": [False, True],
        "nocl": [True, False],
    }
    for estimator, shapes, convert, own in (
        (GaussNewtonMLPClassifier, _classifier_shapes, _convert_classifier, options),
        (GaussNewtonMLPRegressor, _regressor_shapes, _convert_regressor, None),
        (GaussNewtonAutoencoder, _codes_shapes, _convert_autoencoder, None),
    ):
        update_registered_converter(
            estimator, f"Skgnh{estimator.__name__}", shapes, convert, options=own
        )


# ---- the shapes of outputs -----------------------------------------------------------


def _set_numbers(operator: Any, output: Any, width: int) -> None:
    """Let an output be numbers as precise as the input, of shape (n, width)."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    (given,) = operator.inputs
    is_double = isinstance(given.type, DoubleTensorType)
    kind = DoubleTensorType if is_double else FloatTensorType
    output.set_type(kind([given.get_first_dimension(), width]))


def _classifier_shapes(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    model, (labels, probabilities) = operator.raw_operator, operator.outputs
    width = len(model.classes_)
    n = operator.inputs[0].get_first_dimension()
    are_numbers = model.classes_.dtype.kind in "biuf"
    kind = Int64TensorType if are_numbers else StringTensorType
    labels.set_type(kind([n, width] if model._multilabel_ else [n]))
    _set_numbers(operator, probabilities, width)


def _regressor_shapes(operator: Any) -> None:
    _set_numbers(operator, operator.outputs[0], operator.raw_operator.n_outputs_)


def _codes_shapes(operator: Any) -> None:
    width = operator.raw_operator._n_features_out
    _set_numbers(operator, operator.outputs[0], width)


# ---- the graphs ----------------------------------------------------------------------


class _Graph:
    """Nodes that are appended to a container of skl2onnx."""

    def __init__(self, scope: Any, operator: Any, container: Any):
        from onnx import TensorProto
        from skl2onnx.common.data_types import guess_proto_type

        self._scope, self._container, self.types = scope, container, TensorProto
        (given,) = operator.inputs
        self.source = given.full_name
        is_double = guess_proto_type(given.type) == TensorProto.DOUBLE
        self.dtype = np.dtype(np.float64 if is_double else np.float32)

    def add(self, operator: str, *inputs: Any, out: str | None = None, **attributes):
        """Append a node, arrays being constants, and return the name of its output."""
        out = self._scope.get_unique_variable_name("skgnh") if out is None else out
        names = [a if isinstance(a, str) else self._constant(a) for a in inputs]
        name = self._scope.get_unique_operator_name(f"Skgnh{operator}")
        self._container.add_node(operator, names, [out], name=name, **attributes)
        return out

    def cast(self, a: str, dtype: Any, out: str | None = None) -> str:
        """Return numbers as ones of another dtype."""
        return self.add("Cast", a, out=out, to=self._type(dtype))

    def _constant(self, values: Array) -> str:
        name = self._scope.get_unique_variable_name("skgnh_constant")
        kind, content = self._type(values.dtype), values.ravel()
        if kind == self.types.STRING:
            content = [str(text).encode() for text in content]
        self._container.add_initializer(name, kind, values.shape, content)
        return name

    def _type(self, dtype: Any) -> int:
        names = {"float64": "DOUBLE", "float32": "FLOAT", "int64": "INT64"}
        return getattr(self.types, names.get(np.dtype(dtype).name, "STRING"))

    def affine(self, z: str, steps: list[tuple[str, Array]]) -> str:
        """Return numbers after sums and products, made in double precision."""
        if not steps:
            return z
        z = self.cast(z, np.float64)
        for operator, values in steps:
            z = self.add(operator, z, np.asarray(values, dtype=np.float64))
        return self.cast(z, self.dtype)

    def layers(self, model: Any, last: int) -> str:
        """Return what comes of layers 0 to ``last - 1``; the last of all is linear."""
        scaling, a = model._scaling_, self.cast(self.source, self.dtype)
        if scaling.inputs is not None:
            centred = [("Sub", scaling.inputs.mean)] if scaling.centred else []
            source = self.source
            a = self.affine(source, [*centred, ("Div", scaling.inputs.scale)])
        names = [*model.hidden_activations_, "identity"]
        layers = model._network.unpack(model._scaled_parameters.astype(self.dtype))
        for layer, name in zip(layers[:last], names[:last], strict=True):
            a = self.add("Add", self.add("MatMul", a, layer[:, :-1].T), layer[:, -1])
            a = a if name == "identity" else self.add(_OPERATORS[name], a)
        return a

    def mean(self, model: Any) -> str:
        """Return the inverse link of the outputs, of shape (n, d)."""
        z, outputs = self.layers(model, len(model.coefs_)), model._scaling_.outputs
        if outputs is not None:
            z = self.affine(z, [("Mul", outputs.scale), ("Add", outputs.mean)])
        if model.out_activation_ == "identity":
            return z
        axis: dict[str, Any] = {"axis": 1} if model.out_activation_ == "softmax" else {}
        return self.add(_OPERATORS[model.out_activation_], z, **axis)


def _convert_regressor(scope: Any, operator: Any, container: Any) -> None:
    check_is_fitted(operator.raw_operator)
    graph = _Graph(scope, operator, container)
    mean = graph.mean(operator.raw_operator)
    graph.add("Identity", mean, out=operator.outputs[0].full_name)


def _convert_autoencoder(scope: Any, operator: Any, container: Any) -> None:
    model, graph = operator.raw_operator, _Graph(scope, operator, container)
    codes = graph.layers(model, model._n_encoder_layers)
    graph.add("Identity", codes, out=operator.outputs[0].full_name)


def _convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    model, graph = operator.raw_operator, _Graph(scope, operator, container)
    if model.average and model._posterior is not None:
        raise ValueError(
            "Probabilities averaged over the posterior have no converter to ONNX: "
            "set_params(average=False) first."
        )
    label, probability = (output.full_name for output in operator.outputs)
    p = graph.mean(model)
    if model.n_outputs_ == 1:
        other = graph.add("Sub", np.ones(1, graph.dtype), p)
        graph.add("Concat", other, p, out=probability, axis=1)
    else:
        graph.add("Identity", p, out=probability)
    if model._multilabel_:
        decided = graph.add("Greater", p, np.full(1, 0.5, graph.dtype))
        graph.cast(decided, np.int64, out=label)
        return
    classes = model.classes_
    if classes.dtype.kind in "biuf":
        classes = classes.astype(np.int64)
    best = graph.add("ArgMax", probability, axis=1, keepdims=0)
    graph.add("Gather", classes, best, out=label, axis=0)
