"""A fit on disk, from which it goes on as if it had not stopped."""

import os
import pickle
from copy import copy, deepcopy
from hashlib import blake2b
from importlib import import_module
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from sklearn.utils import check_random_state, check_scalar

from skgnh.arrays import to_host
from skgnh.estimators.ground import Data
from skgnh.estimators.publish import learned, publish

Array = Any

# First bytes of a file, and the version of what is behind them.
_MAGIC, _FORMAT = b"skgnh checkpoint", 1
# What of a training moves; the rest is made anew from parameters and data.
_MOVES = (
    "theta",
    "loss_curve",
    "validation_loss_curve",
    "validation_scores",
    "steps",
    "solver",
    "posterior",
    "patience",
    "reason",
)


class Checkpoint:
    """Callback that writes a fit to a file while it runs.

    ``fit(..., resume_from=path)`` with the same parameters and data goes on from the
    file and ends, on one thread, with the same weights bit by bit, whenever the process
    was killed: at every moment the file is a whole one. Set it by ``set_callbacks``,
    which the estimators have whether scikit-learn's release has callbacks or not.

    Parameters
    ----------
    path : str or path-like
        File, in a folder that exists; with ``.part`` behind its name the one that
        becomes it. Several fits at a time, as in a grid search, need one each.
    every : int, default=10
        Iterations from one writing to the next. The end of a fit is written too, unless
        the user has interrupted it.

    Raises
    ------
    ValueError, TypeError
        If `path` is none, or its folder does not exist, or `every` is no positive
        integer.

    Notes
    -----
    The file holds no rows but digests of them, and of a warm start the model that it
    started from. It is a pickle: open none that you do not trust. Calls of
    `partial_fit` are not written: between them the estimator itself can be pickled.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import make_friedman1
    >>> from skgnh import Checkpoint, GaussNewtonMLPRegressor
    >>> X, y = make_friedman1(100, random_state=0)
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "fit.ckpt"
    ...     model = GaussNewtonMLPRegressor(random_state=0)
    ...     model = model.set_callbacks(Checkpoint(path, every=5)).fit(X, y)
    ...     other = GaussNewtonMLPRegressor(random_state=0)
    ...     other = other.fit(X, y, resume_from=path)
    >>> bool((model.predict(X) == other.predict(X)).all())
    True
    """

    def __init__(self, path: Any, every: int = 10):
        check_scalar(every, "every", Integral, min_val=1)
        check_scalar(path, "path", (str, os.PathLike))
        self.path, self.every = Path(path), every
        if not self.path.parent.is_dir():
            raise ValueError(f"path={os.fspath(path)!r} lies in no folder that exists.")

    def write(self, record: "Record") -> None:
        """Put a record in the place of the file, at once or not at all."""
        payload = pickle.dumps(record._asdict(), protocol=pickle.HIGHEST_PROTOCOL)
        part = self.path.with_name(self.path.name + ".part")
        with part.open("wb") as file:
            file.write(b"\n".join([_head(), blake2b(payload).digest() + payload]))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)

    # What scikit-learn's protocol asks for. The fit itself calls `write`: it has the
    # state of the method, which no hook is told.

    def setup(self, estimator: Any, context: Any) -> None:
        """Refuse an estimator that would not write.

        Raises
        ------
        TypeError
            If it is none of this package.
        """
        if not hasattr(estimator, "_writes_checkpoints"):
            raise TypeError(
                f"{type(estimator).__name__} writes no Checkpoint: set it on the "
                "estimator of skgnh itself."
            )

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        """Do nothing; never stop."""
        return False


class Record(NamedTuple):
    """What a file holds."""

    kind: str
    """Name of the estimator's class."""
    parameters: dict[str, str]
    """Digest of each parameter that the path depends on."""
    data: dict[str, tuple]
    """Shape and digest of each argument of `fit`."""
    rng: Any
    """State of the first generator when the fit began."""
    before: dict[str, Any] | None
    """What a warm start went on from."""
    trainings: list[tuple[dict[str, Any], Any]]
    """What has moved of each training so far, with the state of its method."""


