"""The Gauss-Newton Hessian: every question to it against the dense oracle."""

import numpy as np
import pytest
from cases import Case, all_cases, assert_close, is_shallow
from marks import slow_unless
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from skgnh.linearization import Linearization
from skgnh.network import append_one
from skgnh.operators import GaussNewtonHessian

SPARSE = (sparse.csr_array, sparse.csr_matrix)


@pytest.fixture(params=slow_unless(is_shallow, all_cases()), ids=str, scope="module")
def case(request):
    return request.param


def directions(P, k=3, seed=0):
    return np.random.default_rng(seed).standard_normal((P, k))


# ---- every activation, depth, loss and kind of weights -------------------------------


def test_products_equal_the_oracle(case):
    H, expected = case.operator(), case.array()
    V = directions(len(expected))
    assert_close(H @ V, expected @ V)
    assert_close(H @ V[:, 0], expected @ V[:, 0])


def test_root_equals_the_oracle_in_products_and_columns(case):
    H, expected = case.operator(), case.root()
    V, U = directions(expected.shape[1]), directions(len(expected), seed=1)
    assert_close(H.root @ V, expected @ V)
    assert_close(H.root.T @ U, expected.T @ U)
    index = np.random.default_rng(2).permutation(expected.shape[1])
    assert_close(H.columns(index), expected[:, index])


def test_entries_and_diagonal_equal_the_oracle(case):
    H, expected = case.operator(), case.array()
    rng = np.random.default_rng(3)
    rows, columns = rng.permutation(len(expected)), rng.integers(0, len(expected), 9)
    assert_close(H.entries(rows, columns), expected[np.ix_(rows, columns)])
    assert_close(H.diagonal(), np.diag(expected))
    assert H.trace() == pytest.approx(np.trace(expected), rel=1e-10)


def test_array_equals_the_oracle(case):
    assert_close(case.operator().toarray(), case.array())


def test_gram_and_its_split_by_ridge_equal_the_oracle(case):
    H, J = case.operator(), case.root()
    assert_close(H.gram(), J @ J.T)
    split = sum(gram / (ridge + 0.1) for ridge, gram in H.gram_by_ridge())
    assert_close(split, J @ np.diag(1 / (case.data()[4] + 0.1)) @ J.T)


def test_row_traces_equal_the_oracle(case):
    H, J = case.operator(), case.root()
    rows = (J**2).reshape(case.n, -1).sum(axis=1)
    assert_close(H.row_traces(), rows)


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_output_probes_mix_the_columns_of_the_oracle_root(case, shared):
    H = case.operator().probe(2, random_state=4, shared=shared)
    signs = np.broadcast_to(H.root.probes, (case.n, *H.root.probes.shape[1:]))
    J = case.root(np.swapaxes(signs, 1, 2) / np.sqrt(2))
    expected = J.T @ J + np.diag(case.data()[4])
    V = directions(len(expected))
    index = np.arange(len(expected))[::2]
    assert_close(H @ V, expected @ V)
    assert_close(H.root @ V, J @ V)
    assert_close(H.columns(index), J[:, index])
    assert_close(H.entries(index, index[:4]), expected[np.ix_(index, index[:4])])
    assert_close(H.diagonal(), np.diag(expected))
    assert_close(H.gram(), J @ J.T)
    assert_close(H.toarray(), expected)


# ---- the interface -------------------------------------------------------------------

