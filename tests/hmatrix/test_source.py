"""The choice between entries and products."""

from time import sleep

import numpy as np
import pytest
from matrices import kernel, points

from skgnh.hmatrix import compress

ARRAY = kernel("matern", points(128, 1))


class Slow:
    """An operator of which one way is slow; it counts the entries asked for."""

    shape, dtype = ARRAY.shape, ARRAY.dtype

    def __init__(self, entry, product):
        self.entry, self.product, self.n_entries = entry, product, 0

    def __matmul__(self, V):
        sleep(self.product)
        return ARRAY @ V

    def entries(self, rows, columns):
        sleep(self.entry)
        self.n_entries += len(rows) * len(columns)
        return ARRAY[np.ix_(rows, columns)]

    def diagonal(self):
        return np.diag(ARRAY).copy()


@pytest.mark.parametrize(
    ("entry", "product", "source"), [(0.02, 0, "products"), (0, 0.02, "entries")]
)
def test_cheaper_way_is_taken(entry, product, source):
    H, settings = Slow(entry, product), {"rank": 4, "leaf_size": 16, "n_samples": 16}
    A = compress(H, source="auto", **settings)
    expected = compress(Slow(0, 0), source=source, **settings)
    every = 128 * (16 + 4 * 4)
    assert (H.n_entries < every / 2) == (source == "products")
    np.testing.assert_array_equal(A @ np.eye(128), expected @ np.eye(128))


def test_entries_are_the_default():
    np.testing.assert_array_equal(
        compress(Slow(0, 0), rank=4) @ np.eye(128),
        compress(Slow(0, 0), rank=4, source="entries") @ np.eye(128),
    )
