"""The spectrum of a network's Gauss-Newton Hessian, as a transformer."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state, check_scalar, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from skgnh.arrays import check_at_home
from skgnh.inspection import eigenpairs, measure
from skgnh.inspection.base import NetworkMixin
from skgnh.linalg import check_choice, check_seed
from skgnh.linearization import Linearization
from skgnh.network import append_one
from skgnh.operators import GaussNewtonHessian, load_estimator
from skgnh.threads import limit_threads

Array = Any

_SOLVERS = ("auto", "dense", *eigenpairs.PRODUCT_SOLVERS)


class GNHSpectrum(
    NetworkMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    r"""Eigenpairs and spectral density of a network's Gauss-Newton Hessian.

    For the network's derivatives :math:`J_i` (d x P) and the Hessians :math:`Q_i`
    (d x d) of the loss in its outputs, over rows of weights :math:`w_i` with sum one,

    .. math:: H = \sum_i w_i J_i^T Q_i J_i = \sum_k \lambda_k v_k v_k^T

    is the curvature that the data give to the training objective; the penalty `alpha`
    is left out. A row is described by what it gives to the leading directions,

    .. math:: \mathrm{transform}(X)_{ik} = v_k^T J_i^T Q_i J_i v_k \ge 0,

    whose weighted mean over the rows of `fit` is :math:`\lambda_k`. The estimator's
    ``class_weight`` counts among the weights.

    Parameters
    ----------
    estimator : estimator or None, default=None
        A multi-layer perceptron, scikit-learn's or this package's, of which a clone is
        fitted. One in a :class:`~sklearn.frozen.FrozenEstimator` is taken as it is. If
        None, :class:`~skgnh.GaussNewtonMLPClassifier` or
        :class:`~skgnh.GaussNewtonMLPRegressor` by the type of the target, or
        :class:`~skgnh.GaussNewtonAutoencoder` if there is none.
    n_components : int, default=10
        Number of leading eigenpairs.
    solver : {'auto', 'dense', 'arpack', 'lobpcg', 'hmatrix'}, default='auto'
        'dense' decomposes H as an array; 'arpack' (implicitly restarted Lanczos) and
        'lobpcg' (many columns a product) need its products only; 'hmatrix' runs
        'arpack' on a hierarchical matrix made from its entries. 'auto' takes 'dense'
        where it is cheap or not much dearer than 'arpack', and fits the working
        memory.
    prefit : bool, default=False
        If True, `estimator` is fitted and taken as it is.
    tol : float, default=1e-6
        Accuracy of 'arpack' and 'lobpcg', relative to the largest eigenvalue. The
        error in an eigenvalue is of the order of its square.
    damping : float or None, default=None
        Precision of the prior in `effective_dimension_`; if None that of the
        estimator's penalty, ``alpha / sum(sample_weight)``.
    n_probes : int, default=4
        Random starts of the spectral density.
    lanczos_steps : int, default=64
        Products with H for each start.
    random_state : int, RandomState instance or None, default=None
        Seed of the random starts, and of the network if `estimator` is None.

    Attributes
    ----------
    estimator_ : estimator
        The fitted network.
    eigenvalues_ : ndarray of shape (n_components,)
        The largest eigenvalues, in falling order.
    eigenvectors_ : ndarray of shape (n_components, P)
        Their orthonormal eigenvectors, the entry of largest size positive. Parameters
        lie by layer, within it by output neuron, each neuron's bias last; see
        :meth:`eigenvector_coefs`.
    trace_ : float
        Sum of all eigenvalues, exact.
    explained_trace_ratio_ : ndarray of shape (n_components,)
        ``eigenvalues_ / trace_``.
    density_nodes_, density_weights_ : ndarrays of shape (n_nodes,)
        The spectral density as a sum of point masses, of sum one: all eigenvalues
        where the solver is 'dense'; else the eigenpairs found, and Ritz values for
        the rest. ``P * sum(density_weights_ * f(density_nodes_))`` estimates the trace
        of any function f of H.
    effective_dimension_ : float
        Number of parameters that the data determine,
        :math:`\sum_k \lambda_k / (\lambda_k + damping)` over all P eigenvalues: exact
        where the solver is 'dense', else the middle of the bounds. At zero damping it
        is the rank to rounding.
    effective_dimension_bounds_ : tuple of (float, float)
        What the quadratures of Gauss and Radau, and of Gauss, give for the starts
        drawn. Where they lie apart take more `lanczos_steps`, of the order of
        ``sqrt(eigenvalues_[-1] / damping)``; equal where the solver is 'dense'.
    damping_ : float
        The precision that was taken.
    solver_ : str
        The solver that was taken.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names, where X has string names for all.

    Raises
    ------
    ValueError
        If a parameter is out of range, the estimator is no multi-layer perceptron, does
        not take the `sample_weight` given, or it or its curvature is not finite.
    NotFittedError
        If the estimator is prefit but not fitted.
    scipy.sparse.linalg.ArpackNoConvergence
        If 'arpack' does not converge; 'lobpcg' gives a ConvergenceWarning instead.

    Notes
    -----
    A product with H costs O(n P). 'arpack' takes some 20 and 3 for each eigenpair,
    'lobpcg' 12 for each, in blocks; the density ``n_probes * lanczos_steps``, the trace
    d and `transform` about ``n_components / 2``. 'dense' costs
    :math:`O(n d P^2 + P^3)`. Memory: some ``3 n_components`` vectors of length P, and
    `lanczos_steps` for each start, of which no more are taken at a time than the
    working memory holds.

    References
    ----------
    .. [1] S. Ubaru, J. Chen, Y. Saad, "Fast estimation of tr(f(A)) via stochastic
           Lanczos quadrature", SIAM J. Matrix Anal. Appl. 38(4), 2017.
    .. [2] D. MacKay, "A practical Bayesian framework for backpropagation networks",
           Neural Computation 4(3), 1992.
    .. [3] C. Chen, S. Reiz, C. Yu, H.-J. Bungartz, G. Biros, "Fast approximation of
           the Gauss-Newton Hessian matrix for the multilayer perceptron", SIMAX 42(1),
           2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skgnh.inspection import GNHSpectrum
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier(8, solver="lbfgs", alpha=1, max_iter=999, random_state=0)
    >>> spectrum = GNHSpectrum(mlp, n_components=3).fit(X, y)
    >>> bool(spectrum.explained_trace_ratio_.sum() > 0.9)
    True
    >>> spectrum.transform(X).mean(axis=0) / spectrum.eigenvalues_
    array([1., 1., 1.])
    """

    def __init__(
        self,
        estimator: Any = None,
        n_components: int = 10,
        *,
        solver: str = "auto",
        prefit: bool = False,
        tol: float = 1e-6,
        damping: float | None = None,
        n_probes: int = 4,
        lanczos_steps: int = 64,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.n_components = n_components
        self.solver = solver
        self.prefit = prefit
        self.tol = tol
        self.damping = damping
        self.n_probes = n_probes
        self.lanczos_steps = lanczos_steps
        self.random_state = random_state

    def fit(self, X: Array, y: Array = None, sample_weight: Array = None):
        """Fit the network, unless it is prefit, and decompose its curvature.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n, n_features)
            Rows.
        y : array-like, default=None
            Their targets. A prefit network needs them only for its ``class_weight``.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows, in the fit of the network and in the curvature.

        Returns
        -------
        self : GNHSpectrum
            Fitted.
        """
        self._check_parameters()
        network = self._fit_network(X, y, sample_weight)
        model = load_estimator(network, X, y, sample_weight)
        check_at_home(model.theta, type(self).__name__)
        rows = Linearization(model.network, model.theta, model.inputs)
        H = GaussNewtonHessian(rows, model.loss, model.weights)
        with limit_threads(model.network, rows.n_rows):
            trace, solver, values, vectors, measures = self._decompose(H)
        # Nothing can fail from here on: a refused call leaves what was fitted before.
        P, self.estimator_ = H.shape[0], network
        self.trace_, self.solver_ = trace, solver
        self._network, self._loss = model.network, model.loss
        self._theta: Array = model.theta
        self._scaling = model.scaling
        prior = model.ridge.max() if self.damping is None else self.damping
        self.damping_ = float(prior)
        self.eigenvalues_, self.eigenvectors_ = values[: len(vectors)], vectors
        self.explained_trace_ratio_ = self.eigenvalues_ / (trace or 1)
        self._rounding = P**0.5 * float(np.finfo(H.dtype).eps) * values[0]
        self.density_nodes_, self.density_weights_ = measures[0]
        bounds = sorted(
            P * measure.effective_dimension(x, w, self.damping_, self._rounding)
            for x, w in measures
        )
        self.effective_dimension_bounds_ = (bounds[0], bounds[-1])
        self.effective_dimension_ = (bounds[0] + bounds[-1]) / 2
        return self

    def _decompose(self, H: GaussNewtonHessian) -> tuple:
        """Return trace, solver, the eigenpairs that it found, and the measures."""
        k, P = self.n_components, H.shape[0]
        if k > P:
            raise ValueError(f"n_components={k} exceeds the network's {P} parameters.")
        trace = H.trace()
        if not (np.isfinite(trace) and np.isfinite(H.linearization.theta).all()):
            raise ValueError("The network or its curvature is not finite.")
        check_seed(self.random_state)
        rng, solver = check_random_state(self.random_state), self.solver
        if solver == "auto":
            solver = eigenpairs.choose(H, k, self.n_probes * self.lanczos_steps)
        values, vectors = eigenpairs.leading_eigenpairs(H, k, solver, self.tol, rng)
        measures = measure.spectral_measures(
            H, values, vectors[:k], self.n_probes, self.lanczos_steps, rng
        )
        return trace, solver, values, vectors[:k].copy(), measures

    def _check_parameters(self) -> None:
        for name in ("n_components", "n_probes", "lanczos_steps"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        check_scalar(self.tol, "tol", Real, min_val=0)
        if self.damping is not None:
            check_scalar(self.damping, "damping", Real, min_val=0)
        check_choice(self.solver, "solver", _SOLVERS)

    def transform(self, X: Array) -> Array:
        """Return the curvature that each row gives to the leading directions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n, n_components), of the dtype of X
            :math:`v_k^T J_i^T Q_i J_i v_k`: O(n P) for each k.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32]
        )
        X = self._scaling.scale_inputs(X)
        inputs = append_one(X.astype(self._theta.dtype, copy=False))
        rows = Linearization(self._network, self._theta, inputs)
        H = GaussNewtonHessian(rows, self._loss, np.ones(X.shape[0], self._theta.dtype))
        out = eigenpairs.row_curvatures(H, self.eigenvectors_)
        return out.astype(X.dtype, copy=False)

    def spectral_density(
        self, grid: Array, width: float | None = None, *, log: bool = False
    ) -> Array:
        """Return the density of eigenvalues, smoothed by a Gaussian.

        Parameters
        ----------
        grid : array-like of float
            Eigenvalues where it is asked for; positive if `log`.
        width : float, optional
            Standard deviation of the Gaussian: by default one hundredth of the largest
            eigenvalue or, if `log`, a tenth of a decade.
        log : bool, default=False
            If True, the density is one over the decimal logarithm of the eigenvalue,
            and `width` in decades. Eigenvalues of zero are counted at the level of
            rounding, ``P eps`` times the largest.

        Returns
        -------
        ndarray of the shape of `grid`
            The density; its integral is one.
        """
        check_is_fitted(self)
        nodes = self.density_nodes_
        if log:
            nodes = np.maximum(nodes, max(self._rounding, np.finfo(float).tiny))
        return measure.gaussian_density(
            grid, nodes, self.density_weights_, width, log=log
        )

    def eigenvector_coefs(self, index: int) -> tuple[list[Array], list[Array]]:
        """Return eigenvector `index` as ``coefs_`` and ``intercepts_``, two lists."""
        check_is_fitted(self)
        return self._network.to_coefs(self.eigenvectors_[index])

    @property
    def _n_features_out(self) -> int:
        return len(self.eigenvalues_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        if self.estimator is not None:
            inner, prefit = self._given()
            tags.input_tags.sparse = get_tags(inner).input_tags.sparse
            required = get_tags(inner).target_tags.required
            tags.target_tags.required = required and not prefit
        return tags
