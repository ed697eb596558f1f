"""The choice of a solver by cost and memory."""

from typing import Any

from skgnh.memory import fits
from skgnh.operators.sketch import neuron_costs
from skgnh.solvers.base import Factor, Solver
from skgnh.solvers.cg import CG
from skgnh.solvers.dense import Dense
from skgnh.solvers.gram import Gram
from skgnh.solvers.sketched_gram import SketchedGram

# What `n` numbers of work cost, in multiply-adds of a large matrix product.
_CG_PRODUCTS = 50
_EXACT_IS_WORTH = 4
# Of the sketch: products of a step, and what a number of the lists costs in each and
# once, both bound by memory (benchmarks/sketched_gram.py).
_SKETCHED_PRODUCTS = 15
_PRODUCT_NUMBER, _SKETCH_NUMBER = 300, 500
# About ten milliseconds of one core: not worth truncating.
_CHEAP = 5e8


class Auto(Solver):
    r"""Take an exact solver if it is cheap enough, else conjugate gradients.

    For an operator of P parameters on n rows with r roots each (r = d outputs, or
    output probes) and the sum W of the layers' widths, the costs in multiply-adds are

    ======  =====================================  ====================
    solver  cost of a step                         memory (numbers)
    ======  =====================================  ====================
    dense   :math:`n P^2 / 2 + P^3 / 6`            :math:`2 P^2`
    gram    :math:`(n r)^2 W + (n r)^3 / 6 + 6 n   :math:`3 (n r)^2`
            P`
    cg      :math:`50 \times 4 n P`                :math:`n W`
    ======  =====================================  ====================

    The cheapest of the exact ones that fit the working memory is taken if it costs at
    most four times as much as `cg`, whose steps are truncated, or less than 5e8
    multiply-adds; `cg` otherwise. `sketched_gram`, whose error is one per cent, counts
    among them where its narrower layers save `gram` more than its 15 products and the
    sketch cost, :math:`15 (4 n P + 300 n W) + 500 n r W` as measured: for layers many
    times as wide as n r. An operator of low rank gets `gram`, one of no structure
    `dense` if it can be an array within the working memory.
    """

    cost = "that of the solver it takes"
    memory = "that of the solver it takes"
    use = "the default"

    def select(self, H: Any) -> Solver:
        """Return the solver that the rule takes for H."""
        P, itemsize = H.shape[0], H.dtype.itemsize
        dense_fits = hasattr(H, "toarray") and fits(2 * P**2 * itemsize)
        if not hasattr(H, "n_roots"):
            if hasattr(H, "gram_by_ridge"):
                return Gram()
            return Dense() if dense_fits else CG()
        n, r = H.linearization.n_rows, H.n_roots
        exact = []
        if dense_fits:
            exact.append((n * P**2 / 2 + P**3 / 6, "dense", Dense()))
        if hasattr(H, "gram_by_ridge") and fits(3 * (n * r) ** 2 * itemsize):
            width = sum(H.network.layer_units[1:])
            cost = (n * r) ** 2 * width + (n * r) ** 3 / 6 + 6 * n * P
            exact.append((cost, "gram", Gram()))
            solver = SketchedGram()
            kept, saved = neuron_costs(H.network.shapes, n, r, solver.oversampling)
            cost += _SKETCHED_PRODUCTS * n * (4 * P + _PRODUCT_NUMBER * width)
            cost += _SKETCH_NUMBER * n * r * width - saved
            if fits(kept * itemsize):
                exact.append((cost, "sketched_gram", solver))
        iterative = _CG_PRODUCTS * 4 * n * P
        if exact and min(exact)[0] <= max(_CHEAP, _EXACT_IS_WORTH * iterative):
            return min(exact)[-1]
        return CG()

    def _factor(self, H: Any, previous: Factor | None) -> Factor:
        return self.select(H).factor(H, previous)
