"""Sums over rows and joined rows do not depend on how rows are cut into chunks."""

import numpy as np
import pytest
from cases import assert_close
from scipy import sparse
from sklearn import config_context

from skgnh.linearization import Linearization
from skgnh.network import MLP, append_one

N, WIDTHS = 41, (3, 4, 2)


def linearization(convert=None, n=N):
    rng = np.random.default_rng(0)
    network = MLP(WIDTHS, ("tanh",))
    X = rng.standard_normal((n, WIDTHS[0]))
    inputs = append_one(X if convert is None else convert(X))
    return Linearization(network, network.initialize(rng), inputs)


@pytest.fixture(params=["one chunk", "many, kept", "many, made again"])
def rows(request, monkeypatch):
    """A linearisation whose 41 rows are walked at once, or seven at a time."""
    many = request.param != "one chunk"
    if many:
        monkeypatch.setattr("skgnh.memory._CACHE_BYTES", 1)
        monkeypatch.setattr("skgnh.memory._MIN_ROWS", 7)
    made = linearization()
    if request.param == "many, made again":
        made.kept = None
    cut = [rows.stop - rows.start for rows, _ in made.chunks(1)]
    assert cut == ([7] * 5 + [6] if many else [N])
    return made


def z_of(rows):
    return rows.network.outputs(rows.theta, rows.inputs)


def test_sum_adds_up_arrays_and_numbers(rows):
    def part(span, trace):
        square = (trace.outputs**2).sum()
        return trace.outputs.T @ trace.outputs, float(square), span.stop - span.start

    gram, square, count = rows.sum(part, 1)
    z = z_of(rows)
    assert_close(gram, z.T @ z, rtol=1e-13)
    assert square == pytest.approx(np.sum(z**2), rel=1e-13)
    assert isinstance(square, float)
    assert count == N


def test_accumulate_adds_to_what_is_given(rows):
    def add(out, span, trace):
        out += trace.outputs.sum(axis=0)

    out = np.ones(2)
    assert rows.accumulate(add, out, 1) is out
    assert_close(out, 1 + z_of(rows).sum(axis=0), rtol=1e-13)


@pytest.mark.parametrize("order", ["C", "F"])
def test_collect_joins_rows_dense_and_sparse(rows, order):
    def part(span, trace):
        return trace.outputs, trace.outputs[:, :, None] * [1, 2, 3], rows.inputs[span]

    z, cube, inputs = rows.collect(part, 1, order=order)
    assert_close(z, z_of(rows), rtol=1e-14)
    assert_close(cube, z_of(rows)[:, :, None] * [1, 2, 3], rtol=1e-14)
    np.testing.assert_array_equal(inputs, rows.inputs)
    if order == "F":
        assert cube.flags.f_contiguous

    def thin(span, trace):
        return [sparse.csr_array(rows.inputs[span])]

    (joined,) = rows.collect(thin, 1, order=order)
    assert joined.format == "csr"
    np.testing.assert_array_equal(joined.toarray(), rows.inputs)


def test_source_says_what_a_chunk_hands_out(rows):
    def part(span, z):
        assert isinstance(z, np.ndarray)
        return [z.sum(axis=0)]

    assert_close(rows.sum(part, 1, rows.output)[0], z_of(rows).sum(axis=0), rtol=1e-13)
    (spans,) = rows.collect(lambda span, given: [given], 1, lambda span: np.r_[span])
    np.testing.assert_array_equal(spans, np.arange(N))


def test_working_memory_bounds_the_chunks():
    made = linearization()
    with config_context(working_memory=3 * 10 * 8 / 2**20):
        assert made.kept is None
        cut = [span.stop - span.start for span, _ in made.chunks(10)]
        assert cut == [3] * 13 + [2]
        (total,) = made.sum(lambda span, trace: [trace.outputs.sum(axis=0)], 10)
    assert_close(total, z_of(made).sum(axis=0), rtol=1e-13)


def test_no_rows_have_a_sum_of_zero_and_nothing_to_collect():
    none = linearization(n=1).take(np.array([], int))
    assert none.sum(lambda rows, trace: [trace.outputs.sum()], 1) == [0.0]
    (z,) = none.collect(lambda rows, trace: [trace.outputs], 1)
    assert z.shape == (0, 2)


def test_sparse_rows_are_kept_without_a_copy():
    made = linearization(sparse.csr_array)
    assert made.trace(slice(0, N)) is made.kept
    assert_close(made.trace(slice(2, 9)).outputs, z_of(made)[2:9], rtol=1e-14)
