"""What else is trained and weighed: another start, wider networks, a constant."""

from dataclasses import replace
from typing import Any

import numpy as np

from skgnh.arrays import copied, like, precision, to_host
from skgnh.block_objective import in_blocks
from skgnh.estimators.fit import Fit, assemble_fit
from skgnh.network import MLP
from skgnh.progress import in_parallel
from skgnh.threads import limit_threads
from skgnh.training import Evidence, Posterior, Training

Array = Any

# Rows from which a regression has two hidden layers, and the widths of either; rows
# from which a classifier's one layer is wider.
_MANY, _WIDTH, _TWO = 2500, 15, 20
MANY_LABELS, _WIDE = 900, 30
# Rows below which a constant is not weighed: no evidence can be trusted to say so.
_FEW, _FEW_FOR_KFAC = 30, 200
# Without the evidence there is no growth, but a penalty.
_FIXED = 50
# A network is too small where the effective parameters are more than this share of all.
_SATURATED = 0.8
# Points that a widened network has at least: its evidence falls at first.
_GRACE = 12
# Share of the rows that two starts are judged on, the rows that this takes, and the
# points.
_UNSEEN, _MANY_TO_SPLIT, _TRIAL = 0.2, 100, 40
# Most parameters of a widened network, and most of them for each number to explain.
_MOST, _SHARE = 5000, {1: 1 / 2, 2: 1 / 3}


def first_widths(n: int, estimator: Any) -> list[int]:
    """Return the widths to begin with."""
    if not isinstance(estimator.alpha, str):
        return [_FIXED]
    if estimator._has_labels:
        return [_WIDE if n >= MANY_LABELS else _WIDTH]
    return [_TWO, _TWO] if n >= _MANY else [_WIDTH]


def alternative(fit: Fit) -> Fit | None:
    """Return the fit that the head would have compared with this one, if any."""
    training = fit.training
    if fit.ground.goes_on or training.posterior is None or training.is_stopped:
        return None
    return fit.ground.draft._alternative(fit)


def says_more(fit: Fit, draft: Any) -> bool:
    """Say whether another draft, from a start of its own, predicts unseen rows better.

    Both are trained on four fifths of the rows, by some points, at the same time where
    joblib is told so.
    """
    ground, network = fit.ground, fit.network
    if ground.rows.X.shape[0] < _MANY_TO_SPLIT:
        return False
    seed = ground.rng.randint(2**31 - 1)
    rows, unseen = ground.rows.split(_UNSEEN, None, seed)
    judge = unseen.objective(network, ground.loss, 0.0)
    trials = []
    for each in (ground.draft, draft):
        some = ground._replace(draft=each, rows=rows, held_out=None)
        theta = fit.training.theta
        start = network.initialize(ground.rng, precision(theta), ground.draft.init)
        trials.append(assemble_fit(some, network, like(start, theta)))
    # Blocks are in the hands of dask already.
    n_jobs = 1 if in_blocks(rows.X) else None
    losses = [0.0, 0.0]
    for k, (theta, stopped) in in_parallel(_tried, trials, n_jobs):
        if stopped is not None:
            fit.training.reason = stopped
            return False
        losses[k] = judge.value(theta)
    return losses[1] < losses[0]


def _posterior(fit: Fit) -> Posterior:
    """Return the posterior of a fit by the evidence."""
    assert fit.training.posterior is not None
    return fit.training.posterior


def _tried(trial: Fit) -> tuple[Array, str | None]:
    """Return what some points of a training come to, and why the user has ended it."""
    training = replace(trial.training, verbose=False, early_stopping=False)
    training.max_iter = min(training.max_iter, _TRIAL)
    with limit_threads(trial.network, trial.batch), np.errstate(all="ignore"):
        training.run(trial.method.steps(training.problem, trial.state))
    stopped = training.reason if training.is_stopped else None
    return trial.expand(training.theta), stopped


def likelier(fit: Fit, other: Fit) -> Fit:
    """Return the fit of more evidence."""
    log_evidences = [_posterior(each).log_evidence for each in (fit, other)]
    return other if log_evidences[1] > log_evidences[0] else fit


def or_constant(fit: Fit) -> Fit:
    """Put the best constant prediction in the place of a network, where it is likelier.

    By its evidence and by Akaike's criterion. K-FAC's determinant is too large to be
    set against none: there it is Akaike's that decides, which wants rows. Input weights
    stay, to be gone on from.
    """
    training, method = fit.training, fit.method
    posterior, problem = training.posterior, training.problem
    if posterior is None or fit.ground.goes_on or fit.ground.incremental:
        return fit
    if fit.held.layers:
        # The constant is one of all layers.
        return fit
    if training.is_stopped:
        # It was not given the time to be judged.
        return fit
    if fit.ground.n < (_FEW if posterior.is_exact else _FEW_FOR_KFAC):
        return fit
    objective, network = problem.objective, fit.network
    theta = copied(training.theta)
    output = network.unpack(theta)[-1]
    output[:, :-1] = 0.0
    output[:, -1] = objective.loss.link(objective.mean_target())
    constant = method.constant(objective, theta, posterior.hyper)
    if constant.log_evidence > posterior.log_evidence and (
        _criterion(fit, constant) >= _criterion(fit, posterior)
    ):
        training.theta, training.posterior = theta, constant
    return fit


