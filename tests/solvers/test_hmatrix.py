"""The hierarchical solver, its reuse, and training with approximations of H."""

from functools import cache

import numpy as np
import pytest
from cases import Case, assert_close
from marks import slow_unless
from matrices import (
    correlated_hessian,
    digits_hessian,
    kernel,
    low_rank,
    points,
    symmetric,
)
from scipy.linalg import LinAlgError
from scipy.sparse.linalg import aslinearoperator
from sklearn.datasets import load_digits
from tasks import fit, fitted, parameters

from skgnh import GaussNewtonAutoencoder, GaussNewtonMLPClassifier
from skgnh.hmatrix import HODLRMatrix, compress
from skgnh.hmatrix.budget import plan
from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.operators import DenseMatrix, GaussNewtonHessian
from skgnh.solvers import CG, HMatrix, all_solvers
from skgnh.solvers.hmatrix_factor import Choice, HMatrixFactor
from skgnh.solvers.preconditioned import PreconditionedFactor

EXACT = {"max_iter": 10_000, "rtol": 1e-12}
SMALL = {"storage": 24, "share": 0.3, "basis": "own"}


def compressed(H, **settings):
    """What SMALL makes of it."""
    return compress(H, **plan(H.shape[0], 24, 0.3), **settings)


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
    M = array_of(compressed(H, order=order))
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


@pytest.mark.parametrize("basis", ["own", "kronecker", None])
@pytest.mark.parametrize(
    "share", slow_unless((0.4, None).__contains__, [0.0, 0.4, 1.0, None])
)
def test_iteration_solves_whatever_the_storage(share, basis):
    H = digits_hessian(60, (4,))
    rhs = right_hand_side(H, 2)
    for storage in (20, 40, 64):
        solver = HMatrix(storage, share, basis, **EXACT)
        factor = solver.factor(H)
        for damping in (1e-1, 1e-3, 1e-2):
            A = H.toarray() + damping * np.eye(H.shape[0])
            assert_close(factor.solve(rhs, damping), np.linalg.solve(A, rhs), rtol=1e-8)


