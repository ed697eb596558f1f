r"""What each training row does to a fit, and what the fit says without it.

Leaving row i out of the posterior :math:`\Lambda = A + \rho \sum_j w_j J_j^T Q_j J_j`
moves the parameters, by one Newton step from the fitted ones, to

.. math:: \hat\theta_{-i} = \hat\theta + \Lambda^{-1} J_i^T v_i, \qquad
          v_i = (I - \rho w_i Q_i C_i)^{-1} \rho w_i g_i, \quad
          C_i = J_i \Lambda^{-1} J_i^T

with the gradient :math:`g_i` and the Hessian :math:`Q_i = S_i S_i^T` of its loss in the
outputs. All is said in the symmetric matrix of its leverages,

.. math:: K_i = \rho w_i S_i^T C_i S_i, \qquad 0 \le K_i < I .

Prior precisions, noise and the scaling of columns stay those of all rows.

References
----------
.. [1] R. D. Cook, "Detection of influential observation in linear regression",
       Technometrics 19(1), 1977.
.. [2] D. Pregibon, "Logistic regression diagnostics", Annals of Statistics 9(4), 1981.
.. [3] K. Rahnama Rad, A. Maleki, "A scalable estimate of the out-of-sample prediction
       error via approximate leave-one-out cross-validation", JRSS B 82(4), 2020.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaln

from skgnh.arrays import check_at_home
from skgnh.estimators.base import BaseGaussNewtonMLP
from skgnh.estimators.predictive import posterior_of
from skgnh.estimators.rows import outputs
from skgnh.memory import require, rows_per_chunk, slices
from skgnh.operators import load_estimator
from skgnh.operators.from_estimator import check_sample_weight
from skgnh.posterior import LaplacePosterior
from skgnh.progress import Track, in_parallel, tracker
from skgnh.scaling import Scaling

Array = Any

# Leverages are taken as no nearer to 1: what they leave of a row would be rounding.
_ROUNDING = 1e-8
_MOST = np.finfo(float).max
# Of counts, by how much variance over mean exceeds one at least.
_OVERDISPERSED = 1e-6


@dataclass(frozen=True)
class Influence:
    r"""Case diagnostics of n training rows; see :func:`influence`.

    Arrays of shape (n, d) lose their last axis where there is one output. Means are in
    units of y; those of labels are probabilities, of two classes that of the second.

    Attributes
    ----------
    leverage : ndarray of shape (n,)
        :math:`h_i = \mathrm{tr}\, K_i`, the effective parameters that are spent on a
        row: at least zero, below d.
    residuals : ndarray of shape (n,) or (n, d)
        :math:`e_i = y_i - \mu_i`; labels count as zeros and ones.
    standardized_residuals : ndarray of shape (n,) or (n, d)
        Residuals over :math:`\sigma \sqrt{1 - K_{i,kk}}`: the deviation of the noise,
        of a row of weight one, and what the fit has left of it. Of counts and labels
        the noise has the variance of the loss, :math:`S (I - K) S^T` (Pearson's
        residuals).
    cooks_distance : ndarray of shape (n,)
        :math:`D_i = (\hat\theta_{-i} - \hat\theta)^T \Lambda (\hat\theta_{-i} -
        \hat\theta) / \gamma = v_i^T C_i v_i / \gamma`, the squared move of the
        parameters, and so of all outputs, in units of the posterior, over the
        effective parameters :math:`\gamma`. Of a linear regression without a prior
        it is Cook's, :math:`e^2 h / (\gamma \sigma^2 (1 - h)^2)`.
    loo_residuals : ndarray of shape (n,) or (n, d)
        Residuals of `loo_mean`; for the squared error :math:`(I - K_i)^{-1} e_i`.
    loo_mean : ndarray of shape (n,) or (n, d)
        Predictions of each row by the others.
    loo_score : float
        R^2 or accuracy of `loo_mean`, as ``score`` gives it.
    loo_log_density : ndarray of shape (n,)
        Logarithm of the density of each row's targets predicted by the others, in
        units of y: with noise and the posterior's variance without the row, for the
        squared error and counts; of labels, that of their probability.
    loo_log_likelihood : float
        Mean of `loo_log_density`, by the sample weights.
    changes : ndarray of shape (n_test, n) or (n_test, n, d), or None
        By how much the prediction of each row of `X_test` changes when a training row
        is left out; None without `X_test`.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.inspection import influence
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(hidden_layer_sizes=3, random_state=0).fit(X, y)
    >>> found = influence(model, X, y, X_test=[[0.0], [0.5]])
    >>> found.leverage.shape, found.loo_mean.shape, found.changes.shape
    ((40,), (40,), (2, 40))
    """

    leverage: Array
    residuals: Array
    standardized_residuals: Array
    cooks_distance: Array
    loo_residuals: Array
    loo_mean: Array
    loo_score: float
    loo_log_density: Array
    loo_log_likelihood: float
    changes: Array | None = None


def influence(
    estimator: Any,
    X: Array,
    y: Array,
    X_test: Array | None = None,
    *,
    sample_weight: Array | None = None,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Influence:
    r"""Return leverages, leave-one-out predictions and influence of training rows.

    For a linear model with the squared error they are exact; otherwise those of one
    Newton step from the fitted parameters, as if these were a minimum [1]_ [2]_ [3]_.
    Prior precisions, noise and the scaling of columns stay those of all rows.

    Parameters
    ----------
    estimator : estimator
        A classifier, regressor or autoencoder of this package, fitted by the evidence.
    X : {array-like, sparse matrix} of shape (n, n_features)
        Rows that it was fitted to.
    y : array-like of shape (n,) or (n, d)
        Their targets; None for an autoencoder.
    X_test : {array-like, sparse matrix} of shape (n_test, n_features), optional
        Rows whose predictions are to be watched.
    sample_weight : array-like of shape (n,), optional
        Weights that it was fitted with. A row is left out with all of its weight.
    n_jobs : int, optional
        Of the parts that the rows come in, how many are left out at a time, by joblib:
        each takes the working memory. None is 1 unless
        :func:`joblib.parallel_config` says more. The numbers are the same.
    verbose : bool, default=False
        Whether to show a progress bar, with `rich`.

    Returns
    -------
    Influence
        The diagnostics.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is not of this package.
    ValueError
        If it has no `posterior_`, the data do not belong to it, or `changes` or the
        Jacobian of one row exceed the working memory.

    Notes
    -----
    Cost: d solves with the posterior's factor a row, O(n d P^2) by Cholesky's, and
    O(n n_test P) for the changes. Jacobians are made some rows at a time. Leverages add
    up to the effective parameters if the posterior is exact and of all the rows.

    An approximate posterior (Kronecker factors, low rank) knows a single row too little
    to be rid of it: it is taken as the one without the row. The step is then that of
    the infinitesimal jackknife, :math:`v_i = \rho w_i g_i`, and the leverages are
    :math:`\mathrm{tr}\, K_i (I + K_i)^{-1}`.

    At the maximum of the posterior of a tanh network, 22 effective parameters of 100
    rows, the moves of rows' own predictions were found within 8 % of refits without
    the row in the median, and within 22 % at most. A training by the evidence ends
    near the maximum, not at it: what a refit goes on to move there is not in these
    numbers.

    Probabilities are those of the fitted parameters (``average=False``).

    References
    ----------
    .. [1] R. D. Cook, "Detection of influential observation in linear regression",
           Technometrics 19(1), 1977.
    .. [2] D. Pregibon, "Logistic regression diagnostics", Annals of Statistics 9(4),
           1981.
    .. [3] K. Rahnama Rad, A. Maleki, "A scalable estimate of the out-of-sample
           prediction error via approximate leave-one-out cross-validation", JRSS B
           82(4), 2020.

    Examples
    --------
    A wrong target stands out:

    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.inspection import influence
    >>> rng = np.random.default_rng(0)
    >>> X = np.linspace(-2, 2, 60)[:, None]
    >>> y = np.sin(2 * X[:, 0]) + 0.1 * rng.standard_normal(60)
    >>> y[20] += 2
    >>> model = GaussNewtonMLPRegressor(hidden_layer_sizes=5, random_state=0)
    >>> found = influence(model.fit(X, y), X, y)
    >>> int(found.cooks_distance.argmax())
    20
    >>> bool(np.isclose(found.leverage.sum(), model.effective_parameters_, rtol=0.1))
    True
    >>> found.loo_score < model.score(X, y)
    True
    """
    cases = _Cases.of(estimator, X, y, sample_weight)
    watched = None if X_test is None else _Watched.of(estimator, cases, X_test)
    joined, changes = _all_left_out(cases, watched, n_jobs, tracker(verbose))
    leverage, standardized, squares, z, log_density = joined
    given = 1.0 if sample_weight is None else sample_weight
    weight = check_sample_weight(given, cases.inputs)
    weight = weight / weight.sum()
    y, mean, loo_mean = cases.truth, cases.mean(cases.z), cases.mean(z)
    with np.errstate(over="ignore"):
        score = estimator._score_outputs(cases.scaling.restore_outputs(z), y, weight)
    return Influence(
        leverage=leverage,
        residuals=_squeezed(y - mean),
        standardized_residuals=_squeezed(standardized),
        cooks_distance=cases.cooks_distance(squares),
        loo_residuals=_squeezed(y - loo_mean),
        loo_mean=_squeezed(loo_mean),
        loo_score=float(score),
        loo_log_density=log_density,
        loo_log_likelihood=float(np.average(log_density, weights=weight)),
        changes=None if changes is None else _squeezed(changes),
    )


def _all_left_out(cases: Any, watched: Any, n_jobs: int | None, track: Track) -> tuple:
    """Return what :func:`_left` does, of all rows."""
    P, (n, d) = len(cases.posterior.theta), cases.targets.shape
    held = 4 * d * (P + d) + (0 if watched is None else 3 * watched.z.size)
    chunks = slices(n, rows_per_chunk(8 * held))
    left = partial(_left, cases, watched)
    parts: list = [()] * len(chunks)
    changes = None if watched is None else np.empty((len(watched.z), n, d))
    for k, found in in_parallel(left, chunks, n_jobs, track, "Rows left out"):
        parts[k], moved = found
        if changes is not None:
            changes[:, chunks[k]] = moved
    return [np.concatenate(part) for part in zip(*parts, strict=True)], changes


def _left(cases: Any, watched: Any, rows: slice) -> tuple:
    """Return the diagnostics of some rows, and the changes where rows are watched."""
    solved, left = cases.leave_out(rows)
    changes = None
    if watched is not None:
        changes = watched.changes(np.einsum("pnd,nd->pn", solved, left.seeds))
    return cases.diagnostics(rows, left), changes


class _LeftOut(NamedTuple):
    """Rows left out, each by itself."""

    leverages: Array
    """Eigenvalues of K_i, (n, d)."""
    spread: Array
    """Diagonal of S_i (I - K_i) S_i^T, (n, d)."""
    seeds: Array
    """v_i, (n, d)."""
    moved: Array
    """Change of the row's own outputs, C_i v_i, (n, d)."""
    covariance: Array
    """That of the row's outputs without it, (n, d, d)."""


