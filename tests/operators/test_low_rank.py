"""A Hessian of low rank against its dense form."""

import numpy as np
import pytest
from cases import assert_close
from scipy.sparse.linalg import LinearOperator
from sklearn import config_context

from skgnh.operators import LowRankHessian
from skgnh.solvers import KFAC

RNG = np.random.default_rng(0)
U, V = (np.linalg.qr(RNG.standard_normal((size, 3)))[0] for size in (12, 7))
S = np.array([3.0, 1.0, 0.1])
RIDGE = np.array([0.5, 0.5, 0.0, 0.2, 0.2, 0.0, 0.5])
DENSE = V @ np.diag(S**2) @ V.T + np.diag(RIDGE)


def operator(dtype=np.float64):
    return LowRankHessian(*(x.astype(dtype) for x in (U, S, V, RIDGE)))


def test_answers_are_those_of_the_array():
    H, X = operator(), RNG.standard_normal((7, 4))
    assert isinstance(H, LinearOperator)
    assert_close(H @ X, DENSE @ X)
    assert_close(H.T @ X[:, 0], DENSE @ X[:, 0])
    rows, columns = np.array([6, 0, 0, 3]), np.array([3, 0, 5])
    assert_close(H.entries(rows, columns), DENSE[np.ix_(rows, columns)])
    assert_close(H.diagonal(), DENSE.diagonal())
    assert_close(H.toarray(), DENSE)
    assert H.trace() == pytest.approx(np.trace(DENSE), rel=1e-12)


def test_root_and_gram_belong_to_the_array():
    H = operator()
    assert_close(H.root.T @ H.root, DENSE - np.diag(RIDGE))
    assert_close(H.columns([2, 4]), H.root[:, [2, 4]])
    assert_close(H.gram(), np.diag(S**2))
    split = sum(gram / (ridge + 0.1) for ridge, gram in H.gram_by_ridge())
    assert_close(split, (S[:, None] * V.T) @ np.diag(1 / (RIDGE + 0.1)) @ (V * S))


def test_float32_stays_float32():
    H = operator(np.float32)
    for answer in (
        H @ np.ones(7, np.float32),
        H.diagonal(),
        H.entries([0, 1], [1]),
        H.toarray(),
        H.gram_by_ridge()[0][1],
    ):
        assert answer.dtype == np.float32


def test_no_ridge_is_a_ridge_of_zeros():
    assert_close(LowRankHessian(U, S, V).toarray(), DENSE - np.diag(RIDGE))


def test_shapes_and_memory_are_checked():
    with pytest.raises(ValueError, match="3 singular values need as many columns"):
        LowRankHessian(U, S, V[:, :2])
    with (
        config_context(working_memory=1e-6),
        pytest.raises(ValueError, match="dense matrix of 7 parameters"),
    ):
        operator().toarray()


def test_solver_that_needs_layers_says_so():
    with pytest.raises(ValueError, match="KFAC needs an operator with layers"):
        KFAC().factor(operator())
