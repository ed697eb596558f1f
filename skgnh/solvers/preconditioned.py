"""Conjugate gradients on exact products, preconditioned by an approximation of H."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.arrays import as_precision, copied, empty, namespace, norm, precision
from skgnh.linalg import Curvature, as_curvature, check_count, check_number
from skgnh.memory import fits
from skgnh.solvers.base import Factor, Price, Solver, sizes

Array = Any


# Residuals of at least this, relative to the right-hand side, need no doubles; products
# of fewer operations gain nothing by it.
_ROUGH, _LARGE = 1e-2, 1e6


class Preconditioned(Solver):
    r"""A solver made of an approximation of H.

    The approximation preconditions conjugate gradients on exact products or, if
    `direct`, is solved in place of H: the step's residual then tells its quality.

    The iteration minimises the quadratic :math:`q(x) = \frac12 x^T A x - b^T x`, first
    along the last solution, when it is carried, then along directions conjugate to it:
    a single iteration is a gradient step with the momentum and the length that are
    best together [2]_. It stops once ``||residual|| <= rtol ||rhs||``. Without `rtol`
    it goes by Martens' rule, until q has fallen by less than `tol` per iteration,
    relative to itself, over the last ``max(10, k/10)`` of k iterations: what matters
    is q, not the residual.

    Where `rtol` is at least 1e-2 and n P a million, products and approximation are in
    single precision if H can be had so; where that overflows, in that of H.

    Parameters
    ----------
    max_iter : int
        Most iterations for a right-hand side, the first direction not counted.
    tol : float
        Relative progress a step under which Martens' rule stops.
    rtol : float or None
        Residual at which to stop; None goes by Martens' rule.
    direct : bool, default=False
        Solve the approximation itself.

    References
    ----------
    .. [1] J. Martens, "Deep learning via Hessian-free optimization", ICML 2010.
    .. [2] J. Martens, R. Grosse, "Optimizing neural networks with Kronecker-factored
           approximate curvature", ICML 2015, section 7.
    .. [3] Y. Saad, M. Yeung, J. Erhel, F. Guyomarc'h, "A deflated version of the
           conjugate gradient algorithm", SIAM J. Sci. Comput. 21(5), 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import DenseMatrix
    >>> from skgnh.solvers import Nystrom
    >>> H = DenseMatrix(np.diag(1 / np.arange(1.0, 51)))
    >>> b = np.ones(50)
    >>> for solver in (Nystrom(rank=5, direct=True), Nystrom(rank=5, rtol=1e-8)):
    ...     x = solver.factor(H).solve(b, damping=0.01)
    ...     print(bool(np.linalg.norm(H @ x + 0.01 * x - b) < 1e-6))
    False
    True
    """

    def __init__(
        self, max_iter: int, tol: float, rtol: float | None, direct: bool = False
    ):
        self.max_iter = max_iter
        self.tol = tol
        self.rtol = rtol
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
        check_number(self.tol, "tol", 0)
        if self.rtol is not None:
            check_number(self.rtol, "rtol", 0)
        if self.direct:
            return self._approximate(H, None)
        solution, kept = carried if isinstance(carried, Iterate) else (None, None)
        if solution is not None and not is_of(solution, H):
            solution = None
        return PreconditionedFactor(self, H, kept, solution)


def is_of(array: Array, H: Curvature) -> bool:
    """Say whether the rows of an array are vectors of H, in its precision."""
    return array.shape[-1] == H.shape[0] and precision(array) == H.dtype


class Iterate(NamedTuple):
    """What an iteration leaves to the next point."""

    solution: Array | None
    """Its first direction."""
    inner: Any
    """What the approximation has carried."""


class PreconditionedFactor(Factor):
    """The approximation of H, and the last solution as the next one's first direction.

    What a posterior is asked it answers of H, by solves that end as those of the steps
    do; only the log-determinant is that of the approximation.
    """

    def __init__(self, solver: Any, H: Curvature, kept: Any, solution: Array | None):
        super().__init__(H)
        self._solver, self.solution, self._image = solver, solution, None
        n, _, _, P = sizes(H)
        rough = solver.rtol is not None and solver.rtol >= _ROUGH and n * P >= _LARGE
        self._working, self._products = (H.rounded() if rough else H), 0
        self.inner = self._in_double(lambda: solver._approximate(self._working, kept))

    @property
    def name(self) -> str:
        """The solver's."""
        return type(self._solver).__name__

    # The base has a number, that subclasses count up; this one only tells.
    @property
    def products(self) -> int:  # type: ignore[override]
        """Products with H spent so far, those of the approximation included."""
        return self._products + self.inner.products

    @property
    def surrogate(self) -> Factor | None:
        """That of the approximation."""
        return self.inner.surrogate

    def carried(self) -> Iterate:
        """Return the last solution, and what the approximation carries."""
        return Iterate(self.solution, self.inner.carried())

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``; see :meth:`Factor.solve`."""
        if rhs.ndim == 2:
            each = range(rhs.shape[1])
            columns = [self._solution(rhs[:, k], damping, None)[0] for k in each]
            return namespace(rhs).stack(columns, axis=1)
        # Steps alone tell how well the approximation does, not what a posterior asks.
        self.solution, self._image, self.inner.iterations = self._solution(
            rhs, damping, self.solution
        )
        return self.solution

    def image(self, x: Array) -> Array:
        """Return H x; that of the last solution is known."""
        return self._image if x is self.solution else super().image(x)

    def logdet(self, damping: float) -> float:
        """Return the approximation's ``log det``, an estimate of that of H."""
        return self.inner.logdet(damping)

    def _solution(
        self, b: Array, damping: float, direction: Array | None
    ) -> tuple[Array, Array, int]:
        """Return the solution x, H x, and the number of iterations."""
        return self._in_double(lambda: self._iterate(b, damping, direction))

    def _in_double(self, work: Callable) -> Any:
        """Return what some work does, in double where it fails in single precision."""
        try:
            return work()
        except LinAlgError:
            if self._working is self._H:
                raise
        self._working = self._H
        self.inner = self._solver._approximate(self._H, None)
        return work()

    def _iterate(
        self, b: Array, damping: float, direction: Array | None
    ) -> tuple[Array, Array, int]:
        solver, dtype = self._solver, self._working.dtype
        shift = float(damping)
        # Of norm one, lest single precision lose a short one.
        scale = norm(b) or 1
        b = as_precision(b / scale, dtype)
        if direction is not None:
            direction = as_precision(direction / (norm(direction) or 1), dtype)

        def product(x):
            self._products += 1
            return self._working @ x + shift * x

        def precondition(r):
            return self.inner.solve(r, damping)

        iterates = conjugate_gradients(product, b, precondition, direction)
        values = []
        for iterate in islice(iterates, solver.max_iter + 1):
            x, residual, value = iterate
            values.append(value)
            if solver.rtol is None:
                stop = _has_stalled(values, solver.tol)
            else:
                stop = norm(residual) <= solver.rtol
            if stop:
                break
        image = scale * (b - residual - shift * x)
        own = self._H.dtype
        x, image = as_precision(scale * x, own), as_precision(image, own)
        return x, image, len(values) - 1


