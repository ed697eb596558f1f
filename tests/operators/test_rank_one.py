"""The inverse from gradients, static and dynamic, against a dense one."""

import numpy as np
import pytest
from cases import assert_close
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import LinearOperator
from sklearn import config_context

from skgnh.operators import GradientBuffer, RankOneInverse

# m below, equal to and above P; the blocks divide P, or do not, or hold all.
SHAPES = [(1, 1), (1, 7), (5, 23), (9, 9), (40, 23)]
BLOCKS = [None, 1, 4, 23, 100]
DAMPINGS = [1e-4, 0.1, 10.0]


def draw(m, P, dtype=np.float64):
    rng = np.random.default_rng(m + P)
    return (rng.standard_normal((m, P)) * rng.uniform(0.1, 3, P)).astype(dtype)


def matrix(G, damping, block_size=None):
    """F by its definition."""
    F = damping * np.eye(G.shape[1])
    for g in G.astype(float):
        F += np.outer(g, g) / len(G)
    if block_size is not None:
        block = np.arange(len(F)) // block_size
        F[block[:, None] != block] = 0
    return F


def recursion(G, damping, x):
    """The paper's static form."""
    m, v, q = len(G), [], []
    for g in G:
        w = g / damping
        for u, p in zip(v, q, strict=True):
            w = w - (u @ g / p) * u
        v.append(w)
        q.append(m + g @ w)
    return x / damping - sum(u * (u @ x) / p for u, p in zip(v, q, strict=True))


@pytest.mark.parametrize("damping", DAMPINGS)
@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_static_form_is_the_inverse(shape, block_size, damping):
    G = draw(*shape)
    P = shape[1]
    F = matrix(G, damping, block_size)
    expected = np.linalg.inv(F)
    inverse = RankOneInverse(G, damping, block_size)
    assert isinstance(inverse, LinearOperator)
    assert inverse.shape == (P, P)
    index = np.arange(P)
    assert_close(inverse @ np.eye(P), expected)
    assert_close(inverse.T @ np.ones(P), expected.sum(axis=0))
    assert_close(inverse.entries(index, index), expected)
    assert_close(inverse.diagonal(), expected.diagonal())
    assert inverse.logdet() == pytest.approx(np.linalg.slogdet(F)[1], rel=1e-10)


def test_blocks_of_entries_are_those_asked_for():
    G = draw(5, 23)
    rows, columns = np.array([7, 0, 22]), np.array([4, 7, 7, 21, 6])
    for block_size in (None, 4):
        expected = np.linalg.inv(matrix(G, 0.1, block_size))[np.ix_(rows, columns)]
        inverse = RankOneInverse(G, 0.1, block_size)
        assert_close(inverse.entries(rows, columns), expected)


def test_recursion_of_the_paper_is_the_same_matrix():
    G, x = draw(12, 30), np.linspace(-1, 1, 30)
    assert_close(RankOneInverse(G, 0.01) @ x, recursion(G, 0.01, x))


@pytest.mark.parametrize("block_size", [None, 3])
def test_memory_maps_are_paged_in_and_out(tmp_path, block_size):
    G = draw(4, 3000)
    np.save(tmp_path / "g.npy", G)
    paged = np.load(tmp_path / "g.npy", mmap_mode="r")
    rank = 4 if block_size is None else 3
    V = np.lib.format.open_memmap(
        tmp_path / "v.npy", mode="w+", dtype=float, shape=(rank, 3000)
    )
    # Chunks of 256 columns and of the least memory.
    with config_context(working_memory=256 * 4 * 8 / 2**20):
        inverse = RankOneInverse(paged, 0.1, block_size, out=V)
    x = np.linspace(-1, 1, 3000)
    assert_close(inverse @ x, RankOneInverse(G, 0.1, block_size) @ x, rtol=1e-13)
    assert np.shares_memory(inverse._V, V)


@pytest.mark.parametrize("n_appended", [0, 1, 3, 5, 6, 13])
@pytest.mark.parametrize("damping", DAMPINGS)
def test_dynamic_form_is_the_inverse_of_the_last_gradients(n_appended, damping):
    G = draw(13, 23)
    buffer = GradientBuffer(5, 23)
    x = np.random.default_rng(0).standard_normal((23, 3))
    for count, g in enumerate(G[:n_appended], start=1):
        buffer.append(g)
        buffer.solve(x, damping)  # a factorisation that the next makes void
        assert len(buffer) == min(5, count)
    last = G[max(0, n_appended - 5) : n_appended]
    F = matrix(last, damping)
    assert_close(buffer.solve(x, damping), np.linalg.solve(F, x))
    assert_close(buffer.solve(x[:, 0], damping), np.linalg.solve(F, x[:, 0]))
    assert buffer.logdet(damping) == pytest.approx(np.linalg.slogdet(F)[1], rel=1e-10)
    assert_close(np.sort(buffer.gradients, axis=0), np.sort(last, axis=0))
    if n_appended:
        assert_close(buffer.inverse(damping) @ x, np.linalg.solve(F, x))
        expected = np.linalg.solve(F, G[n_appended - 1])
        assert_close(buffer.solve_last(damping), expected)


