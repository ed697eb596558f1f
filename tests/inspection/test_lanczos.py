import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator
from sklearn import config_context

from skgnh.inspection.lanczos import (
    gauss_rule,
    lanczos,
    radau_diagonals,
    random_recurrences,
)
from skgnh.inspection.measure import (
    effective_dimension,
    gaussian_density,
    spectral_measures,
)

P = 60


def matrix(values, seed=0):
    """A symmetric matrix of given eigenvalues, and its eigenvectors as rows."""
    rng = np.random.default_rng(seed)
    U, _ = np.linalg.qr(rng.standard_normal((len(values), len(values))))
    return aslinearoperator((U * values) @ U.T), U.T


def unit_starts(m, seed=0):
    starts = np.random.default_rng(seed).standard_normal((m, P))
    return starts / np.linalg.norm(starts, axis=1, keepdims=True)


def tridiagonal(diagonal, off_diagonal):
    return np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)


def test_all_steps_give_all_eigenvalues():
    values = np.geomspace(1e-6, 1, P)
    H, _ = matrix(values)
    for T in map(tridiagonal, *lanczos(H, unit_starts(3), P)):
        np.testing.assert_allclose(np.linalg.eigvalsh(T), values, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gauss_rule_is_exact_for_polynomials(steps):
    H, _ = matrix(np.linspace(0, 1, P))
    starts = unit_starts(2)
    nodes, weights = gauss_rule(*lanczos(H, starts, steps))
    assert weights.sum() == pytest.approx(1)
    power = starts.T
    for degree in range(2 * steps):
        expected = np.mean(np.sum(starts.T * power, axis=0))
        assert np.sum(weights * nodes**degree) == pytest.approx(expected, rel=1e-10)
        power = H @ power


def test_no_eigenvalue_is_repeated_as_a_ghost():
    values = np.concatenate([np.linspace(0, 1e-3, P - 1), [1.0]])
    H, _ = matrix(values)
    nodes, _ = gauss_rule(*lanczos(H, unit_starts(1), 40))
    assert np.sum(nodes > 0.5) == 1


def test_recurrence_ends_where_the_krylov_space_does():
    values = np.concatenate([np.zeros(P - 3), [1.0, 2.0, 3.0]])
    H, _ = matrix(values)
    diagonals, off_diagonals = lanczos(H, unit_starts(2), 10)
    assert (off_diagonals[:, :3] > 0).all()
    assert off_diagonals[:, 3:].max() < 1e-12
    nodes, weights = gauss_rule(diagonals, off_diagonals)
    assert weights.sum() == pytest.approx(1)
    for row in nodes:
        np.testing.assert_allclose(row, [*np.zeros(7), 1, 2, 3], atol=1e-12)


def test_zero_matrix_has_all_nodes_at_zero():
    nodes, weights = gauss_rule(
        *lanczos(aslinearoperator(np.zeros((P, P))), unit_starts(2), 4)
    )
    assert not nodes.any()
    assert weights.sum() == pytest.approx(1)


def test_recurrence_stays_in_the_complement():
    values = np.arange(1.0, P + 1)
    H, vectors = matrix(values)
    nodes, _ = gauss_rule(
        *random_recurrences(H, 2, P, np.random.RandomState(0), vectors[-10:])
    )
    assert nodes.shape == (2, P - 10)
    np.testing.assert_allclose(nodes, np.tile(values[:-10], (2, 1)))


def test_probes_taken_one_at_a_time_are_the_same():
    H, _ = matrix(np.linspace(0, 1, P))
    together = random_recurrences(H, 5, 4, np.random.RandomState(0))
    with config_context(working_memory=9 * P * 8 / 2**20):
        apart = random_recurrences(H, 5, 4, np.random.RandomState(0))
    for a, b in zip(together, apart, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_vectors_beyond_the_working_memory_are_refused():
    H, _ = matrix(np.linspace(0, 1, P))
    rng = np.random.RandomState(0)
    with (
        config_context(working_memory=4 * P * 8 / 2**20),
        pytest.raises(ValueError, match="4 Lanczos vectors needs"),
    ):
        random_recurrences(H, 5, 4, rng)


def test_radau_rule_has_a_node_at_zero_and_keeps_the_moments():
    H, _ = matrix(np.linspace(0.1, 1, P))
    T = lanczos(H, unit_starts(1), 5)
    nodes, weights = gauss_rule(*T)
    pinned, shares = gauss_rule(radau_diagonals(*T), T[1])
    assert abs(pinned[0, 0]) < 1e-12
    for degree in range(9):
        assert np.sum(shares * pinned**degree) == pytest.approx(
            np.sum(weights * nodes**degree)
        )


def test_radau_rule_outlasts_the_recurrence():
    diagonals, off_diagonals = np.array([[0.0, 0.0, 2.0]]), np.array([[0.0, 1.0]])
    pinned = radau_diagonals(diagonals, off_diagonals)
    assert np.isfinite(pinned).all()
    nodes, weights = gauss_rule(pinned, off_diagonals)
    assert np.sum(weights * nodes**2) == pytest.approx(0)


def test_rounding_below_the_eigenvalues_known_is_not_followed():
    values = np.concatenate([np.zeros(P - 2), [1.0, 1e3]])
    H, vectors = matrix(values)
    rng = np.random.RandomState(0)
    T = random_recurrences(H, 2, 8, rng, vectors[-2:], norm=1e3)
    assert np.abs(T[0]).max() < 1e-12
    assert not T[1].any()


@pytest.mark.parametrize("damping", [1e-5, 1e-3, 1e-1])
@pytest.mark.parametrize("steps", [2, 8, 30])
def test_two_rules_enclose_the_effective_dimension(damping, steps):
    values = np.geomspace(1e-6, 1, P)
    H, vectors = matrix(values)
    starts = unit_starts(3)
    T = lanczos(H, starts, steps)
    shares = (starts @ vectors.T) ** 2
    exact = np.mean(shares @ (values / (values + damping)))
    above = effective_dimension(*gauss_rule(*T), damping, 0)
    below = effective_dimension(*gauss_rule(radau_diagonals(*T), T[1]), damping, 0)
    assert below <= exact + 1e-9
    assert exact - 1e-9 <= above


def test_measure_has_mass_one_and_the_right_moments():
    rng = np.random.RandomState(0)
    values = np.concatenate([np.geomspace(1e-4, 1, P - 3), [10.0, 30.0, 100.0]])
    H, vectors = matrix(values)
    known, m = 3, 20
    measures = spectral_measures(H, values[:-4:-1], vectors[:-4:-1], m, 8, rng)
    q, rest = P - known, values[:-known]
    for nodes, weights in measures:
        assert weights.sum() == pytest.approx(1)
        assert (nodes >= 0).all()
        for f in (rest, rest**2):
            # Variance of u^T A u over the unit sphere in q dimensions.
            spread = 2 / (q + 2) * (np.mean(f**2) - np.mean(f) ** 2)
            error = q * (spread / m) ** 0.5
            power = 1 if f is rest else 2
            found = P * np.sum(weights * nodes**power)
            exact = np.sum(values**power)
            assert 0 < abs(found - exact) < 4 * error


def test_measure_of_a_known_spectrum_is_exact():
    values = np.array([3.0, 2.0, 0.0])
    ((nodes, weights),) = spectral_measures(
        aslinearoperator(np.diag(values)), values, None, 1, 1, None
    )
    np.testing.assert_array_equal(nodes, values)
    np.testing.assert_array_equal(weights, np.full(3, 1 / 3))


def test_densities_are_normal_curves():
    nodes, weights = np.array([1.0, 100.0]), np.array([0.25, 0.75])
    flat = gaussian_density([1.0, 1.5], nodes, weights, 0.5)
    np.testing.assert_allclose(
        flat, 0.25 / (0.5 * np.sqrt(2 * np.pi)) * np.exp([0, -0.5])
    )
    logarithmic = gaussian_density([[10.0, 100.0]], nodes, weights, 0.1, log=True)
    peak = 0.75 / (0.1 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(logarithmic, [[0, peak]], atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0.0}, "width must be positive"),
        ({"width": -1.0}, "width must be positive"),
        ({"log": True}, "logarithmic axis must be positive"),
    ],
)
def test_density_refuses_what_it_cannot_smooth(settings, message):
    with pytest.raises(ValueError, match=message):
        gaussian_density([0.0, 1.0], np.ones(1), np.ones(1), **settings)
