"""The training objective over blocks of rows that stay where dask holds them."""

from functools import cached_property
from typing import Any

import numpy as np

from skgnh.blocks import Blocks, each, gathered, held, tree_sum
from skgnh.lazy_rows import LazyRows, lazily
from skgnh.linalg import Curvature
from skgnh.objective import Objective
from skgnh.scaling import Moments

Array = Any


class BlockObjective(Objective):
    """An objective whose sums over many rows are of one task a block.

    Few rows, such as those drawn for the curvature, are fetched, and are an objective
    in memory. Parameters are those of :class:`skgnh.objective.Objective`, the inputs
    lazy rows of blocks.
    """

    @cached_property
    def _parts(self) -> list:
        """The objectives of the blocks, without the penalty, held by dask."""
        rows = self.inputs
        return held(
            [
                each(
                    _part,
                    (block, own, rows.steps),
                    (self.network, self.loss),
                    (self.targets[at], self.weights[at]),
                    self.curvature,
                )
                for block, own, at in rows.X.located(rows.index)
            ]
        )

    def _over(self, rows: Array | None) -> Objective:
        """Return the objective of some rows: in memory, if they fit."""
        if rows is None:
            return self
        data = self._rows(rows)
        kind = BlockObjective if isinstance(data[0], LazyRows) else Objective
        return kind(self.network, self.loss, *data, self.ridge, self.curvature)

    def value(self, theta: Array, rows: Array | None = None) -> float:
        """Return f(theta) over all rows or some."""
        if rows is not None:
            return self._over(rows).value(theta)
        at = each(np.asarray, theta)
        total = tree_sum([each(_value, part, at) for part in self._parts])
        return total + self._penalty(theta)

    def linearize(
        self,
        theta: Array,
        rows: Array | None = None,
        curvature_rows: Array | None = None,
    ) -> tuple[float, Array, Curvature]:
        """Return value, gradient and Hessian; see :meth:`Objective.linearize`."""
        if rows is not None:
            over = self._over(rows)
            if curvature_rows is rows:
                return over.linearize(theta)
            value, gradient, _ = over.linearize(theta)
        else:
            at = each(np.asarray, theta)
            # One array, so that a tree adds the two at once.
            both = tree_sum([each(_value_and_gradient, p, at) for p in self._parts])
            value = float(both[0]) + self._penalty(theta)
            gradient = both[1:].astype(theta.dtype) + self.ridge * theta
        return value, gradient, self._hessian(theta, curvature_rows)

    def _hessian(self, theta: Array, rows: Array | None) -> Curvature:
        over = self._over(rows)
        if isinstance(over, BlockObjective):
            return BlockHessian(over._parts, theta, _hessian, self.ridge)
        return over.linearize(theta)[2]

    def data_curvature(
        self, theta: Array, total: float, rows: Array | None = None
    ) -> Curvature:
        """Return the GNH of `total` times the mean loss, in double precision."""
        over = self._over(rows)
        if not isinstance(over, BlockObjective):
            return over.data_curvature(theta, total)
        theta = theta.astype(np.float64)
        return BlockHessian(
            over._parts, theta, _data_curvature, np.zeros(len(theta)), total
        )


class BlockHessian(Curvature):
    """The sum of the Hessians of blocks and of a ridge.

    Parameters
    ----------
    parts : list of Delayed
        Objectives of the blocks.
    theta : ndarray of shape (P,)
        Where.
    of : callable
        ``of(part, theta, *args)`` is the Hessian of a block.
    ridge : ndarray of shape (P,)
        Of the penalty.
    *args
        What else `of` takes.
    """

    offers = Curvature.offers | {"toarray"}
    subject = "Hessian of blocks"

    def __init__(self, parts: list, theta: Array, of: Any, ridge: Array, *args: Any):
        super().__init__(theta.dtype, (len(theta),) * 2)
        self._parts, self.ridge = parts, ridge
        at = each(np.asarray, theta)
        self._terms = [each(of, part, at, *args) for part in parts]

    @cached_property
    def _held(self) -> list:
        """The Hessians of the blocks: what they keep serves every product."""
        return held(self._terms)

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V, self.dtype)
        directions = each(np.asarray, V)
        own = tree_sum([each(_product, H, directions) for H in self._held])
        return own + self.ridge[:, None] * V

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal, exactly."""
        return tree_sum([each(_diagonal, H) for H in self._held]) + self.ridge

    def _array(self) -> Array:
        out = tree_sum([each(_dense, H) for H in self._held])
        # What another task gave may be read only.
        return out + np.diag(self.ridge)


def in_blocks(X: Array) -> bool:
    """Say whether rows are of blocks."""
    return isinstance(X, LazyRows) and isinstance(X.X, Blocks)


def moments_of(X: Array, weights: Array | None) -> Moments:
    """Return the moments of the columns of rows, those of blocks by a task each."""
    if not in_blocks(X):
        return Moments.of(X, weights)
    found = gathered(
        [
            each(
                _moments,
                (block, own, X.steps),
                None if weights is None else weights[at],
            )
            for block, own, at in X.X.located(X.index)
        ]
    )
    return Moments.of_all(found, X.dtype)


# ---- tasks ---------------------------------------------------------------------------


def _made(block: Array, own: Array, steps: tuple) -> Array:
    """Return some rows of a block, after their steps."""
    rows = lazily(block if isinstance(own, slice) else block[own])
    for step in steps:
        rows = rows.then(step) if isinstance(rows, LazyRows) else step(rows)
    return rows


def _part(rows: tuple, model: tuple, data: tuple[Array, Array], curvature: str) -> Any:
    network, loss = model
    ridge = np.zeros(network.n_parameters, data[1].dtype)
    return Objective(network, loss, _made(*rows), *data, ridge, curvature)


def _moments(rows: tuple, weights: Array | None) -> Moments:
    return Moments.of(_made(*rows), weights)


def _value(part: Objective, theta: Array) -> float:
    return part.value(theta)


def _value_and_gradient(part: Objective, theta: Array) -> Array:
    value, gradient, _ = part.linearize(theta)
    return np.concatenate([[value], gradient])


def _hessian(part: Objective, theta: Array) -> Curvature:
    return part.linearize(theta)[2]


def _data_curvature(part: Objective, theta: Array, total: float) -> Curvature:
    return part.data_curvature(theta, total)


def _product(H: Curvature, V: Array) -> Array:
    return H @ V


def _diagonal(H: Curvature) -> Array:
    return H.diagonal()


def _dense(H: Curvature) -> Array:
    return H.toarray()
