"""scikit-learn's own checks: by default, and with every solver. None may fail."""

import pytest
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from tasks import PENALISED

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.solvers import MFAC, SketchedGram, all_solvers

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# The checks compare fits to seven digits. Few iterations keep rounding from growing
# beyond that, which it does in any training that is not convex.
FEW = PENALISED | {"max_iter": 10}
# Iterations on 15 rows go on after they have found all that there is to find, and lose
# digits in an ill-conditioned system; a penalty and a damping bound its condition.
BOUNDED = PENALISED | {"max_iter": 2, "alpha": 1, "damping": 10}
# Iterations that end early end elsewhere when rows are weighted instead of repeated.
PRECISE = {"solver": SketchedGram(rtol=1e-12)} | FEW
SETTINGS = {
    "cg": BOUNDED,
    "kfac": BOUNDED,
    "hmatrix": BOUNDED,
    "sketched_gram": PRECISE,
    # Its draws are of each row, however often that is repeated: only solutions that do
    # not depend on the preconditioner are alike.
    "mfac": BOUNDED | {"solver": MFAC(rtol=1e-10)},
}


def defaults():
    yield GaussNewtonMLPClassifier()
    yield GaussNewtonMLPRegressor()
    # Wider, `auto` takes an exact solver for rows with weights and a truncated one for
    # the many more that are repeated; longer, rounding grows.
    yield GaussNewtonAutoencoder((6, 2), max_iter=10)


def others():
    yield GaussNewtonMLPRegressor("poisson")
    settings = FEW | {"standardize": True}
    yield GaussNewtonMLPClassifier((10,), **settings)
    yield GaussNewtonMLPRegressor(hidden_layer_sizes=(10,), **settings)
    yield GaussNewtonMLPRegressor("poisson", (10,), **settings)
    yield GaussNewtonAutoencoder((6, 2), **settings)
    for name in all_solvers():
        settings = {"solver": name} | SETTINGS.get(name, FEW)
        yield GaussNewtonMLPClassifier((10,), **settings)
        yield GaussNewtonMLPRegressor(hidden_layer_sizes=(10,), **settings)
        yield GaussNewtonAutoencoder((6, 2), **settings)


def passes(estimator, check):
    name = getattr(check, "func", check).__name__
    if name.endswith("on_sparse_data") and not get_tags(estimator).input_tags.sparse:
        pytest.skip("scikit-learn 1.6 asks for it in spite of the tag")
    check(estimator)


@parametrize_with_checks(list(defaults()))
def test_estimators_pass_the_checks(estimator, check):
    passes(estimator, check)


@pytest.mark.slow
@parametrize_with_checks(list(others()))
def test_other_settings_pass_the_checks(estimator, check):
    passes(estimator, check)
