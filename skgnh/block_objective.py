"""The training objective over blocks of rows that stay where dask holds them.

A value with its gradient, a product, and Kronecker factors, which a training by `kfac`
makes at every fifth point, are each a round trip: a task a block and a seventh more
that add up what these return, P numbers or those of the factors. A step by `kfac` over
all rows is about five round trips and six tasks a block. Where two worker processes
shared two busy cores with others, a round trip took 10 to 20 ms of the scheduler's CPU
and a task 1.3 ms (``benchmarks/dask_blocks.py``), beside 3 ms of a worker's.

On paper a thousand workers with a block each then take 8 s of overhead a step,
whatever their number of rows, since the scheduler is one process. For work of as many
seconds a step, which is about 20 n P operations, a block wants some 1e9 / P rows; no
more blocks than threads are best. Sums in another order differ by rounding: of solvers
that work in single precision inside, by that of single precision.
"""

from collections.abc import Callable
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np

from skgnh.blocks import each, gathered, held, tree_sum
from skgnh.lazy_rows import LazyRows, lazily, made
from skgnh.linalg import Curvature
from skgnh.linearization import Linearization
from skgnh.objective import Objective
from skgnh.operators.random import generator
from skgnh.scaling import Moments

Array = Any

# Operations that take as long as the overhead of a task, about a millisecond, and those
# of a product: forward and back.
_TASK, _PRODUCT = 1e6, 4
# What a Hessian of blocks is asked without any rows.
_OUTLINE = {"linearization", "network", "theta", "loss", "weights", "ridge", "n_roots"}


class BlockObjective(Objective):
    """An objective whose sums over many rows are of one task a block.

    Some rows, such as a batch or those drawn for the curvature, stay in their blocks
    too, but for so few that a product with all of them takes less time than the tasks:
    these are fetched, by a task for each block that has any, and are an objective in
    memory. Parameters are those of :class:`skgnh.objective.Objective`, the inputs lazy
    rows of blocks.
    """

    @cached_property
    def _located(self) -> list:
        """Rows of blocks, and which of all these are."""
        return _located(self.inputs)

    @cached_property
    def _parts(self) -> list:
        """The objectives of the blocks, without the penalty, held by dask."""
        model = self.network, self.loss, self.curvature
        if isinstance(self.targets, LazyRows):
            targets = [some for some, _ in _located(self.targets)]
        else:
            targets = [self.targets[at] for _, at in self._located]
        rows = zip(self._located, targets, strict=True)
        return held(
            [each(_part, some, y, self.weights[at], model) for (some, at), y in rows]
        )

    def of_parts(self, of: Callable, *args: Any) -> list:
        """Return ``of(part, *args)`` of the objectives of the blocks."""
        return gathered(self._terms(of, *args))

    def summed(self, of: Callable, *args: Any) -> Any:
        """Return the sum of what :meth:`of_parts` does, which stays with dask."""
        return tree_sum(self._terms(of, *args))

    def _terms(self, of: Callable, *args: Any) -> list:
        own = [each(_same, x) for x in args]
        return [each(of, part, *own) for part in self._parts]

    def _of(self, kind: type, inputs: Array, targets: Array, weights: Array) -> Any:
        data = inputs, targets, weights, self.ridge, self.curvature
        return kind(self.network, self.loss, *data)

    def _over(self, rows: Array | None) -> Objective:
        """Return the objective of some rows: few are fetched."""
        if rows is None:
            return self
        inputs, *data = self._rows(rows)
        over = self._of(BlockObjective, inputs, *data)
        work = _PRODUCT * len(inputs) * self.network.n_parameters
        is_small = work <= _TASK * len(over._located) and inputs.may_be_made
        return over._fetched if is_small else over

    @cached_property
    def _fetched(self) -> Objective:
        """The objective over these rows in memory or, too many, in parts of them."""
        inputs, targets = self.inputs, self.targets
        if inputs.may_be_made:
            inputs, targets = made(inputs), made(targets)
        return self._of(Objective, inputs, targets, self.weights)

    def _value(self, theta: Array, rows: Array | None) -> float:
        return self._over(rows).summed(_value, theta)

    def _value_and_gradient(
        self, theta: Array, rows: Array | None
    ) -> tuple[float, Array]:
        # One array, so that a tree adds the two at once.
        both = self._over(rows).summed(_value_and_gradient, theta)
        return float(both[0]), both[1:].astype(theta.dtype)

    def hessian(self, theta: Array, rows: Array | None = None) -> Curvature:
        """Return the Hessian over all rows or some."""
        return self._curvature(rows, _hessian, theta)

    def data_curvature(
        self, theta: Array, total: float, rows: Array | None = None
    ) -> Curvature:
        """Return the GNH of `total` times the mean loss, in double precision."""
        return self._curvature(rows, _data_curvature, theta, total)

    def _curvature(self, rows: Array | None, of: Callable, *args: Any) -> Curvature:
        over = self._over(rows)
        if not isinstance(over, BlockObjective):
            return of(over, *args)
        outline = over._of(Objective, over.inputs, over.targets, over.weights)
        return BlockHessian(
            over._terms(of, *args),
            [at for _, at in over._located],
            of(outline, *args),
            lambda: of(over._fetched, *args),
        )


