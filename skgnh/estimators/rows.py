"""Rows, targets and weights on their way from the user to the objective."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from skgnh.arrays import as_precision, copied, pick, precision
from skgnh.block_objective import BlockObjective, in_blocks, outputs_of_blocks
from skgnh.lazy_rows import made, release
from skgnh.linearization import Linearization
from skgnh.network import MLP
from skgnh.objective import Objective
from skgnh.operators.from_estimator import assemble
from skgnh.scaling import Scaling

Array = Any

# A start whose objective overflows is brought back by shrinking the output layer.
_SHRINKS = 40


@dataclass(frozen=True)
class Rows:
    """Validated rows; weights of None are equal ones."""

    X: Array
    targets: Array
    weights: Array | None

    def check_domain(self, loss: Any, name: str) -> None:
        """Raise a ValueError if the loss is not defined at a target."""
        if not loss.accepts(self.targets):
            raise ValueError(
                f"{name} is outside the domain of the {type(loss).__name__} loss, "
                f"which needs {loss.domain}."
            )

    def split(
        self, fraction: float, strata: Array | None, rng: Any
    ) -> tuple["Rows", "Rows"]:
        """Set a fraction of the rows aside: the rest and the fraction.

        Raises
        ------
        ValueError
            If the rows are too few, or one side is left without weight.
        """
        n = self.X.shape[0]
        try:
            parts = train_test_split(
                np.arange(n), random_state=rng, test_size=fraction, stratify=strata
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping cannot set validation_fraction={fraction} of the "
                f"{n} rows aside: {error} Give each class two rows at "
                "least, change validation_fraction, or pass X_val."
            ) from error
        weights = np.ones(n) if self.weights is None else self.weights
        if not all(weights[k].any() for k in parts):
            raise ValueError(
                "Early stopping left only rows of weight zero on one side of the "
                "split: change validation_fraction or pass X_val and y_val."
            )
        kept, aside = (
            Rows(pick(self.X, k), pick(self.targets, k), weights[k]) for k in parts
        )
        return kept, aside

    def with_weight(self) -> "Rows":
        """Drop rows of weight zero: they must not change how others are drawn."""
        if self.weights is None or self.weights.all():
            return self
        kept = np.flatnonzero(self.weights)
        return Rows(pick(self.X, kept), pick(self.targets, kept), self.weights[kept])

    def scaled(self, scaling: Scaling) -> "Rows":
        """Return the rows with scaled columns and targets."""
        X, targets = scaling.scale_inputs(self.X), scaling.scale_targets(self.targets)
        # What lies in a file is not asked for again.
        release(self.targets)
        return Rows(X, targets, self.weights)

    def unscaled(self, scaling: Scaling) -> "Rows":
        """Return what :meth:`scaled` has been given, but for rounding."""
        X = scaling.restore_inputs(self.X)
        return Rows(X, scaling.restore_outputs(self.targets), self.weights)

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.X.shape[0] if self.weights is None else self.weights.sum())

    def objective(
        self, network: MLP, loss: Any, alpha: float, curvature: str = "gauss_newton"
    ) -> Objective:
        """Return the training objective over the rows."""
        kind = BlockObjective if in_blocks(self.X) else Objective
        return kind.of(
            assemble(network, loss, self.X, self.targets, self.weights, alpha),
            curvature,
        )

    def validator(
        self, network: MLP, loss: Any, score: Callable, scaling: Scaling
    ) -> Callable[[Array], tuple[float, float]]:
        """Return the function of theta that gives loss and score on the rows."""
        objective = self.scaled(scaling).objective(network, loss, alpha=0)
        targets = made(self.targets)

        def validate(theta):
            z = outputs(network, theta, objective.inputs)
            scored = score(scaling.restore_outputs(z), targets, objective.weights)
            return objective.value(theta), scored

        return validate


def loss_unit(objective: Objective) -> float:
    """Return the unit of `tol`: a nat, or the loss of the best constant prediction."""
    loss = objective.loss
    if loss.is_log_likelihood:
        return 1.0
    null = objective.loss_of_constant(loss.link(objective.mean_target()[None, :])[0, :])
    return null if np.isfinite(null) and null > 0 else 1.0


def start_from_base_rate(
    objective: Objective, theta: Array, exactly: bool = False
) -> Array:
    """Move a start to the base rate, and back from where it overflows.

    scikit-learn's draw of the output intercepts is taken as the deviation from the best
    constant prediction: targets far from zero and rare classes then cost no steps, and
    rows unlike any other get the base rate, not a random prediction. With `exactly`
    there is no deviation: those are the biases that a prior draws the network to.

    Raises
    ------
    ValueError
        If the objective overflows even with an output layer of intercepts only.
    """
    theta = copied(theta)
    output = objective.network.unpack(theta)[-1]
    base = objective.loss.link(objective.mean_target())
    output[:, -1] = base if exactly else output[:, -1] + base
    for _ in range(_SHRINKS):
        if np.isfinite(objective.value(theta)):
            return theta
        output[:, :-1] *= 0.1
    output[:, :-1] = 0.0
    if not np.isfinite(objective.value(theta)):
        raise ValueError(
            "The objective overflows at the start: scale X and y, for example by "
            "sklearn.preprocessing.StandardScaler."
        )
    return theta


def outputs(network: MLP, theta: Array, inputs: Array) -> Array:
    """Return the network's outputs z over all rows, made in chunks."""
    theta = as_precision(theta, precision(inputs))
    if in_blocks(inputs):
        return outputs_of_blocks(network, theta, inputs)
    return Linearization(network, theta, inputs).outputs()
