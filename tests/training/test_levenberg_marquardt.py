"""The Levenberg-Marquardt loop on functions that are no network."""

from itertools import islice

import numpy as np
import pytest
from cases import Case, assert_close
from scipy.linalg import LinAlgError

from skgnh.objective import Objective
from skgnh.operators import DenseMatrix
from skgnh.optimize import levenberg_marquardt
from skgnh.solvers import CG, Dense
from skgnh.training import (
    FullBatch,
    MiniBatches,
    State,
    nielsen,
    success,
)


class Rosenbrock:
    """Half the sum of the squares (10 (y - x^2), 1 - x)."""

    start = np.array([-1.2, 1.0])

    def value(self, t, rows=None):
        return 0.5 * (100 * (t[1] - t[0] ** 2) ** 2 + (1 - t[0]) ** 2)

    def linearize(self, t, rows=None, curvature_rows=None):
        J = np.array([[-20 * t[0], 10.0], [-1.0, 0.0]])
        r = np.array([10 * (t[1] - t[0] ** 2), 1 - t[0]])
        return self.value(t), J.T @ r, DenseMatrix(J.T @ J)


class Quadratic:
    """x^T A x / 2 - b^T x, of its own curvature."""

    def __init__(self, n=8, dtype=np.float64):
        rng = np.random.default_rng(0)
        F = rng.standard_normal((n, n))
        self.A = (F @ F.T / n + 0.1 * np.eye(n)).astype(dtype)
        self.b = rng.standard_normal(n).astype(dtype)
        self.start = np.zeros(n, dtype)

    def value(self, x, rows=None):
        return float(0.5 * x @ self.A @ x - self.b @ x)

    def linearize(self, x, rows=None, curvature_rows=None):
        return self.value(x), self.A @ x - self.b, DenseMatrix(self.A)


class Recorded:
    """An objective that notes the rows that it is asked for."""

    def __init__(self, objective):
        self.objective, self.calls = objective, []

    def value(self, theta, rows=None):
        self.calls.append(("value", rows))
        return self.objective.value(theta, rows)

    def linearize(self, theta, rows=None, curvature_rows=None):
        self.calls.append(("linearize", rows, curvature_rows))
        return self.objective.linearize(theta, rows, curvature_rows)


def run(objective, solver=None, schedule=None, steps=500, **options):
    options = {"random_state": np.random.default_rng(0)} | options
    trials = levenberg_marquardt(
        objective, objective.start, solver or Dense(), schedule, **options
    )
    return list(islice(trials, steps))


def network_objective(dtype=np.float64, **case):
    case = Case(**{"activation": "tanh", "kind": "squared", "n": 40} | case)
    X, Y, weights, theta, ridge = (part.astype(dtype) for part in case.data())
    inputs = np.c_[X, np.ones(len(X), dtype)]
    objective = Objective(case.network, case.loss, inputs, Y, weights, ridge)
    objective.start = theta
    return objective


# ---- convergence ---------------------------------------------------------------------


@pytest.mark.parametrize("solver", [Dense(), CG(rtol=1e-12)])
def test_rosenbrock_is_solved(solver):
    steps = run(Rosenbrock(), solver, gradient_tol=1e-10)
    assert steps[-1].status == "gradient"
    assert len(steps) < 40
    assert_close(steps[-1].theta, [1, 1], rtol=1e-9)
    assert all(step.status == "" for step in steps[:-1])


def test_quadratic_is_solved_in_one_step_but_for_the_damping():
    f = Quadratic()
    steps = run(f, damping=1e-10, gradient_tol=1e-7)
    assert [step.status for step in steps] == ["", "gradient"]
    assert_close(steps[-1].theta, np.linalg.solve(f.A, f.b), rtol=1e-7)


def test_gain_ratio_of_a_quadratic_is_one():
    for step in run(Quadratic(), steps=5, damping=1.0):
        assert step.gain_ratio == pytest.approx(1, abs=1e-9)
        assert step.accepted


