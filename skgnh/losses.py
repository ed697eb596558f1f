r"""Losses, convex in the network's output z.

Each is the negative log-likelihood that belongs to its output activation (canonical
link), so that with ``mean = activation(z)`` the gradient in z is ``mean - y`` and the
Hessian ``Q(mean)`` does not depend on y. That of labels (``is_log_likelihood``) is
in nats; the others scale with the targets. All arrays are of shape ``(n, d)``; the
root S, ``Q = S S^T``, acts on the last axis of arrays of shape ``(n, k, d)``. Every
function costs O(n d), or O(n k d). `has_diagonal_root` says whether S is diagonal,
`is_equivariant` whether shifted and scaled targets only shift and scale the means.
"""

import math
from collections.abc import Callable
from typing import Any

from skgnh.arrays import at_least, namespace

Array = Any


_LEAST_NOISE = 1e-290
# Means are taken as no nearer to 0 or 1 than this: a class that few rows have shown
# stays within reach.
_NEAREST = 1e-7


def _log(mean: Array) -> Array:
    """Return the finite logarithm of a mean."""
    return namespace(mean).log(at_least(mean, _NEAREST))


class HalfSquaredError:
    """Half the squared error, averaged over the d outputs as scikit-learn's MLP does.

    ``value = 1/(2 d) ||z - y||^2``, ``Q = I / d``.
    """

    output_activation = "identity"
    is_equivariant = True
    has_dispersion = True
    domain = "finite real targets"
    has_diagonal_root = True
    is_log_likelihood = False

    def mean(self, z: Array) -> Array:
        """Return the predicted mean, z itself."""
        return z

    def link(self, mean: Array) -> Array:
        """Return the z of a mean."""
        return mean

    def value(self, z: Array, y: Array) -> Array:
        """Return the loss of each row, of shape (n,)."""
        xp = namespace(z)
        return 0.5 * xp.mean((z - y) ** 2, axis=1)

    def gradient(self, mean: Array, y: Array) -> Array:
        """Return the derivative in z, of shape (n, d)."""
        return (mean - y) / y.shape[1]

    def root(self, mean: Array, x: Array) -> Array:
        """Return S x."""
        return x / mean.shape[1] ** 0.5

    def root_adjoint(self, mean: Array, u: Array) -> Array:
        """Return S^T u."""
        return u / mean.shape[1] ** 0.5

    def accepts(self, y: Array) -> bool:
        """Say whether all targets lie in the domain."""
        return True

    def log_likelihood(self, loss: float, d: int, dispersion: float) -> float:
        """Return that of a row of mean loss, for noise of this variance."""
        return -d * (loss / dispersion + 0.5 * math.log(2 * math.pi * dispersion))

    def rate(self, d: int, dispersion: float) -> float:
        """Return by what the loss stands in minus the log-likelihood."""
        return d / dispersion

    def dispersion(self, loss: float, n: float, d: int, gamma: float) -> float:
        """Return the noise variance, gamma of n d degrees of freedom being spent."""
        # Targets may be met exactly: a likelihood without noise has no bound.
        return max(2 * d * n * loss / max(n * d - gamma, 1.0), _LEAST_NOISE)


class _NoDispersion:
    """A log-likelihood as it stands."""

    has_dispersion = False

    def log_likelihood(self, loss: float, d: int, dispersion: float) -> float:
        """Return that of a row of mean loss."""
        return -loss

    def rate(self, d: int, dispersion: float) -> float:
        """Return by what the loss stands in minus the log-likelihood."""
        return 1.0

    def dispersion(self, loss: float, n: float, d: int, gamma: float) -> float:
        """Return 1: there is nothing to estimate."""
        return 1.0


class _DiagonalRoot:
    """A loss whose outputs are independent: ``S = diag(scale(mean))``."""

    has_diagonal_root = True
    is_equivariant = False
    scale: Callable[[Array], Array]

    def gradient(self, mean: Array, y: Array) -> Array:
        """Return the derivative in z, of shape (n, d)."""
        return mean - y

    def root(self, mean: Array, x: Array) -> Array:
        """Return S x."""
        return self.scale(mean)[:, None, :] * x

    root_adjoint = root


