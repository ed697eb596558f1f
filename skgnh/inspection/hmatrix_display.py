"""Ranks of hierarchical matrices, block by block."""

from collections.abc import Iterator
from functools import singledispatch
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from skgnh.hmatrix import HierarchicalMatrix, HODLRMatrix, hodlr
from skgnh.inspection.axes import axes_of
from skgnh.operators import GaussNewtonHessian

Array = Any

# Up to so many blocks the ranks are written into them.
_LEGIBLE = 64


class RankBlock(NamedTuple):
    """A block in the order of the leaves, and its rank."""

    rows: slice
    columns: slice
    rank: int


class HMatrixDisplay:
    """Ranks of a hierarchical matrix, block by block, in the order of its leaves.

    Blocks on the diagonal are exact, and have their size for a rank.

    Parameters
    ----------
    blocks : list of RankBlock
        The blocks on and above the diagonal; those below it are drawn as these.
    size : int
        Rows of the matrix.
    global_rank : int, default=0
        Rank of the part that the blocks are added to.

    Attributes
    ----------
    collection_ : matplotlib Artist
        The blocks, coloured by rank.
    texts_ : list of matplotlib Artist
        Their ranks, where blocks are few.
    ax_ : matplotlib Axes
        Axes that they are drawn on.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    HMatrixDisplay.from_estimator : Of a fitted network and rows.
    HMatrixDisplay.from_matrix : Of a matrix that is there already.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from skgnh.hmatrix import hodlr
    >>> from skgnh.inspection import HMatrixDisplay
    >>> from skgnh.operators import DenseMatrix
    >>> x = np.arange(64)
    >>> K = np.exp(-np.abs(x[:, None] - x) / 5)
    >>> A = hodlr(DenseMatrix(K), storage=16, leaf_size=16)
    >>> display = HMatrixDisplay.from_matrix(A)
    >>> [block.rank for block in display.blocks if block.rows == block.columns]
    [16, 16, 16, 16]
    >>> plt.close(display.figure_)
    """

    def __init__(self, *, blocks: list[RankBlock], size: int, global_rank: int = 0):
        self.blocks = blocks
        self.size = size
        self.global_rank = global_rank

    def plot(self, ax=None, *, colorbar=True, **kwargs):
        """Draw the blocks.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; if None those of a new figure.
        colorbar : bool, default=True
            Whether to draw the scale of the colours.
        **kwargs : dict
            Passed to :class:`matplotlib.collections.PatchCollection`: `cmap` and more.

        Returns
        -------
        display : HMatrixDisplay
            Itself.
        """
        self.ax_ = axes_of(ax, "HMatrixDisplay.plot")
        self.figure_ = self.ax_.figure
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        whole = list(self._whole())
        patches = [
            Rectangle(
                (b.columns.start, b.rows.start),
                b.columns.stop - b.columns.start,
                b.rows.stop - b.rows.start,
            )
            for b in whole
        ]
        style = {"edgecolor": "white", "linewidth": 0.5, **kwargs}
        self.collection_ = PatchCollection(patches, **style)
        self.collection_.set_array(np.array([b.rank for b in whole]))
        self.ax_.add_collection(self.collection_)
        self.texts_ = self._ranks(whole) if len(whole) <= _LEGIBLE else []
        self.ax_.set(xlim=(0, self.size), ylim=(self.size, 0), aspect="equal")
        self.ax_.set(xlabel="Parameter, in the order of the leaves")
        if self.global_rank:
            self.ax_.set(title=f"beside a global part of rank {self.global_rank}")
        if colorbar:
            self.figure_.colorbar(self.collection_, ax=self.ax_, label="Rank")
        return self

    def _whole(self) -> Iterator[RankBlock]:
        """Yield the blocks, those below the diagonal too."""
        for block in self.blocks:
            yield block
            if block.rows != block.columns:
                yield RankBlock(block.columns, block.rows, block.rank)

    def _ranks(self, blocks: list[RankBlock]) -> list:
        middle = {"ha": "center", "va": "center", "fontsize": "x-small"}
        # A box keeps the numbers legible on every colour.
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 1}
        return [
            self.ax_.text(
                (b.columns.start + b.columns.stop) / 2,
                (b.rows.start + b.rows.stop) / 2,
                str(b.rank),
                bbox=box,
                **middle,
            )
            for b in blocks
        ]

    @classmethod
    def from_matrix(cls, matrix, **kwargs):
        """Draw the ranks of a hierarchical matrix.

        Parameters
        ----------
        matrix : HODLRMatrix or HierarchicalMatrix
            Made by :func:`skgnh.hmatrix.hodlr` or :func:`skgnh.hmatrix.compress`.
        **kwargs : dict
            Passed to :meth:`plot`: `ax`, `colorbar` and more.

        Returns
        -------
        display : HMatrixDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If it is another matrix.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> import numpy as np
        >>> from skgnh.hmatrix import compress
        >>> from skgnh.inspection import HMatrixDisplay
        >>> from skgnh.operators import DenseMatrix
        >>> x = np.arange(64)
        >>> K = np.exp(-np.abs(x[:, None] - x) / 5)
        >>> A = compress(DenseMatrix(K), rank=3, leaf_size=16)
        >>> display = HMatrixDisplay.from_matrix(A)
        >>> sorted({block.rank for block in display.blocks})
        [3, 16]
        >>> plt.close(display.figure_)
        """
        blocks, global_rank = _blocks(matrix)
        size = matrix.shape[0]
        return cls(blocks=blocks, size=size, global_rank=global_rank).plot(**kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        sample_weight=None,
        storage=128,
        leaf_size=32,
        order="natural",
        **kwargs,
    ):
        """Draw the ranks of a network's Gauss-Newton Hessian, in HODLR form.

        Parameters
        ----------
        estimator : estimator
            A fitted multi-layer perceptron, scikit-learn's or this package's.
        X : {array-like, sparse matrix} of shape (n, n_features)
            Rows.
        y : array-like, default=None
            Their targets, which only ``class_weight`` asks for.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.
        storage, leaf_size, order
            See :func:`skgnh.hmatrix.hodlr`, which looks at all P^2 entries.
        **kwargs : dict
            Passed to :meth:`plot`: `ax`, `colorbar` and more.

        Returns
        -------
        display : HMatrixDisplay
            The display, drawn.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skgnh.inspection import HMatrixDisplay
        >>> X, y = load_iris(return_X_y=True)
        >>> mlp = MLPClassifier(20, solver="lbfgs", alpha=1, max_iter=999).fit(X, y)
        >>> display = HMatrixDisplay.from_estimator(mlp, X, storage=40)
        >>> display.size
        163
        >>> plt.close(display.figure_)
        """
        H = GaussNewtonHessian.from_estimator(estimator, X, y, sample_weight)
        matrix = hodlr(H, storage, leaf_size=leaf_size, order=order)
        return cls.from_matrix(matrix, **kwargs)


