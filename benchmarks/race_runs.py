"""One solver's training, traced: seconds of fitting against the objective."""

import warnings
from contextlib import nullcontext
from time import perf_counter
from unittest.mock import patch

import numpy as np
import scipy.optimize
from race_data import pack
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_limits

from skgnh import (
    GaussNewtonAutoencoder,
    GaussNewtonMLPClassifier,
    GaussNewtonMLPRegressor,
)
from skgnh.training import LevenbergMarquardt

# Inside a long epoch of mini-batches a point is due after this growth of the time.
DUE = 1.05
ADAM_BATCH = 200
# What is kept of each trial step of this package.
STEP = ("time", "damping", "gain_ratio", "residual", "products", "solves", "accepted")
# Numbers of threads whose speeds differ by less are compared twice.
CLOSE = 2.0


class Halt(Exception):
    """Ends a fit from within."""


class Trace:
    """Objective against the seconds since the fit began, its own measuring excluded.

    Parameters
    ----------
    value : callable
        Objective of the parameters, in doubles.
    max_seconds, max_points : float
        Limits beyond which the fit is ended.
    enough : callable
        Says of the seconds and the lowest objective so far whether the fit may end.
    clock : callable
        Gives the seconds: of the wall, or those of the processor.
    """

    def __init__(
        self,
        value,
        max_seconds=np.inf,
        max_points=np.inf,
        enough=lambda seconds, lowest: False,
        clock=perf_counter,
    ):
        self._value, self._enough = value, enough
        self._max_seconds, self._max_points = max_seconds, max_points
        self._clock = clock
        self.seconds, self.objective, self.iterations = [], [], -1
        self._lowest = np.inf
        self.theta, self.start, self.status, self.note = None, None, "", ""
        self.steps = {}

    def begin(self):
        self._began = self._clock()

    def due(self):
        return self._clock() - self._began >= DUE * self.seconds[-1]

    def check(self):
        """End a fit that is over its time, between two points too."""
        if self._clock() - self._began >= self._max_seconds:
            self._halt("time")

    def record(self, theta, ends_iteration=True):
        """Add a point; `theta()` gives the parameters in doubles."""
        paused = self._clock()
        self.iterations += ends_iteration
        self.seconds.append(paused - self._began)
        self.theta = theta()
        if self.start is None:
            self.start = self.theta
        self.objective.append(float(self._value(self.theta)))
        self._lowest = min(self._lowest, self.objective[-1])
        if self._enough(self.seconds[-1], self._lowest):
            self._halt("target")
        if len(self.seconds) >= self._max_points:
            self._halt("points")
        self._began += self._clock() - paused
        self.check()

    def _halt(self, status):
        self.status = status
        raise Halt


# ---- scikit-learn --------------------------------------------------------------------


class _Traced:
    """Hooks into scikit-learn's perceptrons: the common start, and the trace.

    The training itself is scikit-learn's, but for `consistent`: then L-BFGS is given
    the loss that belongs to the gradient that it is given.
    """

    def _initialize(self, *args, **kwargs):
        super()._initialize(*args, **kwargs)
        intercepts = self.intercepts_[-1]
        intercepts += self.problem.base_rate.astype(intercepts.dtype)
        self._record()

    def _record(self):
        network = self.problem.network
        self.trace.record(lambda: pack(self.coefs_, self.intercepts_, network))

    def _update_no_improvement_count(self, *args, **kwargs):
        super()._update_no_improvement_count(*args, **kwargs)
        self._record()

    def _fit_lbfgs(self, *args, **kwargs):
        minimize = scipy.optimize.minimize

        def parameters(x):
            # The line search may have ended elsewhere; it unpacks again itself.
            self._unpack(x.copy())
            return pack(self.coefs_, self.intercepts_, self.problem.network)

        def callback(x):
            self.trace.record(lambda: parameters(x))

        def traced(*args, **kwargs):
            result = minimize(*args, callback=callback, **kwargs)
            self.trace.note = str(result.message)
            return result

        with patch.object(scipy.optimize, "minimize", traced):
            super()._fit_lbfgs(*args, **kwargs)

    def _loss_grad_lbfgs(self, packed, X, *args, **kwargs):
        loss, gradient = super()._loss_grad_lbfgs(packed, X, *args, **kwargs)
        if self.consistent:
            squares = sum(np.vdot(coef, coef) for coef in self.coefs_)
            penalty = 0.5 * self.alpha * squares / len(X)
            loss = self.problem.gradient_factor * (loss - penalty) + penalty
        return loss, gradient


class _TracedClassifier(_Traced, MLPClassifier):
    pass


