"""The classifier."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from skgnh.arrays import (
    float_dtypes,
    is_foreign,
    like,
    namespace,
    pick,
    precision,
    to_host,
)
from skgnh.estimators.base import BaseGaussNewtonMLP
from skgnh.estimators.callbacks import with_callbacks
from skgnh.estimators.candidates import MANY_LABELS
from skgnh.estimators.collections import maps_blocks
from skgnh.estimators.exchange import SklearnExchangeMixin
from skgnh.estimators.features import HiddenFeaturesMixin
from skgnh.estimators.fit import Fit, assemble_fit
from skgnh.estimators.ground import Data
from skgnh.estimators.mapped import validate_rows
from skgnh.estimators.predictive import averaged
from skgnh.estimators.publish import learned
from skgnh.network import MLP, densified
from skgnh.operators.from_estimator import encode_labels

Array = Any


class GaussNewtonMLPClassifier(
    HiddenFeaturesMixin, SklearnExchangeMixin, ClassifierMixin, BaseGaussNewtonMLP
):
    r"""Multi-layer perceptron classifier trained by Levenberg-Marquardt.

    Minimises scikit-learn's objective, the mean cross-entropy plus
    ``alpha / (2 n) ||weights||^2``, for binary, multiclass and multilabel targets.

    Parameters
    ----------
    hidden_layer_sizes : 'auto', int or sequence of int, default='auto'
        Widths of the hidden layers. 'auto' begins small and, with
        ``alpha='evidence'``, doubles them while most parameters are effective and
        the rows have room for more.
    activation : {'auto', 'identity', 'logistic', 'tanh', 'relu'}, default='auto'
        Activation of the hidden layers. 'auto' takes 'tanh' or, from 900 rows on and
        with ``alpha='evidence'``, the one of 'tanh' and 'relu' of more evidence.
    standardize : bool, default=True
        Whether to centre and scale the columns of X (sparse ones are scaled only)
        inside: units do not matter then. `coefs_` and `intercepts_` are those of the
        raw columns all the same; the penalty and `loss_` are of the scaled data.
    solver : str or Solver, default='auto'
        Solver of the damped Gauss-Newton systems: 'auto', 'dense', 'gram', 'cg',
        or another name of :func:`skgnh.solvers.all_solvers`, or an instance, whose
        parameters a grid search reaches as ``solver__<parameter>``. 'auto' chooses by
        cost and memory, see :class:`skgnh.solvers.Auto`; `solver_` says what was taken.
    alpha : 'evidence', 'ard' or float, default='evidence'
        Strength of the L2 penalty. 'evidence' gives weights and biases of each layer a
        prior precision of their own and finds these, and the noise, by the evidence
        (MacKay, 1992) as the training goes; with 'ard' each input column has one. A
        number is that of all weights (not the intercepts), divided by the sum of the
        sample weights, as in scikit-learn, on the scaled data.
    batch_size : int or 'auto', default='auto'
        Rows of a gradient. 'auto' takes all: steps are then monotone and an iteration
        is one accepted step. With a given `alpha`, one or two outputs and at least
        2,560 rows it begins with 256 rows, and doubles them as long as steps do not
        carry over to others. With less than all an iteration is an epoch, and each step
        is judged on the next batch.
    curvature_batch_size : int or 'auto', default='auto'
        Rows of the Gauss-Newton Hessian, drawn anew for each step; 'auto' takes at most
        2,000 or, by the evidence, a tenth of the gradient's where that is more.
    damping : float, default=1.0
        First damping, in units of the prior precisions or, with a given `alpha`, of the
        Hessian's mean diagonal. It adapts at once.
    max_iter : int, default=100
        Most iterations.
    tol : float or 'auto', default='auto'
        Training stops when, for more than `n_iter_no_change` iterations in a row, the
        evidence has not risen by `tol` nats a row; with a given `alpha`, when the
        objective (the validation loss with `early_stopping`) has not improved by `tol`
        times the loss of the best constant prediction (for the squared error, by `tol`
        in R^2), or is below and so can't any more. 'auto' is 1e-3 for the evidence and
        1e-5 for an objective.
    n_iter_no_change : int or 'auto', default='auto'
        See `tol`. 'auto' is 3 for the evidence and 10 for an objective.
    early_stopping : bool, default=False
        Whether to watch the loss of validation rows instead of the objective, and to
        keep the weights that were best on them.
    validation_fraction : float, default=0.1
        Share of the rows set aside for it, unless `fit` is given `X_val`.
    init : {'glorot', 'ntk'}, default='glorot'
        What the first weights are drawn as. 'glorot' takes scikit-learn's range; 'ntk'
        is the start of the theory of wide networks, without biases:
        :math:`z_1 = W_1 x`, :math:`z_{l+1} = m_l^{-1/2} W_{l+1} s(z_l)` of independent
        normal W of variance one, for layers of :math:`m_l` units, and random signs
        :math:`\pm m^{-1/2}` as the last layer's weights. It is meant for rows of norm
        one and ``standardize=False``.
    trainable_layers : sequence of int or None, default=None
        Which layers are trained, by their place in `coefs_`; negative ones count from
        the end, None is all. The others stay at their first weights or, where
        `warm_start` or `partial_fit` goes on, bit for bit at those that were fitted:
        ``set_params(trainable_layers=[-1], warm_start=True)`` learns another task from
        the features of the first. They have no posterior and no prior, networks with
        such layers are not widened, and no constant prediction is weighed.
    class_weight : dict, 'balanced' or None, default=None
        Weights of the classes, multiplied into the sample weights.
    average : bool, default=False
        Whether probabilities are means over the posterior of the network, which are
        less sure, and not those of the most probable network alone. It needs the
        evidence. Where classes overlap and rows are few the log-loss of unseen rows is
        lower by it, where they can be told apart it is higher.
    random_state : int, RandomState instance or None, default=None
        Seed of the first weights, which are scikit-learn's for the same seed (the
        output intercepts plus the best constant), of the validation split and of the
        batches.
    verbose : bool, default=False
        Whether to print a line an iteration.
    warm_start : bool, default=False
        Whether `fit` goes on from the present weights.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels; the label numbers of a multilabel target.
    coefs_ : list of ndarray of shape (width_in, width_out)
        Weights of each layer, as in scikit-learn's MLP.
    intercepts_ : list of ndarray of shape (width_out,)
        Biases of each layer.
    pruned_ : list of ndarray of bool
        Weights held at zero, only after :func:`skgnh.inspection.prune`.
    loss_ : float
        Objective of the fitted weights over the training rows.
    best_loss_ : float or None
        Lowest of `loss_curve_`; None with `early_stopping`.
    loss_curve_ : list of float
        Objective after each iteration; with mini-batches the mean over the epoch,
        each step valued on the batch that judged it.
    validation_loss_curve_, validation_scores_ : list of float or None
        Loss and score (accuracy) on the validation rows after each iteration.
    best_validation_score_ : float or None
        Best of `validation_scores_`.
    history_ : dict of ndarray
        One entry for each trial step: time (seconds), value, gradient_norm, damping,
        gain_ratio, residual, solves, products and the other fields of
        :class:`skgnh.training.Step`, and its iteration.
    damping_ : float
        Last damping, absolute, where `warm_start` and `partial_fit` go on.
    solver_ : Solver
        Solver that was taken.
    log_marginal_likelihood_ : float
        Logarithm of the evidence of the fitted weights, in nats. It and the next five
        are there with the evidence only.
    noise_variance_ : None
        Labels have none.
    prior_precision_ : list of ndarray of shape (width_in + 1,)
        Precisions of the weights of each layer's inputs, and of its biases, for
        scaled columns.
    effective_parameters_ : float
        How many parameters the rows determine.
    feature_relevance_ : ndarray of shape (`n_features_in_`,)
        Prior variance of each column's weights, the largest being one: equal but for
        'ard'.
    feature_importances_ : ndarray of shape (`n_features_in_`,)
        Share of each column in how far the outputs move, with the evidence only: the
        mean over rows and outputs of ``abs(dz_k / dx_j)`` times the column's standard
        deviation, divided by the sum over columns. `feature_relevance_` tells how bent
        the effect of a column is rather than how large.
    posterior_ : LaplacePosterior
        Posterior of the parameters, with the evidence only; see
        :class:`skgnh.posterior.LaplacePosterior`.
    n_iter_ : int
        Number of iterations.
    n_layers_, n_outputs_ : int
        Number of layers, with the input, and of outputs.
    hidden_activations_ : list of str
        Activation of each hidden layer.
    out_activation_ : str
        Output activation.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where X has any.

    Notes
    -----
    The objective, the range of the first weights and the layout of `coefs_` are those
    of :class:`sklearn.neural_network.MLPClassifier`: models move between the two. An
    iteration costs a gradient over all rows, O(n P) for P parameters, and the solve
    (with 'cg', at most 50 products of O(n P) over the curvature's rows). Memory: one
    copy of X, the activations where they fit, a few vectors of P numbers, and what the
    solver states.

    References
    ----------
    .. [1] C. Chen, S. Reiz, C. Yu, H.-J. Bungartz, G. Biros, "Fast approximation of
           the Gauss-Newton Hessian matrix for the multilayer perceptron", SIMAX 42(1),
           2021.
    .. [2] J. Martens, "Deep learning via Hessian-free optimization", ICML 2010.
    .. [3] H. B. Nielsen, "Damping parameter in Marquardt's method", IMM-REP-1999-05,
           Technical University of Denmark, 1999.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussNewtonMLPClassifier(hidden_layer_sizes=(10,), random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    >>> model.predict_proba(X[:2]).shape
    (2, 3)
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = "auto",
        activation: str = "auto",
        *,
        standardize: bool = True,
        solver: Any = "auto",
        alpha: float | str = "evidence",
        batch_size: int | str = "auto",
        curvature_batch_size: int | str = "auto",
        damping: float = 1.0,
        max_iter: int = 100,
        tol: float | str = "auto",
        n_iter_no_change: int | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        init: str = "glorot",
        trainable_layers: Any = None,
        class_weight: Any = None,
        average: bool = False,
        random_state: Any = None,
        verbose: bool = False,
        warm_start: bool = False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.standardize = standardize
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.curvature_batch_size = curvature_batch_size
        self.damping, self.max_iter = damping, max_iter
        self.tol, self.n_iter_no_change = tol, n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.init, self.trainable_layers = init, trainable_layers
        self.class_weight = class_weight
        self.average = average
        self.random_state = random_state
        self.verbose, self.warm_start = verbose, warm_start

    _has_labels = True

    @with_callbacks
    def fit(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None = None,
        *,
        X_val: Array | None = None,
        y_val: Array | None = None,
        sample_weight_val: Array | None = None,
        resume_from: Any = None,
    ) -> "GaussNewtonMLPClassifier":
        """Fit the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or a multilabel indicator.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows; multiplied with those of `class_weight`.
        X_val, y_val, sample_weight_val : array-like, optional
            Validation rows: their loss and score are recorded, and with
            `early_stopping` they take the place of the split.
        resume_from : str or path-like, optional
            File of a :class:`~skgnh.Checkpoint` of this very fit, to go on from.

        Returns
        -------
        self : GaussNewtonMLPClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are at fault; the message says how.
        """
        data = Data(X, y, sample_weight, X_val, y_val, sample_weight_val)
        return self._fit(data, resume_from=resume_from)

    @with_callbacks
    def partial_fit(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None = None,
        classes: Array | None = None,
    ) -> "GaussNewtonMLPClassifier":
        """Learn from more rows, without forgetting those before.

        By the evidence a call is a maximum a posteriori step under the posterior of all
        rows so far, of 20 iterations at most. The model keeps 1,000 rows as they are,
        as many of each label as it can; of the others a quadratic is left, of
        P^2 numbers, or of P beyond 3,000 parameters. Give each row once: repeated, it
        counts as often. A call costs a Cholesky decomposition an iteration, O(P^3 / 3).
        With a given `alpha` it is one iteration over the given rows alone.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, or a multilabel indicator.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.
        classes : array-like of shape (n_classes,), optional
            All labels of all calls; needed in the first.

        Returns
        -------
        self : GaussNewtonMLPClassifier
            The fitted estimator.

        Raises
        ------
        ValueError
            If the first call names no classes, or `class_weight` is 'balanced',
            which the rows of one call can't tell.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "partial_fit cannot balance classes by the rows of one call: pass "
                "sample_weight or a dict class_weight."
            )
        if classes is not None:
            classes = np.unique(classes)
            if self.is_fitted and not np.array_equal(self.classes_, classes):
                raise ValueError(
                    f"classes={classes} differ from those of the first call, "
                    f"{self.classes_}."
                )
        elif not self.is_fitted:
            raise ValueError("The first call of partial_fit needs classes.")
        return self._fit(Data(X, y, sample_weight, classes=classes), incremental=True)

    @maps_blocks
    def predict(self, X: Array) -> Array:
        """Return the most probable labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels, or the multilabel indicator.
        """
        return self._decide(self._predict_mean(X))

    @maps_blocks
    def predict_proba(self, X: Array) -> Array:
        """Return the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`; for a multilabel target that of
            each label.
        """
        z = self._decision(X)
        with np.errstate(over="ignore"):
            p = self._loss.mean(z)
        return namespace(p).concat([1 - p, p], axis=1) if self.n_outputs_ == 1 else p

    @maps_blocks
    def decision_function(self, X: Array) -> Array:
        """Return the outputs that :meth:`predict_proba` is the activation of.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Log-odds of the second of two classes or of each label; of more classes,
            the logarithms of their probabilities up to a constant of the row.
        """
        z = self._decision(X)
        return z[:, 0] if self.n_outputs_ == 1 else z

    def _decision(self, X: Array) -> Array:
        inputs = self._inputs(X)
        z = self._outputs(inputs)
        posterior = self._posterior if self.average else None
        if posterior is None:
            return z
        return averaged(posterior, z, inputs, self.out_activation_ == "softmax")

    @maps_blocks
    def predict_log_proba(self, X: Array) -> Array:
        """Return the logarithm of the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            ``log(predict_proba(X))``.
        """
        p = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return namespace(p).log(p)

    def _decide(self, p: Array) -> Array:
        xp = namespace(p)
        if self.out_activation_ == "softmax":
            return self._labels(xp.argmax(p, axis=1))
        decided = xp.astype(p > 0.5, xp.int64)
        return self._labels(decided[:, 0]) if p.shape[1] == 1 else decided

    def _labels(self, index: Array) -> Array:
        """Return the classes of some numbers; they may be text, which is NumPy's."""
        if is_foreign(self.classes_):
            return namespace(index).take(self.classes_, index)
        return self.classes_[to_host(index)]

    def _alternative(self, fit: Fit) -> Fit | None:
        """Return a fit with relu beside one with tanh, where rows are many."""
        ground, network = fit.ground, fit.network
        if self.activation != "auto" or ground.rows.X.shape[0] < MANY_LABELS:
            return None
        other = MLP(network.layer_units, ("relu",) * len(network.activations))
        theta = fit.training.theta
        start = other.initialize(ground.rng, precision(theta), self.init)
        start = like(start, theta)
        return assemble_fit(ground, other, start)

    def _read(self, X: Array, y: Array, reset: bool) -> tuple[Array, Array]:
        X, y = validate_rows(
            self,
            X,
            y,
            reset=reset,
            accept_sparse="csr",
            multi_output=True,
            dtype=float_dtypes(X),
        )
        y = densified(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(to_host(y))
        if type_of_target(to_host(y)) == "multiclass-multioutput":
            raise ValueError(
                "y has several multiclass outputs; only one, or a multilabel "
                "indicator, is supported."
            )
        self._learn_labels(y, reset)
        return X, like(encode_labels(y, self.classes_, precision(X)), X)

    def _learn_labels(self, y: Array, reset: bool) -> None:
        """Set or check the kind of the labels, and the classes unless they are."""
        multilabel, known = y.ndim == 2, learned(self)
        if known.get("_multilabel_", multilabel) != multilabel:
            raise ValueError(
                "y and y_val (or the y of an earlier call) must be of one kind: labels "
                "or multilabel indicators."
            )
        self._multilabel_ = multilabel
        if "classes_" not in known:
            self.classes_ = _classes(y, multilabel)
        if not multilabel and self.classes_.shape[0] < 2:
            raise ValueError(
                "A classifier needs at least 2 classes; y has one class, "
                f"{to_host(self.classes_)[0]}."
            )

    def _row_weights(
        self, X: Array, targets: Array, sample_weight: Array | None
    ) -> Array | None:
        weights = super()._row_weights(X, targets, sample_weight)
        if self.class_weight is not None:
            labels = to_host(self._decide(targets))
            expanded = compute_sample_weight(self.class_weight, labels)
            if not (np.isfinite(expanded) & (expanded >= 0)).all():
                raise ValueError("class_weight must be finite and not negative.")
            weights = expanded if weights is None else weights * expanded
        return weights

    def _check_enough(self, targets: Array, weights: Array | None) -> None:
        if weights is None or self._multilabel_:
            return
        kept = pick(targets, np.flatnonzero(weights > 0))
        if len(np.unique(to_host(self._decide(kept)))) < 2:
            raise ValueError(
                "A classifier needs at least 2 classes; the rows of positive weight "
                "have one class."
            )

    def _strata(self, targets: Array) -> Array | None:
        targets = to_host(targets)
        if self.out_activation_ == "softmax":
            return targets.argmax(axis=1)
        return targets[:, 0] if targets.shape[1] == 1 else None

    def _out_activation(self) -> str:
        softmax = self.classes_.shape[0] > 2 and not self._multilabel_
        return "softmax" if softmax else "logistic"

    def _score_outputs(self, z: Array, targets: Array, weights: Array) -> float:
        xp = namespace(z)
        if not bool(xp.all(xp.isfinite(z))):
            return float("nan")
        found = self._decide(self._loss.mean(z))
        true = self._decide(targets)
        return float(accuracy_score(true, found, sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _classes(y: Array, multilabel: bool) -> Array:
    """Return the different labels, or the numbers of several."""
    xp = namespace(y)
    if multilabel:
        return np.arange(y.shape[1])
    return xp.unique_values(y) if is_foreign(y) else np.unique(y)
