"""The inverse of a damped sum of rank-one matrices, made once."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cholesky
from scipy.linalg.blas import dtrsm

from skgnh.linalg import Curvature, check_count, checked_index
from skgnh.memory import require, rows_per_chunk, slices

Array = Any


class RankOneInverse(Curvature):
    r"""Inverse of the empirical Fisher matrix of m gradients: M-FAC, static.

    .. math:: F = \lambda I + \frac1m \sum_{i=1}^m g_i g_i^T
              = \lambda I + \frac1m G^T G

    By the identity of Woodbury, with the Cholesky factor of the Gram matrix,

    .. math:: F^{-1} = \frac1\lambda (I - V^T V), \qquad
              V = L^{-1} G, \quad L L^T = G G^T + m \lambda I,

    so that a product costs O(P m), two passes over V, and an entry, which is
    :math:`(\delta_{ab} - v_a^T v_b) / \lambda` for columns of V, O(m) whatever P is.
    The recursion of the paper yields the same matrix.

    Parameters
    ----------
    gradients : array-like of shape (m, P)
        One gradient a row. A memory map is read in chunks of columns.
    damping : float
        Positive :math:`\lambda`.
    block_size : int, optional
        Invert the blocks of so many consecutive parameters on the diagonal, each on
        its own, and take the others as zero: the cost falls where the blocks have less
        than m parameters.
    out : ndarray of shape (min(m, block_size), P), optional
        Where V is written, for example a memory map; in memory if None.

    Attributes
    ----------
    shape : tuple
        ``(P, P)``.
    dtype : dtype
        That of the gradients.

    Raises
    ------
    ValueError
        If an argument is off, or V exceeds the working memory.
    numpy.linalg.LinAlgError
        If the Gram matrix is not positive definite to rounding: raise the damping.

    Notes
    -----
    The precomputation costs O(P m^2 + m^3), with blocks of b parameters
    O(P m min(m, b)), and V is all that is kept. What is of m x m is held in double
    precision. An entry is a difference of numbers of the size 1 / damping, and has the
    digits of that.

    References
    ----------
    .. [1] E. Frantar, E. Kurtic, D. Alistarh, "M-FAC: efficient matrix-free
           approximations of second-order information", NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators import RankOneInverse
    >>> inverse = RankOneInverse([[1.0, 1.0, 0.0], [0.0, 2.0, 0.0]], damping=0.5)
    >>> (inverse @ np.array([1.5, 3.5, 1.0])).round(12)
    array([1., 1., 2.])
    >>> inverse.entries([2], [1, 2])
    array([[0., 2.]])
    """

    offers = Curvature.offers | {"entries"}

    def __init__(
        self,
        gradients: Array,
        damping: float,
        block_size: int | None = None,
        out: Array | None = None,
    ):
        gradients = as_gradients(gradients)
        if not (np.isfinite(damping) and damping > 0):
            raise ValueError(f"damping must be positive and finite, got {damping}.")
        m, P = gradients.shape
        if block_size is not None:
            check_count(block_size, "block_size")
        size = P if block_size is None else min(block_size, P)
        shape = (min(m, size), P)
        if out is None:
            require(
                (shape[0] * shape[1]) * gradients.dtype.itemsize,
                f"The inverse from {m} gradients of {P} parameters",
                "Pass a memory map as out, a smaller block_size or fewer gradients",
            )
            out = np.empty(shape, gradients.dtype)
        elif out.shape != shape or out.dtype != gradients.dtype:
            raise ValueError(
                f"out must be of shape {shape} and {gradients.dtype}, got {out.shape} "
                f"and {out.dtype}."
            )
        super().__init__(gradients.dtype, (P, P))
        self.damping, self.n_gradients, self.block_size = float(damping), m, size
        self._V = out
        self._logdet = P * float(np.log(damping))
        for block in slices(P, size):
            self._invert(gradients, block)

    def _invert(self, gradients: Array, block: slice) -> None:
        """Write the columns of V of one block."""
        m, b = gradients.shape[0], block.stop - block.start
        if b < m:
            # R^T R = G^T G: b rows then say the same as the m.
            G: Array = np.linalg.qr(gradients[:, block].astype(np.float64), mode="r")
            chunks: Iterable[tuple[slice, Array]] = [(block, G)]
        else:
            spans = slices(block.stop, rows_per_chunk(m * 8), start=block.start)
            # Read once more for V, rather than kept.
            chunks = _Columns(gradients, spans)
        K: Array = sum(G @ G.T for _, G in chunks)
        L, logdet = factorised_gram(K, m * self.damping)
        self._logdet += logdet
        for span, G in chunks:
            # V^T L^T = G^T, whose sides are in the order of BLAS as they are.
            V = dtrsm(1.0, L, G.T, side=1, lower=1, trans_a=1).T
            self._V[: len(K), span] = V
            self._V[len(K) :, span] = 0

    @property
    def costs(self) -> tuple[float, float]:
        """Operations of a product, a column, and of an entry: 4 P m and 2 m."""
        return 4.0 * self._V.size, 2.0 * self._V.shape[0]

    def _blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield parameters of some blocks that fit a cache, and their V, (k, r, b)."""
        (r, P), b = self._V.shape, self.block_size
        ragged = P - P % b
        step = b * max(1, rows_per_chunk(r * self.dtype.itemsize) // b)
        for span in (*slices(ragged, step), *slices(P, b, start=ragged)):
            V = self._V[:, span].reshape(r, -1, min(b, span.stop - span.start))
            yield span, V.swapaxes(0, 1)

    def _matmat(self, X: Array) -> Array:
        X, damping = X.astype(self.dtype, copy=False), self.dtype.type(self.damping)
        out = X / damping
        for span, V in self._blocks():
            inside = V @ X[span].reshape(len(V), -1, X.shape[1])
            inside /= damping
            out[span] -= (V.swapaxes(1, 2) @ inside).reshape(-1, X.shape[1])
        return out

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block ``F^-1[rows, columns]``, O(m) an entry.

        Parameters
        ----------
        rows, columns : arrays of int of shape (k,) and (l,)
            Which parameters.

        Returns
        -------
        ndarray of shape (k, l)
            The block.

        Raises
        ------
        ValueError
            If an index is off.
        """
        rows, columns = (checked_index(i, self.shape[0]) for i in (rows, columns))
        out = -(self._V[:, rows].T @ self._V[:, columns])
        if self.block_size < self.shape[0]:
            same = rows[:, None] // self.block_size == columns // self.block_size
            out *= same
        out += rows[:, None] == columns
        return out / self.dtype.type(self.damping)

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal of the inverse, exactly: O(P m)."""
        out = np.empty(self.shape[0], self.dtype)
        for span in slices(len(out), rows_per_chunk(self._V[:, 0].nbytes)):
            V = self._V[:, span]
            out[span] = 1 - np.einsum("ij,ij->j", V, V)
        return out / self.dtype.type(self.damping)

    def logdet(self) -> float:
        """Return ``log det F``, of the matrix itself and not of its inverse."""
        return self._logdet


class _Columns:
    """Chunks of columns of a matrix, read anew in every pass, in double precision."""

    def __init__(self, array: Array, spans: list[slice]):
        self._array, self._spans = array, spans

    def __iter__(self):
        for span in self._spans:
            yield span, np.asarray(self._array[:, span], dtype=np.float64)


def factorised_gram(K: Array, shift: float) -> tuple[Array, float]:
    """Return the Cholesky factor of ``K + shift I``, and ``log det (I + K / shift)``.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not finite, or not positive definite to rounding.
    """
    if not np.isfinite(K).all():
        raise LinAlgError("The gradients are not finite.")
    K = K.copy()
    K.flat[:: len(K) + 1] += shift
    try:
        L = cholesky(K, lower=True, check_finite=False)
    except LinAlgError:
        raise LinAlgError(
            "The Gram matrix of the gradients is not positive definite to rounding: "
            "raise the damping."
        ) from None
    return L, float(np.log(L.diagonal() ** 2 / shift).sum())


def as_gradients(gradients: Array) -> Array:
    """Return an array of shape (m, P) in its floating precision, a memory map as it is.

    Raises
    ------
    ValueError
        If it has no row, no column, or is no matrix.
    """
    gradients = np.asanyarray(gradients)
    if gradients.ndim != 2 or 0 in gradients.shape:
        raise ValueError(
            "gradients must be an array of shape (m, P) with at least one row and one "
            f"column, got shape {gradients.shape}."
        )
    if gradients.dtype not in (np.float32, np.float64):
        gradients = gradients.astype(np.float64)
    return gradients
