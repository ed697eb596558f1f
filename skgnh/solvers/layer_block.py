"""What one layer leaves to the elimination of a network's layers."""

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

Array = Any

# A pivot may be this much smaller than what it is coupled to: threshold pivoting.
_THRESHOLD = 30.0


class LayerCoordinates:
    r"""Orthogonal coordinates of a layer's step V, of which few meet the rows.

    .. math:: V = V_c Q^T + P V_o Q_\perp^T + V_f

    The columns of Q span the rows' inputs, and the bias; only :math:`V_c` moves this
    layer's state. :math:`P^T` spans the derivatives :math:`\delta`, through which
    :math:`V_c` and the loose :math:`V_o` meet the state before. The free rest meets
    nothing. This needs the same diagonal D for all weights; otherwise Q is the
    identity.
    """

    def __init__(self, a: Array, D: Array, delta: Array | None):
        fan, n = D.shape[1] - 1, len(a)
        basis, rank = np.eye(fan, dtype=a.dtype), fan
        if equal_weights(D):
            mode: Any = "reduced" if delta is None else "complete"
            basis, rank = np.linalg.qr(a[:, :-1].T, mode=mode)[0], min(n, fan)
        self._Q = np.zeros((fan + 1, rank + 1), a.dtype)
        self._Q[:-1, :-1], self._Q[-1, -1] = basis[:, :rank], 1
        self._others, self._delta = basis[:, rank:], delta
        self._P = np.zeros((len(D), 0), a.dtype)
        if delta is not None:
            self._P = np.linalg.qr(delta.T)[0]
        self._shape = self._P.shape[1], self._others.shape[1]
        self.inputs = a @ self._Q
        # Where Q is no selection of columns, those of D are alike.
        self.diagonal = np.concatenate([D[:, :rank], D[:, -1:]], axis=1)
        self.loose = np.full(self._shape[0] * self._shape[1], D[0, 0])
        self.n_free = D.size - self.diagonal.size - self.loose.size
        self._free = D[0, 0]

    def split(self, V: Array) -> tuple[Array, Array]:
        """Return the core and the loose coordinates of steps (k, w, f)."""
        return V @ self._Q, self._P.T @ (V[..., :-1] @ self._others)

    def join(self, core: Array, loose: Array) -> Array:
        """Return the steps of these coordinates."""
        V = core @ self._Q.T
        loose = loose.reshape(len(V), *self._shape)
        V[..., :-1] += self._P @ loose @ self._others.T
        return V

    def free(self, g: Array) -> Array:
        """Return the steps of the free coordinates, which the diagonal alone holds."""
        if not self.n_free:
            return np.zeros_like(g)
        # Twice: a remnant of g in the others would be divided by a small diagonal.
        for _ in range(2):
            g = g - self.join(*self.split(g))
        return g / self._free

    def coupling(self, slope: Array) -> Array:
        """Return how core and loose coordinates meet the state before, by rows."""
        core = _outer(self._delta, self._Q[:-1], slope)
        return np.concatenate(
            [core, _outer(self._delta @ self._P, self._others, slope)]
        )


