"""A matrix held as an array answers as the curvature operators do."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, eigsh

from skgnh.operators import DenseMatrix

ARRAY = np.array([[4.0, 1.0, -2.0], [1.0, 3.0, 0.5], [-2.0, 0.5, 5.0]])


def test_answers_are_those_of_the_array():
    H = DenseMatrix(ARRAY)
    V = np.random.default_rng(0).standard_normal((3, 2))
    assert isinstance(H, LinearOperator)
    np.testing.assert_array_equal(H @ V, ARRAY @ V)
    np.testing.assert_allclose(H @ V[:, 0], ARRAY @ V[:, 0], rtol=1e-15)
    np.testing.assert_array_equal(H.T @ V, ARRAY @ V)
    np.testing.assert_array_equal(H.entries([0, 2], [1]), [[1.0], [0.5]])
    np.testing.assert_array_equal(H.diagonal(), [4, 3, 5])
    np.testing.assert_array_equal(H.diagonal(1, 0), [4, 3, 5])
    np.testing.assert_array_equal(H.toarray(), ARRAY)


def test_answers_are_copies():
    H = DenseMatrix(ARRAY.copy())
    H.toarray()[:] = 0
    H.diagonal()[:] = 0
    np.testing.assert_array_equal(H.toarray(), ARRAY)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_that_of_the_array(dtype):
    H = DenseMatrix(ARRAY.astype(dtype))
    v = np.ones(3, dtype)
    for answer in (H @ v, H.entries([0], [0]), H.diagonal(), H):
        assert answer.dtype == dtype
    assert H.toarray().dtype == dtype


def test_integers_and_lists_become_float64():
    H = DenseMatrix([[2, 1], [1, 3]])
    assert H.dtype == np.float64
    np.testing.assert_array_equal(H @ np.array([1, 1]), [3, 4])


def test_eigenvalues_come_from_scipy():
    largest = eigsh(DenseMatrix(ARRAY), k=1, return_eigenvectors=False)
    np.testing.assert_allclose(largest, np.linalg.eigvalsh(ARRAY)[-1:], rtol=1e-12)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((2, 3)), r"must be square, got shape \(2, 3\)"),
        ([[1.0, 2.0], [3.0, 1.0]], "must be symmetric; it is off by 1.0e"),
        ([[1.0, np.nan], [np.nan, 1.0]], "contains NaN"),
        ([[np.inf]], "contains infinity"),
        (np.ones(3), "Expected 2D array"),
    ],
)
def test_arrays_that_are_no_symmetric_matrix_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        DenseMatrix(array)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_asymmetry_of_rounding_is_let_pass(dtype):
    eps = np.finfo(dtype).eps
    A = np.array([[1, 0.5], [0.5 * (1 + 10 * eps), 1]], dtype)
    assert DenseMatrix(A).array[1, 0] == A[1, 0]
    A[1, 0] *= 1 + 1e4 * eps
    with pytest.raises(ValueError, match="must be symmetric"):
        DenseMatrix(A)
