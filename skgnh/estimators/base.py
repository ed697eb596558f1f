"""What the three estimators share: parameters, fitting, prediction."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from skgnh.estimators.callbacks import CallbackSupportMixin, FitContext
from skgnh.estimators.pruned import PrunedWeightsMixin
from skgnh.estimators.rows import Rows, loss_unit, outputs, start_from_base_rate
from skgnh.estimators.training import Patience, Training, fitted_attributes
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.objective import Objective, RestrictedObjective
from skgnh.operators.from_estimator import check_sample_weight
from skgnh.optimize import Step, levenberg_marquardt, nielsen, success
from skgnh.schedule import full_batch, mini_batches
from skgnh.solvers import Solver, all_solvers
from skgnh.threads import limit_threads

Array = Any

# Rows that estimate the curvature well enough for a step, and the share of all.
_CURVATURE_ROWS = 2000
_CURVATURE_SHARE = 0.1


class BaseGaussNewtonMLP(PrunedWeightsMixin, CallbackSupportMixin, BaseEstimator, ABC):
    """A multi-layer perceptron trained by Levenberg-Marquardt steps.

    The heads say how rows and targets are read (``_read``), what the layers are
    (``_hidden_layers``), which loss is meant (``_out_activation``) and how a prediction
    is scored (``_score_outputs``).
    """

    _needs_targets = True

    @abstractmethod
    def _read(self, X: Array, y: Array, reset: bool) -> tuple[Array, Array]:
        """Validate and return X and the (n, d) targets."""

    @abstractmethod
    def _score_outputs(self, z: Array, targets: Array, weights: Array) -> float:
        """Return the score of network outputs."""

    @abstractmethod
    def _out_activation(self) -> str:
        """Return the name of the output activation, which names the loss."""

    # ---- reading the parameters -----------------------------------------------------

    def _check_parameters(self) -> None:
        """Raise a ValueError or TypeError that names the parameter at fault."""
        check_scalar(self.alpha, "alpha", Real, min_val=0)
        check_scalar(
            self.damping, "damping", Real, min_val=0, include_boundaries="neither"
        )
        check_scalar(self.max_iter, "max_iter", Integral, min_val=1)
        check_scalar(self.tol, "tol", Real, min_val=0)
        check_scalar(self.n_iter_no_change, "n_iter_no_change", Real, min_val=1)
        check_scalar(
            self.validation_fraction,
            "validation_fraction",
            Real,
            min_val=0,
            max_val=1,
            include_boundaries="neither",
        )
        for name in ("alpha", "damping", "tol", "validation_fraction"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}.")
        if np.isnan(self.n_iter_no_change):
            raise ValueError("n_iter_no_change must not be nan.")
        for name in ("batch_size", "curvature_batch_size"):
            value = getattr(self, name)
            if isinstance(value, str) and value == "auto":
                continue
            check_scalar(value, name, Integral, min_val=1)

    def _make_solver(self) -> Solver:
        """Return a fresh solver of the given name or a clone of the given one."""
        if isinstance(self.solver, str):
            solvers = all_solvers()
            if self.solver not in solvers:
                raise ValueError(
                    f"Unknown solver {self.solver!r}; choose among {sorted(solvers)} "
                    "or pass an instance of skgnh.solvers.Solver."
                )
            return solvers[self.solver]()
        if not isinstance(self.solver, Solver):
            raise ValueError(
                "solver must be a name or an instance of skgnh.solvers.Solver, got "
                f"{self.solver!r}."
            )
        return clone(self.solver)

    def _sizes(self, n_rows: int) -> tuple[int, int]:
        """Return how many rows serve a gradient and a curvature."""
        gradient = n_rows if self.batch_size == "auto" else self.batch_size
        if gradient > n_rows:
            warnings.warn(
                f"batch_size={gradient} is larger than the {n_rows} rows: all are "
                "taken.",
                stacklevel=5,
            )
            gradient = n_rows
        curvature = self.curvature_batch_size
        if curvature == "auto":
            curvature = max(_CURVATURE_ROWS, int(_CURVATURE_SHARE * gradient))
        return gradient, min(curvature, gradient)

    # ---- fitting --------------------------------------------------------------------

    def _fit(
        self,
        X: Array,
        y: Array,
        sample_weight: Array | None,
        validation: tuple = (None, None, None),
        incremental: bool = False,
    ) -> "BaseGaussNewtonMLP":
        self._check_parameters()
        solver = self._make_solver()
        continuing = hasattr(self, "coefs_") and (self.warm_start or incremental)
        max_iter = 1 if incremental else self.max_iter
        early_stopping = self.early_stopping and not incremental
        given = (X, y)
        X, targets = self._read(X, y, reset=not continuing)
        self.out_activation_ = self._out_activation()
        rows = Rows(X, targets, self._row_weights(X, targets, sample_weight))
        rows.check_domain(self._loss, "y")
        if not incremental:
            self._check_enough(targets, rows.weights)
        held_out = self._read_validation(*validation, n_outputs=targets.shape[1])

        rng = check_random_state(self.random_state)
        network = self._make_network(X, targets)
        start = None if continuing else network.initialize(rng, X.dtype)
        if early_stopping and held_out is None:
            rows, held_out = rows.split(
                self.validation_fraction, self._strata(targets), rng
            )
        rows = rows.with_weight()
        objective = rows.objective(network, self._loss, self.alpha, solver.curvature)
        if continuing:
            start = self._present_weights(network, X.dtype)
        else:
            start = start_from_base_rate(objective, start)
            vars(self).pop("pruned_", None)
        validate = None
        if held_out is not None:
            validate = held_out.validator(network, self._loss, self._score_outputs)

        n = rows.X.shape[0]
        batch, curvature = self._sizes(n)
        generator = np.random.default_rng(rng.randint(2**31 - 1))
        if batch < n:
            schedule, rule = mini_batches(n, batch, curvature, generator), success
        else:
            schedule, rule = full_batch(n, curvature, generator), nielsen
        steps = self._steps(
            objective,
            start,
            solver,
            schedule,
            damping=self.damping_ if continuing else self.damping,
            relative=not continuing,
            rule=rule,
            step_tol=float(np.finfo(X.dtype).eps),
        )
        training = Training(start)
        patience = Patience(
            self.tol * loss_unit(objective),
            np.inf if incremental else self.n_iter_no_change,
        )
        context = FitContext(self, *given, max_iter)
        with (
            limit_threads(network, min(batch, curvature)),
            np.errstate(all="ignore"),
        ):
            training.run(
                steps,
                max_iter=max_iter,
                patience=patience,
                validate=validate,
                early_stopping=early_stopping,
                iteration_ends=lambda: context.iteration_ends(
                    lambda: fitted_attributes(network, training, objective)
                ),
                verbose=self.verbose,
            )
            vars(self).update(fitted_attributes(network, training, objective))
        context.fit_ends({})
        if not (training.converged or incremental):
            warnings.warn(
                f"Levenberg-Marquardt: {max_iter} iterations reached and the "
                "optimization hasn't converged yet. Raise max_iter or tol, or scale "
                "the data.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _steps(
        self, objective: Objective, start: Array, *args: Any, **kwargs: Any
    ) -> Iterator[Step]:
        """Yield Levenberg-Marquardt steps in which pruned weights stay zero."""
        if not hasattr(self, "pruned_"):
            yield from levenberg_marquardt(objective, start, *args, **kwargs)
            return
        no_bias = [np.zeros_like(b, dtype=bool) for b in self.intercepts_]
        pruned = objective.network.from_coefs(self.pruned_, no_bias)
        free = np.flatnonzero(~pruned)
        restricted = RestrictedObjective(objective, np.where(pruned, 0, start), free)
        for step in levenberg_marquardt(restricted, start[free], *args, **kwargs):
            yield replace(step, theta=restricted.expand(step.theta))

    @property
    def _loss(self) -> Any:
        return LOSSES[self.out_activation_]

    def _row_weights(
        self, X: Array, targets: Array, sample_weight: Array | None
    ) -> Array | None:
        """Return the weight of each row, or None for equal ones."""
        return None if sample_weight is None else check_sample_weight(sample_weight, X)

    def _check_enough(self, targets: Array, weights: Array | None) -> None:
        """Raise a ValueError if the rows with weight are too few to learn from."""

    def _read_validation(
        self, X: Array, y: Array, sample_weight: Array, n_outputs: int
    ) -> Rows | None:
        """Return the user's validation rows, if there are any."""
        if X is None:
            if y is not None or sample_weight is not None:
                raise ValueError("y_val and sample_weight_val need X_val.")
            return None
        if y is None and self._needs_targets:
            raise ValueError("X_val needs y_val.")
        X, targets = self._read(X, y, reset=False)
        if targets.shape[1] != n_outputs:
            raise ValueError(
                f"y_val has {targets.shape[1]} outputs, y has {n_outputs}."
            )
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
        rows = Rows(X, targets, sample_weight)
        rows.check_domain(self._loss, "y_val")
        return rows

    def _hidden_layers(self) -> tuple[list[int], list[str]]:
        """Return widths and activations of the hidden layers."""
        widths = layer_sizes(self.hidden_layer_sizes, "hidden_layer_sizes")
        return widths, [self.activation] * len(widths)

    def _make_network(self, X: Array, targets: Array) -> MLP:
        widths, activations = self._hidden_layers()
        return MLP((X.shape[1], *widths, targets.shape[1]), tuple(activations))

    def _present_weights(self, network: MLP, dtype: Any) -> Array:
        """Return the fitted parameters, to go on from.

        Raises
        ------
        ValueError
            If the layers have changed.
        """
        if self._network != network:
            raise ValueError(
                f"The fitted {self._network} cannot go on as {network}: refit with "
                "warm_start=False."
            )
        theta = network.from_coefs(self.coefs_, self.intercepts_)
        return theta.astype(dtype, copy=False)

    def _strata(self, targets: Array) -> Array | None:
        """Return what the validation split should be stratified by."""
        return None

    # ---- prediction -----------------------------------------------------------------

    @property
    def _network(self) -> MLP:
        """The network of the fitted layers."""
        units = (self.coefs_[0].shape[0], *(coef.shape[1] for coef in self.coefs_))
        return MLP(units, tuple(self.hidden_activations_))

    def _predict_mean(self, X: Array) -> Array:
        """Return the inverse link of the outputs, of shape (n, d)."""
        check_is_fitted(self)
        X = validate_data(
            self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32]
        )
        network = self._network
        theta = network.from_coefs(self.coefs_, self.intercepts_)
        with np.errstate(over="ignore"):
            z = outputs(network, theta, append_one(X))
            return self._loss.mean(z)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def layer_sizes(sizes: Any, name: str) -> list[int]:
    """Return layer widths as a list; a single width is one layer.

    Raises
    ------
    ValueError
        If a width is not a positive integer.
    """
    widths = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    if not all(isinstance(width, Integral) and width > 0 for width in widths):
        raise ValueError(f"{name} must be positive integers, got {sizes!r}.")
    return [int(width) for width in widths]