@pytest.mark.parametrize("order", ["natural", "diagonal", "angle", "kernel"])
@pytest.mark.parametrize(
    ("make", "pure", "mixed"),
    [
        (correlated_hessian, (42, 0.0), (40, 0.8)),
        (digits_hessian, (85, 0.0), (117, 0.5)),
    ],
)
def test_preconditioner_takes_fewer_iterations_than_the_diagonal(
    make, pure, mixed, order
):
    H = make()
    rhs = H @ right_hand_side(H)
    damping = 1e-2 * H.diagonal().mean()
    settings = {"max_iter": 5000, "rtol": 1e-3}
    every = {"epsilon": None, **settings}
    products = []
    for solver in (
        CG(**settings),
        HMatrix(*pure, "own", order, **every),
        HMatrix(*mixed, "own", order, **every),
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
    factor = HMatrix(24, 0.0, max_iter=50, rtol=1e-8).factor(H)
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
    kind = type(factor.approximation.matrix)
    made, matrix_factor = [], kind.factor

    def record(matrix, damping):
        made.append(damping)
        return matrix_factor(matrix, damping)

    monkeypatch.setattr(kind, "factor", record)
    rhs = np.ones(70)
    for damping in (1.0, 1.0, 0.5, 0.5, 1.0):
        factor.solve(rhs, damping)
        factor.logdet(damping)
    assert made == [1.0, 0.5, 1.0]


def matrix_of(factor):
    """The approximation that preconditions it: the array that a point hands on."""
    return factor.inner.approximation.matrix


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
    second = solver.factor(later, carried=first.carried())
    assert matrix_of(second) is matrix_of(first)
    assert later.n_entries == later.n_products == 0
    A = later.array + 1e-2 * np.eye(70)
    rhs = right_hand_side(H)
    assert_close(second.solve(rhs, 1e-2), np.linalg.solve(A, rhs), rtol=1e-6)


def test_approximation_is_made_anew_once_it_takes_too_many_iterations():
    solver = HMatrix(30, 0.5, max_iter=1000, rtol=1e-3)
    H, rhs = base(), right_hand_side(base())
    first = solver.factor(H)
    first.solve(rhs, 1e-2)
    when_new = first.inner.iterations
    far = near(H, 30.0)
    second = solver.factor(far, carried=first.carried())
    assert matrix_of(second) is matrix_of(first)  # it only shows when it is used
    second.inner.iterations = when_new + int(worth(solver, far)) + 1
    third = solver.factor(far, carried=second.carried())
    assert matrix_of(third) is not matrix_of(first)
    third.solve(rhs, 1e-2)
    kept = solver.factor(far, carried=third.carried())
    assert matrix_of(kept) is matrix_of(third)


def worth(solver, H):
    """Iterations that cost as much as a build, by the price."""
    n, P = H.shape[0], H.shape[0]
    build = 4 * n * P * solver.storage + P * solver.storage**2
    return build / (4 * n * P + 2 * P * solver.storage)


@pytest.mark.parametrize(
    ("patience", "counts", "kept"),
    [
        (1.0, [10], True),
        (1.0, [10, 32], True),  # a build costs 22.3 iterations here
        (1.0, [10, 33], False),
        (1.0, [10, 21, 21], True),
        (1.0, [10, 21, 22], False),  # it is all that was lost since that matters
        (1.0, [10, 0, 0, 33], False),
        (0.5, [10, 21], True),
        (0.5, [10, 22], False),
        (0, [10], False),
        (1.0, [], False),  # never used: nothing is known of it
    ],
)
def test_patience_is_a_number_of_builds_worth_of_iterations(patience, counts, kept):
    solver = HMatrix(**SMALL, patience=patience)
    assert 22 < worth(solver, base()) < 23
    first = solver.factor(base())
    for count in counts:
        first.inner.iterations = count
    second = solver.factor(base(), carried=first.carried())
    assert (matrix_of(second) is matrix_of(first)) is kept


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
    solver = HMatrix(**SMALL, max_iter=1000, rtol=1e-8, patience=0)
    first = solver.factor(H)
    x = first.solve(rhs, 1e-2)
    second = solver.factor(H, carried=first.carried())
    assert matrix_of(second) is not matrix_of(first)
    assert_close(second.solve(rhs, 1e-2), x, rtol=1e-12)
    assert second.products == 1


@pytest.mark.parametrize("name", ["cg", "kfac", "nystrom", "dense"])
def test_factor_of_another_solver_is_no_approximation_to_keep(name):
    H = Case("tanh", 1, "softmax", n=20).operator()
    other = all_solvers()[name]().factor(H)
    other.solve(right_hand_side(H), 0.1)
    factor = HMatrix(**EXACT).factor(H, carried=other.carried())
    A = H.toarray() + 0.1 * np.eye(31)
    rhs = right_hand_side(H)
    assert_close(factor.solve(rhs, 0.1), np.linalg.solve(A, rhs), rtol=1e-8)


def test_direct_solver_is_built_at_every_point():
    solver = HMatrix(**SMALL, direct=True)
    first = solver.factor(base())
    far = near(base(), 1.0)
    second = solver.factor(far, carried=first.carried())
    assert second is not first
    expected = array_of(compressed(far))
    assert_close(array_of(second.approximation.matrix), expected, rtol=1e-14)


# ---- the choice ----------------------------------------------------------------------


@cache
def network_hessian(kind, dtype=np.float64):
    units, output = {
        "autoencoder": ((64, 8, 64), "identity"),
        "classifier": ((64, 16, 10), "softmax"),
    }[kind]
    X = (load_digits().data[:200] / 16).astype(dtype)
    network = MLP(units, ("tanh",))
    theta = network.initialize(np.random.default_rng(0), dtype)
    return GaussNewtonHessian(
        Linearization(network, theta, append_one(X)),
        LOSSES[output],
        np.full(len(X), 1 / len(X), dtype),
        (1e-5 * network.weight_mask()).astype(dtype),
    )


ITERATE = {"max_iter": 2000, "rtol": 1e-3, "epsilon": None}
KINDS = ("autoencoder", "classifier")


def damping_of(H):
    return 1e-3 * float(H.diagonal().mean())


def solved(H, **settings):
    factor = HMatrix(**{"storage": 32, **ITERATE, **settings}).factor(H)
    factor.solve(H @ right_hand_side(H), damping_of(H))
    return factor


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("basis", "share"), [("own", 0.0), ("own", 0.5), ("own", 1.0)] + [(None, 0.25)]
)
def test_what_is_fixed_is_not_tried(basis, share, kind):
    factor = solved(network_hessian(kind), basis=basis, share=share)
    expected = Choice(None, share) if basis == "own" else Choice(0.0, share, head=1.0)
    assert factor.inner.choice == expected
    assert factor.inner.products == 0
    assert factor.products == factor.inner.iterations


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_choice_takes_about_the_fewest_iterations(kind):
    # Of a system that takes more iterations than a trial.
    H = network_hessian(kind)
    rhs, damping = right_hand_side(H), 1e-3 * damping_of(H)

    def iterations(factor):
        factor.solve(rhs, damping)
        return factor.inner.iterations

    solver = HMatrix(32, **ITERATE)
    chosen = solver.factor(H)
    least = iterations(chosen)
    assert chosen.inner.choice.tail is not None
    counts = [
        iterations(HMatrix(32, basis="own", share=share, **ITERATE).factor(H))
        for share in (0.25, 0.5, 1.0)
    ]
    # Those that it has tried, with and without their shifts.
    for choice in solver.choices(H):
        for shift in (0.0, 0.1):
            made = solver.approximation(H, choice._replace(shift=shift))
            inner = HMatrixFactor(H, [made], 0)
            counts.append(iterations(PreconditionedFactor(solver, H, inner, None)))
    assert least <= 1.1 * min(counts)
    assert max(counts) > 2 * least


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_the_trial_are_counted(kind):
    H = network_hessian(kind)
    count, product = [], H._matmat

    def record(V):
        count.append(V.shape[1])
        return product(V)

    H._matmat = record
    try:
        factor = HMatrix(32, **ITERATE).factor(H)
        built = sum(count)
        rhs = right_hand_side(H)
        factor.solve(rhs, damping_of(H))
        # Two choices with 8 products for the error's norm and two trials each.
        trial = 2 * (8 + 2 * 40)
        assert factor.inner.products == trial
        assert factor.products == trial + factor.inner.iterations
        assert factor.products == sum(count) - built
        factor.solve(rhs, 2 * damping_of(H))
        assert factor.inner.products == trial
        assert factor.products == sum(count) - built
    finally:
        del H._matmat