class HalfPoissonDeviance(_DiagonalRoot):
    """Half the Poisson deviance, summed over the outputs, with a log link.

    ``value = sum_k y log y - y z - y + exp(z)``, ``Q = diag(exp(z))``.
    """

    output_activation = "exp"
    has_dispersion = True
    domain = "targets >= 0"
    is_log_likelihood = False

    def mean(self, z: Array) -> Array:
        """Return the predicted mean exp(z)."""
        return namespace(z).exp(z)

    def link(self, mean: Array) -> Array:
        """Return the z of a mean, log(mean)."""
        return _log(mean)

    def value(self, z: Array, y: Array) -> Array:
        """Return the loss of each row, of shape (n,)."""
        xp = namespace(z)
        positive = xp.where(y > 0, y, xp.ones_like(y))
        return xp.sum(y * xp.log(positive) - y * z - y + xp.exp(z), axis=1)

    def scale(self, mean: Array) -> Array:
        """Return the diagonal of S, ``exp(z / 2)``."""
        return mean**0.5

    def accepts(self, y: Array) -> bool:
        """Say whether all targets lie in the domain."""
        return bool(namespace(y).all(y >= 0))

    def log_likelihood(self, loss: float, d: int, dispersion: float) -> float:
        """Return the extended quasi-likelihood of a row of mean loss, up to a constant.

        Counts may vary by `dispersion` times their mean (Nelder and Pregibon, 1987).
        """
        return -loss / dispersion - 0.5 * d * math.log(dispersion)

    def rate(self, d: int, dispersion: float) -> float:
        """Return by what the loss stands in minus the log-likelihood."""
        return 1 / dispersion

    def dispersion(self, loss: float, n: float, d: int, gamma: float) -> float:
        """Return the deviance over its degrees of freedom, at least 1."""
        return max(1.0, 2 * n * loss / max(n * d - gamma, 0.5 * n * d))


class BinaryCrossEntropy(_NoDispersion, _DiagonalRoot):
    """Cross-entropy of d independent yes/no labels, summed over them.

    ``value = sum_k y log(1 + exp(-z)) + (1 - y) log(1 + exp(z))``,
    ``Q = diag(p (1 - p))``.
    """

    output_activation = "logistic"
    domain = "labels in [0, 1]"
    is_log_likelihood = True

    def mean(self, z: Array) -> Array:
        """Return the probabilities p = 1 / (1 + exp(-z)), exact far below 0.5 too."""
        xp = namespace(z)
        return xp.exp(-xp.logaddexp(xp.zeros_like(z), -z))

    def link(self, mean: Array) -> Array:
        """Return the z of probabilities, log(p / (1 - p))."""
        return _log(mean) - _log(1 - mean)

    def value(self, z: Array, y: Array) -> Array:
        """Return the loss of each row, of shape (n,)."""
        xp = namespace(z)
        zero = xp.zeros_like(z)
        wrong_no, wrong_yes = xp.logaddexp(zero, z), xp.logaddexp(zero, -z)
        return xp.sum((1 - y) * wrong_no + y * wrong_yes, axis=1)

    def scale(self, mean: Array) -> Array:
        """Return the diagonal of S, ``sqrt(p (1 - p))``."""
        return (mean * (1 - mean)) ** 0.5

    def accepts(self, y: Array) -> bool:
        """Say whether all targets lie in the domain."""
        return bool(namespace(y).all((y >= 0) & (y <= 1)))


class SoftmaxCrossEntropy(_NoDispersion):
    """Cross-entropy of one label among d classes.

    ``value = log sum_k exp(z_k) - y^T z``, ``Q = diag(p) - p p^T`` with the root
    ``S = diag(sqrt p) - p sqrt(p)^T``.
    """

    output_activation = "softmax"
    domain = "rows of probabilities"
    has_diagonal_root = False
    is_equivariant = False
    is_log_likelihood = True

    def mean(self, z: Array) -> Array:
        """Return the probabilities p."""
        xp = namespace(z)
        p = xp.exp(z - xp.max(z, axis=1, keepdims=True))
        return p / xp.sum(p, axis=1, keepdims=True)

    def link(self, mean: Array) -> Array:
        """Return a z of probabilities, log(p)."""
        return _log(mean)

    def value(self, z: Array, y: Array) -> Array:
        """Return the loss of each row, of shape (n,)."""
        xp = namespace(z)
        z = z - xp.max(z, axis=1, keepdims=True)
        return xp.log(xp.sum(xp.exp(z), axis=1)) - xp.sum(y * z, axis=1)

    def gradient(self, mean: Array, y: Array) -> Array:
        """Return the derivative in z, of shape (n, d)."""
        return mean - y

    def root(self, mean: Array, x: Array) -> Array:
        """Return S x."""
        xp = namespace(mean)
        p = mean[:, None, :]
        x = p**0.5 * x
        return x - p * xp.sum(x, axis=2, keepdims=True)

    def root_adjoint(self, mean: Array, u: Array) -> Array:
        """Return S^T u."""
        xp = namespace(mean)
        p = mean[:, None, :]
        return p**0.5 * (u - xp.sum(p * u, axis=2, keepdims=True))

    def accepts(self, y: Array) -> bool:
        """Say whether all targets lie in the domain."""
        xp = namespace(y)
        total = xp.sum(y, axis=1)
        return bool(xp.all(y >= 0) and xp.all(xp.abs(total - 1) < 1e-3))


LOSSES = {
    loss.output_activation: loss
    for loss in (
        HalfSquaredError(),
        HalfPoissonDeviance(),
        BinaryCrossEntropy(),
        SoftmaxCrossEntropy(),
    )
}
"""Each loss by the name that scikit-learn gives its output activation."""
