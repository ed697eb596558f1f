"""Conjugate gradients on exact products, preconditioned by an approximation of H."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.linalg import Curvature, as_curvature, check_count
from skgnh.memory import fits
from skgnh.solvers.base import Factor, Price, Solver, sizes

Array = Any


class Preconditioned(Solver):
    r"""A solver made of an approximation of H.

    The approximation preconditions conjugate gradients on exact products or, if
    `direct`, is solved in place of H: the step's residual then tells its quality.

    By default the iteration stops by Martens' rule, when the quadratic
    :math:`q(x) = \frac12 x^T A x - b^T x` that it minimises has fallen by less than
    `tol` per iteration, relative to itself, over the last ``max(10, k/10)`` of k
    iterations: what matters is q, not the residual. It begins at the last solution,
    times `decay`, when it is carried.

    Parameters
    ----------
    max_iter : int, default=50
        Most iterations for a right-hand side.
    tol : float, default=5e-4
        Relative progress a step under which Martens' rule stops.
    rtol : float or None, default=None
        If given, iterate instead until ``||residual|| <= rtol ||rhs||``.
    decay : float, default=0.95
        Factor of the previous solution where the iteration begins.
    direct : bool, default=False
        Solve the approximation itself.

    References
    ----------
    .. [1] J. Martens, "Deep learning via Hessian-free optimization", ICML 2010.
    """

    def __init__(
        self,
        max_iter: int = 50,
        tol: float = 5e-4,
        rtol: float | None = None,
        decay: float = 0.95,
        direct: bool = False,
    ):
        self.max_iter = max_iter
        self.tol = tol
        self.rtol = rtol
        self.decay = decay
        self.direct = direct

    @abstractmethod
    def _approximate(self, H: Curvature, kept: Any) -> Factor:
        """Return an approximation of H, solvable with many dampings.

        `kept` is what the last point's has carried, or None.
        """

    @abstractmethod
    def _parts(self, H: Curvature) -> tuple[Price, float]:
        """Return what making the approximation costs, and what one solve by it does."""

    def price(self, H: Any) -> Price:
        """Return what a step of `max_iter` iterations costs and holds."""
        H = as_curvature(H)
        n, _, W, P = sizes(H)
        made, applied = self._parts(H)
        if self.direct:
            return Price(made.operations + applied, made.numbers)
        iterations = self.max_iter * (4 * n * P + applied)
        return Price(made.operations + iterations, made.numbers + n * W)

    def _factor(self, H: Curvature, carried: Any) -> Factor:
        check_count(self.max_iter, "max_iter")
        if self.direct:
            return self._approximate(H, None)
        solution, kept = carried if isinstance(carried, Iterate) else (None, None)
        if solution is not None and not is_of(solution, H):
            solution = None
        return PreconditionedFactor(self, H, self._approximate(H, kept), solution)


def is_of(array: Array, H: Curvature) -> bool:
    """Say whether the rows of an array are vectors of H, in its precision."""
    return array.shape[-1] == H.shape[0] and array.dtype == H.dtype


class Iterate(NamedTuple):
    """What an iteration leaves to the next point."""

    solution: Array | None
    """Where it begins."""
    inner: Any
    """What the approximation has carried."""


class PreconditionedFactor(Factor):
    """The approximation of H, and the last solution as the next one's beginning.

    What a posterior is asked it answers of H, by solves that end as those of the steps
    do; only the log-determinant is that of the approximation.
    """

    def __init__(
        self, solver: Any, H: Curvature, inner: Factor, solution: Array | None
    ):
        super().__init__(H)
        self._solver, self.inner, self.solution = solver, inner, solution
        self._products = 0

    @property
    def name(self) -> str:
        """The solver's."""
        return type(self._solver).__name__

    @property
    def products(self) -> int:
        """Products with H spent so far, those of the approximation included."""
        return self._products + self.inner.products

    @property
    def surrogate(self) -> Factor | None:
        """That of the approximation."""
        return self.inner.surrogate

    def carried(self) -> Iterate:
        """Return the last solution, and what the approximation carries."""
        return Iterate(self.solution, self.inner.carried())

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``; see :meth:`Factor.solve`."""
        if rhs.ndim == 2:
            columns = [self._solve(b, damping, None)[0] for b in rhs.T]
            return np.stack(columns, axis=1)
        # Steps alone tell how well the approximation does, not what a posterior asks.
        self.solution, self.inner.iterations = self._solve(rhs, damping, self.solution)
        return self.solution

    def logdet(self, damping: float) -> float:
        """Return the approximation's ``log det``, an estimate of that of H."""
        return self.inner.logdet(damping)

    def _solve(
        self, b: Array, damping: float, start: Array | None
    ) -> tuple[Array, int]:
        """Return the solution and the number of iterations."""
        solver = self._solver
        shift = b.dtype.type(damping)

        def product(x):
            self._products += 1
            return self._H @ x + shift * x

        def precondition(r):
            return self.inner.solve(r, damping)

        if start is not None:
            start = b.dtype.type(solver.decay) * start
        iterates = conjugate_gradients(product, b, precondition, start)
        target = None if solver.rtol is None else solver.rtol * np.linalg.norm(b)
        values = []
        for iterate in islice(iterates, solver.max_iter + 1):
            x, residual, value = iterate
            values.append(value)
            if target is None:
                stop = _has_stalled(values, solver.tol)
            else:
                stop = np.linalg.norm(residual) <= target
            if stop:
                break
        return x, len(values) - 1


