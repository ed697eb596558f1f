"""A global low-rank approximation of H."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.linalg.nystrom import nystrom
from skgnh.solvers.base import Factor
from skgnh.solvers.preconditioned import Preconditioned

Array = Any


class Nystrom(Preconditioned):
    r"""Randomised Nyström approximation :math:`H \approx U \Lambda U^T` of rank k.

    As a preconditioner the rest of the spectrum is taken to be :math:`\lambda_k`:

    .. math:: M^{-1} = \frac{1}{\lambda_k + \lambda} (I - U U^T)
              + U (\Lambda + \lambda I)^{-1} U^T.

    It needs ``(1 + power) k`` products once and O(P k) a solve and numbers of memory.

    Parameters
    ----------
    rank : int, default=100
        Rank k.
    power : int, default=2
        Products with H of the random start, each followed by an orthogonalisation.
    random_state : int, default=0
        Seed.
    max_iter, tol, rtol, decay, direct
        See :class:`skgnh.solvers.preconditioned.Preconditioned`.

    References
    ----------
    .. [1] Z. Frangella, J. Tropp, M. Udell, "Randomized Nyström preconditioning",
           SIMAX 44(2), 2023.
    """

    cost = "12 n P rank, 4 n P an iteration"
    memory = "P rank"
    use = "a spectrum that falls fast: classifiers late in training"

    def __init__(
        self,
        rank: int = 100,
        power: int = 2,
        random_state: int = 0,
        max_iter: int = 50,
        tol: float = 5e-4,
        rtol: float | None = None,
        decay: float = 0.95,
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, decay, direct)
        self.rank = rank
        self.power = power
        self.random_state = random_state

    def _approximate(self, H: Any, previous: Factor | None) -> "LowRankFactor":
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}.")
        rng = np.random.default_rng(self.random_state)
        G = nystrom(H, min(self.rank, H.shape[0]), rng, self.power)
        return LowRankFactor(G, 0.0 if self.direct else 1.0)


class LowRankFactor(Factor):
    """``U Lambda U^T``, and `tail` times its least eigenvalue on the complement."""

    def __init__(self, G: Array, tail: float):
        U, singular, _ = np.linalg.svd(G, full_matrices=False)
        self._U, self._values = U, singular**2
        self._tail = tail * (self._values[-1] if len(singular) else 0)

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return the solution of the damped approximation."""
        damping, columns = self._U.dtype.type(damping), rhs.reshape(len(rhs), -1)
        inside = self._U.T @ columns
        rest = self._tail + damping
        if not rest > 0:
            raise LinAlgError("A low-rank approximation needs a positive damping.")
        scale = rest / (self._values + damping) - 1
        x = (columns + self._U @ (scale[:, None] * inside)) / rest
        return x.reshape(rhs.shape)