@pytest.mark.parametrize("curvature_size", [40, 15])
def test_values_fall_from_step_to_step_on_all_rows(curvature_size):
    objective = network_objective()
    schedule = FullBatch(40, curvature_size)
    steps = run(objective, schedule=schedule, steps=40)
    values = [objective.value(objective.start), *(step.value for step in steps)]
    for before, after, step in zip(values[:-1], values[1:], steps, strict=True):
        assert after < before if step.accepted else after == before
    assert values[-1] < 0.5 * values[0]


def test_float32_stays_float32():
    objective = network_objective(np.float32)
    steps = run(objective, steps=30)
    assert {step.theta.dtype for step in steps} == {np.dtype(np.float32)}
    exact = run(network_objective(), steps=30)
    assert steps[-1].value == pytest.approx(exact[-1].value, rel=1e-2)


def test_float32_ends_where_rounding_hides_the_reduction():
    steps = run(Quadratic(dtype=np.float32), steps=500)
    assert steps[-1].status == "damping" or steps[-1].gradient_norm == 0
    f = Quadratic()
    assert_close(steps[-1].theta, np.linalg.solve(f.A, f.b), rtol=1e-3)


def test_start_is_not_overwritten():
    f = Rosenbrock()
    kept = f.start.copy()
    first = run(f, steps=1)[0]
    np.testing.assert_array_equal(f.start, kept)
    assert first.theta is not f.start


# ---- what a step says ----------------------------------------------------------------


@pytest.mark.parametrize("solver", [Dense(), CG(max_iter=2, rtol=1e-12)])
@pytest.mark.parametrize("f", [Rosenbrock(), Quadratic(), network_objective()])
def test_a_step_tells_the_truth(f, solver):
    before = f.start
    for step in run(f, solver, steps=12, damping=1e-3):
        value, g, H = f.linearize(before)
        assert step.gradient_norm == pytest.approx(np.linalg.norm(g), rel=1e-12)
        if np.linalg.norm(g) < 1e-3:
            break  # rounding of theta would hide the step
        if step.accepted:
            s, H = step.theta - before, H.toarray()
            damped = H + step.damping * np.eye(len(s))
            residual = np.linalg.norm(damped @ s + g) / np.linalg.norm(g)
            predicted = -(g @ s + 0.5 * s @ H @ s)
            assert step.residual == pytest.approx(residual, rel=1e-4, abs=1e-11)
            assert step.predicted == pytest.approx(predicted, rel=1e-6)
            assert step.step_norm == pytest.approx(np.linalg.norm(s), rel=1e-9)
            assert step.value == pytest.approx(f.value(step.theta), rel=1e-14)
            ratio = (value - step.value) / predicted
            assert step.gain_ratio == pytest.approx(ratio, rel=1e-6)
            assert step.point.solver is solver
        before = step.theta


def test_truncated_solves_leave_a_residual():
    steps = run(Quadratic(), CG(max_iter=2, rtol=1e-12), steps=3, damping=1e-6)
    assert steps[0].residual > 1e-3
    assert run(Quadratic(), steps=1)[0].residual < 1e-12


def test_products_are_those_of_the_trial():
    solver = CG(max_iter=3, rtol=1e-15)
    for step in run(Rosenbrock(), solver, steps=20):
        assert 0 < step.products <= 4
    assert all(step.products == 0 for step in run(Rosenbrock(), Dense(), steps=5))


def test_time_excludes_the_work_of_the_caller(monkeypatch):
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    clock = Clock()

    class Slow(Quadratic):
        def linearize(self, *args):
            clock.now += 1
            return super().linearize(*args)

    monkeypatch.setattr("skgnh.training.levenberg_marquardt.perf_counter", clock)
    f, times = Slow(), []
    for step in islice(levenberg_marquardt(f, f.start, Dense()), 4):
        times.append(step.time)
        clock.now += 100
    assert times == [1, 2, 3, 4]


# ---- damping -------------------------------------------------------------------------


def test_first_damping_is_in_units_of_the_mean_diagonal():
    f = Quadratic()
    assert run(f, steps=1, damping=0.5)[0].damping == pytest.approx(
        0.5 * np.mean(np.diag(f.A)), rel=1e-12
    )
    assert run(f, steps=1, damping=0.5, relative=False)[0].damping == 0.5


