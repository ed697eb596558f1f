"""Both ways to the dense array against the oracle, and the choice between them."""

import numpy as np
import pytest
from cases import Case, all_cases, assert_close, is_shallow
from marks import slow_unless
from scipy import sparse
from sklearn import config_context

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian, assembly

WAYS = {"root": assembly.by_root, "neurons": assembly.by_neurons}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def assembled(way, H):
    return way(H.root) + np.diag(H.ridge)


def wide(units=(37, 21, 19, 40), n=70, output="identity", seed=0):
    """Layers of more neurons than a tile, not multiples of it."""
    rng = np.random.default_rng(seed)
    network = MLP(units, ("tanh",) * (len(units) - 2))
    theta = rng.standard_normal(network.n_parameters)
    X = rng.standard_normal((n, units[0]))
    return GaussNewtonHessian(
        Linearization(network, theta, append_one(X)),
        LOSSES[output],
        rng.dirichlet(np.ones(n)),
        0.1 * network.weight_mask(),
    )


@pytest.mark.parametrize("case", slow_unless(is_shallow, all_cases()), ids=str)
def test_both_ways_equal_the_oracle(way, case):
    out = assembled(way, case.operator())
    assert_close(out, case.array())
    np.testing.assert_array_equal(out, out.T)


@pytest.mark.parametrize(
    "output", slow_unless("softmax".__eq__, ["identity", "softmax", "logistic"])
)
@pytest.mark.parametrize("probes", [None, 1, 3])
def test_tiles_and_chunks_leave_no_gap(way, output, probes, monkeypatch):
    monkeypatch.setattr(assembly, "_ROWS", 32)
    monkeypatch.setattr(assembly, "_TILE", 100)
    monkeypatch.setattr(assembly, "_PAIRS", 100)
    monkeypatch.setattr(assembly, "_LEAST", 7)
    H = wide(output=output)
    if probes:
        H = H.probe(probes, 0)
    J = H.root @ np.eye(H.shape[0])
    assert_close(assembled(way, H), J.T @ J + np.diag(H.ridge), rtol=1e-13)


@pytest.mark.parametrize("case", [Case("relu", 2, "softmax", True), Case("tanh", 0)])
def test_both_ways_take_sparse_rows_and_keep_float32(way, case):
    H = case.operator(np.float32, convert=sparse.csr_array)
    out = assembled(way, H)
    assert out.dtype == np.float32
    assert_close(out, case.array(), rtol=2e-6)


@pytest.mark.parametrize("inner", [1, pytest.param(100, marks=pytest.mark.slow)])
def test_both_ways_go_by_what_is_kept(way, inner, monkeypatch):
    monkeypatch.setattr(assembly, "_INNER", inner)
    H = wide()
    J = H.root @ np.eye(H.shape[0])
    expected = J.T @ J + np.diag(H.ridge)
    with config_context(working_memory=0.05):
        assert H.root._kept is None
        assert_close(assembled(way, H), expected, rtol=1e-13)


def test_array_is_made_by_the_way_that_takes_less(monkeypatch):
    for name in WAYS:
        monkeypatch.setattr(assembly, f"by_{name}", lambda root, name=name: name)
    # With one output, it is the symmetry within one wide layer that pays.
    small, wide_layer = wide((10, 20, 1), n=300), wide((50, 40, 1), n=3000)
    many_outputs = wide((10, 20, 40), n=300)
    taken = [assembly.curvature(H.root) for H in (small, wide_layer, many_outputs)]
    assert taken == ["root", "neurons", "neurons"]


def test_few_outputs_are_taken_one_by_one(monkeypatch):
    monkeypatch.setattr(assembly, "_ROWS", 32)
    H = wide((12, 50, 3))
    J = H.root @ np.eye(H.shape[0])
    assert_close(assembly.by_neurons(H.root), J.T @ J, rtol=1e-13)
    shapes = ((4, 9), (3, 50))
    pairs = assembly._layer_pairs(shapes, True)
    assert [pair.is_output_by_output for pair in pairs] == [False, False, True]
    assert not any(x.is_output_by_output for x in assembly._layer_pairs(shapes, False))


def test_operations_grow_with_the_roots_by_the_root_alone():
    few, many = wide((30, 30, 60), n=500).probe(2), wide((30, 30, 60), n=500).probe(20)
    assert assembly.operations_by_root(many.root) == pytest.approx(
        10 * assembly.operations_by_root(few.root), rel=0.1
    )
    ratio = [assembly.operations_by_neurons(H.root) for H in (many, few)]
    assert ratio[0] < 1.5 * ratio[1]
