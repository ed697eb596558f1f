r"""Laplace's approximation of the posterior of a network's parameters.

Around the fitted parameters :math:`\hat\theta` the posterior is taken to be normal with
the precision

.. math:: \Lambda = H + A, \qquad H = \rho \sum_i w_i J_i^T Q_i J_i, \quad
          A = \mathrm{diag}(\alpha),

H the Gauss-Newton Hessian of the negative log-likelihood and :math:`\alpha` the prior
precisions. It is held in the units of the prior, where it is never singular,

.. math:: \Lambda^{-1} = S (I + M)^{-1} S, \qquad S = A^{-1/2}, \quad M = S H S ,

by a factor of I + M: its Cholesky factor, a Gram matrix, a low-rank, Kronecker or
hierarchical approximation, whichever :mod:`skgnh.solvers` has. Predictions are those of
the network linearised at :math:`\hat\theta`: :math:`z(x) \sim N(\hat z, J \Lambda^{-1}
J^T)`.

References
----------
.. [1] D. MacKay, "A practical Bayesian framework for backpropagation networks", Neural
       Computation 4(3), 1992.
.. [2] A. Immer, M. Korzepa, M. Bauer, "Improving predictions of Bayesian neural nets
       via local linearization", AISTATS 2021.
"""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError
from sklearn.base import clone

from skgnh.arrays import (
    add_to_diagonal,
    as_precision,
    at_least,
    contiguous,
    copied,
    is_foreign,
    like,
    namespace,
    precision,
    reshape,
    to_host,
)
from skgnh.linalg import Curvature
from skgnh.linearization import Linearization
from skgnh.memory import fits, require
from skgnh.network import MLP
from skgnh.operators.mapped import InputScales, MappedRoot, by_inputs
from skgnh.operators.root import GaussNewtonRoot
from skgnh.solvers import KFAC, Dense, Gram, HMatrix, Nystrom, Solver
from skgnh.solvers.dense import DenseFactor

Array = Any

# Multiply-adds of a factor that are not worth sparing, the rows that are spared as a
# multiple of P, and those of the variance of one row's outputs.
_CHEAP, _ROWS_PER_PARAMETER, _CHEAP_ROW = 1e10, 5, 1e7
# Rows and outputs up to which the Gram matrix is taken.
_FEW = 2000
# Of the largest curvature, what rounding may take away; how often it may be raised.
_ROUNDING, _TRIES = 10.0, 3
# Output probes for the largest entry of the diagonal, which only scales that.
_SCALE_PROBES = 4


class _Outputs:
    """A loss whose root J_S is the derivative of the outputs, or of contrasts."""

    def __init__(self, contrasts: bool):
        self._contrasts = contrasts
        self.has_diagonal_root = not contrasts

    def mean(self, z: Array) -> Array:
        return z

    def root(self, mean: Array, x: Array) -> Array:
        # Who asks goes on in place: a copy.
        if not self._contrasts:
            return copied(x)
        return x - namespace(x).mean(x, axis=-1, keepdims=True)

    root_adjoint = root


