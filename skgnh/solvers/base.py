"""What a solver is: (H + damping I)^-1 in two phases, and its price."""

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator

from skgnh.arrays import (
    as_precision,
    copied,
    empty,
    eye,
    is_foreign,
    library,
    like,
    namespace,
    reshape,
    sums_by,
)
from skgnh.linalg import Curvature, as_curvature, check_number, check_vector
from skgnh.memory import rows_per_chunk, slices

Array = Any

# Up to that many parameters the diagonal of an inverse is solved for entry by entry;
# beyond, it is estimated from so many probes.
_EXACT, _PROBES = 128, 32


class Price(NamedTuple):
    """What one step costs by a solver.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import DenseMatrix
    >>> from skgnh.solvers import Dense
    >>> price = Dense().price(DenseMatrix(np.eye(30)))
    >>> price.operations, price.numbers
    (18000.0, 1800)
    """

    operations: float
    """Multiply-adds of a factor and one solve."""
    numbers: float
    """Numbers that are held for it."""


class Sizes(NamedTuple):
    """Of a curvature matrix, what the prices are made of."""

    n: int
    """Rows."""
    r: int
    """Roots of each row."""
    W: int
    """Sum of the layers' widths."""
    P: int
    """Parameters."""


def sizes(H: Curvature) -> Sizes:
    """Return the sizes of H; without samples, those of its root, or of a square one."""
    P = H.shape[0]
    if not H.offers & {"samples", "elimination"}:
        # A root that is an array is a layer of one input and P outputs.
        return Sizes(H.root.shape[0] if "root" in H.offers else P, 1, P, P)
    linearization = H.linearization
    network = linearization.network
    r = H.n_roots if "samples" in H.offers else network.n_outputs
    W = sum(width for width, _ in network.shapes)
    return Sizes(linearization.n_rows, r, W, P)


@dataclass(frozen=True)
class _Shell:
    """What is left of a matrix in a factor that does without it."""

    dtype: Any
    shape: tuple[int, int]
    network: Any
    like: Any

    offers: ClassVar[frozenset] = frozenset()
    name: ClassVar[str] = "A detached matrix"


