"""Rows that are gone, as a quadratic: exact where the network is linear."""

import numpy as np
import pytest
from cases import Case, assert_close
from scipy import sparse

from skgnh.network import MLP
from skgnh.objective import Objective
from skgnh.scaling import Moments, Scaling
from skgnh.training import RecollectingObjective, Recollection


def objective_of(case, rows):
    H = case.operator()
    X, Y, weights, theta, ridge = case.data()
    inputs = H.linearization.inputs
    w = weights[rows] / weights[rows].sum()
    own = Objective(H.network, H.loss, inputs[rows], Y[rows], w, ridge.copy())
    return own, weights[rows].sum()


def recollection_of(case, rows, theta, diagonal=False):
    objective, weight = objective_of(case, rows)
    objective.ridge = 0 * objective.ridge
    _, gradient, H = objective.linearize(theta)
    P = len(theta)
    H = H.diagonal() if diagonal else H.toarray()
    gone = Recollection(np.zeros_like(H), np.zeros(P), 0.0)
    return gone.plus(H, gradient, theta, weight)


def both(case, diagonal=False):
    """The objective of all rows, and the one that recollects the first four."""
    theta = case.data()[3]
    gone = recollection_of(case, slice(0, 4), 0.3 * theta, diagonal)
    now, weight = objective_of(case, slice(4, None))
    whole, _ = objective_of(case, slice(None))
    return whole, RecollectingObjective(now, gone, theta, weight), theta


def test_a_linear_network_forgets_nothing():
    case = Case(n_hidden=0, kind="squared", weighted=True, n=9)
    whole, parts, theta = both(case)
    other = theta + np.random.default_rng(0).standard_normal(len(theta))
    assert_close(
        parts.value(other) - parts.value(theta), whole.value(other) - whole.value(theta)
    )
    (_, g, H), (_, expected, array) = (x.linearize(other) for x in (parts, whole))
    assert_close(g, expected)
    assert_close(H.toarray(), array.toarray())
    assert_close(H.diagonal(), array.diagonal())
    V = np.random.default_rng(1).standard_normal((len(theta), 3))
    assert_close(H @ V, array @ V)
    free = np.array([0, 2, 5])
    assert_close(H.restricted(free).toarray(), array.restricted(free).toarray())
    assert_close(
        parts.data_curvature(other, 3.0).toarray(),
        whole.data_curvature(other, 3.0).toarray(),
    )


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_gradient_and_curvature_are_those_of_the_value(kind, diagonal):
    case = Case(n_hidden=1, kind=kind, weighted=True, n=9)
    _, parts, theta = both(case, diagonal)
    value, gradient, H = parts.linearize(theta)
    assert value == pytest.approx(parts.value(theta))
    v, h = np.random.default_rng(0).standard_normal(len(theta)), 1e-6
    slope = (parts.value(theta + h * v) - parts.value(theta - h * v)) / (2 * h)
    assert slope == pytest.approx(gradient @ v, rel=1e-6)
    assert_close(H @ v, H.toarray() @ v)
    # What is left of the penalty and of rows at hand has been tested elsewhere.
    assert_close(H.diagonal(), H.toarray().diagonal())


def test_at_the_start_the_past_has_the_loss_of_the_present():
    case = Case(n_hidden=1, kind="squared", weighted=True, n=9)
    _, parts, theta = both(case)
    now, _ = objective_of(case, slice(4, None))
    assert parts.value(theta) == pytest.approx(now.value(theta))


def scalings(rng, width, d):
    for shift in (0.0, 1.0):
        X = shift + rng.standard_normal((20, width)) * [1, 3, 0.2]
        Y = 5 * shift + (1 + shift) * rng.standard_normal((20, d))
        yield Scaling(Moments.of(X), Moments.of(Y))


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
def test_another_scaling_is_an_affine_map_of_the_parameters(hidden):
    rng = np.random.default_rng(0)
    network = MLP((3, *hidden, 2), ("tanh",) * len(hidden))
    old, new = scalings(rng, 3, 2)
    A, a = old.change_to(new, network)
    theta = rng.standard_normal(network.n_parameters)
    assert_close(A @ theta + a, old.unfold(network, new.fold(network, theta)))


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_mapped_recollection_is_the_same_function(diagonal):
    rng = np.random.default_rng(0)
    P = 6
    root = rng.standard_normal((P, P))
    D = np.abs(root[0]) if diagonal else root @ root.T
    gone = Recollection(D, rng.standard_normal(P), 5.0)
    A = rng.standard_normal((P, P)) if not diagonal else np.diag(rng.standard_normal(P))
    a = rng.standard_normal(P)
    mapped = gone.mapped(sparse.csr_array(A), a, 3.0)
    one, other = rng.standard_normal((2, P))
    change = gone.value(A @ one + a) - gone.value(A @ other + a)
    assert mapped.value(one) - mapped.value(other) == pytest.approx(3 * change)
    assert mapped.weight == 5.0