def _left_out(
    C: Array, roots: Array, gradient: Array, rates: Array, is_exact: bool
) -> _LeftOut:
    r"""Return what leaving each row out does to itself, by Woodbury's identity.

    .. math:: C_{-i} = C + B (I - K)^{-1} B^T, \quad
              v = \rho w g + F (I - K)^{-1} B^T \rho w g, \qquad
              F = \sqrt{\rho w} S, \; B = C F

    by the eigenvectors of K: O(n d^3). Where C is that without the row, or too large to
    be anything else, v is the gradient alone and K (I + K)^{-1} are the leverages.

    Parameters
    ----------
    C : ndarray of shape (n, d, d)
        Covariance of each row's outputs.
    roots : ndarray of shape (n, d, d)
        S_i^T.
    gradient : ndarray of shape (n, d)
        Of the loss in the outputs.
    rates : ndarray of shape (n,)
        rho w_i.
    is_exact : bool
        Whether C is that of all rows.
    """
    S = np.swapaxes(roots, 1, 2)
    values, U = np.linalg.eigh(rates[:, None, None] * (roots @ C @ S))
    values = np.maximum(values, 0)
    holds = is_exact & (values[:, -1:] <= 1 + _ROUNDING)
    leverages = np.where(
        holds, np.minimum(values, 1 - _ROUNDING), values / (1 + values)
    )
    # What C is to be inflated by; without the row already, by nothing.
    inflation = np.where(holds, 1 / (1 - leverages), 0)
    turned = S @ U
    F = np.sqrt(rates)[:, None, None] * turned
    B = C @ F
    pushed = rates[:, None] * gradient
    inner = np.einsum("nkj,nk->nj", B, pushed) * inflation
    seeds = pushed + np.einsum("nkj,nj->nk", F, inner)
    return _LeftOut(
        leverages,
        np.einsum("nkj,nj->nk", turned**2, 1 - leverages),
        seeds,
        np.einsum("nkl,nl->nk", C, seeds),
        C + (B * inflation[:, None, :]) @ np.swapaxes(B, 1, 2),
    )


