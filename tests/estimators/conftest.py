"""What holds for every call of these tests."""

import pickle
from copy import copy
from functools import cache, wraps

import pytest
from tasks import MODES, fitted

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.estimators.publish import learned

KINDS = {
    GaussNewtonMLPClassifier: "multiclass",
    GaussNewtonMLPRegressor: "regression",
    GaussNewtonAutoencoder: "autoencoder",
}
REFUSALS = (ValueError, TypeError)


@cache
def learned_before(kind, mode):
    """What a fitted estimator has learned; whoever takes it must not change it."""
    return learned(fitted(kind, max_iter=1, **MODES[mode]).estimator)


def assert_left_alone(estimator, before, error):
    # Nothing of it is made anew: it is the same byte by byte.
    assert pickle.dumps(vars(estimator)) == before, f"changed by {error!r}"


def watched(method, kind):
    """The method, which fails where it raises but leaves a changed model.

    What it refuses of a model that is not fitted, a fitted one refuses too.
    """

    def call(self, *args, **kwargs):
        before = pickle.dumps(vars(self))
        try:
            return method(self, *args, **kwargs)
        except REFUSALS as error:
            assert_left_alone(self, before, error)
            raise

    @wraps(method)
    def both(self, *args, **kwargs):
        is_fitted = self.is_fitted
        try:
            return call(self, *args, **kwargs)
        except REFUSALS:
            if method.__name__ == "fit" and not is_fitted:
                mode = "evidence" if isinstance(self.alpha, str) else "penalised"
                model = copy(self).set_params(warm_start=False)
                for name, value in learned_before(kind, mode).items():
                    setattr(model, name, value)
                with pytest.raises(REFUSALS):
                    call(model, *args, **kwargs)
            raise

    return both


@pytest.fixture(autouse=True)
def refusals_leave_the_model_as_it_was(monkeypatch):
    for kind in KINDS:
        for name in ("fit", "partial_fit"):
            method = watched(getattr(kind, name), KINDS[kind])
            monkeypatch.setattr(kind, name, method)
