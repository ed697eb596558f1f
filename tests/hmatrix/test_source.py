"""The choice between entries and products, by what an operator says they cost."""

import numpy as np
import pytest
from cases import Case
from matrices import kernel, points
from scipy.sparse.linalg import aslinearoperator

from skgnh.hmatrix import compress
from skgnh.operators import (
    DenseMatrix,
    KroneckerBasis,
    LowRankHessian,
    RankOneInverse,
    RotatedHessian,
)

ARRAY = kernel("matern", points(128, 1))
SETTINGS = {"rank": 4, "leaf_size": 16, "n_samples": 16}


class Priced(DenseMatrix):
    """A matrix that says what its products and entries cost, and counts entries."""

    def __init__(self, product, entry):
        super().__init__(ARRAY)
        self._costs, self.n_entries = (product, entry), 0

    @property
    def costs(self):
        return self._costs

    def entries(self, rows, columns):
        self.n_entries += len(rows) * len(columns)
        return super().entries(rows, columns)


def built(H, source):
    return compress(H, source=source, **SETTINGS) @ np.eye(128)


@pytest.mark.parametrize(
    ("product", "entry", "source"), [(1e2, 1e6, "products"), (1e8, 1.0, "entries")]
)
def test_cheaper_way_is_taken(product, entry, source):
    H = Priced(product, entry)
    auto = built(H, "auto")
    assert (H.n_entries == 0) == (source == "products")
    np.testing.assert_array_equal(auto, built(DenseMatrix(ARRAY), source))


def test_choice_is_by_the_count_of_operations():
    # From entries 16 columns, 8 leaves of 16 and pairs of 4; from products 30 columns.
    product = 1e7
    nodes = 2 * 8 * (30 * 16 * 30**2 + 5e6)
    entry = (30 * product + nodes) / (128 * 16 + 8 * (16**2 + 4**2))
    for factor, source in ((0.99, "entries"), (1.01, "products")):
        H = Priced(product, factor * entry)
        built(H, "auto")
        assert (H.n_entries == 0) == (source == "products")


def test_entries_are_the_default():
    H = DenseMatrix(ARRAY)
    np.testing.assert_array_equal(built(H, None), built(H, "entries"))


def test_operator_without_entries_is_built_from_products():
    H = aslinearoperator(ARRAY)
    np.testing.assert_array_equal(built(H, "auto"), built(H, "products"))


def test_costs_are_declared_and_passed_on():
    H, twice = (Case("tanh", 2, "softmax", n=n).operator() for n in (40, 80))
    assert twice.costs == tuple(2 * cost for cost in H.costs)
    assert H.restricted(np.arange(3)).costs == H.costs
    assert RotatedHessian(H, KroneckerBasis(H)).costs == H.costs
    assert LowRankHessian(np.eye(5), np.ones(5), np.eye(9)[:, :5]).costs == (180, 10)
    assert RankOneInverse(np.ones((2, 9)), 1.0).costs == (72, 4)
    assert DenseMatrix(np.eye(10)).costs == (200, 1)
