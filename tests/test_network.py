"""The network's passes against one sample at a time, and its layout of parameters."""

import array_api_strict
import numpy as np
import oracles
import pytest
from cases import ACTIVATIONS, assert_close
from scipy import sparse
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skgnh.network import ACTIVATIONS as PACKAGE_ACTIVATIONS
from skgnh.network import MLP, append_one

N = 5
NETS = [
    ((3, 2), ()),
    ((3, 1), ()),
    *(((3, 4, 2), (name,)) for name in ACTIVATIONS),
    ((1, 1, 1), ("tanh",)),
    ((3, 4, 2, 5, 3), ("tanh", "relu", "logistic")),
    ((2, 3, 4, 2, 3, 1), ("relu", "identity", "tanh", "logistic")),
]


@pytest.fixture(params=NETS, ids=lambda net: "-".join(map(str, net[0] + net[1])))
def problem(request):
    widths, activations = request.param
    rng = np.random.default_rng(3)
    network = MLP(widths, activations)
    X = rng.standard_normal((N, widths[0]))
    return network, rng.standard_normal(network.n_parameters), X


def jacobians(network, theta, X):
    parts = (network.layer_units, network.activations)
    return np.array([oracles.jacobian(theta, x, *parts) for x in X])


def test_outputs_equal_those_of_single_samples(problem):
    network, theta, X = problem
    parts = (network.layer_units, network.activations)
    expected = np.array([oracles.outputs(theta, x, *parts) for x in X])
    assert_close(network.outputs(theta, append_one(X)), expected, rtol=1e-13)
    assert_close(network.trace(theta, append_one(X)).outputs, expected, rtol=1e-13)


def test_tangent_is_the_jacobian_times_directions(problem):
    network, theta, X = problem
    V = np.random.default_rng(4).standard_normal((4, len(theta)))
    trace = network.trace(theta, append_one(X))
    expected = np.einsum("ndp,kp->nkd", jacobians(network, theta, X), V)
    assert_close(network.tangent(theta, trace, V), expected, rtol=1e-12)


def test_pullback_is_the_transposed_jacobian_times_seeds(problem):
    network, theta, X = problem
    seeds = np.random.default_rng(4).standard_normal((N, 4, network.n_outputs))
    trace = network.trace(theta, append_one(X))
    expected = np.einsum("ndp,nkd->kp", jacobians(network, theta, X), seeds)
    kept = seeds.copy()
    assert_close(network.pullback(theta, trace, seeds), expected, rtol=1e-12)
    np.testing.assert_array_equal(seeds, kept)


def test_layer_inputs_times_carried_seeds_are_the_jacobian(problem):
    network, theta, X = problem
    d = network.n_outputs
    trace = network.trace(theta, append_one(X))
    eye = np.broadcast_to(np.eye(d), (N, d, d))
    blocks = [
        np.einsum("nkm,nv->nkmv", B, trace.inputs[depth]).reshape(N, d, -1)
        for depth, B in network.carry_back(theta, trace, eye)
    ]
    expected = jacobians(network, theta, X)
    assert_close(np.concatenate(blocks[::-1], axis=2), expected, rtol=1e-12)


def test_passes_over_sparse_rows_equal_those_over_dense(problem):
    network, theta, X = problem
    X = X * (X > 0)
    dense, csr = append_one(X), append_one(sparse.csr_array(X))
    assert csr.format == "csr"
    assert_close(network.outputs(theta, csr), network.outputs(theta, dense), 1e-14)
    V = np.random.default_rng(4).standard_normal((2, len(theta)))
    seeds = np.random.default_rng(5).standard_normal((N, 2, network.n_outputs))
    for ask, argument in ((network.tangent, V), (network.pullback, seeds)):
        expected = ask(theta, network.trace(theta, dense), argument)
        answer = ask(theta, network.trace(theta, csr), argument)
        assert type(answer) is np.ndarray
        assert_close(answer, expected, rtol=1e-14)


def test_passes_keep_float32(problem):
    network, theta, X = (
        p.astype(np.float32) if isinstance(p, np.ndarray) else p for p in problem
    )
    trace = network.trace(theta, append_one(X))
    seeds = np.ones((N, 2, network.n_outputs), np.float32)
    answers = [
        network.outputs(theta, append_one(X)),
        *trace.inputs,
        *trace.slopes,
        network.tangent(theta, trace, theta[None]),
        network.pullback(theta, trace, seeds),
    ]
    assert {answer.dtype for answer in answers} == {np.dtype(np.float32)}