class Journal:
    """The trainings of one fit: each is noted, or taken up where a file left it.

    Networks that a fit trains one after the other are taken up one after the other: all
    that lies between them is drawn again from the same generators.

    Parameters
    ----------
    estimator : estimator
        Before the fit.
    data : Data
        What it is handed.
    checkpoints : list of Checkpoint
        Where to write.
    resume_from : str or path-like, optional
        File to go on from.

    Attributes
    ----------
    estimator : estimator
        What to prepare the fit with: the one given, or as it was when the fit of the
        file began.

    Raises
    ------
    ValueError
        If the file is none, or of another fit.
    """

    def __init__(
        self, estimator: Any, data: Data, checkpoints: list, resume_from: Any = None
    ):
        self.estimator, self._checkpoints = estimator, checkpoints
        self._fit: Any = None
        self._done: list[tuple[dict[str, Any], Any]] = []
        self._left: list[tuple[dict[str, Any], Any]] = []
        self._record: Record | None = None
        self._n_iter = 0
        if resume_from is not None:
            record = _read(resume_from)
            _compare(record, estimator, data, os.fspath(resume_from))
            self._left = list(record.trainings)
            self._record = record._replace(trainings=[])
            self.estimator = _as_it_was(estimator, record)
        elif checkpoints:
            self._record = _beginning(estimator, data)

    def take_up(self, fit: Any) -> None:
        """Note the next fit; where the file knows it, let it stand where it stood."""
        self._fit = fit
        if self._left:
            moved, fit.state = self._left.pop(0)
            for name, value in moved.items():
                setattr(fit.training, name, value)

    def iteration_ends(self) -> None:
        """Write, if it is time to."""
        self._n_iter += 1
        for checkpoint in self._checkpoints:
            if self._n_iter % checkpoint.every == 0:
                self._write(checkpoint, [*self._done, self._present()])

    def training_ends(self) -> None:
        """Keep what has moved, before what comes next draws from its generator."""
        if self._checkpoints:
            self._done.append(deepcopy(self._present()))

    def fit_ends(self) -> None:
        """Write the end, before anything is made of it.

        Not one that the user has asked for: an interrupt may leave the state of the
        method in the middle of a point.
        """
        if not self._fit.training.is_stopped:
            for checkpoint in self._checkpoints:
                self._write(checkpoint, self._done)

    def _write(self, checkpoint: Any, trainings: list) -> None:
        assert self._record is not None
        checkpoint.write(self._record._replace(trainings=trainings))

    def _present(self) -> tuple[dict[str, Any], Any]:
        training = self._fit.training
        return {name: getattr(training, name) for name in _MOVES}, self._fit.state


def _head() -> bytes:
    # The package is whole by now, and imports this module.
    version = import_module("skgnh").__version__
    return b"%s %d, skgnh %s" % (_MAGIC, _FORMAT, version.encode())


def _read(path: Any) -> Record:
    """Return the record of a file.

    Raises
    ------
    ValueError, TypeError
        If it is none of this version, or not whole, or the path is none.
    """
    check_scalar(path, "resume_from", (str, os.PathLike))
    again = "begin anew with resume_from=None."
    name = os.fspath(path)
    head, _, body = Path(path).read_bytes().partition(b"\n")
    if not head.startswith(_MAGIC):
        raise ValueError(f"resume_from={name!r} is no file of a Checkpoint: {again}")
    if head != _head():
        found, own = (each[len(_MAGIC) + 1 :].decode() for each in (head, _head()))
        raise ValueError(
            f"resume_from={name!r} was written by version {found}, this is {own}: "
            f"resume with that version, or {again}"
        )
    digest, payload = body[:64], body[64:]
    if blake2b(payload).digest() != digest:
        raise ValueError(f"resume_from={name!r} is damaged: {again}")
    return Record(**pickle.loads(payload))


def _beginning(estimator: Any, data: Data) -> Record:
    """Return the record of a fit that has not begun."""
    before = None
    if estimator.is_fitted and estimator.warm_start:
        # The fit moves the generator that is among it.
        before = deepcopy(learned(estimator))
    return Record(
        type(estimator).__name__,
        _parameters(estimator),
        _digests(data),
        check_random_state(estimator.random_state).get_state(),
        before,
        [],
    )


def _as_it_was(estimator: Any, record: Record) -> Any:
    """Return the estimator as it was when the fit began."""
    made = copy(estimator)
    made.random_state = np.random.RandomState()
    made.random_state.set_state(record.rng)
    publish(made, deepcopy(record.before or {}))
    return made


def _parameters(estimator: Any) -> dict[str, str]:
    """Return a digest of each parameter, those of its solver included."""
    found = estimator.get_params(deep=True)
    found.pop("verbose")
    if not isinstance(found["random_state"], Integral):
        # A generator moves on: the file has its state.
        found["random_state"] = None
    return {name: joblib.hash(value) for name, value in found.items()}


def _digests(data: Data) -> dict[str, tuple]:
    """Return shape and digest of each array."""
    return {
        # A tensor of PyTorch has no digest of its numbers.
        name: (np.shape(value), joblib.hash(to_host(value), coerce_mmap=True))
        for name, value in data._asdict().items()
        if value is not None
    }


def _compare(record: Record, estimator: Any, data: Data, name: str) -> None:
    """Raise a ValueError if a record is of another fit."""
    start, kind = f"resume_from={name!r} is of a fit", type(estimator).__name__
    if record.kind != kind:
        raise ValueError(f"{start} of a {record.kind}, not of a {kind}.")
    ours = _parameters(estimator)
    other = [key for key in ours if record.parameters.get(key) != ours[key]]
    if other:
        raise ValueError(
            f"{start} with other parameters: {', '.join(other)}. Set those it was "
            "written with, or go on from its model with warm_start=True."
        )
    own = _digests(data)
    for key in sorted(own.keys() | record.data.keys()):
        found, given = (each.get(key, (None,)) for each in (record.data, own))
        if found[0] != given[0]:
            raise ValueError(f"{start} with {key} of shape {found[0]}, not {given[0]}.")
        if found != given:
            raise ValueError(
                f"{start} with other values of {key}: resume with the same data."
            )
