"""What every curvature matrix answers, and how it says what more it offers."""

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from skgnh.arrays import namespace, pick, put
from skgnh.linalg.checks import check_vector, checked_index
from skgnh.linalg.operator import Operator
from skgnh.memory import require

Array = Any


class Curvature(Operator):
    """A symmetric matrix by products and its diagonal, and what else it ``offers``.

    Callers ask ``offers`` instead of looking for attributes. Its names:

    ``diagonal``
        ``diagonal()``; all but operators of other libraries do.
    ``entries``
        ``entries(rows, columns)``, a block; ``entry_blocks(pairs)``, several.
    ``toarray``
        ``toarray()``, the (P, P) array, refused beyond the working memory.
    ``root``
        ``root`` and ``ridge`` with ``H = root^T root + diag(ridge)``.
    ``gram``
        ``gram_by_ridge()``: ``root root^T`` split over the parameters of equal ridge;
        ``gram(scale)``: ``root diag(scale) root^T``.
    ``samples``
        ``linearization`` and ``n_roots``: ``n_roots`` rows of the root for each of
        ``linearization.n_rows`` samples.
    ``layers``
        ``network`` and the roots of its layers, which Kronecker factors are made of.
    ``elimination``
        All that :class:`skgnh.solvers.LayerElimination` asks for.
    """

    offers: frozenset = frozenset({"diagonal"})
    subject = "matrix"
    """What it is, where it is refused as an array."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @property
    def like(self) -> Array:
        """An array of its precision, of the namespace and where it lies."""
        return np.empty(0, self.dtype)

    @property
    def costs(self) -> tuple[float, float]:
        """About how many operations a product takes, a column, and a block, an entry.

        As many as a large product of dense matrices does in the time.
        """
        return 2.0 * self.shape[0] ** 2, 1.0

    def dot(self, x: Any) -> Any:
        """Return the product with a vector or a block of columns."""
        if not (isinstance(x, LinearOperator) or np.isscalar(x)):
            x = x if hasattr(x, "shape") else np.asarray(x)
            check_vector(x, "The vector of a product", self.shape[1], columns=True)
        return super().dot(x)

    def _rmatmat(self, X: Array) -> Array:
        return self._matmat(X)

    def _transpose(self) -> "Curvature":
        return self

    _adjoint = _transpose

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal, of shape (P,), or an unbiased estimate.

        Parameters
        ----------
        n_probes : int, optional
            Where the exact diagonal takes more, estimate it from this many probes.
        random_state : int, Generator or RandomState, optional
            Seed of the probes.
        """
        raise self._lacks("diagonal")

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block of these rows and columns, where that is offered."""
        raise self._lacks("entries")

    def entry_blocks(self, pairs: list[tuple[Array, Array]]) -> list[Array]:
        """Return several blocks."""
        return [self.entries(rows, columns) for rows, columns in pairs]

    def toarray(self) -> Array:
        """Return the matrix as an array of shape (P, P), where that is offered.

        Raises
        ------
        ValueError
            If it is not, or if two such arrays exceed the working memory.
        """
        self._must_offer("toarray")
        P = self.shape[0]
        require(
            2 * P**2 * self.dtype.itemsize,
            f"The dense {self.subject} of {P} parameters",
            "Take a solver such as 'cg' or fewer neurons",
        )
        return self._array()

    def _array(self) -> Array:
        raise NotImplementedError

    def restricted(self, index: Array) -> "Curvature":
        """Return the principal submatrix of some parameters."""
        return PrincipalSubmatrix(self, index)

    def grams_of(self, groups: Array, alike: Array) -> list[Array] | None:
        """Return Gram matrices of groups of parameters, where they are at hand."""
        return None

    def scaled(self, d: Array) -> "Curvature":
        """Return ``diag(d) H diag(d)``."""
        return ScaledCurvature(self, d)

    def rounded(self) -> "Curvature":
        """Return the same matrix in single precision, or itself where that is not."""
        return self

    def _must_offer(self, name: str) -> None:
        if name not in self.offers:
            raise self._lacks(name)

    def _lacks(self, name: str) -> ValueError:
        return ValueError(f"{self.name} does not offer {name}.")


class ScaledCurvature(Curvature):
    """``diag(d) H diag(d)``.

    Parameters
    ----------
    H : Curvature of shape (P, P)
        The matrix.
    d : ndarray of shape (P,)
        Scale of each coordinate.
    """

    def __init__(self, H: Curvature, d: Array):
        check_vector(d, "d", H.shape[0])
        self._H, self._d = H, d
        self.offers = H.offers & {"diagonal", "entries", "toarray"}
        super().__init__(H.dtype, H.shape)

    @property
    def like(self) -> Array:
        """That of H."""
        return self._H.like

    @property
    def costs(self) -> tuple[float, float]:
        """Those of H."""
        return self._H.costs

    def _matmat(self, V: Array) -> Array:
        d = self._d[:, None]
        return d * (self._H @ (d * V))

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal, or its estimate."""
        return self._d**2 * self._H.diagonal(n_probes, random_state)

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block of these rows and columns."""
        block = self._H.entries(rows, columns)
        return np.multiply.outer(self._d[rows], self._d[columns]) * block

    def toarray(self) -> Array:
        """Return the array of shape (P, P)."""
        return self._d[:, None] * self._H.toarray() * self._d


class PrincipalSubmatrix(Curvature):
    """Some rows of a symmetric operator and the same columns.

    Parameters
    ----------
    H : Curvature of shape (P, P)
        The whole; a product here costs one of H.
    index : ndarray of int of shape (k,)
        Which.
    """

    def __init__(self, H: Curvature, index: Array):
        self._H, self.index = H, checked_index(index, H.shape[0])
        # What the whole offers of single parameters; of entries, an array.
        own = H.offers & {"diagonal", "entries", "toarray"}
        self.offers = own | {"toarray"} if "entries" in own else own
        super().__init__(H.dtype, (len(self.index),) * 2)

    @property
    def like(self) -> Array:
        """That of the whole."""
        return self._H.like

    @property
    def costs(self) -> tuple[float, float]:
        """Those of the whole."""
        return self._H.costs

    def _matmat(self, V: Array) -> Array:
        zero = namespace(V).zeros_like(V[:1, :])
        zero = namespace(V).broadcast_to(zero, (self._H.shape[0], V.shape[1]))
        return pick(self._H @ put(zero, self.index, V), self.index)

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal, as the whole does."""
        return pick(self._H.diagonal(n_probes, random_state), self.index)

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block of some of these rows and columns."""
        return self._H.entries(self.index[rows], self.index[columns])

    def entry_blocks(self, pairs: list[tuple[Array, Array]]) -> list[Array]:
        """Return several such blocks."""
        return self._H.entry_blocks([tuple(self.index[i] for i in p) for p in pairs])

    def _array(self) -> Array:
        if "entries" in self.offers:
            return self._H.entries(self.index, self.index)
        return pick(pick(self._H.toarray(), self.index).T, self.index).T

    def restricted(self, index: Array) -> Curvature:
        """Return the principal submatrix of some of these parameters."""
        return self._H.restricted(self.index[checked_index(index, len(self.index))])


class _Foreign(Curvature):
    """An operator of another library, with what it happens to have."""

    def __init__(self, operator: Any):
        super().__init__(np.dtype(operator.dtype), operator.shape)
        self._operator = operator
        self.offers = frozenset({"diagonal", "entries"}.intersection(dir(operator)))

    @property
    def name(self) -> str:
        """The operator's own class."""
        return type(self._operator).__name__

    def _matmat(self, V: Array) -> Array:
        return self._operator @ V

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the operator's diagonal."""
        return self._operator.diagonal()

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the operator's block."""
        return self._operator.entries(rows, columns)


def as_curvature(operator: Any) -> Curvature:
    """Return a square operator, of this package or another, as a curvature matrix."""
    return operator if isinstance(operator, Curvature) else _Foreign(operator)
