"""Leading eigenpairs of a curvature matrix, by an array or by products only."""

import warnings
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh, lobpcg
from sklearn.exceptions import ConvergenceWarning

from skgnh.hmatrix import compress
from skgnh.inspection.lanczos import gauss_rule, random_recurrences
from skgnh.memory import fits

Array = Any

# Products that ARPACK spends, and on each eigenpair, as measured on trained networks.
_PRODUCTS, _PRODUCTS_PER_PAIR = 20, 3
# Multiply-adds of an eigendecomposition, in units of P^3.
_EIGH = 9
# An exact answer is worth this many times the cost of products, or so many operations.
_EXACT_IS_WORTH, _EXACT_IS_CHEAP = 4, 2e9
_LOBPCG_ITERATIONS = 500
_HMATRIX_RANK = 32


def choose(H: Any, n_components: int, other_products: int) -> str:
    """Return 'dense' where the whole spectrum is cheap enough, else 'arpack'.

    Parameters
    ----------
    H : GaussNewtonHessian
        The matrix.
    n_components : int
        Number of eigenpairs.
    other_products : int
        Products that will be spent besides if the spectrum is not known as a whole.
    """
    P = H.shape[0]
    if n_components >= P:
        return "dense"
    n, r = H.linearization.n_rows, H.n_roots
    dense = n * r * P**2 / 2 + _EIGH * P**3
    products = _PRODUCTS + _PRODUCTS_PER_PAIR * n_components + other_products
    worth = dense <= max(_EXACT_IS_WORTH * products * 4 * n * P, _EXACT_IS_CHEAP)
    return "dense" if worth and fits(4 * P**2 * H.dtype.itemsize) else "arpack"


def arpack(H: Any, k: int, tol: float, rng: Any) -> tuple[Array, Array]:
    """Return k leading eigenpairs by implicitly restarted Lanczos."""
    start = rng.standard_normal(H.shape[0]).astype(H.dtype)
    return eigsh(H, k, which="LA", v0=start, tol=tol)


def block(H: Any, k: int, tol: float, rng: Any) -> tuple[Array, Array]:
    """Return k leading eigenpairs by LOBPCG: products with k columns at a time."""
    P = H.shape[0]
    start = rng.standard_normal((P, k)).astype(H.dtype)
    # The tolerance of LOBPCG is absolute; a few steps of Lanczos give the scale.
    scale = float(gauss_rule(*random_recurrences(H, 1, 10, rng))[0].max())
    with warnings.catch_warnings():
        # Its own warnings do not say what they mean for the result: the residual does.
        warnings.simplefilter("ignore")
        values, vectors = lobpcg(
            H, start, tol=tol * scale, maxiter=_LOBPCG_ITERATIONS, largest=True
        )
    residual = np.linalg.norm(H @ vectors - vectors * values, axis=0).max()
    if not residual <= 10 * tol * scale:
        warnings.warn(
            f"LOBPCG left a residual of {residual / scale:.1e}, relative to the "
            f"largest eigenvalue, where tol is {tol:.1e}. Take the solver 'arpack'.",
            ConvergenceWarning,
            stacklevel=4,
        )
    return values, vectors


def hierarchical(H: Any, k: int, tol: float, rng: Any) -> tuple[Array, Array]:
    """Return k leading eigenpairs by ARPACK on a hierarchical matrix of H.

    A Rayleigh-Ritz step on exact products ends them, over these vectors, half as many
    more and their products with H: the error of the eigenvalues is of second order in
    that of the compression, and what it missed of a cluster is found.
    """
    P, seed = H.shape[0], int(rng.randint(2**31 - 1))
    A = compress(H, rank=_HMATRIX_RANK, global_rank=3 * k, random_state=seed)
    _, Q = arpack(A, min(k + (k + 1) // 2, P - 1), tol, rng)
    if 2 * Q.shape[1] <= P:
        Q = np.linalg.qr(np.hstack([Q, H @ Q]))[0]
    values, rotation = np.linalg.eigh(Q.T @ (H @ Q))
    return values[-k:], Q @ rotation[:, -k:]


PRODUCT_SOLVERS = {"arpack": arpack, "lobpcg": block, "hmatrix": hierarchical}


def leading_eigenpairs(
    H: Any, k: int, solver: str, tol: float, rng: Any
) -> tuple[Array, Array]:
    """Return eigenvalues, largest first, and orthonormal eigenvectors as rows.

    The solver 'dense' returns all, the others k. The entry of largest size of each
    eigenvector is positive.
    """
    P = H.shape[0]
    if solver == "dense":
        values, vectors = eigh(H.toarray(), overwrite_a=True)
    elif k < P and not (H @ rng.standard_normal(P)).any():
        # The zero matrix, of a saturated network: the solvers would break down.
        values, vectors = np.zeros(k, H.dtype), np.eye(P, k, dtype=H.dtype)
    elif k < P:
        # Single precision cannot show a residual below its rounding.
        tol = max(tol, 10 * float(np.finfo(H.dtype).eps))
        values, vectors = PRODUCT_SOLVERS[solver](H, k, tol, rng)
    else:
        raise ValueError(
            f"The solver {solver!r} finds fewer than all {P} eigenpairs; got "
            f"n_components={k}. Take the solver 'dense'."
        )
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors.T[order]
    largest = vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)]
    # H is semidefinite: what lies below zero is rounding.
    return np.maximum(values, 0), np.sign(largest)[:, None] * vectors


def row_curvatures(H: Any, vectors: Array) -> Array:
    """Return ``w_i v_k^T J_i^T Q_i J_i v_k`` for rows i and vectors k: O(n k P)."""

    def part(rows, trace):
        return [(H.root.forward(rows, trace, vectors) ** 2).sum(axis=2)]

    numbers = 3 * len(vectors) * max(H.network.layer_units[1:])
    return H.linearization.collect(part, numbers)[0]