class LaplacePosterior:
    r"""A normal distribution of parameters, :math:`N(\hat\theta, S (I + M)^{-1} S)`.

    Parameters
    ----------
    network : MLP
        The network.
    theta : ndarray of shape (P,)
        The mean.
    scale : ndarray of shape (P,)
        Diagonal of S, standard deviations of the prior; zero for what is held fixed.
    factor : Factor
        Of M, without its rows where it can.
    damping : float, default=1.0
        The one in I + M, or what rounding makes of it.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> X = np.linspace(-1, 1, 60)[:, None]
    >>> model = GaussNewtonMLPRegressor(hidden_layer_sizes=5, random_state=0)
    >>> model = model.fit(X, np.sin(3 * X[:, 0]))
    >>> model.posterior_
    LaplacePosterior(Dense, 16 parameters)
    >>> model.posterior_.sample(3, np.random.default_rng(0)).shape
    (3, 16)
    """

    def __init__(
        self,
        network: MLP,
        theta: Array,
        scale: Array,
        factor: Any,
        damping: float = 1.0,
    ):
        self.network, self.theta, self.scale = network, theta, scale
        self.factor, self._damping = factor, damping

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.factor.name}, "
            f"{self.theta.shape[0]} parameters)"
        )

    # ---- of parameters --------------------------------------------------------------

    def variance(self, rows: Array) -> Array:
        r"""Return :math:`j^T \Lambda^{-1} j` of each row j.

        Parameters
        ----------
        rows : ndarray of shape (k, P)
            Such as derivatives of a prediction.

        Returns
        -------
        ndarray of shape (k,)
            O(P^2 / 2) a row by a Cholesky factor, O(n P), O(P rank), O(P width) or
            O(P storage) by the others; never negative.
        """
        found = self.factor.inverse_quadratic(rows * self.scale, self._damping)
        return at_least(found, 0.0)

    def covariance(self, rows: Array) -> Array:
        r"""Return :math:`j^T \Lambda^{-1} j'` of all pairs of rows, (k, k).

        Raises
        ------
        ValueError
            If the array exceeds the working memory.
        """
        k = rows.shape[0]
        require(
            8 * k * (k + rows.shape[1]),
            f"The covariance of {k} outputs",
            "Ask for the variances alone",
        )
        C = rows @ self.solve(rows.T)
        C = 0.5 * (C + C.T)
        own = namespace(C).linalg.diagonal(C)
        return add_to_diagonal(C, self.variance(rows) - own)

    def solve(self, columns: Array) -> Array:
        r"""Return :math:`\Lambda^{-1}` times columns (P, k), at a solve each."""
        scale = self.scale[:, None]
        return scale * self.factor.solve(contiguous(scale * columns), self._damping)

    def sample(self, n: int, rng: Any) -> Array:
        """Draw parameters.

        Parameters
        ----------
        n : int
            How many.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        ndarray of shape (n, P)
            Draws.

        Raises
        ------
        ValueError
            If the factor has no root to draw by, as the hierarchical one.
        """
        return self.theta + self._deviations(n, rng)

    def _deviations(self, n: int, rng: Any) -> Array:
        return (self.scale[:, None] * self.factor.draw(rng, n, self._damping)).T

    def logdet(self) -> float:
        r"""Return :math:`\log\det \Lambda` of the parameters that are not held."""
        scale = to_host(self.scale)
        held = scale == 0
        inner = self.factor.logdet(self._damping)
        inner -= np.count_nonzero(held) * np.log(self._damping)
        return float(inner - 2 * np.log(scale[~held]).sum())

    def data_precision(self, most: int) -> Array:
        r"""Return H, the data's part of :math:`\Lambda`, (P, P), or a diagonal, (P,).

        The array by a Cholesky factor, for up to `most` parameters. Otherwise what is
        diagonal and leaves each parameter its variance.
        """
        S = np.where(self.scale > 0, self.scale, 1.0)
        free = self.scale > 0
        if isinstance(self.factor, DenseFactor) and len(S) <= most:
            H = self.factor.shifted(self._damping)
            H.flat[:: len(S) + 1] -= self._damping
            return H * np.outer(free / S, free / S)
        variance = self.factor.diagonal_of_inverse(self._damping)
        return np.where(free, np.maximum(1 / variance - self._damping, 0) / S**2, 0.0)

    def trace_of_inverse(self, groups: Array) -> Array:
        r"""Return the traces of :math:`S^{-1} \Lambda^{-1} S^{-1}` by group.

        In units of the prior variance: of a group of g parameters, g less the effective
        parameters among them.

        Parameters
        ----------
        groups : ndarray of int of shape (P,)
            Which group a parameter belongs to, counted from zero.

        Returns
        -------
        ndarray of shape (n_groups,)
            Traces.
        """
        return self.factor.trace_of_inverse(groups, self._damping)

    # ---- of outputs -----------------------------------------------------------------

    def output_variance(self, inputs: Array, contrasts: bool = False) -> Array:
        """Return the variance of every output.

        Parameters
        ----------
        inputs : {ndarray, CSR} of shape (n, n_features + 1)
            Scaled rows with their ones.
        contrasts : bool, default=False
            Of each output less the mean of a row's outputs: what softmax sees.

        Returns
        -------
        ndarray of shape (n, d)
            At the cost of d calls of :meth:`variance` a row; for Kronecker factors
            O(sum of f^2 + d w^2 + w f) for layers of w outputs and f inputs.
        """
        root, factor = self._root(inputs, contrasts), self.factor
        by_layer = by_inputs(self.network, self.scale)
        if by_layer:
            root = MappedRoot(root, InputScales(self.network, self.scale))

        def part(rows, made):
            if by_layer:
                return [factor.inverse_quadratic_of(made, self._damping)]
            J = made.array()
            found = self.variance(reshape(J, (-1, J.shape[2])))
            return [reshape(found, J.shape[:2])]

        columns = 2 if by_layer else 2 * self.network.n_parameters
        (found,) = root.linearization.collect(part, *root.walk_anew(columns))
        return at_least(found, 0.0)

    def output_rows(self, inputs: Array) -> Array:
        """Return the derivatives of the outputs in the parameters, of shape (n, d, P).

        Raises
        ------
        ValueError
            If the array exceeds the working memory.
        """
        n, d, P = inputs.shape[0], self.network.n_outputs, self.network.n_parameters
        require(8 * n * d * P, f"The Jacobian of {n} rows", "Take fewer rows")
        return self._root(inputs).make_factors(slice(0, n)).array()

    def sample_outputs(self, inputs: Array, n: int, rng: Any) -> Array:
        """Draw deviations of the outputs, (n_rows, d, n): a tangent a draw, O(n P)."""
        moved = self._root(inputs) @ self._deviations(n, rng).T
        return reshape(moved, (inputs.shape[0], -1, n))

    def _root(self, inputs: Array, contrasts: bool = False) -> GaussNewtonRoot:
        """Return the derivative of the outputs."""
        if is_foreign(inputs):
            # Not every library multiplies single precision with double.
            inputs = as_precision(inputs, precision(self.theta))
        linearization = Linearization(self.network, self.theta, inputs)
        weights = like(np.ones(inputs.shape[0]), self.theta)
        return GaussNewtonRoot(linearization, _Outputs(contrasts), weights)