DEEP = Case("tanh", 2, "softmax", weighted=True)
ASK = {
    "product": lambda H: H @ directions(H.shape[0])[:, 0],
    "products": lambda H: H @ directions(H.shape[0]),
    "root": lambda H: H.root @ directions(H.shape[0]),
    "adjoint": lambda H: H.root.T @ directions(H.root.shape[0]),
    "columns": lambda H: H.columns(np.arange(H.shape[0])),
    "entries": lambda H: H.entries(np.arange(4), np.arange(2, 8)),
    "diagonal": lambda H: H.diagonal(),
    "few probes": lambda H: H.diagonal(1, 0),
    "row traces": lambda H: H.row_traces(),
    "gram": lambda H: H.gram(),
    "array": lambda H: H.toarray(),
    "sample": lambda H: H.sample(3, 0).toarray(),
    "sampled product": lambda H: H.sample(3, 0) @ directions(H.shape[0]),
    "probe": lambda H: H.probe(2, 0).toarray(),
    "shared probe": lambda H: H.probe(2, 0, shared=True).toarray(),
    "shared product": lambda H: H.probe(1, 0, True) @ directions(H.shape[0]),
    "probed product": lambda H: H.probe(2, 0) @ directions(H.shape[0]),
    "probed adjoint": lambda H: H.probe(2, 0).root.T @ directions(2 * 5),
}


@pytest.mark.parametrize("kind", ["squared", "poisson", "multilabel", "softmax"])
@pytest.mark.parametrize("question", ASK)
def test_float32_stays_float32(question, kind):
    case = Case("tanh", 2, kind, weighted=True)
    single = ASK[question](case.operator(np.float32))
    assert single.dtype == np.float32
    assert_close(single, ASK[question](case.operator()), rtol=2e-5)


def test_split_gram_in_float32_stays_float32():
    pairs = DEEP.operator(np.float32).gram_by_ridge()
    assert [gram.dtype for _, gram in pairs] == [np.float32, np.float32]


@pytest.mark.parametrize("convert", SPARSE, ids=lambda convert: convert.__name__)
@pytest.mark.parametrize("n_hidden", [0, 2])
@pytest.mark.parametrize("question", ASK)
def test_sparse_rows_answer_as_dense_rows_do(question, n_hidden, convert):
    case = Case("relu", n_hidden, "softmax", weighted=True)
    answer = ASK[question](case.operator(convert=convert))
    assert type(answer) is np.ndarray
    assert_close(answer, ASK[question](case.operator()), rtol=1e-12)


@pytest.mark.parametrize("thin", [lambda H: H, lambda H: H.probe(2, 0)])
def test_root_and_its_transpose_are_adjoint(thin):
    root = thin(DEEP.operator()).root
    rng = np.random.default_rng(0)
    v, u = (rng.standard_normal(size) for size in root.shape[::-1])
    assert (root @ v) @ u == pytest.approx(v @ (root.T @ u), rel=1e-12)
    assert (root @ v) @ u == pytest.approx(v @ (root.H @ u), rel=1e-12)


@pytest.mark.parametrize("thin", [lambda H: H, lambda H: H.probe(2, 0)])
def test_operator_is_symmetric(thin):
    H = thin(DEEP.operator())
    products = H @ np.eye(H.shape[0])
    assert_close(products, products.T, rtol=1e-12)
    assert_close(H.toarray(), H.toarray().T, rtol=1e-12)
    v = directions(H.shape[0], 1)[:, 0]
    assert_close(H.T @ v, H @ v, rtol=1e-12)
    assert_close(H.rmatvec(v), H @ v, rtol=1e-12)


def test_operator_is_a_scipy_operator_of_its_own_shape():
    H = DEEP.operator()
    assert isinstance(H, LinearOperator)
    assert isinstance(H.root, LinearOperator)
    assert H.shape == DEEP.array().shape
    assert H.root.shape == DEEP.root().shape


def test_ridge_is_zero_unless_given():
    H = DEEP.operator(ridge=False)
    J = DEEP.root()
    assert_close(H.toarray(), J.T @ J)
    assert_close(H @ directions(len(J.T)), J.T @ (J @ directions(len(J.T))))
    [(ridge, gram)] = H.gram_by_ridge()
    assert ridge == 0
    assert_close(gram, J @ J.T)


