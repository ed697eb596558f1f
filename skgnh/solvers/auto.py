"""The choice of a solver by cost and memory."""

from typing import Any

from skgnh.memory import fits
from skgnh.solvers.base import Factor, Solver
from skgnh.solvers.cg import CG
from skgnh.solvers.dense import Dense
from skgnh.solvers.gram import Gram

# What `n` numbers of work cost, in multiply-adds of a large matrix product.
_CG_PRODUCTS = 50
_EXACT_IS_WORTH = 4
# About ten milliseconds of one core: not worth truncating.
_CHEAP = 5e8


class Auto(Solver):
    r"""Take the exact solver if it is cheap enough, else conjugate gradients.

    For an operator of P parameters on n rows with r roots each (r = d outputs, or
    output probes) and the sum W of the layers' widths, the costs in multiply-adds are

    ======  =====================================  ====================
    solver  cost of a step                         memory (numbers)
    ======  =====================================  ====================
    dense   :math:`n r P^2 / 2 + P^3 / 6`          :math:`2 P^2`
    gram    :math:`(n r)^2 W + (n r)^3 / 6 + 6 n   :math:`3 (n r)^2`
            P`
    cg      :math:`50 \times 4 n P`                :math:`n W`
    ======  =====================================  ====================

    The cheaper of `dense` and `gram` among those that fit the working memory is taken
    if it costs at most four times as much as `cg`, whose steps are truncated, or less
    than 5e8 multiply-adds; `cg` otherwise. An operator without rows (any but a
    Gauss-Newton Hessian) gets `dense` if it can be an array within the working memory.
    """

    cost = "that of the solver it takes"
    memory = "that of the solver it takes"
    use = "the default"

    def select(self, H: Any) -> Solver:
        """Return the solver that the rule takes for H."""
        P, itemsize = H.shape[0], H.dtype.itemsize
        dense_fits = hasattr(H, "toarray") and fits(2 * P**2 * itemsize)
        if not hasattr(H, "linearization"):
            return Dense() if dense_fits else CG()
        n, r = H.linearization.n_rows, H.n_roots
        exact = []
        if dense_fits:
            exact.append((n * r * P**2 / 2 + P**3 / 6, "dense", Dense()))
        if hasattr(H, "gram_by_ridge") and fits(3 * (n * r) ** 2 * itemsize):
            width = sum(H.network.layer_units[1:])
            cost = (n * r) ** 2 * width + (n * r) ** 3 / 6 + 6 * n * P
            exact.append((cost, "gram", Gram()))
        iterative = _CG_PRODUCTS * 4 * n * P
        if exact and min(exact)[0] <= max(_CHEAP, _EXACT_IS_WORTH * iterative):
            return min(exact)[-1]
        return CG()

    def _factor(self, H: Any, previous: Factor | None) -> Factor:
        return self.select(H).factor(H, previous)
