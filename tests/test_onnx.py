"""ONNX graphs give what the estimators give, alone and in pipelines."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from tasks import CLASSIFICATION, KINDS, MODES, REGRESSION, task

import skgnh
from skgnh import GaussNewtonMLPClassifier
from skgnh.onnx import register_converters

pytestmark = [
    pytest.mark.extra,
    pytest.mark.filterwarnings(
        # A few iterations are enough.
        "ignore::sklearn.exceptions.ConvergenceWarning",
        # Of onnx and skl2onnx.
        "ignore::DeprecationWarning",
        "ignore::FutureWarning",
    ),
]
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module")
def onnx():
    """Return the function that converts a model and runs it."""
    skl2onnx = pytest.importorskip("skl2onnx")
    runtime = pytest.importorskip("onnxruntime")
    register_converters()

    def run(model, X, **options):
        proto = skl2onnx.to_onnx(model, X[:1], options=options or None)
        session = runtime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(None, {session.get_inputs()[0].name: X})

    return run


def fitted(kind, **settings):
    model, X, y = task(kind, max_iter=3, tol=0.1, **settings)
    X = X * [1, 10, 0.1, 1] + [0, 30, -0.5, 2]
    return model.fit(X, y), X


def assert_same(found, expected, dtype):
    assert found.dtype == np.dtype(dtype)
    atol = TOLERANCE[dtype] * max(1, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_graphs_give_what_estimators_give(onnx, kind, mode, dtype):
    model, X = fitted(kind, **MODES[mode])
    X = X.astype(dtype)
    if kind in CLASSIFICATION:
        labels, probabilities = onnx(model, X, zipmap=False)
        assert_same(probabilities, model.predict_proba(X), dtype)
        np.testing.assert_array_equal(labels, model.predict(X))
    elif kind in REGRESSION:
        (mean,) = onnx(model, X)
        assert_same(mean, model.predict(X).reshape(len(X), -1), dtype)
    else:
        (codes,) = onnx(model, X)
        assert_same(codes, model.transform(X), dtype)


def test_columns_far_from_zero_keep_their_digits(onnx):
    model, X, y = task("regression", max_iter=3, tol=0.1, standardize=True)
    X = (X + 1e4).astype(np.float32)
    model.fit(X, y)
    assert_same(onnx(model, X)[0][:, 0], model.predict(X), "float32")


@pytest.mark.parametrize("activation", ["identity", "logistic", "relu"])
def test_every_activation(onnx, activation):
    model, X = fitted("regression", activation=activation, standardize=True)
    assert_same(onnx(model, X)[0][:, 0], model.predict(X), "float64")


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_at_the_end_of_a_pipeline(onnx, kind):
    model, X, y = task(kind, max_iter=3, tol=0.1, standardize=True)
    columns = make_column_transformer((MinMaxScaler(), [0, 1]), ("passthrough", [3]))
    pipeline = make_pipeline(columns, StandardScaler(), model).fit(X, y)
    if kind == "multiclass":
        labels, probabilities = onnx(pipeline, X, zipmap=False)
        assert_same(probabilities, pipeline.predict_proba(X), "float64")
        np.testing.assert_array_equal(labels, pipeline.predict(X))
    else:
        assert_same(onnx(pipeline, X)[0][:, 0], pipeline.predict(X), "float64")


def test_codes_amid_a_pipeline(onnx):
    coder, X, _ = task("autoencoder", max_iter=3, tol=0.1)
    model, _, y = task("several targets", max_iter=3, tol=0.1)
    pipeline = make_pipeline(coder, model).fit(X, y)
    assert_same(onnx(pipeline, X)[0], pipeline.predict(X), "float64")


def test_probabilities_by_label(onnx):
    model, X = fitted("binary")
    # The runtime's ZipMap takes single precision only.
    labels, probabilities = onnx(model, X.astype(np.float32))
    assert list(labels) == list(model.predict(X))
    found = [[row[label] for label in model.classes_] for row in probabilities]
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("labels", [[False, True], [0.0, 1.0, 2.0], ["é", "ü", "ß"]])
def test_labels_of_every_kind(onnx, labels):
    X = np.random.default_rng(0).standard_normal((30, 3))
    y = np.array(labels)[np.arange(30) % len(labels)]
    model = GaussNewtonMLPClassifier((), alpha=1.0, max_iter=2, tol=0.1).fit(X, y)
    assert list(onnx(model, X, zipmap=False)[0]) == list(model.predict(X))


def test_rows_fitted_sparse_are_not_centred(onnx):
    from scipy import sparse

    model, X, y = task("regression", max_iter=3, tol=0.1, standardize=True)
    X += 3
    model.fit(sparse.csr_array(X), y)
    assert_same(onnx(model, X)[0][:, 0], model.predict(X), "float64")


def test_averaged_probabilities_are_refused(onnx):
    model, X = fitted("binary", alpha="evidence", average=True)
    with pytest.raises(ValueError, match="average=False"):
        onnx(model, X)


def test_the_package_does_not_import_onnx():
    at_once = re.compile(r"^(from|import) (onnx|skl2onnx)", re.MULTILINE)
    for module in Path(skgnh.__file__).parent.rglob("*.py"):
        assert not at_once.search(module.read_text(encoding="utf-8")), module
