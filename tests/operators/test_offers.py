"""Every curvature matrix gives what it offers, and refuses what it does not."""

import numpy as np
import pytest
from cases import Case, assert_close
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from skgnh.hmatrix import compress
from skgnh.linalg import Curvature, PrincipalSubmatrix, as_curvature
from skgnh.operators import (
    DenseMatrix,
    KroneckerBasis,
    LowRankHessian,
    RankOneInverse,
    RestrictedHessian,
    RotatedHessian,
)
from skgnh.solvers import LayerElimination

CASE = Case("tanh", 2, "softmax", weighted=True, n=20)
INDEX = np.array([7, 0, 3, 30, 12])
NAMES = {
    "diagonal",
    "entries",
    "toarray",
    "root",
    "gram",
    "samples",
    "layers",
    "elimination",
}


class WithDiagonal(LinearOperator):
    """An operator of someone else's, with a diagonal and no entries."""

    def __init__(self, array):
        super().__init__(array.dtype, array.shape)
        self._array = array

    def _matmat(self, V):
        return self._array @ V

    def diagonal(self):
        return self._array.diagonal().copy()


def low_rank():
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((9, 3)))[0]
    ridge = np.where(np.arange(9) < 4, 0.1, 0.0)
    return LowRankHessian(np.eye(3), np.array([3.0, 2.0, 1.0]), Q, ridge)


def rotated():
    H = CASE.operator()
    return RotatedHessian(H, KroneckerBasis(H))


def by_layer(network):
    """Scales of parameters that are the same for all neurons of a layer."""
    d = np.empty(network.n_parameters)
    for k, layer in enumerate(network.unpack(d)):
        rng = np.random.default_rng(k)
        layer[...] = rng.uniform(0.2, 5, layer.shape[1])
    return d


def anyhow(H):
    """H in parameters of any scales."""
    return H.scaled(np.random.default_rng(1).uniform(0.2, 5, H.shape[0]))


MADE = {
    "gauss newton": CASE.operator,
    "its restriction": lambda: CASE.operator().restricted(INDEX),
    "restricted twice": lambda: CASE.operator().restricted(INDEX).restricted([2, 0]),
    "of whole layers": lambda: CASE.operator().restricted(np.arange(16)),
    "of probes": lambda: CASE.operator().probe(2, 0),
    "exact": CASE.exact,
    "exact, restricted": lambda: CASE.exact().restricted(INDEX),
    "rotated": rotated,
    "rotated, restricted": lambda: rotated().restricted(INDEX),
    "low rank": low_rank,
    "inverse": lambda: RankOneInverse(np.arange(12.0).reshape(2, 6), 0.5),
    "dense": lambda: DenseMatrix(CASE.array()),
    "dense, restricted": lambda: DenseMatrix(CASE.array()).restricted(INDEX),
    "scaled by layer": lambda: CASE.operator().scaled(by_layer(CASE.network)),
    "sparse, scaled by layer": lambda: CASE.operator(convert=csr_array).scaled(
        by_layer(CASE.network)
    ),
    "scaled": lambda: anyhow(CASE.operator()),
    "dense, scaled": lambda: anyhow(DenseMatrix(CASE.array())),
    "low rank, scaled": lambda: anyhow(low_rank()),
    "restricted, scaled": lambda: anyhow(CASE.operator().restricted(INDEX)),
    "exact, scaled": lambda: anyhow(CASE.exact()),
    "hierarchical": lambda: compress(DenseMatrix(CASE.array()), rank=4, leaf_size=8),
    "foreign": lambda: as_curvature(aslinearoperator(CASE.array())),
    "foreign with a diagonal": lambda: as_curvature(WithDiagonal(CASE.array())),
}


def check_root(H, A):
    root = H.root @ np.eye(len(A))
    assert_close(root.T @ root + np.diag(H.ridge), A)


def check_gram(H, A):
    D = sum(gram / (ridge + 0.3) for ridge, gram in H.gram_by_ridge())
    root = H.root @ np.eye(len(A))
    assert_close(D, root @ np.diag(1 / (H.ridge + 0.3)) @ root.T)


def check_layers(H, A):
    basis = KroneckerBasis(H)
    assert_close(basis.restore(basis.rotate(A)), A)


def check_elimination(H, A):
    shift = 5 * np.abs(A).max()
    x = LayerElimination(H, shift).solve(np.ones(len(A)))
    assert_close(A @ x + shift * x, np.ones(len(A)), rtol=1e-8)


def check_samples(H, A):
    assert H.root.shape == (H.linearization.n_rows * H.n_roots, len(A))


def check_entries(H, A):
    i, j = np.array([1, 0, 1]), np.array([1])
    assert_close(H.entries(i, j), A[np.ix_(i, j)])
    first, second = H.entry_blocks([(i, j), (j, i)])
    assert_close(first, A[np.ix_(i, j)])
    assert_close(second, A[np.ix_(j, i)])


CHECKS = {
    "diagonal": lambda H, A: assert_close(H.diagonal(), A.diagonal()),
    "entries": check_entries,
    "toarray": lambda H, A: assert_close(H.toarray(), A),
    "root": check_root,
    "gram": check_gram,
    "samples": check_samples,
    "layers": check_layers,
    "elimination": check_elimination,
}
ASKED = {
    "diagonal": lambda H: H.diagonal(),
    "entries": lambda H: H.entries(np.arange(2), np.arange(2)),
    "toarray": lambda H: H.toarray(),
    "root": lambda H: H.root,
    "gram": lambda H: H.gram_by_ridge(),
    "samples": lambda H: H.n_roots,
    "layers": lambda H: KroneckerBasis(H),
    "elimination": lambda H: LayerElimination(H, 1.0),
}
# The exact Hessian has entries by products alone, as slow as the array: not offered.
SLOW = {(name, "entries") for name in ("exact", "exact, restricted", "exact, scaled")}


@pytest.mark.parametrize("name", MADE)
def test_matrix_is_symmetric_and_names_what_it_offers(name):
    H = MADE[name]()
    A = H @ np.eye(H.shape[0])
    assert isinstance(H, Curvature)
    assert H.offers <= NAMES
    assert_close(A, A.T)
    assert_close(H.T @ A[:, 0], A.T @ A[:, 0])
    assert min(H.costs) > 0


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("name", MADE)
def test_what_is_offered_is_given_and_what_is_not_is_refused(name, what):
    H = MADE[name]()
    if what in H.offers:
        CHECKS[what](H, H @ np.eye(H.shape[0]))
    elif (name, what) not in SLOW:
        with pytest.raises((ValueError, AttributeError)):
            ASKED[what](H)


@pytest.mark.parametrize("name", MADE)
def test_restriction_is_the_principal_submatrix(name):
    H = MADE[name]()
    index = np.array([1, 0])
    part = H.restricted(index)
    assert_close(part @ np.eye(2), (H @ np.eye(H.shape[0]))[np.ix_(index, index)])
    assert part.offers <= H.offers | {"toarray"}
    with pytest.raises(ValueError, match="numbered from 0"):
        H.restricted(np.array([H.shape[0]]))


def test_restriction_of_a_network_keeps_its_root():
    for H in (CASE.operator(), CASE.exact(), MADE["its restriction"]()):
        assert isinstance(H.restricted(np.array([1])), RestrictedHessian)
    assert type(rotated().restricted(INDEX)) is PrincipalSubmatrix


def test_what_is_a_curvature_matrix_already_stays_it():
    H = CASE.operator()
    assert as_curvature(H) is H
    foreign = as_curvature(WithDiagonal(CASE.array()))
    assert foreign.name == "WithDiagonal"