def grown(fit: Fit) -> Fit | None:
    """Return the fit of a network of twice the widths, if this one is too small.

    New units have input weights drawn from the prior and no output weights: what the
    network has learned stays.
    """
    wider = _wider(fit)
    training = fit.training
    spent = training.n_iter >= training.max_iter or training.is_stopped
    if fit.ground.goes_on or wider is None or spent or not is_saturated(training):
        return None
    start = _embedded(fit, wider)
    new = assemble_fit(fit.ground, wider, start)
    hyper = _posterior(fit).hyper
    new.state = replace(new.state, hyper=hyper._replace(points=0))
    new.training = replace(
        new.training,
        loss_curve=list(training.loss_curve),
        validation_loss_curve=list(training.validation_loss_curve),
        validation_scores=list(training.validation_scores),
        steps=list(training.steps),
        theta=start,
    )
    new.training.patience.grace = _GRACE
    return new


def chosen(fit: Fit, wider: Fit) -> tuple[Fit, Fit | None]:
    """Return the better of two fits, and what comes after it.

    By Akaike's criterion: the evidence by K-FAC has a determinant of another size for
    another network. Of labels, whose likelihood has no noise to tell, the wider one.
    """
    if not fit.ground.draft._has_labels and _criterion(wider) <= _criterion(fit):
        return fit, None
    return wider, grown(wider)


def _criterion(fit: Fit, posterior: Posterior | None = None) -> float:
    """Return log-likelihood less effective parameters, Akaike's, for few rows."""
    posterior = posterior or _posterior(fit)
    objective = fit.training.problem.objective
    n, d = fit.ground.n, fit.network.n_outputs
    objective.ridge = 0 * objective.ridge
    mean = objective.value(posterior.theta)
    noise = objective.loss.dispersion(mean, n, d, 0.0)
    gamma, numbers = float(posterior.gamma.sum()), n * d
    likelihood = n * objective.loss.log_likelihood(mean, d, max(noise, 1e-300))
    return likelihood - gamma * numbers / max(numbers - gamma, 1.0)


def is_saturated(training: Training) -> bool:
    """Say whether most parameters are effective."""
    posterior = training.posterior
    assert posterior is not None
    return posterior.gamma.sum() > _SATURATED * len(posterior.theta)


def _wider(fit: Fit) -> MLP | None:
    """Return the network of twice the widths, if it may grow."""
    ground, training = fit.ground, fit.training
    draft, network = ground.draft, fit.network
    if ground.incremental or not isinstance(fit.method, Evidence):
        return None
    if draft.early_stopping or draft._sizes_are_given or fit.held.layers:
        return None
    posterior = training.posterior
    if posterior is not None and -posterior.log_evidence <= ground.n * (
        training.patience.floor
    ):
        return None
    features, *hidden, d = network.layer_units
    wider = MLP((features, *(2 * width for width in hidden), d), network.activations)
    room = ground.n * d * _SHARE[min(len(hidden), 2)]
    return wider if wider.n_parameters <= min(room, _MOST) else None


def _embedded(fit: Fit, wider: MLP) -> Array:
    """Return the parameters of the wider network that computes the same."""
    theta, rng = to_host(fit.training.theta), fit.state.rng
    precision = _posterior(fit).hyper.precision[fit.method.prior.groups]
    new = np.zeros(wider.n_parameters, theta.dtype)
    layers = (fit.network.unpack(x) for x in (theta, precision))
    for depth, (old, prior, layer) in enumerate(
        zip(*layers, wider.unpack(new), strict=True)
    ):
        out, fan = old.shape
        layer[:out, : fan - 1], layer[:out, -1] = old[:, :-1], old[:, -1]
        if depth == len(wider.shapes) - 1:
            break
        sources = fan - 1 if depth else layer.shape[1] - 1
        drawn = rng.standard_normal((len(layer) - out, sources + 1))
        scale = 1 / np.sqrt(np.maximum(prior[0], 0.25))
        layer[out:, :sources] = drawn[:, :-1] * scale[:sources]
        layer[out:, -1] = drawn[:, -1] * scale[-1]
    return like(new, fit.training.theta)
