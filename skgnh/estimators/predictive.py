"""Predictive distributions of a fitted estimator, by its posterior."""

from typing import Any

import numpy as np
from scipy.stats import nbinom, norm

from skgnh.arrays import as_precision, like, namespace, precision, to_host
from skgnh.posterior import LaplacePosterior

Array = Any

# Of counts, by how much variance over mean exceeds one at least.
_OVERDISPERSED = 1e-6
# The same, as a multiple of the mean, and the largest mean and deviation: NumPy draws
# no others.
_LARGEST, _MOST = 1e-9, 1e15


def posterior_of(estimator: Any) -> LaplacePosterior:
    """Return the posterior of a fitted estimator.

    Raises
    ------
    ValueError
        If it has none.
    """
    posterior = estimator._posterior
    if posterior is None:
        raise ValueError(
            f"This {type(estimator).__name__} has no posterior_ of its weights, which "
            "the uncertainty of predictions is made of: fit it with alpha='evidence' "
            "or 'ard'. Weights set from outside have none, nor have pruned ones until "
            "they are trained on (n_retrain, partial_fit), or if they are too many."
        )
    return posterior


def averaged(
    posterior: LaplacePosterior, z: Array, inputs: Array, softmax: bool
) -> Array:
    r"""Return outputs whose activation is the mean probability over the posterior.

    For an output of variance v that is :math:`z / \sqrt{1 + \pi v / 8}` (MacKay, 1992).
    Of several classes the contrasts count, and the mean of their variances: the order
    of the classes is kept.
    """
    v = posterior.output_variance(inputs, contrasts=softmax)
    xp = namespace(z)
    if softmax:
        z = z - xp.mean(z, axis=1, keepdims=True)
        v = xp.mean(v, axis=1, keepdims=True)
    return as_precision(z / xp.sqrt(1 + np.pi / 8 * v), precision(z))


class Predictive:
    r"""Distribution of the targets of some rows.

    A target is :math:`\mu + \mu' \delta + \sigma \epsilon` with the deviation
    :math:`\delta` of the output by the posterior and the noise of deviation
    :math:`\sigma`, both normal; counts have the first two moments of it.

    Parameters
    ----------
    estimator : GaussNewtonMLPRegressor
        Fitted by the evidence.
    posterior : LaplacePosterior
        Its own, see :func:`posterior_of`.
    inputs : {ndarray, CSR} of shape (n, n_features + 1)
        Scaled rows with their ones.

    Attributes
    ----------
    mean, slope, noise : ndarray of shape (n, d)
        :math:`\mu`, its derivative in the output, and :math:`\sigma`.
    """

    def __init__(self, estimator: Any, posterior: LaplacePosterior, inputs: Array):
        self._posterior, self._inputs = posterior, inputs
        loss, scaling = estimator._loss, estimator._scaling_.outputs
        # Distributions are SciPy's, of arrays of NumPy.
        self._z = to_host(estimator._outputs(inputs))
        self._dispersion = float(estimator._state_.hyper.dispersion)
        self._are_counts = not loss.is_equivariant
        with np.errstate(over="ignore"):
            self.mean = loss.mean(self._z)
            if self._are_counts:
                self.slope = self.mean
                self.noise = np.sqrt(self._dispersion * self.mean)
            else:
                unit = np.ones(1) if scaling is None else scaling.scale
                model = getattr(estimator, "noise_model_", None)
                ratio = np.ones(1) if model is None else model.ratio(inputs)
                self.slope = np.broadcast_to(unit, self.mean.shape)
                self.noise = self.slope * np.sqrt(self._dispersion * ratio)

    def std(self) -> Array:
        """Return the standard deviation of each target, (n, d), noise included."""
        v = to_host(self._posterior.output_variance(self._inputs))
        with np.errstate(over="ignore"):
            return self._finite(np.hypot(self.slope * np.sqrt(v), self.noise))

    def covariance(self) -> Array:
        """Return the covariance of the targets, (n, n, d), noise included."""
        rows = self._posterior.output_rows(self._inputs)
        each = range(rows.shape[1])
        blocks = [self._posterior.covariance(rows[:, k, :]) for k in each]
        C = np.stack([to_host(block) for block in blocks], axis=2)
        at = np.arange(len(C))
        with np.errstate(over="ignore"):
            C *= self.slope[:, None] * self.slope[None]
            C[at, at] += self.noise**2
        return self._finite(C)

    def interval(self, coverage: float) -> Array:
        """Return central intervals, (n, d, 2)."""
        tails = 0.5 - 0.5 * coverage, 0.5 + 0.5 * coverage
        std = to_host(self.std())
        if self._are_counts:
            bounds = [_counts(self.mean, std).ppf(tail) for tail in tails]
        else:
            with np.errstate(over="ignore"):
                bounds = [self.mean + norm.ppf(tail) * std for tail in tails]
        return self._finite(np.stack(bounds, axis=-1))

    def sample(self, n: int, rng: Any) -> Array:
        """Draw targets that share a draw of the network, (n_rows, d, n)."""
        moved = to_host(self._posterior.sample_outputs(self._inputs, n, rng))
        if self._are_counts:
            with np.errstate(over="ignore"):
                mean = to_host(self._finite(np.exp(self._z[..., None] + moved)))
                noise = np.sqrt(self._dispersion * mean)
            drawn = _counts(mean, noise).rvs(size=mean.shape, random_state=rng)
            return self._finite(drawn)
        noise = rng.standard_normal(moved.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            moved = self.slope[..., None] * moved + self.noise[..., None] * noise
            return self._finite(self.mean[..., None] + moved)

    def _finite(self, values: Array) -> Array:
        """Return values as the predictions' dtype, and at most the largest there is."""
        most = np.finfo(self.mean.dtype).max
        values = np.nan_to_num(values, nan=most, posinf=most, neginf=-most)
        values = np.clip(values, -most, most).astype(self.mean.dtype)
        return like(values, self._inputs)


def _counts(mean: Array, std: Array) -> Any:
    """Return the distribution of counts of these moments, that of the mean at least."""
    mean = np.clip(np.asarray(mean, dtype=np.float64), 1e-300, _MOST)
    excess = np.minimum(std, _MOST).astype(np.float64) ** 2 / mean - 1
    excess = np.maximum(excess, np.maximum(_OVERDISPERSED, _LARGEST * mean))
    return nbinom(mean / excess, 1 / (1 + excess))
