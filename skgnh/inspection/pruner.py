"""The optimal brain surgeon: fewer weights, the others adapted."""

from numbers import Integral, Real
from operator import attrgetter, methodcaller
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_scalar, compute_sample_weight, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skgnh.arrays import check_at_home
from skgnh.estimators.pruned import PrunedWeightsMixin
from skgnh.inspection.base import NetworkMixin
from skgnh.inspection.draws import gradient_draws
from skgnh.inspection.likeliest import check_has_evidence, likeliest, retrained
from skgnh.inspection.surgery import surgery
from skgnh.linalg import check_choice, check_count
from skgnh.memory import require
from skgnh.objective import Objective
from skgnh.operators.random import generator

Array = Any

_SOURCES = ("curvature", "gradient")
# Share of the weights that may go where the evidence says when to stop. Of fewer it
# still rises, but they are so few out of so many that they are chosen to fit the rows,
# which Laplace's evidence does not count: errors on others rise.
_MOST = 0.8


def _network_has(name: str) -> Any:
    return available_if(attrgetter(f"estimator.{name}"))


def _delegated(name: str) -> Any:
    """Return a method that asks the pruned network, where the network has it."""

    def method(self, X: Array) -> Array:
        check_is_fitted(self)
        return methodcaller(name, X)(self.estimator_)

    method.__name__, method.__qualname__ = name, f"OBSPruner.{name}"
    method.__doc__ = f"Return ``estimator_.{name}(X)``."
    return _network_has(name)(method)