class LayerBlock:
    r"""Pivots of the symmetric :math:`[[F, K], [K^T, E]]`, taken in F where stable.

    In the basis of its eigenvectors F is diagonal. Those of its pivots that are tiny
    beside what couples them to the border E would make it grow; they are kept back, for
    a later layer to eliminate together with its own unknowns. Of those kept back, no
    more than the border's order need meet it: the others, after a rotation, are
    eliminated among themselves.

    Parameters
    ----------
    F : ndarray of shape (m, m)
        Symmetric block of the unknowns.
    loose : ndarray of shape (p,)
        Diagonal of further unknowns, coupled to the border alone.
    K : ndarray of shape (m + p, b)
        Their coupling to the border.
    scale : float
        Growth of the border that does no harm; with b = 0 nothing is kept back.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a block is not finite, or the last is singular.
    """

    def __init__(self, F: Array, loose: Array, K: Array, scale: float):
        if not (np.isfinite(F).all() and np.isfinite(K).all()):
            raise LinAlgError("A block of the elimination is not finite.")
        basis = np.eye(len(K), dtype=F.dtype)
        values, basis[: len(F), : len(F)] = np.linalg.eigh(F)
        values, K = np.concatenate([values, loose]), basis.T @ K
        good = _stable(values, K, scale)
        if not (K.shape[1] or good.all()):
            raise LinAlgError("A block of the elimination is singular.")
        self.pivots, self._K, self._basis = (
            values[good],
            K[good],
            basis[:, _order(good)],
        )
        self.kept, self.coupling = np.diag(values[~good]), K[~good]
        self._inner = np.zeros((len(self.pivots), len(self.kept)), F.dtype)
        if len(self.kept) > K.shape[1]:
            self._reduce(K.shape[1], np.abs(values).max())

    def _reduce(self, border: int, scale: float) -> None:
        """Eliminate of the unknowns kept back those that need not meet the border."""
        turn = np.linalg.qr(self.coupling, mode="complete")[0]
        rest, done = turn[:, border:], len(self.pivots)
        values, vectors = np.linalg.eigh(rest.T @ self.kept @ rest)
        turn[:, border:] = rest @ vectors
        S = turn.T @ self.kept @ turn
        good = np.zeros(len(S), bool)
        good[border:] = _stable(values, S[border:, :border], scale)
        pivots, inner = S.diagonal()[good], S[np.ix_(good, ~good)]
        S = S[np.ix_(~good, ~good)] - inner.T @ (inner / pivots[:, None])
        self.kept, self.coupling = (S + S.T) / 2, turn[:, ~good].T @ self.coupling
        self.pivots = np.concatenate([self.pivots, pivots])
        self._K = np.pad(self._K, ((0, len(pivots)), (0, 0)))
        self._inner = np.pad(inner, ((done, 0), (0, 0)))
        self._basis[:, done:] = self._basis[:, done:] @ turn[:, _order(good)]

    def update(self) -> Array:
        """Return what elimination takes from the border, of shape (b, b)."""
        return self._K.T @ (self._K / self.pivots[:, None])

    def forward(self, rhs: Array) -> tuple[Array, Array, Array]:
        """Return a right-hand side (m + p, k) as pivots', kept and border's parts."""
        rhs = self._basis.T @ rhs
        mine, kept = np.split(rhs, [len(self.pivots)])
        solved = mine / self.pivots[:, None]
        return mine, kept - self._inner.T @ solved, self._K.T @ solved

    def backward(self, mine: Array, kept: Array, border: Array) -> Array:
        """Return the unknowns, given those kept back and the border's."""
        mine = mine - self._inner @ kept - self._K @ border
        return self._basis @ np.concatenate([mine / self.pivots[:, None], kept])


def equal_weights(D: Array) -> bool:
    """Say whether all weights of a layer have the same entry; biases may differ."""
    return bool((D[:, :-1] == D[0, 0]).all())


def _outer(delta: Array, Q: Array, slope: Array) -> Array:
    """Return ``delta_ij Q_kt slope_ki`` as rows (j, t) and columns (k, i)."""
    block = delta.T[:, None, None, :] * (Q.T[:, :, None] * slope)
    return block.reshape(-1, slope.size)


def _order(good: Array) -> Array:
    """Return the indices of those that are good, then of the others."""
    return np.argsort(~good, kind="stable")


def _stable(pivots: Array, K: Array, scale: float) -> Array:
    """Say which pivots eliminate their rows of K without growth beyond the scale."""
    size, pivots = np.linalg.norm(K, axis=1), np.abs(pivots)
    return (pivots > 0) & (size**2 <= pivots * np.maximum(_THRESHOLD * size, scale))
