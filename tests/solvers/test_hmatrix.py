"""The hierarchical solver, its reuse, and training with approximations of H."""

import numpy as np
import pytest
from cases import Case, assert_close
from matrices import (
    correlated_hessian,
    digits_hessian,
    kernel,
    low_rank,
    points,
    symmetric,
)
from scipy.sparse.linalg import aslinearoperator
from sklearn.datasets import load_digits
from tasks import fit

from skgnh import GaussNewtonAutoencoder, GaussNewtonMLPClassifier
from skgnh.hmatrix import compress
from skgnh.operators import DenseMatrix
from skgnh.solvers import CG, HMatrix, all_solvers

EXACT = {"max_iter": 10_000, "rtol": 1e-12}
SMALL = {"rank": 6, "leaf_size": 16, "global_rank": 8}


def right_hand_side(H, *shape):
    rng = np.random.default_rng(1)
    return rng.standard_normal((H.shape[0], *shape)).astype(H.dtype)


def array_of(matrix):
    return symmetric(matrix @ np.eye(matrix.shape[0]))


# ---- solutions -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ["natural", "angle", "kernel"])
def test_direct_solution_has_the_residual_of_the_dense_approximation(order):
    H = digits_hessian(60, (4,))
    A = H.toarray()
    solver = HMatrix(**SMALL, order=order, direct=True)
    factor, rhs = solver.factor(H), right_hand_side(H, 2)
    M = array_of(compress(H, **SMALL, order=order))
    for share in (1.0, 1e-2, 1e-4):
        damping = share * H.diagonal().mean()
        shift = damping * np.eye(len(A))
        x, expected = factor.solve(rhs, damping), np.linalg.solve(M + shift, rhs)
        assert_close(x, expected, rtol=1e-9)
        residual = (A + shift) @ expected - rhs
        assert_close((A + shift) @ x - rhs, residual, rtol=1e-8)
        assert_close(factor.solve(rhs[:, 0], damping), x[:, 0], rtol=1e-10)
        log = np.linalg.slogdet(M + shift)[1]
        assert factor.logdet(damping) == pytest.approx(log, rel=1e-9)
    assert factor.products == 0


def test_direct_solution_of_one_leaf_is_exact():
    case = Case("tanh", 1, "softmax", n=20)
    H = case.operator()
    factor, rhs = HMatrix(direct=True).factor(H), right_hand_side(H)
    A = case.array() + 0.1 * np.eye(31)
    assert_close(factor.solve(rhs, 0.1), np.linalg.solve(A, rhs), rtol=1e-10)


@pytest.mark.parametrize("global_rank", [0, 8])
def test_iteration_solves_whatever_the_ranks(global_rank):
    H = digits_hessian(60, (4,))
    rhs = right_hand_side(H, 2)
    for rank in (1, 4, 16):
        solver = HMatrix(rank, 16, global_rank, **EXACT)
        factor = solver.factor(H)
        for damping in (1e-1, 1e-3, 1e-2):
            A = H.toarray() + damping * np.eye(H.shape[0])
            assert_close(factor.solve(rhs, damping), np.linalg.solve(A, rhs), rtol=1e-8)


@pytest.mark.parametrize("order", ["natural", "angle", "kernel"])
@pytest.mark.parametrize("make", [correlated_hessian, digits_hessian])
def test_preconditioner_takes_fewer_iterations_than_the_diagonal(make, order):
    H = make()
    rhs = H @ right_hand_side(H)
    damping = 1e-2 * H.diagonal().mean()
    settings = {"max_iter": 5000, "rtol": 1e-3}
    products = []
    for solver in (
        CG(**settings),
        HMatrix(16, global_rank=0, order=order, **settings),
        HMatrix(16, global_rank=32, order=order, **settings),
    ):
        factor = solver.factor(H)
        x = factor.solve(rhs, damping)
        residual = H @ x + damping * x - rhs
        assert np.linalg.norm(residual) <= 1.1e-3 * np.linalg.norm(rhs)
        products.append(factor.products)
    assert products[2] < products[1] < 0.8 * products[0]
    assert products[2] < 0.4 * products[0]


def test_matrix_of_its_structure_is_solved_at_once():
    H = DenseMatrix(kernel("exponential", points(200, 1)))
    factor = HMatrix(4, global_rank=0, max_iter=50, rtol=1e-8).factor(H)
    factor.solve(right_hand_side(H), 1e-3)
    assert factor.products <= 3


