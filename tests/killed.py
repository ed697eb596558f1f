"""What a process of its own does that a test kills."""

import os

import numpy as np
from tasks import fit, parameters, task

from skgnh import Checkpoint


def long_fit(path, resume_from=None, **settings):
    """A fit of many short iterations, written after each."""
    drawn = {"batch_size": 30, "max_iter": 30, "tol": 0, **settings}
    drawn["n_iter_no_change"] = 60
    estimator, X, y = task("regression", **drawn)
    estimator.set_callbacks(Checkpoint(path, every=1))
    return fit(estimator, X, y, resume_from=resume_from)


def go_on(path, result, settings):
    """Go on from the file, if there is one, and leave the weights."""
    model = long_fit(path, path if os.path.exists(path) else None, **settings)
    np.save(result, parameters(model))


def predict(path, rows, result):
    """Load a pickled model and leave what it says of rows."""
    import pickle

    with open(path, "rb") as file:
        model = pickle.load(file)
    np.save(result, model.predict(np.load(rows)))
