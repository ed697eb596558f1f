"""The Gauss-Newton Hessian on some of the parameters."""

from typing import Any

from scipy.sparse.linalg import LinearOperator

from skgnh.linalg import Curvature, PrincipalSubmatrix, expanded

Array = Any


class RestrictedRoot(LinearOperator):
    """Columns of a root J_S, by products.

    Parameters
    ----------
    root : GaussNewtonRoot
        The whole.
    index : ndarray of int of shape (k,)
        Which parameters.
    """

    def __init__(self, root: Any, index: Array):
        self._root, self.index = root, index
        super().__init__(root.dtype, (root.shape[0], len(index)))

    def _matmat(self, V: Array) -> Array:
        return self._root @ expanded(V, self.index, self._root.shape[1])

    def _rmatvec(self, u: Array) -> Array:
        return self._rmatmat(u.reshape(-1, 1))[:, 0]

    def _rmatmat(self, U: Array) -> Array:
        return (self._root.T @ U)[self.index]


class RestrictedHessian(PrincipalSubmatrix):
    """Principal submatrix of a Hessian, where the other parameters do not move.

    It answers what solvers ask, except for what belongs to whole layers (Gram matrices
    and Kronecker factors).

    Parameters
    ----------
    H : GaussNewtonHessian or ExactHessian
        The whole.
    index : ndarray of int of shape (k,)
        Which parameters.

    Notes
    -----
    A product costs that of the whole, O(n P), an array O(n r k^2), or less where many
    of the indices share neurons.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.operators import GaussNewtonHessian, RestrictedHessian
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(8, solver="lbfgs", alpha=1, max_iter=999, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> H = GaussNewtonHessian.from_estimator(mlp, X)
    >>> RestrictedHessian(H, np.arange(10)).shape
    (10, 10)
    """

    def __init__(self, H: Curvature, index: Array):
        super().__init__(H, index)
        self.linearization, self.ridge = H.linearization, H.ridge[self.index]
        if "root" in H.offers:
            self.n_roots, self.root = H.n_roots, RestrictedRoot(H.root, self.index)

    @property
    def offers(self) -> frozenset:
        """What the whole offers, but for what belongs to whole layers."""
        return super().offers | (self._H.offers & {"root", "samples"})
