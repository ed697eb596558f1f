"""What the three estimators share: parameters, fitting, prediction."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from skgnh.arrays import CAN_DISPATCH, as_precision, float_dtypes, namespace, precision
from skgnh.estimators.callbacks import (
    CallbackSupportMixin,
    FitContext,
    journal_of,
)
from skgnh.estimators.candidates import (
    alternative,
    chosen,
    first_widths,
    grown,
    likelier,
    or_constant,
)
from skgnh.estimators.fit import Fit
from skgnh.estimators.ground import Data
from skgnh.estimators.mapped import validate_rows
from skgnh.estimators.parameters import layer_sizes
from skgnh.estimators.prepare import prepare
from skgnh.estimators.prior import sensitivity
from skgnh.estimators.pruned import PrunedWeightsMixin
from skgnh.estimators.publish import learned, publish, refuse_overflow
from skgnh.estimators.rows import outputs, start_from_base_rate
from skgnh.estimators.stream import left, of_fit
from skgnh.lazy_rows import lazily
from skgnh.losses import LOSSES
from skgnh.messages import warn
from skgnh.network import MLP, append_one
from skgnh.operators.from_estimator import check_place, check_sample_weight
from skgnh.posterior import LaplacePosterior
from skgnh.scaling import Moments
from skgnh.threads import limit_threads

Array = Any


class BaseGaussNewtonMLP(PrunedWeightsMixin, CallbackSupportMixin, BaseEstimator, ABC):
    """A multi-layer perceptron trained by Levenberg-Marquardt steps.

    The heads say how rows and targets are read (``_read``), what the layers are
    (``_hidden_layers``), which loss is meant (``_out_activation``) and how a prediction
    is scored (``_score_outputs``).
    """

    _writes_checkpoints = True
    _needs_targets = True
    _has_labels = False

    @abstractmethod
    def _read(self, X: Array, y: Array, reset: bool) -> tuple[Array, Array]:
        """Validate and return X and the (n, d) targets."""

    @abstractmethod
    def _score_outputs(self, z: Array, targets: Array, weights: Array) -> float:
        """Return the score of network outputs."""

    @abstractmethod
    def _out_activation(self) -> str:
        """Return the name of the output activation, which names the loss."""

    def _fit(
        self, data: Data, incremental: bool = False, resume_from: Any = None
    ) -> "BaseGaussNewtonMLP":
        """Prepare, train, publish; and again, if another network may be better."""
        before = dict(vars(self))
        journal = journal_of(self, data, not incremental, resume_from)
        fit = prepare(journal.estimator, data, incremental)
        # By the evidence several networks may be trained.
        most = None if isinstance(self.alpha, str) else fit.training.max_iter
        context = FitContext(self, data.X, data.y, most, journal)
        fit = self._best(fit, context)
        journal.fit_ends()
        fit = or_constant(fit)
        whole = fit.weights(fit.training.theta) | fit.records()
        refuse_overflow(self, before, whole["loss_"])
        whole["_n_seen_"] = fit.ground.n
        if fit.ground.stream is not None:
            whole["_stream_"] = left(fit.ground.stream, fit)
        elif fit.hyper is not None:
            whole["_stream_"] = of_fit(fit)
        posterior = fit.posterior()
        if posterior is not None:
            whole |= {"posterior_": posterior, **self._beside(fit, posterior)}
            theta = fit.expand(fit.training.theta)
            whole["_sensitivity_"] = sensitivity(fit.objective, theta)
        publish(self, whole)
        context.fit_ends({})
        if not (fit.training.reason or incremental):
            scale = "" if self.standardize else ", or scale the data"
            warn(
                f"Levenberg-Marquardt: {fit.training.max_iter} iterations reached and "
                f"the optimization hasn't converged yet. Raise max_iter or tol{scale}.",
                ConvergenceWarning,
            )
        return self

    def _best(self, fit: Fit, context: FitContext) -> Fit:
        """Train a fit, and what may be better until the user stops; return the best."""
        self._train(fit, context)
        other = alternative(fit)
        if other is not None:
            self._train(other, context)
            if other.training.is_stopped:
                return fit
            fit = self._prefers(fit, other)
        wider = grown(fit)
        while wider is not None:
            self._train(wider, context)
            if wider.training.is_stopped:
                return fit
            fit, wider = chosen(fit, wider)
        return fit

    def _train(self, fit: Fit, context: FitContext) -> None:
        """Train a fit, or what a checkpoint has left of it."""
        context.journal.take_up(fit)
        if not fit.training.is_over:
            self._take_steps(fit, context)
        context.journal.training_ends()

    def _take_steps(self, fit: Fit, context: FitContext) -> None:
        """Take the steps of a fit; the model is usable after each iteration."""
        training = fit.training

        def iteration_ends(theta):
            made = fit.weights(theta)
            publish(self, made)
            return context.iteration_ends(lambda: made | fit.records())

        steps = fit.method.steps(training.problem, fit.state)
        with limit_threads(fit.network, fit.batch), np.errstate(all="ignore"):
            try:
                training.run(steps, iteration_ends)
            finally:
                # A solver may refuse the problem at the first point.
                if training.n_iter or training.reason:
                    publish(self, fit.weights(training.theta) | fit.records())

    @property
    def _has_hidden(self) -> bool:
        return self.is_fitted and bool(self.hidden_activations_)

    @property
    def _sizes_are_given(self) -> bool:
        return self.hidden_layer_sizes != "auto"

    @property
    def is_fitted(self) -> bool:
        """Whether there are weights to go on from."""
        return "coefs_" in learned(self)

    @property
    def _scaled_parameters(self) -> Array:
        """The parameters for scaled columns, which keep digits that raw ones lose."""
        network = self._network
        raw = network.from_coefs(self.coefs_, self.intercepts_)
        return self._scaling_.unfold(network, raw)

    @property
    def _posterior(self) -> LaplacePosterior | None:
        """The posterior, unless there is none of the present weights."""
        posterior = learned(self).get("posterior_")
        if posterior is None:
            return None
        network = self._network
        raw = network.from_coefs(self.coefs_, self.intercepts_)
        if raw.shape != posterior.theta.shape:
            return None
        xp, dtype = namespace(raw), precision(raw)
        made = self._scaling_.fold(network, as_precision(posterior.theta, dtype))
        rounding = float(np.finfo(dtype).eps) ** 0.5
        near = xp.abs(made - raw) <= rounding * xp.abs(raw)
        return posterior if bool(xp.all(near)) else None

    @property
    def feature_importances_(self) -> Array:
        """Share of each column in how far outputs move, where there is a posterior."""
        check_is_fitted(self)
        if self._posterior is None:
            raise AttributeError(
                f"This {type(self).__name__} has no feature_importances_, which a fit "
                "with alpha='evidence' or 'ard' gives, of its own weights."
            )
        found = self._sensitivity_
        return found / (float(namespace(found).sum(found)) or 1.0)

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

    def _hidden_layers(self, n: int) -> tuple[list[int], list[str]]:
        """Return widths and activations of the hidden layers, for n rows."""
        if self.hidden_layer_sizes != "auto":
            widths = layer_sizes(self.hidden_layer_sizes, "hidden_layer_sizes")
        elif self.is_fitted:
            widths = list(self._network.layer_units[1:-1])
        else:
            widths = first_widths(n, self)
        activation = self.activation
        if activation == "auto":
            activation = self.hidden_activations_[0] if self._has_hidden else "tanh"
        return widths, [activation] * len(widths)

    def _make_network(self, X: Array, targets: Array) -> MLP:
        widths, activations = self._hidden_layers(X.shape[0])
        return MLP((X.shape[1], *widths, targets.shape[1]), tuple(activations))

    def _first(self, objective: Any, theta: Array) -> Array:
        """Return the parameters to begin with, from a random draw."""
        exactly = isinstance(self.alpha, str)
        return start_from_base_rate(objective, theta, exactly=exactly)

    def _alternative(self, fit: Fit) -> Fit | None:
        """Return another fit, whose evidence is to be compared with this one's."""
        return None

    def _prefers(self, fit: Fit, other: Fit) -> Fit:
        """Return the better of a fit and its alternative."""
        return likelier(fit, other)

    def _beside(self, fit: Fit, posterior: LaplacePosterior) -> dict[str, Any]:
        """Return what else is learned, once the posterior is."""
        return {}

    def _starts_near(self, network: MLP) -> bool:
        """Say whether the start is near to a solution, and tells of the prior."""
        return False

    def _target_moments(self, moments: Moments) -> Moments:
        """Return by what targets are centred and scaled."""
        return moments

    def _strata(self, targets: Array) -> Array | None:
        """Return what the validation split should be stratified by."""
        return None

    # ---- prediction -----------------------------------------------------------------

    @property
    def _network(self) -> MLP:
        """The network of the fitted layers."""
        units = (self.coefs_[0].shape[0], *(coef.shape[1] for coef in self.coefs_))
        return MLP(units, tuple(self.hidden_activations_))

    def _inputs(self, X: Array) -> Array:
        """Return checked rows, scaled and with their ones."""
        check_is_fitted(self)
        X = validate_rows(
            self, X, reset=False, accept_sparse="csr", dtype=float_dtypes(X)
        )
        check_place(X, self.coefs_[0], self)
        with np.errstate(over="ignore"):
            return append_one(self._scaling_.scale_inputs(lazily(X)))

    def _outputs(self, inputs: Array) -> Array:
        """Return the outputs in the units of the targets, of shape (n, d)."""
        with np.errstate(over="ignore"):
            z = outputs(self._network, self._scaled_parameters, inputs)
            return self._scaling_.restore_outputs(z)

    def _predict_mean(self, X: Array) -> Array:
        """Return the inverse link of the outputs, of shape (n, d)."""
        z = self._outputs(self._inputs(X))
        with np.errstate(over="ignore"):
            return self._loss.mean(z)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = CAN_DISPATCH
        return tags
