"""Solves with a network's exact Hessian by elimination of its layers."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from skgnh.memory import fits, require
from skgnh.network import densified
from skgnh.operators import ExactHessian
from skgnh.solvers.layer_block import LayerBlock, LayerCoordinates, equal_weights

Array = Any

# Most steps of refinement: one or two are enough unless H is close to singular.
_REFINEMENTS = 4
# An eigendecomposition costs this much more than m^3 multiply-adds, and the calls of
# small routines as much as this many of them a layer.
_EIGEN, _CALLS = 5, 2e6


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

    a symmetric system that is block tridiagonal over the layers (Rahimi, 2026). The
    layers are eliminated from the last to the first. What comes after
    :math:`\dot z_l` leaves a curvature :math:`M_l` in it, :math:`M_L = w Q`. Once
    :math:`\dot z_l = A_l V_l + B_l \dot z_{l-1}` is inserted, which needs no pivot,

    .. math::

       F_l = D_l + A_l^T M_l A_l, \quad K_l = \Delta_l + A_l^T M_l B_l, \quad
       M_{l-1} = E_{l-1} + B_l^T M_l B_l - K_l^T F_l^{-1} K_l .

    In an indefinite system :math:`F_l` may be nearly singular though the whole is not.
    So pivots are its eigenvalues, and one that is tiny beside its row of
    :math:`K_l` is kept back: its unknown goes on to the next layer, coupled to
    :math:`\dot z_{l-1}`, and is eliminated there with :math:`V_{l-1}`. No more are kept
    than the states before number (up to a few), and a shift may be as small as a dense
    solve stands. The inertia of ``H + shift I`` is that of its pivots.

    For fewer rows than a layer's width, all but :math:`n (w + f - n)` of its w times f
    parameters meet no row after a rotation, and leave first.

    Cost at most O(L (n w)^3) for a shift and O(L (n w)^2) a right-hand side, memory
    O(L (n w)^2), for L layers of width w: for few rows and deep, narrow networks. With
    more rows than the width, and unless pivots are kept back, n w is w^2 in F, and only
    the curvature in the states stays quadratic in n.
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
    A ridge that differs among a layer's weights (not only between weights and biases)
    rules the rotation out: with few rows, blocks of all parameters of a layer remain.

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
        if "elimination" not in H.offers:
            raise ValueError(
                f"Elimination by layers needs an ExactHessian, got {H.name}."
            )
        n = H.linearization.n_rows
        require(
            self.numbers(H.network, n, _alike(H)) * H.dtype.itemsize,
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
        self._trace = H.linearization.trace(slice(0, H.linearization.n_rows))
        self._adjoint = H.adjoint_pass(slice(None), self._trace)
        # A state is held by unit, then row.
        self._slopes = [s.T for s in self._trace.slopes]
        deltas = [None, *self._adjoint.deltas[1:]]
        self._coordinates = [
            LayerCoordinates(densified(a), D, delta)
            for a, D, delta in zip(self._trace.inputs, self._D, deltas, strict=True)
        ]
        self._blocks = self._eliminate()
        negative = sum(int((block.pivots < 0).sum()) for block in self._blocks)
        self.inertia = (negative, 0, H.shape[0] - negative)

    @staticmethod
    def numbers(network: Any, n_rows: int, alike: bool = True) -> int:
        """Return how many numbers are held at a time, if most pivots are kept back.

        Parameters
        ----------
        network : MLP
            The network.
        n_rows : int
            Number of rows n.
        alike : bool, default=True
            Whether each layer's weights have one ridge.
        """
        held = sum(fan * (n_rows + width) for width, fan in network.shapes)
        most = kept = 0
        for core, loose, after, before in _orders(network, n_rows, alike)[::-1]:
            m = min(kept, after) + core + loose
            held += m * (m + before + min(m, before))
            most = max(most, 3 * (m + before) ** 2 + 2 * after * (after + m))
            kept = m
        return held + most

    @staticmethod
    def operations(network: Any, n_rows: int, alike: bool = True) -> float:
        """Return about how many multiply-adds a factorisation takes."""
        total = _CALLS * len(network.shapes)
        for (core, loose, after, before), (width, fan) in zip(
            _orders(network, n_rows, alike), network.shapes, strict=True
        ):
            total += _EIGEN * core**3 + (core + loose) * before**2
            total += after * (after + before) * (width + fan)
        return float(total)

    @classmethod
    def pays(cls, H: ExactHessian) -> bool:
        """Say whether it fits the working memory and costs less than an array."""
        n, P, alike = H.linearization.n_rows, H.shape[0], _alike(H)
        if not fits(cls.numbers(H.network, n, alike) * H.dtype.itemsize):
            return False
        dense = n * P**2 + P**3 / 6
        return cls.operations(H.network, n, alike) < dense or not fits(
            2 * P**2 * H.dtype.itemsize
        )

    # ---- factorisation --------------------------------------------------------------

    def _eliminate(self) -> list[LayerBlock]:
        """Return the blocks of all layers, made from the last to the first."""
        Q = self._H.output_hessian(slice(None), self._trace)
        n, d = Q.shape[:2]
        M = np.zeros((d, n, d, n), Q.dtype)
        np.einsum("jnin->jin", M)[...] = Q.transpose(1, 2, 0)
        M, blocks = M.reshape(d * n, -1), []
        # One scale for all layers: growth by a factor in each would add up.
        given = [Q, *self._adjoint.deltas, *self._adjoint.bends]
        scale = max(np.abs(part).max() for part in given)
        kept, c = np.zeros((0, 0), Q.dtype), np.zeros((0, d * n), Q.dtype)
        for depth in reversed(range(len(self._weights))):
            F, rows = self._front(depth, kept, c, M)
            loose = self._coordinates[depth].loose
            K = np.zeros((len(F) + len(loose), 0), Q.dtype)
            if depth:
                K, M = self._border(depth, rows, M, len(kept))
            block = LayerBlock(F, loose, K, scale)
            if depth:
                M = M - block.update()
                M = (M + M.T) / 2
            kept, c = block.kept, block.coupling
            blocks.append(block)
        return blocks[::-1]

    def _front(self, depth: int, kept: Array, c: Array, M: Array) -> tuple:
        """Return the block of the unknowns kept back and V_l, and how they move z_l."""
        a, D = self._coordinates[depth].inputs, self._coordinates[depth].diagonal
        n, k, (w, q) = len(a), len(kept), D.shape
        rows = np.concatenate([c, (M.reshape(-1, w, n) @ a).reshape(-1, w * q).T])
        F = np.zeros((k + w * q, k + w * q), M.dtype)
        F[:, k:] = (rows.reshape(-1, w, n) @ a).reshape(-1, w * q)
        F[k:, :k], F[:k, :k] = F[:k, k:].T, kept
        F[k:, k:].flat[:: w * q + 1] += D.ravel()
        return (F + F.T) / 2, rows

    def _border(self, depth: int, rows: Array, M: Array, k: int) -> tuple:
        """Return the coupling to the state before, and the curvature in it."""
        own = self._coordinates[depth].coupling(self._slopes[depth - 1])
        K = np.zeros((k + len(own), own.shape[1]), M.dtype)
        K[k:] = own
        K[: len(rows)] += self._carry(depth, rows)
        E = self._carry(depth, np.ascontiguousarray(self._carry(depth, M).T))
        E.flat[:: len(E) + 1] += self._adjoint.bends[depth - 1].T.ravel()
        return K, E

    def _carry(self, depth: int, rows: Array) -> Array:
        """Carry rows over the state z_l to the state before."""
        W, slope = self._weights[depth], self._slopes[depth - 1]
        states = rows.reshape(len(rows), len(W), slope.shape[1])
        return (slope * (W.T @ states)).reshape(len(rows), slope.size)

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
        x, residual, least = np.zeros_like(columns), columns, np.inf
        for _ in range(_REFINEMENTS):
            trial = x + self._solve(residual)
            residual = columns - self._H @ trial - self._shift * trial
            self.products += 1
            size, before = float(np.linalg.norm(residual)), least
            if size < least:
                x, least = trial, size
            if not size < before / 2 or size <= 10 * eps * given:
                break
        # About eps times the condition: no digit of an answer would be left.
        if not least <= 0.01 * given:
            raise LinAlgError(
                "H + shift I is singular to working precision at a shift of "
                f"{self._shift:.3g}: change it."
            )
        return x.reshape(rhs.shape)

    def _solve(self, rhs: Array) -> Array:
        g = self._H.network.unpack(np.ascontiguousarray(rhs.T))
        parts, k = self._forward(g), len(g[0])
        out = np.empty((k, len(rhs)), self._H.dtype)
        kept = moved = np.zeros((0, k), self._H.dtype)
        for depth, V in enumerate(self._H.network.unpack(out)):
            at, mine = self._coordinates[depth], parts[depth]
            (w, q), p = at.diagonal.shape, len(at.loose)
            u = self._blocks[depth].backward(mine, kept, moved)
            kept, core, loose = np.split(u, [len(u) - w * q - p, len(u) - p])
            core = np.ascontiguousarray(core.T).reshape(k, w, q)
            V[...] = at.join(core, loose.T) + at.free(g[depth])
            state = core @ at.inputs.T
            if depth:
                before = moved.T.reshape(k, *self._slopes[depth - 1].shape)
                state += self._weights[depth] @ (self._slopes[depth - 1] * before)
            moved = state.reshape(k, -1).T
        return out.T

    def _forward(self, g: list) -> list:
        """Return what the pivots of each layer are to answer."""
        k, n = len(g[0]), len(self._trace.outputs)
        h = np.zeros((k, self._trace.outputs.size), self._H.dtype)
        kept, parts = np.zeros((0, k), self._H.dtype), []
        for depth in reversed(range(len(g))):
            core, loose = self._coordinates[depth].split(g[depth])
            core += h.reshape(k, -1, n) @ self._coordinates[depth].inputs
            rows = [kept, core.reshape(k, -1).T, loose.reshape(k, loose[0].size).T]
            mine, kept, met = self._blocks[depth].forward(np.concatenate(rows))
            if depth:
                h = self._carry(depth, h) - met.T
            parts.append(mine)
        return parts[::-1]

    def logdet(self) -> float:
        """Return ``log det (H + shift I)``.

        Raises
        ------
        numpy.linalg.LinAlgError
            If the matrix is not positive definite.
        """
        if self.inertia[0]:
            raise LinAlgError(f"There are {self.inertia[0]} negative eigenvalues.")
        pivots = [block.pivots for block in self._blocks]
        total = np.log(np.concatenate(pivots), dtype=np.float64).sum()
        for at, layer in zip(self._coordinates, self._D, strict=True):
            total += at.n_free * np.log(float(layer[0, 0]))
        return float(total)


def _alike(H: ExactHessian) -> bool:
    """Say whether each layer's weights have one ridge."""
    return all(map(equal_weights, H.network.unpack(H.ridge)))


def _orders(network: Any, n: int, alike: bool) -> list[tuple[int, int, int, int]]:
    """Return how many core and loose unknowns, states after and before layers have."""
    orders = []
    for depth, (width, fan) in enumerate(network.shapes):
        rank = min(n, fan - 1) if alike else fan - 1
        loose = min(n, width) * (fan - 1 - rank) if depth else 0
        before = n * (fan - 1) if depth else 0
        orders.append((width * (rank + 1), loose, n * width, before))
    return orders
