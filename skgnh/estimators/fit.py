"""All that a training needs, of a network over the rows that were read."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skgnh.arrays import as_precision, like, pick, precision, put
from skgnh.estimators.ground import Ground
from skgnh.estimators.parameters import batch_sizes, held_layers, stopping
from skgnh.estimators.prior import learned_of, make_prior, of_parameters, penalty_of
from skgnh.estimators.publish import learned, records_of, weights_of
from skgnh.estimators.rows import loss_unit
from skgnh.network import MLP
from skgnh.objective import RestrictedObjective
from skgnh.posterior import LaplacePosterior, laplace
from skgnh.solvers import Auto
from skgnh.training import (
    Evidence,
    FullBatch,
    GrowingBatches,
    Hyper,
    LevenbergMarquardt,
    MiniBatches,
    Patience,
    Problem,
    RecollectingObjective,
    State,
    Streamed,
    Training,
)

Array = Any

# First noise variance, and that below which a table counts as learnt, as shares of the
# targets' variance.
_FIRST_NOISE, _NOISELESS = 0.1, 1e-4

# Most iterations of a call of partial_fit by the evidence, and what it must rise by to
# go on.
_ITERATIONS, _NATS = 20, 0.1
# Rows of the first batches that grow, their roots at most, and how many there must be.
_FIRST_BATCH, _FEW_ROOTS, _MANY_BATCHES = 256, 600, 10
# What the Hessian of a problem with rows that are gone offers.
_OF_GONE = {"toarray", "diagonal"}


@dataclass
class Held:
    """Parameters that are not trained."""

    mask: Array
    """Which, (P,)."""
    constant: Array
    """Which of them lie in layers that are held, and not at zero, (P,)."""
    layers: list[int]
    """Those layers."""
    groups: Array | None = None
    """Which groups of the prior are of parameters that are trained."""
    precision: Array | None = None
    """Precisions of all groups, of which those of the others stay."""

    def of_trained(self, hyper: Hyper) -> Hyper:
        """Return what of all groups is of those that are trained."""
        return hyper._replace(precision=hyper.precision[self.groups])

    def with_others(self, hyper: Hyper) -> Hyper:
        """Return what :meth:`of_trained` has been given."""
        precision = np.array(self.precision)
        precision[self.groups] = hyper.precision
        return hyper._replace(precision=precision)


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
    objective: Any
    """That of all parameters."""
    held: Held
    batch: int
    """Rows of the smallest frequent products."""

    def weights(self, theta: Array) -> dict[str, Any]:
        """Return what was read, and a network of these parameters, as attributes."""
        draft = self.ground.draft
        whole = weights_of(self.network, self.expand(theta), draft._scaling_)
        for layer in self.held.layers if self.ground.goes_on else ():
            # Bit for bit, whatever rounding there is on the way to scaled columns.
            for name in ("coefs_", "intercepts_"):
                before = getattr(draft, name)[layer]
                whole[name][layer] = as_precision(before, precision(theta))
        return learned(draft) | whole

    def records(self) -> dict[str, Any]:
        """Return the attributes that tell of the training, and of its evidence."""
        training, state, hyper = self.training, self.state, self.hyper
        if hyper is None:
            return records_of(training, state) | {"_penalty_": None}
        ground, posterior = self.ground, training.posterior
        # Of all parameters: the method's is of those that are trained.
        prior = make_prior(self.network, ground.draft.alpha == "ard")
        objective = training.problem.objective
        # The parameters kept are gone on from with their own prior; the training under
        # way goes on with its own.
        under_way = objective.ridge
        objective.ridge = self.method.ridge(objective, self._own_hyper)
        penalty = penalty_of(self.network, prior, hyper, ground.loss)
        made = records_of(training, replace(state, hyper=hyper))
        # Constants have no prior.
        made["_penalty_"] = np.where(self.held.constant, 0, penalty)
        objective.ridge = under_way
        if posterior is not None:
            scaling, posterior = ground.draft._scaling_, posterior._replace(hyper=hyper)
            made |= learned_of(
                self.network, prior, posterior, ground.loss, scaling, ground.n
            )
        # What is an array lies where the weights do.
        return {
            name: like(value, training.theta)
            if isinstance(value, np.ndarray)
            else value
            for name, value in made.items()
        }

    @property
    def hyper(self) -> Hyper | None:
        """Prior precisions of all groups, and noise, of the parameters kept."""
        own = self._own_hyper
        return None if own is None else self.held.with_others(own)

    @property
    def _own_hyper(self) -> Hyper | None:
        found = self.training.posterior
        return self.state.hyper if found is None else found.hyper

    def posterior(self) -> LaplacePosterior | None:
        """Return the posterior of the parameters kept, by the evidence."""
        training, ground, hyper = self.training, self.ground, self.hyper
        if hyper is None:
            return None
        prior = make_prior(self.network, ground.draft.alpha == "ard")
        deviations = hyper.precision[prior.groups] ** -0.5
        return laplace(
            self.objective,
            self.expand(training.theta),
            np.where(self.held.mask, 0.0, deviations),
            self.method.rate(self.objective, hyper),
            solver=ground.solver,
            rng=self.state.rng,
        )


def assemble_fit(ground: Ground, network: MLP, start: Array) -> Fit:
    """Return the fit of a network from given parameters for scaled columns."""
    draft, incremental = ground.draft, ground.incremental
    whole = _problem(ground, network, start)
    held = _held(ground, network)
    problem, expand = _without_held(held, whole)
    batch, method = _method(ground, problem)
    if ground.by_evidence:
        method = _with_evidence(ground, method, whole)
        held.precision = method.prior.start
        prior, held.groups = of_parameters(method.prior, np.flatnonzero(~held.mask))
        method = replace(method, prior=prior)
    max_iter, patience = _patience(ground, problem)
    training = Training(
        problem,
        max_iter=max_iter,
        patience=patience,
        n_rows=ground.n,
        early_stopping=draft.early_stopping and not incremental,
        verbose=draft.verbose,
        keeps_last=ground.stream is not None,
    )
    if ground.goes_on:
        state = replace(draft._state_, theta=problem.start, bounds=None)
        if ground.stream is not None:
            state = replace(state, damping=None, growth=2.0, carried=None)
        if ground.by_evidence != (state.hyper is not None):
            # The steps are of another scale: the parameters and the draws go on.
            state = method.begin(problem, state.rng)
        elif ground.by_evidence:
            held.precision = state.hyper.precision
            state.hyper = held.of_trained(state.hyper)
    else:
        seed = ground.rng.randint(2**31 - 1)
        state = method.begin(problem, np.random.default_rng(seed))
    return Fit(
        ground, network, training, method, state, expand, whole.objective, held, batch
    )


def _problem(ground: Ground, network: MLP, start: Array) -> Problem:
    draft, rows, loss = ground.draft, ground.rows, ground.loss
    alpha = 0.0 if ground.by_evidence else draft.alpha
    objective: Any = rows.objective(network, loss, alpha, ground.solver.curvature)
    if not ground.goes_on:
        start = draft._first(objective, start)
    if ground.stream is not None and ground.stream.gone is not None:
        gone, weight = ground.stream.gone, ground.rows.total
        objective = RecollectingObjective(objective, gone, start, weight)
    validate = None
    if ground.held_out is not None:
        validate = ground.held_out.validator(
            network, loss, draft._score_outputs, draft._scaling_
        )
    unit = 1.0 if ground.by_evidence else loss_unit(objective)
    return Problem(objective, start, validate, unit)


def _patience(ground: Ground, problem: Problem) -> tuple[int, Patience]:
    """Return the most iterations, and what ends a training before."""
    draft, stream = ground.draft, ground.stream
    tol, patience = stopping(draft)
    tol *= problem.unit
    if stream is not None:
        most = min(_ITERATIONS, draft.max_iter)
        return most, Patience(_NATS / ground.n, 1)
    if ground.incremental:
        return 1, Patience(tol, np.inf, floor=tol)
    floor = _floor(problem.objective) if ground.by_evidence else tol
    return draft.max_iter, Patience(tol, patience, floor=floor)


def _floor(objective: Any) -> float:
    """Return minus the evidence of a row where there is nothing left to explain."""
    d, loss = objective.network.n_outputs, objective.loss
    if not loss.is_equivariant:
        return -np.inf
    noise = _NOISELESS * 2 * loss_unit(objective)
    return -loss.log_likelihood(0.5 * noise, d, noise)


def _held(ground: Ground, network: MLP) -> Held:
    """Return the pruned parameters and those of the layers that are not trained."""
    draft = ground.draft
    layers = held_layers(draft.trainable_layers, len(network.shapes))
    constant = np.zeros(network.n_parameters, bool)
    for layer in layers:
        network.unpack(constant)[layer][...] = True
    mask = constant | draft._dropped if ground.goes_on else constant
    return Held(mask, constant, layers)


def _without_held(held: Held, problem: Problem) -> tuple[Problem, Callable]:
    """Return the problem in the parameters that are trained, and its way back."""
    if not held.mask.any():
        return problem, lambda theta: theta
    free, start = np.flatnonzero(~held.mask), problem.start
    # Those that are pruned may be anything before.
    gone = np.flatnonzero(held.mask & ~held.constant)
    whole = put(start, gone, 0 * pick(start, gone))
    restricted = RestrictedObjective(problem.objective, whole, free)
    validate = problem.validate
    if validate is not None:

        def validate(theta):
            return problem.validate(restricted.expand(theta))

    of_free = pick(whole, free)
    return Problem(restricted, of_free, validate, problem.unit), restricted.expand


def _with_evidence(ground: Ground, method: Any, problem: Problem) -> Evidence:
    """Return the method with a prior that the evidence updates."""
    objective, dispersion, n = problem.objective, 1.0, ground.n
    loss = objective.loss
    prior = make_prior(objective.network, ground.draft.alpha == "ard")
    if ground.draft._starts_near(objective.network):
        prior = prior.of(problem.start)
        d = objective.network.n_outputs
        dispersion = loss.dispersion(objective.value(problem.start), n, d, 0.0)
    elif loss.is_equivariant:
        # Twice the loss of the best constant is the variance of the targets.
        dispersion = _FIRST_NOISE * 2 * loss_unit(objective)
    rows = ground.rows.X.shape[0]
    if ground.stream is not None and ground.stream.precision is not None:
        prior = replace(prior, start=ground.stream.precision)
    batch, pseudo = ground.draft.batch_size, 0.0 if ground.stream is None else 1.0
    share = 1.0 if batch == "auto" or pseudo else min(1.0, batch / rows)
    return Evidence(method, prior, n, max(dispersion, 1e-12), share, pseudo)


def _method(ground: Ground, problem: Problem) -> tuple[int, Any]:
    """Return how many rows the frequent products take, and the method."""
    draft, n = ground.draft, ground.rows.X.shape[0]
    solver, stream = ground.solver, ground.stream
    batch, curvature = (n, n) if stream is not None else batch_sizes(draft, n)
    if stream is not None and not _OF_GONE.issuperset(solver.requires):
        solver = Auto()
    method = LevenbergMarquardt(
        solver,
        _schedule(ground, batch, curvature),
        damping=draft.damping,
        step_tol=float(np.finfo(precision(problem.start)).eps),
        scaling="prior" if ground.by_evidence else "none",
    )
    streamed = ground.incremental and stream is None and batch == n
    return min(batch, curvature), Streamed(method) if streamed else method


def _schedule(ground: Ground, batch: int, curvature: int) -> Any:
    """Return which rows serve each step.

    Without another word batches grow, where the first ones are cheap to solve exactly.
    """
    draft, n = ground.draft, ground.rows.X.shape[0]
    if batch < n:
        return MiniBatches(n, batch, curvature)
    alone = not (ground.by_evidence or ground.incremental)
    d = ground.rows.targets.shape[1]
    is_small = _FIRST_BATCH * d <= _FEW_ROOTS and n >= _MANY_BATCHES * _FIRST_BATCH
    if draft.batch_size == "auto" and alone and is_small:
        return GrowingBatches(n, _FIRST_BATCH, curvature)
    return FullBatch(n, curvature)
