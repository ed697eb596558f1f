"""All that must survive a stop is one record, without rows, that can be pickled."""

import pickle

import numpy as np
import pytest
from cases import Case

from skgnh.network import append_one
from skgnh.objective import Objective
from skgnh.solvers import all_solvers
from skgnh.training import (
    Evidence,
    FullBatch,
    GrowingBatches,
    LevenbergMarquardt,
    MiniBatches,
    Prior,
    Problem,
)

N = 48
FULL = FullBatch()
SAMPLED = FullBatch(N, 20)
BATCHES = MiniBatches(N, 12, 12)
DRAWN = MiniBatches(N, 16, 10)
GROWING = GrowingBatches(N, 4, 4)
SCHEDULES = pytest.mark.parametrize(
    "schedule", [FULL, SAMPLED, BATCHES, DRAWN, GROWING]
)


def problem(n=N, kind="softmax"):
    case = Case("tanh", 1, kind, n=n)
    X, Y, weights, theta, ridge = case.data()
    parts = append_one(X), Y, weights, ridge
    return Problem(Objective(case.network, case.loss, *parts), theta)


def prior(objective):
    """A precision for the weights of each layer, and one for its biases."""
    groups = np.empty(objective.network.n_parameters, int)
    for k, layer in enumerate(objective.network.unpack(groups)):
        layer[:, :-1], layer[:, -1] = 2 * k, 2 * k + 1
    return Prior(groups, np.ones(4), np.zeros(4, bool))


def method(objective, schedule, solver="dense", scaling="none"):
    solver = all_solvers()[solver]()
    inner = LevenbergMarquardt(solver, schedule, scaling=scaling)
    if scaling != "prior":
        return inner
    return Evidence(inner, prior(objective), float(len(objective.inputs)))


def walk(made, method, state, iterations):
    """Steps up to the end of some iterations."""
    out = []
    for step in method.steps(made, state):
        out.append(step)
        iterations -= step.ends_epoch
        if step.status or iterations == 0:
            break
    return out


def assert_same_walk(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.theta, b.theta)
        assert (a.value, a.damping, a.next_damping) == (
            b.value,
            b.damping,
            b.next_damping,
        )
        if a.posterior is not None:
            one, other = a.posterior, b.posterior
            assert one.log_evidence == other.log_evidence
            np.testing.assert_array_equal(one.hyper.precision, other.hyper.precision)


def in_two_halves(solver, schedule, scaling, stop=4, total=9):
    """One walk as it is, and one from the pickled state, on a problem made anew."""
    made = problem()
    whole = method(made.objective, schedule, solver, scaling)
    steps = walk(made, whole, whole.begin(made, np.random.default_rng(5)), total)

    made = problem()
    first = method(made.objective, schedule, solver, scaling)
    state = first.begin(made, np.random.default_rng(5))
    before = walk(made, first, state, stop)
    record = pickle.dumps(state)

    made = problem()
    second = method(made.objective, schedule, solver, scaling)
    after = walk(made, second, pickle.loads(record), total - stop)
    return steps, before + after


@pytest.mark.parametrize("scaling", ["none", "diagonal", "prior"])
@SCHEDULES
def test_training_goes_on_from_the_pickled_state_as_if_it_had_not_stopped(
    schedule, scaling
):
    assert_same_walk(*in_two_halves("dense", schedule, scaling))


@pytest.mark.parametrize("schedule", [FULL, BATCHES])
@pytest.mark.parametrize("solver", all_solvers())
def test_every_solver_goes_on_from_what_it_carried(solver, schedule):
    assert_same_walk(*in_two_halves(solver, schedule, "none", stop=2, total=5))


@pytest.mark.parametrize("solver", ["auto", "gram", "kfac", "mfac", "hmatrix", "cg"])
def test_every_solver_goes_on_with_the_evidence(solver):
    assert_same_walk(*in_two_halves(solver, FULL, "prior", stop=3, total=6))


@pytest.mark.parametrize("scaling", ["none", "prior"])
@pytest.mark.parametrize("solver", all_solvers())
def test_state_holds_no_rows(solver, scaling):
    def size(n):
        made = problem(n)
        chosen = method(made.objective, FullBatch(n, 20), solver, scaling)
        state = chosen.begin(made, np.random.default_rng(0))
        walk(made, chosen, state, 2)
        return len(pickle.dumps(state))

    few, many = size(30), size(900)
    # Numbers of more digits take a byte or two.
    assert abs(many - few) < 0.02 * few + 64


def test_state_of_mini_batches_has_the_order_of_the_next_epoch_alone():
    def size(n):
        made = problem(n)
        chosen = method(made.objective, MiniBatches(n, 10, 10))
        state = chosen.begin(made, np.random.default_rng(0))
        walk(made, chosen, state, 1)
        return len(pickle.dumps(state))

    assert abs(size(900) - size(30) - 8 * (900 - 30)) < 64