def test_products_of_integers_are_taken_in_the_operator_precision():
    H = DEEP.operator()
    assert_close(H @ np.ones(H.shape[0], dtype=int), DEEP.array().sum(axis=1))


@pytest.mark.parametrize("index", [[-1], [10**6], [0.5], [[0]]])
def test_parameters_that_do_not_exist_are_refused(index):
    H = DEEP.operator()
    with pytest.raises(ValueError, match=r"numbered from 0 to 34|1-D array of int"):
        H.columns(np.array(index))


def test_no_columns_are_an_empty_array():
    H = DEEP.operator()
    none = np.array([], dtype=int)
    assert H.columns(none).shape == (15, 0)
    assert H.entries(none, np.arange(3)).shape == (0, 3)


# ---- randomised operators ------------------------------------------------------------


def moments(make, draws=400):
    """Means and standard errors of H v, the diagonal and the squared distance."""
    H = DEEP.operator()
    v = directions(H.shape[0], 1)[:, 0]
    rng = np.random.default_rng(5)
    answers, distances = [], []
    for _ in range(draws):
        made = make(H, rng)
        answers.append(np.concatenate([made @ v, made.diagonal()]))
        distances.append(np.sum((made.toarray() - H.toarray()) ** 2))
    error = np.std(answers, axis=0, ddof=1) / np.sqrt(draws)
    exact = np.concatenate([H @ v, H.diagonal()])
    return np.mean(answers, axis=0) - exact, error, np.array(distances)


@pytest.mark.parametrize(
    "make",
    [
        lambda H, rng: H.sample(2, rng),
        lambda H, rng: H.probe(2, rng),
        pytest.param(
            lambda H, rng: H.probe(1, rng).sample(3, rng), marks=pytest.mark.slow
        ),
        pytest.param(
            lambda H, rng: H.sample(3, rng).probe(1, rng), marks=pytest.mark.slow
        ),
        lambda H, rng: H.probe(2, rng, shared=True),
        pytest.param(
            lambda H, rng: H.probe(1, rng, shared=True).sample(3, rng),
            marks=pytest.mark.slow,
        ),
    ],
    ids=[
        "sample",
        "probe",
        "sample of probe",
        "probe of sample",
        "shared probe",
        "sample of shared probe",
    ],
)
def test_randomised_operators_are_unbiased(make):
    bias, error, distances = moments(make)
    assert np.all(np.abs(bias) <= 4 * error + 1e-12)
    assert distances.min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 4])
def test_sample_keeps_its_variance_bound(m):
    _, _, distances = moments(lambda H, rng: H.sample(m, rng))
    bound = DEEP.operator(ridge=False).trace() ** 2 / m
    error = np.std(distances, ddof=1) / np.sqrt(len(distances))
    assert np.mean(distances) - 4 * error <= bound


@pytest.mark.parametrize("thin", [lambda H: H, lambda H: H.probe(2, 0)])
def test_sample_of_one_row_has_the_trace_of_the_whole(thin):
    # Importance is proportional to the traces: each draw alone carries all of it.
    H = thin(DEEP.operator())
    for seed in range(5):
        assert H.sample(1, seed).trace() == pytest.approx(H.trace(), rel=1e-12)


def test_sample_and_probe_keep_the_type_and_shrink():
    H = DEEP.operator()
    sampled, probed = H.sample(2, 0), H.probe(1, 0)
    assert type(sampled) is type(probed) is GaussNewtonHessian
    assert sampled.linearization.n_rows <= 2
    assert (sampled.n_roots, probed.n_roots) == (3, 1)
    assert probed.root.shape == (5, H.shape[0])
    assert sampled.shape == probed.shape == H.shape


def test_sample_never_draws_rows_of_no_weight():
    H = DEEP.operator()
    drawn = H.sample(200, 0).linearization.inputs
    weightless = H.linearization.inputs[1]
    assert not np.any(np.all(drawn == weightless, axis=1))
    assert len(drawn) == 4


