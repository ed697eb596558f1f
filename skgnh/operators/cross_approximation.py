"""The root of a Gauss-Newton Hessian from a few of its rows and columns."""

from typing import Any

import numpy as np

from skgnh.linalg import check_count, check_number
from skgnh.memory import require
from skgnh.operators.low_rank import LowRankHessian
from skgnh.operators.random import generator

Array = Any

# Rows drawn to tell the error. Crosses beyond the rank: rounding the crosses leaves the
# best of them.
_DRAWN, _CROSSES, _MORE = 32, 2, 8


def compress_jacobian(
    H: Any,
    rank: int | None = None,
    tol: float = 0.0,
    random_state: int | np.random.Generator | None = None,
) -> LowRankHessian:
    r"""Return a low-rank Gauss-Newton Hessian by adaptive cross approximation.

    The root J_S, n r x P, is approximated by crosses of its rows and columns,

    .. math:: R_0 = J_S, \qquad
              R_{k+1} = R_k - \frac{R_k e_j\, e_i^T R_k}{e_i^T R_k e_j},

    about twice as many as the rank asked for, and their sum is rounded to
    :math:`U \,\mathrm{diag}(s)\, V^T` by two QR factorisations and an SVD. The pivot j
    is the largest entry of the residual's row i. Row i is the one of largest residual
    among three kinds: where the last column was largest (partial pivoting, which alone
    may stop early); where :math:`|\,\|e_i^T J_S\| - \|e_i^T U V^T\|\,|`, which bounds
    the row's residual from below and costs no row, is largest; and 32 random ones,
    which also estimate the error, half of them drawn by norm. Before it ends, the
    norms of the columns are compared too, and as many rows are drawn anew.

    Parameters
    ----------
    H : GaussNewtonHessian
        The operator; its ridge stays as it is.
    rank : int, optional
        Most columns of U and V. By default as many as `tol` takes.
    tol : float, default=0
        Stop once the error is estimated to be below ``tol * ||J_S||_F``.
    random_state : int, Generator or RandomState, optional
        Seed of the rows drawn.

    Returns
    -------
    LowRankHessian
        ``V diag(s)^2 V^T + diag(ridge)``, for any solver but `kfac`; J_S itself is
        about ``left @ np.diag(values) @ right.T``.

    Raises
    ------
    ValueError
        If neither `rank` nor `tol` says when to stop, either is off, or the factors
        exceed the working memory.
    numpy.linalg.LinAlgError
        If J_S is not finite.

    Notes
    -----
    O(k (k + 32) (n r + P)) and 2 k columns and 4 k rows of J_S, each O(n r) and O(P)
    from the lists of layer inputs and carried-back roots. Where these do not fit the
    working memory, every column costs r backward passes over all rows.

    References
    ----------
    .. [1] M. Bebendorf, "Approximation of boundary element matrices", Numerische
           Mathematik 86, 2000.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.operators import GaussNewtonHessian, compress_jacobian
    >>> from skgnh.solvers import Gram
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(8, solver="lbfgs", alpha=1, max_iter=999, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(mlp, X, y)
    >>> low_rank = compress_jacobian(H, rank=12, random_state=0)
    >>> low_rank.right.shape
    (67, 12)
    >>> Gram().factor(low_rank).solve(X[0].repeat(17)[:67], damping=0.1).shape
    (67,)
    """
    check_number(tol, "tol", 0, 1)
    if rank is None and not tol:
        raise ValueError("Give a rank, a tol above 0, or both.")
    if rank is not None:
        check_count(rank, "rank")
    left, values, right = approximate(H.root, rank, tol, generator(random_state))
    return LowRankHessian(left, values, right, H.ridge)


def approximate(A: Any, rank: int | None, tol: float, rng: Any) -> tuple:
    """Return U, s and V of a matrix given by its rows, columns and row norms.

    Parameters
    ----------
    A : object of shape (m, P)
        With ``rows(index)``, ``columns(index)`` and squared norms: ``row_norms()``,
        of m numbers in all, and ``column_norms()``.
    rank : int or None
        Most columns.
    tol : float
        Relative error to stop at.
    rng : Generator
        Source of the rows drawn.

    Returns
    -------
    tuple of ndarrays of shape (m, k), (k,) and (P, k)
        U and V with orthonormal columns, s falling.
    """
    limit = min(A.shape) if rank is None else _CROSSES * rank + _MORE
    crosses = _Crosses(A, min(limit, *A.shape))
    # Crosses leave a third of the tolerance, rounding most of it.
    floor = 8 * np.finfo(A.dtype).eps
    goal = max(tol / 3, floor) * crosses.whole
    drawn = _Drawn(crosses, rng)
    while crosses.count < crosses.limit:
        row = _largest(crosses, drawn)
        if max(drawn.error(), np.linalg.norm(crosses.row_deficits())) <= goal:
            if np.linalg.norm(crosses.column_deficits()) > goal:
                row = crosses.row_of(int(np.argmax(crosses.column_deficits())))
            else:
                drawn = _Drawn(crosses, rng)
                if drawn.error() <= goal:
                    break
                row = _largest(crosses, drawn)
        u, v = crosses.add(row)
        drawn.rows -= np.outer(u[drawn.index], v)
    left, values, right = crosses.rounded()
    tails = np.sqrt(np.cumsum(values[::-1].astype(np.float64) ** 2))[::-1]
    k = int(np.count_nonzero(tails > max(0.9 * tol, floor) * crosses.whole))
    k = k if rank is None else min(k, rank)
    return left[:, :k], values[:k], right[:, :k]


