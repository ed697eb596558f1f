"""The prior of a network's parameters, and what the evidence made of it."""

from typing import Any

import numpy as np

from skgnh.arrays import eye, like, namespace, pick, to_host
from skgnh.linearization import Linearization
from skgnh.network import MLP
from skgnh.scaling import Moments
from skgnh.training import Hyper, Posterior, Prior

Array = Any

# Precision of the output biases: with all else at zero they are the base rates.
_OUTPUT_BIAS = 1e-2
# The attributes of :func:`learned_of`, the posterior.
EVIDENCE = (
    "log_marginal_likelihood_",
    "noise_variance_",
    "prior_precision_",
    "effective_parameters_",
    "feature_relevance_",
    "posterior_",
    "_sensitivity_",
)
# Rows that tell the mean sensitivity.
_ENOUGH = 2000


def make_prior(network: MLP, by_column: bool) -> Prior:
    """Return groups and first precisions of weights and biases, layer by layer.

    A weight's first precision is its number of inputs: a strong prior, of which the
    evidence takes what the data have reason to. With `by_column` each input column has
    a precision of its own.
    """
    groups = np.empty(network.n_parameters, dtype=int)
    start: list[float] = []
    for depth, layer in enumerate(network.unpack(groups)):
        fan = layer.shape[1] - 1
        count = fan if by_column and depth == 0 else 1
        layer[:, :-1] = len(start) + (np.arange(fan) if count > 1 else 0)
        layer[:, -1] = len(start) + count
        start += [float(fan)] * count + [float(fan)]
    start[-1] = _OUTPUT_BIAS
    fixed = np.zeros(len(start), dtype=bool)
    fixed[-1] = True
    return Prior(groups, np.array(start), fixed)


def of_parameters(prior: Prior, index: Array) -> tuple[Prior, Array]:
    """Return the prior of some parameters, and which of all groups are theirs."""
    groups, own = np.unique(prior.groups[index], return_inverse=True)
    return Prior(own, prior.start[groups], prior.fixed[groups]), groups


def penalty_of(network: MLP, prior: Prior, hyper: Hyper, loss: Any) -> Array:
    """Return the penalty alpha of each parameter, as the objective counts it, (P,)."""
    rate = loss.rate(network.n_outputs, hyper.dispersion)
    return hyper.precision[prior.groups] / rate


def learned_of(
    network: MLP, prior: Prior, posterior: Posterior, loss: Any, scaling: Any, n: float
) -> dict[str, Any]:
    """Return the fitted attributes that the evidence gives, in the targets' units."""
    hyper = posterior.hyper
    layers = network.unpack(hyper.precision[prior.groups])
    relevance = network.unpack(1 / hyper.precision[prior.groups])[0][0, :-1]
    log_evidence, noise = posterior.log_evidence, None
    if loss.has_dispersion:
        noise = hyper.dispersion
    if scaling.outputs is not None:
        with np.errstate(over="ignore"):
            noise = noise * scaling.outputs.scale**2
        log_evidence -= n * float(np.log(scaling.outputs.scale).sum())
    return {
        "log_marginal_likelihood_": log_evidence,
        "noise_variance_": noise,
        "prior_precision_": [layer[0].copy() for layer in layers],
        "effective_parameters_": float(posterior.gamma.sum()),
        "feature_relevance_": relevance / relevance.max(),
    }


def sensitivity(objective: Any, theta: Array) -> Array:
    r"""Return how far the outputs move with each column, of shape (f,).

    The mean over rows and outputs of :math:`|\partial z_k / \partial x_j|`, times the
    standard deviation of the column; of softmax the outputs less their mean. It costs
    d gradients, over at most some thousand rows.
    """
    network, n = objective.network, objective.inputs.shape[0]
    some = slice(None, None, -(-n // _ENOUGH))
    inputs, weights = pick(objective.inputs, some), pick(objective.weights, some)
    xp, seeds = namespace(theta), eye(network.n_outputs, theta)
    if not objective.loss.has_diagonal_root:
        seeds = seeds - 1 / seeds.shape[0]
    first = network.unpack(theta)[0][:, :-1]

    def part(rows, trace):
        m = rows.stop - rows.start
        every = xp.broadcast_to(seeds, (m, *seeds.shape))
        *_, (_, B) = network.carry_back(theta, trace, every)
        moved = xp.sum(xp.abs(B @ first), axis=1)
        return [pick(weights, rows) @ moved]

    numbers = seeds.shape[0] * (first.shape[1] + max(network.layer_units[1:]))
    with np.errstate(all="ignore"):
        (total,) = Linearization(network, theta, inputs).sum(part, numbers)
        # Of constant columns that are sparse it may be no number, by rounding.
        deviation = Moments.of(inputs, to_host(weights)).deviation[:-1]
    found = to_host(total).astype(np.float64) * np.where(deviation > 0, deviation, 0)
    return like(found, theta)
