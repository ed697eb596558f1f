"""The Gauss-Newton Hessian on some of the parameters."""

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

from skgnh.arrays import is_foreign, pick
from skgnh.linalg import Curvature, PrincipalSubmatrix

Array = Any

_OF_ROOT = {"root", "samples"}


class RestrictedHessian(PrincipalSubmatrix):
    """Principal submatrix of a Hessian, where the other parameters do not move.

    It answers what solvers ask, except for what belongs to whole layers (Gram matrices
    and Kronecker factors); the ``restricted`` of a Hessian to all parameters of some
    layers has that too.

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
        # But for what belongs to whole layers; the root's columns take a sparse array.
        if not is_foreign(self.like):
            self.offers |= H.offers & _OF_ROOT
        self.linearization, self.ridge = H.linearization, pick(H.ridge, self.index)
        if "root" in self.offers:
            # Columns of the root, by products.
            k, (P, _) = len(self.index), H.shape
            units = np.ones(k, H.dtype), self.index, np.arange(k + 1)
            self.root = H.root @ aslinearoperator(sparse.csc_array(units, (P, k)))
            self.n_roots = H.n_roots
