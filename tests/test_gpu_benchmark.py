"""The benchmark of devices: that it compares the same, on small sizes."""

import numpy as np
import pytest
from scripts import imported

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.extra


@pytest.fixture(scope="module")
def gpu():
    with imported("defaults", "gpu") as made:
        yield made.gpu


def test_it_compares_the_same_on_a_cpu_and_says_so(gpu, capsys):
    gpu.main(
        [
            "--rows",
            "40",
            "--columns",
            "12",
            "--encoders",
            "4,2",
            "--repeat",
            "1",
            "--device",
            "cpu",
        ]
    )
    out = capsys.readouterr().out
    assert "No GPU: torch on the CPU" in out
    assert out.count("| 4,2 |") == 3


def test_its_products_are_those_of_numpy(gpu):
    X = np.random.default_rng(0).random((40, 12), np.float32)
    seconds, off = gpu.product(gpu.Case((4, 2), X, "cpu"), 1, True)
    assert seconds.keys() >= {"device", "cpu"}
    assert 0 < off["cpu"] < 1e-5
    assert off.get("peer", 0) < 1e-5
    # The inputs do not move: of the first layer only half is spent.
    case = gpu.Case((4,), X, "cpu")
    assert case.flops == 4 * 40 * (2 * (13 * 4 + 5 * 12) - 13 * 4)


def test_vectors_in_the_peers_order_are_those_of_the_module(gpu):
    case = gpu.Case((4, 2), np.ones((3, 12), np.float32), "cpu")
    _, parameters = case.module()
    flat = torch.cat([x.detach().reshape(-1) for x in parameters])
    np.testing.assert_array_equal(flat.numpy(), case.flat(case.theta))