class Factor(ABC):
    """The part of a solver's work that serves every damping at one point.

    Beside solutions it answers what a Gaussian posterior of precision
    ``H + damping I`` is asked. What a subclass does not know better is made of its
    solves, and as exact as these.

    Parameters
    ----------
    H : Curvature of shape (P, P)
        What it is a factor of.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import DenseMatrix
    >>> from skgnh.solvers import Dense
    >>> factor = Dense().factor(DenseMatrix(np.diag([1.0, 3.0, 7.0])))
    >>> factor.solve(np.array([2.0, 4.0, 8.0]), damping=1.0)
    array([1., 1., 1.])
    >>> factor.trace_of_inverse(np.array([0, 0, 1]), damping=1.0)
    array([0.75 , 0.125])
    """

    knows_determinant = False
    is_exact = False
    """Whether determinants and traces are those of H, and not of an approximation."""
    products = 0
    """Products with H that its solves have spent so far."""

    def __init__(self, H: Curvature):
        self._H = H

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__.removesuffix("Factor")

    @property
    def surrogate(self) -> "Factor | None":
        """What answers for traces and determinants at each point of a training.

        The factor itself or, where that takes many solves, its approximation of H; None
        where neither knows a determinant without damping.
        """
        return self if self.knows_determinant else None

    def carried(self) -> Any:
        """Return what the next factor of the same solver may go on from, or None.

        A picklable record that holds neither H nor rows, and that nobody changes: the
        state of a training between two points.
        """
        return None

    def detached(self, damping: float) -> "Factor":
        """Return what answers at one damping, picklable, without H where it can.

        The rows that H is a sum over do not live on with it then.
        """
        return self

    def _without_matrix(self) -> Self:
        factor = copy(self)
        network = getattr(self._H, "network", None)
        none = copied(self._H.like[:0])
        shell: Any = _Shell(self._H.dtype, self._H.shape, network, none)
        factor._H = shell
        return factor

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``.

        Parameters
        ----------
        rhs : ndarray of shape (P,) or (P, k)
            One or several right-hand sides, of the precision of H.
        damping : float
            Non-negative shift.

        Returns
        -------
        ndarray of the shape of `rhs`
            The solution, of the same precision.

        Raises
        ------
        ValueError
            If `rhs` or `damping` is no such thing.
        numpy.linalg.LinAlgError
            If the matrix is not positive definite to rounding: raise the damping.
        """
        check_vector(rhs, "rhs", self._H.shape[0], columns=True)
        check_number(damping, "damping")
        return self._solve(rhs, damping) if 0 not in rhs.shape else rhs

    @abstractmethod
    def _solve(self, rhs: Array, damping: float) -> Array: ...

    def image(self, x: Array) -> Array:
        """Return H x; what a solve knows of its solution is not asked for again."""
        return self._H @ x

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)``.

        Raises
        ------
        ValueError
            If the solver has none.
        """
        raise ValueError(
            f"{self.name} has no log-determinant; take the solver 'dense' or 'gram', "
            "or for an estimate 'hmatrix', 'kfac' or 'nystrom'."
        )

    def inverse_quadratic(self, rows: Array, damping: float) -> Array:
        """Return ``j^T (H + damping I)^-1 j``, the variance along each row j.

        Parameters
        ----------
        rows : ndarray of shape (k, P)
            Vectors, such as the derivatives of predictions.
        damping : float
            Non-negative shift.

        Returns
        -------
        ndarray of shape (k,)
            At the cost of a solve each.
        """
        n, P = rows.shape
        xp, out = namespace(rows), empty((n,), self._H.like)
        for some in slices(n, rows_per_chunk(4 * P * self._H.dtype.itemsize)):
            part = as_precision(rows[some, :], self._H.dtype)
            out[some] = xp.vecdot(part, self.solve(part.T, damping).T)
        return out

    def inverse_quadratic_of(self, factors: Any, damping: float) -> Array:
        """Return :meth:`inverse_quadratic` of rows that layer factors hold.

        Parameters
        ----------
        factors : skgnh.operators.layer_factors.LayerFactors
            Of n samples and r roots.
        damping : float
            Non-negative shift.

        Returns
        -------
        ndarray of shape (n, r)
            At the cost of a solve each.
        """
        out = empty((factors.n_rows, factors.n_roots), self._H.like)
        size = rows_per_chunk(4 * factors.n_roots * self._H.shape[0] * 8)
        for some in slices(factors.n_rows, size):
            rows = factors.rows(some).array()
            flat = reshape(rows, (-1, rows.shape[-1]))
            found = self.inverse_quadratic(flat, damping)
            out[some, :] = reshape(found, rows.shape[:2])
        return out

    def diagonal_of_inverse(self, damping: float) -> Array:
        """Return the diagonal of ``(H + damping I)^-1``, of shape (P,).

        Beyond 128 parameters, where nothing better is known, an unbiased estimate from
        32 solves with random signs of a fixed seed: its variance is the sum of the
        squares beside the diagonal in a row, over 32.
        """
        P, xp = self._H.shape[0], namespace(self._H.like)
        if P <= _EXACT:
            inverse = self.solve(eye(P, self._H.like), damping)
            return copied(xp.linalg.diagonal(inverse))
        Z = np.random.default_rng(0).integers(0, 2, (P, _PROBES), dtype=np.int8)
        Z = like(2 * Z - 1, self._H.like, self._H.dtype)
        return xp.vecdot(Z, self.solve(Z, damping)) / _PROBES

    def trace_of_inverse(self, groups: Array, damping: float) -> Array:
        """Return the trace of ``(H + damping I)^-1`` over each group of parameters.

        Parameters
        ----------
        groups : ndarray of int of shape (P,)
            Which group a parameter belongs to, counted from zero.
        damping : float
            Non-negative shift.

        Returns
        -------
        ndarray of shape (n_groups,)
            The sums of :meth:`diagonal_of_inverse`, in double precision.
        """
        return sums_by(groups, self.diagonal_of_inverse(damping))

    def draw(self, rng: Any, n: int, damping: float) -> Array:
        """Draw from the normal distribution of covariance ``(H + damping I)^-1``.

        With ``H = J^T J + R`` as the solution for ``J^T e + (R + damping)^(1/2) f`` of
        standard normal e and f.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.
        n : int
            How many.
        damping : float
            Non-negative shift.

        Returns
        -------
        ndarray of shape (P, n)
            Draws, of the precision of H.

        Raises
        ------
        ValueError
            If H is no sum of squares.
        """
        H = self._H
        if "root" not in H.offers:
            raise ValueError(
                f"{self.name} draws by the root of H, which {H.name} does not offer; "
                "take the solver 'dense'."
            )
        scale = (H.ridge + float(damping)) ** 0.5
        pushed = H.root.T @ self._normal(rng, H.root.shape[0], n)
        moved = scale[:, None] * self._normal(rng, H.shape[0], n)
        return self.solve(pushed + moved, damping)

    def _normal(self, rng: Any, *shape: int) -> Array:
        return like(rng.standard_normal(shape), self._H.like, self._H.dtype)


