"""Laplace's posterior against dense algebra and Jacobians by complex steps."""

import pickle

import numpy as np
import pytest
from cases import Case, assert_close
from sklearn import config_context

from skgnh.objective import Objective
from skgnh.posterior import laplace
from skgnh.solvers import KFAC, Dense, Gram, HMatrix, Nystrom

KINDS = ("squared", "poisson", "binary", "multilabel", "softmax")
EACH = pytest.mark.parametrize("kind", KINDS)
# Sum of the weights times the rate of the loss.
TOTAL = 7.0


def problem(kind, held=False, n_hidden=2):
    """A posterior's ingredients, and its covariance and precision as arrays."""
    case = Case(n_hidden=n_hidden, kind=kind, weighted=True, n=6)
    H, targets = case.operator(), case.data()[1]
    inputs, theta = H.linearization.inputs, H.linearization.theta
    objective = Objective(H.network, H.loss, inputs, targets, H.weights, H.ridge)
    scale = np.empty(len(theta))
    for depth, layer in enumerate(H.network.unpack(scale)):
        layer[:, :-1], layer[:, -1] = 0.5 + depth, 2.0 / (1 + depth)
    if held:
        scale[::5] = 0
    free = np.ix_(scale > 0, scale > 0)
    data = TOTAL * case.curvature().array(H.weights, np.zeros(len(theta)))
    precision = data[free] + np.diag(scale[scale > 0] ** -2.0)
    covariance = np.zeros_like(data)
    covariance[free] = np.linalg.inv(precision)
    return case, (objective, theta, scale, TOTAL), covariance, precision


def jacobians(case):
    return np.array([J for J, _, _ in case.curvature().parts])


@EACH
@pytest.mark.parametrize(
    ("solver", "held"), [(None, False), (None, True), (Gram(), False)]
)
def test_answers_are_those_of_the_dense_covariance(kind, solver, held):
    case, ingredients, C, precision = problem(kind, held)
    posterior = laplace(*ingredients, solver=solver)
    J = jacobians(case)
    rows = J.reshape(-1, J.shape[2])
    assert_close(posterior.variance(rows), np.einsum("kp,pq,kq->k", rows, C, rows))
    assert_close(posterior.covariance(rows), rows @ C @ rows.T, 1e-9)
    assert_close(posterior.solve(rows.T), C @ rows.T, 1e-9)
    inputs = ingredients[0].inputs
    assert_close(posterior.output_rows(inputs), J)
    found = posterior.output_variance(inputs)
    assert_close(found, np.einsum("nkp,pq,nkq->nk", J, C, J), 1e-9)
    centred = J - J.mean(axis=1, keepdims=True)
    contrasts = posterior.output_variance(inputs, contrasts=True)
    assert_close(contrasts + 1, np.einsum("nkp,pq,nkq->nk", centred, C, centred) + 1)
    assert_close(posterior.logdet(), np.linalg.slogdet(precision)[1])


@pytest.mark.parametrize("solver", [None, Gram()])
def test_traces_are_in_units_of_the_prior(solver):
    _, ingredients, C, _ = problem("softmax")
    scale = ingredients[2]
    groups = np.arange(len(scale)) % 3
    found = laplace(*ingredients, solver=solver).trace_of_inverse(groups)
    expected = C.diagonal() / scale**2
    assert_close(found, [expected[groups == g].sum() for g in range(3)])


@pytest.mark.parametrize("solver", [None, Gram()])
def test_draws_have_its_mean_and_covariance(solver):
    case, ingredients, C, _ = problem("squared")
    posterior = laplace(*ingredients, solver=solver)
    draws = posterior.sample(40_000, np.random.default_rng(0))
    root = np.linalg.cholesky(np.linalg.inv(C))
    # Whitened, four standard errors of a variance and of a mean.
    white = (draws - ingredients[1]) @ root
    assert_close(np.cov(white.T), np.eye(len(C)), 4 * (2 / 40_000) ** 0.5)
    assert np.abs(white.mean(axis=0)).max() < 4 / 40_000**0.5
    outputs = posterior.sample_outputs(
        ingredients[0].inputs, 10, np.random.default_rng(1)
    )
    moved = posterior.sample(10, np.random.default_rng(1)) - ingredients[1]
    assert_close(outputs, np.einsum("nkp,sp->nks", jacobians(case), moved))


@EACH
def test_kronecker_factors_answer_by_layers_what_they_answer_by_rows(kind):
    # The derivative's P numbers are not made: the same approximation all the same.
    case, ingredients, _, _ = problem(kind)
    posterior = laplace(*ingredients, solver=KFAC())
    J = jacobians(case)
    by_rows = posterior.variance(J.reshape(-1, J.shape[2])).reshape(J.shape[:2])
    assert_close(posterior.output_variance(ingredients[0].inputs), by_rows)
    assert_close(posterior.covariance(J[0])[0, 0], by_rows[0, 0])


