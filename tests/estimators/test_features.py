"""What hidden layers make of rows: `transform` of classifier and regressor."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from tasks import MODES, task

# A few iterations are enough.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = ("multiclass", "regression")
ACTIVATION = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}


def fitted(kind, **settings):
    model, X, y = task(kind, max_iter=3, tol=0.1, **settings)
    return model.fit(X, y), X


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", ACTIVATION)
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_activations_of_raw_weights(kind, activation, mode):
    model, X = fitted(kind, activation=activation, **MODES[mode])
    a = X
    for layer in range(2):
        z = a @ model.coefs_[layer] + model.intercepts_[layer]
        a = ACTIVATION[activation](z)
        for place in (layer, layer - 2):
            np.testing.assert_allclose(model.transform(X, layer=place), a, atol=1e-10)
    np.testing.assert_allclose(model.transform(X), a, atol=1e-10)


def test_outputs_are_linear_in_the_last_features():
    model, X = fitted("regression", standardize=True)
    z = model.transform(X) @ model.coefs_[-1] + model.intercepts_[-1]
    np.testing.assert_allclose(z[:, 0], model.predict(X))


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_rows_and_single_precision(kind):
    model, X = fitted(kind)
    np.testing.assert_allclose(
        model.transform(sparse.csr_array(X)), model.transform(X), atol=1e-12
    )
    single = model.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, model.transform(X), atol=1e-5)


def test_names_are_of_the_last_layer():
    pd = pytest.importorskip("pandas")
    model, X = fitted("regression")
    names = [f"gaussnewtonmlpregressor{k}" for k in range(4)]
    assert list(model.get_feature_names_out()) == names
    plain = model.transform(X)
    table = model.set_output(transform="pandas").transform(X)
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == names
    np.testing.assert_array_equal(table, plain)
    np.testing.assert_array_equal(model.transform(X, layer=1), plain)
    with pytest.raises(ValueError, match="layer=0 has no names"):
        model.transform(X, layer=0)


def test_a_network_feeds_a_pipeline():
    model, X, y = task("regression", max_iter=3, tol=0.1)
    pipeline = make_pipeline(model, LinearRegression()).fit(X, y)
    again = LinearRegression().fit(model.fit(X, y).transform(X), y)
    np.testing.assert_allclose(pipeline.predict(X), again.predict(model.transform(X)))
    assert len(pipeline[:-1].get_feature_names_out()) == 4


def test_layers_that_there_are_not():
    model, X = fitted("regression")
    for layer in (2, -3):
        with pytest.raises(ValueError, match=f"layer={layer}, but there are 2 hidden"):
            model.transform(X, layer=layer)
    linear, X = fitted("regression", hidden_layer_sizes=())
    with pytest.raises(ValueError, match="0 hidden layers"):
        linear.transform(X)
    with pytest.raises(ValueError, match="0 hidden layers"):
        linear.get_feature_names_out()
    # scikit-learn lists attributes by asking for each.
    assert "transform" in dir(linear)
