"""The Gauss-Newton Hessian of a multi-layer perceptron."""

from collections.abc import Callable
from typing import Any

import numpy as np

from skgnh.arrays import as_precision, like, namespace, pick, to_host
from skgnh.linalg import Curvature, check_count, check_vector, checked_index
from skgnh.linearization import Linearization
from skgnh.memory import fits, require, rows_per_chunk, slices
from skgnh.operators import blocks
from skgnh.operators.assembly import curvature
from skgnh.operators.gram import values_of
from skgnh.operators.hessian import NetworkHessian
from skgnh.operators.mapped import InputScales, MappedRoot, by_inputs
from skgnh.operators.partial import layers_of
from skgnh.operators.random import generator, key_of, signs
from skgnh.operators.root import GaussNewtonRoot
from skgnh.operators.tables import PairTables

Array = Any


class GaussNewtonHessian(NetworkHessian):
    r"""The Gauss-Newton Hessian (GNH) of a network's training objective.

    .. math:: H = \sum_i w_i J_i^T Q_i J_i + \mathrm{diag}(ridge)

    where :math:`J_i` (d x P) is the derivative of the network's outputs at row i and
    :math:`Q_i = S_i S_i^T` (d x d) the Hessian of the loss in the outputs. H is
    symmetric positive semidefinite and equals the Hessian of the objective wherever
    the residuals vanish or the network is linear (Schraudolph, 2002).

    It is held by its :attr:`root` :math:`J_S`, ``H = J_S^T J_S + diag(ridge)``, with r
    rows for each sample: r = d, or the number of output probes.

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
    root : GaussNewtonRoot
        The operator :math:`J_S`, of shape (n r, P).

    Notes
    -----
    A product costs O(n P) a column, whatever d; both passes walk the rows in chunks
    that stay in cache, so its memory is the traces (kept only if they fit half the
    working memory) and a few arrays of length P a column. The array of
    :meth:`toarray` is made of blocks of J_S, n r P^2 operations, or of sums over the
    roots for each pair of neurons [3]_, at most n P^2 and O(n r) for each such pair:
    whichever is less.

    References
    ----------
    .. [1] N. Schraudolph, "Fast curvature matrix-vector products for second-order
           gradient descent", Neural Computation 14(7), 2002.
    .. [2] C. Chen, S. Reiz, C. Yu, H.-J. Bungartz, G. Biros, "Fast approximation of
           the Gauss-Newton Hessian matrix for the multilayer perceptron", SIMAX 42(1),
           2021.
    .. [3] M. Fairbank, E. Alonso, "Efficient calculation of the Gauss-Newton
           approximation of the Hessian matrix in neural networks", Neural Computation
           24(3), 2012.

    Examples
    --------
    >>> from scipy.sparse.linalg import eigsh
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.operators import GaussNewtonHessian
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(8, solver="lbfgs", alpha=1, max_iter=999, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(mlp, X, y)
    >>> H.shape
    (67, 67)
    >>> eigsh(H, k=3, return_eigenvectors=False).shape
    (3,)
    """

    offers = Curvature.offers | {
        "entries",
        "toarray",
        "root",
        "gram",
        "samples",
        "layers",
    }
    subject = "Gauss-Newton Hessian"

    def __init__(
        self,
        linearization: Linearization,
        loss: Any,
        weights: Array,
        ridge: Array | None = None,
        probes: Array | None = None,
    ):
        super().__init__(linearization, loss, weights, ridge)
        self.root = GaussNewtonRoot(linearization, loss, weights, probes)
        self._tables: PairTables | None = None

    @classmethod
    def of(cls, root: GaussNewtonRoot, ridge: Array) -> "GaussNewtonHessian":
        """Return the GNH of a root."""
        H = cls(root.linearization, root.loss, root.weights, ridge, root.probes)
        H.root = root
        return H

    @property
    def n_roots(self) -> int:
        """Rows r of the root for each sample: d, or the number of probes."""
        return self.root.n_roots

    @property
    def costs(self) -> tuple[float, float]:
        """Operations of a product, a column, and of an entry.

        A product goes forward and back again over n rows, the inputs unmoved; half of
        its time is spent on elements. Entries are made of columns of the root or of
        pairs of neurons.
        """
        n, r = self.linearization.n_rows, self.n_roots
        fan = self.shape[0] / sum(self.network.layer_units[1:])
        by_neurons = 1 + 8 * (1 / fan + r / fan**2)
        product = 8.0 * n * (2 * self.shape[0] - self.network.offsets[1])
        return product, 4.0 * n * min(r, by_neurons)

    def _product(self, directions: Array, rows: slice, trace: Any) -> Array:
        moved = self.root.forward(rows, trace, directions)
        return self.root.backward(rows, trace, moved)

    def _numbers(self, n_columns: int) -> int:
        return self.root.numbers(n_columns)

    def scaled(self, d: Array) -> Curvature:
        """Return ``diag(d) H diag(d)``, with all that H offers if d is by inputs.

        That is, the same for all neurons of a layer.
        """
        check_vector(d, "d", self.shape[0])
        if not by_inputs(self.network, d):
            return super().scaled(d)
        xp, ridge = namespace(d), self.ridge * d**2
        # The root of the ridge's inverse makes it one, whatever rounding says.
        is_one = xp.abs(ridge - 1) <= 8 * float(np.finfo(self.dtype).eps)
        ridge = xp.where(is_one, xp.ones_like(ridge), ridge)
        scales = InputScales(self.network, as_precision(d, self.dtype))
        return self.of(MappedRoot(self.root, scales), ridge)

    def rounded(self) -> "GaussNewtonHessian":
        """Return the same matrix in single precision, its forward passes too."""
        root, single = self.root, np.float32
        if self.dtype == single or type(root) is not GaussNewtonRoot:
            return self
        rows = root.linearization
        theta, inputs = (as_precision(x, single) for x in (rows.theta, rows.inputs))
        return GaussNewtonHessian(
            Linearization(self.network, theta, inputs),
            self.loss,
            as_precision(self.weights, single),
            as_precision(self.ridge, single),
            None if root.probes is None else as_precision(root.probes, single),
        )

    def restricted(self, index: Array) -> Curvature:
        """Return the Hessian on some parameters, where the others do not move.

        On all parameters of some layers it is a GaussNewtonHessian again, with all that
        one offers, for a network whose other layers are constants.

        Parameters
        ----------
        index : array of int of shape (k,)
            Which parameters.

        Raises
        ------
        ValueError
            If the index is off.
        """
        layers = layers_of(self.network, index)
        root = None if layers is None else self.root.of_layers(layers)
        if root is None:
            return super().restricted(index)
        return self.of(root, pick(self.ridge, index))

    def columns(self, index: Array) -> Array:
        """Return columns of the root J_S, of shape (n r, k).

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
        return self.root.columns(checked_index(index, self.shape[0]))

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block ``H[rows, columns]``.

        Parameters
        ----------
        rows, columns : arrays of int of shape (k,) and (m,)
            Which parameters.

        Returns
        -------
        ndarray of shape (k, m)
            The block, after one backward pass of d columns: O(n d k m), or d times less
            where many of the indices share neurons.
        """
        return self.entry_blocks([(rows, columns)])[0]

    def entry_blocks(self, pairs: list[tuple[Array, Array]]) -> list[Array]:
        """Return several blocks in one sweep over the samples.

        Where the carried-back roots do not fit the working memory, each call makes them
        anew: many blocks cost r backward passes then, not r each.

        Parameters
        ----------
        pairs : list of (array of int of shape (k,), array of int of shape (m,))
            Rows and columns of each block.

        Returns
        -------
        list of ndarray of shape (k, m)
            See :meth:`entries`.

        Raises
        ------
        ValueError
            If an index is off, or the blocks exceed the working memory.
        """
        self._must_offer("entries")
        pairs = [(np.asarray(rows), np.asarray(columns)) for rows, columns in pairs]
        located = [blocks.sides(self.network, *pair) for pair in pairs]
        shapes = [f"{len(rows)} x {len(columns)}" for rows, columns in pairs]
        require(
            sum(len(i) * len(j) for i, j in pairs) * self.dtype.itemsize,
            f"{len(pairs)} blocks of up to {max(shapes, key=len, default='0')} entries",
            "Take fewer at a time",
        )
        widest = max((len(i) + len(j) for i, j in pairs), default=0)
        out = self._data_blocks(located, widest)
        for block, (i, j) in zip(out, pairs, strict=True):
            block += np.where(i[:, None] == j, self.ridge[j], self.dtype.type(0))
        return out

    def _data_blocks(self, located: list, n_columns: int) -> list[Array]:
        """Return the data's part of blocks of `n_columns` rows and columns at most."""
        root, network = self.root, self.network
        if self._tables is None and PairTables.suit(root):
            self._tables = PairTables.of(root)
        if self._tables is not None:
            return [self._tables.block(*sides) for sides in located]

        def from_lists(rows, factors):
            return [blocks.block(factors, *sides) for sides in located]

        def from_tables(rows, factors):
            tables = PairTables(network, PairTables.arrays(rows, factors))
            return [tables.block(*sides) for sides in located]

        if PairTables.pay(root) and not root.is_kept:
            _, source = root.walk_anew(diagonal=True)
            return self.linearization.sum(from_tables, PairTables.numbers(root), source)
        return self.linearization.sum(from_lists, *root.walk(n_columns))

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
        if n_probes is not None:
            check_count(n_probes, "n_probes")
        if n_probes is not None and n_probes < self.n_roots:
            return self.probe(n_probes, random_state, shared=True).diagonal()
        if self._tables is not None:
            return self.ridge + self._tables.diagonal()
        return self.ridge + self.root.column_norms()

    def row_traces(self) -> Array:
        """Return ``w_i trace(J_i^T Q_i J_i)`` of every row, of shape (n,)."""
        return self.root.sample_norms()

    def trace(self) -> float:
        """Return the trace of H, exactly."""
        xp = namespace(self.ridge)
        return float(xp.sum(self.row_traces()) + xp.sum(self.ridge))

    def gram(self, scale: Array | None = None) -> Array:
        """Return ``J_S diag(scale) J_S^T``, of shape (n r, n r); P is never formed.

        Cost: O(n^2 r^2 times the sum of the widths).

        Parameters
        ----------
        scale : ndarray of shape (P,), optional
            Positive; ones if None. Where it differs among the neurons of a layer, the
            cost is O(n^2 r^2 P).
        """
        one = namespace(self.ridge).ones_like(self.ridge)
        check_vector(one if scale is None else scale, "scale", self.shape[0])
        scales, alike = self._by_input(one if scale is None else scale)
        if not alike:
            return self._gram_of(np.arange(self.shape[0]), scale)
        zeros = [0 * part for part in scales]
        return self.root.grams(zeros, None if scale is None else scales)[0]

    def gram_by_ridge(self, grams: Callable | None = None) -> list[tuple[float, Array]]:
        """Return the Gram matrix split over the parameters of equal ridge.

        Dual solvers need ``J_S diag(ridge + lam)^-1 J_S^T``, which is
        ``sum gram / (value + lam)`` over the pairs returned.

        Parameters
        ----------
        grams : callable, optional
            What makes approximate parts of the root, given the mean ridge of each
            layer's inputs; None makes them exactly.

        Returns
        -------
        list of (float, ndarray of shape (n r, n r))
            Value of the ridge and Gram matrix, the largest value first.

        Raises
        ------
        ValueError
            If the matrices exceed the working memory.
        """
        ridges, alike = self._by_input(self.ridge)
        if grams is None and not alike:
            values = values_of([self.ridge])
            one = np.ones_like(self.ridge)
            parts = [
                self._gram_of(np.flatnonzero(self.ridge == v), one) for v in values
            ]
        else:
            parts = (grams or GaussNewtonRoot.grams)(self.root, ridges=ridges)
            values = values_of(ridges)
        return list(zip(map(float, values), parts, strict=True))

    def grams_of(self, groups: Array, alike: Array) -> list[Array] | None:
        """Return the Gram matrices of groups of parameters, ordered by label.

        None unless the groups are of inputs, the same for all neurons of a layer, few,
        and the numbers `alike`, (P,), are the same within each.
        """
        labels, by_input = self._by_input(groups)
        n_groups = int(groups.max()) + 1
        first = np.zeros(n_groups, self.dtype)
        first[groups] = alike
        held = (n_groups + 2) * self.root.shape[0] ** 2 * self.dtype.itemsize
        if not (by_input and (first[groups] == alike).all() and fits(held)):
            return None
        return self.root.grams(labels)[::-1]

    def _gram_of(self, index: Array, scale: Array) -> Array:
        """Return the part that some columns make, of scales that follow no layer."""
        out = np.zeros((self.root.shape[0],) * 2, self.dtype)
        size = rows_per_chunk(2 * len(out) * self.dtype.itemsize)
        for some in slices(len(index), size):
            columns = self.root.columns(index[some])
            out += (columns * scale[index[some]]) @ columns.T
        return out

    def _by_input(self, numbers: Array) -> tuple[list[Array], bool]:
        """Return what the neurons of each layer have in common, and whether they do.

        The mean where they do not.
        """
        layers = self.network.unpack(numbers)
        xp = namespace(numbers)
        alike = all(bool(xp.all(layer == layer[:1, :])) for layer in layers)
        return [x[0, :] if alike else xp.mean(x, axis=0) for x in layers], alike

    def kronecker_sums(
        self, n_probes: int | None = None, key: int = 0, rows: Array | None = None
    ) -> list[Array]:
        """Return every layer's ``sum_i B_i^T B_i``, then its ``sum_i w_i a_i a_i^T``.

        Parameters
        ----------
        n_probes : int, optional
            See :func:`skgnh.operators.kronecker.kronecker_factors`.
        key : int
            Of the probes, see :func:`skgnh.operators.random.signs`.
        rows : ndarray of int, optional
            Whose probes these rows take; those from the first on if None.
        """
        root = self.root
        if n_probes is not None and n_probes < self.n_roots and root.probes is None:
            rows = np.arange(self.linearization.n_rows) if rows is None else rows
            shape = n_probes, self.network.n_outputs
            drawn = like(signs(key, rows, shape), self.theta)
            # Probes that are drawn for one sweep need not be kept.
            walk = root.over(self.linearization, self.weights, drawn).walk_anew()
        else:
            walk = root.walk(compact=True)
        weighted = self.weights[:, None] ** 0.5

        def part(some, factors):
            return factors.kronecker(pick(weighted, some), root.has_diagonal_outputs)

        return self.linearization.sum(part, *walk)

    def _data_array(self) -> Array:
        return curvature(self.root)

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
        check_count(n_rows, "n_rows")
        rng = generator(random_state)
        importance = to_host(self.row_traces()).astype(np.float64)
        total = importance.sum()
        n = len(importance)
        p = importance / total if total > 0 else np.full(n, 1 / n)
        drawn, counts = np.unique(rng.choice(n, n_rows, p=p), return_counts=True)
        factors = like(counts / (n_rows * p[drawn]), self.weights)
        rows = self.linearization.take(drawn)
        weights = as_precision(pick(self.weights, drawn) * factors, self.dtype)
        root = self.root.over(rows, weights, self.root.probes_of(drawn))
        return self.of(root, self.ridge)

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
        check_count(n_probes, "n_probes")
        n_rows = 1 if shared else self.linearization.n_rows
        shape = (n_rows, n_probes, self.network.n_outputs)
        require(np.prod(shape, dtype=float), "The output probes", "Draw fewer")
        if self.root.probes is not None:
            raise ValueError("This operator has output probes already.")
        drawn = signs(key_of(random_state), np.arange(n_rows), shape[1:])
        drawn = like(drawn, self.theta)
        root = self.root.over(self.linearization, self.weights, drawn)
        return self.of(root, self.ridge)
