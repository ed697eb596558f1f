"""A hierarchical matrix of H, solved directly or as a preconditioner."""

from typing import Any

from skgnh.hmatrix import HierarchicalMatrix, compress
from skgnh.solvers.base import Factor
from skgnh.solvers.preconditioned import Preconditioned

Array = Any


class HMatrix(Preconditioned):
    r"""Hierarchical approximation, positive definite by construction.

    A global part of rank `global_rank` and a nested remainder with `rank` skeletons a
    node, see :class:`skgnh.hmatrix.HierarchicalMatrix`: O(P (rank + global_rank))
    memory, a damping costs O(P rank^2), a solve O(P rank). As a preconditioner it is
    kept over the points of a training until it takes `patience` times as many
    iterations as when it was new.

    Parameters
    ----------
    rank : int, default=32
        Most skeletons of a node.
    leaf_size : int or None, default=None
        Most indices of a leaf; twice the rank if None.
    global_rank : int, default=64
        Rank of the global part.
    order : {'natural', 'angle', 'kernel'}, default='natural'
        Order of the parameters in the tree.
    patience : float, default=1.5
        When to build anew; 0 builds at every point.
    random_state : int, default=0
        Seed.
    max_iter, tol, rtol, decay, direct
        See :class:`skgnh.solvers.preconditioned.Preconditioned`.

    References
    ----------
    .. [1] C. Chen, S. Reiz, C. Yu, H.-J. Bungartz, G. Biros, "Fast approximation of
           the Gauss-Newton Hessian matrix for the multilayer perceptron", SIMAX 42(1),
           2021.
    """

    requires = ("entries", "diagonal")

    def __init__(
        self,
        rank: int = 32,
        leaf_size: int | None = None,
        global_rank: int = 64,
        order: str = "natural",
        patience: float = 1.5,
        random_state: int = 0,
        max_iter: int = 50,
        tol: float = 5e-4,
        rtol: float | None = None,
        decay: float = 0.95,
        direct: bool = False,
    ):
        super().__init__(max_iter, tol, rtol, decay, direct)
        self.rank = rank
        self.leaf_size = leaf_size
        self.global_rank = global_rank
        self.order = order
        self.patience = patience
        self.random_state = random_state

    def _approximate(self, H: Any, previous: Factor | None) -> "HMatrixFactor":
        if isinstance(previous, HMatrixFactor) and previous.works(self.patience):
            return previous
        matrix = compress(
            H,
            rank=self.rank,
            leaf_size=self.leaf_size,
            global_rank=self.global_rank,
            order=self.order,
            random_state=self.random_state,
        )
        return HMatrixFactor(matrix)


class HMatrixFactor(Factor):
    """The compressed matrix and its factorisation for the last damping."""

    def __init__(self, matrix: HierarchicalMatrix):
        self.matrix = matrix
        self._damping, self._factor = None, None
        self._first, self._iterations = None, None

    @property
    def iterations(self) -> int | None:
        """Iterations that the last solve preconditioned by it took."""
        return self._iterations

    @iterations.setter
    def iterations(self, n: int) -> None:
        self._iterations = n
        self._first = n if self._first is None else self._first

    def works(self, patience: float) -> bool:
        """Say whether it still takes no more than `patience` times its first count."""
        return self._first is not None and self._iterations <= patience * self._first

    def _at(self, damping: float) -> Any:
        if damping != self._damping:
            self._factor = self.matrix.factor(damping)
            self._damping = damping
        return self._factor

    def solve(self, rhs: Array, damping: float) -> Array:
        """Return ``(H + damping I)^-1 rhs`` of the hierarchical matrix."""
        return self._at(damping).solve(rhs)

    def logdet(self, damping: float) -> float:
        """Return ``log det (H + damping I)`` of the hierarchical matrix."""
        return self._at(damping).logdet()