def _has_stalled(values: list[float], tol: float) -> bool:
    """Martens' rule on the values of the quadratic."""
    k = len(values) - 1
    window = max(10, k // 10)
    if k <= window or values[-1] >= 0:
        return False
    return values[-1 - window] - values[-1] <= -window * tol * values[-1]


def conjugate_gradients(
    product: Callable, b: Array, precondition: Callable, direction: Array | None = None
) -> Iterator[tuple[Array, Array, float]]:
    """Yield solution, residual and quadratic of the conjugate gradient iterates.

    The first is the best along `direction`, to which all others are conjugate. Ends
    when the residual vanishes; the caller decides when to stop before. Residuals are
    kept orthogonal to all before them, as far as these fit a quarter of the working
    memory: in exact arithmetic they are, but rounding undoes it, which costs iterations
    and makes runs differ that differ only in the order of their rows.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a direction of non-positive or non-finite curvature turns up.
    """
    xp = namespace(b)
    x, r, first = xp.zeros_like(b), copied(b), None
    if direction is not None and bool(xp.any(direction != 0)):
        first = direction, *_along(product, direction)
        x, r = _moved(x, r, first)
    z = precondition(r)
    p, rz = _conjugate(z, first), r @ z
    past = _PastResiduals(b)
    least = (16 * float(xp.finfo(b.dtype).eps)) ** 2 * float(b @ precondition(b))
    while True:
        yield x, r, -0.5 * float(x @ (b + r))
        # What rounding leaves has no direction.
        if rz <= max(least, 0):
            return
        Ap, curvature = _along(product, p)
        alpha = rz / curvature
        past.append(r / rz, z)
        x, r = _moved(x + alpha * p, past.orthogonalised(r - alpha * Ap), first)
        z = precondition(r)
        rz, previous = r @ z, rz
        p = _conjugate(z, first) + (rz / previous) * p


def _along(product: Callable, p: Array) -> tuple[Array, float]:
    """Return A p and the curvature along p."""
    with np.errstate(over="ignore", invalid="ignore"):
        Ap = product(p)
        curvature = p @ Ap
    if not 0 < curvature < np.inf:
        raise LinAlgError(
            "Conjugate gradients met non-positive curvature, or one that is not "
            "finite: raise the damping."
        )
    return Ap, curvature


def _moved(x: Array, r: Array, first: tuple | None) -> tuple[Array, Array]:
    """Return solution and residual after the best move along a direction."""
    if first is None:
        return x, r
    direction, image, curvature = first
    length = (direction @ r) / curvature
    return x + length * direction, r - length * image


def _conjugate(z: Array, first: tuple | None) -> Array:
    """Return z less its part along a direction, conjugate to it."""
    if first is None:
        return z
    direction, image, curvature = first
    return z - (image @ z / curvature) * direction


class _PastResiduals:
    """Residuals r_j / (r_j, z_j) and their preconditioned z_j, while they fit."""

    def __init__(self, b: Array):
        self._count, self._pairs = 0, empty((2, 8, b.shape[0]), b)
        self._bytes = precision(b).itemsize

    def append(self, residual: Array, direction: Array) -> None:
        capacity = self._pairs.shape[1]
        if self._count == capacity:
            if not fits(16 * capacity * self._pairs.shape[2] * self._bytes):
                return
            self._pairs = namespace(residual).concat([self._pairs] * 2, axis=1)
        self._pairs[0, self._count, :] = residual
        self._pairs[1, self._count, :] = direction
        self._count += 1

    def orthogonalised(self, r: Array) -> Array:
        residuals = self._pairs[0, : self._count, :]
        directions = self._pairs[1, : self._count, :]
        for _ in range(2):  # twice is enough
            r = r - (directions @ r) @ residuals
        return r
