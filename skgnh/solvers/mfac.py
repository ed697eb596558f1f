"""The inverse of the last gradients, M-FAC, as a preconditioner or by itself."""

from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.linalg import Curvature, check_choice, check_count, check_seed
from skgnh.memory import rows_per_chunk
from skgnh.operators import GradientBuffer
from skgnh.solvers.base import Factor, Price, sizes
from skgnh.solvers.preconditioned import Preconditioned, is_of

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
    max_iter, tol, rtol, direct
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
    the buffer H is taken to be zero, its ridge too, and the damping is all that holds a
    step back: with ``direct=True`` the answers are those of this matrix.

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
    ...     (16,), solver=solver, batch_size=200, damping=1e3, tol=2e-2, random_state=0
    ... )
    >>> model.fit(X / 16, y).score(X / 16, y) > 0.9
    True
    """

    requires = ("root",)
    cost = "(2 n P + P m) n_new + m^3 / 6 + (4 n P + 2 P m) max_iter"
    memory = "P m + n W"
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
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, direct)
        self.n_gradients = n_gradients
        self.source = source
        self.n_new = n_new
        self.random_state = random_state

    def _factor(self, H: Curvature, carried: Any) -> Factor:
        if self.direct:
            # The buffer is the state of a training, also without an iteration.
            return self._approximate(H, carried)
        return super()._factor(H, carried)

    def _parts(self, H: Curvature) -> tuple[Price, float]:
        n, _, _, P = sizes(H)
        m = self.n_gradients
        made = (2 * n * P + P * m) * self.n_new + m**3 / 6
        return Price(made, P * m), 2 * P * m

    def _approximate(self, H: Curvature, kept: Any) -> "BufferFactor":
        check_choice(self.source, "source", _SOURCES)
        check_count(self.n_new, "n_new")
        check_seed(self.random_state)
        if self.source == "gradient" and not self.direct:
            raise ValueError(
                "source='gradient' needs direct=True: an iteration's right-hand sides "
                "are residuals."
            )
        if isinstance(kept, Window) and kept.fits(H, self.n_gradients):
            # The record stays as it is for whoever goes on from it once more.
            (buffer, rng), n_draws = deepcopy(kept), self.n_new
        else:
            buffer = GradientBuffer(self.n_gradients, H.shape[0], H.dtype)
            rng, n_draws = np.random.default_rng(self.random_state), self.n_gradients
        if self.source == "gradient":
            return BufferFactor(H, Window(buffer, rng), 0, takes_gradient=True)
        for gradient in curvature_draws(H.root, min(n_draws, self.n_gradients), rng):
            buffer.append(gradient)
        return BufferFactor(H, Window(buffer, rng), n_draws)


class Window(NamedTuple):
    """The buffer as it goes from point to point, and what its signs are drawn from."""

    buffer: GradientBuffer
    rng: Any

    def fits(self, H: Curvature, n_gradients: int) -> bool:
        """Say whether it holds so many vectors of H."""
        return self.buffer.capacity == n_gradients and is_of(self.buffer.gradients, H)


def curvature_draws(root: Any, n_draws: int, rng: Any) -> Any:
    """Yield independent ``J_S^T u`` of random signs u: O(n P) each."""
    rows, itemsize = root.shape[0], root.dtype.itemsize
    size = rows_per_chunk(2 * sum(root.shape) * itemsize)
    for start in range(0, n_draws, size):
        signs = rng.integers(0, 2, (rows, min(size, n_draws - start)), dtype=np.int8)
        yield from (root.T @ (2 * signs - 1).astype(root.dtype)).T


class BufferFactor(Factor):
    """The solves of a window; all that it answers is of the matrix that it makes."""

    name = "MFAC"

    def __init__(
        self,
        H: Curvature,
        window: Window,
        n_draws: int,
        takes_gradient: bool = False,
    ):
        super().__init__(H)
        self._window = window
        # A draw is a backward pass, half of a product.
        self.products = (n_draws + 1) // 2
        self._takes_gradient, self._taken = takes_gradient, None

    @property
    def buffer(self) -> GradientBuffer:
        """The gradients."""
        return self._window.buffer

    def carried(self) -> Window:
        """Return the window."""
        return self._window

    def _solve(self, rhs: Array, damping: float) -> Array:
        """Return the solution of the damped sum; see :meth:`Factor.solve`."""
        if self._takes_gradient and rhs.ndim == 1:
            self.buffer.append(rhs)
            self._takes_gradient, self._taken = False, rhs
        _check(damping)
        if self._taken is not None and np.array_equal(rhs, self._taken):
            # As at every damping of a point: its products are in the Gram matrix.
            return self.buffer.solve_last(damping)
        return self.buffer.solve(rhs, damping)

    def logdet(self, damping: float) -> float:
        """Return ``log det`` of the damped sum."""
        _check(damping)
        return self.buffer.logdet(damping)

    def diagonal_of_inverse(self, damping: float) -> Array:
        """Return the diagonal of the inverse of the damped sum: O(P m^2)."""
        _check(damping)
        return self.buffer.inverse(damping).diagonal()

    def draw(self, rng: Any, n: int, damping: float) -> Array:
        """Draw with the covariance of the inverse of the damped sum."""
        _check(damping)
        G = self.buffer.gradients
        pushed = (
            G.T @ self._normal(rng, len(G), n) / G.dtype.type(max(len(G), 1) ** 0.5)
        )
        moved = G.dtype.type(damping**0.5) * self._normal(rng, G.shape[1], n)
        return self.buffer.solve(pushed + moved, damping)


def _check(damping: float) -> None:
    if not damping > 0:
        raise LinAlgError("A sum of rank-one matrices needs a positive damping.")
