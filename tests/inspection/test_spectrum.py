import pickle
import warnings
from functools import cache

import numpy as np
import oracles
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.inspection import GNHSpectrum, eigenpairs
from skgnh.operators import GaussNewtonHessian

SOLVERS = ["dense", "arpack", "lobpcg"]
K = 4
WEIGHTS_TAKEN = has_fit_parameter(MLPRegressor, "sample_weight")

X, Y = load_iris(return_X_y=True)
X, Y = StandardScaler().fit_transform(X)[::3], Y[::3]
SAMPLE_WEIGHT = np.random.default_rng(0).integers(0, 4, len(X)).astype(float)


def fit(estimator, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*args, **kwargs)


@cache
def network(dtype=np.float64, alpha=0.1):
    """scikit-learn's MLP; its solver 'adam' keeps the precision of X."""
    mlp = MLPClassifier(
        (5, 3), activation="tanh", alpha=alpha, max_iter=150, random_state=0
    )
    return fit(mlp, X.astype(dtype), Y)


@cache
def curvature(mlp, n=len(X)):
    """The oracle: one sample at a time, from complex steps."""
    layers = zip(mlp.coefs_, mlp.intercepts_, strict=True)
    theta = np.concatenate([np.vstack([W, b]).T.ravel() for W, b in layers])
    widths = (X.shape[1], *(W.shape[1] for W in mlp.coefs_))
    return oracles.Curvature(
        theta, X[:n], widths, (mlp.activation,) * (len(widths) - 2), mlp.out_activation_
    )


def dense_curvature(mlp, weights=None):
    weights = np.ones(len(X)) if weights is None else weights
    oracle = curvature(mlp)
    P = oracle.parts[0][0].shape[1]
    return oracle.array(weights / weights.sum(), np.zeros(P))


def prefit(mlp=None, **settings):
    mlp = network() if mlp is None else mlp
    settings = {"n_components": K, "prefit": True, "random_state": 0, **settings}
    return GNHSpectrum(mlp, **settings)


# ---- eigenpairs ---------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, SAMPLE_WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_eigenpairs_are_those_of_the_dense_matrix(solver, weights):
    spectrum = prefit(solver=solver, tol=1e-9).fit(X, Y, weights)
    values, vectors = np.linalg.eigh(dense_curvature(network(), weights))
    values, vectors = values[::-1][:K], vectors[:, ::-1][:, :K].T
    np.testing.assert_allclose(spectrum.eigenvalues_, values, rtol=1e-9)
    overlaps = np.abs(np.sum(spectrum.eigenvectors_ * vectors, axis=1))
    np.testing.assert_allclose(overlaps, 1, atol=1e-9)
    assert spectrum.eigenvectors_.shape == vectors.shape
    assert spectrum.solver_ == solver


@pytest.mark.parametrize("solver", SOLVERS)
def test_eigenvectors_are_orthonormal_with_their_largest_entry_positive(solver):
    V = prefit(solver=solver).fit(X).eigenvectors_
    np.testing.assert_allclose(V @ V.T, np.eye(K), atol=1e-8)
    assert (V.max(axis=1) >= -V.min(axis=1)).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_transform_is_the_quadratic_form_of_each_row(solver):
    spectrum = prefit(solver=solver).fit(X)
    found = spectrum.transform(X[:7])
    for i, (J, Q, _) in enumerate(curvature(network()).parts[:7]):
        for k, v in enumerate(spectrum.eigenvectors_):
            assert found[i, k] == pytest.approx(v @ J.T @ Q @ J @ v, rel=1e-9)


def estimators():
    settings = {"max_iter": 15, "random_state": 0}
    layers = {"hidden_layer_sizes": (4,)}
    yield "classifier", MLPClassifier(**layers, **settings), Y
    yield "binary", MLPClassifier(**layers, **settings), Y == 1
    yield "multilabel", MLPClassifier(**layers, **settings), X[:, :3] > 0
    yield "regressor", MLPRegressor(**layers, **settings), X[:, 0]
    yield "several targets", MLPRegressor(**layers, **settings), X[:, :2]
    yield "linear", MLPRegressor(hidden_layer_sizes=(), **settings), X[:, :3]
    yield "own classifier", GaussNewtonMLPClassifier(**layers, **settings), Y
    yield "own regressor", GaussNewtonMLPRegressor(**layers, **settings), X[:, 0]
    yield (
        "own balanced",
        GaussNewtonMLPClassifier(class_weight={0: 1.0, 1: 2.0, 2: 5.0}, **settings),
        Y,
    )
    yield "own autoencoder", GaussNewtonAutoencoder((2,), **settings), None


CASES = [pytest.param(*rest, id=name) for name, *rest in estimators()]


