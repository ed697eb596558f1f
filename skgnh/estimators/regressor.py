"""The regressor."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state, check_scalar, column_or_1d
from sklearn.utils.validation import check_is_fitted

from skgnh.arrays import (
    as_precision,
    float_dtypes,
    is_foreign,
    like,
    namespace,
    precision,
    reshape,
)
from skgnh.estimators.base import BaseGaussNewtonMLP
from skgnh.estimators.callbacks import with_callbacks
from skgnh.estimators.collections import maps_blocks
from skgnh.estimators.exchange import SklearnExchangeMixin
from skgnh.estimators.features import HiddenFeaturesMixin
from skgnh.estimators.fit import Fit
from skgnh.estimators.ground import Data
from skgnh.estimators.mapped import validate_rows
from skgnh.estimators.noise import noise_model
from skgnh.estimators.predictive import Predictive, posterior_of
from skgnh.network import densified
from skgnh.posterior import LaplacePosterior

Array = Any

_OUT_ACTIVATIONS = {"squared_error": "identity", "poisson": "exp"}


class GaussNewtonMLPRegressor(
    HiddenFeaturesMixin, SklearnExchangeMixin, RegressorMixin, BaseGaussNewtonMLP
):
    r"""Multi-layer perceptron regressor trained by Levenberg-Marquardt.

    Minimises scikit-learn's objective, ``1/(2 d) ||z - y||^2`` or half the Poisson
    deviance, averaged over the rows, plus ``alpha / (2 n) ||weights||^2``.

    Parameters
    ----------
    loss : {'squared_error', 'poisson'}, default='squared_error'
        Loss; 'poisson' has a log link and needs targets >= 0.
    hidden_layer_sizes : 'auto', int or sequence of int, default='auto'
        Widths of the hidden layers. 'auto' begins small and, with
        ``alpha='evidence'``, doubles them while most parameters are effective and
        the rows have room for more.
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default='tanh'
        Activation of the hidden layers.
    standardize : bool, default=True
        Whether to centre and scale the columns of X (sparse ones are scaled only) and,
        for the squared error, the targets inside: units do not matter then. `coefs_`
        and `intercepts_` are those of the raw columns all the same; the penalty and
        `loss_` are of the scaled data.
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
    noise : {'constant', 'heteroscedastic'}, default='constant'
        Whether all targets have noise of the same variance or, for the squared error
        and by the evidence, one that a second, small network learns from the squares of
        leave-one-out residuals. Predictions are the same; their `return_std` and
        intervals are not.
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
        Loss and score (R^2) on the validation rows after each iteration.
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
        Variance of the noise, in units of y; for 'poisson' over the mean.
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
    noise_model_ : NoiseModel or None
        What tells the variance of the noise of a row over `noise_variance_`, only with
        ``noise='heteroscedastic'``; None where residuals were not finite.
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
    >>> from sklearn.datasets import make_friedman1
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> X, y = make_friedman1(200, random_state=0)
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=(10,), activation="tanh", tol=1e-3, random_state=0
    ... )
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = "auto",
        activation: str = "tanh",
        *,
        standardize: bool = True,
        solver: Any = "auto",
        alpha: float | str = "evidence",
        noise: str = "constant",
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
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.standardize = standardize
        self.solver = solver
        self.alpha = alpha
        self.noise = noise
        self.batch_size = batch_size
        self.curvature_batch_size = curvature_batch_size
        self.damping, self.max_iter = damping, max_iter
        self.tol, self.n_iter_no_change = tol, n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.init, self.trainable_layers = init, trainable_layers
        self.random_state = random_state
        self.verbose, self.warm_start = verbose, warm_start

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
    ) -> "GaussNewtonMLPRegressor":
        """Fit the network.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.
        X_val, y_val, sample_weight_val : array-like, optional
            Validation rows: their loss and score are recorded, and with
            `early_stopping` they take the place of the split.
        resume_from : str or path-like, optional
            File of a :class:`~skgnh.Checkpoint` of this very fit, to go on from.

        Returns
        -------
        self : GaussNewtonMLPRegressor
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
        self, X: Array, y: Array, sample_weight: Array | None = None
    ) -> "GaussNewtonMLPRegressor":
        """Learn from more rows, without forgetting those before.

        By the evidence a call is a maximum a posteriori step under the posterior of all
        rows so far, of 20 iterations at most. The model keeps 1,000 rows as they are,
        drawn from all; of the others a quadratic is left, of
        P^2 numbers, or of P beyond 3,000 parameters. Give each row once: repeated, it
        counts as often. A call costs a Cholesky decomposition an iteration, O(P^3 / 3).
        With a given `alpha` it is one iteration over the given rows alone.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        self : GaussNewtonMLPRegressor
            The fitted estimator.
        """
        return self._fit(Data(X, y, sample_weight), incremental=True)

    @maps_blocks
    def predict(
        self, X: Array, return_std: bool = False, return_cov: bool = False
    ) -> Any:
        """Return the predicted means, and how far targets are from them.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        return_std : bool, default=False
            Whether to return the standard deviation of the targets too: of the
            posterior of the network and of the noise together.
        return_cov : bool, default=False
            Whether to return their covariance over the rows.

        Returns
        -------
        mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions.
        std : ndarray of the shape of `mean`
            Standard deviations, only with `return_std`.
        cov : ndarray of shape (n_samples, n_samples) or (..., n_outputs)
            Covariances of each output, only with `return_cov`.

        Raises
        ------
        RuntimeError
            If both are asked for.
        ValueError
            If one is asked for and there is no `posterior_`, or the covariance exceeds
            the working memory.

        """
        if return_std and return_cov:
            raise RuntimeError(
                "At most one of return_std or return_cov can be requested."
            )
        if not (return_std or return_cov):
            return self._one_output(self._predict_mean(X))
        predictive = self._predictive(X)
        mean = self._one_output(like(predictive.mean, self.coefs_[0]))
        if return_std:
            return mean, self._one_output(predictive.std())
        return mean, self._one_output(predictive.covariance(), axis=2)

    @maps_blocks
    def predict_interval(self, X: Array, coverage: float = 0.9) -> Array:
        """Return intervals that targets lie in with a given probability.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        coverage : float, default=0.9
            The probability, between 0 and 1.

        Returns
        -------
        ndarray of shape (n_samples, 2) or (n_samples, n_outputs, 2)
            Lower and upper bounds, with as much probability below as above.

        Raises
        ------
        ValueError
            If the coverage is not between 0 and 1, or there is no `posterior_`.

        Examples
        --------
        >>> from sklearn.datasets import make_friedman1
        >>> from skgnh import GaussNewtonMLPRegressor
        >>> X, y = make_friedman1(300, noise=1.0, random_state=0)
        >>> model = GaussNewtonMLPRegressor(random_state=0).fit(X[:200], y[:200])
        >>> low, high = model.predict_interval(X[200:], coverage=0.9).T
        >>> bool(0.8 < ((low < y[200:]) & (y[200:] < high)).mean() < 1)
        True
        """
        check_scalar(
            coverage,
            "coverage",
            Real,
            min_val=0,
            max_val=1,
            include_boundaries="neither",
        )
        return self._one_output(self._predictive(X).interval(coverage))

    def sample_y(self, X: Array, n_samples: int = 1, random_state: Any = 0) -> Array:
        """Draw targets, the noise included.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples_X, n_features)
            Rows.
        n_samples : int, default=1
            Draws; each is of one network for all rows.
        random_state : int, RandomState instance or None, default=0
            Seed.

        Returns
        -------
        ndarray of shape (n_samples_X, n_samples) or (n_samples_X, n_outputs, n_samples)
            Draws.

        Raises
        ------
        ValueError
            If there is no `posterior_`, or one without draws (solver 'hmatrix').
        """
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        seed = check_random_state(random_state).randint(2**31 - 1)
        drawn = self._predictive(X).sample(n_samples, np.random.default_rng(seed))
        return self._one_output(drawn)

    def _predictive(self, X: Array) -> Predictive:
        check_is_fitted(self)
        return Predictive(self, posterior_of(self), self._inputs(X))

    def _one_output(self, values: Array, axis: int = 1) -> Array:
        """Return values without the axis of the outputs, where there is one output."""
        if self.n_outputs_ > 1:
            return values
        return namespace(values).squeeze(values, axis=axis)

    def _beside(self, fit: Fit, posterior: LaplacePosterior) -> dict[str, Any]:
        if self.noise == "constant":
            return {}
        template = GaussNewtonMLPRegressor(
            loss="poisson",
            standardize=False,
            random_state=fit.state.rng.integers(2**31 - 1).item(),
        )
        return {"noise_model_": noise_model(template, fit, posterior)}

    def _read(self, X: Array, y: Array, reset: bool) -> tuple[Array, Array]:
        X, y = validate_rows(
            self,
            X,
            y,
            reset=reset,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=True,
            dtype=float_dtypes(X),
        )
        y = densified(y)
        if not is_foreign(y) and y.dtype.kind in "SU":
            raise ValueError("y must be numbers, got text.")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        xp = namespace(y)
        with np.errstate(over="ignore"):
            targets = as_precision(reshape(y, (y.shape[0], -1)), precision(X))
        if not bool(xp.all(xp.isfinite(targets))):
            raise ValueError(f"y has values too large for {X.dtype}, that of X.")
        targets = like(targets, X)
        return X, targets

    def _out_activation(self) -> str:
        if self.loss not in _OUT_ACTIVATIONS:
            raise ValueError(
                f"Unknown loss {self.loss!r}; choose among {sorted(_OUT_ACTIVATIONS)}."
            )
        return _OUT_ACTIVATIONS[self.loss]

    def _score_outputs(self, z: Array, targets: Array, weights: Array) -> float:
        mean = self._loss.mean(z)
        xp = namespace(mean)
        if not bool(xp.all(xp.isfinite(mean))) or mean.shape[0] < 2:
            return float("nan")
        return float(r2_score(targets, mean, sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags
