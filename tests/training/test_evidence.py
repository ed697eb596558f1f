"""The evidence against a dense oracle, one row at a time, and its update."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import oracles
import pytest
from cases import Case, assert_close

from skgnh.network import append_one
from skgnh.objective import Objective, RestrictedObjective
from skgnh.solvers import CG, Auto, Dense, Gram
from skgnh.training import (
    Evidence,
    FullBatch,
    Hyper,
    LevenbergMarquardt,
    Prior,
    Problem,
)

KINDS = ("squared", "poisson", "binary", "multilabel", "softmax")
EVERY = pytest.mark.parametrize("kind", KINDS)
NOISE = {"squared": 0.3, "poisson": 1.7}


class Setup(NamedTuple):
    """A network with rows, their weights as counts, and a prior of its layers."""

    case: Case
    X: np.ndarray
    Y: np.ndarray
    counts: np.ndarray
    theta: np.ndarray
    groups: np.ndarray
    hyper: Hyper

    def repeated(self):
        rows = np.repeat(np.arange(len(self.X)), self.counts)
        X, Y = self.X[rows], self.Y[rows]
        return self._replace(X=X, Y=Y, counts=np.ones(len(rows), int))


def setup(kind, weighted=False):
    case = Case("tanh", 1, kind, n=25)
    X, Y, _, theta, _ = case.data()
    counts = np.ones(len(X), int)
    if weighted:
        counts = np.random.default_rng(3).integers(1, 4, len(X))
    mask, layer = oracles.weight_mask(case.widths), []
    for k, (fan_in, out) in enumerate(zip(case.widths, case.widths[1:], strict=False)):
        layer += [k] * (fan_in + 1) * out
    groups = 2 * np.array(layer) + (mask == 0)
    hyper = Hyper(np.array([0.7, 0.2, 3.0, 0.05]), NOISE.get(kind, 1.0))
    return Setup(case, X, Y, counts, theta, groups, hyper)


def method(s, solver=None, fixed=None, **settings):
    inner = LevenbergMarquardt(
        solver or Dense(), FullBatch(), scaling="prior", **settings
    )
    fixed = np.zeros(4, bool) if fixed is None else fixed
    prior = Prior(s.groups, s.hyper.precision, fixed)
    return Evidence(inner, prior, float(s.counts.sum()), s.hyper.dispersion)


def problem(s):
    inputs, weights = append_one(s.X), s.counts / s.counts.sum()
    objective = Objective(
        s.case.network, s.case.loss, inputs, s.Y, weights, np.zeros(len(s.theta))
    )
    return Problem(objective, s.theta)


def posterior(s, solver=None):
    """What the package says of the start."""
    evidence, made = method(s, solver), problem(s)
    state = evidence.begin(made, np.random.default_rng(0))
    found = (step.posterior for step in evidence.steps(made, state))
    return next(one for one in found if one is not None)


# ---- the oracle ----------------------------------------------------------------------


def log_likelihood(kind, z, y, noise):
    """Of one row, its constants included where the noise has to be compared."""
    if kind == "squared":
        return np.sum(-((y - z) ** 2) / (2 * noise) - np.log(2 * np.pi * noise) / 2)
    output_activation = {"poisson": "exp", "softmax": "softmax"}.get(kind, "logistic")
    loss = oracles.VALUES[output_activation](z, y)
    if kind == "poisson":
        return -loss / noise - len(y) * np.log(noise) / 2
    return -loss


def curvature(kind, z, noise):
    """Hessian in z of minus the logarithm of the likelihood of one row."""
    if kind == "squared":
        return np.eye(len(z)) / noise
    output_activation = {"poisson": "exp", "softmax": "softmax"}.get(kind, "logistic")
    return oracles.hessian(output_activation, z) / noise


def laplace(s, free=slice(None)):
    """Logarithm of the evidence and gamma of each group, from dense arrays.

    The parameters that are not free do not move.
    """
    alpha = s.hyper.precision[s.groups]
    A, total = np.diag(alpha), -0.5 * np.sum(alpha * s.theta**2)
    for x, y, count in zip(s.X, s.Y, s.counts, strict=True):
        z = oracles.outputs(s.theta, x, s.case.widths, s.case.activations)
        J = oracles.jacobian(s.theta, x, s.case.widths, s.case.activations)
        Q = curvature(s.case.kind, z, s.hyper.dispersion)
        total += count * log_likelihood(s.case.kind, z, y, s.hyper.dispersion)
        A = A + count * J.T @ Q @ J
    A, alpha, groups = A[free][:, free], alpha[free], s.groups[free]
    total += 0.5 * np.sum(np.log(alpha)) - 0.5 * np.linalg.slogdet(A)[1]
    rest = alpha * np.linalg.inv(A).diagonal()
    return total, np.array([np.sum(1 - rest[groups == g]) for g in range(4)])


@pytest.mark.parametrize("solver", [Dense(), Gram(), Auto()])
@pytest.mark.parametrize("weighted", [False, True])
@EVERY
def test_evidence_and_effective_parameters_are_those_of_the_oracle(
    kind, weighted, solver
):
    s = setup(kind, weighted)
    expected, gamma = laplace(s)
    found = posterior(s, solver)
    assert found.log_evidence == pytest.approx(expected, rel=1e-8)
    assert_close(found.gamma, gamma, rtol=1e-8)
    np.testing.assert_array_equal(found.theta, s.theta)
    assert found.hyper.dispersion == s.hyper.dispersion


@EVERY
def test_parameters_held_at_zero_have_no_say(kind):
    s = setup(kind)
    # Some of the weights, and no bias of a hidden unit.
    odd = np.arange(len(s.theta)) % 2 == 1
    free = np.flatnonzero((s.groups == 3) | (s.groups != 1) & odd)
    s.theta[np.setdiff1d(np.arange(len(s.theta)), free)] = 0
    expected, gamma = laplace(s, free)
    whole, evidence = problem(s), method(s)
    restricted = RestrictedObjective(whole.objective, s.theta, free)
    made = Problem(restricted, s.theta[free])
    evidence = replace(evidence, prior=evidence.prior.restricted(free))
    state = evidence.begin(made, np.random.default_rng(0))
    found = (step.posterior for step in evidence.steps(made, state))
    first = next(one for one in found if one is not None)
    assert first.log_evidence == pytest.approx(expected, rel=1e-8)
    assert_close(first.gamma, gamma, rtol=1e-8)
    for _ in zip(range(20), evidence.steps(made, state), strict=False):
        pass
    assert state.hyper.precision[1] == s.hyper.precision[1]
    assert state.hyper.precision[0] != s.hyper.precision[0]


@EVERY
def test_weights_of_rows_are_repetitions(kind):
    s = setup(kind, weighted=True)
    one, other = posterior(s), posterior(s.repeated())
    assert one.log_evidence == pytest.approx(other.log_evidence, rel=1e-10)
    assert_close(one.gamma, other.gamma, rtol=1e-10)


@EVERY
def test_gradient_in_the_precisions_is_what_the_update_sets_to_zero(kind):
    s, h = setup(kind), 1e-5
    gamma = posterior(s).gamma
    for g in range(4):
        values = []
        for sign in (1, -1):
            precision = s.hyper.precision.copy()
            precision[g] *= np.exp(sign * h)
            moved = s._replace(hyper=s.hyper._replace(precision=precision))
            values.append(posterior(moved).log_evidence)
        squares = np.sum(s.theta[s.groups == g] ** 2)
        expected = (gamma[g] - s.hyper.precision[g] * squares) / 2
        assert (values[0] - values[1]) / (2 * h) == pytest.approx(
            expected, rel=1e-5, abs=1e-5
        )


def test_gradient_in_the_noise_is_what_its_update_sets_to_zero():
    s, h = setup("squared"), 1e-5
    values = [
        posterior(s._replace(hyper=s.hyper._replace(dispersion=0.3 * e))).log_evidence
        for e in np.exp([h, -h])
    ]
    found = posterior(s)
    z = np.array(
        [oracles.outputs(s.theta, x, s.case.widths, s.case.activations) for x in s.X]
    )
    squares, free = np.sum((s.Y - z) ** 2), s.Y.size - found.gamma.sum()
    slope = (squares / 0.3 - free) / 2
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(slope, rel=1e-5)
    loss = squares / (2 * s.Y.size)
    gamma = float(found.gamma.sum())
    noise = s.case.loss.dispersion(loss, len(s.X), s.Y.shape[1], gamma)
    assert noise == pytest.approx(squares / free, rel=1e-12)


# ---- the method ----------------------------------------------------------------------


def walk(s, n, **settings):
    evidence, made = method(s, **settings), problem(s)
    state = evidence.begin(made, np.random.default_rng(0))
    steps = []
    for step in evidence.steps(made, state):
        steps.append(step)
        if len(steps) == n or step.status:
            break
    return steps, state, made.objective


def with_something_to_learn(s):
    """Targets that hang on the rows, but for a noise."""
    noisy = s.X + 0.3 * np.random.default_rng(4).standard_normal(s.X.shape)
    Y = {
        "squared": lambda: noisy,
        "poisson": lambda: np.floor(np.exp(1 + noisy[:, :2])),
        "binary": lambda: (noisy[:, :1] > 0).astype(float),
        "multilabel": lambda: (noisy > 0).astype(float),
        "softmax": lambda: np.eye(3)[noisy.argmax(axis=1)],
    }
    return s._replace(Y=Y[s.case.kind]())


@pytest.mark.slow
@EVERY
def test_precisions_settle_where_the_gradient_of_the_evidence_vanishes(kind):
    s = with_something_to_learn(setup(kind, weighted=True))
    steps, state, _ = walk(s, 400)
    found = [step.posterior for step in steps if step.posterior is not None]
    last = found[-1]
    squares = np.bincount(s.groups, steps[-1].theta ** 2)
    free = (state.hyper.precision > 2e-4) & (state.hyper.precision < 5e5)
    assert free.any()
    product = (state.hyper.precision * squares)[free]
    np.testing.assert_allclose(product, last.gamma[free], rtol=0.05, atol=0.02)
    assert last.log_evidence > found[0].log_evidence


@EVERY
def test_fixed_precisions_stay(kind):
    fixed = np.array([False, False, True, True])
    s = setup(kind)
    _, state, _ = walk(s, 20, fixed=fixed)
    changed = state.hyper.precision != s.hyper.precision
    np.testing.assert_array_equal(changed, ~fixed)


@EVERY
def test_objective_follows_the_precisions(kind):
    s = setup(kind)
    _, state, objective = walk(s, 20)
    rate = {"squared": s.Y.shape[1] / state.hyper.dispersion}
    rate = rate.get(kind, 1 / state.hyper.dispersion)
    ridge = state.hyper.precision[s.groups] / (s.counts.sum() * rate)
    assert_close(objective.ridge, ridge, rtol=1e-12)


def test_rows_without_noise_do_not_end_in_zeros():
    s = setup("squared")
    s = s._replace(Y=np.ones_like(s.Y))
    steps, state, _ = walk(s, 60)
    assert state.hyper.dispersion > 0
    assert np.isfinite(steps[-1].value)
    assert np.isfinite(steps[-1].theta).all()


def test_evidence_of_a_scaled_problem_is_that_of_the_other_less_the_scale():
    # y in other units: the density is one of other units.
    s = setup("squared")
    c = 7.0
    theta = s.theta.copy()
    last = s.groups >= 2
    theta[last] *= c
    precision = s.hyper.precision * [1, 1, c**-2, c**-2]
    hyper = Hyper(precision, c**2 * s.hyper.dispersion)
    moved = s._replace(theta=theta, Y=c * s.Y, hyper=hyper)
    one, other = posterior(s), posterior(moved)
    assert_close(one.gamma, other.gamma, rtol=1e-9)
    difference = s.Y.size * np.log(c)
    assert other.log_evidence == pytest.approx(one.log_evidence - difference, rel=1e-9)


def test_evidence_is_only_asked_where_a_point_is_left():
    s = setup("softmax")
    steps, _, _ = walk(s, 30, damping=1e-12)
    assert any(not step.ends_batch for step in steps) or len(steps) == 30
    for step in steps:
        assert (step.posterior is not None) == step.ends_batch


def test_solver_without_a_determinant_gets_an_approximation():
    s = setup("softmax")
    exact, found = posterior(s, Dense()), posterior(s, CG(rtol=1e-10, max_iter=500))
    assert np.isfinite(found.log_evidence)
    # K-FAC's determinant, not the exact one.
    assert found.log_evidence == pytest.approx(exact.log_evidence, rel=0.2)
