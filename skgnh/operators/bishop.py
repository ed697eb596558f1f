"""The exact Hessian's dense array and diagonal, by recursion over the layers.

Bishop (1992); the formulas are those of :class:`skgnh.operators.ExactHessian`, whose
backward pass and curvature of the loss are all that is asked of it.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from skgnh.network import densified

Array = Any


def array(H: Any) -> Array:
    r"""Return the data's part of an exact Hessian, (P, P): O(n P^2), whatever d.

    With :math:`\delta_l` the derivative of the loss in z_l, for layers l <= m

    .. math::

       \frac{\partial^2 E}{\partial w^l_{ji} \partial w^m_{kp}}
       = a^l_i \Big( \delta^m_k \frac{\partial a^m_p}{\partial z^l_j}
       + a^m_p \frac{\partial \delta^m_k}{\partial z^l_j} \Big),

    from one forward and one backward pass for each layer l; the blocks below are filled
    by symmetry, for there the formula does not hold.
    """
    network, P = H.network, H.shape[0]
    out = np.zeros((P, P), H.dtype)
    widths = network.layer_units[1:]
    numbers = 3 * max(width * fan for width, fan in network.shapes)
    numbers += 2 * max(widths) * sum(widths)

    def add(out, rows, trace):
        Q, adjoint = H.output_hessian(rows, trace), H.adjoint_pass(rows, trace)
        for depth in range(len(network.shapes)):
            _add_blocks(H, out, depth, Q, trace, adjoint)

    H.linearization.accumulate(add, out, numbers)
    # The blocks of later layers, mirrored; those of one layer are symmetric.
    for start, stop in pairwise(network.offsets):
        out[stop:, start:stop] = out[start:stop, stop:].T
    return out


def _add_blocks(
    H: Any, out: Array, first: int, Q: Array, trace: Any, adjoint: Any
) -> None:
    """Add the blocks of one layer with itself and the later ones."""
    network = H.network
    layers = network.unpack(H.theta)
    (w, f), n = network.shapes[first], len(Q)
    eye = np.eye(w, dtype=H.dtype)
    states = [np.broadcast_to(eye, (n, w, w))]  # of z_m in z_l
    for depth in range(first + 1, len(layers)):
        da = states[-1] * trace.slopes[depth - 1][:, :, None]
        states.append(layers[depth][:, :-1] @ da)
    B = Q @ states[-1]  # of delta_m in z_l
    a = densified(trace.inputs[first])
    begin, end = network.offsets[first : first + 2]
    for depth in reversed(range(first, len(layers))):
        (v, g), b = network.shapes[depth], densified(trace.inputs[depth])
        outer = (a[:, :, None] * b[:, None, :]).reshape(n, -1)
        block = (B.reshape(n, -1).T @ outer).reshape(v, w, f, g)
        block = block.transpose(1, 2, 0, 3)
        if depth > first:
            delta, state = adjoint.deltas[depth], states[depth - 1 - first]
            da = state * trace.slopes[depth - 1][:, :, None]
            outer = (a[:, :, None] * delta[:, None, :]).reshape(n, -1)
            mixed = (da.reshape(n, -1).T @ outer).reshape(g - 1, w, f, v)
            block[..., :-1] += mixed.transpose(1, 2, 3, 0)
            B = layers[depth][:, :-1].T @ B
            B *= trace.slopes[depth - 1][:, :, None]
            B += adjoint.bends[depth - 1][:, :, None] * state
        start, stop = network.offsets[depth : depth + 2]
        out[begin:end, start:stop] += block.reshape(w * f, v * g)


def diagonal(H: Any) -> Array:
    """Return the diagonal of the data's part of an exact Hessian: O(n width P)."""
    network = H.network
    layers = network.unpack(H.theta)
    numbers = 3 * max(network.layer_units[1:]) ** 2 + network.layer_units[0]

    def part(rows, trace):
        M, adjoint = H.output_hessian(rows, trace), H.adjoint_pass(rows, trace)
        out = np.empty(H.shape[0], H.dtype)
        for depth in reversed(range(len(layers))):
            squares = densified(trace.inputs[depth]) ** 2
            own = network.unpack(out)[depth]
            own[...] = np.diagonal(M, axis1=1, axis2=2).T @ squares
            if depth:
                G = layers[depth][:, :-1] * trace.slopes[depth - 1][:, None]
                M = np.swapaxes(G, 1, 2) @ M @ G
                _add_to_diagonal(M, adjoint.bends[depth - 1])
        return [out]

    return H.linearization.sum(part, numbers)[0]


def _add_to_diagonal(blocks: Array, values: Array) -> None:
    """Add values (n, w) to the diagonals of blocks (n, w, w)."""
    index = np.arange(values.shape[1])
    blocks[:, index, index] += values