class _TracedRegressor(_Traced, MLPRegressor):
    pass


def peers(problem):
    """Names of scikit-learn's runs: 'lbfgs*' where its loss and gradient differ."""
    return ["adam", "lbfgs", *(["lbfgs*"] if problem.gradient_factor > 1 else [])]


def peer(name, problem, seed, alpha, epochs):
    """A scikit-learn perceptron and its rows.

    Its `alpha` is such that the gradient is that of the common objective (a multiple
    of it for several outputs): adam divides by the rows of a mini-batch, not of all.
    """
    alpha = alpha * problem.gradient_factor
    X, y = problem.X, problem.y
    if name == "adam":
        alpha *= min(ADAM_BATCH, len(X)) / len(X)
    else:
        # SciPy's L-BFGS works in doubles; single rows would be cast at each product.
        X = X.astype(np.float64)
        y = X if problem.task == "ae" else y
    kind = _TracedClassifier if problem.task == "clf" else _TracedRegressor
    model = kind(
        hidden_layer_sizes=problem.hidden,
        activation=problem.activation,
        solver=name.removesuffix("*"),
        alpha=alpha,
        batch_size=min(ADAM_BATCH, len(X)),
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=np.inf,
        random_state=seed,
    )
    model.consistent = name.endswith("*")
    return model, X, y


# ---- skgnh ---------------------------------------------------------------------------


def challenger(problem, seed, alpha, options):
    """An estimator of this package, as a user has it but for the common objective.

    That has a given penalty, no scaling, and no tolerance.
    """
    settings = {
        "activation": problem.activation,
        "alpha": alpha,
        "standardize": False,
        "max_iter": 2**31,
        "tol": 0.0,
        "n_iter_no_change": np.inf,
        "random_state": seed,
        **options,
    }
    if problem.task == "ae":
        code = problem.hidden[: len(problem.hidden) // 2 + 1]
        settings["code_activation"] = problem.activation
        return GaussNewtonAutoencoder(code, **settings)
    settings["hidden_layer_sizes"] = problem.hidden
    if problem.task == "clf":
        return GaussNewtonMLPClassifier(**settings)
    return GaussNewtonMLPRegressor(**settings)


def watched(trace):
    """Stand in for the method's steps: the same steps, traced."""
    steps_of = LevenbergMarquardt.steps

    def traced(method, problem, state):
        trace.record(lambda: problem.start.astype(np.float64))
        for step in steps_of(method, problem, state):
            for field in STEP:
                trace.steps.setdefault(field, []).append(getattr(step, field))
            solver = type(step.point.solver).__name__
            trace.note = f"{solver} {step.status}".strip()
            if step.ends_epoch or (step.ends_batch and trace.due()):
                after = step.theta.astype(np.float64)
                trace.record(lambda after=after: after, step.ends_epoch)
            else:
                trace.check()
            yield step

    return patch.object(LevenbergMarquardt, "steps", traced)


# ---- both ----------------------------------------------------------------------------


def train(name, problem, trace, *, seed, alpha, epochs, threads, options=None):
    """Fit from scratch until the solver or the trace ends it."""
    if name == "skgnh":
        model = challenger(problem, seed, alpha, options or {})
        X, y, hooks = problem.X, problem.y, watched(trace)
    else:
        model, X, y = peer(name, problem, seed, alpha, epochs)
        model.problem, model.trace, hooks = problem, trace, nullcontext()
    with threadpool_limits(threads), warnings.catch_warnings(), hooks:
        # That nothing has converged when its time is over is what is measured.
        warnings.simplefilter("ignore")
        trace.begin()
        try:
            model.fit(X, y)
            trace.status = "epochs" if trace.iterations >= epochs else "stopped"
        except Halt:
            pass
    return trace


def best_threads(name, problem, candidates, points=11, seconds=2.0, **settings):
    """The number of threads that makes the first iterations fastest."""

    def probe(threads):
        trace = Trace(lambda theta: np.nan, seconds, points)
        return train(name, problem, trace, threads=threads, **settings).seconds

    runs = {threads: [probe(threads)] for threads in candidates}
    common = min(len(first) for (first,) in runs.values()) - 1
    if common < 1:  # not an iteration within the seconds
        return max(candidates, key=lambda threads: len(runs[threads][0]))
    fastest = min(first[common] for (first,) in runs.values())
    close = [t for t in candidates if runs[t][0][common] <= CLOSE * fastest]
    if len(close) > 1:
        for threads in close:
            runs[threads].append(probe(threads))
    # Stopped by the clock a probe may be shorter than the first.
    return min(
        close,
        key=lambda t: min(run[common] for run in runs[t] if len(run) > common),
    )
