"""HODLR matrices from entries: ranks shared out over all blocks by what they save."""

from numbers import Real
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from skgnh.hmatrix.from_entries import symmetric
from skgnh.hmatrix.hodlr import Block, HODLRMatrix, contracted
from skgnh.hmatrix.tree import ORDERS, leaves, ordered
from skgnh.linalg import Curvature, as_curvature, check_choice, check_count, check_seed
from skgnh.memory import slices, working_memory

Array = Any

_OVERSAMPLING = 10
# Of the storage, what a block's candidates may take.
_MOST = 0.6
# A singular value weighs so much more for each level down. Coarse blocks are shrunk by
# what the fine ones below lack, which would cost more than the fine ranks do.
_FINER = 2.0
# Largest singular values of a scaled block to choose from. One leaves the pair that far
# from singular, and so room for what couples it to others, at the price of its own.
_CAPS = (0.95, 0.99)
# Random vectors whose products measure an error.
_VECTORS = 8


def hodlr(
    H: Any,
    storage: float = 128,
    *,
    leaf_size: int = 32,
    order: str = "natural",
    random_state: int = 0,
) -> HODLRMatrix:
    """Compress a symmetric positive semidefinite operator to HODLR form.

    Parameters
    ----------
    H : operator of shape (P, P)
        With products (``H @ V``), ``entries`` and ``diagonal``.
    storage : float, default=128
        Numbers an index, of symmetric blocks one triangle. Ranks are shared out over
        the off-diagonal blocks by the squared error that a number saves; how far
        from singular its pairs are kept is chosen by the error of random products.
    leaf_size : int, default=32
        Most indices of a leaf, two where it is 1, or `storage` of them where that is
        less. There is one leaf, exact, where P takes no more than the storage.
    order : {'natural', 'diagonal', 'angle', 'kernel'}, default='natural'
        Order of the indices, see :func:`skgnh.hmatrix.compress`.
    random_state : int, default=0
        Seed of the randomised singular value decompositions.

    Returns
    -------
    HODLRMatrix
        The approximation, positive definite. All entries of H are looked at, a block at
        a time where it fits an eighth of the working memory, else three times by rows:
        O(P^2) entries, O(P^2 storage) operations, and while it is built up to
        P storage log P numbers.

    Raises
    ------
    ValueError
        If H lacks entries, is not symmetric, or the storage is too small.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.hmatrix import hodlr
    >>> from skgnh.operators import DenseMatrix
    >>> x = np.arange(500)
    >>> K = np.exp(-np.abs(x[:, None] - x) / 5)
    >>> A = hodlr(DenseMatrix(K), storage=24, leaf_size=16)
    >>> bool(np.linalg.norm(A @ np.eye(500) - K) < 1e-6 * np.linalg.norm(K))
    True
    """
    check_count(leaf_size, "leaf_size", 1)
    check_choice(order, "order", ORDERS)
    check_seed(random_state)
    H, rng = as_curvature(H), np.random.default_rng(random_state)
    if not H.offers.issuperset({"entries", "diagonal"}):
        raise ValueError(f"{H.name} lacks entries or diagonal, which hodlr needs.")
    if not (isinstance(storage, Real) and 2 <= storage < np.inf):
        raise ValueError(f"storage must be at least 2 numbers, got {storage}.")
    P = H.shape[0]
    leaf_size = P if 2 * storage >= P + 1 else min(leaf_size, int(storage))
    # No more leaves than there are indices.
    depth = min(np.ceil(np.log2(P / leaf_size)), np.floor(np.log2(P)))
    n_leaves = 2 ** max(0, int(depth))
    sequence = ordered(H, order, n_leaves, rng)
    nodes = [row[row >= 0] for row in leaves(sequence, n_leaves)]
    own = [symmetric(block) for block in H.entry_blocks([(i, i) for i in nodes])]
    _jitter(own)
    left = storage * P - sum(len(D) * (len(D) + 1) // 2 for D in own)
    levels = decomposed(H, sequence, [len(D) for D in own], int(_MOST * storage), rng)
    return _best(H, sequence, own, shared(levels, left), rng)


def _best(H: Any, order: Array, own: list, levels: list, rng: Any) -> HODLRMatrix:
    """Return the matrix of the cap with the least error of random products."""
    Z = rng.standard_normal((len(order), _VECTORS)).astype(H.dtype)
    exact, out, least = H @ Z, None, np.inf
    for cap in _CAPS:
        matrix = HODLRMatrix(order, own, contracted(own, levels, cap))
        error = float(np.linalg.norm(matrix @ Z - exact))
        if error < least:
            out, least = matrix, error
    if out is None:
        raise np.linalg.LinAlgError("H must be finite.")
    return out


def _jitter(blocks: list[Array]) -> None:
    """Raise the diagonals by what rounding may take, one of zeros by the mean's."""
    eps = float(np.finfo(blocks[0].dtype).eps)
    diagonals = np.concatenate([D.diagonal() for D in blocks])
    if (diagonals < 0).any():
        raise np.linalg.LinAlgError("H must have a non-negative diagonal.")
    least = float(diagonals.mean() or 1.0)
    for D in blocks:
        own = np.einsum("ii->i", D)
        own += 1e3 * eps * np.maximum(own, eps * least)


def decomposed(
    H: Any, order: Array, sizes: list[int], rank: int, rng: Any
) -> list[list[Block]]:
    """Return the leading singular triples of all blocks over leaves of these sizes.

    Level after level, the halves of the whole first; the values are in X.
    """
    levels: list[list] = []
    while len(sizes) > 1:
        stops = np.cumsum([0, *sizes])
        nodes = [slice(*ends) for ends in zip(stops[:-1], stops[1:], strict=True)]
        pairs = list(zip(nodes[::2], nodes[1::2], strict=True))
        levels.insert(0, _level(H, order, pairs, rank, rng))
        sizes = [a + b for a, b in zip(sizes[::2], sizes[1::2], strict=True)]
    return levels


def _level(H: Any, order: Array, pairs: list, rank: int, rng: Any) -> list[Block]:
    """Return a level's blocks, fetched as many at a time as an eighth of the memory."""
    largest = max(len(order[a]) * len(order[b]) for a, b in pairs) * H.dtype.itemsize
    room, out = working_memory() // 8, []
    for part in slices(len(pairs), max(1, room // largest)):
        sides = [(order[a], order[b]) for a, b in pairs[part]]
        held = largest <= room
        blocks = H.entry_blocks(sides) if held else [_ByRows(H, *sides[0])]
        for (a, b), block in zip(pairs[part], blocks, strict=True):
            U, s, V = _triples(block, rank, rng)
            out.append(Block(a, b, U * s, V))
    return out


def _triples(A: Any, rank: int, rng: Any) -> tuple[Array, Array, Array]:
    """Return leading singular triples: at random where they are less than half."""
    k = rank + _OVERSAMPLING
    if isinstance(A, np.ndarray) and not np.isfinite(A).all():
        raise np.linalg.LinAlgError("H must be finite.")
    if isinstance(A, np.ndarray) and 2 * k >= min(A.shape):
        U, s, Vt = np.linalg.svd(A, full_matrices=False)
        return U[:, :rank], s[:rank], Vt[:rank].T
    start = rng.standard_normal((A.shape[0], k)).astype(A.dtype)
    Q = np.linalg.qr(A @ np.linalg.qr(A.T @ start)[0])[0]
    V, s, Ut = np.linalg.svd(A.T @ Q, full_matrices=False)
    return Q @ Ut[:rank].T, s[:rank], V[:, :rank]


def shared(
    levels: list[list[Block]], numbers: float, finer: float = _FINER
) -> list[list[Block]]:
    """Cut blocks to the triples that save most squared error a number.

    A triple of a level counts `finer` times as much as one of the level above.
    """
    blocks = [(depth, block) for depth, level in enumerate(levels) for block in level]
    if not blocks:
        return levels
    costs = [len(block.X) + len(block.Y) for _, block in blocks]
    saved = [
        finer**depth * np.sum(block.X**2, axis=0) / cost
        for (depth, block), cost in zip(blocks, costs, strict=True)
    ]
    owner = np.repeat(np.arange(len(blocks)), [len(values) for values in saved])
    best = owner[np.argsort(-np.concatenate(saved), kind="stable")]
    taken = best[np.cumsum(np.array(costs)[best]) <= numbers]
    ranks = iter(np.bincount(taken, minlength=len(blocks)))
    return [[_cut(block, next(ranks)) for block in level] for level in levels]


def _cut(block: Block, rank: int) -> Block:
    X, Y = block.X[:, :rank].copy(), block.Y[:, :rank].copy()
    return Block(block.rows, block.columns, X, Y)


class _ByRows(LinearOperator):
    """A block too large to be held: rows of entries, made anew for each product."""

    def __init__(self, H: Curvature, rows: Array, columns: Array):
        super().__init__(H.dtype, (len(rows), len(columns)))
        self._H, self._rows, self._columns = H, rows, columns
        size = working_memory() // (8 * max(1, len(columns)) * self.dtype.itemsize)
        self._parts = slices(len(rows), max(1, size))

    def _tile(self, part: slice) -> Array:
        tile = self._H.entries(self._rows[part], self._columns)
        if not np.isfinite(tile).all():
            raise np.linalg.LinAlgError("H must be finite.")
        return tile

    def _matmat(self, V: Array) -> Array:
        return np.concatenate([self._tile(part) @ V for part in self._parts])

    def _rmatmat(self, V: Array) -> Array:
        return sum(self._tile(part).T @ V[part] for part in self._parts)
