"""Entries of the Gauss-Newton Hessian by sampling rows."""

from numbers import Real
from typing import Any

import numpy as np

from skgnh.memory import require
from skgnh.network import densified
from skgnh.operators import blocks
from skgnh.operators.gauss_newton import GaussNewtonHessian
from skgnh.operators.layer_factors import LayerFactors, parts
from skgnh.operators.random import generator

Array = Any


class EntrySampler:
    r"""Entries of a GNH in O(n + r / eps^2) each, however many parameters there are.

    With :math:`B_{ik} = \sqrt{w_i} S_i^T J_i[:, k]` (r numbers) an entry of the data's
    part is :math:`H_{kl} = \sum_i \langle B_{ik}, B_{il} \rangle`. It is estimated from
    t rows drawn with probability

    .. math:: p_i \propto \|B_{ik}\| \|B_{il}\|, \qquad \hat H_{kl} = \frac1t \sum_j
              \langle B_{i_j k}, B_{i_j l} \rangle / p_{i_j}

    without bias. Its variance is at most :math:`\frac1t \sum_i \|B_{ik}\|^2
    \|B_{il}\|^2 / p_i = \frac1t (\sum_i \|B_{ik}\| \|B_{il}\|)^2 \le \frac1t H_{kk}
    H_{ll}` by Cauchy and Schwarz: with :math:`t = \lceil 1 / \epsilon^2 \rceil` the RMS
    error is at most :math:`\epsilon \sqrt{H_{kk} H_{ll}}`. A block of rows I and
    columns J shares one draw with :math:`p_i \propto \|B_{iI}\|_F \|B_{iJ}\|_F`, and

    .. math:: E \|\hat H_{IJ} - H_{IJ}\|_F^2 \le
              \epsilon^2 \, \mathrm{tr} H_{II} \, \mathrm{tr} H_{JJ};

    a principal block stays symmetric positive semidefinite.

    What is needed is made once: layer inputs :math:`a_l`, carried-back roots
    :math:`B_l` and the squares of their norms: r backward passes, O(n r P / width)
    numbers of memory.

    Parameters
    ----------
    hessian : GaussNewtonHessian
        The operator; its ridge is added exactly.

    Raises
    ------
    ValueError
        If the factors exceed the working memory.

    References
    ----------
    .. [1] C. Chen, S. Reiz, C. Yu, H.-J. Bungartz, G. Biros, "Fast approximation of
           the Gauss-Newton Hessian matrix for the multilayer perceptron", SIMAX 42(1),
           2021.
    .. [2] P. Drineas, R. Kannan, M. Mahoney, "Fast Monte Carlo algorithms for matrices
           I", SIAM J. Comput. 36(1), 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.operators import EntrySampler, GaussNewtonHessian
    >>> X, y = load_digits(return_X_y=True)
    >>> mlp = MLPClassifier(16, solver="lbfgs", alpha=1, max_iter=5000, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(mlp, X, y)
    >>> sampler = EntrySampler(H)
    >>> sampler.entries(np.arange(3), np.arange(5), epsilon=0.1, random_state=0).shape
    (3, 5)
    """

    def __init__(self, hessian: GaussNewtonHessian):
        self.hessian, self._network = hessian, hessian.network
        n, r = hessian.linearization.n_rows, hessian.n_roots
        fans, widths = hessian.network.layer_units[:-1], hessian.network.layer_units[1:]
        numbers = n * (1.5 * (sum(fans) + len(fans)) + (r + 0.5) * sum(widths))
        require(
            numbers * hessian.dtype.itemsize,
            f"An entry sampler of {n} rows and {r} outputs",
            "Sample rows first, by GaussNewtonHessian.sample",
        )
        inputs, self._back = hessian.root.factors()
        self._inputs = [densified(a) for a in inputs]
        # Squared norms of columns, as contiguous rows: they only steer the draws, so
        # that single precision will do.
        self._input_squares = [
            np.ascontiguousarray(a.T, dtype=np.float32) ** 2 for a in self._inputs
        ]
        self._back_squares = [
            np.ascontiguousarray((B**2).sum(axis=1).T, dtype=np.float32)
            for B in self._back
        ]

    def n_draws(self, epsilon: float) -> int:
        """Return ``t = ceil(1 / epsilon^2)``, the rows of an accuracy."""
        return n_draws(epsilon)

    def entries(
        self,
        rows: Array,
        columns: Array,
        epsilon: float | None = None,
        random_state: Any = None,
    ) -> Array:
        """Return the block ``H[rows, columns]``, sampled or exact.

        Parameters
        ----------
        rows, columns : arrays of int of shape (k,) and (m,)
            Which parameters.
        epsilon : float, optional
            Accuracy. None, or one that needs n rows or more, gives the exact block.
        random_state : int, Generator or RandomState, optional
            Seed of the draw that the block shares.

        Returns
        -------
        ndarray of shape (k, m)
            O(n (k + m) + r k m / epsilon^2) sampled, O(n r k m) exact, or r times less
            where many of the indices share neurons.
        """
        rows, columns = np.asarray(rows), np.asarray(columns)
        n = len(self._inputs[0])
        if epsilon is None or self.n_draws(epsilon) >= n:
            return self.hessian.entries(rows, columns)
        t = self.n_draws(epsilon)
        importance = np.sqrt(self._norms(rows) * self._norms(columns))
        drawn, counts, p = _draw(importance, t, generator(random_state))
        scale = np.sqrt(counts / (t * p)).astype(self.hessian.dtype)
        inputs = [a.T[:, drawn].T for a in self._inputs]
        back = [(B.T[..., drawn] * scale).T for B in self._back]
        sides = blocks.sides(self._network, rows, columns)
        block = blocks.block(LayerFactors(inputs, back), *sides)
        same = rows[:, None] == columns[None, :]
        return block + np.where(same, self.hessian.ridge[columns], 0)

    def pairs(
        self,
        rows: Array,
        columns: Array,
        epsilon: float,
        random_state: Any = None,
    ) -> Array:
        """Return the entries ``H[rows[j], columns[j]]``, each from a draw of its own.

        Parameters
        ----------
        rows, columns : arrays of int of shape (k,)
            Which parameters.
        epsilon : float
            Accuracy: an RMS error of at most ``epsilon sqrt(H_kk H_ll)``.
        random_state : int, Generator or RandomState, optional
            Seed.

        Returns
        -------
        ndarray of shape (k,)
            O(n + r / epsilon^2) each.
        """
        rows, columns = np.asarray(rows), np.asarray(columns)
        t, rng = self.n_draws(epsilon), generator(random_state)
        left, right = self._network.locate(rows), self._network.locate(columns)
        out = np.where(rows == columns, self.hessian.ridge[columns], 0.0)
        for j in range(len(rows)):
            (d1, mu1, nu1), (d2, mu2, nu2) = (
                tuple(part[j] for part in side) for side in (left, right)
            )
            squares = self._input_squares[d1][nu1] * self._back_squares[d1][mu1]
            importance = np.sqrt(squares) * np.sqrt(
                self._input_squares[d2][nu2] * self._back_squares[d2][mu2]
            )
            drawn, counts, p = _draw(importance, t, rng)
            a = self._inputs[d1][drawn, nu1] * self._inputs[d2][drawn, nu2]
            dots = np.einsum(
                "ik,ik->i", self._back[d1][drawn, :, mu1], self._back[d2][drawn, :, mu2]
            )
            out[j] += np.dot(a * dots, counts / (t * p))
        return out.astype(self.hessian.dtype)

    def _norms(self, index: Array) -> Array:
        """Return ``||B_iI||_F^2`` of every row, of shape (n,)."""
        located = parts(self._network, index)

        # Norms of as many samples at a time as stay in cache.
        def norms(rows, _):
            out = 0.0
            for own in located:
                a = self._input_squares[own.layer][own.nu, rows]
                b = self._back_squares[own.layer][own.neurons[own.which], rows]
                out = out + np.einsum("ki,ki->i", a, b)
            return [out]

        rows = self.hessian.linearization
        return rows.collect(norms, len(index), lambda rows: None)[0]


def n_draws(epsilon: Any) -> int:
    """Return ``t = ceil(1 / epsilon^2)``, the rows of an accuracy.

    Raises
    ------
    ValueError
        If epsilon is not in (0, 1].
    """
    if not (isinstance(epsilon, Real) and 0 < float(epsilon) <= 1):
        raise ValueError(f"epsilon must be in (0, 1], got {epsilon}.")
    # A square that is zero would ask for more rows than there are numbers.
    return int(np.ceil(1 / max(float(epsilon), 1e-150) ** 2 * (1 - 1e-12)))


def _draw(importance: Array, t: int, rng: Any) -> tuple[Array, Array, Array]:
    """Draw t rows; return those drawn, how often, and their probabilities."""
    total = np.cumsum(importance, dtype=np.float64)
    if not total[-1] > 0:
        # All norms are zero, and so is the entry: any row will say so.
        return np.zeros(1, dtype=int), np.array([t]), np.ones(1)
    drawn = np.searchsorted(total, rng.uniform(0, total[-1], t), side="right")
    drawn, counts = np.unique(np.minimum(drawn, len(total) - 1), return_counts=True)
    return drawn, counts, importance[drawn] / total[-1]
