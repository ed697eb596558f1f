"""The exact Hessian of a multi-layer perceptron's training objective."""

from typing import Any, NamedTuple

import numpy as np

from skgnh.linalg import Curvature
from skgnh.linearization import Linearization
from skgnh.memory import require
from skgnh.network import ACTIVATIONS
from skgnh.operators import bishop
from skgnh.operators.from_estimator import LoadedModel
from skgnh.operators.hessian import NetworkHessian

Array = Any


class Adjoint(NamedTuple):
    """What one backward pass over n rows leaves for second derivatives."""

    deltas: list
    """Derivative of the weighted loss in z_l of each layer, (n, width_(l+1))."""
    bends: list
    """s''(z_l) times its derivative in s(z_l), of each hidden layer."""


class ExactHessian(NetworkHessian):
    r"""The Hessian of a network's training objective, residuals included.

    .. math:: H = \sum_i w_i \Big( J_i^T Q_i J_i
              + \sum_k \frac{\partial \ell_i}{\partial z_k} \nabla^2 z_k \Big)
              + \mathrm{diag}(ridge)

    The first term is the Gauss-Newton Hessian; the second, which makes H indefinite,
    vanishes with the residuals and for linear networks.

    Parameters
    ----------
    linearization : Linearization
        The network linearised at theta over the n rows.
    loss : object
        One of :data:`skgnh.losses.LOSSES`.
    targets : ndarray of shape (n, d)
        Targets of the rows: unlike the Gauss-Newton Hessian, H depends on them.
    weights : ndarray of shape (n,)
        Weight of each row, as it stands in the sum: ``w / w.sum()`` for a mean.
    ridge : ndarray of shape (P,), optional
        Curvature of the penalty; zero if None.

    Attributes
    ----------
    shape : tuple
        ``(P, P)``, ordered as for :class:`GaussNewtonHessian`.
    dtype : dtype
        That of theta.

    Raises
    ------
    ValueError
        If the targets are not of shape (n, d).

    Notes
    -----
    A product costs O(n P) a column by Pearlmutter's R-operator [1]_, about one and a
    half times one of the Gauss-Newton Hessian, and walks the rows in chunks that stay
    in cache. The kink of relu counts as flat: H is then the Hessian of the pieces,
    which is right almost everywhere but knows nothing of the kinks' own curvature. The
    array costs O(n P^2), whatever d, by Bishop's recursion over the layers [2]_.

    References
    ----------
    .. [1] B. Pearlmutter, "Fast exact multiplication by the Hessian", Neural
           Computation 6(1), 1994.
    .. [2] C. Bishop, "Exact calculation of the Hessian matrix for the multilayer
           perceptron", Neural Computation 4(4), 1992.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.operators import ExactHessian
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(
    ...     8, activation="tanh", solver="lbfgs", alpha=1, max_iter=999, random_state=0
    ... )
    >>> mlp = mlp.fit(X, y)
    >>> H = ExactHessian.from_estimator(mlp, X, y)
    >>> bool(np.linalg.eigvalsh(H.toarray())[0] > -1e-3)
    True
    """

    offers = Curvature.offers | {"toarray", "elimination"}
    subject = "Hessian"

    def __init__(
        self,
        linearization: Linearization,
        loss: Any,
        targets: Array,
        weights: Array,
        ridge: Array | None = None,
    ):
        super().__init__(linearization, loss, weights, ridge)
        self.targets = targets
        expected = (linearization.n_rows, self.network.n_outputs)
        if np.shape(targets) != expected:
            raise ValueError(
                f"targets have shape {np.shape(targets)}, expected {expected}: a row "
                "for each row of the inputs, a column for each output."
            )

    @classmethod
    def _of_model(cls, model: LoadedModel, rows: Linearization) -> "ExactHessian":
        if model.targets is None:
            raise ValueError(
                "The exact Hessian depends on the targets: pass y, or take "
                "GaussNewtonHessian, which does not."
            )
        return cls(rows, model.loss, model.targets, model.weights, model.ridge)

    # ---- some rows ------------------------------------------------------------------

    def adjoint_pass(self, rows: slice, trace: Any) -> Adjoint:
        """Return the backward pass of some rows."""
        layers = self.network.unpack(self.theta)
        delta = self.loss.gradient(self.loss.mean(trace.outputs), self.targets[rows])
        delta = self.weights[rows, None] * delta
        deltas, bends = [delta], []
        for depth in reversed(range(1, len(layers))):
            carried = delta @ layers[depth][:, :-1]
            activation = ACTIVATIONS[self.network.activations[depth - 1]]
            bends.append(activation.bend(trace.inputs[depth][:, :-1]) * carried)
            delta = trace.slopes[depth - 1] * carried
            deltas.append(delta)
        return Adjoint(deltas[::-1], bends[::-1])

    def loss_product(self, rows: slice, trace: Any, moved: Array) -> Array:
        """Return ``w_i Q_i v`` for vectors (n, k, d) in the outputs."""
        mean = self.loss.mean(trace.outputs)
        out = self.loss.root(mean, self.loss.root_adjoint(mean, moved))
        return out * self.weights[rows, None, None]

    def output_hessian(self, rows: slice, trace: Any) -> Array:
        """Return ``w_i Q_i`` of some rows, of shape (n, d, d)."""
        n, d = trace.outputs.shape
        basis = np.broadcast_to(np.eye(d, dtype=self.dtype), (n, d, d))
        return self.loss_product(rows, trace, basis)

    # ---- products -------------------------------------------------------------------

    @property
    def costs(self) -> tuple[float, float]:
        """Operations of a product, a column, and of an entry, of which it makes one."""
        product = 24.0 * self.linearization.n_rows * self.shape[0]
        return product, product

    def _numbers(self, n_columns: int) -> int:
        widths = self.network.layer_units
        return n_columns * (sum(widths[1:]) + 4 * max(widths[1:])) + widths[0]

    def _product(self, directions: Array, rows: slice, trace: Any) -> Array:
        out, adjoint = np.empty_like(directions), self.adjoint_pass(rows, trace)
        layers = self.network.unpack(self.theta)
        moved, sums = self.network.unpack(directions), self.network.unpack(out)
        states = list(self.network.tangents(self.theta, trace, directions))
        n, k = states[-1].shape[:2]
        r = self.loss_product(rows, trace, states[-1])
        for depth in reversed(range(len(layers))):
            block = r.reshape(n, -1).T @ trace.inputs[depth]
            sums[depth][...] = block.reshape(sums[depth].shape)
            if depth == 0:
                break
            slopes, delta = trace.slopes[depth - 1][:, None], adjoint.deltas[depth]
            da = states[depth - 1] * slopes
            block = (delta.T @ da.reshape(n, -1)).reshape(delta.shape[1], k, -1)
            sums[depth][..., :-1] += np.swapaxes(block, 0, 1)
            carried = (r.reshape(n * k, -1) @ layers[depth][:, :-1]).reshape(da.shape)
            carried += np.swapaxes(delta @ moved[depth][..., :-1], 0, 1)
            bends = adjoint.bends[depth - 1][:, None]
            r = bends * states[depth - 1] + slopes * carried
        return out

    # ---- entries --------------------------------------------------------------------

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block ``H[rows, columns]`` by products: O(n P m) for m columns.

        Parameters
        ----------
        rows, columns : arrays of int of shape (k,) and (m,)
            Which parameters.

        Returns
        -------
        ndarray of shape (k, m)
            The block.

        Raises
        ------
        ValueError
            If three arrays of shape (P, m) exceed the working memory.
        """
        columns = np.asarray(columns)
        require(
            3 * self.shape[0] * len(columns) * self.dtype.itemsize,
            f"Products with {len(columns)} unit vectors",
            "Take fewer columns at a time",
        )
        units = np.zeros((self.shape[0], len(columns)), self.dtype)
        units[columns, np.arange(len(columns))] = 1
        return (self @ units)[np.asarray(rows)]

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        r"""Return the diagonal of H, exactly.

        The Hessian :math:`M_l` (width x width, a row) of the loss in z_l is carried
        back: :math:`M_{l-1} = \Sigma' W^T M_l W \Sigma' + \mathrm{diag}(bends)`,
        O(n width P). Its diagonal is all that is needed.

        Parameters
        ----------
        n_probes, random_state
            Ignored: there is no estimate to be had, as there is for a sum of squares.

        Returns
        -------
        ndarray of shape (P,)
            The diagonal, the ridge included.
        """
        return self.ridge + bishop.diagonal(self)

    def _data_array(self) -> Array:
        return bishop.array(self)
