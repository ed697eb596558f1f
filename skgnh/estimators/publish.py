"""Where the attributes of an estimator change: here alone."""

from copy import copy
from typing import Any

import numpy as np

from skgnh.estimators.prior import EVIDENCE
from skgnh.training import State, Training


def learned(estimator: Any) -> dict[str, Any]:
    """Return what an estimator has learned, by scikit-learn's rule of the names."""
    return {
        name: value
        for name, value in vars(estimator).items()
        if name.endswith("_") and not name.startswith("__")
    }


def draft_of(estimator: Any, keep: bool) -> Any:
    """Return a copy that may read data, with or without what was learned before.

    What the evidence said of the parameters is not of those to come.
    """
    draft, names = copy(estimator), learned(estimator).keys()
    for name in names & {*EVIDENCE, "noise_model_"} if keep else names:
        delattr(draft, name)
    return draft


def publish(estimator: Any, attributes: dict[str, Any]) -> None:
    """Let an estimator have learned these attributes and no others."""
    for name in learned(estimator).keys() - attributes.keys():
        delattr(estimator, name)
    for name, value in attributes.items():
        setattr(estimator, name, value)


def refuse_overflow(estimator: Any, before: dict[str, Any], loss: float) -> None:
    """Put an estimator back to what it was before a training that led nowhere.

    Steps on few rows may leave others behind, and a prior may weigh large parameters.

    Raises
    ------
    ValueError
        If the loss is infinite.
    """
    if np.isfinite(loss):
        return
    vars(estimator).clear()
    vars(estimator).update(before)
    raise ValueError(
        "The objective overflows at the end: scale X and y, for example by "
        "standardize=True, or take a larger batch_size."
    )


def weights_of(network: Any, theta: Any, scaling: Any) -> dict[str, Any]:
    """Return the attributes that make up a network of raw columns."""
    coefs, intercepts = network.to_coefs(scaling.fold(network, theta))
    return {
        "coefs_": coefs,
        "intercepts_": intercepts,
        "hidden_activations_": list(network.activations),
        "n_layers_": len(network.layer_units),
        "n_outputs_": network.n_outputs,
    }


def records_of(training: Training, state: State) -> dict[str, Any]:
    """Return the attributes that tell of a training."""
    losses, scores = training.validation_loss_curve, training.validation_scores
    best = min(training.loss_curve, default=np.inf)
    return {
        "n_iter_": training.n_iter,
        "loss_": training.problem.objective.value(training.theta),
        "best_loss_": None if training.early_stopping else best,
        "loss_curve_": list(training.loss_curve),
        "validation_loss_curve_": list(losses) or None,
        "validation_scores_": list(scores) or None,
        "best_validation_score_": max(scores, default=None),
        "history_": training.history(),
        "damping_": state.damping,
        "solver_": training.solver,
        "_state_": state,
    }
