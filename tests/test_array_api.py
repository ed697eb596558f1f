"""Arrays of other libraries: the same numbers, where they lie."""

from functools import partial

import array_api_strict
import numpy as np
import pytest
import sklearn
from marks import slow_unless
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.utils.estimator_checks import check_array_api_input
from sklearn.utils.fixes import parse_version

import skgnh.arrays
from skgnh import (
    Checkpoint,
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.arrays import CAN_DISPATCH, like, namespace, put, sums_by, to_host
from skgnh.estimators.ground import Data
from skgnh.estimators.prepare import prepare
from skgnh.inspection import (
    GNHSpectrum,
    PredictionBandDisplay,
    SpectrumDisplay,
    influence,
    prune,
)
from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian
from skgnh.operators.kronecker import kronecker_factors
from skgnh.solvers import CG, KFAC, Auto, Dense, Gram, Nystrom

LIBRARIES = ["array_api_strict", pytest.param("torch", marks=pytest.mark.extra)]
P = 4 * 5 + 5 + 5 * 3 + 3
# Older releases of scikit-learn know no way back from another device.
NEW = parse_version(sklearn.__version__) >= parse_version("1.8")
DEVICE = "device1" if NEW else "CPU_DEVICE"
needs_dispatch = pytest.mark.skipif(
    not CAN_DISPATCH,
    reason="scikit-learn's array API support needs SciPy 1.14",
)


@pytest.fixture(params=LIBRARIES)
def place(request):
    """What puts an array where NumPy does not reach it: its rows are on a device."""
    if request.param == "torch":
        return pytest.importorskip("torch").asarray
    device = array_api_strict.Device(DEVICE)
    return lambda x: array_api_strict.asarray(x, device=device)


@pytest.fixture
def dispatch(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with config_context(array_api_dispatch=True):
        yield


def hessians(place, loss="softmax", dtype=np.float64):
    """The same Gauss-Newton Hessian, of arrays of NumPy and of others."""
    rng, network = np.random.default_rng(0), MLP((4, 5, 3), ("tanh",))
    X = append_one(rng.standard_normal((30, 4)))
    ridge = 0.1 * network.weight_mask() + 0.01
    given = network.initialize(rng), X, rng.uniform(0.01, 0.05, 30), ridge
    for put_there in (np.asarray, place):
        theta, inputs, weights, own = (put_there(x.astype(dtype)) for x in given)
        rows = Linearization(network, theta, inputs)
        yield GaussNewtonHessian(rows, LOSSES[loss], weights, own)


def assert_alike(found, expected, rtol=1e-9):
    if np.ndim(expected):
        assert namespace(found) is not namespace(expected)
        assert str(found.dtype).endswith(expected.dtype.name)
    found = to_host(found)
    np.testing.assert_allclose(found, expected, rtol, atol=rtol * np.max(expected))


V = np.random.default_rng(1).standard_normal((P, 2))
QUESTIONS = {
    "product": lambda H, place: H @ place(V[:, 0]),
    "products": lambda H, place: H @ place(V),
    "diagonal": lambda H, place: H.diagonal(),
    "probed": lambda H, place: H.diagonal(1, 0),
    "gram": lambda H, place: H.gram(),
    "array": lambda H, place: H.toarray(),
    "trace": lambda H, place: H.trace(),
    "root": lambda H, place: H.root.T @ (H.root @ place(V)),
    "outputs": lambda H, place: kronecker_factors(H)[0][0],
    "inputs": lambda H, place: kronecker_factors(H, 1, 0)[1][1],
    "sampled": lambda H, place: H.sample(20, 0).toarray(),
    "layer": lambda H, place: H.restricted(np.arange(25)).toarray(),
    "some": lambda H, place: H.restricted(np.arange(3, 9)).toarray(),
    "scaled": lambda H, place: H.scaled(H.ridge**-0.5) @ place(V),
    "single": lambda H, place: H.rounded().diagonal(),
}


@pytest.mark.parametrize("loss", ["softmax", "identity"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_curvature_is_the_same_where_the_arrays_lie(place, question, loss):
    ours, theirs = hessians(place, loss)
    ask = QUESTIONS[question]
    rtol = 1e-5 if question == "single" else 1e-12
    assert_alike(ask(theirs, place), ask(ours, np.asarray), rtol)


SOLVERS = {
    "cg": CG(rtol=1e-10),
    "kfac": KFAC(rtol=1e-10, max_iter=99),
    "kfac alone": KFAC(direct=True),
    "gram": Gram(),
    "dense": Dense(max_cholesky=0),
    "auto": Auto(),
}
ANSWERS = {
    "solve": lambda factor, rhs: factor.solve(rhs[:, 0], 0.1),
    "solves": lambda factor, rhs: factor.solve(rhs, 0.1),
    "detached": lambda factor, rhs: factor.detached(0.1).solve(rhs, 0.1),
    "quadratic": lambda factor, rhs: factor.inverse_quadratic(rhs.T, 0.1),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_give_the_same(place, name, answer):
    expected, found = (
        ANSWERS[answer](SOLVERS[name].factor(H), rhs)
        for H, rhs in zip(hessians(place), (V, place(V)), strict=True)
    )
    assert_alike(found, expected, 1e-7)


@pytest.mark.parametrize("name", ["kfac alone", "gram", "dense"])
def test_determinants_and_layer_factors(place, name):
    ours, theirs = (SOLVERS[name].factor(H) for H in hessians(place))
    np.testing.assert_allclose(theirs.logdet(0.1), ours.logdet(0.1), 1e-10)
    assert_alike(theirs.diagonal_of_inverse(0.1), ours.diagonal_of_inverse(0.1))
    groups = np.arange(P) // 20
    expected = ours.trace_of_inverse(groups, 0.1)
    np.testing.assert_allclose(theirs.trace_of_inverse(groups, 0.1), expected, 1e-9)
    rows = [H.root.make_factors(slice(0, 4)) for H in hessians(place)]
    expected = ours.inverse_quadratic_of(rows[0], 0.1)
    assert_alike(theirs.inverse_quadratic_of(rows[1], 0.1), expected)


def test_the_diagonal_roots_of_a_chunk(place):
    expected, found = (
        H.root.make_factors(slice(3, 9), diagonal=True).back[-1]
        for H in hessians(place, "identity")
    )
    assert expected.shape == (6, 3)
    assert_alike(found, expected)


@pytest.mark.parametrize("name", ["kfac alone", "gram", "dense"])
def test_draws_have_the_covariance_of_the_inverse(place, name):
    _, H = hessians(place)
    factor = SOLVERS[name].factor(H)
    draws = to_host(factor.draw(np.random.default_rng(0), 4000, 0.1))
    expected = to_host(factor.diagonal_of_inverse(0.1))
    # A variance estimated from n draws is off by sqrt(2 / n) of it.
    np.testing.assert_allclose((draws**2).mean(axis=1), expected, 5 * (2 / 4000) ** 0.5)


def test_single_precision_stays_so(place):
    ours, theirs = hessians(place, dtype=np.float32)
    rhs = V[:, 0].astype(np.float32)
    for solver in SOLVERS.values():
        solver = type(solver)()
        found = solver.factor(theirs).solve(place(rhs), 0.1)
        assert_alike(found, solver.factor(ours).solve(rhs, 0.1), 1e-3)


def test_what_is_numpys_alone_says_so(place):
    _, H = hessians(place)
    with pytest.raises(ValueError, match="'cg', 'kfac', 'gram' or 'dense'"):
        Nystrom().factor(H)
    with pytest.raises(ValueError, match="does not offer entries"):
        H.entries(np.arange(2), np.arange(2))


def test_an_indefinite_matrix_is_refused_in_scipys_words(place):
    _, H = hessians(place)
    with pytest.raises(np.linalg.LinAlgError):
        Dense().factor(H).solve(place(V), -1.0)


def test_sums_by_group_and_rows_in_their_place(place):
    groups = np.array([0, 2, 2, 1])
    values = np.array([1.0, 2.0, 4.0, 8.0])
    np.testing.assert_array_equal(sums_by(groups, place(values), 4), [1, 8, 6, 0])
    found = put(place(values), np.array([3, 0]), place(np.array([5.0, 7.0])))
    np.testing.assert_array_equal(to_host(found), [7, 2, 4, 5])


def test_what_is_carried_over_is_a_copy(place):
    given = np.zeros(3)
    given.flags.writeable = False
    carried = like(given, place(np.ones(1)))
    carried += 1
    assert not given.any()


ESTIMATORS = [
    GaussNewtonMLPRegressor(),
    GaussNewtonMLPClassifier(),
    GaussNewtonAutoencoder((3,)),
    GaussNewtonMLPClassifier(
        hidden_layer_sizes=(5,), alpha=0.01, solver="kfac", max_iter=20
    ),
]


@needs_dispatch
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_scikit_learns_check_passes(monkeypatch, estimator, library):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    device = "cpu"
    if library == "torch":
        pytest.importorskip("torch")
    else:
        device = DEVICE
    name = type(estimator).__name__
    options = {"device_name": device, "check_values": True, "check_sample_weight": True}
    check_array_api_input(name, estimator, library, dtype_name="float64", **options)


VARIANTS = {
    "ard": GaussNewtonMLPClassifier(alpha="ard"),
    "counts": GaussNewtonMLPRegressor(loss="poisson", alpha=0.1),
    "batches": GaussNewtonMLPRegressor(alpha=0.1, batch_size=10),
    "held": GaussNewtonMLPRegressor(alpha=0.1, trainable_layers=[1]),
    "stopped": GaussNewtonMLPRegressor(early_stopping=True),
    "noise": GaussNewtonMLPRegressor(noise="heteroscedastic"),
    "average": GaussNewtonMLPClassifier(average=True),
}


@needs_dispatch
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
@pytest.mark.parametrize("variant", slow_unless(("ard", "held").__contains__, VARIANTS))
def test_variants_fit_to_the_same(dispatch, place, variant):
    X, y = make_classification(60, 4, n_informative=3, n_redundant=0, random_state=0)
    y = y if "Class" in str(VARIANTS[variant]) else y.astype(float)
    model = clone(VARIANTS[variant])
    model.set_params(hidden_layer_sizes=(5,), max_iter=8, random_state=0)
    models = [
        clone(model).fit(put_there(X), put_there(y))
        for put_there in (np.asarray, place)
    ]
    pairs = list(zip(models, (X, place(X)), strict=True))
    expected, found = (model.predict(own) for model, own in pairs)
    np.testing.assert_allclose(to_host(found), expected, 1e-6)
    if hasattr(models[0], "predict_proba"):
        expected, found = (m.predict_proba(own) for m, own in pairs)
    elif hasattr(models[0], "posterior_"):
        expected, found = (m.predict(own, True)[1] for m, own in pairs)
    np.testing.assert_allclose(to_host(found), expected, 1e-5)


@needs_dispatch
@pytest.mark.parametrize("spread", ["return_std", "return_cov"])
def test_a_mean_lies_where_its_spread_does(dispatch, place, spread):
    X, y = np.linspace([-1.0], [1.0], 40), np.linspace(-1.0, 1.0, 40) ** 2
    model = GaussNewtonMLPRegressor(hidden_layer_sizes=(3,), random_state=0)
    model.fit(place(X), place(y))
    mean, other = model.predict(place(X), **{spread: True})
    assert type(mean) is type(other) is type(place(X))
    np.testing.assert_allclose(to_host(mean), to_host(model.predict(place(X))), 1e-6)


@needs_dispatch
def test_scikit_learns_perceptron_is_of_numpy(dispatch, place):
    X, y = make_classification(60, 4, n_informative=3, n_redundant=0, random_state=0)
    model = GaussNewtonMLPClassifier(hidden_layer_sizes=(3,), alpha=0.1, random_state=0)
    model.fit(place(X), place(y))
    found = model.to_sklearn().predict_proba(X)
    np.testing.assert_allclose(found, to_host(model.predict_proba(place(X))), 1e-6)


@needs_dispatch
@pytest.mark.parametrize("solver", ["kfac", "cg", "gram", "dense"])
@pytest.mark.parametrize("alpha", [0.01, "evidence"])
def test_no_step_copies_an_array_to_the_host(dispatch, monkeypatch, solver, alpha):
    # Arrays of this device can't be converted by accident: what is copied is asked for.
    device = array_api_strict.Device(DEVICE)
    X, y = make_classification(60, 4, n_informative=3, n_redundant=0, random_state=0)
    data = Data(*(array_api_strict.asarray(x, device=device) for x in (X, y)))
    model = GaussNewtonMLPClassifier(
        hidden_layer_sizes=(5,), solver=solver, alpha=alpha, random_state=0
    )
    fit = prepare(model, data, False)
    copies, copy = [], skgnh.arrays._convert_to_numpy
    monkeypatch.setattr(
        skgnh.arrays, "_convert_to_numpy", lambda x, xp: copies.append(x) or copy(x, xp)
    )
    steps = fit.method.steps(fit.training.problem, fit.state)
    values = [next(steps).value for _ in range(6)]
    assert values[-1] < values[0]
    assert not copies


@needs_dispatch
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
def test_rows_from_elsewhere_are_refused_by_name(dispatch, place):
    X, y = make_classification(60, 4, n_informative=3, n_redundant=0, random_state=0)
    model = GaussNewtonMLPClassifier(hidden_layer_sizes=(3,), alpha=0.1, random_state=0)
    model.fit(place(X), place(y))
    with pytest.raises(ValueError, match="X is an array of .*numpy"):
        model.predict(X)
    with pytest.raises(ValueError, match="X is an array of numpy, .* on "):
        clone(model).set_params(warm_start=True).fit(place(X), place(y)).fit(X, y)
    with pytest.raises(ValueError, match="X_val must be what X is"):
        model.fit(place(X), place(y), X_val=X, y_val=y)
    with pytest.raises(TypeError, match="partial_fit learns from arrays of NumPy"):
        model.partial_fit(place(X), place(y))
    band = partial(PredictionBandDisplay.from_estimator, feature=0)
    for tool in (influence, prune, SpectrumDisplay.from_estimator, band):
        with pytest.raises(TypeError, match="computes with arrays of NumPy"):
            tool(model, place(X), place(y))
    coder = GaussNewtonAutoencoder((2,), alpha=0.1, max_iter=1).fit(place(X))
    with pytest.raises(ValueError, match="X is an array of numpy"):
        coder.inverse_transform(X[:, :2])


@needs_dispatch
def test_labels_of_a_device_are_refused_in_plain_words(dispatch, place):
    X, model = place(np.ones((4, 2))), GaussNewtonMLPClassifier()
    with pytest.raises(ValueError, match=r"y has one class, 0\."):
        model.fit(X, place(np.zeros(4, dtype=int)))
    with pytest.raises(ValueError, match="y has several multiclass outputs"):
        model.fit(X, place(np.arange(8).reshape(4, 2)))


@needs_dispatch
@pytest.mark.parametrize("solver", ["nystrom", "exact_hessian", "hmatrix"])
def test_solvers_of_numpy_refuse_before_the_first_step(dispatch, place, solver):
    model = GaussNewtonMLPRegressor(hidden_layer_sizes=3, alpha=0.1, solver=solver)
    with pytest.raises(ValueError, match="computes with arrays of NumPy: take 'cg'"):
        model.fit(place(np.ones((5, 2))), place(np.arange(5.0)))


def _fitted_to(place, dtype=np.float64, **params):
    X, y = make_classification(60, 4, n_informative=3, n_redundant=0, random_state=0)
    X = X.astype(dtype)
    params = {"max_iter": 3, "random_state": 0} | params
    model = GaussNewtonMLPRegressor(hidden_layer_sizes=3, **params)
    return model.fit(place(X), place(y.astype(dtype))), place(X)


@needs_dispatch
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
@pytest.mark.parametrize(
    ("dtype", "params"),
    [
        (np.float64, {}),
        (np.float32, {}),
        (np.float64, {"solver": "gram"}),
        (np.float64, {"loss": "poisson"}),
    ],
)
def test_distributions_lie_where_the_rows_do(dispatch, place, dtype, params):
    (ours, X), (theirs, Z) = (
        _fitted_to(put_there, dtype, **params) for put_there in (np.asarray, place)
    )
    for ask in (
        lambda model, rows: model.predict(rows, return_std=True),
        lambda model, rows: model.predict(rows, return_cov=True),
        lambda model, rows: [model.predict_interval(rows), model.sample_y(rows, 2)],
    ):
        for found, expected in zip(ask(theirs, Z), ask(ours, X), strict=True):
            assert_alike(found, expected, 1e-3 if dtype is np.float32 else 1e-6)


@needs_dispatch
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
def test_validation_rows_of_another_precision(dispatch, place):
    scores = []
    for put_there in (np.asarray, place):
        X, y = put_there(np.arange(8.0)[:, None]), put_there(np.arange(8.0) ** 2)
        single = namespace(X).float32
        model = GaussNewtonMLPRegressor(
            hidden_layer_sizes=3, alpha=0.1, early_stopping=True, max_iter=3
        )
        model.set_params(random_state=0)
        model.fit(namespace(X).astype(X, single), y, X_val=X, y_val=y)
        scores.append(model.validation_scores_)
    np.testing.assert_allclose(*scores, 1e-3)


@needs_dispatch
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
def test_scikit_learns_perceptron_is_numpys(dispatch, place):
    X = np.random.default_rng(0).standard_normal((30, 2))
    y = np.arange(30) % 3
    model = GaussNewtonMLPClassifier(
        hidden_layer_sizes=3, alpha=0.1, random_state=0, max_iter=2
    )
    model.fit(place(X), place(y))
    expected = to_host(model.predict_proba(place(X)))
    mlp = model.to_sklearn()
    np.testing.assert_allclose(mlp.predict_proba(X), expected, 1e-9)
    assert isinstance(mlp.classes_, np.ndarray)


@needs_dispatch
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
def test_a_fit_resumes_with_the_same_rows(dispatch, place, tmp_path):
    path = tmp_path / "fit.pkl"
    X, y = np.arange(8.0)[:, None], np.arange(8.0) ** 2
    model = GaussNewtonMLPRegressor(
        hidden_layer_sizes=3, alpha=0.1, random_state=0, max_iter=2
    )
    model.set_callbacks(Checkpoint(path)).fit(place(X), place(y))
    again = clone(model).fit(place(X), place(y), resume_from=path)
    assert_alike(again.predict(place(X)), to_host(model.predict(place(X))))
    with pytest.raises(ValueError, match="other values of y"):
        model.fit(place(X), place(y + 1), resume_from=path)


@needs_dispatch
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
def test_tools_of_numpy_refuse_what_is_elsewhere(dispatch, place):
    model, X = _fitted_to(place)
    y = place(np.arange(60) % 2)
    with pytest.raises(TypeError, match="influence computes with arrays of NumPy"):
        influence(model, X, y)
    with pytest.raises(TypeError, match="OBSPruner computes with arrays of NumPy"):
        prune(model, X, y)
    with pytest.raises(TypeError, match="GNHSpectrum computes with arrays of NumPy"):
        GNHSpectrum(model).fit(X, y)


@needs_dispatch
@pytest.mark.extra
@pytest.mark.filterwarnings("ignore:Levenberg-Marquardt")
def test_tensors_that_record_derivatives_and_sparse_ones(dispatch):
    torch = pytest.importorskip("torch")
    model, X = _fitted_to(torch.asarray)
    expected = model.predict(X, return_std=True)
    X.requires_grad_()
    again = clone(model).fit(X, torch.arange(60.0).requires_grad_())
    assert not again.coefs_[0].requires_grad
    for found, std in zip(model.predict(X, return_std=True), expected, strict=True):
        torch.testing.assert_close(found, std)
    assert not model.transform(X).requires_grad
    with pytest.raises(ValueError, match=r"y is .*sparse_coo"):
        model.fit(X, torch.arange(60.0).to_sparse())
    with pytest.raises(ValueError, match="X is a tensor on 'meta'"):
        model.predict(X.to("meta"))
    with pytest.raises(ValueError, match=r"sparse_coo: pass X\.to_dense"):
        model.predict(X.detach().to_sparse())
