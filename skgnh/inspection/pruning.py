"""Pruning as a function, and what is left as sparse matrices."""

from typing import Any

from scipy import sparse

from skgnh.inspection.pruner import OBSPruner

Array = Any


def prune(
    estimator: Any,
    X: Array,
    y: Array = None,
    sample_weight: Array = None,
    **settings: Any,
) -> Any:
    """Return a copy of a fitted network with most of its weights zero.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier, regressor or autoencoder of this package.
    X : {array-like, sparse matrix} of shape (n, n_features)
        Rows: those of the training.
    y : array-like, optional
        Their targets; not needed for an autoencoder.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.
    **settings
        `sparsity`, `n_steps` and the other parameters of :class:`OBSPruner`, which has
        the method and its cost.

    Returns
    -------
    estimator
        A copy with the mask `pruned_`, boolean arrays in the shapes of `coefs_`. In a
        later `partial_fit`, or `fit` with `warm_start`, these weights stay zero; `fit`
        without it begins anew with all.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is no such parameter.
    ValueError, numpy.linalg.LinAlgError
        See :class:`OBSPruner`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.inspection import prune
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussNewtonMLPClassifier((10,), alpha=1.0, random_state=0).fit(X, y)
    >>> pruned = prune(model, X, y, sparsity=0.8, random_state=0)
    >>> sum(int((coef != 0).sum()) for coef in pruned.coefs_)  # of 70
    14
    >>> pruned.score(X, y) > 0.9
    True
    """
    pruner = OBSPruner(estimator, prefit=True, **settings)
    return pruner.fit(X, y, sample_weight).estimator_


def sparse_coefs(estimator: Any) -> list[sparse.csr_array]:
    """Return the weights of a fitted network as sparse matrices.

    Parameters
    ----------
    estimator : estimator
        With fitted `coefs_`: a network of this package or of scikit-learn.

    Returns
    -------
    list of scipy.sparse.csr_array
        One of shape (width_in, width_out) a layer, of the weights that are not zero.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> from skgnh.inspection import sparse_coefs
    >>> [coef] = sparse_coefs(SimpleNamespace(coefs_=[np.array([[0.0, 2.0]])]))
    >>> coef.nnz
    1
    """
    return [sparse.csr_array(coef) for coef in estimator.coefs_]