class BlockHessian(Curvature):
    """The sum of the Hessians of blocks and of a ridge.

    What is a sum over rows, a product, the diagonal, the array and Kronecker factors,
    is a task a block. What is none, such as a Gram matrix, is made of rows that are
    fetched for it, at once where they fit the working memory.

    Parameters
    ----------
    terms : list of Delayed
        Hessians of the blocks, without the ridge.
    places : list of {slice, ndarray of int}
        Which rows those of a block are, among all.
    outline : Curvature
        The whole over rows that lie where they are: what it is asked takes none.
    fetch : callable
        Gives the whole over rows that are fetched.
    """

    subject = "Hessian of blocks"

    def __init__(
        self,
        terms: list,
        places: list,
        outline: Curvature,
        fetch: Callable[[], Curvature],
    ):
        super().__init__(outline.dtype, outline.shape)
        self._terms, self._places = terms, places
        self._outline, self._fetch = outline, fetch
        # An elimination takes a record of each row.
        self.offers = outline.offers - {"elimination"}

    def __getattr__(self, name: str) -> Any:
        """Return what the outline knows, or what is asked of rows that are fetched."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._outline if name in _OUTLINE else self._whole, name)

    @cached_property
    def _whole(self) -> Curvature:
        return self._fetch()

    @cached_property
    def _held(self) -> list:
        """The Hessians of the blocks: what they keep serves every product."""
        return held(self._terms)

    @property
    def costs(self) -> tuple[float, float]:
        """Those of the same Hessian in memory."""
        return self._outline.costs

    # ---- sums over rows -------------------------------------------------------------

    def _matmat(self, V: Array) -> Array:
        V = np.asarray(V, self.dtype)
        directions = each(np.asarray, V)
        own = tree_sum([each(_product, H, directions) for H in self._held])
        return own + self.ridge[:, None] * V

    def diagonal(self, n_probes: int | None = None, random_state: Any = None) -> Array:
        """Return the diagonal, or its estimate from probes that all rows share."""
        seed = None if n_probes is None else _seed(random_state)
        terms = [each(_diagonal, H, n_probes, seed) for H in self._held]
        return tree_sum(terms) + self.ridge

    def _array(self) -> Array:
        out = tree_sum([each(_dense, H) for H in self._held])
        # What another task gave may be read only.
        return out + np.diag(self.ridge)

    def kronecker_sums(self, n_probes: int | None = None, key: int = 0) -> list[Array]:
        """Return the sums of Kronecker factors; see GaussNewtonHessian."""
        pairs = zip(self._held, self._places, strict=True)
        flat = tree_sum([each(_kronecker, H, n_probes, key, at) for H, at in pairs])
        sides = [
            side for pair in zip(*self.network.shapes, strict=True) for side in pair
        ]
        cuts = np.cumsum(np.square(sides))[:-1]
        parts = zip(np.split(flat, cuts), sides, strict=True)
        return [part.reshape(side, side) for part, side in parts]

    # ---- questions to rows that are fetched -----------------------------------------

    def entries(self, rows: Array, columns: Array) -> Array:
        """Return the block of these rows and columns."""
        return self._whole.entries(rows, columns)

    def entry_blocks(self, pairs: list[tuple[Array, Array]]) -> list[Array]:
        """Return several blocks."""
        return self._whole.entry_blocks(pairs)

    def grams_of(self, groups: Array, alike: Array) -> list[Array] | None:
        """Return Gram matrices of groups of parameters, where they are at hand."""
        return self._whole.grams_of(groups, alike)

    # ---- other matrices of the same rows --------------------------------------------

    def restricted(self, index: Array) -> Curvature:
        """Return the Hessian on some parameters, where the others do not move."""
        return self._mapped("restricted", index)

    def scaled(self, d: Array) -> Curvature:
        """Return ``diag(d) H diag(d)``, with all that H offers if d is by inputs."""
        mapped = self._mapped("scaled", d)
        return mapped if "root" in mapped.offers else super().scaled(d)

    def rounded(self) -> Curvature:
        """Return the same matrix in single precision."""
        mapped = self._mapped("rounded")
        return self if mapped.dtype == self.dtype else mapped

    def _mapped(self, name: str, *args: Any) -> "BlockHessian":
        """Return what a method makes of each block's."""
        own = [each(_same, x) for x in args]
        return BlockHessian(
            [each(_called, name, H, *own) for H in self._held],
            self._places,
            getattr(self._outline, name)(*args),
            lambda: getattr(self._whole, name)(*args),
        )


