"""Approximations by hierarchical matrices, and the choice among them."""

from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import LinearOperator

from skgnh.hmatrix import HierarchicalMatrix, HODLRMatrix
from skgnh.linalg import Curvature
from skgnh.operators.kronecker import KroneckerBasis
from skgnh.solvers.base import Factor, Solver
from skgnh.solvers.preconditioned import conjugate_gradients

Array = Any

# Iterations of a trial, and products that estimate a norm.
_TRIAL, _POWER = 40, 8
# Of the error's norm, added to the damping where that helps.
_SHIFT = 0.1


class Choice(NamedTuple):
    """What the storage is spent on."""

    tail: float | None
    """Tail of the Kronecker basis, None for the parameters' own."""
    share: float | None
    """Share of the global part; None for off-diagonal blocks of a rank each."""
    head: float = 0.0
    """Of what the global part leaves, the share of the head."""
    shift: float = 0.0
    """Multiple of the error's norm that is added to the damping."""


class Approximation(LinearOperator):
    """A hierarchical matrix in a basis, with the factorisation of the last damping."""

    _damping: float | None
    _factor: Any

    def __init__(
        self,
        choice: Choice,
        basis: KroneckerBasis | None,
        matrix: HierarchicalMatrix | HODLRMatrix,
    ):
        super().__init__(matrix.dtype, matrix.shape)
        self.choice, self.basis, self.matrix = choice, basis, matrix
        self.shift = 0.0
        self.forget()

    @property
    def size(self) -> int:
        """Numbers that it holds."""
        own = 0 if self.basis is None else self.basis.size
        return own + self.matrix.nbytes // self.dtype.itemsize

    def _matmat(self, V: Array) -> Array:
        if self.basis is None:
            return self.matrix @ V
        return self.basis.restore(self.matrix @ self.basis.rotate(V))

    def _adjoint(self) -> "Approximation":
        return self

    def factor(self, damping: float) -> Any:
        """Return the factorisation at ``damping + shift``, in the basis."""
        if damping != self._damping:
            self.forget()
            self._factor = self.matrix.factor(damping + self.shift)
            self._damping = damping
        return self._factor

    def logdet(self, damping: float) -> float:
        """Return ``log det`` at the damping itself, which no shift is added to."""
        factor = self.matrix.factor(damping) if self.shift else self.factor(damping)
        return factor.logdet()

    def forget(self) -> None:
        """Let the last factorisation go."""
        self._damping, self._factor = None, None

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return the solution for rhs of shape (P,) or (P, k)."""
        if self.basis is None:
            return self.factor(damping).solve(rhs)
        rotated = self.factor(damping).solve(self.basis.rotate(rhs))
        return self.basis.restore(rotated)

    def shifted(self, multiple: float, norm: float) -> "Approximation":
        """Return it with a multiple of its error's norm added to every damping."""
        return self._again(self.choice._replace(shift=multiple), multiple * norm)

    def bare(self) -> "Approximation":
        """Return it without a factorisation."""
        return self._again(self.choice, self.shift)

    def _again(self, choice: Choice, shift: float) -> "Approximation":
        out = Approximation(choice, self.basis, self.matrix)
        out.shift = shift
        return out


class Kept(NamedTuple):
    """What a chosen approximation leaves to the next point."""

    approximation: Approximation
    """Without a factorisation."""
    first: int | None
    """Iterations that the first step took by it."""
    lost: int
    """Iterations beyond as many, of all steps since."""

    def works(self, H: Curvature, worth: float) -> bool:
        """Say whether it has lost fewer iterations than a new one is worth."""
        A = self.approximation
        if self.first is None or A.shape != H.shape or A.dtype != H.dtype:
            return False
        return self.lost < worth