class _Cases(NamedTuple):
    """The rows of a fitted estimator, in double precision."""

    posterior: LaplacePosterior
    loss: Any
    scaling: Scaling
    inputs: Array
    targets: Array
    weights: Array
    dispersion: float
    z: Array
    """Fitted outputs, (n, d)."""

    @classmethod
    def of(cls, estimator: Any, X: Array, y: Array, sample_weight: Any) -> "_Cases":
        """Return the rows; errors are those of :func:`influence`."""
        if not isinstance(estimator, BaseGaussNewtonMLP):
            raise TypeError(
                f"{type(estimator).__name__} is not an estimator of this package; of a "
                "pipeline or a search, pass the network and the rows that it has seen."
            )
        check_at_home(X, "influence")
        model = load_estimator(estimator, X, y, sample_weight)
        check_at_home(model.theta, "influence")
        if model.targets is None:
            raise ValueError("y is missing: influence is that of rows with targets.")
        posterior = posterior_of(estimator)
        # The weights as they are: those of the model have the sum one.
        weights = estimator._row_weights(model.inputs, model.targets, sample_weight)
        if weights is None:
            weights = np.ones(len(model.targets))
        inputs = model.inputs.astype(np.float64)
        return cls(
            posterior,
            model.loss,
            model.scaling,
            inputs,
            model.targets.astype(np.float64),
            np.asarray(weights, dtype=np.float64),
            float(estimator._state_.hyper.dispersion),
            outputs(posterior.network, posterior.theta, inputs),
        )

    @property
    def rate(self) -> float:
        """By what a row's loss stands in minus the log-likelihood."""
        return self.loss.rate(self.targets.shape[1], self.dispersion)

    @property
    def truth(self) -> Array:
        """Targets in units of y, (n, d)."""
        return self.scaling.restore_outputs(self.targets)

    def mean(self, z: Array) -> Array:
        """Return predictions in units of y of outputs (n, d); finite."""
        with np.errstate(over="ignore"):
            mean = self.loss.mean(self.scaling.restore_outputs(z))
        most = np.finfo(mean.dtype).max
        return np.clip(mean, -most, most)

    def leave_out(self, rows: slice) -> tuple[Array, _LeftOut]:
        r"""Return :math:`\Lambda^{-1} J_i^T` of some rows, (P, n, d), and the rest."""
        J = self.posterior.output_rows(self.inputs[rows])
        n, d, P = J.shape
        solved = self.posterior.solve(J.reshape(-1, P).T).reshape(P, n, d)
        C = np.einsum("nkp,pnl->nkl", J, solved)
        mean = self.loss.mean(self.z[rows])
        gradient = self.loss.gradient(mean, self.targets[rows])
        roots = self.loss.root(mean, np.tile(np.eye(d), (n, 1, 1)))
        rates = self.rate * self.weights[rows]
        exact = self.posterior.factor.is_exact
        return solved, _left_out(C, roots, gradient, rates, exact)

    def cooks_distance(self, squares: Array) -> Array:
        """Return squared moves over the number of effective parameters."""
        P = len(self.posterior.theta)
        left = self.posterior.trace_of_inverse(np.zeros(P, dtype=int)).sum()
        with np.errstate(over="ignore"):
            found = squares / max(P - float(left), np.finfo(float).tiny)
        return np.minimum(found, _MOST)

    def diagnostics(self, rows: slice, left: _LeftOut) -> tuple[Array, ...]:
        """Return leverage, standardized residuals, D gamma, outputs and log density."""
        mean = self.loss.mean(self.z[rows])
        # Residual and noise are g and the variance of g, up to the same factor.
        gradient = self.loss.gradient(mean, self.targets[rows])
        noise = np.sqrt(np.maximum(left.spread / self.rate, np.finfo(float).tiny))
        z = self.z[rows] + left.moved
        return (
            left.leverages.sum(axis=1),
            -gradient / noise,
            np.maximum(np.einsum("nk,nk->n", left.seeds, left.moved), 0),
            z,
            self._log_density(z, self.targets[rows], left.covariance),
        )

    def _log_density(self, z: Array, targets: Array, C: Array) -> Array:
        """Return that of targets whose outputs have the mean z and the covariance C."""
        if self.loss.is_log_likelihood:
            return -self.loss.value(z, targets)
        if self.loss.is_equivariant:
            noisy = C + self.dispersion * np.eye(z.shape[1])
            found = _log_normal(targets - z, noisy, self.dispersion)
            scale = self.scaling.outputs
            return found if scale is None else found - np.log(scale.scale).sum()
        mean, variance = self.mean(z), np.einsum("nkk->nk", C)
        # Of the log link: the variance over the mean, as the predictive has it.
        with np.errstate(over="ignore"):
            relative = self.dispersion + mean * variance
        return _log_count(targets, mean, relative).sum(axis=1)


