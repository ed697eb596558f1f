"""The inverse of the last gradients, M-FAC, as a preconditioner or by itself."""

from numbers import Integral
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.memory import rows_per_chunk
from skgnh.operators import GradientBuffer
from skgnh.solvers.base import Factor
from skgnh.solvers.preconditioned import Preconditioned

Array = Any

_SOURCES = ("curvature", "gradient")


class MFAC(Preconditioned):
    r"""Solver by a sum of rank-one matrices that is kept from point to point.

    .. math:: H \approx \frac1m \sum_{k=1}^m g_k g_k^T

    of the last m gradients in a ring buffer,
    :class:`skgnh.operators.GradientBuffer`. What enters is by default a random draw
    of the curvature, :math:`g = J_S^T u` with random signs u, for which
    :math:`E\, g g^T = J_S^T J_S`: m of them at the first point, and `n_new` at every
    further one. With `source='gradient'` it is the right-hand side, the gradient of the
    objective at each point, as in the paper: an empirical Fisher matrix, which is near
    H only in the noise of mini-batches, and gives steps of another length.

    Parameters
    ----------
    n_gradients : int, default=64
        Gradients m in the buffer.
    source : {'curvature', 'gradient'}, default='curvature'
        What enters it; 'gradient' needs `direct`.
    n_new : int, default=1
        Draws at each point after the first.
    random_state : int, default=0
        Seed of the signs.
    max_iter, tol, rtol, decay, direct
        See :class:`skgnh.solvers.preconditioned.Preconditioned`. For mini-batches take
        ``direct=True``: a step then costs no product beyond the one that checks it.

    Raises
    ------
    ValueError
        If a parameter is off, or the buffer exceeds the working memory.

    Notes
    -----
    A draw costs a backward pass, O(n P), and O(P m) in the buffer; a damping O(m^3),
    and a solve, or an iteration's preconditioning, O(P m + m^2). Outside the span of
    the buffer H is taken to be zero, and the damping is all that holds a step back.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic, D. Alistarh, "M-FAC: efficient matrix-free
           approximations of second-order information", NeurIPS 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.solvers import MFAC
    >>> X, y = load_digits(return_X_y=True)
    >>> solver = MFAC(n_gradients=32, direct=True)
    >>> model = GaussNewtonMLPClassifier(
    ...     (32,), solver=solver, batch_size=200, damping=1e3, tol=1e-2, random_state=0
    ... )
    >>> model.fit(X / 16, y).score(X / 16, y) > 0.9
    True
    """

    requires = ("root",)
    cost = "2 n P n_new + 6 P m, 4 n P an iteration"
    memory = "P m"
    use = "mini-batches, by direct=True"

    def __init__(
        self,
        n_gradients: int = 64,
        source: str = "curvature",
        n_new: int = 1,
        random_state: int = 0,
        max_iter: int = 50,
        tol: float = 5e-4,
        rtol: float | None = None,
        decay: float = 0.95,
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, decay, direct)
        self.n_gradients = n_gradients
        self.source = source
        self.n_new = n_new
        self.random_state = random_state

    def _factor(self, H: Any, previous: Factor | None) -> Factor:
        if self.direct:
            # The buffer is the state of a training, also without an iteration.
            return self._approximate(H, previous)
        return super()._factor(H, previous)

    def _approximate(self, H: Any, previous: Factor | None) -> "BufferFactor":
        if self.source not in _SOURCES:
            raise ValueError(
                f"Unknown source {self.source!r}; choose among {_SOURCES}."
            )
        if self.source == "gradient" and not self.direct:
            raise ValueError(
                "source='gradient' needs direct=True: an iteration's right-hand sides "
                "are residuals."
            )
        if not (isinstance(self.n_new, Integral) and self.n_new >= 1):
            raise ValueError(f"n_new must be an integer >= 1, got {self.n_new!r}.")
        goes_on = isinstance(previous, BufferFactor) and previous.fits(H)
        if goes_on:
            buffer, rng, n_draws = previous.buffer, previous.rng, self.n_new
        else:
            buffer = GradientBuffer(self.n_gradients, H.shape[0], H.dtype)
            rng, n_draws = np.random.default_rng(self.random_state), self.n_gradients
        if self.source == "gradient":
            return BufferFactor(buffer, rng, 0, takes_gradient=True)
        for gradient in curvature_draws(H.root, min(n_draws, self.n_gradients), rng):
            buffer.append(gradient)
        return BufferFactor(buffer, rng, n_draws)


def curvature_draws(root: Any, n_draws: int, rng: Any) -> Any:
    """Yield independent ``J_S^T u`` of random signs u: O(n P) each."""
    rows, itemsize = root.shape[0], root.dtype.itemsize
    size = rows_per_chunk(2 * sum(root.shape) * itemsize)
    for start in range(0, n_draws, size):
        signs = rng.integers(0, 2, (rows, min(size, n_draws - start)), dtype=np.int8)
        yield from (root.T @ (2 * signs - 1).astype(root.dtype)).T


class BufferFactor(Factor):
    """The buffer as it goes from point to point; the latest factor owns it."""

    def __init__(
        self,
        buffer: GradientBuffer,
        rng: Any,
        n_draws: int,
        takes_gradient: bool = False,
    ):
        self.buffer, self.rng = buffer, rng
        # A draw is a backward pass, half of a product.
        self._products = (n_draws + 1) // 2
        self._takes_gradient = takes_gradient

    @property
    def products(self) -> int:
        """Products with H that the draws are worth."""
        return self._products

    def fits(self, H: Any) -> bool:
        """Say whether H is of the size and precision of the buffer."""
        gradients = self.buffer.gradients
        return gradients.shape[1:] == H.shape[1:] and gradients.dtype == H.dtype

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return the solution of the damped sum; see :meth:`Factor.solve`."""
        if self._takes_gradient and rhs.ndim == 1:
            self.buffer.append(rhs)
            self._takes_gradient = False
        if not damping > 0:
            raise LinAlgError("A sum of rank-one matrices needs a positive damping.")
        return self.buffer.solve(rhs, damping)

    def logdet(self, damping: float) -> float:
        """Return ``log det`` of the damped sum."""
        return self.buffer.logdet(damping)
