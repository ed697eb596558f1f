"""The choice of a solver by cost and memory."""

from typing import Any

import numpy as np

from skgnh.linalg import Curvature, as_curvature
from skgnh.memory import fits
from skgnh.solvers.base import Factor, Price, Solver
from skgnh.solvers.cg import CG
from skgnh.solvers.dense import Dense
from skgnh.solvers.gram import Gram
from skgnh.solvers.kfac import KFAC
from skgnh.solvers.sketched_gram import SketchedGram

_EXACT_IS_WORTH = 4
# A few milliseconds of one core: not worth truncating.
_CHEAP = 1e8
# With traces exact ones cost several times their price, but are right for few rows.
_CHEAP_WITH_TRACES, _WORTH = (2e7, 1.5e8), 5


class Auto(Solver):
    r"""Take an exact solver if it is cheap enough, else an iterative one.

    Each solver's :meth:`~Solver.price` at H says what a step would cost and hold. The
    cheapest of `gram`, `dense` and `sketched_gram` (whose error is one per cent) that H
    serves and that fit the working memory is taken if it costs at most four times as
    much as an iterative one, whose steps are truncated, or less than 1e8 multiply-adds;
    otherwise that one: `kfac`, or `cg` where H has no layers or that does not fit. An
    operator that is no sum over samples gets `gram` if it offers a Gram matrix, as one
    of low rank does, else `dense` if it can be an array within the working memory.

    Parameters
    ----------
    iterative : Solver, optional
        What is taken where no exact one is; `kfac` if None. Another one, for a training
        that asks each factor for determinants and traces too, is taken where an exact
        step costs more than five times as much and 2e7 multiply-adds, or 1.5e8 in any
        case, and `sketched_gram`, which has none, is left out.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import DenseMatrix
    >>> from skgnh.solvers import Auto
    >>> H = DenseMatrix(np.eye(2))
    >>> Auto().select(H)
    Dense()
    >>> Auto().price(H).numbers
    8
    """

    cost = "that of the solver it takes"
    memory = "that of the solver it takes"
    any_namespace = True
    use = "the default"

    def __init__(self, iterative: Solver | None = None):
        self.iterative = iterative

    def select(self, H: Any) -> Solver:
        """Return the solver that the rule takes for H."""
        H = as_curvature(H)
        candidates: list[Solver] = [Gram(), Dense()]
        if self.iterative is None:
            candidates.append(SketchedGram())
        prices = {solver: solver.price(H) for solver in candidates if solver.serves(H)}
        exact = [solver for solver in prices if _fits(solver, H)]
        iterative = KFAC() if self.iterative is None else self.iterative
        if not (iterative.serves(H) and _fits(iterative, H)):
            iterative = CG()
        if not exact:
            return iterative
        if "samples" not in H.offers:
            return exact[0]
        best = min(exact, key=lambda solver: prices[solver].operations)
        if self.iterative is None:
            most = max(_CHEAP, _EXACT_IS_WORTH * iterative.price(H).operations)
        else:
            least, largest = _CHEAP_WITH_TRACES
            most = np.clip(_WORTH * iterative.price(H).operations, least, largest)
        return best if prices[best].operations <= most else iterative

    def price(self, H: Any) -> Price:
        """Return the price of the solver that it takes."""
        return self.select(H).price(H)

    def _factor(self, H: Curvature, carried: Any) -> Factor:
        return self.select(H).factor(H, carried)


def _fits(solver: Solver, H: Curvature) -> bool:
    """Say whether what a solver holds fits the working memory."""
    return fits(solver.price(H).numbers * H.dtype.itemsize)
