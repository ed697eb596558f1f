"""From an estimator and its data to a problem and a method; the estimator stays."""

from typing import Any

from sklearn.utils import check_random_state

from skgnh.arrays import as_precision, like, precision
from skgnh.estimators.fit import Fit, assemble_fit
from skgnh.estimators.ground import (
    Data,
    Ground,
    learn_scaling,
    read,
    warn_of_one_row,
)
from skgnh.estimators.parameters import check_parameters, make_solver
from skgnh.estimators.publish import draft_of
from skgnh.estimators.stream import joined, moved
from skgnh.network import MLP
from skgnh.operators.from_estimator import check_place

Array = Any


def prepare(estimator: Any, data: Data, incremental: bool) -> Fit:
    """Check everything and return the fit; nothing of the estimator changes.

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data are at fault.
    """
    check_parameters(estimator)
    solver = make_solver(estimator.solver, isinstance(estimator.alpha, str))
    if isinstance(estimator.alpha, str) and solver.curvature != "gauss_newton":
        raise ValueError(
            f"alpha={estimator.alpha!r} needs the Gauss-Newton Hessian, which "
            f"{solver} does not take: give alpha a number."
        )
    goes_on = estimator.is_fitted and (estimator.warm_start or incremental)
    draft = draft_of(estimator, keep=goes_on)
    if not incremental:
        vars(draft).pop("_stream_", None)
    rows, held_out = read(draft, data, goes_on, incremental)
    network = draft._make_network(rows.X, rows.targets)
    rng = check_random_state(estimator.random_state)
    solver.check_library(rows.X)
    if goes_on:
        check_place(rows.X, estimator.coefs_[0], estimator)
        start = _present_weights(estimator, network, precision(rows.X))
    else:
        start = network.initialize(rng, precision(rows.X), estimator.init)
        start = like(start, rows.X)
    if estimator.early_stopping and not incremental and held_out is None:
        strata = draft._strata(rows.targets)
        rows, held_out = rows.split(estimator.validation_fraction, strata, rng)
    if held_out is not None:
        warn_of_one_row(held_out)
    rows = rows.with_weight()
    scaling = learn_scaling(draft, rows, goes_on, incremental)
    if goes_on:
        start = scaling.unfold(network, start)
    stream = None
    if incremental and isinstance(estimator.alpha, str):
        own = draft._state_.rng if goes_on else rng
        stream = moved(joined(estimator, rows, own), scaling, network)
        rows = stream.rows
    rows = rows.scaled(scaling)
    ground = Ground(draft, solver, rows, held_out, rng, goes_on, incremental, stream)
    return assemble_fit(ground, network, start)


def _present_weights(estimator: Any, network: MLP, dtype: Any) -> Array:
    """Return the fitted parameters, to go on from.

    Raises
    ------
    ValueError
        If the layers have changed.
    """
    if estimator._network != network:
        raise ValueError(
            f"The fitted {estimator._network} cannot go on as {network}: refit with "
            "warm_start=False."
        )
    theta = network.from_coefs(estimator.coefs_, estimator.intercepts_)
    return as_precision(theta, dtype)
