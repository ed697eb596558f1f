"""A global low-rank approximation of H."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.linalg import Curvature, check_count, check_seed, nystrom
from skgnh.solvers.base import Factor, Price, sizes
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
    max_iter, tol, rtol, direct
        See :class:`skgnh.solvers.preconditioned.Preconditioned`.

    References
    ----------
    .. [1] Z. Frangella, J. Tropp, M. Udell, "Randomized Nyström preconditioning",
           SIMAX 44(2), 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_friedman1
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.operators import GaussNewtonHessian
    >>> from skgnh.solvers import Nystrom
    >>> X, y = make_friedman1(20, random_state=0)
    >>> model = GaussNewtonMLPRegressor(hidden_layer_sizes=10, random_state=0).fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(model, X, y)
    >>> b = np.ones(H.shape[0])
    >>> x = Nystrom(rank=20, rtol=1e-7).factor(H).solve(b, damping=0.1)
    >>> bool(np.linalg.norm(H @ x + 0.1 * x - b) < 1e-6 * np.linalg.norm(b))
    True
    """

    cost = "4 n P (1 + power) rank + 4 P rank^2 + (4 n P + 2 P rank) max_iter"
    memory = "P rank + n W"
    use = "a spectrum that falls fast: classifiers late in training"

    def __init__(
        self,
        rank: int = 100,
        power: int = 2,
        random_state: int = 0,
        max_iter: int = 50,
        tol: float = 5e-4,
        rtol: float | None = None,
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, direct)
        self.rank = rank
        self.power = power
        self.random_state = random_state

    def _approximate(self, H: Curvature, kept: Any) -> "LowRankFactor":
        check_count(self.rank, "rank")
        check_seed(self.random_state)
        rng = np.random.default_rng(self.random_state)
        G = nystrom(H, min(self.rank, H.shape[0]), rng, self.power)
        return LowRankFactor(H, G, 0.0 if self.direct else 1.0)

    def _parts(self, H: Curvature) -> tuple[Price, float]:
        n, _, _, P = sizes(H)
        k = min(self.rank, P)
        made = 4 * n * P * (1 + self.power) * k + 4 * P * k**2
        return Price(made, P * k), 2 * P * k


class LowRankFactor(Factor):
    """``U Lambda U^T``, and `tail` times its least eigenvalue on the complement.

    What it answers is of this approximation, exactly; its log-determinant has no tail.
    """

    name = "Nystrom"

    def __init__(self, H: Curvature, G: Array, tail: float):
        super().__init__(H)
        U, singular, _ = np.linalg.svd(G, full_matrices=False)
        self._U, self._values = U, singular**2
        self._tail = tail * (self._values[-1] if len(singular) else 0)

    def detached(self, damping: float) -> "LowRankFactor":
        """Return it without H: P k numbers."""
        return self._without_matrix()

    def _power(self, X: Array, damping: float, exponent: float) -> Array:
        """Return a power of the damped approximation times X, of shape (P, k)."""
        rest = self._rest(damping)
        inside = (self._values + damping) ** exponent / rest**exponent - 1
        inside = inside.astype(X.dtype)[:, None] * (self._U.T @ X)
        return (X + self._U @ inside) * X.dtype.type(rest**exponent)

    def _rest(self, damping: float) -> float:
        rest = float(self._tail) + damping
        if not rest > 0:
            raise LinAlgError("A low-rank approximation needs a positive damping.")
        return rest

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return the solution of the damped approximation."""
        columns = rhs.reshape(len(rhs), -1)
        return self._power(columns, damping, -1.0).reshape(rhs.shape)

    def logdet(self, damping: float) -> float:
        """Return ``log det (U Lambda U^T + damping I)``: at most that of H."""
        if not damping > 0:
            raise LinAlgError("A low-rank approximation needs a positive damping.")
        P, k = self._U.shape
        inside = np.log(self._values.astype(np.float64) + damping).sum()
        return float(inside + (P - k) * np.log(damping))

    def diagonal_of_inverse(self, damping: float) -> Array:
        """Return the diagonal of the inverse of the damped approximation: O(P k)."""
        rest = self._rest(damping)
        inside = 1 / (self._values + damping) - 1 / rest
        return self._U**2 @ inside.astype(self._U.dtype) + self._U.dtype.type(1 / rest)

    def draw(self, rng: Any, n: int, damping: float) -> Array:
        """Draw with the covariance of the inverse of the approximation."""
        return self._power(self._normal(rng, len(self._U), n), damping, -0.5)
