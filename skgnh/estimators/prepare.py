"""From an estimator and its data to a problem and a method; the estimator stays."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from skgnh.estimators.parameters import batch_sizes, check_parameters, make_solver
from skgnh.estimators.prior import learned_of, make_prior, penalty_of
from skgnh.estimators.publish import draft_of, records_of
from skgnh.estimators.rows import Rows, loss_unit, start_from_base_rate
from skgnh.losses import LOSSES
from skgnh.messages import warn
from skgnh.network import MLP
from skgnh.objective import RestrictedObjective
from skgnh.operators.from_estimator import check_sample_weight
from skgnh.scaling import Moments, Scaling
from skgnh.training import (
    Evidence,
    FullBatch,
    LevenbergMarquardt,
    MiniBatches,
    Patience,
    Problem,
    State,
    Streamed,
    Training,
    nielsen,
    success,
)

Array = Any

# First noise variance, as a share of the targets' variance.
_FIRST_NOISE = 0.1


class Data(NamedTuple):
    """What the user hands to `fit`."""

    X: Any
    y: Any = None
    sample_weight: Any = None
    X_val: Any = None
    y_val: Any = None
    sample_weight_val: Any = None
    classes: Any = None
    """All labels, in the first call of `partial_fit`."""


@dataclass
class Fit:
    """All that a training needs."""

    draft: Any
    """A copy of the estimator that has read the data."""
    network: MLP
    training: Training
    method: Any
    state: State
    expand: Callable[[Array], Array]
    """Gives all parameters from those that are trained."""
    batch: int
    """Rows of the smallest frequent products."""

    def records(self) -> dict[str, Any]:
        """Return the attributes that tell of the training, and of its evidence."""
        training, state = self.training, self.state
        if state.hyper is None:
            return records_of(training, state) | {"_penalty_": None}
        objective, prior = training.problem.objective, self.method.prior
        posterior = training.posterior
        hyper = state.hyper if posterior is None else posterior.hyper
        objective.ridge = self.method.ridge(objective, hyper)
        loss = LOSSES[self.draft.out_activation_]
        penalty = penalty_of(self.network, prior, hyper, loss)
        made = records_of(training, state) | {"_penalty_": penalty}
        if posterior is not None:
            made |= learned_of(
                self.network,
                prior,
                posterior,
                loss,
                self.draft._scaling_,
                training.n_rows,
            )
        return made


def prepare(estimator: Any, data: Data, incremental: bool) -> Fit:
    """Check everything and return the fit; nothing of the estimator changes.

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data are at fault.
    """
    check_parameters(estimator)
    evidence = isinstance(estimator.alpha, str)
    solver = make_solver(estimator.solver, evidence)
    if evidence and solver.curvature != "gauss_newton":
        raise ValueError(
            f"alpha={estimator.alpha!r} needs the Gauss-Newton Hessian, which "
            f"{solver} does not take: give alpha a number."
        )
    goes_on = estimator.is_fitted and (estimator.warm_start or incremental)
    draft = draft_of(estimator, keep=goes_on)
    rows, held_out = _read(draft, data, goes_on, incremental)
    network = draft._make_network(rows.X, rows.targets)
    rng = check_random_state(estimator.random_state)
    if goes_on:
        start = _present_weights(estimator, network, rows.X.dtype)
    else:
        start = network.initialize(rng, rows.X.dtype)
    early_stopping = estimator.early_stopping and not incremental
    if early_stopping and held_out is None:
        strata = draft._strata(rows.targets)
        rows, held_out = rows.split(estimator.validation_fraction, strata, rng)
    rows, loss = rows.with_weight(), LOSSES[draft.out_activation_]
    scaling = _learn_scaling(draft, rows, goes_on and incremental)
    rows = rows.scaled(scaling)
    alpha = 0.0 if evidence else estimator.alpha
    objective = rows.objective(network, loss, alpha, solver.curvature)
    if goes_on:
        start = scaling.unfold(network, start)
    else:
        start = start_from_base_rate(objective, start, exactly=evidence)
    validate = None
    if held_out is not None:
        _warn_of_one_row(held_out)
        validate = held_out.validator(network, loss, draft._score_outputs, scaling)

    unit = 1.0 if evidence else loss_unit(objective)
    problem = Problem(objective, start, validate, unit)
    dropped = draft._dropped if goes_on else None
    problem, expand = _without_pruned(dropped, problem)
    batch, method = _method(estimator, solver, rows.X.shape[0], problem, incremental)
    n = rows.total
    if evidence:
        if incremental and scaling.inputs is not None:
            n = scaling.inputs.weight
        method = _with_evidence(method, objective, estimator.alpha == "ard", n)
    training = Training(
        problem,
        max_iter=1 if incremental else estimator.max_iter,
        patience=Patience(
            estimator.tol * problem.unit,
            np.inf if incremental else estimator.n_iter_no_change,
            floor=-np.inf if evidence else estimator.tol * problem.unit,
        ),
        n_rows=n,
        early_stopping=early_stopping,
        verbose=estimator.verbose,
    )
    if goes_on:
        state = replace(draft._state_, theta=problem.start, bounds=None)
        if evidence != (state.hyper is not None):
            # The steps are of another scale: the parameters and the draws go on.
            state = method.begin(problem, state.rng)
    else:
        seed = rng.randint(2**31 - 1)
        state = method.begin(problem, np.random.default_rng(seed))
    return Fit(draft, network, training, method, state, expand, batch)


def _read(
    draft: Any, data: Data, goes_on: bool, incremental: bool
) -> tuple[Rows, Rows | None]:
    """Return the rows to train on, and those that the user holds out."""
    if data.classes is not None:
        draft.classes_ = data.classes
    X, targets = draft._read(data.X, data.y, reset=not goes_on)
    before = getattr(draft, "out_activation_", None) if goes_on else None
    draft.out_activation_ = draft._out_activation()
    if before not in (None, draft.out_activation_):
        raise ValueError(
            f"The fitted network of output activation {before!r} cannot go on with "
            f"{draft.out_activation_!r}: refit with warm_start=False."
        )
    loss = LOSSES[draft.out_activation_]
    rows = Rows(X, targets, draft._row_weights(X, targets, data.sample_weight))
    rows.check_domain(loss, "y")
    if not incremental:
        draft._check_enough(targets, rows.weights)
    if data.X_val is None:
        if data.y_val is not None or data.sample_weight_val is not None:
            raise ValueError("y_val and sample_weight_val need X_val.")
        return rows, None
    if data.y_val is None and draft._needs_targets:
        raise ValueError("X_val needs y_val.")
    X, held = draft._read(data.X_val, data.y_val, reset=False)
    if held.shape[1] != targets.shape[1]:
        raise ValueError(
            f"y_val has {held.shape[1]} outputs, y has {targets.shape[1]}."
        )
    weights = data.sample_weight_val
    if weights is not None:
        weights = check_sample_weight(weights, X)
    held_out = Rows(X, held, weights)
    held_out.check_domain(loss, "y_val")
    return rows, held_out


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
    return theta.astype(dtype, copy=False)


def _learn_scaling(draft: Any, rows: Rows, goes_on: bool) -> Scaling:
    """Learn how columns and targets are scaled, from these rows or from all so far."""
    if not draft.standardize:
        draft._scaling_ = Scaling()
        return draft._scaling_
    inputs, outputs = Moments.of(rows.X, rows.weights), None
    if LOSSES[draft.out_activation_].is_equivariant:
        outputs = Moments.of(rows.targets, rows.weights)
    if goes_on:
        before = draft._scaling_
        inputs = inputs if before.inputs is None else before.inputs.merged(inputs)
        if outputs is not None and before.outputs is not None:
            outputs = before.outputs.merged(outputs)
    draft._scaling_ = Scaling(inputs, outputs, centred=not sparse.issparse(rows.X))
    return draft._scaling_


def _warn_of_one_row(rows: Rows) -> None:
    if rows.X.shape[0] < 2:
        warn(
            "The validation set is one row, of which scores such as R^2 are not "
            "defined: validation_scores_ will be nan.",
            ConvergenceWarning,
        )


def _without_pruned(
    dropped: Array | None, problem: Problem
) -> tuple[Problem, Callable]:
    """Return the problem in the parameters that are not pruned, and its way back."""
    if dropped is None or not dropped.any():
        return problem, lambda theta: theta
    free, whole = np.flatnonzero(~dropped), np.where(dropped, 0, problem.start)
    restricted = RestrictedObjective(problem.objective, whole, free)
    validate = problem.validate
    if validate is not None:

        def validate(theta):
            return problem.validate(restricted.expand(theta))

    return Problem(restricted, whole[free], validate, problem.unit), restricted.expand


def _with_evidence(method: Any, objective: Any, by_column: bool, n: float) -> Evidence:
    """Return the method with a prior that the evidence updates."""
    dispersion = 1.0
    if objective.loss.is_equivariant:
        # Twice the loss of the best constant is the variance of the targets.
        dispersion = _FIRST_NOISE * 2 * loss_unit(objective)
    return Evidence(method, make_prior(objective.network, by_column), n, dispersion)


def _method(
    estimator: Any, solver: Any, n: int, problem: Problem, incremental: bool
) -> tuple[int, Any]:
    """Return how many rows the frequent products take, and the method."""
    batch, curvature = batch_sizes(estimator, n)
    if batch < n:
        schedule, rule = MiniBatches(n, batch, curvature), success
    else:
        schedule, rule = FullBatch(n, curvature), nielsen
    method = LevenbergMarquardt(
        solver,
        schedule,
        damping=estimator.damping,
        rule=rule,
        step_tol=float(np.finfo(problem.start.dtype).eps),
        scaling="prior" if isinstance(estimator.alpha, str) else "none",
    )
    streamed = incremental and batch == n
    return min(batch, curvature), Streamed(method) if streamed else method