def test_operator_of_no_curvature_can_be_sampled():
    case = Case()
    H = GaussNewtonHessian(
        case.operator().linearization, case.loss, np.zeros(case.n), case.data()[4]
    )
    assert_close(H.sample(3, 0).toarray(), np.diag(case.data()[4]))


@pytest.mark.parametrize("method", ["sample", "probe"])
def test_seeds_decide_the_draws(method):
    H = DEEP.operator()

    def draw(seed):
        return getattr(H, method)(4, seed).toarray()

    np.testing.assert_array_equal(draw(1), draw(1))
    np.testing.assert_array_equal(
        draw(np.random.RandomState(1)), draw(np.random.RandomState(1))
    )
    np.testing.assert_array_equal(
        draw(np.random.default_rng(1)), draw(np.random.default_rng(1))
    )
    assert np.any(draw(1) != draw(2))


def test_few_probes_estimate_the_diagonal_and_many_are_not_drawn():
    H = DEEP.operator()
    expected = H.probe(2, 7, shared=True).diagonal()
    np.testing.assert_array_equal(H.diagonal(2, 7), expected)
    assert_close(H.diagonal(3), np.diag(DEEP.array()))


def test_probes_are_signs_of_each_row_or_of_all():
    H = DEEP.operator()
    own, shared = H.probe(2, 0).root.probes, H.probe(2, 0, shared=True).root.probes
    assert (own.shape, shared.shape) == ((5, 2, 3), (1, 2, 3))
    for signs in (own, shared):
        np.testing.assert_array_equal(np.abs(signs), 1)
    assert np.any(own[0] != own[1])


def test_few_probes_do_not_see_the_order_and_the_repetition_of_rows():
    X, _, weights, theta, ridge = DEEP.data()
    rows = np.array([4, 0, 2, 1, 3, 0])
    weights = np.array([weights[i] / (1 + (i == 0)) for i in rows])
    linearization = Linearization(DEEP.network, theta, append_one(X[rows]))
    twin = GaussNewtonHessian(linearization, DEEP.loss, weights, ridge)
    assert_close(twin.diagonal(2, 7), DEEP.operator().diagonal(2, 7), rtol=1e-13)


@pytest.mark.parametrize("method", ["sample", "probe"])
def test_draws_of_nothing_are_refused(method):
    with pytest.raises(ValueError, match="must be an integer >= 1, got 0"):
        getattr(DEEP.operator(), method)(0)


@pytest.mark.parametrize("draw", ["sample", "probe", "diagonal"])
def test_draws_of_a_scaled_operator_are_scaled(draw):
    H = Case(n=30).operator()
    d = np.where(H.network.weight_mask() > 0, 0.5, 3.0)
    scaled, expected = H.scaled(d), d[:, None] * H.toarray() * d
    if draw == "diagonal":
        made = [scaled.diagonal(2, seed) for seed in range(300)]
        expected = expected.diagonal()
    else:
        made = [getattr(scaled, draw)(2, seed).toarray() for seed in range(300)]
    error = np.linalg.norm(np.mean(made, axis=0) - expected)
    assert error < 0.1 * np.linalg.norm(expected)


def test_scaling_twice_is_scaling_by_the_product():
    H = Case(n=30).operator()
    mask = H.network.weight_mask() > 0
    first, second = np.where(mask, 0.5, 3.0), np.where(mask, 2.0, 0.7)
    d, scaled = first * second, H.scaled(first).scaled(second)
    expected = d[:, None] * H.toarray() * d
    assert_close(scaled.toarray(), expected)
    assert_close(scaled @ np.eye(len(d)), expected)
    assert_close(
        scaled.root.T @ (scaled.root @ np.eye(len(d))), expected - np.diag(scaled.ridge)
    )


def test_probes_of_probes_are_refused():
    with pytest.raises(ValueError, match="has output probes already"):
        DEEP.operator().probe(2).probe(1)