def test_products_of_the_trial_are_not_those_of_a_later_point():
    H = network_hessian("classifier")
    solver = HMatrix(32, patience=1e3, **ITERATE)
    first = solver.factor(H)
    first.solve(right_hand_side(H), damping_of(H))
    assert first.products > 100
    second = solver.factor(H, carried=first.carried())
    assert matrix_of(second) is matrix_of(first)
    assert second.products == 0
    second.solve(right_hand_side(H), damping_of(H))
    assert second.products == second.inner.iterations + 1


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_choice_is_carried_to_the_next_point(shift):
    H = network_hessian("classifier")
    solver = HMatrix(32, patience=0, **ITERATE)
    first = solver.factor(H)
    made = solver.approximation(H, Choice(0.05, 1.0, shift=shift))
    first.inner = HMatrixFactor(H, [made], 0)
    assert first.inner.choice == Choice(0.05, 1.0, shift=shift)
    assert (first.inner.approximation.shift > 0) == (shift > 0)
    first.solve(right_hand_side(H), damping_of(H))
    second = solver.factor(H, carried=first.carried())
    assert matrix_of(second) is not matrix_of(first)
    assert second.inner.choice == first.inner.choice
    # The error's norm is that of the new approximation.
    assert second.inner.products == second.products == (8 if shift else 0)
    norm = first.inner.approximation.shift
    assert second.inner.approximation.shift == pytest.approx(norm, rel=1e-10)


