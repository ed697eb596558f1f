"""Conjugate gradients preconditioned by the diagonal."""

from typing import Any

import numpy as np

from skgnh.arrays import at_least, namespace
from skgnh.linalg import Curvature
from skgnh.solvers.base import Factor, Price
from skgnh.solvers.preconditioned import Preconditioned

Array = Any


class CG(Preconditioned):
    r"""Matrix-free solver, preconditioned by the diagonal and truncated.

    Each iteration costs one product; see :class:`Preconditioned` for the rule that ends
    them.

    Parameters
    ----------
    max_iter : int, default=50
        Most iterations for a right-hand side.
    tol : float, default=5e-4
        Relative progress a step under which Martens' rule stops.
    rtol : float or None, default=None
        If given, iterate instead until ``||residual|| <= rtol ||rhs||``.
    direct : bool, default=False
        Only divide by the preconditioner: a scaled gradient step.
    exponent : float, default=0.75
        The preconditioner is ``(diag(H) + damping)^exponent``.
    n_probes : int, default=4
        Most output probes for the diagonal, see
        :meth:`skgnh.operators.GaussNewtonHessian.diagonal`.
    random_state : int, RandomState or None, default=0
        Seed of the probes.

    References
    ----------
    .. [1] J. Martens, "Deep learning via Hessian-free optimization", ICML 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import DenseMatrix
    >>> from skgnh.solvers import CG
    >>> factor = CG(rtol=1e-10).factor(DenseMatrix([[2.0, 1.0], [1.0, 2.0]]))
    >>> factor.solve(np.array([3.0, 3.0]), damping=0.0).round(8)
    array([1., 1.])
    """

    requires = ("diagonal",)
    cost = "4 n P max_iter"
    memory = "n W"
    any_namespace = True
    use = "many rows and parameters"

    def __init__(
        self,
        max_iter: int = 50,
        tol: float = 5e-4,
        rtol: float | None = None,
        direct: bool = False,
        exponent: float = 0.75,
        n_probes: int = 4,
        random_state: Any = 0,
    ):
        super().__init__(max_iter, tol, rtol, direct)
        self.exponent = exponent
        self.n_probes = n_probes
        self.random_state = random_state

    def _approximate(self, H: Curvature, kept: Any) -> "DiagonalFactor":
        return DiagonalFactor(H, self)

    def _parts(self, H: Curvature) -> tuple[Price, float]:
        return Price(0, 0), 0


class DiagonalFactor(Factor):
    """``(diag(H) + damping)^exponent``, up to a scale that conserves its largest."""

    name = "CG"

    def __init__(self, H: Curvature, solver: CG):
        super().__init__(H)
        self._diagonal = H.diagonal(solver.n_probes, solver.random_state)
        self._exponent = solver.exponent

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return the scaled right-hand side."""
        scale, xp = self._diagonal + float(damping), namespace(self._diagonal)
        info = np.finfo(self._H.dtype)
        largest = max(float(xp.max(scale)), float(info.tiny))
        scale = at_least(scale / largest, float(info.eps))
        inverse = scale ** -float(self._exponent) / largest
        return (inverse if rhs.ndim == 1 else inverse[:, None]) * rhs
