"""Both ways to the dense array against the oracle, and the choice between them."""

import numpy as np
import pytest
from cases import Case, all_cases, assert_close
from scipy import sparse
from sklearn import config_context

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import GaussNewtonHessian, assembly

WAYS = {"root": assembly.add_by_root, "neurons": assembly.add_by_neurons}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def assembled(way, H):
    out = np.diag(H.ridge)
    way(H.root, out)
    return out


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


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_both_ways_equal_the_oracle(way, case):
    out = assembled(way, case.operator())
    assert_close(out, case.array())
    np.testing.assert_array_equal(out, out.T)


@pytest.mark.parametrize("output", ["identity", "softmax", "logistic"])
@pytest.mark.parametrize("probes", [None, 1, 3])
def test_tiles_and_chunks_leave_no_gap(way, output, probes, monkeypatch):
    monkeypatch.setattr(assembly, "_ROWS", 32)
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


def test_both_ways_go_by_what_is_kept(way):
    H, expected = wide(), assembled(way, wide())
    with config_context(working_memory=0.05):
        assert H.root._kept is None
        assert_close(assembled(way, H), expected, rtol=1e-13)


def test_array_is_made_by_the_way_that_takes_less(monkeypatch):
    taken = []
    for name in WAYS:
        monkeypatch.setattr(
            assembly, f"add_by_{name}", lambda root, out, name=name: taken.append(name)
        )
    wide((10, 20, 1), n=300).toarray()
    wide((10, 20, 40), n=300).toarray()
    assert taken == ["root", "neurons"]


def test_operations_grow_with_the_roots_by_the_root_alone():
    few, many = wide((30, 30, 60), n=500).probe(2), wide((30, 30, 60), n=500).probe(20)
    assert assembly.operations_by_root(many.root) == pytest.approx(
        10 * assembly.operations_by_root(few.root), rel=0.1
    )
    ratio = [assembly.operations_by_neurons(H.root) for H in (many, few)]
    assert ratio[0] < 1.5 * ratio[1]