def _has_stalled(values: list[float], tol: float) -> bool:
    """Martens' rule on the values of the quadratic."""
    k = len(values) - 1
    window = max(10, k // 10)
    if k <= window or values[-1] >= 0:
        return False
    return values[-1 - window] - values[-1] <= -window * tol * values[-1]


def conjugate_gradients(
    product: Callable, b: Array, precondition: Callable, start: Array | None = None
) -> Iterator[tuple[Array, Array, float]]:
    """Yield solution, residual and quadratic of the conjugate gradient iterates.

    Ends when the residual vanishes; the caller decides when to stop before. Residuals
    are kept orthogonal to all before them, as far as these fit a quarter of the working
    memory: in exact arithmetic they are, but rounding undoes it, which costs iterations
    and makes runs differ that differ only in the order of their rows.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a direction of non-positive or non-finite curvature turns up.
    """
    x = np.zeros_like(b) if start is None else start.copy()
    r = b.copy() if start is None else b - product(x)
    z = precondition(r)
    p, rz = z, r @ z
    past = _PastResiduals(b)
    while True:
        yield x, r, -0.5 * float(x @ (b + r))
        if rz <= 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            Ap = product(p)
            curvature = p @ Ap
        if not 0 < curvature < np.inf:
            raise LinAlgError(
                "Conjugate gradients met non-positive curvature, or one that is not "
                "finite."
            )
        alpha = rz / curvature
        past.append(r / rz, z)
        x = x + alpha * p
        r = past.orthogonalised(r - alpha * Ap)
        z = precondition(r)
        rz, previous = r @ z, rz
        p = z + (rz / previous) * p


class _PastResiduals:
    """Residuals r_j / (r_j, z_j) and their preconditioned z_j, while they fit."""

    def __init__(self, b: Array):
        self._count, self._pairs = 0, np.empty((2, 8, len(b)), b.dtype)

    def append(self, residual: Array, direction: Array) -> None:
        capacity = self._pairs.shape[1]
        if self._count == capacity:
            if not fits(8 * self._pairs.nbytes):
                return
            self._pairs = np.concatenate([self._pairs, self._pairs], axis=1)
        self._pairs[:, self._count] = residual, direction
        self._count += 1

    def orthogonalised(self, r: Array) -> Array:
        residuals, directions = self._pairs[:, : self._count]
        for _ in range(2):  # twice is enough
            r = r - (directions @ r) @ residuals
        return r