def test_chosen_is_carried_to_the_next_point():
    H = network_hessian("autoencoder")
    solver = HMatrix(32, patience=0, **ITERATE)
    first = solver.factor(H)
    assert first.inner.choice is None
    # At a point where nothing was solved nothing is known.
    assert solver.factor(H, carried=first.carried()).inner.choice is None
    first.solve(right_hand_side(H), damping_of(H))
    second = solver.factor(H, carried=first.carried())
    assert second.inner.choice == first.inner.choice is not None


@pytest.mark.slow
def test_shift_is_a_share_of_the_norm_of_the_error():
    H = network_hessian("classifier")
    made = HMatrix(32).approximation(H, Choice(None, 0.5, shift=0.1))
    shifted = HMatrixFactor(H, [made], 0).approximation
    error = H.toarray() - array_of(made)
    norm = np.max(np.abs(np.linalg.eigvalsh(symmetric(error))))
    # From below, by eight products.
    assert 0.05 * norm <= shifted.shift <= 0.1 * norm * (1 + 1e-10)
    A = array_of(made) + (1e-3 + shifted.shift) * np.eye(H.shape[0])
    rhs = right_hand_side(H, 2)
    assert_close(shifted.solve(rhs, 1e-3), np.linalg.solve(A, rhs), rtol=1e-8)
    assert shifted.factor(1e-3).logdet() == pytest.approx(np.linalg.slogdet(A)[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_direct_solver_chooses_by_the_error(kind):
    H = network_hessian(kind)
    solver = HMatrix(32, direct=True)
    factor = solver.factor(H)
    Z = np.random.default_rng(0).standard_normal((H.shape[0], 8))
    errors = {
        choice: np.linalg.norm(solver.approximation(H, choice) @ Z - H @ Z)
        for choice in solver.choices(H)
    }
    assert {choice.share for choice in errors} == {0.0, 0.25, 0.75, None}
    assert factor.choice == min(errors, key=errors.get)
    assert factor.choice.shift == 0
    assert factor.products == 8
    M = array_of(factor.approximation) + damping_of(H) * np.eye(H.shape[0])
    rhs = right_hand_side(H)
    x = factor.solve(rhs, damping_of(H))
    assert_close(x, np.linalg.solve(M, rhs), rtol=1e-8)
    log = np.linalg.slogdet(M)[1]
    assert factor.logdet(damping_of(H)) == pytest.approx(log, rel=1e-9)


@pytest.mark.slow
def test_direct_solver_takes_blocks_of_a_rank_each_where_they_are_better():
    H, lam = network_hessian("autoencoder"), damping_of(network_hessian("autoencoder"))
    A = H.toarray() + lam * np.eye(H.shape[0])
    solver = HMatrix(64, basis="own", direct=True)
    factor = solver.factor(H)
    assert factor.choice == Choice(None, None)
    assert isinstance(factor.approximation.matrix, HODLRMatrix)
    assert 0.9 * 64 < factor.approximation.size / H.shape[0] <= 64
    M = array_of(factor.approximation)
    assert np.linalg.eigvalsh(M)[0] > 0
    M += lam * np.eye(len(M))
    rhs = right_hand_side(H, 2)
    assert_close(factor.solve(rhs, lam), np.linalg.solve(M, rhs), rtol=1e-8)
    logs = {
        choice.share: solver.approximation(H, choice).logdet(lam)
        for choice in solver.choices(H)
    }
    assert factor.logdet(lam) == logs[None]
    exact = np.linalg.slogdet(A)[1]
    off = {share: abs(log - exact) for share, log in logs.items()}
    assert off[None] < 0.9 * min(off[0.5], off[1.0])


def test_blocks_of_a_rank_each_are_for_direct_solvers_of_few_parameters():
    def offered(H, **settings):
        solver = HMatrix(basis="own", **settings)
        return Choice(None, None) in solver.choices(H)

    H = wide_hessian(10, 100)
    assert offered(H, direct=True, storage=24)
    assert not offered(H, storage=24)
    assert not offered(H, direct=True, storage=24, share=0.5)
    assert Choice(None, None) in HMatrix(24, direct=True).choices(H)
    assert Choice(None, None) not in HMatrix(24, None, "kronecker").choices(H)
    # The same storage of ever more parameters: entries grow with their square.
    assert not offered(wide_hessian(300, 100), direct=True, storage=24)


def wide_hessian(width, n_rows):
    network = MLP((50, width, 20), ("tanh",))
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 50))
    return GaussNewtonHessian(
        Linearization(network, network.initialize(rng, np.float64), append_one(X)),
        LOSSES["identity"],
        np.full(n_rows, 1 / n_rows),
        1e-5 * network.weight_mask(),
    )


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_seed_decides_the_choice(kind, direct):
    H, rhs = network_hessian(kind), np.ones(network_hessian(kind).shape[0])
    answers = []
    for _ in range(2):
        factor = HMatrix(32, random_state=3, direct=direct).factor(H)
        x = factor.solve(rhs, damping_of(H))
        answers.append(((factor if direct else factor.inner).choice, x))
    assert answers[0][0] == answers[1][0]
    np.testing.assert_array_equal(answers[0][1], answers[1][1])


