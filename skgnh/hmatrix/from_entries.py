"""What a hierarchical matrix is built of, taken from entries and sampled columns."""

from typing import Any

import numpy as np

from skgnh.memory import rows_per_chunk, slices, working_memory
from skgnh.progress import Track, silent

Array = Any


class FromEntries:
    """Blocks, far fields and couplings of ``H - low low^T``, from the leaves up.

    Parameters
    ----------
    H : operator of shape (P, P)
        With ``entries`` and ``diagonal``.
    low : ndarray of shape (P, k)
        Global part.
    index : ndarray of int of shape (K, m)
        Leaves, filled up with -1.
    n_samples : int
        Columns of H that stand for everyone's far field; 0 where none is asked for.
    rng : Generator
        Draws them.
    diagonal : ndarray of shape (P,)
        That of H.
    track : callable
        Shows how far the loops are, see :func:`skgnh.progress.tracker`.
    """

    def __init__(
        self,
        H: Any,
        low: Array,
        index: Array,
        n_samples: int,
        rng: Any,
        diagonal: Array,
        track: Track = silent,
    ):
        self._track = track
        self._H, self._low, self._here, self._diagonal = H, low, index, diagonal
        P = H.shape[0]
        self._sampled = np.sort(rng.choice(P, min(n_samples, P), replace=False))
        leaf_of = np.empty(P, dtype=int)
        leaf_of[index[index >= 0]] = np.nonzero(index >= 0)[0]
        # The node of this level that each sampled column lies in.
        self._home = leaf_of[self._sampled]
        self._panel: Array = self._far_panel() if n_samples else None

    def blocks(self) -> Array:
        """Return the leaves' blocks; indices that fill them up are uncoupled."""
        index, low = self._here, self._low
        if index.shape[1] == 1:
            own = self._diagonal - np.einsum("ij,ij->i", low, low)
            return np.where(index >= 0, own[index], 1)[:, None]
        out = np.empty((*index.shape, index.shape[1]), self._H.dtype)
        out[:] = np.eye(index.shape[1])
        for part in self._track(_batches(out), "leaves"):
            nodes = [node[node >= 0] for node in index[part]]
            blocks = self._H.entry_blocks([(node, node) for node in nodes])
            for whole, node, block in zip(out[part], nodes, blocks, strict=True):
                m = len(node)
                whole[:m, :m] = symmetric(block) - low[node] @ low[node].T
        return out

    def far(self, part: slice) -> Array:
        """Return ``F F^T`` of the far fields F of some nodes, of shape (k, m, m)."""
        nodes = self._here[part]
        out = np.empty((*nodes.shape, nodes.shape[1]), self._panel.dtype)
        for k, node in enumerate(nodes):
            rows = np.where((node >= 0)[:, None], self._panel[node], 0)
            rows = rows * (self._home != part.start + k)
            np.matmul(rows, rows.T, out=out[k])
        return out

    def couple(self, skeleton: Array, inner: Array) -> Array:
        """Go up to pairs; return what couples both, of shape (K / 2, r, r)."""
        r = skeleton.shape[1]
        here = np.take_along_axis(self._here, skeleton, axis=1).reshape(-1, 2 * r)
        self._here, self._home = here, self._home // 2
        out = np.zeros((len(here), r, r), inner.dtype)
        for part in self._track(_batches(out), "couplings"):
            sides = [(node[:r], node[r:]) for node in here[part]]
            pairs = [(i[i >= 0], j[j >= 0]) for i, j in sides]
            blocks = self._H.entry_blocks(pairs)
            for k, block in enumerate(blocks):
                i, j = pairs[k]
                inside = np.ix_(*(side >= 0 for side in sides[k]))
                out[part][k][inside] = block - self._low[i] @ self._low[j].T
        return out

    def _far_panel(self) -> Array:
        """Return scaled random columns of the remainder, some at a time."""
        H, sampled = self._H, self._sampled
        every = np.arange(H.shape[0])
        panel = np.empty((len(every), len(sampled)), H.dtype)
        # No more than a quarter beside the panel itself.
        size = min(-(-len(sampled) // 4), working_memory() // (8 * panel[:, 0].nbytes))
        parts = slices(len(sampled), max(1, size))
        for part in self._track(parts, "sampled columns"):
            (panel[:, part],) = H.entry_blocks([(every, sampled[part])])
        check_symmetric(panel[sampled])
        for part in parts:
            panel[:, part] -= self._low @ self._low[sampled[part]].T
        if not np.isfinite(panel).all():
            raise np.linalg.LinAlgError("H must be finite.")
        own = np.maximum(panel[sampled, np.arange(len(sampled))], 0)
        panel *= np.divide(1, np.sqrt(own), out=np.zeros_like(own), where=own > 0)
        return panel


def principal_block(H: Any, low: Array, index: Array) -> Array:
    """Return a principal block of ``H - low low^T``, some rows at a time."""
    out = np.empty((len(index), len(index)), H.dtype)
    for part in _batches(out):
        (out[part],) = H.entry_blocks([(index[part], index)])
    return symmetric(out) - low[index] @ low[index].T


def _batches(blocks: Array) -> list[slice]:
    """Return batches of blocks, or rows, that take an eighth of the working memory."""
    return slices(len(blocks), max(1, working_memory() // (8 * blocks[0].nbytes)))


def symmetric(block: Array) -> Array:
    """Return a principal block without the asymmetry of rounding."""
    check_symmetric(block)
    return (block + block.T) / 2


def check_symmetric(block: Array) -> None:
    """Refuse a principal block that is not finite, or off by more than rounding."""
    if not np.isfinite(block).all():
        raise np.linalg.LinAlgError("H must be finite.")
    # Rows and columns, their difference and its absolute values.
    size = rows_per_chunk(4 * block[0].nbytes)
    parts = slices(len(block), size)
    gap = max(np.abs(block[part] - block[:, part].T).max() for part in parts)
    scale = max(np.abs(block[part]).max() for part in parts)
    if gap > np.finfo(block.dtype).eps ** 0.5 * scale:
        raise ValueError(f"H must be symmetric; it is off by {gap:.1e}.")