@pytest.mark.parametrize(
    "solver", [Nystrom(rank=40), HMatrix(storage=64), Dense(), KFAC()]
)
def test_a_given_solver_gives_the_form(solver):
    _, ingredients, C, _ = problem("softmax", n_hidden=3)
    posterior = laplace(*ingredients, solver=solver)
    assert type(solver).__name__ in repr(posterior)
    found = posterior.variance(np.eye(len(C)))
    # All but K-FAC hold so small a matrix exactly.
    assert_close(found, C.diagonal(), 10 if isinstance(solver, KFAC) else 1e-6)


@pytest.mark.parametrize("form", [None, KFAC(), Nystrom(rank=9), Gram(), HMatrix()])
def test_it_survives_a_pickle(form):
    case, ingredients, _, _ = problem("squared")
    posterior = laplace(*ingredients, solver=form)
    again = pickle.loads(pickle.dumps(posterior))
    inputs = ingredients[0].inputs
    np.testing.assert_array_equal(
        again.output_variance(inputs), posterior.output_variance(inputs)
    )


def test_rows_do_not_live_on_but_in_a_gram_matrix():
    _, ingredients, _, _ = problem("squared")
    objective, *others = ingredients
    inputs = np.tile(objective.inputs, (2000, 1))
    weights = np.full(len(inputs), 1 / len(inputs))
    targets = np.tile(objective.targets, (2000, 1))
    many = Objective(
        objective.network, objective.loss, inputs, targets, weights, objective.ridge
    )
    for form in (Dense(), KFAC(), Nystrom(rank=9)):
        posterior = laplace(many, *others, solver=form)
        assert len(pickle.dumps(posterior)) < inputs.nbytes / 4


def test_some_rows_stand_for_all(monkeypatch):
    # Rows that are all alike tell the same by any of them.
    _, (objective, theta, scale, total), _, _ = problem("binary")
    n = 400
    inputs = np.repeat(objective.inputs[:1], n, axis=0)
    targets = np.repeat(objective.targets[:1], n, axis=0)
    same = Objective(
        objective.network, objective.loss, inputs, targets, np.full(n, 1 / n), 0 * theta
    )
    whole = laplace(same, theta, scale, total)
    monkeypatch.setattr("skgnh.posterior._CHEAP", 1.0)
    some = laplace(same, theta, scale, total, rng=np.random.default_rng(0))
    assert_close(some.logdet(), whole.logdet())


def test_precision_beyond_rounding_is_still_a_posterior():
    # Without noise the data's part is 1e20 times the prior's.
    _, (objective, theta, scale, _), _, _ = problem("squared")
    posterior = laplace(objective, theta, scale, 1e22)
    variance = posterior.output_variance(objective.inputs)
    assert np.isfinite(variance).all()
    assert (variance >= 0).all()
    assert np.isfinite(posterior.logdet())


def test_some_held_want_an_array_or_have_none(monkeypatch):
    monkeypatch.setattr("skgnh.posterior._CHEAP_ROW", 1.0)
    _, ingredients, _, _ = problem("softmax", held=True)
    assert laplace(*ingredients).factor.name == "Dense"
    with config_context(working_memory=1e-4):
        assert laplace(*ingredients) is None


@pytest.mark.parametrize("form", [None, KFAC()])
def test_the_part_of_the_data(form):
    _, ingredients, C, precision = problem("binary", held=form is None)
    free = ingredients[2] > 0
    found = laplace(*ingredients, solver=form).data_precision(1000)
    prior = ingredients[2][free] ** -2.0
    if form is None:
        expected = np.zeros_like(C)
        expected[np.ix_(free, free)] = precision - np.diag(prior)
        assert_close(found, expected, 1e-9)
        assert laplace(*ingredients).data_precision(5).shape == (len(C),)
    else:
        variance = laplace(*ingredients, solver=form).variance(np.eye(len(C)))
        assert_close(1 / (found + prior), variance, 1e-9)


def test_an_array_beyond_the_working_memory_is_not_made():
    case, ingredients, _, _ = problem("squared")
    with config_context(working_memory=1e-4):
        posterior = laplace(*ingredients)
        assert posterior.factor.name == "KFAC"
        with pytest.raises(ValueError, match="covariance of 500 outputs"):
            posterior.covariance(np.ones((500, len(ingredients[1]))))
        with pytest.raises(ValueError, match="Jacobian of 6 rows"):
            posterior.output_rows(ingredients[0].inputs)
