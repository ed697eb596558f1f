from functools import cache

import numpy as np
import oracles
import pytest
from marks import slow_unless
from scipy.integrate import trapezoid
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import has_fit_parameter
from spectra import SAMPLE_WEIGHT, SOLVERS, K, X, Y, fit, network, prefit

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.inspection import GNHSpectrum

CLASS_WEIGHT = {0: 1.0, 1: 2.0, 2: 5.0}


@cache
def curvature(mlp):
    """The oracle: one sample at a time, from complex steps."""
    layers = zip(mlp.coefs_, mlp.intercepts_, strict=True)
    theta = np.concatenate([np.vstack([W, b]).T.ravel() for W, b in layers])
    widths = (X.shape[1], *(W.shape[1] for W in mlp.coefs_))
    return oracles.Curvature(
        theta, X, widths, (mlp.activation,) * (len(widths) - 2), mlp.out_activation_
    )


def dense_curvature(mlp, weights=None):
    weights = np.ones(len(X)) if weights is None else weights
    oracle = curvature(mlp)
    P = oracle.parts[0][0].shape[1]
    return oracle.array(weights / weights.sum(), np.zeros(P))


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
        GaussNewtonMLPClassifier(class_weight=CLASS_WEIGHT, **layers, **settings),
        Y,
    )
    yield "own autoencoder", GaussNewtonAutoencoder((2,), **settings), None


CASES = [pytest.param(*rest, id=name) for name, *rest in estimators()]


@pytest.mark.parametrize("solver", slow_unless("dense".__eq__, ["dense", "arpack"]))
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
        weights = weights * np.array([CLASS_WEIGHT[label] for label in Y])
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
        assert trapezoid(density, grid) == pytest.approx(1, abs=1e-6)
    exponents = np.linspace(-20, 2, 4001)
    for width in (None, 0.3):
        density = spectrum.spectral_density(10**exponents, width, log=True)
        assert trapezoid(density, exponents) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_single_precision_is_kept(solver):
    single = X.astype(np.float32)
    spectrum = prefit(network(np.float32), solver=solver, n_probes=100).fit(single)
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