@pytest.mark.parametrize("solver", ["dense", "arpack"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("estimator", "y"), CASES)
def test_weighted_mean_over_the_rows_is_the_eigenvalue(estimator, y, weighted, solver):
    weights = SAMPLE_WEIGHT if weighted else None
    if weighted and not has_fit_parameter(estimator, "sample_weight"):
        pytest.skip("scikit-learn's MLP takes sample_weight from 1.7 on")
    spectrum = GNHSpectrum(estimator, 3, solver=solver, random_state=0)
    fit(spectrum, X, y, weights)
    weights = np.ones(len(X)) if weights is None else weights
    if getattr(estimator, "class_weight", None):
        weights = weights * np.array([1.0, 2.0, 5.0])[Y]
    mean = np.average(spectrum.transform(X), axis=0, weights=weights)
    np.testing.assert_allclose(mean, spectrum.eigenvalues_, rtol=1e-10)


def test_trace_is_exact_and_leaves_the_penalty_out():
    spectrum = prefit(solver="arpack").fit(X)
    values = np.linalg.eigvalsh(dense_curvature(network()))
    assert spectrum.trace_ == pytest.approx(values.sum(), rel=1e-10)
    np.testing.assert_allclose(
        spectrum.explained_trace_ratio_, values[::-1][:K] / values.sum(), rtol=1e-9
    )


def test_eigenvector_coefs_have_the_shapes_of_the_network():
    spectrum = prefit().fit(X)
    coefs, intercepts = spectrum.eigenvector_coefs(1)
    assert [W.shape for W in coefs] == [W.shape for W in network().coefs_]
    rebuilt = [np.vstack([W, b]).T.ravel() for W, b in zip(coefs, intercepts)]  # noqa: B905
    np.testing.assert_array_equal(np.concatenate(rebuilt), spectrum.eigenvectors_[1])


# ---- density and effective dimension ------------------------------------------------


def test_density_of_a_dense_matrix_is_its_spectrum():
    spectrum = prefit(solver="dense").fit(X)
    values = np.linalg.eigvalsh(dense_curvature(network()))
    np.testing.assert_allclose(spectrum.density_nodes_, values[::-1], atol=1e-12)
    np.testing.assert_allclose(spectrum.density_weights_, 1 / len(values))


@pytest.mark.parametrize("solver", ["arpack", "lobpcg"])
def test_quadrature_has_mass_one_and_the_trace_within_four_standard_errors(solver):
    m = 10
    spectrum = prefit(solver=solver, n_probes=m, lanczos_steps=12).fit(X)
    nodes, weights = spectrum.density_nodes_, spectrum.density_weights_
    assert weights.sum() == pytest.approx(1)
    assert (nodes >= 0).all()
    rest = np.linalg.eigvalsh(dense_curvature(network()))[:-K]
    q, P = len(rest), len(rest) + K
    error = q * (2 / (q + 2) * rest.var() / m) ** 0.5
    assert 0 < abs(P * np.sum(nodes * weights) - spectrum.trace_) < 4 * error


@pytest.mark.parametrize("damping", [1e-3, 1e-2, 0.1])
def test_effective_dimension_is_that_of_the_eigenvalues(damping):
    values = np.maximum(np.linalg.eigvalsh(dense_curvature(network())), 0)
    determined = values / (values + damping)
    dense = prefit(solver="dense", damping=damping).fit(X)
    assert dense.effective_dimension_ == pytest.approx(determined.sum(), rel=1e-9)
    assert dense.effective_dimension_bounds_ == (dense.effective_dimension_,) * 2
    m = 40
    quadrature = prefit(
        solver="arpack", damping=damping, n_probes=m, lanczos_steps=40
    ).fit(X)
    rest = determined[:-K]
    q = len(rest)
    error = q * (2 / (q + 2) * rest.var() / m) ** 0.5
    below, above = quadrature.effective_dimension_bounds_
    assert below - 4 * error < determined.sum() < above + 4 * error
    assert above - below < 1e-3
    assert below <= quadrature.effective_dimension_ <= above


def test_few_steps_leave_wide_bounds_on_the_effective_dimension():
    few, many = (
        prefit(solver="arpack", damping=1e-6, lanczos_steps=steps).fit(X)
        for steps in (2, 8)
    )
    gaps = [np.ptp(s.effective_dimension_bounds_) for s in (few, many)]
    assert gaps[0] > gaps[1] > 0


def test_default_damping_is_the_penalty_over_the_weights():
    mlp = network(alpha=0.3)
    assert prefit(mlp).fit(X).damping_ == pytest.approx(0.3 / len(X))
    weighted = prefit(mlp).fit(X, sample_weight=SAMPLE_WEIGHT)
    assert weighted.damping_ == pytest.approx(0.3 / SAMPLE_WEIGHT.sum())
    assert prefit(mlp, damping=2.0).fit(X).damping_ == 2.0


@pytest.mark.parametrize("solver", ["dense", "arpack"])
def test_zero_damping_gives_the_rank(solver):
    rng = np.random.default_rng(0)
    y = rng.standard_normal(6)
    mlp = MLPRegressor(
        hidden_layer_sizes=(4,), activation="tanh", alpha=0, max_iter=5, random_state=0
    )
    spectrum = GNHSpectrum(mlp, 2, solver=solver, random_state=0, n_probes=50)
    fit(spectrum, X[:6], y)
    assert spectrum.damping_ == 0
    # One row of rank one for each sample, of the 25 parameters.
    tolerance = 1e-9 if solver == "dense" else 1.5
    assert spectrum.effective_dimension_ == pytest.approx(6, abs=tolerance)


@pytest.mark.parametrize("solver", ["dense", "arpack"])
def test_smoothed_density_integrates_to_one(solver):
    spectrum = prefit(solver=solver).fit(X)
    top = spectrum.eigenvalues_[0]
    grid = np.linspace(-0.2 * top, 1.2 * top, 4001)
    for width in (None, 0.02 * top):
        density = spectrum.spectral_density(grid, width)
        assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-6)
    exponents = np.linspace(-20, 2, 4001)
    for width in (None, 0.3):
        density = spectrum.spectral_density(10**exponents, width, log=True)
        assert np.trapezoid(density, exponents) == pytest.approx(1, abs=1e-6)


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
def test_single_precision_is_kept(solver):
    single = X.astype(np.float32)
    spectrum = prefit(network(np.float32), solver=solver).fit(single)
    assert spectrum.eigenvalues_.dtype == np.float32
    assert spectrum.eigenvectors_.dtype == np.float32
    out = spectrum.transform(single)
    assert out.dtype == np.float32
    values = np.linalg.eigvalsh(dense_curvature(network(np.float32)))[::-1]
    np.testing.assert_allclose(spectrum.eigenvalues_, values[:K], rtol=1e-4)
    np.testing.assert_allclose(out.mean(axis=0), spectrum.eigenvalues_, rtol=1e-4)
    exact = np.sum(values.clip(0) / (values.clip(0) + spectrum.damping_))
    below, above = spectrum.effective_dimension_bounds_
    slack = 0.01 if solver == "dense" else 2
    assert below - slack < exact < above + slack


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
    [(1024, 3, "dense"), (1e-2, 3, "arpack"), (1e-2, 53, "dense")],
)
def test_auto_takes_the_array_where_it_is_small(memory, n_components, taken):
    H = GaussNewtonHessian.from_estimator(network(), X)
    with config_context(working_memory=memory):
        assert eigenpairs.choose(H, n_components, 100) == taken


