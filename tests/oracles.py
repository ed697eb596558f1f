"""A network, its losses and its curvature, one sample at a time in plain NumPy.

Nothing here is shared with the package. Derivatives are taken by complex steps, which
are exact to rounding: f(x + i h) = f(x) + i h f'(x) + O(h^2) with h = 1e-30.
"""

import numpy as np

STEP = 1e-30

SCALARS = {
    "identity": lambda z: z,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.where(np.real(z) > 0, z, 0),
}


def outputs(theta, x, widths, activations):
    """Outputs z of one sample; theta by layer, by output neuron, the bias last."""
    a, start = np.asarray(x), 0
    for layer, width in enumerate(widths[1:]):
        z = []
        for _ in range(width):
            *weights, bias = theta[start : start + len(a) + 1]
            z.append(np.dot(weights, a) + bias)
            start += len(a) + 1
        a = np.array(z)
        if layer < len(activations):
            a = SCALARS[activations[layer]](a)
    assert start == len(theta)
    return a


def weight_mask(widths):
    """One for each weight, zero for each bias, in the order of theta."""
    mask = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        mask += ([1.0] * fan_in + [0.0]) * fan_out
    return np.array(mask)


def complex_step(function, x):
    """Derivative of a function of a vector, one column for each entry."""
    columns = []
    for j in range(len(x)):
        shifted = np.array(x, dtype=complex)
        shifted[j] += 1j * STEP
        columns.append(np.imag(function(shifted)) / STEP)
    return np.stack(columns, axis=-1)


def jacobian(theta, x, widths, activations):
    return complex_step(lambda t: outputs(t, x, widths, activations), theta)


def squared(z, y):
    return sum((z[k] - y[k]) ** 2 for k in range(len(y))) / (2 * len(y))


def poisson(z, y):
    log = [np.log(t) if t > 0 else 0.0 for t in y]
    return sum(y[k] * log[k] - y[k] * z[k] - y[k] + np.exp(z[k]) for k in range(len(y)))


def cross_entropy(z, y):
    p = 1 / (1 + np.exp(-np.asarray(z)))
    return -sum(
        y[k] * np.log(p[k]) + (1 - y[k]) * np.log(1 - p[k]) for k in range(len(y))
    )


def softmax(z, y):
    p = np.exp(z) / np.sum(np.exp(z))
    return -sum(y[k] * np.log(p[k]) for k in range(len(y)))


VALUES = {
    "identity": squared,
    "exp": poisson,
    "logistic": cross_entropy,
    "softmax": softmax,
}


def mean(output_activation, z):
    if output_activation == "identity":
        return z
    if output_activation == "exp":
        return np.exp(z)
    if output_activation == "logistic":
        return 1 / (1 + np.exp(-z))
    return np.exp(z) / np.sum(np.exp(z))


def hessian(output_activation, z):
    """Hessian Q of the loss in the outputs z."""
    p = mean(output_activation, z)
    if output_activation == "identity":
        return np.eye(len(z)) / len(z)
    if output_activation == "exp":
        return np.diag(p)
    if output_activation == "logistic":
        return np.diag(p * (1 - p))
    return np.diag(p) - np.outer(p, p)


def root(output_activation, z):
    """Root S of Q: symmetric where Q is diagonal, the closed form for softmax."""
    if output_activation == "softmax":
        p = mean(output_activation, z)
        return np.diag(np.sqrt(p)) - np.outer(p, np.sqrt(p))
    return np.sqrt(hessian(output_activation, z))


class Curvature:
    """The Gauss-Newton Hessian and its root as dense arrays, from loops over rows."""

    def __init__(self, theta, X, widths, activations, output_activation):
        self.parts = []
        for x in X:
            z = outputs(theta, x, widths, activations)
            J = jacobian(theta, x, widths, activations)
            self.parts.append(
                (J, hessian(output_activation, z), root(output_activation, z))
            )

    def array(self, weights, ridge):
        H = np.diag(ridge)
        for w, (J, Q, _) in zip(weights, self.parts, strict=True):
            H = H + w * J.T @ Q @ J
        return H

    def root(self, weights, mixtures=None):
        """Rows by sample, then by output or by column of the mixtures (n, d, m)."""
        rows = []
        for i, (J, _, S) in enumerate(self.parts):
            Omega = np.eye(len(S)) if mixtures is None else mixtures[i]
            rows.extend(np.sqrt(weights[i]) * (S @ Omega).T @ J)
        return np.array(rows)


def objective(theta, X, Y, widths, activations, output_activation, weights, ridge):
    """Mean loss plus penalty: analytic in theta, so complex steps give its gradient."""
    total = 0.5 * np.sum(ridge * theta**2)
    for x, y, w in zip(X, Y, weights, strict=True):
        z = outputs(theta, x, widths, activations)
        total += w * VALUES[output_activation](z, y)
    return total
