import pickle
from copy import deepcopy

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter
from spectra import SAMPLE_WEIGHT, SOLVERS, K, X, Y, fit, fitted_state, network, prefit

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.inspection import GNHSpectrum, eigenpairs
from skgnh.operators import GaussNewtonHessian

WEIGHTS_TAKEN = has_fit_parameter(MLPRegressor, "sample_weight")

# ---- where the network comes from ---------------------------------------------------


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (Y, GaussNewtonMLPClassifier),
        (np.array(["a", "b", "c"])[Y], GaussNewtonMLPClassifier),
        (X[:, :3] > 0, GaussNewtonMLPClassifier),
        (X[:, 0], GaussNewtonMLPRegressor),
        (X[:, :2], GaussNewtonMLPRegressor),
        (None, GaussNewtonAutoencoder),
    ],
    ids=["labels", "strings", "multilabel", "real", "several", "none"],
)
def test_default_network_follows_the_target(y, kind):
    spectrum = fit(GNHSpectrum(None, 2, solver="arpack", random_state=0), X, y)
    assert type(spectrum.estimator_) is kind
    assert spectrum.transform(X).shape == (len(X), 2)


def test_a_clone_is_fitted_and_the_estimator_left_alone():
    mlp = MLPClassifier((3,), max_iter=2, random_state=0)
    spectrum = fit(GNHSpectrum(mlp, 2), X, Y)
    assert not hasattr(mlp, "coefs_")
    assert spectrum.estimator_ is not mlp
    direct = fit(clone(mlp), X, Y)
    np.testing.assert_array_equal(spectrum.estimator_.coefs_[0], direct.coefs_[0])


def test_prefit_and_frozen_networks_are_taken_as_they_are():
    mlp = network()
    frozen = GNHSpectrum(FrozenEstimator(mlp), K, random_state=0).fit(X, Y)
    given = prefit().fit(X)
    assert frozen.estimator_ is mlp
    assert given.estimator_ is mlp
    np.testing.assert_array_equal(frozen.eigenvalues_, given.eigenvalues_)
    np.testing.assert_array_equal(frozen.transform(X), given.transform(X))


@pytest.mark.skipif(not WEIGHTS_TAKEN, reason="sample_weight came with 1.7")
def test_weights_count_as_repeated_rows():
    mlp = MLPClassifier((3,), solver="lbfgs", max_iter=5, random_state=0)
    counts = SAMPLE_WEIGHT.astype(int)
    weighted = fit(GNHSpectrum(mlp, 2), X, Y, SAMPLE_WEIGHT)
    repeated = fit(GNHSpectrum(mlp, 2), X.repeat(counts, axis=0), Y.repeat(counts))
    np.testing.assert_allclose(weighted.eigenvalues_, repeated.eigenvalues_, rtol=1e-6)
    assert weighted.damping_ == pytest.approx(repeated.damping_)


# ---- scikit-learn's ways ------------------------------------------------------------


def test_is_a_step_of_a_pipeline_with_named_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    mlp = MLPClassifier((4,), max_iter=3, random_state=0)
    pipeline = make_pipeline(StandardScaler(), GNHSpectrum(mlp, 3), Ridge())
    fit(pipeline, frame, Y)
    assert pipeline.predict(frame).shape == (len(X),)
    transformer = pipeline[:-1].set_output(transform="pandas")
    out = fit(transformer, frame, Y).transform(frame)
    names = ["gnhspectrum0", "gnhspectrum1", "gnhspectrum2"]
    assert list(out.columns) == names
    assert list(transformer.get_feature_names_out()) == names
    assert list(transformer[-1].feature_names_in_) == list("abcd")


