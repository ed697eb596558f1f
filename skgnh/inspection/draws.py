"""Gradients and draws of the curvature, of few rows each, as an array."""

from typing import Any

import numpy as np

from skgnh.linearization import Linearization
from skgnh.memory import require
from skgnh.network import densified
from skgnh.objective import Objective

Array = Any


def gradient_draws(
    objective: Objective,
    theta: Array,
    n_gradients: int,
    n_rows: int,
    source: str,
    rng: np.random.Generator,
) -> Array:
    r"""Return m vectors whose mean outer product estimates the data's curvature.

    With `source='curvature'` a vector is :math:`b^{-1/2} \sum_i J_i^T S_i u_i` over b
    rows with random signs u: its outer product has the Gauss-Newton Hessian as its
    expectation. With 'gradient' it is the mean gradient of the b rows, as in M-FAC.
    Rows are drawn in proportion to their weights, as evenly as possible along a random
    direction of the data: neither their order matters, nor whether one is repeated or
    has the weight of two.

    Parameters
    ----------
    objective : Objective
        Network, loss and rows.
    theta : ndarray of shape (P,)
        Parameters.
    n_gradients, n_rows : int
        Vectors m, and rows b of each.
    source : {'curvature', 'gradient'}
        Which.
    rng : Generator
        Source of the rows and signs.

    Returns
    -------
    ndarray of shape (m, P)
        In double precision; O(m b P).

    Raises
    ------
    ValueError
        If the array exceeds the working memory.
    """
    network, loss = objective.network, objective.loss
    P = network.n_parameters
    require(
        n_gradients * P * 8,
        f"{n_gradients} gradients of {P} parameters",
        "Take fewer gradients",
    )
    drawn = _systematic(objective, n_gradients * n_rows, rng)
    # What is linearised, a row at a time, is a draw: several rows of the data.
    drawn = drawn.reshape(n_gradients, n_rows)
    scale = 1 / n_rows if source == "gradient" else n_rows**-0.5

    def passes(span):
        chunk = drawn[span].ravel()
        trace = network.trace(theta, objective.inputs[chunk])
        mean = loss.mean(trace.outputs)
        if source == "gradient":
            return trace, loss.gradient(mean, objective.targets[chunk])[:, None, :]
        signs = rng.choice(np.array([-1, 1], mean.dtype), mean.shape)
        return trace, loss.root(mean, signs[:, None, :])

    def part(span, given):
        trace, seeds = given
        m = span.stop - span.start
        out = np.empty((m, P))
        layers = network.unpack(out)
        for depth, B in network.carry_back(theta, trace, seeds):
            a = densified(trace.inputs[depth]).reshape(m, n_rows, -1)
            back = np.swapaxes(B.reshape(m, n_rows, -1), 1, 2)
            np.matmul(back, a, out=layers[depth])
        out *= scale
        return [out]

    numbers = 2 * n_rows * sum(network.layer_units)
    return Linearization(network, theta, drawn).collect(part, numbers, passes)[0]


def _systematic(objective: Objective, n_draws: int, rng: np.random.Generator) -> Array:
    """Draw rows by their weights: each as often as its share, up or down to one."""
    data = objective.inputs, objective.targets
    along = sum(A @ rng.standard_normal(A.shape[1]).astype(A.dtype) for A in data)
    order = np.argsort(along, kind="stable")
    edges = np.cumsum(objective.weights[order], dtype=np.float64)
    at = (np.arange(n_draws) + rng.random()) / n_draws * edges[-1]
    # Rounding may put the last beyond the last edge, or among rows without weight.
    last = np.flatnonzero(objective.weights[order])[-1]
    places = np.minimum(np.searchsorted(edges, at, side="right"), last)
    return rng.permutation(order[places])