def _log_normal(residuals: Array, covariance: Array, least: float) -> Array:
    """Return the normal log density of residuals (n, d), of variance `least` at least.

    The covariances are of shape (n, d, d).
    """
    # By eigenvalues: next to no weight leaves no digits for a Cholesky factor.
    variances, U = np.linalg.eigh(covariance)
    turned = np.einsum("nkj,nk->nj", U, residuals)
    variances = np.maximum(variances, least)
    return -0.5 * (turned**2 / variances + np.log(2 * np.pi * variances)).sum(axis=1)


def _log_count(y: Array, mean: Array, relative: Array) -> Array:
    """Return the log probability of counts of this mean and variance over mean.

    The negative binomial's, whose formula is taken for fractions too.
    """
    mean = np.clip(mean, 1e-300, 1e15)
    excess = np.clip(relative - 1, _OVERDISPERSED, 1e15)
    r = np.maximum(mean / excess, 1e-300)
    log_share = np.log(excess) - np.log1p(excess)
    return -np.log(y + r) - betaln(r, y + 1) - r * np.log1p(excess) + y * log_share


class _Watched:
    """Rows whose predictions change with each training row that is left out."""

    def __init__(self, cases: _Cases, inputs: Array):
        n, d = len(cases.targets), cases.targets.shape[1]
        n_test = inputs.shape[0]
        require(
            8 * n_test * n * d,
            f"The changes of {n_test} rows by {n} rows",
            "Take fewer rows of X_test",
        )
        posterior = cases.posterior
        self._cases, self._root = cases, posterior._root(inputs)
        self.z = outputs(posterior.network, posterior.theta, inputs)

    @classmethod
    def of(cls, estimator: Any, cases: _Cases, X_test: Array) -> "_Watched":
        """Return the rows of X_test."""
        return cls(cases, estimator._inputs(X_test).astype(np.float64))

    def changes(self, moved: Array) -> Array:
        """Return what moves of the parameters (P, k) do, of shape (n_test, k, d).

        A tangent each, O(n_test P).
        """
        n_test, d = self.z.shape
        dz = (self._root @ moved).reshape(n_test, d, -1).transpose(0, 2, 1)
        z = (self.z[:, None] + dz).reshape(-1, d)
        mean = self._cases.mean(z).reshape(dz.shape)
        return mean - self._cases.mean(self.z)[:, None]


def _squeezed(values: Array) -> Array:
    """Return values without the axis of the outputs, where there is one output."""
    return values[..., 0] if values.shape[-1] == 1 else values
