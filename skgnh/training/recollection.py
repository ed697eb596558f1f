r"""Rows that are gone, remembered as a quadratic.

Of rows that a stream has left behind the summed loss is remembered to second order,

.. math:: \sum_i w_i \ell_i(\theta) \approx q(\theta) + const, \qquad
          q(\theta) = \tfrac12 \theta^T D \theta - b^T \theta,

with D the sum of their Gauss-Newton Hessians, each where the network was when its rows
left: with the prior, the logarithm of a Gaussian posterior, which is the prior of what
comes.

References
----------
.. [1] H. Ritter, A. Botev, D. Barber, "Online structured Laplace approximations for
       overcoming catastrophic forgetting", NeurIPS 2018.
.. [2] J. Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks",
       PNAS 114(13), 2017.
"""

from typing import Any, NamedTuple

import numpy as np

from skgnh.linalg import Curvature

Array = Any


class Recollection(NamedTuple):
    """The quadratic q of rows that are gone, in units of the summed loss.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.training import Recollection
    >>> nothing = Recollection(np.zeros((2, 2)), np.zeros(2), weight=0.0)
    >>> gone = nothing.plus(np.eye(2), np.zeros(2), theta=np.ones(2), weight=5.0)
    >>> gone.value(np.ones(2)) < gone.value(np.zeros(2))
    True
    >>> gone.weight
    5.0
    """

    D: Array
    """Curvature, (P, P), or its diagonal alone, (P,)."""
    b: Array
    """Slope, (P,)."""
    weight: float
    """Sum of the weights of these rows."""

    def times(self, X: Array) -> Array:
        """Return D X for X of shape (P,) or (P, k)."""
        return _times(self.D, X)

    def value(self, theta: Array) -> float:
        """Return q."""
        return float(theta @ (0.5 * self.times(theta) - self.b))

    def plus(self, H: Array, gradient: Array, theta: Array, weight: float) -> Any:
        """Return what it is with more rows of this weight, by their mean loss at theta.

        H is of the form of D.
        """
        own = Recollection(weight * H, weight * gradient, weight)
        b = self.b + own.times(theta) - own.b
        return Recollection(self.D + own.D, b, self.weight + weight)

    def mapped(self, A: Any, a: Array, unit: float) -> "Recollection":
        """Return it in other coordinates, ``theta = A new + a``, and units of the loss.

        A is a sparse array; of a diagonal D what it mixes is left out.
        """
        b = A.T @ (self.b - self.times(a))
        is_array = self.D.ndim == 2
        D = A.T @ (A.T @ self.D).T if is_array else A.power(2).T @ self.D
        return Recollection(unit * D, unit * b, self.weight)


def _times(D: Array, X: Array) -> Array:
    """Return D X, D being an array or its diagonal."""
    if D.ndim == 2:
        return D @ X
    return D * X if X.ndim == 1 else D[:, None] * X


