"""Parts that are defined here and train with no edit elsewhere, each a few lines."""

import inspect
from dataclasses import dataclass, field, fields, replace

import numpy as np
import pytest
from cases import Case, assert_close
from scipy.linalg import cho_factor, cho_solve
from tasks import fitted

from skgnh.network import append_one
from skgnh.objective import Objective
from skgnh.solvers import Dense, Price, Solver
from skgnh.solvers.base import Factor
from skgnh.training import (
    Batch,
    FullBatch,
    LevenbergMarquardt,
    Patience,
    Problem,
    State,
    Training,
    nielsen,
)

N = 40


def problem():
    case = Case("tanh", 1, "squared", n=N)
    X, Y, weights, theta, ridge = case.data()
    parts = append_one(X), Y, weights, ridge
    return Problem(Objective(case.network, case.loss, *parts), theta)


def train(method, iterations=15, seed=0):
    made = problem()
    training = Training(made, iterations, Patience(0.0, np.inf))
    state = method.begin(made, np.random.default_rng(seed))
    training.run(method.steps(made, state))
    return training, state


# ---- a damping rule ------------------------------------------------------------------


def thirds(damping, growth, gain_ratio):
    """Marquardt's own: by ten, with a quarter and three quarters to tell."""
    if gain_ratio > 0.75:
        return damping / 10, growth
    return (damping, growth) if gain_ratio > 0.25 else (10 * damping, growth)


def test_damping_rule_of_ones_own():
    training, _ = train(LevenbergMarquardt(Dense(), FullBatch(), rule=thirds))
    assert training.loss_curve[-1] < 0.7 * training.loss_curve[0]
    dampings = training.history()["damping"]
    factors = np.unique(np.round(np.log10(dampings[1:] / dampings[:-1]), 9))
    assert set(factors) <= {-1, 0, 1}
    assert len(factors) > 1


# ---- a schedule ----------------------------------------------------------------------


@dataclass(frozen=True)
class Growing:
    """Few rows at first, twice as many after each accepted step, at last all."""

    n_rows: int
    first: int

    def batches(self, state):
        size = self.first
        while True:
            rows = None
            if size < self.n_rows:
                rows = np.sort(state.rng.choice(self.n_rows, size, replace=False))
            step = yield Batch(rows, rows, rows)
            size *= 2 if step.accepted else 1


def test_schedule_of_ones_own():
    seen = []

    class Noted(Objective):
        def linearize(self, theta, rows=None, curvature_rows=None):
            seen.append(N if rows is None else len(rows))
            return super().linearize(theta, rows, curvature_rows)

    made = problem()
    f = made.objective
    parts = f.network, f.loss, f.inputs, f.targets, f.weights, f.ridge
    made = made._replace(objective=Noted(*parts))
    method = LevenbergMarquardt(Dense(), Growing(N, 5))
    training = Training(made, 15, Patience(0.0, np.inf))
    training.run(method.steps(made, method.begin(made, np.random.default_rng(0))))
    assert seen[:4] == [5, 10, 20, N]
    assert made.objective.value(training.theta) < 0.5 * f.value(made.start)


# ---- a method around a method --------------------------------------------------------


@dataclass
class AveragedState(State):
    """A state that knows the mean of the parameters so far."""

    mean: np.ndarray = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Averaged:
    """Another method's steps, with the mean of its points for their parameters."""

    method: LevenbergMarquardt
    decay: float = 0.8

    def begin(self, problem, rng):
        state = self.method.begin(problem, rng)
        own = {f.name: getattr(state, f.name) for f in fields(state)}
        return AveragedState(**own, mean=problem.start)

    def steps(self, problem, state):
        for step in self.method.steps(problem, state):
            if step.ends_batch:
                state.mean = self.decay * state.mean + (1 - self.decay) * step.theta
            yield replace(step, theta=state.mean)


def test_wrapper_that_averages_weights():
    inner = LevenbergMarquardt(Dense(), FullBatch())
    training, state = train(Averaged(inner, decay=0.8))
    # The method itself walks as it would alone.
    plain, own = train(inner)
    assert training.loss_curve == plain.loss_curve
    np.testing.assert_array_equal(state.theta, own.theta)
    walked, mean = [], problem().start
    for step in inner.steps(problem(), inner.begin(problem(), None)):
        if step.ends_batch:
            walked.append(step.theta)
        if len(walked) == 15:
            break
    for theta in walked:
        mean = 0.8 * mean + 0.2 * theta
    assert_close(training.theta, mean, rtol=1e-12)
    assert np.any(training.theta != plain.theta)


# ---- a solver ------------------------------------------------------------------------


class BlockDiagonalFactor(Factor):
    """A Cholesky factor for each block."""

    def __init__(self, H, size):
        super().__init__(H)
        index = np.arange(H.shape[0])
        parts = [index[k : k + size] for k in range(0, len(index), size)]
        self._blocks = [(i, H.entries(i, i)) for i in parts]

    def _solve(self, rhs, damping):
        out = np.empty_like(rhs)
        for i, block in self._blocks:
            A = cho_factor(block + damping * np.eye(len(i), dtype=block.dtype))
            out[i] = cho_solve(A, rhs[i])
        return out


class BlockDiagonal(Solver):
    """Forget what is beside the diagonal blocks of `size` parameters."""

    requires = ("entries",)
    cost = "n P size + P size^2"
    memory = "P size"
    use = "a test"

    def __init__(self, size=8):
        self.size = size

    def price(self, H):
        P = H.shape[0]
        return Price(P * self.size**2, P * self.size)

    def _factor(self, H, carried):
        return BlockDiagonalFactor(H, self.size)


@pytest.mark.parametrize("kind", ["regression", "multiclass", "autoencoder"])
def test_solver_of_ones_own(kind):
    estimator, X, _ = fitted(kind, solver=BlockDiagonal(6), max_iter=30)
    assert estimator.solver_.size == 6
    assert estimator.loss_ < 0.8 * estimator.history_["value"][0]
    whole = BlockDiagonal(10**6)
    exact = fitted(kind, solver="dense").estimator
    found = fitted(kind, solver=whole).estimator
    assert found.loss_ == pytest.approx(exact.loss_, rel=1e-6)


@pytest.mark.parametrize(
    "parts",
    [
        [thirds],
        [Growing],
        [AveragedState, Averaged],
        [BlockDiagonalFactor, BlockDiagonal],
    ],
)
def test_each_takes_sixty_lines_at_most(parts):
    assert sum(len(inspect.getsourcelines(part)[0]) for part in parts) <= 60


def test_rule_of_the_package_is_but_one_such_function():
    one, _ = train(LevenbergMarquardt(Dense(), FullBatch()))
    other, _ = train(LevenbergMarquardt(Dense(), FullBatch(), rule=nielsen))
    assert one.loss_curve == other.loss_curve