def test_negative_curvature_counts_for_the_first_damping_by_its_size():
    class Indefinite(Quadratic):
        def linearize(self, x, *rows):
            return 0.0, np.ones(2), DenseMatrix(np.diag([1.0, -5.0]))

    f = Indefinite(2)
    assert run(f, damping=0.5, steps=1)[0].damping == 1.5


@pytest.mark.parametrize(
    ("gain_ratio", "factor"),
    [(0.002, 1 + 0.996**3), (0.25, 1.125), (0.5, 1), (0.75, 0.875), (0.9, 1 - 0.512)]
    + [(1.0, 1 / 3), (2.0, 1 / 3), (1e200, 1 / 3)],
)
def test_nielsen_follows_the_gain_ratio(gain_ratio, factor):
    damping, growth = nielsen(6.0, 16.0, gain_ratio)
    assert damping == pytest.approx(6 * factor, rel=1e-12)
    assert growth == 2


def test_nielsen_doubles_the_growth_with_each_failure():
    damping, growth, seen = 1.0, 2.0, []
    for _ in range(4):
        damping, growth = nielsen(damping, growth, -1.0)
        seen.append(damping)
    assert seen == [2, 8, 64, 1024]
    assert nielsen(damping, growth, 0.0) == (2**15, 64)


def test_success_rule_looks_at_the_sign_only():
    for gain_ratio in (1e-9, 0.5, 1e9):
        assert success(6.5, 2.0, gain_ratio) == (5.0, 1.2)
    for gain_ratio in (0.0, -1e-9, -1e9):
        assert success(5.0, 2.0, gain_ratio) == (10.0, 2.0)
        assert success(5.0, 1.2, gain_ratio) == (6.0, 1.2)


@pytest.mark.parametrize("rule", [nielsen, success])
def test_dampings_follow_the_rule(rule):
    steps = run(Rosenbrock(), gradient_tol=1e-10, damping=1e-6, rule=rule)
    assert {step.accepted for step in steps} == {True, False}
    growth = 2.0
    for step, following in zip(steps[:-1], steps[1:], strict=True):
        after, growth = rule(step.damping, growth, step.gain_ratio)
        assert step.next_damping == pytest.approx(after, rel=1e-12)
        assert following.damping == step.next_damping
        assert step.accepted == (step.gain_ratio > 0)


def test_rejected_steps_leave_theta_and_raise_the_damping():
    steps = run(Rosenbrock(), damping=1e-6, steps=20)
    theta, rejected = Rosenbrock.start, 0
    value = Rosenbrock().value(theta)
    for step in steps:
        if not step.accepted:
            rejected += 1
            np.testing.assert_array_equal(step.theta, theta)
            assert step.value == value
            assert step.next_damping > step.damping
            assert not step.ends_batch
        assert step.ends_epoch == step.ends_batch
        theta, value = step.theta, step.value
    assert rejected > 0


def test_trials_at_one_point_factor_once_and_linearise_once():
    class Counted(Dense):
        factored = 0

        def _factor(self, H, carried):
            self.factored += 1
            return super()._factor(H, carried)

    f, solver = Recorded(Rosenbrock()), Counted()
    f.start = Rosenbrock.start
    steps = run(f, solver, damping=1e-6, steps=20)
    points = sum(step.ends_batch for step in steps)
    assert points < len(steps)
    assert solver.factored in (points, points + 1)
    linearized = sum(call[0] == "linearize" for call in f.calls)
    assert linearized == solver.factored
    solves = [step.solves for step in steps]
    assert all(
        b == (1 if before.ends_batch else a + 1)
        for a, b, before in zip(solves, solves[1:], steps, strict=False)
    )


# ---- failures ------------------------------------------------------------------------


