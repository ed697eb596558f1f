"""What a stream of blocks of rows leaves to the next call of `partial_fit`."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from skgnh.arrays import pick, stacked
from skgnh.estimators.rows import Rows
from skgnh.lazy_rows import is_sparse, made
from skgnh.memory import fits
from skgnh.scaling import Scaling
from skgnh.training import Recollection

Array = Any

# Rows that are kept as they are; parameters up to which the curvature of those that are
# gone is an array, and not its diagonal.
_KEPT, _DENSE = 1000, 3000
# Of dense rows of many columns, so many numbers are kept, but no fewer rows than these.
_NUMBERS, _FEWEST = 1_000_000, 50


class Stream(NamedTuple):
    """Rows that are kept, and the loss of those that are gone."""

    rows: Rows
    """As they came, with weights."""
    keys: Array
    """One number of each: those of the smallest are kept."""
    gone: Recollection | None
    """None while none are."""
    scaling: Scaling
    """What the recollection is scaled by."""
    precision: Array | None = None
    """What a fit before has found of the prior, (G,)."""

    @property
    def weight(self) -> float:
        """Sum of the weights of the rows that are gone."""
        return 0.0 if self.gone is None else self.gone.weight


def joined(estimator: Any, rows: Rows, rng: Any) -> Stream:
    """Return what an estimator has of a stream, and rows that join it."""
    weights = np.ones(rows.X.shape[0]) if rows.weights is None else rows.weights
    rows = replace(rows, weights=weights)
    keys = rng.random(len(weights))
    before = getattr(estimator, "_stream_", None)
    if before is None:
        return Stream(rows, keys, None, Scaling())
    old = before.rows
    gone = estimator._n_seen_ - old.total
    if before.gone is None and gone > 1e-9 * old.total:
        # It has been fitted to all rows at once.
        before = before._replace(gone=_of_posterior(estimator, gone))
    rows = Rows(
        stacked([_alike(old.X, rows.X), rows.X]),
        np.concatenate([old.targets.astype(rows.targets.dtype), rows.targets]),
        np.concatenate([old.weights, rows.weights]),
    )
    keys = np.concatenate([before.keys, keys])
    return before._replace(rows=rows, keys=keys)


def _alike(old: Array, X: Array) -> Array:
    """Return earlier rows as those of today are, sparse or not and of their dtype."""
    if sparse.issparse(old) and not sparse.issparse(X):
        old = old.toarray()
    elif sparse.issparse(X) and not sparse.issparse(old):
        old = sparse.csr_array(old)
    return old.astype(X.dtype)


def of_fit(fit: Any) -> Stream:
    """Return what a fit of all rows at once leaves: rows drawn from them."""
    ground = fit.ground
    keys = fit.state.rng.random(ground.rows.X.shape[0])
    strata = ground.draft._strata(ground.rows.targets)
    kept = _kept(keys, strata, _most(ground.rows.X))
    rows, scaling = ground.rows, ground.draft._scaling_
    weights = np.ones(len(keys)) if rows.weights is None else rows.weights
    some = _some(replace(rows, weights=weights), kept).unscaled(scaling)
    return Stream(some, keys[kept], None, scaling, fit.hyper.precision)


def _of_posterior(estimator: Any, weight: float) -> Recollection | None:
    """Return what of the rows of a fit its posterior tells, if there is one."""
    posterior = estimator._posterior
    if posterior is None:
        return None
    loss, d = estimator._loss, estimator.n_outputs_
    rate = loss.rate(d, float(estimator._state_.hyper.dispersion))
    share = weight / estimator._n_seen_ / rate
    D = share * posterior.data_precision(_DENSE)
    held = np.where(posterior.scale > 0, posterior.scale, np.inf)
    pull = share * posterior.theta * held**-2.0
    # At a maximum the slope of the loss is that of the prior.
    gone = Recollection(D, pull, weight)
    return gone._replace(b=gone.times(posterior.theta) + pull)


def moved(stream: Stream, scaling: Scaling, network: Any) -> Stream:
    """Return the stream with its recollection for another scaling."""
    if stream.gone is None or stream.scaling is scaling:
        return stream._replace(scaling=scaling)
    A, shift = stream.scaling.change_to(scaling, network)
    gone = stream.gone.mapped(A, shift, stream.scaling.unit_in(scaling))
    return stream._replace(gone=gone, scaling=scaling)


def left(stream: Stream, fit: Any) -> Stream:
    """Return the stream with at most 1,000 rows kept, and the others recollected.

    Rows of labels go from where there are most of one, others by chance. What goes is
    recollected at the parameters that were fitted to it.
    """
    rows, theta = stream.rows, fit.expand(fit.training.theta).astype(np.float64)
    strata = fit.ground.draft._strata(rows.targets)
    kept = _kept(stream.keys, strata, _most(rows.X))
    if kept.all():
        return stream
    stay, go = (_some(rows, part) for part in (kept, ~kept))
    objective = go.scaled(stream.scaling).objective(fit.network, fit.ground.loss, 0.0)
    _, gradient, _ = objective.linearize(theta.astype(objective.inputs.dtype))
    H, P = objective.data_curvature(theta, 1.0), len(theta)
    dense = P <= _DENSE and fits(3 * 8 * P**2)
    gone = stream.gone
    if gone is not None:
        # It stays of the form that it has begun with.
        dense = gone.D.ndim == 2
    H = H.toarray() if dense else H.diagonal()
    if gone is None:
        gone = Recollection(np.zeros_like(H), np.zeros(P), 0.0)
    gone = gone.plus(H, gradient.astype(np.float64), theta, go.total)
    return stream._replace(rows=stay, keys=stream.keys[kept], gone=gone)


def _some(rows: Rows, which: Array) -> Rows:
    assert rows.weights is not None
    index = np.flatnonzero(which)
    X, targets = (made(pick(x, index)) for x in (rows.X, rows.targets))
    return Rows(X, targets, rows.weights[index])


def _most(X: Array) -> int:
    """Return how many rows are kept."""
    if is_sparse(X):
        return _KEPT
    return min(_KEPT, max(_FEWEST, _NUMBERS // X.shape[1]))


def _kept(keys: Array, strata: Array | None, most: int) -> Array:
    """Return which rows are kept: of each stratum those of the smallest keys."""
    kept = np.zeros(len(keys), dtype=bool)
    order = np.argsort(keys, kind="stable")
    if strata is None:
        kept[order[:most]] = True
        return kept
    # The ranks within strata: the lowest are kept, so that the largest strata lose.
    ranks, strata = np.empty(len(keys), dtype=int), strata[order]
    for label in np.unique(strata):
        own = order[strata == label]
        ranks[own] = np.arange(len(own))
    kept[np.lexsort((keys, ranks))[:most]] = True
    return kept