class RecollectingObjective:
    r"""Mean loss of rows at hand and of rows that are gone, and a penalty.

    .. math:: f(\theta) = \frac mn L(\theta) + \frac{q(\theta) - c}{n}
              + \frac12 \theta^T R \theta

    over rows at hand of weight m, of n in all. With c such that at the start the rows
    that are gone have the mean loss of those at hand, a value tells of the noise.

    Parameters
    ----------
    objective : Objective
        L, without a penalty.
    gone : Recollection
        Of the rows that are gone.
    start : ndarray of shape (P,)
        Where the loss of all rows is that of those at hand.
    weight : float
        m.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh import GaussNewtonMLPRegressor
    >>> from skgnh.objective import Objective
    >>> from skgnh.training import RecollectingObjective, Recollection
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> y = np.sin(3 * X[:, 0])
    >>> model = GaussNewtonMLPRegressor(
    ...     hidden_layer_sizes=3, alpha=0.1, random_state=0
    ... ).fit(X, y)
    >>> objective, theta = Objective.from_estimator(model, X, y)
    >>> gone = Recollection(np.eye(10), theta, weight=40.0)
    >>> both = RecollectingObjective(objective, gone, theta, weight=40.0)
    >>> both.value(theta) < both.value(0.9 * theta)
    True
    """

    def __init__(self, objective: Any, gone: Recollection, start: Array, weight: float):
        self._objective, self._gone = objective, gone
        self.network, self.loss = objective.network, objective.loss
        self.inputs, self.targets = objective.inputs, objective.targets
        self.weights, self.ridge = objective.weights, objective.ridge
        objective.ridge = np.zeros_like(self.ridge)
        self._total = weight + gone.weight
        self._share = weight / self._total
        self._past = (1 - self._share) * objective.value(start)
        self._past -= gone.value(start) / self._total

    def _rest(self, theta: Array) -> float:
        """Return all but the loss of the rows at hand."""
        penalty = 0.5 * float(np.sum(self.ridge * theta**2, dtype=np.float64))
        return self._past + self._gone.value(theta) / self._total + penalty

    def mean_target(self) -> Array:
        """Return the weighted mean of the targets."""
        return self._objective.mean_target()

    def loss_of_constant(self, z: Array) -> float:
        """Return the mean loss of outputs that are the same for all rows."""
        return self._objective.loss_of_constant(z)

    def value(self, theta: Array, rows: Array | None = None) -> float:
        """Return f; see :meth:`skgnh.objective.Objective.value`."""
        return self._share * self._objective.value(theta, rows) + self._rest(theta)

    def linearize(
        self,
        theta: Array,
        rows: Array | None = None,
        curvature_rows: Array | None = None,
    ) -> tuple[float, Array, "RecollectedHessian"]:
        """Return value, gradient and Hessian of f."""
        value, gradient, H = self._objective.linearize(theta, rows, curvature_rows)
        slope = (self._gone.times(theta) - self._gone.b) / self._total
        value = self._share * value + self._rest(theta)
        gradient = self._share * gradient + slope + self.ridge * theta
        gone = self._gone.D / self._total
        H = RecollectedHessian(H, self._share, gone.astype(H.dtype), self.ridge)
        return value, gradient.astype(theta.dtype), H

    def data_curvature(
        self, theta: Array, total: float, rows: Array | None = None
    ) -> "RecollectedHessian":
        """Return that of `total` times f without its penalty, in double precision."""
        H = self._objective.data_curvature(theta, total, rows)
        gone = self._gone.D * (total / self._total)
        return RecollectedHessian(H, self._share, gone, np.zeros(len(theta)))


class RecollectedHessian(Curvature):
    """``share H + D + diag(ridge)``.

    Parameters
    ----------
    H : Curvature of shape (P, P)
        Of the rows at hand.
    share : float
        Their share.
    D : ndarray of shape (P, P) or (P,)
        Of those that are gone.
    ridge : ndarray of shape (P,)
        Of the penalty.
    """

    def __init__(self, H: Curvature, share: float, D: Array, ridge: Array):
        self._H, self._share, self._D, self.ridge = H, H.dtype.type(share), D, ridge
        self.offers = H.offers & {"diagonal", "toarray"}
        super().__init__(H.dtype, H.shape)

    @property
    def costs(self) -> tuple[float, float]:
        """Those of H."""
        return self._H.costs

    def _matmat(self, V: Array) -> Array:
        own = self._share * (self._H @ V)
        return own + _times(self._D, V) + _times(self.ridge, V)

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal, or its estimate."""
        past = self._D.diagonal() if self._D.ndim == 2 else self._D
        own = self._share * self._H.diagonal(n_probes, random_state)
        return own + past + self.ridge

    def _array(self) -> Array:
        out = self._share * self._H.toarray()
        if self._D.ndim == 2:
            out += self._D
        else:
            out.flat[:: len(out) + 1] += self._D
        out.flat[:: len(out) + 1] += self.ridge
        return out

    def restricted(self, index: Array) -> "RecollectedHessian":
        """Return the principal submatrix of some parameters."""
        D = self._D[np.ix_(index, index)] if self._D.ndim == 2 else self._D[index]
        H = self._H.restricted(index)
        return RecollectedHessian(H, float(self._share), D, self.ridge[index])