def test_prefit_network_with_feature_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    mlp = fit(MLPClassifier((4,), max_iter=3, random_state=0), frame, Y)
    spectrum = GNHSpectrum(FrozenEstimator(mlp), 2).fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        spectrum.transform(frame[list("abdc")])


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_matrix])
@pytest.mark.parametrize("solver", SOLVERS)
def test_sparse_rows_give_the_same(solver, make):
    thinned = np.where(np.abs(X) > 0.5, X, 0)
    dense = prefit(solver=solver).fit(thinned)
    thin = prefit(solver=solver).fit(make(thinned))
    np.testing.assert_allclose(thin.eigenvalues_, dense.eigenvalues_, rtol=1e-9)
    np.testing.assert_allclose(
        thin.transform(make(thinned)), dense.transform(thinned), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_same_seed_gives_the_same(solver):
    a, b = (prefit(solver=solver).fit(X) for _ in range(2))
    for name in vars(a):
        if name.endswith("_") and isinstance(getattr(a, name), np.ndarray | float):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_survives_pickling():
    spectrum = prefit().fit(X)
    again = pickle.loads(pickle.dumps(spectrum))
    np.testing.assert_array_equal(again.transform(X), spectrum.transform(X))


@pytest.mark.parametrize(
    ("memory", "n_components", "taken"),
    [(1024, 3, "dense"), (1e-2, 3, "arpack"), (1e-2, 55, "dense")],
)
def test_auto_takes_the_array_where_it_is_small(memory, n_components, taken):
    H = GaussNewtonHessian.from_estimator(network(), X)
    with config_context(working_memory=memory):
        assert eigenpairs.choose(H, n_components, 100) == taken


def test_auto_weighs_the_cost(monkeypatch):
    H = GaussNewtonHessian.from_estimator(network(), X)
    monkeypatch.setattr(eigenpairs, "_EXACT_IS_CHEAP", 0)
    assert eigenpairs.choose(H, 3, 100) == "dense"
    assert eigenpairs.choose(H, 3, 0) == "arpack"


def test_all_eigenpairs_are_at_hand():
    P = network().coefs_[0].size + 5 + 5 * 3 + 3 + 3 * 3 + 3
    spectrum = prefit(n_components=P).fit(X)
    assert spectrum.solver_ == "dense"
    assert spectrum.eigenvalues_.sum() == pytest.approx(spectrum.trace_)
    out = spectrum.transform(X)
    assert out.mean(axis=0).sum() == pytest.approx(spectrum.trace_)


@pytest.mark.parametrize("solver", SOLVERS)
def test_saturated_network_has_no_curvature(solver):
    mlp = fit(MLPClassifier((3,), max_iter=1, random_state=0), X, Y)
    mlp.intercepts_[-1][:] = [-1e5, 0, 1e5]
    spectrum = prefit(mlp, solver=solver).fit(X)
    assert not spectrum.eigenvalues_.any()
    assert not spectrum.explained_trace_ratio_.any()
    assert spectrum.effective_dimension_ == 0
    assert not spectrum.transform(X).any()
    assert np.isfinite(spectrum.spectral_density([1.0], log=True)).all()
    assert np.isfinite(spectrum.spectral_density([0.0])).all()


def test_lobpcg_says_when_it_has_not_converged(monkeypatch):
    monkeypatch.setattr(eigenpairs, "_LOBPCG_ITERATIONS", 1)
    with pytest.warns(ConvergenceWarning, match="LOBPCG left a residual of"):
        prefit(solver="lobpcg", tol=1e-12).fit(X)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": 1000}, "exceeds the network's 55 parameters"),
        ({"solver": "qr"}, "Unknown solver 'qr'; choose among"),
        ({"solver": "arpack", "n_components": 55}, "Take the solver 'dense'"),
        ({"solver": "lobpcg", "n_components": 55}, "Take the solver 'dense'"),
        ({"tol": -1.0}, "tol"),
        ({"damping": -1.0}, "damping"),
        ({"n_probes": 0}, "n_probes"),
        ({"lanczos_steps": 0}, "lanczos_steps"),
        ({"estimator": None}, "prefit=True needs"),
    ],
)
def test_wrong_parameters_are_refused(settings, message):
    spectrum = prefit().fit(X, Y)
    before = fitted_state(spectrum)
    with pytest.raises(ValueError, match=message):
        spectrum.set_params(**settings).fit(X, Y)
    assert fitted_state(spectrum) == before


def test_refused_networks_and_data_leave_the_spectrum_as_it_was():
    diverged = deepcopy(network())
    diverged.coefs_[0][0, 0] = np.nan
    spectrum = prefit().fit(X, Y)
    before = fitted_state(spectrum)

    def refused(message, *data, kind=ValueError, **settings):
        with pytest.raises(kind, match=message):
            fit(spectrum.set_params(**settings), *data)
        assert fitted_state(spectrum) == before

    refused("not finite", X, Y, estimator=diverged)
    refused("n_components", X, Y, n_components=2.5, kind=TypeError)
    refused("features", X[:, :3], Y, estimator=network(), n_components=2)
    refused("NaN", np.full_like(X, np.nan), Y)
    refused("inconsistent", X, Y[:-1])
    refused("no multi-layer", X, Y, estimator=LogisticRegression(), prefit=False)
    refused("y to be passed", X, estimator=MLPClassifier(max_iter=2))
    refused("exceeds", X, Y, n_components=10**4)


def test_other_estimators_are_refused():
    with pytest.raises(ValueError, match="takes no sample_weight"):
        GNHSpectrum(make_pipeline(MLPClassifier())).fit(X, Y, SAMPLE_WEIGHT)
    with pytest.raises(NotFittedError):
        GNHSpectrum(MLPClassifier(), prefit=True).fit(X, Y)
    with pytest.raises(NotFittedError):
        GNHSpectrum().transform(X)


CHEAP = {"n_components": 3, "random_state": 0}
CHECKED = [
    GNHSpectrum(None, solver="arpack", n_probes=2, lanczos_steps=8, random_state=0),
    GNHSpectrum(GaussNewtonMLPClassifier((3,), max_iter=10, random_state=0), **CHEAP),
]
if WEIGHTS_TAKEN:
    mlp = MLPRegressor(
        hidden_layer_sizes=(3,), solver="lbfgs", max_iter=5, random_state=0
    )
    CHECKED.append(GNHSpectrum(mlp, **CHEAP))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(CHECKED[1:2])
def test_passes_the_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(CHECKED[:1] + CHECKED[2:])
def test_of_other_networks_passes_the_estimator_checks(estimator, check):
    check(estimator)
