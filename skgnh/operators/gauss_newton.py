"""The Gauss-Newton Hessian of a multi-layer perceptron."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator
from sklearn.utils import check_random_state
from sklearn.utils.extmath import row_norms

from skgnh.linearization import Linearization
from skgnh.memory import require
from skgnh.operators.from_estimator import load_estimator

Array = Any


class GaussNewtonHessian(LinearOperator):
    r"""The Gauss-Newton Hessian (GNH) of a network's training objective.

    .. math:: H = \sum_i w_i J_i^T Q_i J_i + \mathrm{diag}(ridge)

    where :math:`J_i` (d x P) is the derivative of the network's outputs at row i and
    :math:`Q_i = S_i S_i^T` (d x d) the Hessian of the loss in the outputs. H is
    symmetric positive semidefinite and equals the Hessian of the objective wherever
    the residuals vanish or the network is linear (Schraudolph, 2002).

    All questions but products are answered from the layer inputs :math:`a_l` (n rows,
    their ones last) and the carried-back roots :math:`B_l` (n x r x width):
    row (i, k) of the root :math:`J_S`, ``H = J_S^T J_S + diag(ridge)``, holds at the
    weight from neuron nu to neuron mu of layer l the number
    ``a_l[i, nu] * B_l[i, k, mu]``; r = d, or the number of output probes.

    Parameters
    ----------
    linearization : Linearization
        The network linearised at theta over the n rows.
    loss : object
        One of :data:`skgnh.losses.LOSSES`.
    weights : ndarray of shape (n,)
        Weight of each row, as it stands in the sum: ``w / w.sum()`` for a mean.
    ridge : ndarray of shape (P,), optional
        Curvature of the penalty; zero if None.
    probes : ndarray of shape (n, m, d) or (1, m, d), optional
        Random signs, of each row or of all, see :meth:`probe`.

    Attributes
    ----------
    shape : tuple
        ``(P, P)``; parameters lie by layer, within it by output neuron, each neuron's
        bias last.
    dtype : dtype
        That of theta.

    Notes
    -----
    A product costs O(n P) a column, whatever d; both passes walk the rows in chunks
    that stay in cache, so its memory is the traces (kept only if they fit half the
    working memory) and a few arrays of length P a column.

    References
    ----------
    .. [1] N. Schraudolph, "Fast curvature matrix-vector products for second-order
           gradient descent", Neural Computation 14(7), 2002.
    .. [2] C. Chen, S. Reiz, C. Yu, H.-J. Bungartz, G. Biros, "Fast approximation of
           the Gauss-Newton Hessian matrix for the multilayer perceptron", SIMAX 42(1),
           2021.

    Examples
    --------
    >>> from scipy.sparse.linalg import eigsh
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.operators import GaussNewtonHessian
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(8, solver="lbfgs", alpha=1, max_iter=999).fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(mlp, X, y)
    >>> H.shape
    (67, 67)
    >>> eigsh(H, k=3, return_eigenvectors=False).shape
    (3,)
    """

    def __init__(
        self,
        linearization: Linearization,
        loss: Any,
        weights: Array,
        ridge: Array | None = None,
        probes: Array | None = None,
    ):
        self.linearization = linearization
        self.network = linearization.network
        self.theta = linearization.theta
        self.loss, self.weights, self.probes = loss, weights, probes
        P, dtype = self.network.n_parameters, self.theta.dtype
        self.ridge = np.zeros(P, dtype) if ridge is None else ridge
        super().__init__(dtype, (P, P))

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Array,
        y: Array | None = None,
        sample_weight: Array | None = None,
    ) -> "GaussNewtonHessian":
        """Return the GNH of a fitted estimator over given rows.

        Parameters
        ----------
        estimator : object
            A fitted estimator of this package, or scikit-learn's MLPClassifier or
            MLPRegressor.
        X : {array-like, sparse matrix} of shape (n, n_features)
            Rows.
        y : array-like, optional
            Their targets. H does not depend on them but through ``class_weight``:
            they are only checked, and needed only there.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows.

        Returns
        -------
        GaussNewtonHessian
            With the estimator's penalty as its ridge.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the data do not belong to it.
        """
        model = load_estimator(estimator, X, y, sample_weight)
        linearization = Linearization(model.network, model.theta, model.inputs)
        return cls(linearization, model.loss, model.weights, model.ridge)

    # ---- products -------------------------------------------------------------------

    @property
    def n_roots(self) -> int:
        """Rows r of the root for each sample: d, or the number of probes."""
        n_outputs = self.network.n_outputs
        return n_outputs if self.probes is None else self.probes.shape[1]

    def probes_of(self, rows: Any) -> Array | None:
        """Return the probes of some rows, or those that all rows share."""
        if self.probes is None or len(self.probes) == 1:
            return self.probes
        return self.probes[rows]

    @property
    def root(self) -> "GaussNewtonRoot":
        """The operator J_S, (n r) x P, with ``H = J_S^T J_S + diag(ridge)``."""
        return GaussNewtonRoot(self)

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V, dtype=self.dtype)
        root = self.root
        directions = np.ascontiguousarray(V.T)
        out = self.ridge * directions
        for rows, trace in self.linearization.chunks(self._numbers(len(directions))):
            moved = root.forward(rows, trace, directions)
            out += root.backward(rows, trace, moved)
        return out.T

    def _adjoint(self) -> "GaussNewtonHessian":
        return self

    def _numbers(self, k: int) -> int:
        """Numbers a row that a product with k columns holds at a time."""
        return 3 * k * max(self.network.layer_units[1:]) + self.inputs_width

    @property
    def inputs_width(self) -> int:
        """Number of features, with the one."""
        return self.linearization.inputs.shape[1]

    # ---- the two lists that hold the whole matrix -----------------------------------

    def _factors(self) -> Iterator[tuple[slice, list, list]]:
        """Yield chunks of rows with the layers' a_l and B_l."""
        width = sum(self.network.layer_units[1:])
        for rows, trace in self.linearization.chunks(self.n_roots * width):
            seeds = self.root.seeds(rows, trace)
            back = dict(self.network.carry_back(self.theta, trace, seeds))
            yield rows, trace.inputs, [back[depth] for depth in range(len(back))]

    def _locate(self, index: Array) -> tuple[Array, Array, Array]:
        """Return layer, output neuron mu and input neuron nu of parameters."""
        index = np.asarray(index)
        if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
            raise ValueError("An index of parameters must be a 1-D array of integers.")
        if index.size and not 0 <= index.min() <= index.max() < self.shape[0]:
            raise ValueError(
                f"Parameters are numbered from 0 to {self.shape[0] - 1}, "
                f"got {index.min()} to {index.max()}."
            )
        offsets = np.asarray(self.network.offsets)
        depth = np.searchsorted(offsets, index, side="right") - 1
        fan = np.array([shape[1] for shape in self.network.shapes])[depth]
        return depth, *np.divmod(index - offsets[depth], fan)

    def _take_columns(self, inputs: list, back: list, index: Array) -> Array:
        """Return columns of J_S for the rows of one chunk."""
        depth, mu, nu = self._locate(index)
        n, r = back[0].shape[:2]
        out = np.empty((n, r, len(index)), self.dtype)
        for layer in np.unique(depth):
            here = depth == layer
            a = _dense(inputs[layer][:, nu[here]])
            out[:, :, here] = a[:, None, :] * back[layer][:, :, mu[here]]
        return out.reshape(n * r, -1)

    def columns(self, index: Array) -> Array:
        """Return columns of the root J_S.

        Parameters
        ----------
        index : array of int of shape (k,)
            Which parameters.

        Returns
        -------
        ndarray of shape (n r, k)
            Rows ordered by sample, then by output (or probe).

        Raises
        ------
        ValueError
            If the index is off, or the array exceeds the working memory.
        """
        n, r = self.linearization.n_rows, self.n_roots
        require(
            n * r * len(index) * self.dtype.itemsize,
            f"{len(index)} columns of the Gauss-Newton root",
            "Take fewer at a time",
        )
        out = np.empty((n * r, len(index)), self.dtype)
        for rows, inputs, back in self._factors():
            span = slice(rows.start * r, rows.stop * r)
            out[span] = self._take_columns(inputs, back, index)
        return out

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block ``H[rows, columns]``.

        Parameters
        ----------
        rows, columns : arrays of int of shape (k,) and (m,)
            Which parameters.

        Returns
        -------
        ndarray of shape (k, m)
            The block: O(n d k m) after one backward pass of d columns.
        """
        rows, columns = np.asarray(rows), np.asarray(columns)
        out = np.where(
            rows[:, None] == columns[None, :], self.ridge[columns], self.dtype.type(0)
        )
        for _, inputs, back in self._factors():
            left = self._take_columns(inputs, back, rows)
            out += left.T @ self._take_columns(inputs, back, columns)
        return out

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal of H.

        Parameters
        ----------
        n_probes : int, optional
            Where there are more roots than that, estimate the diagonal, without bias,
            from this many output probes, the same for all rows so that the order and
            the repetition of rows do not matter: the cost falls from r to `n_probes`
            backward passes.
        random_state : int, Generator or RandomState, optional
            Seed of the probes.

        Returns
        -------
        ndarray of shape (P,)
            The diagonal, the ridge included.
        """
        if n_probes is not None and n_probes < self.n_roots:
            return self.probe(n_probes, random_state, shared=True).diagonal()
        out = self.ridge.copy()
        layers = self.network.unpack(out)
        for _, inputs, back in self._factors():
            for layer, a, B in zip(layers, inputs, back, strict=True):
                layer += (B**2).sum(axis=1).T @ _square(a)
        return out

    def row_traces(self) -> Array:
        """Return ``w_i trace(J_i^T Q_i J_i)`` of every row, of shape (n,)."""
        out = np.zeros(self.linearization.n_rows, self.dtype)
        for rows, inputs, back in self._factors():
            for a, B in zip(inputs, back, strict=True):
                out[rows] += row_norms(a, squared=True) * (B**2).sum(axis=(1, 2))
        return out

    def trace(self) -> float:
        """Return the trace of H, exactly."""
        return float(self.row_traces().sum() + self.ridge.sum())

    def gram(self) -> Array:
        """Return ``J_S J_S^T``, of shape (n r, n r); P is never formed.

        Cost: O(n^2 r^2 times the sum of the widths).
        """
        return sum(gram for _, gram in self.gram_by_ridge())

    def gram_by_ridge(self) -> list[tuple[float, Array]]:
        """Return the Gram matrix split over the parameters of equal ridge.

        Dual solvers need ``J_S diag(ridge + lam)^-1 J_S^T``, which is
        ``sum gram / (value + lam)`` over the pairs returned.

        Returns
        -------
        list of (float, ndarray of shape (n r, n r))
            Value of the ridge and Gram matrix: weights and biases apart, or together
            where there is no penalty.

        Raises
        ------
        ValueError
            If the matrices exceed the working memory.
        """
        n, r = self.linearization.n_rows, self.n_roots
        require(
            3 * (n * r) ** 2 * self.dtype.itemsize,
            f"The Gram matrix of {n} rows and {r} outputs",
            "Sample rows or take a solver of products such as 'cg'",
        )
        back, inputs = [], []
        for _, a, B in self._factors():
            inputs.append(a), back.append(B)
        weights, biases = (np.zeros((n * r, n * r), self.dtype) for _ in range(2))
        for depth in range(len(self.network.shapes)):
            a = _concatenate([chunk[depth] for chunk in inputs])[:, :-1]
            B = np.concatenate([chunk[depth] for chunk in back]).reshape(n * r, -1)
            outer = B @ B.T
            biases += outer
            outer = outer.reshape(n, r, n, r)
            outer *= _dense(a @ a.T)[:, None, :, None]
            weights += outer.reshape(n * r, n * r)
        penalty = float(self.ridge.max())
        if penalty == 0:
            return [(0.0, weights + biases)]
        return [(penalty, weights), (0.0, biases)]

    def toarray(self) -> Array:
        """Return H as an array of shape (P, P): O(n r P^2).

        Raises
        ------
        ValueError
            If it exceeds the working memory.
        """
        P, r = self.shape[0], self.n_roots
        require(
            2 * P**2 * self.dtype.itemsize,
            f"The dense Gauss-Newton Hessian of {P} parameters",
            "Use its products and entries, a solver such as 'cg', or fewer neurons",
        )
        out = np.diag(self.ridge)
        for rows, trace in self.linearization.chunks(r * P):
            block = self.root.block(rows, trace)
            out += block.T @ block
        return out

    # ---- randomised operators of the same type --------------------------------------

    def sample(self, n_rows: int, random_state: Any = None) -> "GaussNewtonHessian":
        """Return an unbiased GNH on fewer rows, drawn by importance.

        Rows are drawn with replacement, with probability p_i proportional to
        ``w_i trace(J_i^T Q_i J_i)``, and weighted by ``w_i / (n_rows p_i)``:
        ``E[sample] = H`` and ``E ||sample - H||_F^2 <= trace(H)^2 / n_rows``.

        Parameters
        ----------
        n_rows : int
            Number of draws; rows drawn twice are kept once.
        random_state : int, Generator or RandomState, optional
            Seed.

        Returns
        -------
        GaussNewtonHessian
            The same type, on at most `n_rows` rows; the ridge stays exact.
        """
        if n_rows < 1:
            raise ValueError(f"n_rows must be at least 1, got {n_rows}.")
        rng = _generator(random_state)
        importance = self.row_traces().astype(np.float64)
        total = importance.sum()
        n = len(importance)
        p = importance / total if total > 0 else np.full(n, 1 / n)
        drawn, counts = np.unique(rng.choice(n, n_rows, p=p), return_counts=True)
        weights = self.weights[drawn] * (counts / (n_rows * p[drawn]))
        return GaussNewtonHessian(
            self.linearization.take(drawn),
            self.loss,
            weights.astype(self.dtype),
            self.ridge,
            self.probes_of(drawn),
        )

    def probe(
        self, n_probes: int, random_state: Any = None, shared: bool = False
    ) -> "GaussNewtonHessian":
        """Return an unbiased GNH whose roots are random mixtures of the outputs.

        ``S_i Omega_i`` takes the place of S_i, Omega_i of shape (d, n_probes) with
        independent entries ``+-1/sqrt(n_probes)``: what costs d backward passes then
        costs `n_probes`.

        Parameters
        ----------
        n_probes : int
            Number of mixtures a row.
        random_state : int, Generator or RandomState, optional
            Seed.
        shared : bool, default=False
            Whether all rows get the same mixtures: still unbiased, and of no memory,
            but their errors then do not average out over the rows.

        Returns
        -------
        GaussNewtonHessian
            The same type, with ``n_roots == n_probes``.
        """
        if n_probes < 1:
            raise ValueError(f"n_probes must be at least 1, got {n_probes}.")
        n_rows = 1 if shared else self.linearization.n_rows
        shape = (n_rows, n_probes, self.network.n_outputs)
        require(np.prod(shape, dtype=float), "The output probes", "Draw fewer")
        if self.probes is not None:
            raise ValueError("This operator has output probes already.")
        rng = _generator(random_state)
        signs = rng.integers(0, 2, shape, dtype=np.int8)
        signs *= 2
        signs -= 1
        return GaussNewtonHessian(
            self.linearization, self.loss, self.weights, self.ridge, signs
        )