@pytest.mark.parametrize("direct", [False, True])
def test_float32_stays_float32(direct):
    H = digits_hessian(40, (3,), dtype=np.float32)
    factor, rhs = HMatrix(**SMALL, direct=direct).factor(H), right_hand_side(H)
    x = factor.solve(rhs, np.float64(0.1))
    assert x.dtype == np.float32
    double = HMatrix(**SMALL, direct=direct).factor(digits_hessian(40, (3,)))
    assert_close(x, double.solve(rhs.astype(float), 0.1), rtol=2e-2)


# ---- reuse ---------------------------------------------------------------------------


class Recorded(DenseMatrix):
    """A matrix that counts its entries and products."""

    n_entries = n_products = 0

    def entries(self, rows, columns):
        self.n_entries += len(rows) * len(columns)
        return super().entries(rows, columns)

    def _matmat(self, V):
        self.n_products += V.shape[1]
        return super()._matmat(V)


def test_damping_costs_no_entries():
    H = Recorded(low_rank(70, 90))
    factor = HMatrix(**SMALL, direct=True).factor(H)
    before = H.n_entries, H.n_products
    for damping in (1.0, 1e-2, 10.0):
        factor.solve(right_hand_side(H), damping)
    assert (H.n_entries, H.n_products) == before


def test_factorisation_is_kept_for_the_last_damping(monkeypatch):
    factor = HMatrix(**SMALL, direct=True).factor(DenseMatrix(low_rank(70, 90)))
    made, matrix_factor = [], type(factor.matrix).factor

    def record(matrix, damping):
        made.append(damping)
        return matrix_factor(matrix, damping)

    monkeypatch.setattr(type(factor.matrix), "factor", record)
    rhs = np.ones(70)
    for damping in (1.0, 1.0, 0.5, 0.5, 1.0):
        factor.solve(rhs, damping)
        factor.logdet(damping)
    assert made == [1.0, 0.5, 1.0]


def near(H, share):
    """The matrix, and some of another one: a point a little later in a training."""
    other = low_rank(H.shape[0], 3, seed=9)
    return DenseMatrix(H.array + share * np.mean(H.diagonal()) * other)


def base():
    return DenseMatrix(low_rank(70, 90) + 0.1 * np.eye(70))


def test_approximation_is_kept_while_it_takes_few_iterations():
    solver = HMatrix(**SMALL, max_iter=1000, rtol=1e-8)
    H = base()
    first = solver.factor(H)
    first.solve(right_hand_side(H), 1e-2)
    later = Recorded(near(H, 1e-6).array)
    second = solver.factor(later, previous=first)
    assert second.inner is first.inner
    assert later.n_entries == later.n_products == 0
    A = later.array + 1e-2 * np.eye(70)
    rhs = right_hand_side(H)
    assert_close(second.solve(rhs, 1e-2), np.linalg.solve(A, rhs), rtol=1e-6)


def test_approximation_is_made_anew_once_it_takes_too_many_iterations():
    solver = HMatrix(16, 32, global_rank=16, max_iter=1000, rtol=1e-3)
    H, rhs = base(), right_hand_side(base())
    first = solver.factor(H)
    first.solve(rhs, 1e-2)
    when_new = first.inner.iterations
    far = near(H, 30.0)
    second = solver.factor(far, previous=first)
    assert second.inner is first.inner  # it only shows when it is used
    second.inner.iterations = int(solver.patience * when_new) + 1
    third = solver.factor(far, previous=second)
    assert third.inner is not first.inner
    third.solve(rhs, 1e-2)
    assert solver.factor(far, previous=third).inner is third.inner


@pytest.mark.parametrize(
    ("patience", "counts", "kept"),
    [
        (1.5, [10, 15], True),
        (1.5, [10, 16], False),
        (1.5, [10, 16, 12], True),  # it is the last count that matters
        (1.0, [10, 10], True),
        (1.0, [10, 11], False),
        (3.0, [4, 30], False),
        (0, [10], False),
        (1.5, [], False),  # never used: nothing is known of it
    ],
)
def test_patience_is_a_multiple_of_the_first_count(patience, counts, kept):
    solver = HMatrix(**SMALL, patience=patience)
    first = solver.factor(base())
    for count in counts:
        first.inner.iterations = count
    assert (solver.factor(base(), previous=first).inner is first.inner) is kept


