"""What the three estimators share: parameters, fitting, prediction."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from skgnh.estimators.callbacks import CallbackSupportMixin, FitContext
from skgnh.estimators.training import Patience, Training
from skgnh.linearization import Linearization
from skgnh.losses import LOSSES
from skgnh.network import MLP, append_one
from skgnh.objective import Objective
from skgnh.operators.from_estimator import check_sample_weight, normalized_weights
from skgnh.optimize import levenberg_marquardt, nielsen, success
from skgnh.schedule import full_batch, mini_batches
from skgnh.solvers import Solver, all_solvers

Array = Any

# Below this many multiply-adds in a layer's product one thread is faster than two.
_ONE_THREAD = 1e6
# Rows that estimate the curvature well enough for a step, and the share of all.
_CURVATURE_ROWS = 2000
_CURVATURE_SHARE = 0.1
# A start whose objective overflows is brought back by shrinking the output layer.
_SHRINKS = 40


class BaseGaussNewtonMLP(CallbackSupportMixin, BaseEstimator, ABC):
    """A multi-layer perceptron trained by Levenberg-Marquardt steps.

    The heads say how rows and targets are read (``_read``), what the layers are
    (``_hidden_layers``), which loss is meant (``_out_activation``) and how a prediction
    is scored (``_score_outputs``).
    """

    @abstractmethod
    def _hidden_layers(self) -> tuple[list[int], list[str]]:
        """Return widths and activations of the hidden layers."""

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
        original = {"X": X, "y": y}
        X, targets = self._read(X, y, reset=not continuing)
        self.out_activation_ = self._out_activation()
        self._check_targets(targets, "y")
        weights = self._row_weights(X, targets, sample_weight)
        rng = check_random_state(self.random_state)
        start, network = self._start(X, targets, rng, continuing)
        X, targets, weights, validation = self._split(
            X, targets, weights, validation, rng
        )
        objective = self._objective(network, X, targets, weights)
        unit = self._loss_unit(objective)
        if not continuing:
            start = self._from_base_rate(objective, start)
        validate = self._validator(network, validation)

        n = X.shape[0]
        max_iter = 1 if incremental else self.max_iter
        batch, curvature = self._sizes(n)
        generator = np.random.default_rng(rng.randint(2**31 - 1))
        if batch < n:
            schedule = mini_batches(n, batch, curvature, generator)
        else:
            schedule = full_batch(n, curvature, generator)
        steps = levenberg_marquardt(
            objective,
            start,
            solver,
            schedule,
            damping=getattr(self, "damping_", self.damping)
            if continuing
            else self.damping,
            relative=not continuing,
            rule=success if batch < n else nielsen,
            step_tol=float(np.finfo(X.dtype).eps),
        )
        training = Training(start)
        context = FitContext(self, original["X"], original["y"], max_iter)
        largest = min(batch, curvature) * max(o * f for o, f in network.shapes)
        with (
            threadpool_limits(1 if largest < _ONE_THREAD else None, user_api="blas"),
            np.errstate(all="ignore"),
        ):
            training.run(
                steps,
                max_iter=max_iter,
                patience=Patience(
                    self.tol * unit, np.inf if incremental else self.n_iter_no_change
                ),
                validate=validate,
                early_stopping=self.early_stopping and not incremental,
                iteration_ends=lambda: context.iteration_ends(
                    lambda: self._attributes(network, training, objective)
                ),
                verbose=self.verbose,
            )
        for name, value in self._attributes(network, training, objective).items():
            setattr(self, name, value)
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

    def _check_targets(self, targets: Array, name: str) -> None:
        loss = LOSSES[self.out_activation_]
        if not loss.accepts(targets):
            raise ValueError(
                f"{name} is outside the domain of the {type(loss).__name__} loss, "
                f"which needs {loss.domain}."
            )

    def _row_weights(
        self, X: Array, targets: Array, sample_weight: Array | None
    ) -> Array | None:
        """Return the weight of each row, or None for equal ones."""
        return None if sample_weight is None else check_sample_weight(sample_weight, X)

    def _start(
        self, X: Array, targets: Array, rng: Any, continuing: bool
    ) -> tuple[Array, MLP]:
        """Return the first parameters and the network."""
        widths, activations = self._hidden_layers()
        units = (X.shape[1], *widths, targets.shape[1])
        network = MLP(units, tuple(activations))
        if not continuing:
            return network.initialize(rng, X.dtype), network
        if self._network.layer_units != units:
            raise ValueError(
                f"The fitted layers {self._network.layer_units} cannot go on as "
                f"{units}: refit with warm_start=False."
            )
        theta = network.from_coefs(self.coefs_, self.intercepts_)
        return theta.astype(X.dtype, copy=False), network

    def _split(
        self, X: Array, targets: Array, weights: Array, validation: tuple, rng: Any
    ) -> tuple:
        """Set rows aside for early stopping, unless the user has brought some."""
        X_val, y_val, weights_val = validation
        if X_val is not None:
            X_val, y_val = self._read(X_val, y_val, reset=False)
            self._check_targets(y_val, "y_val")
            if weights_val is not None:
                weights_val = check_sample_weight(weights_val, X_val)
        elif self.early_stopping:
            if weights is None:
                weights = np.ones(X.shape[0])
            X, X_val, targets, y_val, weights, weights_val = train_test_split(
                X,
                targets,
                weights,
                random_state=rng,
                test_size=self.validation_fraction,
                stratify=self._strata(targets),
            )
            if not (weights.any() and weights_val.any()):
                raise ValueError(
                    "Early stopping left only rows of weight zero on one side of the "
                    "split: change validation_fraction or pass X_val and y_val."
                )
        if weights is not None and not weights.all():
            # Rows of no weight must not change how the others are drawn.
            kept = np.flatnonzero(weights)
            X, targets, weights = X[kept], targets[kept], weights[kept]
        return X, targets, weights, (X_val, y_val, weights_val)

    def _strata(self, targets: Array) -> Array | None:
        """Return what the validation split should be stratified by."""
        return None

    def _objective(
        self, network: MLP, X: Array, targets: Array, weights: Array | None
    ) -> Objective:
        weights, total = normalized_weights(weights, X.shape[0], X.dtype)
        ridge = (network.weight_mask() * (self.alpha / total)).astype(X.dtype)
        loss = LOSSES[self.out_activation_]
        return Objective(network, loss, append_one(X), targets, weights, ridge)

    def _loss_unit(self, objective: Objective) -> float:
        """Return the unit of `tol`: a nat, or the loss of the best constant."""
        loss, weights, y = objective.loss, objective.weights, objective.targets
        if loss.is_log_likelihood:
            return 1.0
        mean = (weights @ y)[None, :]
        z = np.broadcast_to(loss.link(mean), y.shape)
        with np.errstate(all="ignore"):
            null = float(np.dot(weights.astype(float), loss.value(z, y)))
        return null if np.isfinite(null) and null > 0 else 1.0

    def _from_base_rate(self, objective: Objective, theta: Array) -> Array:
        """Move the start to the base rate, and back from where it overflows.

        scikit-learn's draw of the output intercepts is taken as the deviation from the
        best constant prediction: targets far from zero and rare classes then cost no
        steps, and rows unlike any other get the base rate, not a random prediction.
        """
        theta = theta.copy()
        output = objective.network.unpack(theta)[-1]
        output[:, -1] += objective.loss.link(objective.weights @ objective.targets)
        for _ in range(_SHRINKS):
            if np.isfinite(objective.value(theta)):
                return theta
            output[:, :-1] *= 0.1
        output[:, :-1] = 0
        if not np.isfinite(objective.value(theta)):
            raise ValueError(
                "The objective overflows at the start: scale X and y, for example by "
                "sklearn.preprocessing.StandardScaler."
            )
        return theta

    def _validator(self, network: MLP, validation: tuple) -> Any:
        """Return the function of theta that gives validation loss and score."""
        X, targets, weights = validation
        if X is None:
            return None
        weights, _ = normalized_weights(weights, X.shape[0], X.dtype)
        inputs = append_one(X)
        loss = LOSSES[self.out_activation_]
        objective = Objective(
            network, loss, inputs, targets, weights, np.zeros(1, X.dtype)
        )

        def validate(theta):
            z = _outputs(network, theta, inputs)
            score = self._score_outputs(z, targets, weights)
            return objective.value(theta), score

        return validate

    def _attributes(
        self, network: MLP, training: Training, objective: Objective
    ) -> dict[str, Any]:
        """Return the fitted attributes of this moment of the training."""
        theta = training.theta
        if training.best_theta is not None:
            theta = training.best_theta
        coefs, intercepts = network.to_coefs(theta)
        validated = bool(training.validation_loss_curve)
        stopped_early = training.best_theta is not None
        return {
            "coefs_": coefs,
            "intercepts_": intercepts,
            "hidden_activations_": list(network.activations),
            "n_layers_": len(network.layer_units),
            "n_outputs_": network.n_outputs,
            "n_iter_": training.n_iter,
            "loss_": objective.value(theta),
            "best_loss_": None
            if stopped_early
            else min(training.loss_curve, default=np.inf),
            "loss_curve_": list(training.loss_curve),
            "validation_loss_curve_": list(training.validation_loss_curve)
            if validated
            else None,
            "validation_scores_": list(training.validation_scores)
            if validated
            else None,
            "best_validation_score_": max(training.validation_scores)
            if validated
            else None,
            "history_": training.history(),
            "damping_": training.damping,
            "solver_": training.solver,
        }

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
            z = _outputs(network, theta, append_one(X))
            return LOSSES[self.out_activation_].mean(z)

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


def _outputs(network: MLP, theta: Array, inputs: Array) -> Array:
    """Return the network's outputs z over all rows, made in chunks."""
    theta = theta.astype(inputs.dtype, copy=False)
    chunks = Linearization(network, theta, inputs).outputs()
    return np.concatenate([z for _, z in chunks])
