"""Orders of the indices and their leaves."""

import numpy as np
import pytest
from matrices import kernel, points, scaled, with_zeros

from skgnh.hmatrix.tree import distance_order, leaves, natural_order
from skgnh.operators import DenseMatrix


def order_of(array, n_leaves, kind="angle", seed=0):
    H = DenseMatrix(array)
    return distance_order(H, n_leaves, kind, np.random.default_rng(seed))


def members(index):
    """The leaves as sets."""
    return [set(row[row >= 0].tolist()) for row in index]


def gram(P, rank=5, seed=0):
    F = np.random.default_rng(seed).standard_normal((P, rank))
    return F @ F.T


def clusters(sizes):
    """Vectors along as many axes, and the cluster of each, in a random order."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.random.default_rng(0).permutation(labels)
    lengths = np.random.default_rng(1).uniform(0.9, 1.1, len(labels))
    F = np.eye(len(sizes))[labels] * lengths[:, None]
    return F @ F.T, labels


# ---- leaves --------------------------------------------------------------------------


@pytest.mark.parametrize("n_leaves", [1, 2, 4, 16])
@pytest.mark.parametrize("P", [16, 17, 21, 70, 255])
def test_leaves_hold_every_index_once_and_differ_by_one_at_most(P, n_leaves):
    order = np.random.default_rng(0).permutation(P)
    index = leaves(order, n_leaves)
    assert len(index) == n_leaves
    np.testing.assert_array_equal(index[index >= 0], order)
    counts = np.sum(index >= 0, axis=1)
    assert counts.max() == index.shape[1]
    assert counts.max() - counts.min() <= 1
    # What fills a leaf up stands at its end.
    for row, count in zip(index, counts, strict=True):
        assert np.all(row[count:] == -1)


def test_leaves_are_halves_of_halves():
    # Nodes are pairs of leaves: they must be the ones that the order has split.
    index = leaves(np.arange(10), 4)
    np.testing.assert_array_equal(index, [[0, 1, 2], [3, 4, -1], [5, 6, 7], [8, 9, -1]])


def test_natural_order_is_that_of_the_indices():
    np.testing.assert_array_equal(natural_order(5), np.arange(5))


# ---- distances -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["angle", "kernel"])
@pytest.mark.parametrize(("P", "n_leaves"), [(16, 4), (70, 8), (37, 32), (9, 1)])
def test_order_is_a_permutation(P, n_leaves, kind):
    order = order_of(gram(P), n_leaves, kind)
    np.testing.assert_array_equal(np.sort(order), np.arange(P))


@pytest.mark.parametrize("kind", ["angle", "kernel"])
@pytest.mark.parametrize("size", [5, 6, 23, 32])
def test_clusters_are_split_at_the_top_and_never_share_a_leaf(size, kind):
    array, labels = clusters([size, size])
    for n_leaves in (2, 4, 8):
        index = leaves(order_of(array, n_leaves, kind), n_leaves)
        found = [{labels[i] for i in leaf} for leaf in members(index)]
        assert all(len(labels_of) == 1 for labels_of in found if labels_of)
        half = n_leaves // 2
        assert found[0] != found[half]
        assert all(labels_of in (found[0], set()) for labels_of in found[:half])


@pytest.mark.parametrize("kind", ["angle", "kernel"])
@pytest.mark.parametrize("n_leaves", [4, 16])
def test_leaves_of_points_on_a_line_are_intervals(n_leaves, kind):
    x = np.random.default_rng(3).uniform(0, 1, 150)
    array = kernel("exponential", x[:, None], length=1.0)
    index = leaves(order_of(array, n_leaves, kind), n_leaves)
    spans = sorted((min(x[list(i)]), max(x[list(i)])) for i in members(index))
    for (_, end), (start, _) in zip(spans[:-1], spans[1:], strict=True):
        assert end < start


@pytest.mark.parametrize("seed", range(3))
def test_points_far_from_the_origin_are_told_apart(seed):
    # Their lengths are nearly those of their products.
    x = np.random.default_rng(seed).uniform(10, 11, 40)
    found = members(leaves(order_of(np.outer(x, x), 4, "kernel", seed), 4))
    spans = sorted((min(x[list(i)]), max(x[list(i)])) for i in found)
    for (_, end), (start, _) in zip(spans[:-1], spans[1:], strict=True):
        assert end < start


@pytest.mark.parametrize("seed", range(5))
def test_halves_lie_on_either_side_of_a_plane_between_two_of_the_vectors(seed):
    # d(i, p) - d(i, q) of squared distances is linear along p - q.
    F = np.random.default_rng(seed).standard_normal((30, 3))
    left, right = leaves(order_of(F @ F.T, 2, "kernel", seed), 2)
    normals = (F[:, None] - F).reshape(-1, 3)
    heights = F @ normals.T
    above = np.min(heights[left], axis=0) > np.max(heights[right], axis=0)
    assert np.any(above)


def test_angles_do_not_see_lengths_and_kernel_distances_do():
    array = gram(64)
    stretched = scaled(array, 2)

    def sets(array, kind):
        return members(leaves(order_of(array, 8, kind), 8))

    assert sets(stretched, "angle") == sets(array, "angle")
    assert sets(stretched, "kernel") != sets(array, "kernel")


def test_angle_of_opposite_vectors_is_zero_and_their_distance_is_not():
    # Vectors e, -e and f, -f: lines for the angle, four points for the distance.
    F = np.repeat([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], 4, axis=0)
    array = F @ F.T
    by_angle = members(leaves(order_of(array, 2, "angle"), 2))
    lines = [set(range(8)), set(range(8, 16))]
    assert by_angle in (lines, lines[::-1])
    for seed in range(5):
        for leaf in members(leaves(order_of(array, 4, "kernel", seed), 4)):
            assert len({i // 4 for i in leaf}) <= 2


@pytest.mark.parametrize("kind", ["angle", "kernel"])
@pytest.mark.parametrize(
    "array",
    [with_zeros(gram(40)), np.zeros((40, 40)), np.diag([0.0] * 39 + [1.0])],
    ids=["dead rows", "zero", "one alive"],
)
def test_zero_diagonals_are_handled(array, kind):
    # Warnings are errors: no division by the length of a dead row.
    order = order_of(array, 8, kind)
    np.testing.assert_array_equal(np.sort(order), np.arange(40))


def test_rows_of_no_length_are_as_far_as_can_be_from_all_others():
    array, labels = clusters([8, 8])
    array[labels == 1] = array[:, labels == 1] = 0
    found = members(leaves(order_of(array, 2, "angle"), 2))
    assert set(np.flatnonzero(labels == 0).tolist()) in found


class Counting(DenseMatrix):
    n_entries = 0

    def entries(self, rows, columns):
        self.n_entries += len(rows) * len(columns)
        return super().entries(rows, columns)


@pytest.mark.parametrize("kind", ["angle", "kernel"])
def test_order_costs_few_entries(kind):
    P, n_leaves = 256, 16
    H = Counting(gram(P))
    distance_order(H, n_leaves, kind, np.random.default_rng(0))
    assert 0 < H.n_entries <= 10 * P * np.log2(n_leaves)


def test_seed_decides_the_order():
    array = kernel("matern", points(90, 2))
    np.testing.assert_array_equal(order_of(array, 8), order_of(array, 8))
    np.testing.assert_array_equal(np.sort(order_of(array, 8, seed=1)), np.arange(90))