class GaussNewtonRoot(LinearOperator):
    """The root J_S of a GNH, of shape (n r, P): ``H = J_S^T J_S + diag(ridge)``.

    Rows are ordered by sample, then by output (or probe).
    """

    def __init__(self, hessian: GaussNewtonHessian):
        self.hessian = hessian
        n = hessian.linearization.n_rows
        super().__init__(hessian.dtype, (n * hessian.n_roots, hessian.shape[0]))

    @cached_property
    def _sqrt_weights(self) -> Array:
        return np.sqrt(self.hessian.weights)[:, None, None]

    def seeds(self, rows: slice, trace: Any) -> Array:
        """Return ``sqrt(w_i) (S_i Omega_i)^T``, of shape (n, r, d)."""
        H = self.hessian
        n, d = trace.outputs.shape
        if H.probes is None:
            basis = np.broadcast_to(np.eye(d, dtype=H.dtype), (n, d, d))
        else:
            basis = H.probes_of(rows) / H.dtype.type(H.n_roots**0.5)
        mean = H.loss.mean(trace.outputs)
        return H.loss.root(mean, basis) * self._sqrt_weights[rows]

    def forward(self, rows: slice, trace: Any, directions: Array) -> Array:
        """Return J_S v for k directions (k, P), of shape (n, k, r)."""
        H = self.hessian
        moved = H.network.tangent(H.theta, trace, directions)
        moved = H.loss.root_adjoint(H.loss.mean(trace.outputs), moved)
        if H.probes is not None:
            signs = H.probes_of(rows).astype(H.dtype)
            moved = moved @ np.swapaxes(signs, 1, 2) / H.n_roots**0.5
        moved *= self._sqrt_weights[rows]
        return moved

    def backward(self, rows: slice, trace: Any, u: Array) -> Array:
        """Return J_S^T u for k vectors (n, k, r), of shape (k, P)."""
        H = self.hessian
        if H.probes is not None:
            u = u @ H.probes_of(rows).astype(H.dtype) / H.n_roots**0.5
        u = H.loss.root(H.loss.mean(trace.outputs), u)
        u *= self._sqrt_weights[rows]
        return H.network.pullback(H.theta, trace, u)

    def block(self, rows: slice, trace: Any) -> Array:
        """Return the rows of one chunk as an array of shape (n r, P)."""
        H = self.hessian
        seeds = self.seeds(rows, trace)
        n, r = seeds.shape[:2]
        out = np.empty((n, r, H.shape[0]), H.dtype)
        layers = H.network.unpack(out)
        for depth, B in H.network.carry_back(H.theta, trace, seeds):
            a = _dense(trace.inputs[depth])
            np.multiply(B[..., None], a[:, None, None, :], out=layers[depth])
        return out.reshape(n * r, -1)

    def _matmat(self, V: Array) -> Array:
        H = self.hessian
        directions = np.ascontiguousarray(np.asarray(V, dtype=self.dtype).T)
        out = np.empty((H.linearization.n_rows, H.n_roots, len(directions)), self.dtype)
        for rows, trace in H.linearization.chunks(H._numbers(len(directions))):
            out[rows] = np.swapaxes(self.forward(rows, trace, directions), 1, 2)
        return out.reshape(self.shape[0], -1)

    def _rmatvec(self, u: Array) -> Array:
        return self._rmatmat(u.reshape(-1, 1))[:, 0]

    def _rmatmat(self, U: Array) -> Array:
        H = self.hessian
        k = U.shape[1]
        u = np.asarray(U, dtype=self.dtype).reshape(-1, H.n_roots, k)
        out = np.zeros((k, self.shape[1]), self.dtype)
        for rows, trace in H.linearization.chunks(H._numbers(k)):
            columns = np.ascontiguousarray(np.swapaxes(u[rows], 1, 2))
            out += self.backward(rows, trace, columns)
        return out.T


def _generator(random_state: Any) -> Any:
    """Return a Generator; RandomState and its seeds are taken in scikit-learn's way."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    seed = check_random_state(random_state).randint(2**31 - 1)
    return np.random.default_rng(seed)


def _dense(a: Array) -> Array:
    return a.toarray() if sparse.issparse(a) else a


def _square(a: Array) -> Array:
    return a.power(2) if sparse.issparse(a) else a**2


def _concatenate(chunks: list) -> Array:
    if sparse.issparse(chunks[0]):
        return sparse.vstack(chunks, format="csr")
    return np.concatenate(chunks)