def test_rows_of_a_trace_are_the_trace_of_the_rows(problem):
    network, theta, X = problem
    rows = slice(1, 4)
    part = network.trace(theta, append_one(X)).rows(rows)
    alone = network.trace(theta, append_one(X[rows]))
    for a, b in zip(
        [*part.inputs, *part.slopes, part.outputs],
        [*alone.inputs, *alone.slopes, alone.outputs],
        strict=True,
    ):
        assert_close(a, b, rtol=1e-14)
    assert np.shares_memory(part.inputs[0], part.inputs[0].base)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_is_the_derivative_as_a_function_of_the_value(name):
    z = np.linspace(-4, 4, 12)
    activation = PACKAGE_ACTIVATIONS[name]
    expected = np.diag(oracles.complex_step(oracles.SCALARS[name], z))
    assert_close(activation.value(z), oracles.SCALARS[name](z), rtol=1e-15)
    assert_close(activation.slope(activation.value(z)), expected, rtol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_run_on_any_array_of_the_standard(name):
    z = np.linspace(-4, 4, 12)
    activation = PACKAGE_ACTIVATIONS[name]
    value = activation.value(array_api_strict.asarray(z))
    assert isinstance(value, type(array_api_strict.asarray(z)))
    assert_close(np.asarray(value), activation.value(z), rtol=1e-15)
    slope = np.asarray(activation.slope(value))
    assert_close(slope, activation.slope(activation.value(z)), rtol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_far_out_neither_overflow_nor_warn(name):
    z = np.array([-1e30, 1e30], np.float32)
    value = PACKAGE_ACTIVATIONS[name].value(z)
    assert value.dtype == np.float32
    assert np.isfinite(value).all()
    assert value[0] <= 0 < value[1]


def test_ones_are_appended_last():
    np.testing.assert_array_equal(append_one(np.array([[5.0, 6.0]])), [[5, 6, 1]])
    assert append_one(np.ones((2, 1), np.float32)).dtype == np.float32
    for convert in (sparse.csr_array, sparse.csr_matrix, sparse.csc_array):
        inputs = append_one(convert(np.array([[5, 0], [0, 6]], np.float32)))
        assert (inputs.format, inputs.dtype) == ("csr", np.float32)
        np.testing.assert_array_equal(inputs.toarray(), [[5, 0, 1], [0, 6, 1]])


# ---- layout --------------------------------------------------------------------------


def test_parameters_lie_by_layer_by_output_neuron_bias_last():
    network = MLP((2, 3, 1), ("relu",))
    assert network.n_parameters == 13
    assert network.offsets == (0, 9, 13)
    first, second = network.unpack(np.arange(13.0))
    np.testing.assert_array_equal(first, [[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    np.testing.assert_array_equal(second, [[9, 10, 11, 12]])
    coefs, intercepts = network.to_coefs(np.arange(13.0))
    np.testing.assert_array_equal(coefs[0], [[0, 3, 6], [1, 4, 7]])
    np.testing.assert_array_equal(intercepts[0], [2, 5, 8])
    np.testing.assert_array_equal(coefs[1], [[9], [10], [11]])
    np.testing.assert_array_equal(intercepts[1], [12])


def test_coefs_and_back_is_the_identity(problem):
    network, theta, _ = problem
    coefs, intercepts = network.to_coefs(theta)
    np.testing.assert_array_equal(network.from_coefs(coefs, intercepts), theta)
    assert not any(np.shares_memory(part, theta) for part in [*coefs, *intercepts])


def test_unpacked_layers_are_views_also_of_stacks_of_parameters():
    network = MLP((2, 3, 1), ("relu",))
    theta = np.zeros((4, 13))
    layers = network.unpack(theta)
    assert [layer.shape for layer in layers] == [(4, 3, 3), (4, 1, 4)]
    layers[0][2, 1, 2] = 1
    assert theta[2, 5] == 1


def test_mask_marks_the_weights(problem):
    network, theta, _ = problem
    expected = oracles.weight_mask(network.layer_units)
    np.testing.assert_array_equal(network.weight_mask(), expected)
    coefs, intercepts = network.to_coefs(network.weight_mask())
    assert all((coef == 1).all() for coef in coefs)
    assert not any(intercept.any() for intercept in intercepts)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(4,), (4, 3)])
def test_start_is_that_of_scikit_learn(activation, hidden):
    mlp = MLPRegressor(
        hidden_layer_sizes=hidden,
        activation=activation,
        solver="sgd",
        learning_rate_init=1e-300,  # one step, of no length
        random_state=5,
    )
    mlp.partial_fit(np.ones((2, 3)), [0.0, 1.0])
    network = MLP((3, *hidden, 1), (activation,) * len(hidden))
    theta = network.initialize(np.random.RandomState(5))
    assert_close(theta, network.from_coefs(mlp.coefs_, mlp.intercepts_), rtol=1e-15)


def test_start_keeps_the_asked_precision_and_its_range():
    network = MLP((3, 500, 2), ("logistic",))
    theta = network.initialize(np.random.default_rng(0), np.float32)
    assert theta.dtype == np.float32
    first, second = network.unpack(theta)
    for layer, fans in ((first, 503), (second, 502)):
        bound = np.sqrt(2 / fans)
        assert 0.95 * bound < np.abs(layer).max() <= bound * (1 + 1e-6)


def test_network_of_no_hidden_layer_starts_in_the_range_of_the_identity():
    network = MLP((3, 200), ())
    theta = network.initialize(np.random.default_rng(0))
    bound = np.sqrt(6 / 203)
    assert 0.95 * bound < np.abs(theta).max() <= bound


def test_outputs_equal_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 3)), np.arange(30) % 3
    settings = {"activation": "logistic", "solver": "lbfgs", "random_state": 0}
    mlp = MLPClassifier((5, 4), alpha=1, max_iter=2000, **settings).fit(X, y)
    network = MLP((3, 5, 4, 3), ("logistic",) * 2)
    theta = network.from_coefs(mlp.coefs_, mlp.intercepts_)
    z = network.outputs(theta, append_one(X))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert_close(p, mlp.predict_proba(X), rtol=1e-14)


def test_start_of_wide_networks_is_that_of_the_theory():
    network = MLP((16, 2000, 50, 2), ("relu", "relu"))
    theta = network.initialize(np.random.default_rng(0), np.float32, init="ntk")
    assert theta.dtype == np.float32
    (W, V, A), intercepts = network.to_coefs(theta.astype(float))
    assert not np.concatenate(intercepts).any()
    normal = [W, V * 2000**0.5]
    for part in normal:
        assert abs(part.mean()) < 5 / part.size**0.5
        assert abs((part**2).mean() - 1) < 5 * (2 / part.size) ** 0.5
        assert abs((part**4).mean() - 3) < 5 * (96 / part.size) ** 0.5
    assert_close(abs(A), np.full((50, 2), 50**-0.5), rtol=1e-6)
    assert 0 < (A > 0).mean() < 1
    # f(x) = m^-1/2 sum_r a_r relu(w_r^T x)
    network = MLP((3, 40, 1), ("relu",))
    theta = network.initialize(np.random.RandomState(0), init="ntk")
    (W, A), _ = network.to_coefs(theta)
    x = np.array([0.6, 0, 0.8])
    f = sum(np.sign(a) * max(w @ x, 0) for a, w in zip(A[:, 0], W.T, strict=True))
    assert_close(network.outputs(theta, append_one(x[None])), [[f / 40**0.5]])
    with pytest.raises(ValueError, match="Unknown init 'he'; choose among"):
        network.initialize(np.random.default_rng(0), init="he")


@pytest.mark.parametrize(
    ("widths", "activations", "message"),
    [
        ((3,), (), "widths must be >= 1"),
        ((3, 0, 2), ("tanh",), "widths must be >= 1"),
        ((3, 4, 2), (), "1 hidden layers need as many activations"),
        ((3, 4, 2), ("tanh", "tanh"), "1 hidden layers need as many activations"),
        ((3, 4, 2), ("sine",), "Unknown activation 'sine'; choose among .*'relu'"),
    ],
)
def test_networks_that_make_no_sense_are_refused(widths, activations, message):
    with pytest.raises(ValueError, match=message):
        MLP(widths, activations)


def test_tanh_of_doubles_is_that_of_numpy_to_rounding():
    z = np.concatenate([np.linspace(-30, 30, 2001), [-800, 800, 0.0, -np.inf, np.inf]])
    given = z.copy()
    with np.errstate(all="raise"):
        out = PACKAGE_ACTIVATIONS["tanh"].value(z)
    np.testing.assert_allclose(out, np.tanh(z), rtol=0, atol=5e-16)
    np.testing.assert_array_equal(z, given)
    assert np.isnan(PACKAGE_ACTIVATIONS["tanh"].value(np.array([np.nan]))).all()
