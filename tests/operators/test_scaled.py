"""diag(d) H diag(d) against the product of dense arrays.

That it gives what it offers is tested with all other matrices.
"""

import numpy as np
import pytest
from cases import Case, assert_close
from scipy import sparse

from skgnh.operators import GaussNewtonHessian

KINDS = ("squared", "poisson", "binary", "softmax")
FORMS = {"dense": None, "sparse": sparse.csr_array}


def by_layer(network, seed=0):
    """Scales that are the same for all neurons of a layer."""
    rng = np.random.default_rng(seed)
    d = np.empty(network.n_parameters)
    for layer in network.unpack(d):
        layer[...] = rng.uniform(0.2, 5, layer.shape[1])
    return d


def anyhow(P):
    return np.random.default_rng(1).uniform(0.2, 5, P)


def scaled(H, d):
    """The operator, and what it is to be."""
    A = H @ np.eye(H.shape[0])
    return H.scaled(d), d[:, None] * A * d


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_scales_of_inputs_keep_all_that_the_hessian_offers(kind, form):
    case = Case("tanh", 2, kind, weighted=True, n=20)
    H = case.operator(convert=FORMS[form])
    S, A = scaled(H, by_layer(case.network))
    assert isinstance(S, GaussNewtonHessian)
    assert S.offers == H.offers
    assert_close(S.toarray(), A)
    assert_close(S @ np.eye(len(A)), A)


@pytest.mark.parametrize("make", [Case.operator, Case.exact])
def test_scales_of_single_parameters_keep_products_and_entries(make):
    H = make(Case("tanh", 2, "softmax", weighted=True, n=20))
    S, A = scaled(H, anyhow(H.shape[0]))
    assert S.offers == H.offers & {"diagonal", "entries", "toarray"}
    assert_close(S @ np.eye(len(A)), A)
    assert_close(S.toarray(), A)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_other_answers_of_the_scaled_hessian(kind, form):
    case = Case("tanh", 1, kind, weighted=True, n=20)
    S, A = scaled(case.operator(convert=FORMS[form]), by_layer(case.network))
    index = np.array([3, 0, 7])
    root = S.root @ np.eye(len(A))
    data = A - np.diag(S.ridge)
    assert_close(S.columns(index), root[:, index], rtol=1e-9)
    assert float(S.trace()) == pytest.approx(np.trace(A), rel=1e-9)
    assert_close(S.restricted(index) @ np.eye(3), A[np.ix_(index, index)], rtol=1e-9)
    assert_close(S.root.T @ (S.root @ np.eye(len(A))), data, rtol=1e-9)


def test_sampled_and_probed_rows_are_scaled_alike():
    case = Case("tanh", 1, "softmax", n=40)
    H, d = case.operator(), by_layer(case.network)
    S = H.scaled(d)
    part = S.sample(7, 0)
    rows = GaussNewtonHessian(part.linearization, H.loss, part.weights, H.ridge)
    for one, other in ((part, rows), (S.probe(2, 0), H.probe(2, 0))):
        _, A = scaled(other, d)
        assert_close(one @ np.eye(len(d)), A)


def test_ridge_that_is_scaled_to_one_is_one():
    case = Case("tanh", 1, "softmax", n=10)
    H = case.operator()
    H.ridge = np.where(H.ridge > 0, 0.03, 0.007)
    S = H.scaled(H.ridge**-0.5)
    np.testing.assert_array_equal(S.ridge, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept(dtype):
    case = Case("tanh", 1, "softmax", n=10)
    H = case.operator(dtype)
    for d in (by_layer(case.network), anyhow(H.shape[0])):
        S = H.scaled(d.astype(dtype))
        assert S.dtype == dtype
        assert (S @ np.ones(len(d), dtype)).dtype == dtype
