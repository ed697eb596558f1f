"""The algebra of layer factors, against an explicit dense Jacobian."""

import numpy as np
import pytest
from cases import Case, assert_close
from scipy import sparse

from skgnh.network import MLP
from skgnh.operators.layer_factors import LayerFactors, parts

WIDTHS, N = (3, 4, 2, 3), 5
NETWORK = MLP(WIDTHS, ("tanh", "tanh"))
P = NETWORK.n_parameters
KINDS = {
    "dense": {},
    "sparse inputs": {"convert": sparse.csr_array},
    "diagonal outputs": {"diagonal": True},
    "both": {"convert": sparse.csr_array, "diagonal": True},
}


def factors(convert=None, diagonal=False, seed=0):
    """Random lists; the outputs' roots full, or as diagonals."""
    rng = np.random.default_rng(seed)
    d = WIDTHS[-1]
    inputs = [rng.standard_normal((N, width + 1)) for width in WIDTHS[:-1]]
    back = [rng.standard_normal((N, d, width)) for width in WIDTHS[1:]]
    if convert:
        inputs[0] = convert(np.where(inputs[0] > 0, inputs[0], 0))
    if diagonal:
        back[-1] = rng.standard_normal((N, d))
    return LayerFactors(inputs, back)


def dense(made):
    """J_S entry by entry, of shape (n, r, P), from the definition."""
    J = np.zeros((N, WIDTHS[-1], P))
    for i in range(N):
        for k in range(WIDTHS[-1]):
            place = 0
            for a, B in zip(made.inputs, made.back, strict=True):
                a = a.toarray() if sparse.issparse(a) else a
                full = np.array([np.diag(row) for row in B]) if B.ndim == 2 else B
                for mu in range(full.shape[2]):
                    for nu in range(a.shape[1]):
                        J[i, k, place] = a[i, nu] * full[i, k, mu]
                        place += 1
            assert place == P
    return J


@pytest.fixture(params=KINDS)
def made(request):
    return factors(**KINDS[request.param])


def layer(k):
    return slice(*NETWORK.offsets[k : k + 2])


def test_sizes_are_those_of_the_lists(made):
    assert (made.n_rows, made.n_roots, made.dtype) == (N, 3, np.float64)


@pytest.mark.parametrize("order", ["C", "F"])
def test_array_is_the_root_in_either_order(made, order):
    out = made.array(order)
    assert_close(out, dense(made), rtol=1e-15)
    assert out.flags[f"{order}_CONTIGUOUS"]


def test_columns_are_those_of_the_root(made):
    index = np.random.default_rng(1).integers(0, P, 30)
    out = np.empty((N, 3, 30))
    for part in parts(NETWORK, index):
        out[..., part.at] = made.columns(part).T
    assert_close(out, dense(made)[..., index], rtol=1e-15)


def test_rows_are_cut_and_picked(made):
    J = dense(made)
    assert_close(made.rows(slice(1, 4)).array(), J[1:4], rtol=1e-15)
    assert made.rows(slice(0, N)) is made
    at, roots = np.array([4, 0, 4]), np.array([2, 1, 0])
    assert_close(made.pick(at, roots).array()[:, 0], J[at, roots], rtol=1e-15)


def test_norms_are_those_of_rows_and_columns(made):
    J = dense(made)
    assert_close(made.column_norms(), np.sum(J**2, axis=(0, 1)), rtol=1e-14)
    assert_close(made.row_norms(), np.sum(J**2, axis=2), rtol=1e-14)


def test_gram_matrices_are_those_of_weights_and_biases(made):
    J = dense(made).reshape(-1, P)
    mask = NETWORK.weight_mask().astype(bool)
    ridges = [np.append(np.ones(a.shape[1] - 1), 0) for a in made.inputs]
    parts = J[:, mask], J[:, ~mask]
    for out, expected in zip(made.grams(ridges), parts, strict=True):
        assert_close(out, expected @ expected.T, rtol=1e-14)


def test_kronecker_factors_are_sums_over_the_rows(made):
    scale = np.linspace(0.5, 2, N)[:, None]
    out = made.kronecker(scale)
    for k in range(3):
        B, a = made.roots(k), made.inputs[k]
        a = scale * (a.toarray() if sparse.issparse(a) else a)
        outputs = sum(B[i].T @ B[i] for i in range(N))
        assert_close(out[k], outputs, rtol=1e-14)
        assert_close(out[3 + k], a.T @ a, rtol=1e-14)


@pytest.mark.parametrize("i", range(3))
@pytest.mark.parametrize("j", range(3))
def test_pairs_are_what_entries_leave_of_the_roots(made, i, j):
    if j < i:
        return
    mu, other = slice(1, 3), slice(0, 2)
    expected = np.einsum(
        "nkp,nkq->npq", made.roots(i)[..., mu], made.roots(j)[..., other]
    )
    if made.back[i].ndim == 2:
        other = mu
        expected = made.back[i][:, mu] ** 2
    assert_close(made.pairs(i, mu, j, other), expected, rtol=1e-14)
    neurons = np.array([1, 0, 1])
    expected = np.einsum(
        "nkq,nk->qn", made.roots(j)[..., neurons], made.roots(i)[..., 1]
    )
    assert_close(made.neuron_pairs(i, 1, j, neurons), expected, rtol=1e-14)


def test_compact_roots_are_the_diagonals():
    compact = factors(diagonal=True)
    full = LayerFactors(
        compact.inputs, [*compact.back[:-1], compact.roots(len(WIDTHS) - 2)]
    )
    assert_close(full.compact().back[-1], compact.back[-1], rtol=0)
    assert_close(compact.compact().back[-1], compact.back[-1], rtol=0)


@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_factors_of_a_network_are_its_root(kind):
    case = Case("tanh", 3, kind, weighted=True)
    J = case.root()
    assert_close(case.operator().root.factors().array().reshape(J.shape), J)
