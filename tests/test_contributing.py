"""The worked example of CONTRIBUTING.md, run as it is printed."""

import re
from pathlib import Path

import numpy as np
import pytest
from cases import assert_close
from solved import OPERATORS, right_hand_side
from tasks import fitted

from skgnh.solvers.base import Factor, Solver, sizes

TEXT = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def Eigen():
    blocks = re.findall(r"```python\n(.*?)```", TEXT.read_text("utf-8"), re.DOTALL)
    namespace = {"__name__": "skgnh.solvers.eigen"}
    exec(blocks[0], namespace)
    return namespace["Eigen"]


@pytest.mark.parametrize("operator", OPERATORS)
def test_example_solves_as_dense_does(Eigen, operator):
    H = OPERATORS[operator]()
    factor, rhs = Eigen().factor(H), right_hand_side(H, 2)
    assert isinstance(factor, Factor)
    for damping in (1e-2, 1.0):
        C = np.linalg.inv(H.toarray() + damping * np.eye(len(rhs)))
        assert_close(factor.solve(rhs, damping), C @ rhs, rtol=1e-8)
        assert_close(factor.diagonal_of_inverse(damping), C.diagonal(), rtol=1e-8)
    with pytest.raises(ValueError, match="Eigen has no log-determinant"):
        factor.logdet(1.0)


def test_example_trains_and_has_its_price(Eigen):
    model = fitted("multiclass", solver=Eigen()).estimator
    exact = fitted("multiclass", solver="dense").estimator
    assert model.loss_ == pytest.approx(exact.loss_, rel=1e-6)
    H = OPERATORS["more rows than parameters"]()
    n, _, _, P = sizes(H)
    assert Eigen().price(H) == (n * P**2 / 2 + 5 * P**3, 2 * P**2)
    assert issubclass(Eigen, Solver)
    assert Eigen.use
