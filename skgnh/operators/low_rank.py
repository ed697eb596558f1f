"""A Gauss-Newton Hessian of low rank."""

from typing import Any

import numpy as np

from skgnh.linalg import Curvature

Array = Any


class LowRankHessian(Curvature):
    r"""A Gauss-Newton Hessian whose root is known by a few singular vectors.

    .. math:: J_S \approx U \,\mathrm{diag}(s)\, V^T, \qquad
              H = V \,\mathrm{diag}(s)^2\, V^T + \mathrm{diag}(ridge)

    A Gauss-Newton system does not see U: its root is :math:`\mathrm{diag}(s)\, V^T`,
    of shape (k, P), so that the dual solver `gram` is exact at O(P k^2).

    Parameters
    ----------
    left : ndarray of shape (n r, k)
        U, with orthonormal columns.
    values : ndarray of shape (k,)
        s, singular values.
    right : ndarray of shape (P, k)
        V, with orthonormal columns.
    ridge : ndarray of shape (P,), optional
        Curvature of the penalty; zero if None.

    Attributes
    ----------
    root : ndarray of shape (k, P)
        ``H = root.T @ root + diag(ridge)``.

    Notes
    -----
    Products, diagonal and entries cost O(k) a number that is read or returned.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import LowRankHessian
    >>> H = LowRankHessian(np.ones((1, 1)), np.array([2.0]), np.eye(3)[:, :1])
    >>> H.diagonal()
    array([4., 0., 0.])
    """

    offers = Curvature.offers | {"entries", "toarray", "root", "gram"}

    def __init__(
        self, left: Array, values: Array, right: Array, ridge: Array | None = None
    ):
        k, P = len(values), len(right)
        if left.shape[1:] != (k,) or right.shape[1:] != (k,):
            raise ValueError(
                f"{k} singular values need as many columns on either side, got shapes "
                f"{left.shape} and {right.shape}."
            )
        self.left, self.values, self.right = left, values, right
        self.ridge = np.zeros(P, right.dtype) if ridge is None else ridge
        self.root = np.ascontiguousarray((right * values).T)
        super().__init__(right.dtype, (P, P))

    @property
    def costs(self) -> tuple[float, float]:
        """Operations of a product, a column, and of an entry: 4 k P and 2 k."""
        return 4.0 * self.root.size, 2.0 * len(self.root)

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V, dtype=self.dtype)
        return self.root.T @ (self.root @ V) + self.ridge[:, None] * V

    def columns(self, index: Array) -> Array:
        """Return columns of the root, of shape (k, m)."""
        return self.root[:, index]

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block ``H[rows, columns]``."""
        rows, columns = np.asarray(rows), np.asarray(columns)
        same = rows[:, None] == columns
        out = self.root[:, rows].T @ self.root[:, columns]
        return out + np.where(same, self.ridge[columns], self.dtype.type(0))

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal, exactly: probes are never drawn."""
        return np.einsum("kp,kp->p", self.root, self.root) + self.ridge

    def trace(self) -> float:
        """Return the trace."""
        return float((self.values**2).sum() + self.ridge.sum())

    def gram(self, scale: Array | None = None) -> Array:
        """Return ``root diag(scale) root^T``; without a scale it is diagonal."""
        if scale is None:
            return np.diag(self.values**2)
        return (self.root * scale) @ self.root.T

    def gram_by_ridge(self) -> list[tuple[float, Array]]:
        """Return the Gram matrix split over the parameters of equal ridge.

        Returns
        -------
        list of (float, ndarray of shape (k, k))
            Value of the ridge and the part of ``root @ root.T`` that it belongs to.
        """
        parts = []
        for value in np.unique(self.ridge):
            some = self.root[:, self.ridge == value]
            parts.append((float(value), some @ some.T))
        return parts

    def _array(self) -> Array:
        out = self.root.T @ self.root
        out.flat[:: len(out) + 1] += self.ridge
        return out
