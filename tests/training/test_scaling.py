"""Damping by the diagonal of H, as in MINPACK: the parameters' units do not matter."""

from itertools import islice

import numpy as np
import pytest
from cases import assert_close

from skgnh.operators import DenseMatrix
from skgnh.optimize import levenberg_marquardt
from skgnh.solvers import Dense

X = np.linspace(0.5, 12, 25)


class Growth:
    """Half the squares of b1 (1 - exp(-b2 x)) + b3 - y, as NIST's problems are.

    Parameters
    ----------
    units : ndarray of shape (3,)
        Unit of each parameter: the objective is a function of b / units.
    """

    certified = np.array([230.0, 0.25, 11.0])

    def __init__(self, units=(1.0, 1.0, 1.0)):
        self.units = np.array(units)
        self.y = self.model(self.certified)

    @staticmethod
    def model(b):
        return b[0] * (1 - np.exp(-b[1] * X)) + b[2]

    def residual(self, t):
        with np.errstate(all="ignore"):
            return self.model(t / self.units) - self.y

    def value(self, t, rows=None):
        r = self.residual(t)
        return 0.5 * float(r @ r)

    def linearize(self, t, rows=None, curvature_rows=None):
        b = t / self.units
        decay = np.exp(-b[1] * X)
        J = np.column_stack([1 - decay, b[0] * X * decay, np.ones(len(X))])
        J = J / self.units
        r = self.residual(t)
        return self.value(t), J.T @ r, DenseMatrix(J.T @ J)


def walk(f, start, steps=60, **options):
    options = {"scaling": "diagonal", "step_tol": 1e-14} | options
    trials = levenberg_marquardt(f, start * f.units, Dense(), **options)
    return list(islice(trials, steps))


STARTS = ([500.0, 0.01, 1.0], [100.0, 1.0, 0.1])
# Powers of two are exact.
UNITS = ([1.0, 2.0**40, 2.0**-30], [2.0**20, 2.0**-50, 2.0**10])


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("start", STARTS)
def test_steps_do_not_depend_on_the_units_of_the_parameters(start, units):
    one, other = Growth(), Growth(units)
    start = np.array(start)
    first, second = walk(one, start), walk(other, start)
    assert len(first) == len(second) > 5
    for a, b in zip(first, second, strict=True):
        assert a.accepted == b.accepted
        assert a.damping == pytest.approx(b.damping, rel=1e-6)
        assert_close(b.theta / other.units, a.theta, rtol=1e-7)


@pytest.mark.parametrize("units", [[1.0, 1.0, 1.0], *UNITS])
@pytest.mark.parametrize("start", STARTS)
def test_minimum_is_reached_in_any_units(start, units):
    f = Growth(units)
    last = walk(f, np.array(start), 200)[-1]
    assert_close(last.theta / f.units, f.certified, rtol=1e-6)


def test_plain_damping_depends_on_them():
    # That the test above can tell.
    start = np.array(STARTS[0])
    one = walk(Growth(), start, 6, scaling="none")
    f = Growth(UNITS[0])
    other = walk(f, start, 6, scaling="none")
    assert not np.allclose(other[-1].theta / f.units, one[-1].theta, rtol=1e-3)


def test_damped_system_has_the_largest_diagonal_so_far():
    f, theta = Growth(), np.array(STARTS[1])
    largest = np.zeros(3)
    for step in walk(f, theta, 12):
        _, g, H = f.linearize(theta)
        A = H.toarray()
        if step.solves == 1:
            largest = np.maximum(largest, A.diagonal())
        s = np.linalg.solve(A + step.damping * np.diag(largest), -g)
        if step.accepted:
            assert_close(step.theta - theta, s, rtol=1e-6)
        theta = step.theta


# ---- steps that are no steps ---------------------------------------------------------


class Cliff:
    """A value that falls for ever: whatever the model promises is found."""

    start = np.array([1.0, 1.0])

    def value(self, t, rows=None):
        return -float(t.sum())

    def linearize(self, t, rows=None, curvature_rows=None):
        return self.value(t), -np.ones(2), DenseMatrix(1e-9 * np.eye(2))


def test_steps_longer_than_the_parameters_are_refused():
    f = Cliff()
    steps = levenberg_marquardt(f, f.start, Dense(), scaling="diagonal", damping=1e-3)
    theta, refused = f.start, 0
    for step in islice(steps, 60):
        length = step.step_norm / np.linalg.norm(theta)
        assert step.accepted == (length <= 1 + 1e-12)
        refused += not step.accepted
        theta = step.theta
    assert refused > 0
    # By the identity steps may be as long as they like.
    first = next(levenberg_marquardt(f, f.start, Dense(), damping=1e-3))
    assert first.accepted
    assert first.step_norm > 100


def test_from_zero_any_step_may_be_taken():
    f = Cliff()
    [step] = walk_from_zero(f)
    assert step.accepted


def walk_from_zero(f):
    trials = levenberg_marquardt(f, np.zeros(2), Dense(), scaling="diagonal")
    return list(islice(trials, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scaling", ["none", "diagonal"])
def test_damping_stays_above_what_rounding_hides(scaling, dtype):
    class Flat:
        """Curvature of rank one, and a slope that ends nowhere near."""

        start = np.ones(3, dtype)

        def value(self, t, rows=None):
            return float(0.5 * t.sum(dtype=float) ** 2 + 1e3)

        def linearize(self, t, rows=None, curvature_rows=None):
            g = np.full(3, t.sum(), dtype)
            return self.value(t), g, DenseMatrix(np.ones((3, 3), dtype))

    f = Flat()
    steps = levenberg_marquardt(f, f.start, Dense(), scaling=scaling, damping=1e-30)
    floor = float(np.finfo(dtype).eps) ** (4 / 3)
    for step in islice(steps, 30):
        assert step.damping >= floor * (1 - 1e-6)
        assert np.isfinite(step.theta).all()
    first = next(
        levenberg_marquardt(f, f.start, Dense(), scaling=scaling, damping=1e-30)
    )
    assert first.damping == pytest.approx(floor, rel=1e-6)
