"""What the user hands over, read and checked; the estimator stays as it is."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgnh.arrays import (
    as_precision,
    is_alike,
    is_dispatched,
    is_foreign,
    precision,
)
from skgnh.block_objective import moments_of
from skgnh.blocks import is_dask
from skgnh.estimators.rows import Rows
from skgnh.estimators.stream import Stream
from skgnh.lazy_rows import is_sparse, lazily
from skgnh.losses import LOSSES
from skgnh.messages import warn
from skgnh.operators.from_estimator import check_sample_weight
from skgnh.scaling import Moments, Scaling

Array = Any

# By what factor targets may change their scale in a warm start that keeps its prior.
_MOVED = 2.0


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
    stream: Stream | None = None
    """What a stream has left, with the rows."""

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
        gone = 0.0 if self.stream is None else self.stream.weight
        return self.rows.total + gone


def read(
    draft: Any, data: Data, goes_on: bool, incremental: bool
) -> tuple[Rows, Rows | None]:
    """Return the rows to train on, and those that the user holds out."""
    if data.classes is not None:
        draft.classes_ = data.classes
    is_whole = draft._needs_targets and not incremental
    if is_dask(data.X) and incremental:
        raise TypeError(
            "X is a dask collection, which `fit` takes: give partial_fit an array."
        )
    if incremental and is_dispatched(data.X):
        raise TypeError(
            "partial_fit learns from arrays of NumPy, X is one of another library: "
            "call fit, or pass X as one of NumPy."
        )
    X, targets = draft._read(data.X, data.y, reset=not goes_on)
    before = getattr(draft, "out_activation_", None) if goes_on else None
    draft.out_activation_ = draft._out_activation()
    if before not in (None, draft.out_activation_):
        raise ValueError(
            f"The fitted network of output activation {before!r} cannot go on with "
            f"{draft.out_activation_!r}: refit with warm_start=False."
        )
    loss = LOSSES[draft.out_activation_]
    rows = Rows(
        lazily(X) if is_whole else X,
        targets,
        draft._row_weights(X, targets, data.sample_weight),
    )
    rows.check_domain(loss, "y")
    if not incremental:
        draft._check_enough(targets, rows.weights)
    if data.X_val is None:
        if data.y_val is not None or data.sample_weight_val is not None:
            raise ValueError("y_val and sample_weight_val need X_val.")
        return rows, None
    return rows, _read_held_out(draft, data, rows)


def _read_held_out(draft: Any, data: Data, rows: Rows) -> Rows:
    """Return the rows that the user holds out, beside those to train on."""
    if data.y_val is None and draft._needs_targets:
        raise ValueError("X_val needs y_val.")
    X, held = draft._read(data.X_val, data.y_val, reset=False)
    if not is_alike(X, rows.X):
        raise ValueError(
            "X_val must be what X is: an array of the same library, on the same device."
        )
    if is_foreign(X):
        # Not every library multiplies single precision with double.
        X, held = (as_precision(x, precision(rows.X)) for x in (X, held))
    d = rows.targets.shape[1]
    if held.shape[1] != d:
        raise ValueError(f"y_val has {held.shape[1]} outputs, y has {d}.")
    weights = data.sample_weight_val
    if weights is not None:
        weights = check_sample_weight(weights, X)
    held_out = Rows(lazily(X), held, weights)
    held_out.check_domain(LOSSES[draft.out_activation_], "y_val")
    return held_out


def learn_scaling(draft: Any, rows: Rows, goes_on: bool, incremental: bool) -> Scaling:
    """Learn how columns and targets are scaled, from these rows or from all so far."""
    before = draft._scaling_ if goes_on else Scaling()
    inputs = outputs = None
    if draft.standardize:
        inputs = moments_of(rows.X, rows.weights)
        if LOSSES[draft.out_activation_].is_equivariant:
            outputs = draft._target_moments(moments_of(rows.targets, rows.weights))
    if incremental:
        inputs, outputs = (
            _merged(*pair)
            for pair in ((before.inputs, inputs), (before.outputs, outputs))
        )
    scaling = Scaling(inputs, outputs, centred=not is_sparse(rows.X))
    hyper = draft._state_.hyper if goes_on else None
    if incremental and hyper is not None:
        noise = hyper.dispersion * before.unit_in(scaling)
        hyper = hyper._replace(dispersion=noise)
        draft._state_ = replace(draft._state_, hyper=hyper)
    elif _has_moved(before.outputs, outputs):
        # What was learned of noise and prior was of other targets.
        draft._state_ = replace(draft._state_, hyper=None, damping=None)
    draft._scaling_ = scaling
    return scaling


def _merged(before: Moments | None, now: Moments | None) -> Moments | None:
    return now if before is None or now is None else before.merged(now)


def _has_moved(before: Moments | None, now: Moments | None) -> bool:
    """Say whether targets have another scale."""
    if before is None or now is None:
        return False
    return bool(np.any(np.abs(np.log(now.scale / before.scale)) > np.log(_MOVED)))


def warn_of_one_row(rows: Rows) -> None:
    """Say once that scores of one row are not defined."""
    if rows.X.shape[0] < 2:
        warn(
            "The validation set is one row, of which scores such as R^2 are not "
            "defined: validation_scores_ will be nan.",
            ConvergenceWarning,
        )