class HMatrixFactor(Factor):
    """The approximations there are to choose among, and then the chosen one.

    What a posterior is asked is made of its solves, which have no root to draw by:
    draws have the covariance ``M^-1 (H + damping I) M^-1`` for the approximation M.
    """

    name = "HMatrix"

    def __init__(
        self,
        H: Curvature,
        approximations: list[Approximation],
        seed: int,
        exact: Any = None,
    ):
        super().__init__(H)
        self._seed, self._open = seed, approximations
        self._first: int | None = None
        self._iterations: int | None = None
        self._lost = 0
        # The solver to ask for determinants, and its factor once it has been.
        self._exact: Solver | None = exact
        self._exact_factor: Factor | None = None
        if len(approximations) == 1:
            (only,) = approximations
            if only.choice.shift and not only.shift:
                # It was chosen for its like before.
                only = only.shifted(only.choice.shift, self._error_norm(only))
            self._open = [only]

    @classmethod
    def of(
        cls, H: Curvature, kept: Kept, seed: int, exact: Any = None
    ) -> "HMatrixFactor":
        """Return the factor that goes on with an approximation of another point."""
        # Its factorisations are its own.
        factor = cls(H, [kept.approximation.bare()], seed, exact)
        factor._first, factor._lost = kept.first, kept.lost
        return factor

    def carried(self) -> Kept | None:
        """Return the approximation that was chosen, if one was, and its counts."""
        if self.approximation is None:
            return None
        return Kept(self.approximation.bare(), self._first, self._lost)

    @property
    def choice(self) -> Choice | None:
        """What was chosen, once it is."""
        return None if self.approximation is None else self.approximation.choice

    @property
    def approximation(self) -> Approximation | None:
        """The chosen approximation, once it is."""
        return self._open[0] if len(self._open) == 1 else None

    @property
    def iterations(self) -> int | None:
        """Iterations that the last step preconditioned by it took."""
        return self._iterations

    @iterations.setter
    def iterations(self, n: int) -> None:
        self._iterations = n
        if self._first is None:
            self._first = n
        self._lost += max(n - self._first, 0)

    # ---- the choice -----------------------------------------------------------------

    def choose_by_error(self, n_vectors: int = 8) -> None:
        """Keep the approximation with the least error of random products."""
        if len(self._open) > 1:
            Z = self._random(n_vectors)
            exact = self._times(Z)
            errors = [np.linalg.norm(A @ Z - exact) for A in self._open]
            self._open = [self._open[int(np.argmin(errors))]]

    def choose_by_trial(self, damping: float) -> None:
        """Keep the preconditioner whose short iteration minimises q(x) best."""
        if len(self._open) == 1:
            return
        norms = [self._error_norm(A) for A in self._open]
        tried = [
            A.shifted(multiple, norm) if multiple else A
            for A, norm in zip(self._open, norms, strict=True)
            for multiple in (0.0, _SHIFT)
        ]
        best, least = tried[0], np.inf
        for A in tried:
            value = self._trial(A, damping)
            loser = A
            if value < least:
                best, loser, least = A, best, value
            if loser is not best:
                loser.forget()
        self._open = [best]

    def _trial(self, approximation: Approximation, damping: float) -> float:
        b, shift = self._random(1)[:, 0], self._H.dtype.type(damping)
        iterates = conjugate_gradients(
            lambda x: self._times(x) + shift * x,
            b,
            lambda r: approximation.solve(r, damping),
        )
        value = np.inf
        try:
            for _, _, value in islice(iterates, _TRIAL + 1):  # noqa: B007
                pass
        except LinAlgError:
            return np.inf
        return value

    def _error_norm(self, approximation: Approximation) -> float:
        v = self._random(1)[:, 0]
        for _ in range(_POWER):
            v = v / (np.linalg.norm(v) or 1)
            v = self._times(v) - approximation @ v
        return float(np.linalg.norm(v))

    def _random(self, n: int) -> Array:
        rng = np.random.default_rng(self._seed)
        return rng.standard_normal((self._H.shape[0], n)).astype(self._H.dtype)

    def _times(self, V: Array) -> Array:
        self.products += V[0].size
        return self._H @ V

    # ---- the chosen one -------------------------------------------------------------

    def detached(self, damping: float) -> "HMatrixFactor":
        """Return it without H: the approximation, which draws can't be made from."""
        self.choose_by_trial(damping)
        return self._without_matrix()

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs`` of the approximation."""
        self.choose_by_trial(damping)
        return self._open[0].solve(rhs, damping)

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)`` of the approximation.

        Where that is of a sample, of one of all rows, made once: what the sample lacks
        a preconditioner can do without, but not a determinant.
        """
        if self._exact is not None:
            if self._exact_factor is None:
                self._exact_factor = self._exact.factor(self._H)
            return self._exact_factor.logdet(damping)
        self.choose_by_trial(damping)
        return self._open[0].logdet(damping)