class Failing(Dense):
    """Refuses dampings up to a limit, in its factor or when it solves."""

    def __init__(self, limit=0.0, fail_in_factor=0):
        super().__init__()
        self.limit, self.fail_in_factor = limit, fail_in_factor

    def _factor(self, H, carried):
        if self.fail_in_factor > 0:
            self.fail_in_factor -= 1
            raise LinAlgError("no factor")
        factor, limit = super()._factor(H, carried), self.limit
        solve = factor.solve

        def refuse(rhs, damping):
            if damping <= limit:
                raise LinAlgError("too little damping")
            return solve(rhs, damping)

        factor.solve = refuse
        return factor


def test_failed_solves_raise_the_damping_until_one_succeeds():
    steps = run(Quadratic(), Failing(limit=5.0), damping=1.0, relative=False, steps=3)
    assert [step.damping for step in steps] == [1, 2, 8]
    assert [step.accepted for step in steps] == [False, False, True]
    for step in steps[:2]:
        assert np.isnan([step.gain_ratio, step.residual, step.predicted]).all()
        np.testing.assert_array_equal(step.theta, 0)


def test_failed_factors_are_tried_again_with_more_damping():
    solver = Failing(fail_in_factor=2)
    steps = run(Quadratic(), solver, damping=1.0, relative=False, steps=3)
    assert [step.damping for step in steps] == [1, 2, 8]
    assert [step.accepted for step in steps] == [False, False, True]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_trials_of_a_value_that_is_not_finite_are_rejected(bad):
    class Walled(Quadratic):
        def value(self, x, rows=None):
            return bad if np.linalg.norm(x) > 0.3 else super().value(x)

    steps = run(Walled(), damping=1e-3, steps=30)
    assert not steps[0].accepted
    assert steps[0].gain_ratio == -1
    assert any(step.accepted for step in steps)
    assert all(np.isfinite(step.value) for step in steps)
    assert all(np.linalg.norm(step.theta) <= 0.3 for step in steps)


def test_steps_that_are_not_finite_are_failures():
    class Blind(Dense):
        def _factor(self, H, carried):
            factor = super()._factor(H, carried)
            factor.solve = lambda rhs, damping: np.full_like(rhs, np.nan)
            return factor

    steps = run(Quadratic(), Blind())
    assert steps[-1].status == "damping"
    assert np.isnan([step.gain_ratio for step in steps]).all()
    assert not any(step.accepted for step in steps)
    np.testing.assert_array_equal(steps[-1].theta, 0)


def test_curvature_that_is_indefinite_is_damped_until_it_is_not():
    class Saddle:
        start = np.array([0.5, 0.1])

        def value(self, x, rows=None):
            return 0.5 * (x[0] ** 2 - x[1] ** 2) + x[1] ** 4

        def linearize(self, x, rows=None, curvature_rows=None):
            gradient = np.array([x[0], -x[1] + 4 * x[1] ** 3])
            return (
                self.value(x),
                gradient,
                DenseMatrix(np.diag([1, 12 * x[1] ** 2 - 1])),
            )

    steps = run(Saddle(), gradient_tol=1e-6)
    assert steps[-1].status == "gradient"
    assert any(np.isnan(step.gain_ratio) for step in steps)
    assert_close(np.abs(steps[-1].theta), [0, 0.5], rtol=1e-5)


# ---- the end -------------------------------------------------------------------------


def test_stationary_start_ends_at_once():
    f = Quadratic()
    f.start = np.zeros(8)
    f.b = np.zeros(8)
    [step] = run(f)
    assert (step.status, step.accepted, step.ends_batch) == ("gradient", False, True)
    assert (step.step_norm, step.residual, step.products) == (0, 0, 0)
    assert step.next_damping == step.damping


def test_gradient_tolerance_is_that_of_the_largest_entry():
    f = Quadratic()
    largest = np.max(np.abs(f.b))
    assert run(f, steps=1, gradient_tol=largest)[0].status == "gradient"
    assert run(f, steps=1, gradient_tol=0.999 * largest)[0].status == ""


def test_small_steps_end_the_iteration():
    steps = run(Quadratic(), step_tol=1e-3)
    assert steps[-1].status == "step"
    for step in steps[:-1]:
        assert step.step_norm > 1e-3 * 1e-3
    theta = steps[-2].theta
    assert steps[-1].step_norm <= 1e-3 * (np.linalg.norm(theta) + 1e-3)
    assert steps[-1].ends_batch


