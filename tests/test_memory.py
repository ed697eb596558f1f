"""What is made fits the working memory: by chunks, or else by a refusal."""

import tracemalloc

import numpy as np
import pytest
from cases import assert_close
from sklearn import config_context

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.memory import fits, require, rows_per_chunk, slices, working_memory
from skgnh.network import MLP, append_one
from skgnh.objective import Objective
from skgnh.operators import GaussNewtonHessian
from skgnh.solvers import Dense, Gram

MIB = 2**20


def operator(n, *widths, output_activation="identity"):
    rng = np.random.default_rng(0)
    network = MLP(widths, ("tanh",) * (len(widths) - 2))
    inputs = append_one(rng.standard_normal((n, widths[0])))
    return GaussNewtonHessian(
        Linearization(network, network.initialize(rng), inputs),
        LOSSES[output_activation],
        rng.dirichlet(np.ones(n)),
        0.1 * network.weight_mask(),
    )


def peak_memory(function):
    """Bytes that a call has allocated at its height."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# ---- the contract itself -------------------------------------------------------------


def test_working_memory_is_that_of_scikit_learn():
    with config_context(working_memory=3):
        assert working_memory() == 3 * MIB
        assert fits(3 * MIB)
        assert not fits(3 * MIB + 1)


def test_refusal_names_the_trouble_the_need_and_the_way_out():
    expected = (
        r"^A cube needs 5.0 MiB, more than the working memory of 2.0 MiB\. Cut it, or "
        r"raise sklearn\.set_config\(working_memory=\.\.\.\)\.$"
    )
    with config_context(working_memory=2):
        with pytest.raises(ValueError, match=expected):
            require(5 * MIB, "A cube", "Cut it")
        require(2 * MIB, "A cube", "Cut it")


@pytest.mark.parametrize(
    ("memory", "bytes_per_row", "expected"),
    [
        (1024, 2**10, 2**11),  # as long as stays in cache
        (1024, 2**20, 256),  # but not so short that products are slow
        (100, 2**20, 100),  # unless memory forbids
        (1, 2**23, 1),  # and at least one
    ],
)
def test_chunks_are_as_long_as_cache_and_memory_allow(memory, bytes_per_row, expected):
    with config_context(working_memory=memory):
        assert rows_per_chunk(bytes_per_row) == expected


@pytest.mark.parametrize(("stop", "size", "start"), [(7, 3, 0), (6, 3, 0), (9, 20, 2)])
def test_slices_make_up_the_range(stop, size, start):
    made = slices(stop, size, start)
    assert [k for x in made for k in range(x.start, x.stop)] == list(range(start, stop))
    assert all(x.stop - x.start <= size for x in made)


# ---- chunks --------------------------------------------------------------------------

# Question, rows, widths and a working memory in bytes that just lets the answer exist.
CHUNKED = {
    "product": (lambda H: H @ np.ones(H.shape[0]), 40, (3, 4, 2), 600),
    "root": (lambda H: H.root @ np.eye(H.shape[0])[:, ::5], 40, (3, 4, 2), 2000),
    "adjoint": (lambda H: H.root.T @ np.eye(80)[:, ::9], 40, (3, 4, 2), 3000),
    "columns": (lambda H: H.columns(np.array([7])), 40, (3, 4, 2), 640),
    "entries": (
        lambda H: H.entries(np.arange(9), np.arange(5)),
        40,
        (3, 4, 2),
        640,
    ),
    "diagonal": (lambda H: H.diagonal(), 40, (3, 4, 2), 640),
    "row traces": (lambda H: H.row_traces(), 40, (3, 4, 2), 640),
    "gram": (lambda H: H.gram(), 3, (3, 40, 2), 3 * 36 * 8),
    "array": (lambda H: H.toarray(), 40, (2, 2), 2 * 36 * 8),
    "sample": (lambda H: H.sample(30, 0) @ np.ones(26), 40, (3, 4, 2), 640),
    "probe": (lambda H: H.probe(1, 0) @ np.ones(26), 40, (3, 4, 2), 640),
}


@pytest.mark.parametrize("loss", ["identity", "softmax"])
@pytest.mark.parametrize("question", CHUNKED)
def test_chunks_answer_as_the_whole_does(question, loss, monkeypatch):
    ask, n, widths, memory = CHUNKED[question]
    expected = ask(operator(n, *widths, output_activation=loss))
    chunks, seen = Linearization.chunks, []

    def recorded(self, *args):
        for rows, trace in chunks(self, *args):
            seen.append(rows.stop - rows.start)
            yield rows, trace

    monkeypatch.setattr(Linearization, "chunks", recorded)
    with config_context(working_memory=memory / MIB):
        answer = ask(operator(n, *widths, output_activation=loss))
    assert max(seen) < n
    assert len(set(seen)) <= 3  # the last may be shorter, `sample` asks twice
    assert_close(answer, expected, rtol=1e-13)


@pytest.mark.parametrize("kept", [True, False])
def test_trace_is_kept_if_it_takes_half_the_working_memory(kept, monkeypatch):
    H = operator(40, 3, 4, 2)
    expected = H @ np.ones(H.shape[0])
    forward, passes = MLP.trace, []

    def counted(self, theta, inputs):
        passes.append(len(inputs))
        return forward(self, theta, inputs)

    monkeypatch.setattr(MLP, "trace", counted)
    linearization = Linearization(H.network, H.theta, H.linearization.inputs)
    nbytes = 2 * 40 * (2 * 4 + 2) * 8
    with config_context(working_memory=(nbytes - (not kept)) / MIB):
        chunks = list(linearization.chunks(nbytes // 8 // 9))
        outputs = np.concatenate([trace.outputs for _, trace in chunks])
        again = list(linearization.chunks(1))
    assert [len(trace.outputs) for _, trace in chunks] == [9, 9, 9, 9, 4]
    assert [rows.start for rows, _ in chunks] == [0, 9, 18, 27, 36]
    assert passes == ([40] if kept else [9, 9, 9, 9, 4, 40])
    assert_close(outputs, again[0][1].outputs, rtol=1e-14)
    assert_close(H @ np.ones(H.shape[0]), expected, rtol=1e-14)


def test_objective_walks_its_rows_in_chunks_too():
    H = operator(40, 3, 4, 2)
    targets = np.random.default_rng(1).standard_normal((40, 2))
    parts = (H.loss, H.linearization.inputs, targets, H.weights, H.ridge)
    objective = Objective(H.network, *parts)
    value, gradient, _ = objective.linearize(H.theta)
    with config_context(working_memory=640 / MIB):
        assert objective.value(H.theta) == pytest.approx(value, rel=1e-13)
        value_again, gradient_again, _ = objective.linearize(H.theta)
    assert value_again == pytest.approx(value, rel=1e-13)
    assert_close(gradient_again, gradient, rtol=1e-13)


# ---- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda H: H.columns(np.arange(900)), "900 columns of the Gauss-Newton root"),
        (lambda H: H.gram(), "The Gram matrix of 2000 rows and 4 outputs"),
        (lambda H: H.gram_by_ridge(), "The Gram matrix of 2000 rows and 4 outputs"),
        (lambda H: H.toarray(), "The dense Gauss-Newton Hessian of 4953 parameters"),
        (lambda H: H.probe(1000), "The output probes"),
        (lambda H: Dense().factor(H), "The dense Gauss-Newton Hessian"),
        (lambda H: Gram().factor(H), "The Gram matrix"),
    ],
)
def test_what_exceeds_the_working_memory_is_refused_before_it_is_made(ask, what):
    H = operator(2000, 44, 101, 4)

    def refused():
        with pytest.raises(ValueError, match=f"^{what}.* more than the working memory"):
            ask(H)

    with config_context(working_memory=4):
        assert peak_memory(refused) < MIB


@pytest.mark.parametrize(
    "ask",
    [
        lambda H: H @ np.ones(H.shape[0]),
        lambda H: H.diagonal(),
        lambda H: H.row_traces(),
        lambda H: H.toarray(),
        lambda H: H.columns(np.arange(2)),
        lambda H: H.sample(5, 0),
    ],
)
def test_no_answer_takes_a_multiple_of_the_working_memory(ask):
    H = operator(20_000, 5, 20, 3)
    with config_context(working_memory=1):
        assert peak_memory(lambda: ask(H)) < 4 * MIB


def test_a_product_needs_no_more_memory_for_more_outputs():
    peaks = []
    for d in (1, 100):
        H = operator(2000, 20, 200, d)
        v = np.ones(H.shape[0])
        H @ v  # the trace is made and kept
        peaks.append(peak_memory(lambda H=H, v=v: H @ v))
    assert peaks[1] < 2 * peaks[0]
