"""Losses against plain formulas, complex steps and, far out, their limits."""

import array_api_strict
import numpy as np
import oracles
import pytest
from cases import LOSS_KINDS, assert_close, targets

from skgnh.losses import LOSSES

N = 6


@pytest.fixture(params=LOSS_KINDS)
def kind(request):
    return request.param


def problem(kind):
    name, d = LOSS_KINDS[kind]
    rng = np.random.default_rng(1)
    return LOSSES[name], name, rng.standard_normal((N, d)), targets(kind, N, rng)


def test_losses_are_found_by_their_output_activation():
    assert sorted(LOSSES) == ["exp", "identity", "logistic", "softmax"]
    assert all(loss.output_activation == name for name, loss in LOSSES.items())


def test_values_equal_the_plain_formulas(kind):
    loss, name, z, y = problem(kind)
    expected = [oracles.VALUES[name](*row) for row in zip(z, y, strict=True)]
    assert_close(loss.value(z, y), expected, rtol=1e-14)


def test_means_equal_the_plain_formulas(kind):
    loss, name, z, _ = problem(kind)
    assert_close(loss.mean(z), [oracles.mean(name, row) for row in z], rtol=1e-14)


def test_link_undoes_the_mean(kind):
    loss, _, z, _ = problem(kind)
    again = loss.link(loss.mean(z))
    if kind == "softmax":  # up to a constant in each row
        again, z = (t - t.mean(axis=1, keepdims=True) for t in (again, z))
    assert_close(again, z, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_link_of_certain_labels_is_finite_and_gives_them_back(kind, dtype):
    loss, _, _, y = problem(kind)
    z = loss.link(y.astype(dtype))
    assert z.dtype == dtype
    assert np.isfinite(z).all()
    np.testing.assert_allclose(loss.mean(z), y, atol=1e-6)


def test_values_of_labels_are_log_likelihoods(kind):
    loss, _, _, y = problem(kind)
    assert loss.is_log_likelihood is (kind in ("binary", "multilabel", "softmax"))
    if loss.is_log_likelihood:
        np.testing.assert_allclose(loss.value(loss.link(y), y), 0, atol=1e-6)


def test_gradient_is_the_derivative_of_the_value(kind):
    loss, name, z, y = problem(kind)
    expected = [
        oracles.complex_step(lambda t, y=y[i]: oracles.VALUES[name](t, y), z[i])
        for i in range(N)
    ]
    assert_close(loss.gradient(loss.mean(z), y), expected, rtol=1e-14)


def test_root_squares_to_the_derivative_of_the_gradient(kind):
    loss, _, z, y = problem(kind)
    d, h = z.shape[1], 1e-5
    eye = np.broadcast_to(np.eye(d), (N, d, d))
    Q = loss.root(loss.mean(z), loss.root_adjoint(loss.mean(z), eye))
    for k in range(d):
        ahead, behind = (
            loss.gradient(loss.mean(z + sign * h * np.eye(d)[k]), y) for sign in (1, -1)
        )
        assert_close(Q[:, k], (ahead - behind) / (2 * h), rtol=1e-9)


def test_root_equals_its_closed_form(kind):
    loss, name, z, _ = problem(kind)
    d = z.shape[1]
    x = np.random.default_rng(2).standard_normal((N, 4, d))
    S = np.array([oracles.root(name, row) for row in z])
    assert_close(loss.root(loss.mean(z), x), np.einsum("ndk,nmk->nmd", S, x), 1e-14)
    expected = np.einsum("ndk,nmd->nmk", S, x)
    assert_close(loss.root_adjoint(loss.mean(z), x), expected, rtol=1e-14)


def test_oracle_root_squares_to_the_oracle_hessian(kind):
    _, name, z, _ = problem(kind)
    for row in z:
        S = oracles.root(name, row)
        assert_close(S @ S.T, oracles.hessian(name, row), rtol=1e-14)


def test_float32_stays_float32(kind):
    loss, _, z, y = problem(kind)
    z, y = z.astype(np.float32), y.astype(np.float32)
    mean = loss.mean(z)
    answers = [
        mean,
        loss.link(mean),
        loss.value(z, y),
        loss.gradient(mean, y),
        loss.root(mean, z[:, None, :]),
        loss.root_adjoint(mean, z[:, None, :]),
    ]
    assert {answer.dtype for answer in answers} == {np.dtype(np.float32)}


@pytest.mark.parametrize("kind", ["multilabel", "softmax"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_far_out_neither_overflow_nor_lose_their_loss(kind, dtype):
    name, d = LOSS_KINDS[kind]
    loss, far = LOSSES[name], dtype(1e4)
    z = np.array([[far] + [-far] * (d - 1)])
    right, wrong = np.eye(d, dtype=dtype)[:1], np.eye(d, dtype=dtype)[1:2]
    assert loss.value(z, right)[0] == 0
    assert loss.value(z, wrong)[0] == pytest.approx(2 * far)
    mean = loss.mean(z)
    np.testing.assert_array_equal(mean, right)
    np.testing.assert_array_equal(loss.gradient(mean, right), 0)
    np.testing.assert_array_equal(loss.root(mean, np.ones((1, 1, d), dtype)), 0)


def test_small_probabilities_keep_their_digits():
    loss = LOSSES["logistic"]
    z = np.array([[-50.0]])
    np.testing.assert_allclose(loss.mean(z), np.exp(-50), rtol=1e-14)
    np.testing.assert_allclose(loss.value(z, 0 * z), np.exp(-50), rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("identity", [[-1.0, 5.0]], None),
        ("exp", [[0.0, 7.5]], [[1.0, -0.1]]),
        ("logistic", [[0.0, 1.0], [0.5, 0.5]], [[0.0, 2.0]]),
        ("logistic", [[0.0]], [[-1.0]]),
        ("softmax", [[0.2, 0.8]], [[1.0, 1.0]]),
        ("softmax", [[1.0, 0.0]], [[1.5, -0.5]]),
    ],
)
def test_losses_accept_the_targets_of_their_domain_only(name, good, bad):
    assert LOSSES[name].accepts(np.array(good)) is True
    assert bad is None or LOSSES[name].accepts(np.array(bad)) is False
    assert LOSSES[name].domain


def test_losses_run_on_any_array_of_the_standard(kind):
    loss, _, z, y = problem(kind)
    xp = array_api_strict
    x = np.random.default_rng(2).standard_normal((N, 4, z.shape[1]))
    mean = loss.mean(z)
    answers = [
        (loss.mean(xp.asarray(z)), mean),
        (loss.link(xp.asarray(mean)), loss.link(mean)),
        (loss.value(xp.asarray(z), xp.asarray(y)), loss.value(z, y)),
        (loss.gradient(xp.asarray(mean), xp.asarray(y)), loss.gradient(mean, y)),
        (loss.root(xp.asarray(mean), xp.asarray(x)), loss.root(mean, x)),
        (
            loss.root_adjoint(xp.asarray(mean), xp.asarray(x)),
            loss.root_adjoint(mean, x),
        ),
    ]
    for strict, expected in answers:
        assert isinstance(strict, type(xp.asarray(z)))
        assert_close(np.asarray(strict), expected, rtol=1e-14)
    assert loss.accepts(xp.asarray(y)) is True
