"""What goes from point to point: small records that can be pickled."""

import pickle

import numpy as np
import pytest
from cases import Case, assert_close
from matrices import digits_hessian
from solved import PAIRS, TALL, exact, right_hand_side

from skgnh.operators import DenseMatrix
from skgnh.solvers import HMatrix, all_solvers

OTHER = Case("tanh", 2, "softmax", n=40)
NAMES = sorted({name for name, _ in PAIRS})


def plain(name):
    return all_solvers()[name]()


def carried_by(name, H, settings=exact):
    factor = settings(name).factor(H)
    factor.solve(right_hand_side(H), 0.1)
    return factor.carried()


@pytest.mark.parametrize("name", NAMES)
def test_pickled_record_is_gone_on_from_as_the_record_itself(name):
    H, solver, rhs = TALL.operator(), exact(name), right_hand_side(TALL.operator())
    record = carried_by(name, H)
    later = TALL.operator(ridge=False)
    copies = [record, pickle.loads(pickle.dumps(record))]
    factors = [solver.factor(later, copy) for copy in copies]
    one, two = (factor.solve(rhs, 0.2) for factor in factors)
    np.testing.assert_array_equal(one, two)
    assert factors[0].products == factors[1].products
    A = later.toarray() + 0.2 * np.eye(len(rhs))
    assert_close(one, np.linalg.solve(A, rhs), rtol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_record_stays_as_it_is_for_whoever_goes_on_from_it(name):
    H, solver, rhs = TALL.operator(), exact(name), right_hand_side(TALL.operator())
    record = carried_by(name, H)
    before = pickle.dumps(record)
    for damping in (0.3, 0.1):
        solver.factor(H, record).solve(rhs, damping)
    assert pickle.dumps(record) == before


@pytest.mark.parametrize("name", NAMES)
def test_record_holds_no_rows(name):
    def size(n):
        H = digits_hessian(n, (6,))
        record = carried_by(name, H, plain)
        return len(pickle.dumps(record)), H.shape[0]

    # A number more or less takes a byte or two.
    (few, P), (many, _) = size(30), size(150)
    assert abs(many - few) < 0.02 * few + 64
    # A buffer or an approximation has some numbers a parameter.
    assert many < (2 * 128 + 64) * 8 * P


@pytest.mark.parametrize("given", NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_record_of_any_other_point_or_solver_does_no_harm(name, given):
    H, solver, rhs = TALL.operator(), exact(name), right_hand_side(TALL.operator())
    A = H.toarray() + 0.1 * np.eye(len(rhs))
    for other in (TALL.operator(np.float32), OTHER.operator(), H):
        settings = (
            exact if other.dtype == H.dtype else lambda name: all_solvers()[name]()
        )
        record = carried_by(given, other, settings)
        x = solver.factor(H, record).solve(rhs, 0.1)
        assert x.dtype == H.dtype
        assert_close(x, np.linalg.solve(A, rhs), rtol=1e-8)


def test_approximation_of_another_size_is_made_anew():
    solver = HMatrix(storage=24, patience=1e3)
    H, other = digits_hessian(30, (6,)), digits_hessian(30, (5,))
    first = solver.factor(H)
    first.solve(np.ones(H.shape[0]), 0.1)
    second = solver.factor(other, first.carried())
    assert second.inner.approximation.shape == other.shape
    assert second.solve(np.ones(other.shape[0]), 0.1).shape == (other.shape[0],)


def test_what_carries_nothing_says_so():
    H = DenseMatrix(np.eye(2))
    assert all_solvers()["dense"]().factor(H).carried() is None
    # No choice, no approximation to hand on.
    assert HMatrix(storage=24).factor(digits_hessian(30, (6,))).carried().inner is None
