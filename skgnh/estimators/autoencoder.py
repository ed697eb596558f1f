"""The autoencoder."""

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from skgnh.arrays import detached, float_dtypes, like, namespace, precision, to_host
from skgnh.blocks import Blocks
from skgnh.estimators.base import BaseGaussNewtonMLP
from skgnh.estimators.callbacks import with_callbacks
from skgnh.estimators.candidates import says_more
from skgnh.estimators.collections import maps_blocks
from skgnh.estimators.features import run_layers
from skgnh.estimators.fit import Fit, assemble_fit
from skgnh.estimators.ground import Data
from skgnh.estimators.mapped import validate_rows
from skgnh.estimators.parameters import layer_sizes
from skgnh.estimators.pca_start import pca_start, serves
from skgnh.lazy_rows import LazyRows
from skgnh.operators.from_estimator import check_place, check_sample_weight
from skgnh.scaling import Moments

Array = Any


class GaussNewtonAutoencoder(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseGaussNewtonMLP
):
    r"""Autoencoder trained by Levenberg-Marquardt.

    A perceptron with mirrored layers that reproduces its input through a narrow code:
    minimises ``1/(2 d) ||z - x||^2``, averaged over the rows, plus
    ``alpha / (2 n) ||weights||^2``.

    Parameters
    ----------
    encoder_layer_sizes : int or sequence of int, default=(64, 8)
        Widths from the first hidden layer to the code; the decoder mirrors them.
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='tanh'
        Activation of the hidden layers but the code.
    code_activation : {'identity', 'logistic', 'tanh', 'relu'}, default='identity'
        Activation of the code layer. Codes of 'identity' have no bounds: with few rows
        use `early_stopping` or a 'tanh' code against rows far out.
    standardize : bool, default=True
        Whether to centre and scale the columns of X and the reconstructions inside:
        units do not matter then. `coefs_` and `intercepts_` are those of the raw
        columns all the same; the penalty and `loss_` are of the scaled data.
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
        Loss and score (minus the mean squared error) on the validation rows after each
        iteration.
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
    noise_variance_ : float or ndarray of shape (`n_outputs_`,)
        Variance of the noise, in units of X.
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
    of :class:`sklearn.neural_network.MLPRegressor`: models move between the two. An
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
    >>> from skgnh import GaussNewtonAutoencoder
    >>> X = load_iris().data
    >>> GaussNewtonAutoencoder((8, 2), random_state=0).fit_transform(X).shape
    (150, 2)
    """

    def __init__(
        self,
        encoder_layer_sizes: Any = (64, 8),
        activation: str = "tanh",
        code_activation: str = "identity",
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
        random_state: Any = None,
        verbose: bool = False,
        warm_start: bool = False,
    ):
        self.encoder_layer_sizes = encoder_layer_sizes
        self.activation = activation
        self.code_activation = code_activation
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
        self.random_state = random_state
        self.verbose, self.warm_start = verbose, warm_start

    _needs_targets = False
    _sizes_are_given = True

    @with_callbacks
    def fit(
        self,
        X: Array,
        y: Any = None,
        sample_weight: Array | None = None,
        *,
        X_val: Array | None = None,
        sample_weight_val: Array | None = None,
        resume_from: Any = None,
    ) -> "GaussNewtonAutoencoder":
        """Fit the network to reproduce its input.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.
        X_val, sample_weight_val : array-like, optional
            Validation rows: their loss and score are recorded, and with
            `early_stopping` they take the place of the split.
        resume_from : str or path-like, optional
            File of a :class:`~skgnh.Checkpoint` of this very fit, to go on from.

        Returns
        -------
        self : GaussNewtonAutoencoder
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data are at fault; the message says how.
        """
        data = Data(X, None, sample_weight, X_val, None, sample_weight_val)
        return self._fit(data, resume_from=resume_from)

    @with_callbacks
    def partial_fit(
        self, X: Array, y: Any = None, sample_weight: Array | None = None
    ) -> "GaussNewtonAutoencoder":
        """Learn from more rows, without forgetting those before.

        By the evidence a call is a maximum a posteriori step under the posterior of all
        rows so far, of 20 iterations at most. The model keeps 1,000 rows as they are,
        drawn from all; of the others a quadratic is left, of
        P^2 numbers, or of P beyond 3,000 parameters. Give each row once: repeated, it
        counts as often. A call costs a Cholesky decomposition an iteration, O(P^3 / 3).
        With a given `alpha` it is one iteration over the given rows alone.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        self : GaussNewtonAutoencoder
            The fitted estimator.
        """
        return self._fit(Data(X, None, sample_weight), incremental=True)

    @maps_blocks
    def transform(self, X: Array) -> Array:
        """Return the codes of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, encoder_layer_sizes[-1])
            Activations of the code layer.
        """
        check_is_fitted(self)
        X = self._read(X, None, reset=False)[0]
        check_place(X, self.coefs_[0], self)
        scaled = self._scaling_.scale_inputs(X)
        return run_layers(self, scaled, 0, self._n_encoder_layers)

    @maps_blocks
    def inverse_transform(self, X: Array) -> Array:
        """Return the rows that codes decode to.

        Parameters
        ----------
        X : array-like of shape (n_samples, encoder_layer_sizes[-1])
            Codes.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Reconstructions.

        Raises
        ------
        ValueError
            If the codes have another width.
        """
        check_is_fitted(self)
        codes = check_array(detached(X), dtype=float_dtypes(X))
        check_place(codes, self.coefs_[0], self)
        if codes.shape[1] != self._n_features_out:
            raise ValueError(
                f"Codes have {codes.shape[1]} columns, expected {self._n_features_out}."
            )
        z = run_layers(self, codes, self._n_encoder_layers, len(self.coefs_))
        return self._scaling_.restore_outputs(z)

    @maps_blocks
    def predict(self, X: Array) -> Array:
        """Return the reconstruction of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            ``inverse_transform(transform(X))``.
        """
        check_is_fitted(self)
        self._read(X, None, reset=False)
        return self._predict_mean(X)

    @maps_blocks
    def score_samples(self, X: Array) -> Array:
        """Return minus the mean squared reconstruction error of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            The larger, the more like the training rows.
        """
        check_is_fitted(self)
        rows = self._read(X, None, reset=False)[0]
        return -namespace(rows).mean((rows - self._predict_mean(X)) ** 2, axis=1)

    def score(
        self, X: Array, y: Any = None, sample_weight: Array | None = None
    ) -> float:
        """Return minus the mean squared reconstruction error.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
            The (weighted) mean of :meth:`score_samples`.
        """
        scores = np.asarray(to_host(self.score_samples(X)))
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, scores)
        return float(np.average(scores, weights=sample_weight))

    @property
    def _n_encoder_layers(self) -> int:
        return len(self.coefs_) // 2

    @property
    def _n_features_out(self) -> int:
        """Width of the code, which the names of the features out are made from."""
        return self.coefs_[self._n_encoder_layers - 1].shape[1]

    def _hidden_layers(self, n: int) -> tuple[list[int], list[str]]:
        encoder = layer_sizes(self.encoder_layer_sizes, "encoder_layer_sizes")
        if not encoder:
            raise ValueError("encoder_layer_sizes must name at least the code's width.")
        outer = [self.activation] * (len(encoder) - 1)
        return [*encoder, *encoder[-2::-1]], [*outer, self.code_activation, *outer]

    _random_start = False

    def _starts_near(self, network: Any) -> bool:
        by_evidence = isinstance(self.alpha, str)
        drawn = self._random_start or self.init != "glorot"
        return by_evidence and serves(network) and not drawn

    def _alternative(self, fit: Fit) -> Fit | None:
        """Return a fit from a random start, if it says more of unseen rows than PCA."""
        if not self._starts_near(fit.network):
            return None
        draft = copy(self)
        draft._random_start = True
        if not says_more(fit, draft):
            return None
        theta = fit.training.theta
        start = fit.network.initialize(fit.ground.rng, precision(theta), self.init)
        start = like(start, theta)
        return assemble_fit(fit.ground._replace(draft=draft), fit.network, start)

    def _prefers(self, fit: Fit, other: Fit) -> Fit:
        return other

    def _first(self, objective: Any, theta: Array) -> Array:
        if self._starts_near(objective.network):
            start = pca_start(objective, theta)
            xp = namespace(start)
            if bool(xp.all(xp.isfinite(start))):
                return start
        return super()._first(objective, theta)

    def _target_moments(self, moments: Moments) -> Moments:
        # One unit for all columns: what counts is the error in the user's units.
        largest = moments.deviation.max() or 1.0
        whole = largest * np.sqrt(np.mean((moments.deviation / largest) ** 2))
        return replace(moments, deviation=np.full_like(moments.deviation, whole))

    def _read(self, X: Array, y: Any, reset: bool) -> tuple[Array, Array]:
        if sparse.issparse(X):
            raise ValueError(
                "Sparse input is not supported by an autoencoder, whose "
                "reconstructions are dense: pass X.toarray()."
            )
        X = validate_rows(self, X, reset=reset, dtype=float_dtypes(X))
        if isinstance(X, Blocks):
            X = LazyRows(X)
        return X, X

    def _out_activation(self) -> str:
        return "identity"

    def _score_outputs(self, z: Array, targets: Array, weights: Array) -> float:
        return -float(weights @ namespace(z).mean((targets - z) ** 2, axis=1))

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
