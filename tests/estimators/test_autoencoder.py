"""The autoencoder: codes, reconstructions and their scores."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tasks import Failing, assert_same_model, fit, fitted, parameters, task, weights

from skgnh import GaussNewtonAutoencoder


@pytest.mark.parametrize(
    ("sizes", "widths"),
    [
        ((3,), [4, 3, 4]),
        (3, [4, 3, 4]),
        ([6, 2], [4, 6, 2, 6, 4]),
        (np.array([5, 3, 1]), [4, 5, 3, 1, 3, 5, 4]),
        ((2, 7), [4, 2, 7, 2, 4]),
    ],
)
def test_decoder_mirrors_the_encoder(sizes, widths):
    estimator, X, _ = fitted("autoencoder", encoder_layer_sizes=sizes, max_iter=2)
    shapes = [coef.shape for coef in estimator.coefs_]
    assert shapes == list(zip(widths[:-1], widths[1:], strict=True))
    assert [len(b) for b in estimator.intercepts_] == widths[1:]
    code = widths[len(widths) // 2]
    assert estimator.transform(X).shape == (len(X), code)
    assert estimator.inverse_transform(estimator.transform(X)).shape == X.shape
    assert len(estimator.get_feature_names_out()) == code


def test_code_has_its_own_activation():
    estimator, X, _ = fitted(
        "autoencoder", encoder_layer_sizes=(5, 3, 2), code_activation="logistic"
    )
    names = ["tanh", "tanh", "logistic", "tanh", "tanh"]
    assert estimator.hidden_activations_ == names
    codes = estimator.transform(X)
    assert (codes > 0).all()
    assert (codes < 1).all()


def test_codes_are_those_of_the_layers():
    estimator, X, _ = fitted("autoencoder", activation="relu")
    (W, V, T, U), (a, b, c, d) = estimator.coefs_, estimator.intercepts_
    codes = np.maximum(X @ W + a, 0) @ V + b
    np.testing.assert_allclose(estimator.transform(X), codes, rtol=1e-12)
    rows = np.maximum(codes @ T + c, 0) @ U + d
    np.testing.assert_allclose(estimator.inverse_transform(codes), rows, rtol=1e-12)


def test_prediction_decodes_the_codes():
    estimator, X, _ = fitted("autoencoder")
    found = estimator.predict(X)
    decoded = estimator.inverse_transform(estimator.transform(X))
    np.testing.assert_allclose(found, decoded, rtol=1e-12)
    assert found.shape == X.shape


def test_fit_transform_is_fit_and_transform():
    one, X, _ = task("autoencoder", tol=1e-2)
    codes = one.fit_transform(X)
    other = task("autoencoder", tol=1e-2).estimator.fit(X)
    np.testing.assert_array_equal(codes, other.transform(X))


def test_scores_are_minus_the_mean_squared_error():
    estimator, X, _ = fitted("autoencoder")
    errors = np.mean((X - estimator.predict(X)) ** 2, axis=1)
    np.testing.assert_allclose(estimator.score_samples(X), -errors, rtol=1e-12)
    assert estimator.score(X) == pytest.approx(-errors.mean())
    w = np.random.default_rng(1).uniform(0, 2, len(X))
    assert estimator.score(X, None, w) == pytest.approx(-np.average(errors, weights=w))
    squares = sum(np.sum(coef**2) for coef in estimator.coefs_)
    penalty = estimator.alpha / (2 * len(X)) * squares
    assert estimator.loss_ == pytest.approx(errors.mean() / 2 + penalty)


def test_rows_unlike_the_training_rows_score_low():
    estimator, X, _ = fitted("autoencoder", max_iter=50)
    unlike = np.column_stack([X[:, :2], -X[:, 2:]])
    assert np.median(estimator.score_samples(unlike)) < estimator.score_samples(X).min()


@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_linear_autoencoder_reaches_principal_components(n_components):
    estimator, X, _ = task(
        "autoencoder", encoder_layer_sizes=n_components, alpha=0, tol=0
    )
    fit(estimator, X)
    pca = PCA(n_components).fit(X)
    projected = pca.inverse_transform(pca.transform(X))
    best = -np.mean((X - projected) ** 2)
    assert estimator.score(X) == pytest.approx(best, rel=1e-4)
    np.testing.assert_allclose(estimator.predict(X), projected, atol=0.02)


def test_hidden_layers_beat_principal_components():
    estimator, X, _ = fitted("autoencoder", max_iter=100)
    pca = PCA(2).fit(X)
    linear = -np.mean((X - pca.inverse_transform(pca.transform(X))) ** 2)
    assert estimator.score(X) > 0.8 * linear


def test_weights_move_to_scikit_learn_and_back():
    estimator, X, _ = fitted("autoencoder", code_activation="tanh")
    settings = {"activation": "tanh", "max_iter": 1, "random_state": 0}
    mlp = fit(MLPRegressor(hidden_layer_sizes=(5, 2, 5), **settings), X, X)
    drawn = weights(mlp)
    mlp.coefs_, mlp.intercepts_ = estimator.coefs_, estimator.intercepts_
    np.testing.assert_allclose(mlp.predict(X), estimator.predict(X), rtol=1e-10)
    mlp.coefs_, mlp.intercepts_ = drawn[:4], drawn[4:]
    estimator.coefs_, estimator.intercepts_ = drawn[:4], drawn[4:]
    np.testing.assert_allclose(estimator.predict(X), mlp.predict(X), rtol=1e-10)


def test_first_weights_are_those_of_scikit_learn_moved_to_the_mean():
    estimator, X, _ = task("autoencoder", code_activation="tanh", solver=Failing())
    fit(estimator, X)
    settings = {"hidden_layer_sizes": (5, 2, 5), "activation": "tanh", "max_iter": 1}
    settings.update(random_state=0, learning_rate_init=1e-300)
    mlp = fit(MLPRegressor(**settings), X, X)
    for ours, theirs in zip(weights(estimator)[:-1], weights(mlp)[:-1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    moved = estimator.intercepts_[-1] - mlp.intercepts_[-1]
    np.testing.assert_allclose(moved, X.mean(axis=0), rtol=1e-10)


def test_targets_are_ignored():
    one, X, _ = task("autoencoder", max_iter=3)
    other = task("autoencoder", max_iter=3).estimator
    assert_same_model(fit(one, X), fit(other, X, np.array(["what"] * len(X))))


def test_weights_of_the_rows_are_those_of_repeated_rows():
    one, X, _ = task("autoencoder", max_iter=5, solver="dense")
    other = task("autoencoder", max_iter=5, solver="dense").estimator
    w = np.random.default_rng(1).integers(0, 4, len(X))
    fit(one, X, None, w), fit(other, np.repeat(X, w, axis=0))
    np.testing.assert_allclose(parameters(one), parameters(other), rtol=1e-6)


def test_single_precision_stays_single():
    estimator, X, _ = task("autoencoder", max_iter=5)
    X = X.astype(np.float32)
    fit(estimator, X)
    assert {a.dtype for a in weights(estimator)} == {X.dtype}
    codes = estimator.transform(X)
    assert codes.dtype == np.float32
    assert estimator.inverse_transform(codes).dtype == np.float32
    assert estimator.predict(X).dtype == np.float32
    double = fitted("autoencoder", max_iter=5).estimator
    np.testing.assert_allclose(codes, double.transform(X), atol=0.02)


def test_precision_of_the_codes_is_that_of_the_rows():
    estimator, X, _ = fitted("autoencoder", max_iter=3)
    assert estimator.transform(X.astype(np.float32)).dtype == np.float32
    assert estimator.transform(X).dtype == np.float64


# ---- frames -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "frame"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]
)
def test_codes_come_as_a_frame_where_asked(library, frame):
    estimator, X, _ = task("autoencoder", max_iter=3)
    codes = fit(estimator, X).transform(X)
    estimator.set_output(transform=library)
    found = estimator.transform(X)
    assert isinstance(found, frame)
    names = ["gaussnewtonautoencoder0", "gaussnewtonautoencoder1"]
    assert list(found.columns) == names
    np.testing.assert_array_equal(estimator.get_feature_names_out(), names)
    np.testing.assert_array_equal(found.to_numpy(), codes)
    np.testing.assert_array_equal(
        estimator.inverse_transform(found), estimator.inverse_transform(codes)
    )


def test_index_of_a_frame_is_kept():
    estimator, X, _ = task("autoencoder", max_iter=3)
    X = pd.DataFrame(X, columns=list("abcd"), index=np.arange(len(X)) + 100)
    fit(estimator, X).set_output(transform="pandas")
    assert estimator.transform(X).index.equals(X.index)
    np.testing.assert_array_equal(estimator.feature_names_in_, list("abcd"))


def test_codes_feed_a_pipeline():
    _, X, y = task("multiclass")
    autoencoder = GaussNewtonAutoencoder((8, 3), tol=1e-3, random_state=0)
    pipeline = make_pipeline(StandardScaler(), autoencoder, LogisticRegression())
    assert pipeline.fit(X, y).score(X, y) > 0.6
    names = pipeline[:-1].get_feature_names_out()
    assert list(names) == [f"gaussnewtonautoencoder{k}" for k in range(3)]
