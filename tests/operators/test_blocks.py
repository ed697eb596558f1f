"""Both ways to a block, and the lists that they read, against the oracle."""

import numpy as np
import pytest
from cases import Case, assert_close
from scipy import sparse
from sklearn import config_context

from skgnh.operators import EntrySampler, blocks
from skgnh.operators.tables import PairTables

CASES = [
    Case("tanh", 2, "softmax", weighted=True, n=40),
    Case("relu", 0, "squared", n=40),
    Case("logistic", 3, "binary", n=40),
]
# Of one neuron, of the last layer, of all neurons, and some of them twice.
INDICES = {
    "neuron": lambda P: np.arange(4),
    "backwards": lambda P: np.arange(7, 3, -1),
    "last": lambda P: np.arange(P - 3, P),
    "all": lambda P: np.random.default_rng(0).permutation(P),
    "repeated": lambda P: np.random.default_rng(1).integers(0, P, 20),
}


WAYS = {"columns": blocks.by_columns, "neurons": blocks.by_neurons}


def located(root, first, second):
    pair = (INDICES[name](root.shape[1]) for name in (first, second))
    return blocks.sides(root.network, *pair)


def expected(case, first, second):
    J = case.root()
    return J[:, INDICES[first](J.shape[1])].T @ J[:, INDICES[second](J.shape[1])]


@pytest.mark.parametrize("convert", [None, sparse.csr_array])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("second", INDICES)
@pytest.mark.parametrize("first", INDICES)
def test_every_way_to_a_block_equals_the_oracle(first, second, case, convert):
    root = case.operator(convert=convert).root
    sides, factors = located(root, first, second), root.factors()
    answer = expected(case, first, second)
    for way in WAYS.values():
        made = [[way(factors, x, y) for y in sides[1]] for x in sides[0]]
        for row, x in zip(made, sides[0], strict=True):
            for part, y in zip(row, sides[1], strict=True):
                assert_close(part, answer[np.ix_(x.at, y.at)], rtol=1e-9)
    assert_close(blocks.block(factors, *sides), answer)


def test_columns_of_an_index_with_itself_are_made_once():
    root = CASES[0].operator().root
    left, right = located(root, "all", "all")
    assert right is left
    left, right = located(root, "all", "repeated")
    assert right is not left


@pytest.mark.parametrize(
    ("first", "second", "way"),
    [
        ("neuron", "neuron", "by_neurons"),
        ("neuron", "backwards", "by_neurons"),
        ("spread", "spread", "by_columns"),
    ],
)
def test_block_is_made_the_cheaper_way(first, second, way, monkeypatch):
    case = Case("tanh", 1, "softmax", n=40)
    root, taken = case.operator().root, []
    index = {"neuron": [0, 1, 2] * 9, "backwards": [6, 5] * 9, "spread": [0, 4, 8, 12]}
    sides = blocks.sides(root.network, np.array(index[first]), np.array(index[second]))
    for name in ("by_neurons", "by_columns"):
        made = getattr(blocks, name)

        def record(*args, name=name, made=made):
            taken.append(name)
            return made(*args)

        monkeypatch.setattr(blocks, name, record)
    blocks.block(root.factors(), *sides)
    assert taken == [way]


@pytest.mark.parametrize("working_memory", [1024, 0.02])
def test_lists_lie_neuron_by_neuron_whether_they_are_kept_or_not(working_memory):
    root = CASES[0].operator().root
    with config_context(working_memory=working_memory):
        inputs, back = root.factors()
        again = root.factors()
        made = list(root.linearization.chunks(*root.walk_anew()))
    assert (again.back[0] is back[0]) == (working_memory == 1024)
    for a, B in zip(inputs, back, strict=True):
        assert a.T.flags.c_contiguous
        assert B.T.flags.c_contiguous
    for rows, chunk in made:
        for kept, x in zip(inputs + back, chunk.inputs + chunk.back, strict=True):
            np.testing.assert_array_equal(kept[rows], x)