def in_blocks(X: Array) -> bool:
    """Say whether rows are of blocks."""
    return isinstance(X, LazyRows) and X.in_blocks


def moments_of(X: Array, weights: Array | None) -> Moments:
    """Return the moments of the columns of rows, those of blocks by a task each."""
    if not in_blocks(X):
        return Moments.of(X, weights)
    found = gathered(
        [
            each(_moments, some, None if weights is None else weights[at])
            for some, at in _located(X)
        ]
    )
    return Moments.of_all(found, X.dtype)


def outputs_of_blocks(network: Any, theta: Array, X: LazyRows) -> Array:
    """Return the outputs of rows of blocks, of shape (n, d), of a task a block."""
    located, at = _located(X), each(_same, theta)
    found = gathered([each(_outputs, network, at, some) for some, _ in located])
    out = np.empty((len(X), network.n_outputs), theta.dtype)
    for (_, places), z in zip(located, found, strict=True):
        out[places] = z
    return out


def _located(X: LazyRows) -> list:
    """Return rows of blocks, as :func:`_made` takes them, and which of all they are."""
    found = X.X.located(X.index)
    return [((block, own, X.steps), at) for block, own, at in found]


# ---- tasks ---------------------------------------------------------------------------


def _made(block: Array, own: Array, steps: tuple) -> Array:
    """Return some rows of a block, after their steps."""
    rows = lazily(block if isinstance(own, slice) else block[own])
    for step in steps:
        rows = rows.then(step) if isinstance(rows, LazyRows) else step(rows)
    return rows


def _same(x: Any) -> Any:
    return x


def _part(rows: tuple, targets: Any, weights: Array, model: tuple) -> Objective:
    network, loss, curvature = model
    if isinstance(targets, tuple):
        targets = _made(*targets)
    ridge = np.zeros(network.n_parameters, weights.dtype)
    return Objective(network, loss, _made(*rows), targets, weights, ridge, curvature)


def _moments(rows: tuple, weights: Array | None) -> Moments:
    return Moments.of(_made(*rows), weights)


def _outputs(network: Any, theta: Array, rows: tuple) -> Array:
    with np.errstate(all="ignore"):
        return Linearization(network, theta, _made(*rows)).outputs()


def _value(part: Objective, theta: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return part._value(theta, None)


def _value_and_gradient(part: Objective, theta: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        value, gradient = part._value_and_gradient(theta, None)
    return np.concatenate([[value], gradient])


def _hessian(part: Objective, theta: Array) -> Curvature:
    return part.hessian(theta)


def _data_curvature(part: Objective, theta: Array, total: float) -> Curvature:
    return part.data_curvature(theta, total)


def _called(name: str, H: Curvature, *args: Any) -> Curvature:
    return getattr(H, name)(*args)


def _product(H: Curvature, V: Array) -> Array:
    return H @ V


def _diagonal(H: Curvature, n_probes: int | None, seed: int | None) -> Array:
    return H.diagonal(n_probes, seed)


def _dense(H: Curvature) -> Array:
    return H.toarray()


def _kronecker(H: Any, n_probes: int | None, key: int, at: Any) -> Array:
    rows = np.arange(at.start, at.stop) if isinstance(at, slice) else at
    return np.concatenate([x.ravel() for x in H.kronecker_sums(n_probes, key, rows)])


def _seed(random_state: Any) -> int:
    """Return a seed that is the same for all blocks."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(generator(random_state).integers(2**31 - 1))
