"""OBSPruner(sparsity='evidence'): weights go while the evidence rises."""

import numpy as np
import pytest
from marks import slow_unless
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.frozen import FrozenEstimator
from spectra import fitted_state
from tasks import KINDS, assert_same_model, fit, fitted, parameters, task

from skgnh import GaussNewtonMLPRegressor
from skgnh.inspection import OBSPruner, prune
from skgnh.inspection.likeliest import likeliest

CHEAP = {"n_steps": 3, "n_gradients": 64, "n_rows": 4, "random_state": 0}
EVERY = pytest.mark.parametrize("kind", KINDS)


def pruner_of(network, **settings):
    return OBSPruner(network, sparsity="evidence", **{**CHEAP, **settings})


def friedman(n=300):
    """Ten columns, of which the last five are noise."""
    return make_friedman1(n, noise=1.0, random_state=0)


# ---- what is left --------------------------------------------------------------------


@pytest.mark.slow
def test_columns_of_noise_lose_most_of_their_weights_and_predictions_are_better():
    X, y = friedman()
    X_test, y_test = make_friedman1(1000, noise=1.0, random_state=1)
    network = GaussNewtonMLPRegressor(random_state=0).fit(X, y)
    pruner = OBSPruner(
        network, sparsity="evidence", block_size=256, prefit=True, random_state=0
    ).fit(X, y)
    left = np.mean(pruner.estimator_.coefs_[0] != 0, axis=1)
    assert left[5:].mean() < 0.2
    assert left[5:].mean() < left[:5].mean()
    assert pruner.score(X_test, y_test) > network.score(X_test, y_test)
    gain = pruner.estimator_.log_marginal_likelihood_ - network.log_marginal_likelihood_
    assert gain > 50


@EVERY
@pytest.mark.parametrize("alpha", slow_unless("ard".__eq__, ["evidence", "ard"]))
def test_evidence_rises_and_zeros_are_told(kind, alpha):
    network, X, y = fitted(kind, alpha=alpha)
    before = fitted_state(network)
    pruner = fit(pruner_of(network, prefit=True), X, y)
    found = pruner.estimator_
    # Each training ends a little short of its maximum.
    assert found.log_marginal_likelihood_ >= network.log_marginal_likelihood_ - 1e-2
    assert fitted_state(network) == before
    assert 0 <= pruner.sparsity_ <= 0.81
    for coef, mask in zip(found.coefs_, found.pruned_, strict=True):
        assert not coef[mask].any()
    zeros = sum(int(mask.sum()) for mask in found.pruned_)
    assert pruner.sparsity_ == zeros / sum(coef.size for coef in found.coefs_)
    # Its parameters, those of its fit included, are the network's.
    assert found.get_params() == network.get_params()
    assert np.isfinite(parameters(found)).all()


@pytest.mark.parametrize("solver", slow_unless("gram".__eq__, ["cg", "kfac", "gram"]))
def test_solvers_without_a_determinant_are_replaced_for_it(solver):
    estimator, X, y = task("multiclass", alpha="evidence", solver=solver, max_iter=10)
    pruner = fit(pruner_of(estimator), X, y)
    assert pruner.estimator_.solver == solver
    expected = fit(pruner_of(fitted("multiclass", alpha="evidence").estimator), X, y)
    log_evidence = expected.estimator_.log_marginal_likelihood_
    assert abs(pruner.estimator_.log_marginal_likelihood_ - log_evidence) < 10


def test_units_without_a_way_out_are_no_trouble():
    X, y = friedman(100)
    network = GaussNewtonMLPRegressor(hidden_layer_sizes=6, random_state=0).fit(X, y)
    dropped = network._dropped
    network._network.unpack(dropped)[1][:, :4] = True
    theta = np.where(dropped, 0, network._scaled_parameters)
    network = network._with_dropped(theta, dropped, np.nan)
    pruner = pruner_of(network, prefit=True).fit(X, y)
    assert np.isfinite(pruner.estimator_.log_marginal_likelihood_)
    assert pruner.score(X, y) > 0.5


def test_noise_alone_leaves_a_constant():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 3)), rng.standard_normal(60)
    pruner = pruner_of(GaussNewtonMLPRegressor(hidden_layer_sizes=5, random_state=0))
    pruner.fit(X, y)
    assert np.isfinite(pruner.estimator_.log_marginal_likelihood_)
    assert pruner.score(X, y) < 0.3


# ---- the steps -----------------------------------------------------------------------


class Scripted:
    """A network whose evidence after so many weights went is given."""

    solver, early_stopping, warm_start = "cg", True, False

    def __init__(self, script, gone=0):
        self.script, self.gone = script, gone

    def set_params(self, **params):
        vars(self).update(params)
        return self

    def fit(self):
        self.log_marginal_likelihood_ = self.script[self.gone]
        return self


@pytest.mark.parametrize(
    ("script", "kept", "seen"),
    [
        ([0, 1, 2, 3], 3, 3),
        ([3, 2, 1, 9], 0, 2),
        ([0, 5, 4, 6, 5, 5, 9], 3, 5),
        ([1, 1, 1, 0], 2, 3),
    ],
)
def test_most_evidence_is_kept_and_two_falls_in_a_row_are_the_end(script, kept, seen):
    calls = []

    def cut(network, *counts):
        calls.append(network.gone + sum(counts))
        return Scripted(script, calls[-1])

    best = likeliest(Scripted(script), (), cut, [1] * (len(script) - 1))
    assert best.gone == kept
    assert calls[-1] == seen
    assert (best.solver, best.early_stopping, best.warm_start) == ("cg", True, False)


@pytest.mark.slow
def test_same_seed_same_network_prefit_or_not():
    estimator, X, y = task("regression", alpha="evidence", max_iter=10)
    one = fit(pruner_of(estimator), X, y)
    assert_same_model(fit(clone(one), X, y).estimator_, one.estimator_)
    network = fit(clone(estimator), X, y)
    for prefit in (
        pruner_of(network, prefit=True),
        pruner_of(FrozenEstimator(network)),
    ):
        assert_same_model(fit(prefit, X, y).estimator_, one.estimator_)
    again = prune(network, X, y, sparsity="evidence", **CHEAP)
    assert_same_model(again, one.estimator_)


def test_present_zeros_stay():
    network, X, y = fitted("regression", alpha="evidence")
    sparse = prune(network, X, y, sparsity=0.9, **CHEAP)
    pruner = fit(pruner_of(sparse, prefit=True), X, y)
    assert pruner.sparsity_ == pytest.approx(0.9, abs=0.02)


# ---- refusals ------------------------------------------------------------------------


def test_a_given_alpha_has_no_evidence():
    estimator, X, y = task("regression", alpha=0.1)
    with pytest.raises(ValueError, match="needs a network with alpha='evidence'"):
        pruner_of(estimator).fit(X, y)
    network = fitted("regression", alpha=0.1).estimator.set_params(alpha="ard")
    with pytest.raises(ValueError, match="fitted by the evidence: fit it with"):
        pruner_of(network, prefit=True).fit(X, y)


def test_other_words_are_refused():
    estimator, X, y = task("regression", alpha="evidence")
    with pytest.raises(ValueError, match="Unknown sparsity 'auto'"):
        pruner_of(estimator).set_params(sparsity="auto").fit(X, y)