def laplace(
    objective: Any,
    theta: Array,
    scale: Array,
    total: float,
    *,
    solver: Solver | None = None,
    rng: Any = None,
) -> LaplacePosterior | None:
    """Return the posterior around parameters.

    Its factor is the solver's, if that approximates I + M itself. Otherwise it is that
    of a Cholesky decomposition, if the variance of a row's outputs, d P^2 / 2, is
    cheap; of the Gram matrix, if rows are few; or else of Kronecker factors. Where the
    rows are many, some of them stand for all: not less than five for each parameter.

    Parameters
    ----------
    objective : Objective
        Mean loss over the rows; its ridge is not looked at.
    theta : ndarray of shape (P,)
        Where.
    scale : ndarray of shape (P,)
        Standard deviations of the prior; zero for what is held fixed.
    total : float
        By what the mean loss stands in minus the log-likelihood, n rho.
    solver : Solver, optional
        Whose factor is taken, if it gives one that needs no products with M.
    rng : numpy.random.Generator, optional
        Source of randomness of the choice of rows.

    Returns
    -------
    LaplacePosterior or None
        None where there are too many parameters for an array and some are held, which
        no other form can do, or where curvature is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.posterior import laplace
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> laplace(objective, theta, scale=np.ones(10), total=40.0)
    LaplacePosterior(Dense, 10 parameters)
    """
    scale = like(np.asarray(scale, dtype=np.float64), theta)
    M = objective.data_curvature(theta, total).scaled(scale)
    d = objective.network.n_outputs
    form = _form(M, d, solver)
    if not form.serves(M):
        return None
    rows = _some_rows(M, objective.weights.shape[0], form, rng)
    if rows is not None:
        M = objective.data_curvature(theta, total, rows).scaled(scale)
    diagonal = M.diagonal(_SCALE_PROBES, 0)
    largest = max(float(namespace(diagonal).max(diagonal)), 0.0)
    if not np.isfinite(largest):
        return None
    factor, rounding = form.factor(M), _ROUNDING * float(np.finfo(float).eps) * largest
    for attempt in range(_TRIES):
        damping = 1 + rounding * 100**attempt
        try:
            factor.logdet(damping)
            detached = factor.detached(damping)
        except LinAlgError:
            continue
        theta = as_precision(theta, np.float64, copy=True)
        return LaplacePosterior(objective.network, theta, scale, detached, damping)
    return None


def _form(M: Curvature, d: int, solver: Solver | None) -> Solver:
    """Return the solver that factors I + M, of d outputs."""
    if isinstance(solver, Nystrom | HMatrix | KFAC):
        return clone(solver).set_params(direct=True)
    if isinstance(solver, Dense | Gram):
        return type(solver)()
    P, gram = M.shape[0], Gram()
    if d * P**2 <= _CHEAP_ROW and fits(3 * 8 * P**2):
        return Dense()
    if gram.serves(M) and M.root.shape[0] <= _FEW and fits(8 * gram.price(M).numbers):
        return gram
    kfac = KFAC(n_probes=32, direct=True)
    return kfac if kfac.serves(M) or not fits(3 * 8 * P**2) else Dense()


def _some_rows(M: Curvature, n: int, form: Solver, rng: Any) -> Array | None:
    """Return the rows of n that stand for all, None for all of them."""
    P = M.shape[0]
    least = _ROWS_PER_PARAMETER * P if isinstance(form, Dense) else _FEW
    most = max(int(_CHEAP / form.price(M).operations * n), least)
    if most >= n or isinstance(form, Gram):
        return None
    return np.sort(np.random.default_rng(rng).choice(n, most, replace=False))