def test_auto_weighs_the_cost(monkeypatch):
    H = GaussNewtonHessian.from_estimator(network(), X)
    monkeypatch.setattr(eigenpairs, "_EXACT_IS_CHEAP", 0)
    assert eigenpairs.choose(H, 3, 100) == "dense"
    assert eigenpairs.choose(H, 3, 0) == "dense"
    monkeypatch.setattr(eigenpairs, "_EXACT_IS_WORTH", 1e-3)
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
        ({"solver": "qr"}, "solver must be one of"),
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
    with pytest.raises(ValueError, match=message):
        prefit().set_params(**settings).fit(X, Y)


def test_wrong_types_are_refused():
    with pytest.raises(TypeError, match="n_components"):
        prefit(n_components=2.5).fit(X)


def test_other_estimators_are_refused():
    with pytest.raises(ValueError, match="no multi-layer perceptron"):
        GNHSpectrum(LogisticRegression()).fit(X, Y)
    with pytest.raises(ValueError, match="takes no sample_weight"):
        GNHSpectrum(make_pipeline(MLPClassifier())).fit(X, Y, SAMPLE_WEIGHT)
    with pytest.raises(NotFittedError):
        GNHSpectrum(MLPClassifier(), prefit=True).fit(X, Y)
    with pytest.raises(NotFittedError):
        GNHSpectrum().transform(X)


def test_diverged_network_is_refused():
    mlp = fit(MLPClassifier((3,), max_iter=1, random_state=0), X, Y)
    mlp.coefs_[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        prefit(mlp).fit(X)


def test_labels_are_needed_where_the_network_needs_them():
    with pytest.raises(ValueError, match="requires y to be passed"):
        GNHSpectrum(MLPClassifier()).fit(X)


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
@parametrize_with_checks(CHECKED)
def test_passes_the_estimator_checks(estimator, check):
    check(estimator)
