"""Pruning as a meta-estimator."""

from numbers import Integral
from typing import Any

from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import check_scalar
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skgnh.inspection.base import fit_network
from skgnh.inspection.prune import prune

Array = Any


def _network_has(name: str) -> Any:
    def has(self):
        network = getattr(self, "estimator_", self.estimator)
        getattr(network, name)
        return True

    return available_if(has)


class OBSPruner(MetaEstimatorMixin, BaseEstimator):
    """Fit a network and prune it; see :func:`prune`.

    Parameters
    ----------
    estimator : estimator
        A classifier, regressor or autoencoder of this package.
    sparsity, n_steps, n_gradients, n_rows, block_size, damping, source, joint
        See :func:`prune`.
    n_retrain : int, default=0
        Iterations of training after the pruning, in which the weights stay zero.
    prefit : bool, default=False
        Whether the estimator is fitted already; it is then taken as it is, and not
        changed.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.

    Attributes
    ----------
    estimator_ : estimator
        The pruned network.
    sparsity_ : float
        Share of its weights that are zero.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.inspection import OBSPruner
    >>> X, y = load_iris(return_X_y=True)
    >>> network = GaussNewtonMLPClassifier((10,), alpha=0.1, random_state=0)
    >>> pruner = OBSPruner(network, sparsity=0.8, random_state=0).fit(X, y)
    >>> pruner.sparsity_, pruner.score(X, y) > 0.9
    (0.8, True)
    """

    def __init__(
        self,
        estimator: Any,
        *,
        sparsity: float = 0.9,
        n_steps: int = 16,
        n_gradients: int = 1024,
        n_rows: int = 10,
        block_size: int = 128,
        damping: float = 1e-2,
        source: str = "curvature",
        joint: bool = True,
        n_retrain: int = 0,
        prefit: bool = False,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.sparsity = sparsity
        self.n_steps = n_steps
        self.n_gradients = n_gradients
        self.n_rows = n_rows
        self.block_size = block_size
        self.damping = damping
        self.source = source
        self.joint = joint
        self.n_retrain = n_retrain
        self.prefit = prefit
        self.random_state = random_state

    def fit(
        self, X: Array, y: Array | None = None, sample_weight: Array | None = None
    ) -> "OBSPruner":
        """Fit the network, unless it is, and prune it.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n, n_features)
            Rows.
        y : array-like, optional
            Their targets; none for an autoencoder.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows.

        Returns
        -------
        self : OBSPruner
            With the pruned network.

        Raises
        ------
        ValueError
            If a parameter or the data are at fault.
        """
        check_scalar(self.n_retrain, "n_retrain", Integral, min_val=0)
        network = fit_network(
            self.estimator, self.prefit, self.random_state, X, y, sample_weight
        )
        names = set(self.get_params(deep=False)) - {"estimator", "prefit", "n_retrain"}
        settings = {name: getattr(self, name) for name in names}
        self.estimator_ = prune(network, X, y, sample_weight, **settings)
        for _ in range(self.n_retrain):
            self.estimator_.partial_fit(X, y, sample_weight)
        zeros = sum(int(mask.sum()) for mask in self.estimator_.pruned_)
        self.sparsity_ = zeros / sum(coef.size for coef in self.estimator_.coefs_)
        return self

    @_network_has("partial_fit")
    def partial_fit(
        self, X: Array, y: Array | None = None, sample_weight: Array | None = None
    ) -> "OBSPruner":
        """Train the pruned network for an iteration; its pruned weights stay zero.

        Parameters
        ----------
        X, y, sample_weight : array-like
            See :meth:`fit`.

        Returns
        -------
        self : OBSPruner
            Trained.
        """
        check_is_fitted(self)
        self.estimator_.partial_fit(X, y, sample_weight)
        return self

    @_network_has("predict")
    def predict(self, X: Array) -> Array:
        """Return the pruned network's predictions."""
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @_network_has("predict_proba")
    def predict_proba(self, X: Array) -> Array:
        """Return the pruned network's probabilities."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @_network_has("transform")
    def transform(self, X: Array) -> Array:
        """Return the pruned autoencoder's codes."""
        check_is_fitted(self)
        return self.estimator_.transform(X)

    @_network_has("score")
    def score(
        self, X: Array, y: Array | None = None, sample_weight: Array | None = None
    ) -> float:
        """Return the pruned network's score."""
        check_is_fitted(self)
        return self.estimator_.score(X, y, sample_weight)
