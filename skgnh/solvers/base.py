"""What a solver is: (H + damping I)^-1 in two phases."""

from abc import ABC, abstractmethod
from typing import Any

from sklearn.base import BaseEstimator

Array = Any


class Factor(ABC):
    """The part of a solver's work that serves every damping at one point."""

    @abstractmethod
    def solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs``.

        Parameters
        ----------
        rhs : ndarray of shape (P,) or (P, k)
            One or several right-hand sides.
        damping : float
            Non-negative shift.

        Returns
        -------
        ndarray of the shape of `rhs`
            The solution.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is not positive definite to rounding: raise the damping.
        """

    @property
    def products(self) -> int:
        """Products with H that its solves have spent so far."""
        return 0

    def carried(self):
        return self


class Solver(BaseEstimator, ABC):
    """Base of the solvers: plain parameters, no state.

    A subclass names in ``requires`` what it asks of the operator beyond products, and
    implements ``_factor``. All that is carried from one point to the next is the last
    factor, which it gets back as `previous`. What it costs, holds and is for stands in
    ``cost``, ``memory`` and ``use``, from which the documentation makes its table: for
    P parameters, n rows, r roots each and the sum W of the layers' widths. The training
    builds the ``curvature`` that it names, 'gauss_newton' or 'exact'.
    """

    curvature = "gauss_newton"
    requires: tuple[str, ...] = ()
    cost: str
    memory: str
    use: str

    def select(self, H: Any) -> "Solver":
        """Return the solver to use for H: this one, but for :class:`Auto`."""
        return self

    def factor(self, H: Any, previous: Factor | None = None) -> Factor:
        """Do all the work for H that does not depend on the damping.

        Parameters
        ----------
        H : LinearOperator of shape (P, P)
            Symmetric positive semidefinite.
        previous : Factor, optional
            What this solver made at the last point.

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
        missing = [name for name in self.requires if not hasattr(H, name)]
        if missing:
            raise ValueError(
                f"{type(self).__name__} needs an operator with {', '.join(missing)}, "
                f"which {type(H).__name__} lacks."
            )
        return self._factor(H, previous)

    @abstractmethod
    def _factor(self, H: Any, previous: Factor | None) -> Factor: ...