def test_matrix_that_is_no_network_is_taken_as_it_is():
    H = DenseMatrix(kernel("matern", points(200, 2)))
    choices = HMatrix(24).choices(H)
    assert choices == [Choice(None, 0.5), Choice(None, 1.0)]
    factor = HMatrix(24, **EXACT).factor(H)
    factor.solve(right_hand_side(H), 1e-2)
    assert factor.inner.choice.tail is None
    assert factor.inner.approximation.basis is None


@pytest.mark.parametrize("place", [0, -1])
def test_ridge_that_differs_within_a_layer_keeps_the_basis(place):
    H = digits_hessian(60, (4,))
    H.network.unpack(H.ridge)[0][1, place] = 0.5
    assert {choice.tail for choice in HMatrix(24).choices(H)} == {None}
    rhs, A = right_hand_side(H), H.toarray() + 1e-2 * np.eye(H.shape[0])
    x = HMatrix(24, **EXACT).factor(H).solve(rhs, 1e-2)
    assert_close(x, np.linalg.solve(A, rhs), rtol=1e-8)
    with pytest.raises(ValueError, match="one ridge for a layer's weights"):
        HMatrix(24, basis="kronecker").factor(H)


def test_ridge_that_differs_between_layers_does_not_matter():
    H = digits_hessian(60, (4,))
    H.network.unpack(H.ridge)[0][...] = 0.5
    assert HMatrix(24).choices(H)[0].tail is not None


def test_small_matrix_is_exact_whatever_is_asked_for():
    H = Case("tanh", 1, "softmax", n=20).operator()
    for basis in (None, "own", "kronecker"):
        solver = HMatrix(16, 0.5, basis, direct=True)
        factor, rhs = solver.factor(H), right_hand_side(H)
        assert factor.products == 0
        A = H.toarray() + 0.1 * np.eye(31)
        assert_close(factor.solve(rhs, 0.1), np.linalg.solve(A, rhs), rtol=1e-10)