class Solver(BaseEstimator, ABC):
    """Base of the solvers: plain parameters, no state.

    A subclass names in ``requires`` what the operator must offer beyond products, see
    :class:`skgnh.linalg.Curvature`, and implements ``_factor`` and ``price``. What is
    carried from one point to the next it finds in `carried`, the record that its last
    factor has left; one that it cannot use it ignores. What it costs, holds and is for
    stands in ``cost``, ``memory`` and ``use``, from which the documentation makes its
    table: formulas of :class:`Sizes` and of its parameters with the values of
    ``price``. The training builds the ``curvature`` that it names, 'gauss_newton' or
    'exact'.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.solvers import Factor, Price, Solver
    >>> class Diagonal(Solver):
    ...     requires = ("diagonal",)
    ...
    ...     def price(self, H):
    ...         return Price(H.shape[0], H.shape[0])
    ...
    ...     def _factor(self, H, carried):
    ...         return DiagonalFactor(H)
    >>> class DiagonalFactor(Factor):
    ...     def _solve(self, rhs, damping):
    ...         return (rhs.T / (self._H.diagonal() + damping)).T
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=5, solver=Diagonal(), alpha=1e-3, tol=0.01
    ... )
    >>> model.fit(X, y).score(X, y) > 0.5
    True
    """

    curvature = "gauss_newton"
    requires: tuple[str, ...] = ()
    any_namespace = False
    """Whether it takes a matrix of arrays of another library than NumPy."""
    cost: str
    memory: str
    use: str

    def select(self, H: Any) -> "Solver":
        """Return the solver to use for H: this one, but for :class:`Auto`."""
        return self

    def serves(self, H: Curvature) -> bool:
        """Say whether H offers what it requires."""
        at_home = self.any_namespace or not is_foreign(H.like)
        return at_home and H.offers.issuperset(self.requires)

    def check_library(self, x: Array) -> None:
        """Raise a ValueError if x is of a library that it does not compute with."""
        if is_foreign(x) and not self.any_namespace:
            raise ValueError(
                f"{type(self).__name__} computes with arrays of NumPy: take 'cg', "
                "'kfac', 'gram' or 'dense' for those of "
                f"{library(x)}."
            )

    @abstractmethod
    def price(self, H: Any) -> Price:
        """Return what one step at H costs and holds, by counting.

        Parameters
        ----------
        H : Curvature of shape (P, P)
            The matrix; only its sizes are asked for.

        Returns
        -------
        Price
            Of the default stopping rule's most iterations, where there are any.
        """

    def factor(self, H: Any, carried: Any = None) -> Factor:
        """Do all the work for H that does not depend on the damping.

        Parameters
        ----------
        H : LinearOperator of shape (P, P)
            Symmetric positive semidefinite.
        carried : object, optional
            What :meth:`Factor.carried` returned at the last point. One of another
            solver, or for another size or precision, is ignored.

        Returns
        -------
        Factor
            Its ``solve(rhs, damping)`` may be called with many dampings.

        Raises
        ------
        ValueError
            If H does not offer what the solver requires, or the work would exceed
            scikit-learn's working memory.
        """
        H = as_curvature(H)
        if not self.serves(H):
            self.check_library(H.like)
            missing = [name for name in self.requires if name not in H.offers]
            raise ValueError(
                f"{type(self).__name__} needs an operator with {', '.join(missing)}, "
                f"which {H.name} lacks."
            )
        return self._factor(H, carried)

    @abstractmethod
    def _factor(self, H: Curvature, carried: Any) -> Factor: ...
