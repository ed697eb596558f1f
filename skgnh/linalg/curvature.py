"""What every curvature matrix answers, and how it says what more it offers."""

from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

Array = Any


class Curvature(LinearOperator):
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

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    def _adjoint(self) -> "Curvature":
        return self

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
        """Return the matrix as an array of shape (P, P), where that is offered."""
        raise self._lacks("toarray")

    def restricted(self, index: Array) -> "Curvature":
        """Return the principal submatrix of some parameters."""
        from skgnh.linalg.submatrix import PrincipalSubmatrix

        return PrincipalSubmatrix(self, np.asarray(index))

    def _lacks(self, name: str) -> ValueError:
        return ValueError(f"{self.name} does not offer {name}.")


class _Foreign(Curvature):
    """An operator of another library, with what it happens to have."""

    def __init__(self, operator: Any):
        super().__init__(np.dtype(operator.dtype), operator.shape)
        self._operator = operator
        self.offers = frozenset(
            name for name in ("diagonal", "entries") if hasattr(operator, name)
        )

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
