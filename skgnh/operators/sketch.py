r"""Sketches: random maps to few columns that keep inner products of rows on average.

Both give ``A -> A S^T`` with ``E[S^T S] = I``.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import hadamard
from sklearn.utils import gen_batches

from skgnh.memory import require
from skgnh.network import densified
from skgnh.operators.gram import hadamard_grams, n_held, values_of

Array = Any

# Factor of the Hadamard matrix that is applied as a matrix product.
_BLOCK = 64
# Numbers of an array that stay in cache.
_CACHED = 2**17


class CountSketch:
    """Each column is added, with a random sign, to one of `size` columns.

    A pass over the array, O(k p) for k rows of p columns (Clarkson and Woodruff, 2013).

    Parameters
    ----------
    n_columns, size : int
        Columns before and after.
    rng : numpy.random.Generator
        Source of the signs and places.
    dtype : dtype
        That of what is sketched.
    """

    def __init__(self, n_columns: int, size: int, rng: Any, dtype: Any):
        signs = rng.choice(np.array([-1, 1], dtype), n_columns)
        places = rng.integers(0, size, n_columns)
        self._map = sparse.csr_array(
            (signs, places, np.arange(n_columns + 1)), (n_columns, size)
        )

    def __call__(self, A: Array) -> Array:
        """Return the sketched rows, of shape (k, size)."""
        # SciPy transposes A, which is slow beyond the cache.
        return np.concatenate([A[rows] @ self._map for rows in _batches(A)])


class SRHT:
    r"""Subsampled randomised Hadamard transform: random signs, all mixed, some taken.

    :math:`S = s^{-1/2}\, R\, H\, \mathrm{diag}(\pm 1)` with R a choice of s of the p'
    columns, p' the power of two from p on: O(k p log p) for k rows (Ailon and Chazelle,
    2009; Tropp, 2011). Parameters are those of :class:`CountSketch`.
    """

    def __init__(self, n_columns: int, size: int, rng: Any, dtype: Any):
        self._padded = 1 << (n_columns - 1).bit_length()
        size = min(size, self._padded)
        self._signs = rng.choice(np.array([-1, 1], dtype), n_columns)
        self._signs /= np.asarray(size**0.5, dtype)
        self._taken = rng.choice(self._padded, size, replace=False)

    def __call__(self, A: Array) -> Array:
        """Return the sketched rows, of shape (k, size)."""
        return np.concatenate([self._mixed(A[rows]) for rows in _batches(A)])

    def _mixed(self, A: Array) -> Array:
        out = np.zeros((A.shape[0], self._padded), self._signs.dtype)
        np.multiply(A, self._signs, out=out[:, : A.shape[1]])
        return hadamard_transform(out)[:, self._taken]


def _batches(A: Array) -> Iterator[slice]:
    """Return slices of rows that stay in cache."""
    return gen_batches(A.shape[0], max(1, _CACHED // A.shape[1]))


def hadamard_transform(A: Array) -> Array:
    """Return ``A H`` for the Hadamard matrix H of a power of two of columns.

    ``H = H_b x ... x H_b`` is applied factor by factor, as matrix products.

    Examples
    --------
    >>> import numpy as np
    >>> from skgnh.operators.sketch import hadamard_transform
    >>> hadamard_transform(np.eye(4)[1:2])
    array([[ 1., -1.,  1., -1.]])
    """
    shape, done = A.shape, 1
    while done < shape[1]:
        block = min(_BLOCK, shape[1] // done)
        H = hadamard(block).astype(A.dtype)
        A = A.reshape(-1, block) @ H if done == 1 else H @ A.reshape(-1, block, done)
        done *= block
    return A.reshape(shape)


SKETCHES = {"countsketch": CountSketch, "srht": SRHT}


def sketched_grams(
    root: Any,
    transform: str,
    oversampling: float,
    along: str,
    rng: Any,
    ridges: list[Array] | None = None,
) -> list[Array]:
    r"""Return approximations of what :meth:`GaussNewtonRoot.grams` returns.

    Along the parameters, :math:`(S J_S^T)^T (S J_S^T)` with s = `oversampling` n r rows
    of S: a pass over J_S, chunk by chunk, and O(s (n r)^2).

    Along the neurons, the wider side of a layer is sketched, which leaves its Gram
    matrix the elementwise product that it is:

    .. math:: (A_l A_l^T) \circ (B_l \Omega_l \Omega_l^T B_l^T)

    with :math:`m = s / \min(\text{fan}, n)` columns of :math:`\Omega_l`. It is the
    sketch :math:`I \otimes \Omega_l^T`, of as many rows, whose product takes
    O(m (n r)^2) instead of O(s (n r)^2) and whose application O(n r W). A_l is sketched
    only where its weights have one ridge.

    Parameters
    ----------
    root : GaussNewtonRoot
        The root J_S.
    transform : {'countsketch', 'srht'}
        Which sketch.
    oversampling : float
        Rows of the sketch, in n r.
    along : {'neurons', 'parameters'}
        What is sketched.
    rng : numpy.random.Generator
        Source of randomness.
    ridges : list of ndarray of shape (fan,), optional
        Of the inputs of each layer; None takes weights and biases apart.

    Returns
    -------
    list of ndarray of shape (n r, n r)
        Symmetric positive semidefinite, one for each value of the ridge, falling: for
        the weights and for the biases.

    Raises
    ------
    ValueError
        If the arrays exceed the working memory.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skgnh import GaussNewtonMLPClassifier
    >>> from skgnh.operators import GaussNewtonHessian
    >>> from skgnh.operators.sketch import sketched_grams
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = GaussNewtonMLPClassifier((50,), alpha=1, tol=1, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> root = GaussNewtonHessian.from_estimator(mlp, X[::15], y[::15]).root
    >>> rng = np.random.default_rng(0)
    >>> weights, biases = sketched_grams(root, "srht", 4, "neurons", rng)
    >>> weights.shape
    (30, 30)
    """
    if ridges is None:
        ridges = [np.append(np.ones(fan - 1), 0) for _, fan in root.network.shapes]
    make = {"neurons": _along_neurons, "parameters": _along_parameters}[along]
    return make(root, ridges, SKETCHES[transform], oversampling, rng)


def _require(root: Any, ridges: list[Array], numbers: int) -> None:
    """Refuse so many numbers, of which three Gram matrices are counted already."""
    numbers += (n_held(ridges) - 3) * root.shape[0] ** 2
    require(
        numbers * root.dtype.itemsize,
        f"The sketched Gram matrix of {root.linearization.n_rows} rows and "
        f"{root.n_roots} outputs",
        "Sample rows or take a solver of products such as 'cg'",
    )


def _along_parameters(
    root: Any, ridges: list[Array], sketch: Any, oversampling: float, rng: Any
) -> list[Array]:
    layers = zip(ridges, root.network.shapes, strict=True)
    ridge = np.concatenate([np.tile(inputs, width) for inputs, (width, _) in layers])
    size, parts = math.ceil(oversampling * root.shape[0]), []
    for value in values_of(ridges):
        which = ridge == value
        count = int(which.sum())
        # A sketch of as many columns as there are would lose by it.
        map_ = sketch(count, size, rng, root.dtype) if size < count else None
        parts.append((which, map_))
    kept = 3 * root.shape[0] + sum(min(size, int(which.sum())) for which, _ in parts)
    _require(root, ridges, kept * root.shape[0])

    def part(rows, factors):
        block = factors.array()
        flat = block.reshape(-1, block.shape[2])
        made = [
            flat[:, which] if map_ is None else map_(flat[:, which])
            for which, map_ in parts
        ]
        return [x.reshape(*block.shape[:2], -1) for x in made]

    made = root.linearization.collect(part, *root.walk_anew(root.shape[1]))
    whole = (x.reshape(root.shape[0], -1) for x in made)
    return [A @ A.T for A in whole]


def neuron_sizes(
    shapes: Any, n: int, r: int, oversampling: float
) -> Iterator[tuple[int | None, int | None, int]]:
    """Yield the columns to which A_l and B_l are sketched, and the operations saved.

    At most one of them is sketched, that whose product gains more by it; None keeps it.
    """
    size = math.ceil(oversampling * n * r)
    for width, fan in shapes:
        # The rows of one sample share a_i: at most n of them are independent.
        of_a, of_B = -(-size // width), -(-size // min(fan, n))
        saved_a, saved_B = n**2 * (fan - 1 - of_a), (n * r) ** 2 * (width - of_B)
        if max(saved_a, saved_B) <= 0:
            yield None, None, 0
        elif saved_B >= saved_a:
            yield None, of_B, saved_B
        else:
            yield of_a, None, saved_a


def neuron_costs(shapes: Any, n: int, r: int, oversampling: float) -> tuple[int, int]:
    """Return what a sketch along the neurons holds and saves a Gram matrix.

    In numbers, three arrays of its size among them, and in multiply-adds.
    """
    kept = 3 * n * r
    saved = 0
    sizes = neuron_sizes(shapes, n, r, oversampling)
    for (width, fan), (of_a, of_B, gain) in zip(shapes, sizes, strict=True):
        kept += (of_a or fan) + (of_B or width)
        saved += gain
    return kept * n * r, saved


def _along_neurons(
    root: Any, ridges: list[Array], sketch: Any, oversampling: float, rng: Any
) -> list[Array]:
    n, shapes = root.linearization.n_rows, root.network.shapes
    sizes = neuron_sizes(shapes, n, root.n_roots, oversampling)
    _require(root, ridges, neuron_costs(shapes, n, root.n_roots, oversampling)[0])
    maps = []
    for (width, fan), (of_a, of_B, _), ridge in zip(shapes, sizes, ridges, strict=True):
        if (ridge[:-1] != ridge[0]).any():
            of_a = None
        map_a = sketch(fan - 1, of_a, rng, root.dtype) if of_a else None
        maps.append((map_a, sketch(width, of_B, rng, root.dtype) if of_B else None))

    def part(rows, factors):
        left, right = [], []
        for a, B, (map_a, map_B) in zip(*factors, maps, strict=True):
            flat = B.reshape(-1, B.shape[2])
            if map_a:
                a = np.column_stack([map_a(densified(a[:, :-1])), densified(a[:, -1:])])
            left.append(a)
            right.append((map_B(flat) if map_B else flat).reshape(*B.shape[:2], -1))
        return left + right

    made = root.linearization.collect(part, *root.walk_anew())
    left = made[: len(maps)]
    right = (B.reshape(root.shape[0], -1) for B in made[len(maps) :])
    own = [
        np.append(np.resize(ridge[:-1], a.shape[1] - 1), ridge[-1])
        for a, ridge in zip(left, ridges, strict=True)
    ]
    return hadamard_grams(left, right, n, own)
