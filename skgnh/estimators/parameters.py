"""The estimators' parameters, checked and read."""

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_scalar

from skgnh.linalg import check_choice, check_seed
from skgnh.messages import warn
from skgnh.network import INITS
from skgnh.solvers import KFAC, Auto, Solver, all_solvers

# Rows that estimate the curvature well enough for a step, and the share of all that
# the evidence asks for.
_CURVATURE_ROWS = 2000
_CURVATURE_SHARE = 0.1


ALPHAS = ("evidence", "ard")


def check_parameters(estimator: Any) -> None:
    """Raise a ValueError or TypeError that names the parameter at fault."""
    open_ended = {"include_boundaries": "neither"}
    bounds: dict[str, tuple[Any, dict[str, Any]]] = {
        "damping": (Real, {"min_val": 0, **open_ended}),
        "max_iter": (Integral, {"min_val": 1}),
        "validation_fraction": (Real, {"min_val": 0, "max_val": 1, **open_ended}),
    }
    parameters = estimator.get_params(deep=False)
    if isinstance(estimator.alpha, str):
        if estimator.alpha not in ALPHAS:
            raise ValueError(
                f"alpha must be a number or one of {ALPHAS}, got {estimator.alpha!r}."
            )
    else:
        bounds["alpha"] = (Real, {"min_val": 0})
    for name, least in (("tol", 0), ("n_iter_no_change", 1)):
        if parameters[name] != "auto":
            bounds[name] = (Real, {"min_val": least})
    for name, (kind, limits) in bounds.items():
        value = parameters[name]
        check_scalar(value, name, kind, **limits)
        if np.isnan(value) or (np.isinf(value) and name != "n_iter_no_change"):
            raise ValueError(f"{name} must be finite, got {value}.")
    check_seed(estimator.random_state)
    check_choice(estimator.init, "init", INITS)
    check_choice(parameters.get("average", False), "average", (True, False))
    _check_noise(parameters)
    for name in ("batch_size", "curvature_batch_size"):
        if parameters[name] != "auto":
            check_scalar(parameters[name], name, Integral, min_val=1)


def _check_noise(parameters: dict) -> None:
    noise = parameters.get("noise", "constant")
    check_choice(noise, "noise", ("constant", "heteroscedastic"))
    if noise == "constant":
        return
    if parameters["loss"] != "squared_error":
        raise ValueError(f"noise={noise!r} needs loss='squared_error'.")
    if not isinstance(parameters["alpha"], str):
        raise ValueError(
            f"noise={noise!r} needs alpha='evidence' or 'ard', which tell noise from "
            "error."
        )


def stopping(estimator: Any) -> tuple[float, float]:
    """Return `tol` and `n_iter_no_change`, those of 'auto' by what is watched."""
    tol, patience = estimator.tol, estimator.n_iter_no_change
    by_evidence = isinstance(estimator.alpha, str) and not estimator.early_stopping
    if tol == "auto":
        tol = 1e-3 if by_evidence else 1e-5
    if patience == "auto":
        patience = 3 if by_evidence else 10
    return tol, patience


def make_solver(solver: Any, for_evidence: bool = False) -> Solver:
    """Return a fresh solver of the given name or a clone of the given one.

    That of `auto` for the evidence gives determinants and traces too.
    """
    if for_evidence and solver in ("auto", "kfac"):
        iterative = KFAC(n_probes=2, refresh=1, max_iter=5)
        return Auto(iterative) if solver == "auto" else iterative
    if isinstance(solver, Solver):
        return clone(solver)
    solvers = all_solvers()
    if solver not in solvers:
        raise ValueError(
            f"Unknown solver {solver!r}; choose among {sorted(solvers)} "
            "or pass an instance of skgnh.solvers.Solver."
        )
    return solvers[solver]()


def batch_sizes(estimator: Any, n_rows: int) -> tuple[int, int]:
    """Return how many rows serve a gradient and a curvature."""
    gradient = n_rows if estimator.batch_size == "auto" else estimator.batch_size
    if gradient > n_rows:
        warn(f"batch_size={gradient} is larger than the {n_rows} rows: all are taken.")
        gradient = n_rows
    curvature = estimator.curvature_batch_size
    if curvature == "auto":
        curvature = _CURVATURE_ROWS
        if isinstance(estimator.alpha, str):
            curvature = max(curvature, int(_CURVATURE_SHARE * gradient))
    return gradient, min(curvature, gradient)


def layer_sizes(sizes: Any, name: str) -> list[int]:
    """Return layer widths as a list; a single width is one layer.

    Raises
    ------
    ValueError
        If a width is not a positive integer.
    """
    widths = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if not all(isinstance(width, Integral) and int(width) > 0 for width in widths):
        raise ValueError(f"{name} must be positive integers, got {sizes!r}.")
    return [int(width) for width in widths]


def held_layers(trainable: Any, n_layers: int) -> list[int]:
    """Return the layers that are not trained, given those that are or None for all.

    Raises
    ------
    ValueError
        If `trainable` is no sequence of layers, or empty.
    """
    if trainable is None:
        return []
    layers = trainable if isinstance(trainable, Iterable) else ()
    layers = [] if isinstance(layers, str) else list(layers)
    if not layers or not all(
        isinstance(k, Integral) and -n_layers <= int(k) < n_layers for k in layers
    ):
        raise ValueError(
            "trainable_layers must be None or a sequence of at least one of the layers "
            f"{-n_layers} to {n_layers - 1}, got {trainable!r}."
        )
    trained = {int(k) % n_layers for k in layers}
    return [k for k in range(n_layers) if k not in trained]