def test_dynamic_form_serves_several_dampings():
    buffer, G, x = GradientBuffer(4, 9), draw(4, 9), np.ones(9)
    for g in G:
        buffer.append(g)
    for damping in (1.0, 1e-2, 1.0):
        assert_close(buffer.solve(x, damping), np.linalg.solve(matrix(G, damping), x))


def test_float32_stays_float32():
    G = draw(6, 30, np.float32)
    expected = np.linalg.inv(matrix(G, 0.01))
    x = np.linspace(-1, 1, 30, dtype=np.float32)
    inverse = RankOneInverse(G, 0.01)
    buffer = GradientBuffer(6, 30, np.float32)
    for g in G:
        buffer.append(g)
    answers = [
        (inverse @ x, expected @ x),
        (buffer.solve(x, np.float64(0.01)), expected @ x),
        (buffer.solve_last(np.float64(0.01)), expected @ G[-1]),
        (inverse.diagonal(), expected.diagonal()),
        (inverse.entries([3], [3, 4]), expected[[3], 3:5]),
    ]
    for answer, wanted in answers:
        assert answer.dtype == np.float32
        assert_close(answer, wanted, rtol=1e-5)


def test_integers_and_lists_are_gradients():
    assert_close(RankOneInverse([[1, 0]], 1).entries([0], [0]), [[0.5]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3), 1.0), r"shape \(m, P\).*got shape \(3,\)"),
        ((np.ones((0, 3)), 1.0), "at least one row"),
        ((np.ones((3, 0)), 1.0), "at least one row"),
        ((np.ones((1, 3)), 0.0), "damping must be positive and finite, got 0.0"),
        ((np.ones((1, 3)), -1.0), "damping must be positive"),
        ((np.ones((1, 3)), np.nan), "damping must be positive and finite, got nan"),
        ((np.ones((1, 3)), 1.0, 0), "block_size must be an integer >= 1, got 0"),
        ((np.ones((1, 3)), 1.0, 1.5), "block_size must be an integer >= 1, got 1.5"),
        ((np.ones((1, 3)), 1.0, 2, np.ones((3, 3))), r"out must be of shape \(1, 3\)"),
        ((np.ones((1, 3)), 1.0, 2, np.ones((1, 3), "f")), "float64, got .* float32"),
    ],
)
def test_bad_arguments_of_the_static_form_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        RankOneInverse(*arguments)


@pytest.mark.parametrize("index", [[3], [-1], [0.5], [[0]]])
def test_bad_indices_are_refused(index):
    with pytest.raises(ValueError, match="numbered from 0 to 2|1-D array of integers"):
        RankOneInverse(np.ones((1, 3)), 1.0).entries(index, [0])


def test_bad_arguments_of_the_dynamic_form_are_named():
    for sizes, name in (((0, 3), "n_gradients"), ((2, 1.5), "n_parameters")):
        with pytest.raises(ValueError, match=f"{name} must be an integer >= 1"):
            GradientBuffer(*sizes)
    buffer = GradientBuffer(2, 3)
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(3,\)"):
        buffer.append(np.ones(2))
    with pytest.raises(LinAlgError, match="positive damping"):
        buffer.solve(np.ones(3), 0.0)
    with pytest.raises(ValueError, match="holds no gradient"):
        buffer.solve_last(1.0)


def test_gradients_that_are_not_finite_are_refused():
    G = np.array([[1.0, np.inf]])
    for block_size in (None, 1):
        with pytest.raises(LinAlgError, match="not finite"):
            RankOneInverse(G, 1.0, block_size)
    buffer = GradientBuffer(2, 2)
    buffer.append(np.ones(2))
    with pytest.raises(LinAlgError, match="not finite"):
        buffer.append(G[0])
    assert_close(buffer.solve(np.ones(2), 1.0), [1 / 3, 1 / 3])


def test_damping_below_rounding_is_refused_or_solved():
    G = np.ones((3, 4))
    with pytest.raises(LinAlgError, match="raise the damping"):
        RankOneInverse(G, 1e-30)


def test_memory_is_asked_for_before_it_is_taken():
    G = np.broadcast_to(np.ones(1), (64, 10**6))
    with (
        config_context(working_memory=10),
        pytest.raises(ValueError, match="Pass a memory map as out"),
    ):
        RankOneInverse(G, 1.0)
    with (
        config_context(working_memory=10),
        pytest.raises(ValueError, match="Keep fewer gradients"),
    ):
        GradientBuffer(64, 10**6)