@pytest.mark.parametrize("n_hidden", [0, 1, 3])
@pytest.mark.parametrize("kind", ["squared", "multilabel", "poisson", "softmax"])
@pytest.mark.parametrize("working_memory", [1024, 0.001])
def test_compact_factors_are_those_of_the_oracle(working_memory, kind, n_hidden):
    # Diagonals of the last layer where outputs are independent and nothing is kept.
    case = Case("tanh", n_hidden, kind, weighted=True, n=40)
    J, root = case.root(), case.operator().root
    J = J.reshape(root.linearization.n_rows, root.n_roots, -1)
    with config_context(working_memory=working_memory):
        made = list(root.linearization.chunks(*root.walk(compact=True)))
        norms, row_norms = root.column_norms(), root.row_norms()
    compact = working_memory < 1 and kind != "softmax"
    for rows, factors in made:
        assert (factors.back[-1].ndim == 2) == compact
        assert_close(factors.array(), J[rows], rtol=1e-12)
    assert made[-1][0].stop == len(J)
    assert_close(norms, np.sum(J**2, axis=(0, 1)), rtol=1e-12)
    assert_close(row_norms, np.sum(J**2, axis=2), rtol=1e-12)


def test_sampler_reads_the_lists_of_the_operator():
    H = CASES[0].operator()
    sampler = EntrySampler(H)
    H.entries(np.arange(3), np.arange(3))
    inputs, back = H.root.factors()
    for own, kept in zip(sampler._inputs + sampler._back, inputs + back, strict=True):
        assert np.shares_memory(own, kept)


@pytest.mark.parametrize("convert", [None, sparse.csr_array])
@pytest.mark.parametrize("n_hidden", [0, 1, 3])
@pytest.mark.parametrize("kind", ["squared", "multilabel"])
@pytest.mark.parametrize("second", INDICES)
@pytest.mark.parametrize("first", INDICES)
def test_tables_give_the_block_of_the_oracle(first, second, kind, n_hidden, convert):
    case = Case("tanh", n_hidden, kind, weighted=True, n=20)
    root = case.operator(convert=convert).root
    found = PairTables.of(root).block(*located(root, first, second))
    assert_close(found, expected(case, first, second))


WAYS_OF_A_SWEEP = {
    "tables of all samples": (True, 40, False),
    "tables of some at a time": (True, 7, False),
    "lists, though tables would pay": (True, 7, True),
    "lists that are kept": (False, 40, True),
    "lists made anew": (False, 40, False),
}


@pytest.mark.parametrize("way", WAYS_OF_A_SWEEP)
@pytest.mark.parametrize("kind", ["squared", "multilabel", "softmax"])
def test_several_blocks_in_one_sweep_are_those_of_the_oracle(kind, way, monkeypatch):
    many, samples, kept = WAYS_OF_A_SWEEP[way]
    monkeypatch.setattr("skgnh.operators.tables._MANY_ROOTS", 1 if many else 100)
    if samples < 40:
        monkeypatch.setattr(PairTables, "suit", lambda root: False)
        monkeypatch.setattr("skgnh.memory._CACHE_BYTES", 1)
        monkeypatch.setattr("skgnh.memory._MIN_ROWS", samples)
    case = Case("tanh", 2, kind, weighted=True, n=40)
    H, J = case.operator(ridge=False), case.root()
    if not kept:
        H.root._kept = None
    sizes, make = [], PairTables.__init__

    def record(self, network, arrays):
        sizes.append(len(arrays[0]))
        make(self, network, arrays)

    monkeypatch.setattr(PairTables, "__init__", record)
    P = H.shape[0]
    pairs = [(INDICES[i](P), INDICES[j](P)) for i in INDICES for j in INDICES]
    for (rows, columns), block in zip(pairs, H.entry_blocks(pairs), strict=True):
        assert_close(block, J[:, rows].T @ J[:, columns], rtol=1e-11)
    if not many or kind == "softmax" or (kept and samples < 40):
        assert sizes == []
    else:
        assert sizes == ([40] if samples == 40 else [7] * 5 + [5])


def test_no_blocks_are_none():
    assert CASES[0].operator().entry_blocks([]) == []