def test_iterations_are_counted_of_the_last_solve():
    solver = HMatrix(**SMALL, max_iter=1000, rtol=1e-8)
    factor = solver.factor(base())
    assert factor.inner.iterations is None
    spent = 0
    for damping in (1e-2, 10.0):
        factor.solve(right_hand_side(base()), damping)
        # One product more for the residual of the solution it begins at.
        begun = spent > 0
        assert factor.inner.iterations == factor.products - spent - begun
        spent = factor.products


def test_iteration_begins_at_the_last_solution_of_another_approximation():
    H, rhs = base(), right_hand_side(base())
    solver = HMatrix(**SMALL, max_iter=1000, rtol=1e-8, decay=1.0, patience=0)
    first = solver.factor(H)
    x = first.solve(rhs, 1e-2)
    second = solver.factor(H, previous=first)
    assert second.inner is not first.inner
    assert_close(second.solve(rhs, 1e-2), x, rtol=1e-12)
    assert second.products == 1


@pytest.mark.parametrize("name", ["cg", "kfac", "nystrom", "dense"])
def test_factor_of_another_solver_is_no_approximation_to_keep(name):
    H = Case("tanh", 1, "softmax", n=20).operator()
    other = all_solvers()[name]().factor(H)
    other.solve(right_hand_side(H), 0.1)
    factor = HMatrix(**EXACT).factor(H, previous=other)
    A = H.toarray() + 0.1 * np.eye(31)
    rhs = right_hand_side(H)
    assert_close(factor.solve(rhs, 0.1), np.linalg.solve(A, rhs), rtol=1e-8)


def test_direct_solver_is_built_at_every_point():
    solver = HMatrix(**SMALL, direct=True)
    first = solver.factor(base())
    far = near(base(), 1.0)
    second = solver.factor(far, previous=first)
    assert second is not first
    expected = array_of(compress(far, **SMALL))
    assert_close(array_of(second.matrix), expected, rtol=1e-14)


# ---- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "1 <= rank <= leaf_size is needed, got 0"),
        ({"rank": 8, "leaf_size": 4}, "1 <= rank <= leaf_size is needed, got 8 and 4"),
        ({"order": "random"}, "Unknown order 'random'"),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
    ],
)
def test_parameters_that_are_off_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        HMatrix(**settings).factor(base())


def test_operator_of_products_only_is_refused():
    with pytest.raises(ValueError, match="needs an operator with entries, diagonal"):
        HMatrix().factor(aslinearoperator(np.eye(3)))


# ---- training with approximations ----------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def trained(solver, digits):
    model = GaussNewtonMLPClassifier(
        (8,), solver=solver, max_iter=8, alpha=1e-3, random_state=0
    )
    return fit(model, *digits)


@pytest.fixture(scope="module")
def by_cg(digits):
    return trained("cg", digits)


@pytest.mark.parametrize("name", ["kfac", "nystrom", "hmatrix"])
def test_training_ends_near_the_loss_of_conjugate_gradients(name, digits, by_cg):
    model = trained(name, digits)
    start = model.loss_curve_[0]
    assert model.loss_ < 0.2 * start
    assert model.loss_ < 1.5 * by_cg.loss_ + 0.01
    assert model.score(*digits) > 0.95


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_training_ends_at_the_objective_of_exact_steps(kind, seed, digits):
    # In as many steps, all taken: the approximation only preconditions.
    settings = {"max_iter": 20, "tol": 0.0, "random_state": seed}
    losses = []
    for solver in ("dense", "hmatrix"):
        if kind == "classifier":
            model = GaussNewtonMLPClassifier((16,), solver=solver, alpha=1e-2)
            rows = (digits[0][:150], digits[1][:150])
        else:
            model = GaussNewtonAutoencoder((6,), solver=solver)
            rows = (digits[0][:60],)
        model = fit(model.set_params(**settings), *rows)
        assert model.n_iter_ == 20
        losses.append(model.loss_)
    assert losses[1] <= 1.01 * losses[0]


@pytest.mark.parametrize(
    "solver",
    [HMatrix(16, order="angle", patience=0), HMatrix(rank=64, direct=True)],
    ids=["angle", "direct"],
)
def test_training_with_other_settings_falls_too(solver, digits):
    model = trained(solver, digits)
    assert model.loss_ < 0.5 * model.loss_curve_[0]
