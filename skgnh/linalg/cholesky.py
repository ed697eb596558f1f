"""Cholesky factors, by LAPACK or by what the array API standard has."""

from typing import Any

import numpy as np
from scipy.linalg import (
    LinAlgError,
    cho_factor,
    cho_solve,
    get_lapack_funcs,
    solve_triangular,
)

from skgnh.arrays import cholesky, is_foreign, namespace

Array = Any


def factorised(S: Array) -> "Cholesky | PlainCholesky":
    """Return ``S = L L^T``, factorised; the array is overwritten.

    Raises
    ------
    numpy.linalg.LinAlgError
        If S is not positive definite.
    """
    try:
        return PlainCholesky(S) if is_foreign(S) else Cholesky(S)
    except LinAlgError as error:
        raise LinAlgError(f"{error}: raise the damping.") from error


class Cholesky:
    """``S = L L^T`` by LAPACK, in the place of S."""

    def __init__(self, S: Array):
        # A symmetric array is its own transpose: hand LAPACK its Fortran order as is.
        self._factors = cho_factor(
            S.T, lower=True, overwrite_a=True, check_finite=False
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._factors[0])

    def solve(self, rhs: Array) -> Array:
        """Return ``S^-1 rhs``."""
        return cho_solve(self._factors, rhs, check_finite=False)

    def array(self) -> Array:
        """Return S."""
        L = np.tril(self._factors[0])
        return L @ L.T

    def logdet(self) -> float:
        """Return ``log det S``."""
        diagonal = self._factors[0].diagonal()
        return 2 * float(np.log(diagonal.astype(np.float64, copy=False)).sum())

    def half(self, rhs: Array) -> Array:
        """Return ``L^-1 rhs``."""
        L = self._factors[0]
        return solve_triangular(L, rhs, lower=True, check_finite=False)

    def root_of_inverse(self, rhs: Array) -> Array:
        """Return ``L^-T rhs``, of covariance ``S^-1`` for standard normal columns."""
        L = self._factors[0]
        return solve_triangular(L, rhs, trans=1, lower=True, check_finite=False)

    def diagonal_of_inverse(self) -> Array:
        """Return the diagonal of ``S^-1``."""
        L = self._factors[0]
        (trtri,) = get_lapack_funcs(("trtri",), (L,))
        inverse, _ = trtri(L, lower=1)
        # Above the diagonal lies what was there before.
        return np.array([column[k:] @ column[k:] for k, column in enumerate(inverse.T)])

    def half_of_inverse(self) -> Array:
        """Return the upper half of ``S^-1``, twice what is beside the diagonal."""
        L = self._factors[0]
        (potri,) = get_lapack_funcs(("potri",), (L,))
        inverse, info = potri(L, lower=1)
        if info:
            raise LinAlgError("The matrix is not positive definite.")
        # The lower half, whose transpose is in C order.
        half = np.triu(inverse.T)
        half *= 2
        half.flat[:: len(half) + 1] /= 2
        return half


class PlainCholesky:
    """``S = L L^T`` by the standard, which solves no triangular systems: ``L^-1``."""

    def __init__(self, S: Array):
        xp = namespace(S)
        self._L = cholesky(S)
        self._inverse = xp.linalg.inv(self._L)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._L.shape[0]

    def solve(self, rhs: Array) -> Array:
        """Return ``S^-1 rhs``."""
        return self._inverse.T @ (self._inverse @ rhs)

    def array(self) -> Array:
        """Return S."""
        return self._L @ self._L.T

    def logdet(self) -> float:
        """Return ``log det S``."""
        xp = namespace(self._L)
        logs = xp.log(xp.astype(xp.linalg.diagonal(self._L), xp.float64))
        return 2 * float(xp.sum(logs))

    def half(self, rhs: Array) -> Array:
        """Return ``L^-1 rhs``."""
        return self._inverse @ rhs

    def root_of_inverse(self, rhs: Array) -> Array:
        """Return ``L^-T rhs``."""
        return self._inverse.T @ rhs

    def diagonal_of_inverse(self) -> Array:
        """Return the diagonal of ``S^-1``."""
        return namespace(self._L).sum(self._inverse**2, axis=0)
