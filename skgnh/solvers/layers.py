"""Solves with a network's exact Hessian by elimination of its layers."""

from itertools import pairwise
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.memory import fits, require
from skgnh.network import densified
from skgnh.operators import ExactHessian
from skgnh.solvers.layer_block import LayerBlock

Array = Any

# Most steps of refinement: one or two are enough unless H is indefinite and the shift
# far below its norm.
_REFINEMENTS = 6
# Calls of small routines cost as much as this many multiply-adds a layer.
_CALLS = 1e6


class LayerElimination:
    r"""``H + shift I`` factorised layer by layer, without ever forming H.

    Beside the step V_l of each layer's parameters, the R-operator's states count as
    unknowns: the moved :math:`\dot z_l` and their multipliers :math:`r_l`. With D the
    diagonal ``ridge + shift``, :math:`\sigma_l = s'(z_l)`, :math:`\dot a_l = (\sigma_{
    l-1} \dot z_{l-1}, 0)`, and sums over the rows,

    .. math::

       D V_l + r_l^T a_l + \delta_l^T \dot a_l &= g_l \\
       a_l V_l^T + \dot a_l \Theta_l^T - \dot z_l &= 0 \\
       \sigma_{l-1} (r_l W_l + \delta_l V_l) + \mathrm{bends}_{l-1} \dot z_{l-1}
       &= r_{l-1}, \qquad r_L = w Q \dot z_L ,

    a symmetric system that is block tridiagonal over the layers (Rahimi, 2026). States
    *before* the activation make the block of V_l diagonal. It goes first, and leaves
    for each pair of states a block in the n rows times the width; eliminated from the
    last layer to the first, the curvature :math:`M_l` of what comes after
    :math:`\dot z_l` is the only thing carried on, :math:`M_L = w Q` and

    .. math::

       M_{l-1} = E_{l-1} + B_l^T (M_l - M_l R_l C_l^{-1} R_l^T M_l) B_l, \qquad
       C_l = I + R_l^T M_l R_l,

    with the blocks B, E of the system above and :math:`R_l R_l^T = a_l D^{-1} a_l^T`
    unit by unit. By Haynsworth's additivity the inertia of ``H + shift I`` is the sum
    of that of all :math:`C_l` (and ones): if it is positive definite, so is every block
    that is inverted, and no pivoting is needed.

    Cost O(L (n w)^3) for a shift and O(L (n w)^2) a right-hand side, memory
    O(L (n w)^2), for L layers of width w: for few rows and deep, narrow networks.
    A solution is refined by a product with H.

    Parameters
    ----------
    H : ExactHessian
        The Hessian.
    shift : float
        Such that ``ridge + shift`` is positive for every parameter.

    Attributes
    ----------
    inertia : tuple of int
        How many eigenvalues of ``H + shift I`` are negative, zero and positive.
    products : int
        Products with H spent so far.

    Raises
    ------
    ValueError
        If the blocks exceed the working memory, or H is no :class:`ExactHessian`.
    numpy.linalg.LinAlgError
        If ``ridge + shift`` is not positive, or a block is singular or not finite.

    Notes
    -----
    In an indefinite system a block may happen to be nearly singular though the whole is
    not. Refinement makes good what this costs unless the shift is tiny: below about
    1e-7 of the norm of H digits are lost, and what is no solution raises an error.

    References
    ----------
    .. [1] A. Rahimi, "The Hessian of tall-skinny networks is easy to invert",
           arXiv:2601.06096, 2026.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.linearization import Linearization
    >>> from skgnh.losses import LOSSES
    >>> from skgnh.network import MLP, append_one
    >>> from skgnh.operators import ExactHessian
    >>> from skgnh.solvers import LayerElimination
    >>> rng = np.random.default_rng(0)
    >>> network = MLP((3, *[5] * 20, 1), ("tanh",) * 20)
    >>> theta, X = network.initialize(rng), rng.standard_normal((2, 3))
    >>> H = ExactHessian(
    ...     Linearization(network, theta, append_one(X)),
    ...     LOSSES["identity"],
    ...     np.ones((2, 1)),
    ...     np.full(2, 0.5),
    ... )
    >>> factor = LayerElimination(H, shift=1e-3)
    >>> x = factor.solve(np.ones(H.shape[0]))
    >>> bool(np.linalg.norm(H @ x + 1e-3 * x - 1) < 1e-9)
    True
    >>> sum(factor.inertia) == H.shape[0]
    True
    """

    def __init__(self, H: ExactHessian, shift: float):
        if not isinstance(H, ExactHessian):
            raise ValueError(
                f"Elimination by layers needs an ExactHessian, got {type(H).__name__}."
            )
        n = H.linearization.n_rows
        require(
            self.numbers(H.network, n) * H.dtype.itemsize,
            f"Elimination of the layers over {n} rows",
            "Take fewer rows or a solver of products such as 'cg'",
        )
        self._H, self._shift = H, H.dtype.type(shift)
        diagonal = H.ridge + self._shift
        if not diagonal.min() > 0:
            raise LinAlgError(
                "Elimination by layers needs a positive ridge + shift of every "
                f"parameter, the least is {diagonal.min():.3g}."
            )
        self.products = 0
        self._D = H.network.unpack(diagonal)
        self._weights = [W[:, :-1] for W in H.network.unpack(H.theta)]
        self._trace = H.linearization.kept or H.network.trace(
            H.theta, H.linearization.inputs
        )
        self._inputs = [densified(a) for a in self._trace.inputs]
        self._adjoint = H.adjoint_pass(slice(None), self._trace)
        # A state is held by unit, then row.
        self._slopes = [s.T for s in self._trace.slopes]
        self._blocks = self._eliminate()
        negative = sum(block.n_negative for block in self._blocks)
        self.inertia = (negative, 0, H.shape[0] - negative)

    @staticmethod
    def numbers(network: Any, n_rows: int) -> int:
        """Return how many numbers are held at a time."""
        states = [n_rows * width for width, _ in network.shapes]
        roots = [w * n_rows * min(n_rows, fan) for w, fan in network.shapes]
        inputs = n_rows * max(width * fan for width, fan in network.shapes)
        return (
            sum(2 * s**2 for s in states) + 5 * max(states) ** 2 + max(roots) + inputs
        )

    @staticmethod
    def operations(network: Any, n_rows: int) -> float:
        """Return about how many multiply-adds a factorisation takes."""
        states = [n_rows * width for width, _ in network.shapes]
        inner = sum((2 * n_rows + 1.5 * s) * s**2 for s in states)
        return float(inner + sum(b * s * (b + s) for b, s in pairwise(states)))

    @classmethod
    def pays(cls, H: ExactHessian) -> bool:
        """Say whether it fits the working memory and costs less than an array."""
        n, P = H.linearization.n_rows, H.shape[0]
        if not fits(cls.numbers(H.network, n) * H.dtype.itemsize):
            return False
        calls = _CALLS * len(H.network.shapes)
        dense = n * P**2 + P**3 / 6
        return cls.operations(H.network, n) + calls < dense or not fits(
            2 * P**2 * H.dtype.itemsize
        )

    # ---- factorisation --------------------------------------------------------------

    def _eliminate(self) -> list[LayerBlock]:
        """Return the blocks of all layers, made from the last to the first."""
        Q = self._H.output_hessian(slice(None), self._trace)
        n, d = Q.shape[:2]
        M = np.zeros((d, n, d, n), Q.dtype)
        _view_of_rows(M)[...] = Q.transpose(1, 2, 0)
        blocks = []
        for depth in reversed(range(len(self._D))):
            block = LayerBlock(self._root(depth), M.reshape(M.shape[0] * n, -1))
            blocks.append(block)
            if depth:
                M = self._carry(depth, block.remaining())
        return blocks[::-1]

    def _root(self, depth: int) -> Array:
        """Return R with ``R R^T = a D^-1 a^T`` of each unit, (width, n, min(n, f))."""
        a, D = self._inputs[depth], self._D[depth]
        n, fan = a.shape
        rows = D[:1] if (D[0] == D).all() else D
        R = a / np.sqrt(rows)[:, None, :]
        if fan > n:
            R = np.swapaxes(np.linalg.qr(np.swapaxes(R, 1, 2), mode="r"), 1, 2)
        return np.broadcast_to(R, (len(D), *R.shape[1:]))

    def _carry(self, depth: int, N: Array) -> Array:
        """Return the curvature in the state before, of shape (v, n, v, n)."""
        D, delta = self._D[depth][:, :-1], self._adjoint.deltas[depth]
        a, slope = self._inputs[depth][:, :-1], self._slopes[depth - 1]
        n, w, v = len(a), *D.shape
        # What moves z_l: the step that the moved input calls for, and the input.
        B = (a / -D[:, None]).reshape(w, n, v, 1)
        B = B * (delta.T[:, None, None, :] * slope)
        _view_of_rows(B)[...] += self._weights[depth][:, :, None] * slope
        B = B.reshape(w * n, v * n)
        M = (B.T @ (N @ B)).reshape(v, n, v, n)
        own = (delta / D.T[:, None, :]) @ delta.T
        own *= slope[:, :, None] * slope[:, None, :]
        unit = np.arange(v)
        M[unit, :, unit, :] -= own
        M.reshape(v * n, -1).flat[:: v * n + 1] += self._adjoint.bends[
            depth - 1
        ].T.ravel()
        return M

    # ---- solves ---------------------------------------------------------------------

    def solve(self, rhs: Array) -> Array:
        """Return ``(H + shift I)^-1 rhs`` for one or several right-hand sides.

        Parameters
        ----------
        rhs : ndarray of shape (P,) or (P, k)
            Right-hand sides.

        Returns
        -------
        ndarray of the shape of `rhs`
            The solution, refined by a step or two.

        Raises
        ------
        numpy.linalg.LinAlgError
            If its residual is not that of a solution.
        """
        columns = rhs.reshape(len(rhs), -1)
        eps, given = np.finfo(self._H.dtype).eps, np.linalg.norm(columns)
        x, residual, least, answer = np.zeros_like(columns), columns, np.inf, 0.0
        for _ in range(_REFINEMENTS):
            trial = x + self._solve(residual)
            product = self._H @ trial + self._shift * trial
            self.products += 1
            residual = columns - product
            size = np.linalg.norm(residual)
            if not size < least:
                break
            x, least, answer = trial, size, np.linalg.norm(product)
            if size <= 100 * eps * given:
                break
        if not least <= eps**0.5 * (given + answer):
            raise LinAlgError(
                f"A shift of {self._shift:.3g} is too small for this indefinite "
                "system: raise it."
            )
        return x.reshape(rhs.shape)

    def _solve(self, rhs: Array) -> Array:
        g = self._H.network.unpack(np.ascontiguousarray(rhs.T))
        offsets = self._backward(g)
        out = np.empty((rhs.shape[1], len(rhs)), self._H.dtype)
        moved = None
        for depth, V in enumerate(self._H.network.unpack(out)):
            a, D = self._inputs[depth], self._D[depth]
            target = g[depth].copy()
            if depth:
                moved *= self._slopes[depth - 1]
                target[..., :-1] -= _times(self._adjoint.deltas[depth].T, moved)
            state = (target / D) @ a.T
            if depth:
                state += self._weights[depth] @ moved
            r = self._blocks[depth].multiplier(state, offsets[depth])
            V[...] = (target - r @ a) / D
            moved = V @ a.T + (self._weights[depth] @ moved if depth else 0)
        return out.T

    def _backward(self, g: list) -> list:
        """Return what is left for each r_l to answer where no input moves."""
        last = self._D[-1].shape[0]
        n = len(self._inputs[0])
        offsets = [np.zeros((g[0].shape[0], last, n), self._H.dtype)]
        for depth in reversed(range(1, len(g))):
            a, D = self._inputs[depth], self._D[depth]
            r = self._blocks[depth].multiplier((g[depth] / D) @ a.T, offsets[-1])
            V = (g[depth] - r @ a) / D
            carried = self._weights[depth].T @ r
            carried += np.swapaxes(self._adjoint.deltas[depth] @ V[..., :-1], 1, 2)
            offsets.append(self._slopes[depth - 1] * carried)
        return offsets[::-1]

    def logdet(self) -> float:
        """Return ``log det (H + shift I)``.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is not positive definite.
        """
        if self.inertia[0]:
            raise LinAlgError(f"There are {self.inertia[0]} negative eigenvalues.")
        logs = sum(np.log(D.astype(np.float64)).sum() for D in self._D)
        return float(logs + sum(block.logdet() for block in self._blocks))


def _view_of_rows(blocks: Array) -> Array:
    """View the entries of equal rows of (w, n, v, n) as (w, v, n)."""
    return np.einsum("jnin->jin", blocks)


def _times(delta: Array, moved: Array) -> Array:
    """Return ``delta^T moved`` over the rows: (w, n) by (k, v, n) to (k, w, v)."""
    return delta @ np.swapaxes(moved, 1, 2)
