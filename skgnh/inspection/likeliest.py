"""How far a network is pruned: while the evidence of what is left rises."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

from sklearn.exceptions import ConvergenceWarning

# Steps in a row without more evidence that end the pruning. With more patience it
# crosses valleys, to the few weights that explain few rows, but not others so well.
_PATIENCE = 2


def check_has_evidence(network: Any, is_fitted: bool) -> None:
    """Raise a ValueError unless the evidence is, or was, what a network is fitted by.

    Parameters
    ----------
    network : estimator
        A classifier, regressor or autoencoder of this package.
    is_fitted : bool
        Whether it has been fitted already.
    """
    if not isinstance(network.alpha, str):
        raise ValueError(
            "sparsity='evidence' needs a network with alpha='evidence' or 'ard', not "
            f"alpha={network.alpha!r}."
        )
    if is_fitted and network._penalty_ is None:
        raise ValueError(
            "sparsity='evidence' needs a network that was fitted by the evidence: "
            f"fit it with alpha={network.alpha!r} first."
        )


def likeliest(
    network: Any, data: tuple, cut: Callable[..., Any], counts: Iterable[int]
) -> Any:
    """Prune a network step by step; return the step of most evidence.

    What is left after a step is trained until it converges, prior and noise included,
    and has the evidence of a network without the other weights. The first to compete
    is the whole network, trained on in the same way: what training gains is not put
    down to pruning.

    Parameters
    ----------
    network : estimator
        Fitted by the evidence; it is not changed.
    data : tuple
        What `fit` takes: X, y and the weights of the rows.
    cut : callable
        Of a network and counts: returns a copy with so many more weights zero.
    counts : iterable of int
        How many weights go in each step.

    Returns
    -------
    estimator
        With the parameters that the given network has; of equals the sparsest.
    """
    best = present = _trained(cut(network), data)
    falls = 0
    for count in counts:
        if not count:
            continue
        present = _trained(cut(present, count), data)
        if present.log_marginal_likelihood_ >= best.log_marginal_likelihood_:
            best, falls = present, 0
            continue
        falls += 1
        if falls == _PATIENCE:
            break
    return best


def _trained(network: Any, data: tuple) -> Any:
    # By the same determinant whatever the network, and by all rows.
    return retrained(network, data, solver="dense", early_stopping=False)


def retrained(network: Any, data: tuple, **settings: Any) -> Any:
    """Train a network on from where it is, with other settings than its own."""
    settings = {"warm_start": True, **settings}
    if not settings.get("max_iter", 1):
        return network
    given = {name: getattr(network, name) for name in settings}
    with warnings.catch_warnings():
        # Of max_iter, which is the user's own, nothing is to be said at every step.
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.set_params(**settings).fit(*data)
    return network.set_params(**given)
