"""From an estimator and its data to a problem and a method; the estimator stays."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from skgnh.estimators.parameters import (
    batch_sizes,
    check_parameters,
    make_solver,
    stopping,
)
from skgnh.estimators.prior import learned_of, make_prior, penalty_of
from skgnh.estimators.publish import draft_of, learned, records_of, weights_of
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

# First noise variance, and that below which a table counts as learnt, as shares of the
# targets' variance.
_FIRST_NOISE, _NOISELESS = 0.1, 1e-4


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


class Ground(NamedTuple):
    """What a fit rests on, whatever the network."""

    draft: Any
    """A copy of the estimator that has read the data."""
    solver: Any
    rows: Rows
    """Scaled, and of positive weight."""
    held_out: Rows | None
    """As the user has given them."""
    rng: Any
    goes_on: bool
    incremental: bool

    @property
    def loss(self) -> Any:
        """The loss that the output activation names."""
        return LOSSES[self.draft.out_activation_]

    @property
    def by_evidence(self) -> bool:
        """Whether the evidence chooses the penalty."""
        return isinstance(self.draft.alpha, str)

    @property
    def n(self) -> float:
        """Sum of the weights of all rows that were seen."""
        seen = self.draft._scaling_.inputs
        return self.rows.total if seen is None or not self.incremental else seen.weight


@dataclass
class Fit:
    """All that a training needs."""

    ground: Ground
    network: MLP
    training: Training
    method: Any
    state: State
    expand: Callable[[Array], Array]
    """Gives all parameters from those that are trained."""
    batch: int
    """Rows of the smallest frequent products."""

    def weights(self, theta: Array) -> dict[str, Any]:
        """Return what was read, and a network of these parameters, as attributes."""
        draft = self.ground.draft
        whole = weights_of(self.network, self.expand(theta), draft._scaling_)
        return learned(draft) | whole

    def records(self) -> dict[str, Any]:
        """Return the attributes that tell of the training, and of its evidence."""
        training, state = self.training, self.state
        if state.hyper is None:
            return records_of(training, state) | {"_penalty_": None}
        ground, posterior = self.ground, training.posterior
        objective, prior = training.problem.objective, self.method.prior
        hyper = state.hyper if posterior is None else posterior.hyper
        objective.ridge = self.method.ridge(objective, hyper)
        penalty = penalty_of(self.network, prior, hyper, ground.loss)
        made = records_of(training, state) | {"_penalty_": penalty}
        if posterior is not None:
            scaling = ground.draft._scaling_
            made |= learned_of(
                self.network, prior, posterior, ground.loss, scaling, ground.n
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
    solver = make_solver(estimator.solver, isinstance(estimator.alpha, str))
    if isinstance(estimator.alpha, str) and solver.curvature != "gauss_newton":
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
    if estimator.early_stopping and not incremental and held_out is None:
        strata = draft._strata(rows.targets)
        rows, held_out = rows.split(estimator.validation_fraction, strata, rng)
    if held_out is not None:
        _warn_of_one_row(held_out)
    rows = rows.with_weight()
    scaling = _learn_scaling(draft, rows, goes_on and incremental)
    if goes_on:
        start = scaling.unfold(network, start)
    rows = rows.scaled(scaling)
    ground = Ground(draft, solver, rows, held_out, rng, goes_on, incremental)
    return assemble_fit(ground, network, start)


def assemble_fit(ground: Ground, network: MLP, start: Array) -> Fit:
    """Return the fit of a network from given parameters for scaled columns."""
    draft, incremental = ground.draft, ground.incremental
    problem = _problem(ground, network, start)
    objective = problem.objective
    dropped = draft._dropped if ground.goes_on else None
    problem, expand = _without_pruned(dropped, problem)
    batch, method = _method(ground, problem)
    if ground.by_evidence:
        method = _with_evidence(method, objective, draft.alpha == "ard", ground.n)
    tol, patience = stopping(draft)
    tol *= problem.unit
    training = Training(
        problem,
        max_iter=1 if incremental else draft.max_iter,
        patience=Patience(
            tol,
            np.inf if incremental else patience,
            floor=_floor(objective) if ground.by_evidence else tol,
        ),
        n_rows=ground.n,
        early_stopping=draft.early_stopping and not incremental,
        verbose=draft.verbose,
    )
    if ground.goes_on:
        state = replace(draft._state_, theta=problem.start, bounds=None)
        if ground.by_evidence and state.hyper is None:
            state.hyper = method.begin(problem, None).hyper
    else:
        seed = ground.rng.randint(2**31 - 1)
        state = method.begin(problem, np.random.default_rng(seed))
    return Fit(ground, network, training, method, state, expand, batch)


def _problem(ground: Ground, network: MLP, start: Array) -> Problem:
    draft, rows, loss = ground.draft, ground.rows, ground.loss
    alpha = 0.0 if ground.by_evidence else draft.alpha
    objective = rows.objective(network, loss, alpha, ground.solver.curvature)
    if not ground.goes_on:
        start = start_from_base_rate(objective, start, exactly=ground.by_evidence)
    validate = None
    if ground.held_out is not None:
        validate = ground.held_out.validator(
            network, loss, draft._score_outputs, draft._scaling_
        )
    unit = 1.0 if ground.by_evidence else loss_unit(objective)
    return Problem(objective, start, validate, unit)


def _floor(objective: Any) -> float:
    """Return minus the evidence of a row where there is nothing left to explain."""
    d, loss = objective.network.n_outputs, objective.loss
    if not loss.is_equivariant:
        return -np.inf
    noise = _NOISELESS * 2 * loss_unit(objective)
    return -loss.log_likelihood(0.5 * noise, d, noise)


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


def _method(ground: Ground, problem: Problem) -> tuple[int, Any]:
    """Return how many rows the frequent products take, and the method."""
    draft, n = ground.draft, ground.rows.X.shape[0]
    batch, curvature = batch_sizes(draft, n)
    if batch < n:
        schedule, rule = MiniBatches(n, batch, curvature), success
    else:
        schedule, rule = FullBatch(n, curvature), nielsen
    method = LevenbergMarquardt(
        ground.solver,
        schedule,
        damping=draft.damping,
        rule=rule,
        step_tol=float(np.finfo(problem.start.dtype).eps),
        scaling="prior" if ground.by_evidence else "none",
    )
    streamed = ground.incremental and batch == n
    return min(batch, curvature), Streamed(method) if streamed else method