@pytest.mark.parametrize("storage", [16, 32, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_storage_holds_basis_and_matrix(kind, storage):
    H = network_hessian(kind)
    for basis in (None, "own"):
        solver = HMatrix(storage, basis=basis)
        for choice in solver.choices(H):
            size = solver.approximation(H, choice).size / H.shape[0]
            assert 0.85 * storage <= size <= 1.03 * storage + 2


@cache
def flat_hessian():
    """Inputs that are many and have no leading directions."""
    rng = np.random.default_rng(0)
    network = MLP((150, 2, 3), ("tanh",))
    X = rng.standard_normal((400, 150))
    return GaussNewtonHessian(
        Linearization(network, network.initialize(rng, np.float64), append_one(X)),
        LOSSES["softmax"],
        np.full(400, 1 / 400),
        1e-5 * network.weight_mask(),
    )


def test_basis_that_outgrows_the_storage_is_left():
    H = flat_hessian()
    solver = HMatrix(16, patience=0, epsilon=None, **EXACT)
    first = solver.factor(H)
    made = HMatrix(140).approximation(H, Choice(0.05, 0.25))
    first.inner = HMatrixFactor(H, [made], 0)
    assert solver.factor(H, carried=first.carried()).inner.choice is None
    second = solver.factor(H, carried=first.carried())
    second.solve(right_hand_side(H), 1e-2)
    assert second.inner.choice.tail is None


def test_basis_beyond_half_of_the_storage_is_not_taken():
    H = flat_hessian()
    assert {choice.tail for choice in HMatrix(16).choices(H)} == {None}
    rhs, A = right_hand_side(H), H.toarray() + 1e-2 * np.eye(H.shape[0])
    x = HMatrix(16, **EXACT).factor(H).solve(rhs, 1e-2)
    assert_close(x, np.linalg.solve(A, rhs), rtol=1e-8)
    with pytest.raises(ValueError, match="too few for a hierarchical matrix"):
        HMatrix(16, basis="kronecker").factor(H)


@pytest.mark.parametrize("kind", slow_unless("autoencoder".__eq__, KINDS))
def test_approximation_in_a_basis_is_a_matrix(kind):
    H = network_hessian(kind)
    A = HMatrix(32).approximation(H, Choice(0.0, 0.25))
    Q = A.basis.restore(np.eye(H.shape[0]))
    dense = array_of(A)
    assert_close(dense, Q @ array_of(A.matrix) @ Q.T, rtol=1e-11)
    assert_close(A.T @ np.eye(H.shape[0]), dense, rtol=1e-11)
    assert np.linalg.norm(dense - H.toarray()) < 0.2 * np.linalg.norm(H.toarray())
    assert np.linalg.eigvalsh(dense)[0] >= -1e-12 * np.trace(dense)
    B, rhs = dense + 1e-2 * np.eye(H.shape[0]), right_hand_side(H, 2)
    assert_close(A.solve(rhs, 1e-2), np.linalg.solve(B, rhs), rtol=1e-9)
    assert_close(A.solve(rhs[:, 0], 1e-2), A.solve(rhs, 1e-2)[:, 0], rtol=1e-10)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_float32_in_the_basis(kind, direct):
    H = network_hessian(kind, np.float32)
    factor, rhs = HMatrix(32, direct=direct).factor(H), right_hand_side(H)
    for damping in (np.float64(0.1), 0.01):
        assert factor.solve(rhs, damping).dtype == np.float32
    approximation = (factor if direct else factor.inner).approximation
    assert approximation.dtype == (approximation @ rhs).dtype == np.float32


def test_damping_that_is_not_positive_is_refused_after_the_trials():
    factor = HMatrix(32).factor(network_hessian("classifier"))
    with pytest.raises(LinAlgError, match="damping must be positive and finite"):
        factor.solve(right_hand_side(network_hessian("classifier")), -1.0)


# ---- of sampled rows -----------------------------------------------------------------


@cache
def many_rows(n=4000):
    """An autoencoder of more rows than a sample takes."""
    rng = np.random.default_rng(0)
    network = MLP((40, 6, 40), ("tanh",))
    X = rng.standard_normal((n, 10)) @ rng.standard_normal((10, 40)) / 3
    X += 0.3 * rng.standard_normal(X.shape)
    theta = network.initialize(np.random.default_rng(0), np.float64)
    return GaussNewtonHessian(
        Linearization(network, theta, append_one(X)),
        LOSSES["identity"],
        np.full(n, 1 / n),
        1e-5 * network.weight_mask(),
    )


def rows_of(solver, H):
    return solver.sampled(H).linearization.n_rows


def test_rows_that_a_build_takes_do_not_grow_with_the_rows_there_are():
    # As many as the widest layer has inputs, and P / r; drawn twice, kept once.
    H = many_rows()
    most = 41 + H.shape[0] / 40
    for n in (1000, 4000):
        assert 0.9 * most < rows_of(HMatrix(24), many_rows(n)) <= most
        assert 80 < rows_of(HMatrix(24, epsilon=0.1), many_rows(n)) <= 100
        for solver in (HMatrix(24, epsilon=None), HMatrix(24, direct=True)):
            assert solver.sampled(many_rows(n)) is many_rows(n)
    assert rows_of(HMatrix(24, epsilon=0.1, direct=True), H) <= 100
    few = many_rows(50)
    assert HMatrix(24).sampled(few) is few
    dense = DenseMatrix(low_rank(70, 90))
    assert HMatrix(24).sampled(dense) is dense
    part = H.restricted(np.arange(50))
    assert HMatrix(24).sampled(part) is part


def test_build_of_a_sample_multiplies_by_nothing_else(monkeypatch):
    rows, product = [], GaussNewtonHessian._matmat

    def record(H, V):
        rows.append(H.linearization.n_rows)
        return product(H, V)

    monkeypatch.setattr(GaussNewtonHessian, "_matmat", record)
    factor = HMatrix(24, **EXACT).factor(many_rows())
    assert rows
    assert max(rows) < 100
    factor.inner.solve(np.ones(many_rows().shape[0]), 1e-2)
    # Nor does the choice: the first is taken.
    assert max(rows) < 100
    assert factor.products == 0


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "most"), [("auto", 2.8), (0.05, 1.3)])
def test_sample_keeps_the_iterations_low(epsilon, most):
    H = many_rows()
    for share in (1e-1, 1e-2):
        counts = []
        damping = share * H.diagonal().mean()
        for accuracy in (None, epsilon):
            solver = HMatrix(24, epsilon=accuracy, max_iter=2000, rtol=1e-3)
            factor = solver.factor(H)
            factor.solve(right_hand_side(H), damping)
            counts.append(factor.inner.iterations)
        assert counts[1] <= most * counts[0]


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", ["auto", 0.5])
def test_approximation_of_a_sample_is_positive_semidefinite(epsilon):
    H = many_rows()
    factor = HMatrix(24, epsilon=epsilon, **EXACT).factor(H)
    values = np.linalg.eigvalsh(array_of(factor.inner.approximation))
    assert values[0] >= -1e-12 * values[-1]
    A = H.toarray() + 1e-3 * np.eye(H.shape[0])
    x = factor.solve(right_hand_side(H), 1e-3)
    assert_close(x, np.linalg.solve(A, right_hand_side(H)), rtol=1e-8)