def test_step_tolerance_is_relative_to_the_parameters():
    f = Quadratic()
    f.b = f.A @ np.full(8, 1e6)
    steps = run(f, step_tol=1e-6)
    assert steps[-1].status == "step"
    assert steps[-1].step_norm > 1e-2


def test_no_reduction_for_any_damping_ends_the_iteration():
    class Uphill(Quadratic):
        def linearize(self, x, *rows):
            value, gradient, H = super().linearize(x)
            return value, -gradient, H

    steps = run(Uphill())
    assert steps[-1].status == "damping"
    assert not any(step.accepted for step in steps)
    assert len(steps) < 50


# ---- batches -------------------------------------------------------------------------


def test_mini_batches_are_judged_on_the_rows_of_the_next():
    f = network_objective()
    recorded = Recorded(f)
    recorded.start = f.start
    schedule = MiniBatches(40, 10, 10)
    state = State(theta=f.start, rng=np.random.default_rng(7))
    batches = list(islice(schedule.batches(state), 13))
    rng = np.random.default_rng(7)
    steps = run(recorded, schedule=schedule, steps=12, random_state=rng)
    calls = iter(recorded.calls)
    for step, batch, following in zip(steps, batches, batches[1:], strict=False):
        kind, rows, curvature_rows = next(calls)
        assert kind == "linearize"
        np.testing.assert_array_equal(rows, batch.gradient)
        np.testing.assert_array_equal(curvature_rows, batch.curvature)
        for _ in range(2):  # before and after the step
            kind, rows = next(calls)
            assert kind == "value"
            np.testing.assert_array_equal(rows, following.gradient)
        assert step.ends_batch
        assert step.value == f.value(step.theta, following.gradient)
    assert [step.ends_epoch for step in steps] == ([False] * 3 + [True]) * 3


def test_all_rows_are_judged_by_the_value_known_already():
    f = network_objective()
    recorded = Recorded(f)
    recorded.start = f.start
    steps = run(recorded, steps=6)
    assert [call[0] for call in recorded.calls].count("value") == len(steps)


def test_curvature_of_fewer_rows_is_asked_for():
    f = network_objective()
    recorded = Recorded(f)
    recorded.start = f.start
    run(recorded, schedule=FullBatch(40, 15), steps=5)
    asked = [call for call in recorded.calls if call[0] == "linearize"]
    assert all(rows is None and len(curvature) == 15 for _, rows, curvature in asked)


def test_mini_batches_reduce_the_loss_of_all_rows():
    f = network_objective()
    schedule = MiniBatches(40, 20, 20)
    steps = run(f, schedule=schedule, steps=60, damping=1.0)
    assert f.value(steps[-1].theta) < 0.7 * f.value(f.start)


def test_the_same_seed_gives_the_same_steps():
    def thetas(seed):
        schedule, rng = MiniBatches(40, 10, 10), np.random.default_rng(seed)
        steps = run(network_objective(), CG(), schedule, 9, random_state=rng)
        return [step.theta for step in steps]

    np.testing.assert_array_equal(thetas(1), thetas(1))
    assert np.any(thetas(1)[-1] != thetas(2)[-1])


def test_schedule_is_sent_the_step_that_leaves_a_batch():
    sent = []

    class Listening(FullBatch):
        def batches(self, state):
            inner = super().batches(state)
            while True:
                sent.append((yield next(inner)))

    steps = run(Rosenbrock(), schedule=Listening(), steps=15, damping=1e-6)
    left = [step for step in steps if step.ends_batch]
    assert all(a is b for a, b in zip(sent, left, strict=False))
    assert len(left) - len(sent) in (0, 1)


def test_what_the_last_point_carries_is_handed_to_the_solver():
    seen = []

    class Noting(Dense):
        def _factor(self, H, carried):
            factor = super()._factor(H, carried)
            seen.append(carried)
            factor.carried = lambda: len(seen)
            return factor

    run(Quadratic(), Noting(), steps=4, damping=1.0)
    assert seen == [None, *range(1, len(seen))]
    assert len(seen) > 1
