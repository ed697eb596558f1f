"""Objectives over blocks of dask: they are those in memory, and fetch few rows."""

import numpy as np
import pytest

dask = pytest.importorskip("dask")

from skgnh import block_objective  # noqa: E402
from skgnh.block_objective import BlockHessian, BlockObjective  # noqa: E402
from skgnh.blocks import Blocks, each  # noqa: E402
from skgnh.lazy_rows import LazyRows  # noqa: E402
from skgnh.losses import LOSSES  # noqa: E402
from skgnh.network import MLP, append_one  # noqa: E402
from skgnh.objective import Objective  # noqa: E402
from skgnh.operators.kronecker import kronecker_factors  # noqa: E402
from skgnh.posterior import laplace  # noqa: E402
from skgnh.solvers import KFAC, Auto, all_solvers  # noqa: E402

N, CUTS = 90, (0, 40, 41, 90)
NETWORK = MLP((3, 4, 3), ("tanh",))
# Which rows: all of them, drawn ones that stay in their blocks, and drawn ones.
ROWS = {"all": None, "some": np.arange(0, N, 2), "fetched": np.arange(0, N, 2)}
SOLVERS = all_solvers()

pytestmark = pytest.mark.extra


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(params=["softmax", "identity"])
def pair(request):
    """Return an objective in memory, the same over blocks, and where."""
    rng = np.random.default_rng(0)
    X = append_one(rng.standard_normal((N, 3)))
    Y = np.eye(3)[rng.integers(0, 3, N)]
    w = rng.uniform(0.5, 1.5, N)
    ridge = np.full(NETWORK.n_parameters, 1e-2)
    data = Y, w / w.sum(), ridge
    blocks = [each(np.array, X[i:j]) for i, j in zip(CUTS, CUTS[1:], strict=False)]
    loss, rows = LOSSES[request.param], LazyRows(Blocks(blocks))
    theta = NETWORK.initialize(rng)
    return (
        Objective(NETWORK, loss, X, *data),
        BlockObjective(NETWORK, loss, rows, *data),
        theta,
    )


@pytest.fixture(params=ROWS)
def hessians(request, monkeypatch, pair):
    here, there, theta = pair
    monkeypatch.setattr(
        block_objective, "_TASK", 1e9 if request.param == "fetched" else 0
    )
    rows = ROWS[request.param]
    made = there.hessian(theta, rows)
    assert isinstance(made, BlockHessian) == (request.param != "fetched")
    return here.hessian(theta, rows), made


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [None, np.arange(3, N, 2)], ids=["all", "some"])
@pytest.mark.parametrize("task", [0, 1e9], ids=["in blocks", "fetched"])
def test_value_and_gradient_are_those_in_memory(monkeypatch, pair, rows, task):
    monkeypatch.setattr(block_objective, "_TASK", task)
    here, there, theta = pair
    same(there.value(theta, rows), here.value(theta, rows))
    for a, b in zip(
        there.linearize(theta, rows)[:2], here.linearize(theta, rows)[:2], strict=True
    ):
        same(a, b)


def test_sums_of_a_hessian_are_those_in_memory(hessians):
    here, there = hessians
    V = np.random.default_rng(1).standard_normal((len(here.ridge), 2))
    same(there @ V, here @ V)
    same(there.toarray(), here.toarray())
    for n_probes in (None, 1):
        same(there.diagonal(n_probes, 0), here.diagonal(n_probes, 0))
        factors = (kronecker_factors(H, n_probes, 0) for H in hessians)
        for found, expected in zip(*factors, strict=True):
            for a, b in zip(found, expected, strict=True):
                same(b, a)


def test_what_is_no_sum_is_of_rows_that_are_fetched(hessians):
    here, there = hessians
    index = np.arange(5)
    same(there.gram(), here.gram())
    same(there.entries(index, index), here.entries(index, index))


@pytest.mark.parametrize("by", ["inputs", "entries"])
def test_scaled_hessians_are_those_in_memory(hessians, by):
    d = np.full(NETWORK.n_parameters, 0.5)
    d[0] = 0.5 if by == "inputs" else 2.0
    here, there = (H.scaled(d) for H in hessians)
    same(there.toarray(), here.toarray())
    same(there @ d, here @ d)
    assert there.offers == here.offers
    if by == "inputs":
        same(there.gram(), here.gram())


@pytest.mark.parametrize("index", [[0, 5, 16], range(16)], ids=["some", "a layer"])
def test_restricted_hessians_are_those_in_memory(hessians, index):
    here, there = (H.restricted(np.array(index)) for H in hessians)
    same(there.toarray(), here.toarray())
    same(there.diagonal(), here.diagonal())
    assert there.offers == here.offers


def test_rounded_hessians_are_of_single_precision(hessians):
    here, there = (H.rounded() for H in hessians)
    v = np.ones(NETWORK.n_parameters, np.float32)
    assert there.dtype == np.float32
    np.testing.assert_allclose(there @ v, here @ v, rtol=1e-5, atol=1e-6)
    assert there.rounded() is there


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_solves_as_in_memory(hessians, name):
    solver = SOLVERS[name]()
    b = np.random.default_rng(2).standard_normal(NETWORK.n_parameters)
    here, there = (solver.factor(H).solve(b, 0.1) for H in hessians)
    same(there, here)


def test_the_choice_of_a_solver_is_that_in_memory(hessians):
    for rule in (Auto(), Auto(KFAC())):
        here, there = (repr(rule.select(H)) for H in hessians)
        assert here == there


def test_the_exact_hessian_is_that_in_memory(pair):
    here, there, theta = pair
    for objective in (here, there):
        objective.curvature = "exact"
    here, there = here.hessian(theta), there.hessian(theta)
    same(there.toarray(), here.toarray())
    assert there.offers == {"diagonal", "toarray"}


def test_the_posterior_is_that_in_memory(pair):
    here, there, theta = pair
    ones = np.ones(NETWORK.n_parameters)
    found, expected = (laplace(f, theta, ones, 90.0) for f in (there, here))
    at = found._damping
    same(found.factor.solve(ones, at), expected.factor.solve(ones, at))