@pytest.mark.slow
def test_approximation_of_samples_is_without_bias():
    # Storage for all of the sample: the mean over seeds goes to H as they grow.
    H, n_seeds, epsilon = many_rows(), 64, 0.2
    A, total = H.toarray(), 0.0
    for seed in range(n_seeds):
        solver = HMatrix(300, epsilon=epsilon, random_state=seed)
        total = total + array_of(solver.factor(H).inner.approximation)
    error = np.linalg.norm(total / n_seeds - A)
    assert error <= 1.5 * epsilon * H.trace() / np.sqrt(n_seeds)
    assert error < 0.1 * np.linalg.norm(A)


def test_seed_decides_the_sample():
    H, rhs = many_rows(), right_hand_side(many_rows())
    first, again, other = (
        HMatrix(24, random_state=seed).factor(H).inner.solve(rhs, 1e-2)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.linalg.norm(first - other) > 1e-6 * np.linalg.norm(first)


@pytest.mark.slow
def test_determinant_is_of_all_rows_unless_an_accuracy_is_given():
    H = many_rows()
    exact, sampled, asked = (
        HMatrix(24, epsilon=epsilon).factor(H).logdet(1e-3)
        for epsilon in (None, "auto", 0.1)
    )
    expected = np.linalg.slogdet(H.toarray() + 1e-3 * np.eye(H.shape[0]))[1]
    # By a fifth either is the nearer one, as the seeds of the probes have it.
    assert abs(sampled - expected) <= 1.25 * abs(exact - expected) + 1e-6
    solver = HMatrix(24, epsilon=0.1)
    S = solver.sampled(H)
    own = solver.approximation(S, solver.choices(S)[0]).logdet(1e-3)
    assert asked == pytest.approx(own, rel=1e-12)
    assert abs(asked - sampled) > 1e-3 * abs(sampled)


# ---- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.5}, r"share must be in \[0, 1\], got 1.5"),
        ({"storage": 2, "share": 0.5}, "storage=2.0 numbers .* are too few"),
        ({"basis": "eigen"}, "Unknown basis 'eigen'; choose among"),
        ({"basis": "kronecker"}, "basis='kronecker' needs a Gauss-Newton Hessian"),
        ({"order": "random"}, "Unknown order 'random'"),
        ({"epsilon": 1.5}, r"epsilon must be in \(0, 1\], got 1.5"),
        ({"epsilon": "all"}, r"epsilon must be in \(0, 1\], got all"),
        ({"max_iter": 0}, "max_iter must be an integer >= 1, got 0"),
    ],
)
def test_parameters_that_are_off_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        HMatrix(**{"storage": 24, **settings}).factor(base())


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