class OBSPruner(NetworkMixin, MetaEstimatorMixin, BaseEstimator):
    r"""Fit a network and put most of its weights to zero.

    Where the gradient vanishes, to put the weight w to zero and to adapt the others as
    well as can be raises the objective by :math:`w^2 / (2 [F^{-1}]_{ww})`. The weight
    of least rise goes, the others follow, its row and column are taken out of F, and so
    one after the other. Together those that go, Q, move the others by

    .. math:: \theta \leftarrow \theta + F^{-1} t, \qquad
              [F^{-1}]_{QQ} \, t_Q = -\theta_Q,

    in every block of F, the damped mean of outer products of random draws of the
    curvature, see :class:`skgnh.operators.RankOneInverse`. After step j of r a share
    :math:`(1 - s_0)^{1 - j/r} (1 - s)^{j/r}` of the weights is left, from the present
    sparsity :math:`s_0` to the one asked for, and F is made anew for each. Biases are
    never dropped, but move.

    With ``sparsity='evidence'`` the steps go to s = 0.8, and after each what is left
    is trained until it converges, prior precisions and noise included. Its evidence is
    that of a network without the other weights,

    .. math:: \log Z = \log p(y | \theta) - \tfrac12 \theta^T A \theta
              - \tfrac12 \log\det(I + A^{-1/2} H A^{-1/2}),

    with the Hessian H of minus the log-likelihood and the precisions A, both of the
    weights left. A weight that explains nothing lets it rise as it goes. The pruning
    ends after two steps in a row that have less than an earlier one, and the network
    that has most is kept.

    It is a classifier, a regressor or a transformer as the network is.

    Parameters
    ----------
    estimator : estimator
        A classifier, regressor or autoencoder of this package, of which a clone is
        fitted. One in a :class:`~sklearn.frozen.FrozenEstimator` is taken as it is.
    sparsity : float or 'evidence', default=0.9
        Share s of all weights to be zero, at least the present one and below 1; or
        'evidence' for what has most of it, of a network with ``alpha='evidence'`` or
        ``'ard'``.
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
    n_retrain : int, default=0
        Iterations of training after the pruning, in which the weights stay zero.
    prefit : bool, default=False
        Whether the estimator is fitted already; it is then taken as it is, and not
        changed.
    random_state : int, Generator, RandomState or None, default=None
        Seed of the draws.

    Attributes
    ----------
    estimator_ : estimator
        The pruned network, with the mask `pruned_`.
    sparsity_ : float
        Share of its weights that are held at zero.
    classes_ : ndarray of shape (n_classes,)
        Labels, where it is a classifier.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where X has string names for all.

    Raises
    ------
    NotFittedError
        If the estimator is prefit but not fitted.
    ValueError
        If a parameter or the data are at fault, or the draws or a block exceed the
        working memory.
    numpy.linalg.LinAlgError
        If the damping is too small for the precision.

    Notes
    -----
    A step costs O(m n_rows P) for the draws and O(P m min(m, b) + P b^2) for blocks of
    b parameters; memory 8 (m P + 3 b^2) bytes. With ``sparsity='evidence'`` a step has
    some iterations more, of O(n d k^2 + k^3) for d outputs and k parameters left, by
    solver 'dense' whatever the network's is: others have no determinant that can be
    compared.

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
    >>> from sklearn.model_selection import cross_val_score
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.inspection import OBSPruner
    >>> X, y = load_iris(return_X_y=True)
    >>> network = GaussNewtonMLPClassifier((10,), alpha=1.0, random_state=0)
    >>> pruner = OBSPruner(network, sparsity=0.8, random_state=0)
    >>> pruner.fit(X, y).sparsity_
    0.8
    >>> bool(cross_val_score(pruner, X, y).mean() > 0.9)
    True
    """

    def __init__(
        self,
        estimator: Any,
        *,
        sparsity: float | str = 0.9,
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
        """
        return self._publish(self._fitted(X, y, sample_weight))

    @_network_has("partial_fit")
    def partial_fit(
        self,
        X: Array,
        y: Array | None = None,
        sample_weight: Array | None = None,
        classes: Array | None = None,
    ) -> "OBSPruner":
        """Train the pruned network for an iteration; its pruned weights stay zero.

        Only a trained network can be pruned: the first call, where :meth:`fit` was not
        called before, is that of `fit`.

        Parameters
        ----------
        X, y, sample_weight : array-like
            See :meth:`fit`.
        classes : array-like of shape (n_classes,), optional
            All labels of all calls, of a classifier. The first call has them all.

        Returns
        -------
        self : OBSPruner
            Trained.

        Raises
        ------
        ValueError
            If the classes are not those of the first call.
        """
        try:
            check_is_fitted(self)
        except NotFittedError:
            network = self._fitted(X, y, sample_weight)
            self._check_classes(network, classes)
            return self._publish(network)
        self._check_classes(self.estimator_, classes)
        self.estimator_.partial_fit(X, y, sample_weight)
        return self

    def _check_parameters(self) -> None:
        for name in ("n_steps", "n_gradients", "n_rows", "block_size"):
            check_count(getattr(self, name), name)
        check_scalar(self.n_retrain, "n_retrain", Integral, min_val=0)
        limits = {"min_val": 0, "include_boundaries": "neither"}
        check_scalar(self.damping, "damping", Real, **limits)
        self._check_sparsity()
        if not np.isfinite(self.damping):
            raise ValueError("damping must be finite.")
        check_choice(self.source, "source", _SOURCES)
        network, prefit = self._given()
        is_fitted = prefit and getattr(network, "is_fitted", False)
        if not isinstance(network, PrunedWeightsMixin):
            raise ValueError(
                f"{type(network).__name__} cannot be pruned: its training would not "
                "keep weights at zero. Pass a classifier, regressor or autoencoder of "
                "skgnh; of a pipeline its last step, and the rows transformed."
            )
        if self._by_evidence:
            check_has_evidence(network, is_fitted)

    def _check_sparsity(self) -> None:
        if isinstance(self.sparsity, str):
            check_choice(self.sparsity, "sparsity", ("evidence",))
            return
        limits = {"min_val": 0, "max_val": 1, "include_boundaries": "left"}
        check_scalar(self.sparsity, "sparsity", Real, **limits)
        if not np.isfinite(self.sparsity):
            raise ValueError("sparsity must be finite.")

    @property
    def _by_evidence(self) -> bool:
        return isinstance(self.sparsity, str)

    @staticmethod
    def _check_classes(network: Any, classes: Array | None) -> None:
        if classes is not None and {*classes} != {*network.classes_}:
            raise ValueError(
                f"classes={classes} differ from those of the first call, "
                f"{network.classes_}, which must have rows of every class."
            )

    def _fitted(self, X: Array, y: Array, sample_weight: Array) -> Any:
        """Return the pruned network."""
        self._check_parameters()
        network = self._fit_network(X, y, sample_weight)
        network = self._pruned(network, X, y, sample_weight)
        if isinstance(network.alpha, str):
            return retrained(network, (X, y, sample_weight), max_iter=self.n_retrain)
        balanced = network.get_params(deep=False).get("class_weight") == "balanced"
        if balanced:
            # partial_fit cannot balance by the rows of one call. These are all of them.
            balance = compute_sample_weight("balanced", y)
            given = 1 if sample_weight is None else np.asarray(sample_weight)
            sample_weight = balance * given
            network.set_params(class_weight=None)
        for _ in range(self.n_retrain):
            network.partial_fit(X, y, sample_weight)
        return network.set_params(class_weight="balanced") if balanced else network

    def _pruned(self, network: Any, X: Array, y: Array, sample_weight: Array) -> Any:
        objective, start = Objective.from_estimator(network, X, y, sample_weight)
        check_at_home(start, "Pruning")
        if objective.targets is None:
            raise ValueError("Pruning needs y, unless it is of an autoencoder.")
        if self.joint:
            width = min(self.block_size, len(start))
            block = f"A block of {width} parameters"
            require(3 * width**2 * 8, block, "Take a smaller block_size")
        weights = objective.network.weight_mask() > 0
        counts = self._counts(weights.sum(), network._dropped.sum())
        draws = self.n_gradients, self.n_rows, self.source, generator(self.random_state)
        settings = self.damping, self.block_size, self.joint

        def cut(network: Any, *counts: int) -> Any:
            theta, dropped = network._scaled_parameters, network._dropped
            theta = theta.astype(np.float64)
            for count in counts:
                G = gradient_draws(objective, theta.astype(start.dtype), *draws)
                surgery(theta, dropped, weights, count, G, *settings)
            theta = theta.astype(start.dtype)
            return network._with_dropped(theta, dropped, objective.value(theta))

        if self._by_evidence:
            return likeliest(network, (X, y, sample_weight), cut, counts)
        return cut(network, *counts)

    def _counts(self, n_weights: int, n_dropped: int) -> Array:
        """Return how many weights go in each step."""
        present = n_dropped / n_weights
        sparsity = max(_MOST, present) if self._by_evidence else float(self.sparsity)
        if round(n_weights * sparsity) < n_dropped:
            raise ValueError(
                f"sparsity={self.sparsity} is less than the present one, {present:.4f}:"
                " a weight that was dropped does not come back."
            )
        at = np.arange(1, self.n_steps + 1) / self.n_steps
        kept = (1 - present) ** (1 - at) * (1 - sparsity) ** at
        zeros = np.round(n_weights * (1 - kept)).astype(int)
        return np.diff(np.maximum(zeros, n_dropped), prepend=n_dropped)

    def _publish(self, network: Any) -> "OBSPruner":
        zeros = sum(int(mask.sum()) for mask in network.pruned_)
        self.sparsity_ = zeros / sum(coef.size for coef in network.coefs_)
        self.estimator_ = network
        return self

    predict = _delegated("predict")
    predict_proba = _delegated("predict_proba")
    predict_log_proba = _delegated("predict_log_proba")
    decision_function = _delegated("decision_function")
    transform = _delegated("transform")
    inverse_transform = _delegated("inverse_transform")
    score_samples = _delegated("score_samples")

    @_network_has("score")
    def score(
        self, X: Array, y: Array | None = None, sample_weight: Array | None = None
    ) -> float:
        """Return the pruned network's score."""
        check_is_fitted(self)
        return self.estimator_.score(X, y, sample_weight)

    @_network_has("transform")
    def fit_transform(
        self, X: Array, y: Array | None = None, sample_weight: Array | None = None
    ) -> Array:
        """Fit, and return the codes of the rows; see :meth:`fit`."""
        return self.fit(X, y, sample_weight).transform(X)

    @_network_has("get_feature_names_out")
    def get_feature_names_out(self, input_features: Array | None = None) -> Array:
        """Return the names of what the pruned network's `transform` gives."""
        check_is_fitted(self)
        return self.estimator_.get_feature_names_out(input_features)

    @property
    def classes_(self) -> Array:
        """Labels of the pruned classifier."""
        return self.estimator_.classes_

    def __sklearn_tags__(self) -> Any:
        """Return the network's tags."""
        tags = get_tags(self.estimator)
        tags.array_api_support = False
        return tags