class _Crosses:
    """The sum of crosses taken so far, and what it leaves."""

    def __init__(self, A: Any, limit: int):
        self._A, self.limit, self.count = A, limit, 0
        self._U, self._V = (np.empty((0, size), A.dtype) for size in A.shape)
        self.norms, self._column_norms = (
            np.sqrt(squares.ravel().astype(np.float64))
            for squares in (A.row_norms(), A.column_norms())
        )
        self.whole = np.linalg.norm(self.norms)
        if not np.isfinite(self.whole):
            raise np.linalg.LinAlgError("The root is not finite.")
        # Squared norms of the sum's rows and columns.
        self._taken, self._column_taken = map(np.zeros, A.shape)
        self.next = int(np.argmax(self.norms))

    @property
    def U(self) -> Array:
        return self._U[: self.count]

    @property
    def V(self) -> Array:
        return self._V[: self.count]

    def row_deficits(self) -> Array:
        """Return a bound from below of the norm of every row that is left."""
        return np.abs(self.norms - np.sqrt(np.maximum(self._taken, 0)))

    def column_deficits(self) -> Array:
        """Return a bound from below of the norm of every column that is left."""
        taken = np.sqrt(np.maximum(self._column_taken, 0))
        return np.abs(self._column_norms - taken)

    def rows(self, index: Array) -> Array:
        """Return rows of what is left."""
        return self._A.rows(index) - self.U[:, index].T @ self.V

    def row_of(self, j: int) -> int:
        """Return the row that has most of a column that is left."""
        return int(np.argmax(np.abs(self._column(j))))

    def _column(self, j: int) -> Array:
        return self._A.columns(np.array([j]))[:, 0] - self.V[:, j] @ self.U

    def add(self, row: int) -> tuple[Array, Array]:
        """Take the cross of a row and its largest column: u v^T."""
        self._grow()
        v = self.rows(np.array([row]))[0]
        j = int(np.argmax(np.abs(v)))
        u = self._column(j) / v[j]
        self._taken += u * (2 * ((self.V @ v) @ self.U) + u * (v @ v))
        self._column_taken += v * (2 * ((self.U @ u) @ self.V) + v * (u @ u))
        self._U[self.count], self._V[self.count] = u, v
        self.count += 1
        self.next = int(np.argmax(np.abs(u) * (np.arange(len(u)) != row)))
        return u, v

    def _grow(self) -> None:
        capacity = len(self._U)
        if self.count < capacity:
            return
        capacity = min(max(8, 2 * capacity), self.limit)
        require(
            3 * capacity * sum(self._A.shape) * self._A.dtype.itemsize,
            f"A cross approximation of rank {capacity}",
            "Ask for a lower rank or a larger tol",
        )
        self._U, self._V = (
            np.concatenate([x, np.empty((capacity - len(x), x.shape[1]), x.dtype)])
            for x in (self._U, self._V)
        )

    def rounded(self) -> tuple[Array, Array, Array]:
        """Return the singular value decomposition of the sum."""
        (P, R), (Q, S) = np.linalg.qr(self.U.T), np.linalg.qr(self.V.T)
        left, values, right = np.linalg.svd(R @ S.T, full_matrices=False)
        return P @ left, values, Q @ right.T


class _Drawn:
    """Random rows of what is left: half of them by norm, half alike."""

    def __init__(self, crosses: _Crosses, rng: Any):
        squares = crosses.norms**2
        p = (squares > 0) + squares * (
            np.count_nonzero(squares) / max(squares.sum(), 1e-300)
        )
        p = p / p.sum() if crosses.whole > 0 else np.full(len(p), 1 / len(p))
        self.index = rng.choice(len(p), _DRAWN, p=p)
        self._p = p[self.index]
        self.rows = crosses.rows(self.index)

    def norms(self) -> Array:
        return np.linalg.norm(self.rows, axis=1)

    def error(self) -> float:
        """Return an estimate of the Frobenius norm of what is left."""
        return float(np.sqrt(np.mean(self.norms().astype(np.float64) ** 2 / self._p)))


def _largest(crosses: _Crosses, drawn: _Drawn) -> int:
    """Return the row to take: of those at hand that with most left."""
    index = np.array([crosses.next, int(np.argmax(crosses.row_deficits()))])
    index = np.concatenate([index, drawn.index])
    norms = [np.linalg.norm(crosses.rows(index[:2]), axis=1), drawn.norms()]
    return int(index[np.argmax(np.concatenate(norms))])