@singledispatch
def _blocks(matrix: Any) -> tuple[list[RankBlock], int]:
    """Return the blocks on and above the diagonal, and the rank of the global part."""
    raise TypeError(f"{type(matrix).__name__} is no hierarchical matrix.")


@_blocks.register
def _(matrix: HODLRMatrix) -> tuple[list[RankBlock], int]:
    out = _diagonal([len(D) for D in matrix.leaves])
    for level in matrix.levels:
        for b in level:
            rows, columns = (
                slice(int(s.start), int(s.stop)) for s in (b.rows, b.columns)
            )
            out.append(RankBlock(rows, columns, b.X.shape[1]))
    return out, 0


@_blocks.register
def _(matrix: HierarchicalMatrix) -> tuple[list[RankBlock], int]:
    sizes = (matrix.index >= 0).sum(axis=1)
    head = len(matrix.head.index)
    out = _diagonal([*sizes, head] if head else sizes)
    for level in matrix.levels:
        nodes = _nodes(sizes)
        rank = level.U.shape[2]
        for k in range(0, len(nodes), 2):
            most = min(rank, sizes[k], sizes[k + 1])
            out.append(RankBlock(nodes[k], nodes[k + 1], int(most)))
        sizes = sizes.reshape(-1, 2).sum(axis=1)
    return out, matrix.low.shape[1]


def _diagonal(sizes: Any) -> list[RankBlock]:
    nodes = _nodes(sizes)
    return [RankBlock(node, node, node.stop - node.start) for node in nodes]


def _nodes(sizes: Any) -> list[slice]:
    """Return where nodes of these sizes lie, one after the other."""
    return [slice(*pair) for pair in pairwise([0, *np.cumsum(sizes).tolist()])]
