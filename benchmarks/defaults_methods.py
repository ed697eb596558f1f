"""Methods of the benchmark of defaults: this package's and its peers."""

from importlib.util import find_spec

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgnh import GaussNewtonMLPClassifier, GaussNewtonMLPRegressor

GRID = {
    "alpha": np.logspace(-5, 1, 7).tolist(),
    "hidden_layer_sizes": [(50,), (100,), (100, 100)],
    "early_stopping": [False, True],
}
FOLDS = 5
# Beyond the default of 200, at which small tables are still far from trained.
TUNED_EPOCHS = 1000
GP_ROWS = 1500


def _ours(classes, shape, seed):
    kind = GaussNewtonMLPClassifier if classes else GaussNewtonMLPRegressor
    return kind(random_state=seed)


def _mlp(classes, shape, seed):
    kind = MLPClassifier if classes else MLPRegressor
    return kind(random_state=seed)


def _tuned(classes, shape, seed):
    # Files may be in order: folds without shuffling would choose for other rows.
    folds = StratifiedKFold if classes else KFold
    return GridSearchCV(
        _mlp(classes, shape, seed).set_params(max_iter=TUNED_EPOCHS),
        GRID,
        cv=folds(FOLDS, shuffle=True, random_state=seed),
        scoring="neg_log_loss" if classes else "neg_mean_squared_error",
    )


def _boosting(classes, shape, seed):
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return kind(random_state=seed)


def _gp(classes, shape, seed):
    rows, features = shape
    if classes or rows > GP_ROWS:
        return None
    kernel = ConstantKernel() * RBF(np.ones(features)) + WhiteKernel(0.1)
    return GaussianProcessRegressor(kernel, random_state=seed)


def _realmlp(classes, shape, seed):
    from pytabkit import RealMLP_TD_S_Classifier, RealMLP_TD_S_Regressor

    settings = {"random_state": seed, "device": "cpu", "n_threads": 1, "verbosity": 0}
    if not classes:
        return RealMLP_TD_S_Regressor(**settings)
    # Its defaults are for accuracy: this is what its authors advise for the log-loss.
    return RealMLP_TD_S_Classifier(
        **settings, use_ls=False, val_metric_name="cross_entropy"
    )


def _constant(classes, shape, seed):
    return DummyClassifier(strategy="prior") if classes else DummyRegressor()


CONSTANT, OURS, RAW = "constant", "skgnh", "raw"
METHODS = {
    CONSTANT: _constant,
    OURS: _ours,
    RAW: _ours,
    "mlp": _mlp,
    "tuned": _tuned,
    "boosting": _boosting,
    "gp": _gp,
    "realmlp": _realmlp,
}
LABELS = {
    CONSTANT: "best constant",
    OURS: "skgnh",
    RAW: "skgnh, raw columns",
    "mlp": "MLP, defaults",
    "tuned": "MLP, tuned",
    "boosting": "boosting",
    "gp": "Gaussian process",
    "realmlp": "RealMLP-TD-S",
}
PEERS = tuple(name for name in METHODS if name not in (CONSTANT, OURS))


def installed(name):
    """Whether what a method needs is there."""
    return name != "realmlp" or find_spec("pytabkit") is not None


def make_model(name, classes, shape, seed):
    """A method, scaled rows and targets and all; None where it does not apply.

    Parameters
    ----------
    name : str
        One of METHODS.
    classes : int
        How many, 0 for regression.
    shape : tuple of int
        Training rows and columns.
    seed : int
        Of all that is drawn.
    """
    model = METHODS[name](classes, shape, seed)
    if model is None or name in (RAW, CONSTANT):
        return model
    model = make_pipeline(StandardScaler(), model)
    if classes:
        return model
    return TransformedTargetRegressor(model, transformer=StandardScaler())
