"""The last m gradients, and solves with the matrix that they make."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_solve

from skgnh.linalg import check_count, check_number, check_vector
from skgnh.memory import require
from skgnh.operators.rank_one import RankOneInverse, factorised_gram

Array = Any


class GradientBuffer:
    r"""Ring buffer of at most m gradients, with solves: M-FAC, dynamic.

    It stands for :math:`F = \lambda I + \frac1k G^T G` of the k gradients that it
    holds. A new one takes the place of the oldest, which changes one row and column of
    the Gram matrix :math:`G G^T`, and

    .. math:: F^{-1} x = \frac1\lambda
              \bigl(x - G^T (G G^T + k \lambda I)^{-1} G x\bigr).

    For a gradient that it holds, of row i, this is

    .. math:: F^{-1} g_i = k\, G^T (G G^T + k \lambda I)^{-1} e_i ,

    since :math:`G G^T (G G^T + k \lambda I)^{-1} = I - k \lambda (G G^T + k \lambda
    I)^{-1}`: half of the passes over G, and no difference of near numbers.

    Parameters
    ----------
    n_gradients : int
        Most gradients m.
    n_parameters : int
        Length P of a gradient.
    dtype : dtype, default=float64
        Precision of the gradients; the Gram matrix is held in double.

    Raises
    ------
    ValueError
        If a number is below one, or the buffer exceeds the working memory.

    Notes
    -----
    To replace a gradient costs O(P m), one pass over G, the first solve for a damping
    after it O(m^3), and a solve O(P m + m^2), two passes, or one by
    :meth:`solve_last`. Memory: m P numbers.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic, D. Alistarh, "M-FAC: efficient matrix-free
           approximations of second-order information", NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import GradientBuffer
    >>> buffer = GradientBuffer(n_gradients=2, n_parameters=3)
    >>> for gradient in np.array([[5.0, 0, 0], [1, 1, 0], [0, 2, 0]]):
    ...     buffer.append(gradient)
    >>> buffer.solve(np.array([1.5, 3.5, 1.0]), damping=0.5).round(12)
    array([1., 1., 2.])
    >>> (2.75 * buffer.solve_last(damping=0.5)).round(12)
    array([-1.,  2.,  0.])
    """

    def __init__(self, n_gradients: int, n_parameters: int, dtype: Any = np.float64):
        check_count(n_gradients, "n_gradients")
        check_count(n_parameters, "n_parameters")
        dtype = np.dtype(dtype)
        require(
            n_gradients * (n_parameters * dtype.itemsize + 16 * n_gradients),
            f"The buffer of {n_gradients} gradients of {n_parameters} parameters",
            "Keep fewer gradients",
        )
        self._G = np.zeros((n_gradients, n_parameters), dtype)
        self._K = np.zeros((n_gradients, n_gradients))
        self._count, self._next = 0, 0
        self._factor: tuple[float | None, Any] = (None, None)

    def __len__(self) -> int:
        """Return how many gradients it holds."""
        return self._count

    @property
    def capacity(self) -> int:
        """The most gradients that it holds."""
        return len(self._G)

    @property
    def gradients(self) -> Array:
        """The gradients that it holds, of shape (k, P), in no order."""
        return self._G[: self._count]

    def append(self, gradient: Array) -> None:
        """Take a gradient of shape (P,), in the place of the oldest if it is full.

        Raises
        ------
        ValueError
            If it is of another shape.
        numpy.linalg.LinAlgError
            If it is not finite; the buffer is then as before.
        """
        gradient = np.asarray(gradient)
        if gradient.shape != self._G.shape[1:]:
            raise ValueError(
                f"A gradient has shape {gradient.shape}, expected {self._G.shape[1:]}."
            )
        if not np.isfinite(gradient).all():
            raise LinAlgError("The gradient is not finite.")
        place = self._next
        self._G[place] = gradient
        self._next = (place + 1) % len(self._G)
        self._count = max(self._count, place + 1)
        products = self.gradients @ self._G[place]
        self._K[place, : self._count] = self._K[: self._count, place] = products
        self._factor = (None, None)

    def _factorised(self, damping: float) -> tuple[Array, float]:
        check_number(damping, "damping")
        if not damping > 0:
            raise LinAlgError("Gradients alone are singular: take a positive damping.")
        if self._factor[0] != damping:
            k = self._count
            self._factor = (damping, factorised_gram(self._K[:k, :k], k * damping))
        return self._factor[1]

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return ``F^-1 rhs`` for a right-hand side of shape (P,) or (P, k).

        Raises
        ------
        numpy.linalg.LinAlgError
            If F is not positive definite to rounding: raise the damping.
        """
        check_vector(rhs, "rhs", self._G.shape[1], columns=True)
        x = np.asarray(rhs, dtype=self._G.dtype)
        L, _ = self._factorised(damping)
        G, scale = self.gradients, x.dtype.type(damping)
        if not len(G):
            return x / scale
        inside = cho_solve((L, True), (G @ x).astype(np.float64), check_finite=False)
        return (x - G.T @ inside.astype(x.dtype)) / scale

    def solve_last(self, damping: float) -> Array:
        """Return ``F^-1 g`` of the gradient that was appended last, of shape (P,).

        Raises
        ------
        ValueError
            If it holds none.
        numpy.linalg.LinAlgError
            If F is not positive definite to rounding: raise the damping.
        """
        if not self._count:
            raise ValueError("The buffer holds no gradient.")
        L, _ = self._factorised(damping)
        unit = np.zeros(self._count)
        unit[self._next - 1] = self._count
        inside = cho_solve((L, True), unit, check_finite=False)
        return inside.astype(self._G.dtype) @ self.gradients

    def logdet(self, damping: float) -> float:
        """Return ``log det F``."""
        return self._G.shape[1] * float(np.log(damping)) + self._factorised(damping)[1]

    def inverse(self, damping: float, block_size: int | None = None) -> RankOneInverse:
        """Return the inverse as an operator with entries, made of what it holds now."""
        return RankOneInverse(self.gradients, damping, block_size)
