"""What solvers say they cost: formulas for people, numbers for the choice."""

import re

import numpy as np
import pytest
from solved import OPERATORS, PAIRS, TALL

from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import ExactHessian, GaussNewtonHessian
from skgnh.operators.sketch import neuron_costs
from skgnh.solvers import Auto, ExactHessianSolver, LayerElimination, all_solvers
from skgnh.solvers.base import sizes

TEXT = ("auto", "exact_hessian")


def wide(n=30, units=(9, 400, 40, 5)):
    """A Gauss-Newton Hessian that nobody asks anything but its sizes."""
    network = MLP(units, ("tanh",) * (len(units) - 2))
    inputs = append_one(np.zeros((n, units[0])))
    theta = np.zeros(network.n_parameters)
    return GaussNewtonHessian(
        Linearization(network, theta, inputs), LOSSES["identity"], np.full(n, 1 / n)
    )


def value_of(formula, solver, H):
    """Evaluate a formula as it is printed: products stand side by side."""
    n, r, W, P = sizes(H)
    shapes = H.linearization.network.shapes
    kept, saved = neuron_costs(shapes, n, r, 8.0)
    w, f = np.array(shapes, dtype=float).T
    names = {
        **{"n": n, "r": r, "W": W, "P": P, "w": w, "f": f, "saved": saved},
        **{"sum": np.sum, "min": min, "max": np.max, "m": kept / (n * r) - 3 * n * r},
        **solver.get_params(),
    }
    if "n_gradients" in names:
        names["m"] = names["n_gradients"]
    tokens = re.findall(r"[A-Za-z_]+|\d+|[-+*/^(),]", formula)
    text = ""
    for before, token in zip(["", *tokens], tokens, strict=False):
        joins = re.match(r"[\w)]", before) and before not in ("sum", "min", "max")
        text += "*" if joins and re.match(r"[\w(]", token) else ""
        text += token.replace("^", "**")
    return eval(text, {"__builtins__": {}}, names)


def test_formulas_are_read_as_people_read_them():
    solver, H = all_solvers()["kfac"](), wide()
    n, r, W, P = sizes(H)
    assert (n, r, W, P) == (30, 5, 445, H.shape[0])
    assert value_of("2 n P^2 / 3 + (n r)^2 W", solver, H) == pytest.approx(
        2 * n * P**2 / 3 + n**2 * r**2 * W
    )
    assert value_of("3 sum(w (f + 1)) max_iter", solver, H) == 9 * (P + W)


@pytest.mark.parametrize("name", [name for name in all_solvers() if name not in TEXT])
def test_what_is_printed_is_what_is_counted(name):
    solver, H = all_solvers()[name](), wide()
    price = solver.price(H)
    assert price.operations == pytest.approx(
        value_of(solver.cost, solver, H), rel=1e-12
    )
    assert price.numbers == pytest.approx(value_of(solver.memory, solver, H), rel=1e-12)


@pytest.mark.parametrize("name", all_solvers())
def test_solver_says_what_it_costs_holds_and_is_for(name):
    solver = all_solvers()[name]
    for said in ("cost", "memory", "use"):
        assert said in vars(solver)
        assert getattr(solver, said).strip()


@pytest.mark.parametrize(("name", "operator"), PAIRS)
def test_every_operator_has_its_price(name, operator):
    price = all_solvers()[name]().price(OPERATORS[operator]())
    assert price.operations > 0
    assert price.numbers > 0


@pytest.mark.parametrize("name", ["kfac", "nystrom", "hmatrix", "mfac"])
def test_direct_solves_save_the_iterations(name):
    solver = all_solvers()[name]
    cheap, dear = (solver(direct=direct).price(wide()) for direct in (True, False))
    assert cheap.operations < dear.operations
    assert cheap.numbers < dear.numbers


def test_auto_has_the_price_of_what_it_takes():
    for make in OPERATORS.values():
        H = make()
        assert Auto().price(H) == Auto().select(H).price(H)


def test_exact_hessian_has_the_price_of_its_elimination_where_that_pays():
    solver = ExactHessianSolver()
    deep = MLP((2, *[8] * 60, 2), ("tanh",) * 60)
    rows = np.zeros((3, 2))
    H = ExactHessian(
        Linearization(deep, np.zeros(deep.n_parameters), append_one(rows)),
        LOSSES["identity"],
        rows,
        np.full(3, 1 / 3),
    )
    assert LayerElimination.pays(H)
    assert solver.price(H).numbers == LayerElimination.numbers(deep, 3)
    assert solver.price(H).operations < Auto().price(H).operations
    assert ExactHessianSolver(saddle_free=True).price(H).numbers == 2 * H.shape[0] ** 2
    assert solver.price(TALL.operator()) == Auto().price(TALL.operator())


def test_sizes_of_what_is_no_network_are_those_of_its_root():
    assert sizes(OPERATORS["low rank"]()) == (9, 1, 31, 31)
    assert sizes(OPERATORS["dense"]()) == (20, 1, 20, 20)
    assert sizes(TALL.operator().probe(2, 0)) == (40, 2, 7, 31)
    assert sizes(TALL.exact()) == (40, 3, 7, 31)