@pytest.mark.slow
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
            model = GaussNewtonAutoencoder((6,), solver=solver, alpha=1e-4)
            rows = (digits[0][:60],)
        model = fit(model.set_params(**settings), *rows)
        assert model.n_iter_ == 20
        losses.append(model.loss_)
    assert losses[1] <= 1.01 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        HMatrix(32, order="angle", patience=0),
        HMatrix(direct=True),
        HMatrix(64, 0.5, "own"),
        HMatrix(48, 1.0, "kronecker"),
    ],
    ids=["angle", "direct", "own", "diagonal"],
)
def test_training_with_other_settings_falls_too(solver, digits):
    model = trained(solver, digits)
    assert model.loss_ < 0.5 * model.loss_curve_[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["multiclass", "multilabel", "several targets", "poisson", "autoencoder"]
)
def test_estimators_train_with_little_storage(kind):
    solver = HMatrix(storage=16)
    wide = {"autoencoder": {"encoder_layer_sizes": (12, 4)}}
    settings = wide.get(kind, {"hidden_layer_sizes": (12, 8)})
    ratios = []
    for seed in range(5):
        settings.update(max_iter=20, tol=0.0, random_state=seed)
        model = fitted(kind, solver=solver, **settings).estimator
        exact = fitted(kind, solver="dense", **settings).estimator
        assert len(parameters(model)) > 32
        assert model.loss_ < 0.9 * model.loss_curve_[0]
        ratios.append(model.loss_ / exact.loss_)
    # Twenty steps end anywhere near a minimum.
    assert np.median(ratios) < 1.5
