"""The optimal brain surgeon: fewer weights, the others adapted."""

from copy import deepcopy
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_scalar

from skgnh.estimators.base import BaseGaussNewtonMLP
from skgnh.inspection.draws import gradient_draws
from skgnh.inspection.surgery import surgery
from skgnh.memory import require
from skgnh.objective import Objective
from skgnh.operators.random import generator

Array = Any

_SOURCES = ("curvature", "gradient")


def prune(
    estimator: Any,
    X: Array,
    y: Array | None = None,
    sample_weight: Array | None = None,
    *,
    sparsity: float = 0.9,
    n_steps: int = 16,
    n_gradients: int = 1024,
    n_rows: int = 10,
    block_size: int = 128,
    damping: float = 1e-2,
    source: str = "curvature",
    joint: bool = True,
    random_state: Any = None,
) -> Any:
    r"""Return a copy of a fitted network with most of its weights zero.

    Where the gradient vanishes, to put the weight w to zero and to adapt the others as
    well as can be raises the objective by :math:`w^2 / (2 [F^{-1}]_{ww})`. The weight
    of least rise goes, the others follow, its row and column are taken out of F, and so
    one after the other. Together those that go, Q, move the others by

    .. math:: \theta \leftarrow \theta + F^{-1} t, \qquad
              [F^{-1}]_{QQ} \, t_Q = -\theta_Q,

    in every block of F, the damped mean of outer products of random draws of the
    curvature, see :class:`skgnh.operators.RankOneInverse`. After step j of r a share
    :math:`(1 - s_0) f^j` of the weights is left, from the present :math:`1 - s_0` to
    ``1 - sparsity``, and F is made anew for each. Biases are never dropped, but move.

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
    sparsity : float, default=0.9
        Share of all weights to be zero, at least the present one and below 1.
    n_steps : int, default=16
        Steps r.
    n_gradients : int, default=1024
        Draws m of a step.
    n_rows : int, default=10
        Rows of a draw.
    block_size : int, default=128
        Consecutive parameters of a block of F.
    damping : float, default=1e-2
        Damping of F, in units of its mean diagonal.
    source : {'curvature', 'gradient'}, default='curvature'
        What the draws are: of the Gauss-Newton Hessian, or gradients, as in M-FAC.
    joint : bool, default=True
        Whether a weight takes into account those that went before it in the step. If
        False, each is chosen and constrained as if it were alone,
        :math:`t_w = -\theta_w / [F^{-1}]_{ww}`, as in M-FAC.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the draws.

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
    ValueError
        If a parameter or the data are at fault, or the draws or a block exceed the
        working memory.
    numpy.linalg.LinAlgError
        If the damping is too small for the precision.

    Notes
    -----
    A step costs O(m n_rows P) for the draws and O(P m min(m, b) + P b^2) for blocks of
    b parameters; memory 8 (m P + 3 b^2) bytes.

    References
    ----------
    .. [1] B. Hassibi, D. Stork, "Second order derivatives for network pruning: optimal
           brain surgeon", NIPS 1992.
    .. [2] E. Frantar, E. Kurtic, D. Alistarh, "M-FAC: efficient matrix-free
           approximations of second-order information", NeurIPS 2021.
    .. [3] E. Frantar, D. Alistarh, "Optimal brain compression: a framework for accurate
           post-training quantization and pruning", NeurIPS 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.inspection import prune
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussNewtonMLPClassifier((10,), alpha=0.1, random_state=0).fit(X, y)
    >>> pruned = prune(model, X, y, sparsity=0.8, random_state=0)
    >>> sum(int((coef != 0).sum()) for coef in pruned.coefs_)  # of 70
    14
    >>> pruned.score(X, y) > 0.9
    True
    """
    if not isinstance(estimator, BaseGaussNewtonMLP):
        raise ValueError(
            f"{type(estimator).__name__} cannot be pruned: its training would not keep "
            "weights at zero. Pass a fitted classifier, regressor or autoencoder of "
            "skgnh; of a pipeline its last step, and the rows transformed."
        )
    if source not in _SOURCES:
        raise ValueError(f"Unknown source {source!r}; choose among {_SOURCES}.")
    for name, value in (
        ("n_steps", n_steps),
        ("n_gradients", n_gradients),
        ("n_rows", n_rows),
        ("block_size", block_size),
    ):
        check_scalar(value, name, Integral, min_val=1)
    check_scalar(damping, "damping", Real, min_val=0, include_boundaries="neither")
    check_scalar(
        sparsity, "sparsity", Real, min_val=0, max_val=1, include_boundaries="left"
    )
    objective, start = Objective.from_estimator(estimator, X, y, sample_weight)
    weights = objective.network.weight_mask() > 0
    dropped = np.zeros(len(start), bool)
    if hasattr(estimator, "pruned_"):
        dropped = _mask(estimator)
    present = dropped.sum() / weights.sum()
    if round(weights.sum() * sparsity) < dropped.sum():
        raise ValueError(
            f"sparsity={sparsity} is less than the present one, {present:.4f}: a "
            "weight that was dropped does not come back."
        )
    if objective.targets is None:
        raise ValueError("prune needs y, unless it is given an autoencoder.")
    if joint:
        width = min(block_size, len(start))
        require(
            3 * width**2 * 8,
            f"A block of {width} parameters",
            "Take a smaller block_size",
        )
    rng = generator(random_state)
    theta = start.astype(np.float64)
    kept = (1 - present) * ((1 - sparsity) / (1 - present)) ** (
        np.arange(1, n_steps + 1) / n_steps
    )
    for share in kept:
        count = max(0, round(weights.sum() * (1 - share)) - dropped.sum())
        G = gradient_draws(
            objective, theta.astype(start.dtype), n_gradients, n_rows, source, rng
        )
        surgery(theta, dropped, weights, int(count), G, damping, block_size, joint)
    return _with_weights(estimator, objective, theta.astype(start.dtype), dropped)


def _mask(estimator: Any) -> Array:
    """Return `pruned_` in the order of the parameters."""
    no_bias = [np.zeros(len(b), bool) for b in estimator.intercepts_]
    return estimator._network.from_coefs(estimator.pruned_, no_bias)


def _with_weights(
    estimator: Any, objective: Objective, theta: Array, dropped: Array
) -> Any:
    out = deepcopy(estimator)
    out.coefs_, out.intercepts_ = objective.network.to_coefs(theta)
    out.pruned_, _ = objective.network.to_coefs(dropped)
    out.loss_ = objective.value(theta)
    return out


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
