"""What joblib does in parallel is what is done one after the other."""

from time import sleep

import joblib
import numpy as np
import pytest
from sklearn.ensemble import BaggingRegressor

from skgnh import GaussNewtonAutoencoder, GaussNewtonMLPRegressor
from skgnh.inspection import influence
from skgnh.progress import in_parallel

X = np.random.default_rng(0).standard_normal((120, 3))
Y = np.tanh(X[:, 0] + X[:, 1]) + 0.1 * X[:, 2]
BACKENDS = ["threading", pytest.param("loky", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    yield request.param
    if request.param == "loky":
        joblib.externals.loky.get_reusable_executor().shutdown(wait=True)


def ensemble():
    member = GaussNewtonMLPRegressor(
        hidden_layer_sizes=(3,), alpha=1e-3, max_iter=5, tol=1e-2
    )
    return BaggingRegressor(member, n_estimators=3, random_state=0).fit(X, Y)


def autoencoder():
    """By the evidence: a start by PCA and a random one are tried on unseen rows."""
    return GaussNewtonAutoencoder((2,), max_iter=20, random_state=0).fit(X)


@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
@pytest.mark.parametrize("fit", [ensemble, autoencoder])
def test_a_seed_gives_one_model_whatever_the_backend(backend, fit):
    expected = fit().predict(X)
    with joblib.parallel_config(backend, n_jobs=2):
        found = fit().predict(X)
    np.testing.assert_array_equal(found, expected)


def test_influence_is_the_same_in_parts_at_a_time(monkeypatch, backend):
    model = GaussNewtonMLPRegressor(hidden_layer_sizes=(3,), random_state=0).fit(X, Y)
    monkeypatch.setattr(
        "skgnh.inspection.case_influence.rows_per_chunk", lambda nbytes: 50
    )
    expected = influence(model, X, Y, X[:4])
    with joblib.parallel_config(backend):
        found = influence(model, X, Y, X[:4], n_jobs=2)
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value)


def test_a_bar_is_told_how_many_there_will_be():
    seen = []

    def track(steps, name):
        seen.append((name, len(steps)))
        for step in steps:
            seen.append(step)
            yield step

    found = list(in_parallel(abs, [-1, -2], 1, track, "sizes"))
    assert found == [(0, 1), (1, 2)]
    assert seen == [("sizes", 2), *found]


def test_what_is_done_first_comes_first_with_its_number():
    with joblib.parallel_config("threading", n_jobs=2):
        found = list(in_parallel(waited, [0.5, 0.0]))
    assert found == [(1, 0.0), (0, 0.5)]


def waited(seconds):
    sleep(seconds)
    return seconds
