"""Weights that training holds at zero."""

from copy import deepcopy
from typing import Any

import numpy as np

from skgnh.estimators.publish import learned

Array = Any


class PrunedWeightsMixin:
    """Say which weights are held at zero: `pruned_`, which pruning alone sets."""

    @property
    def _dropped(self: Any) -> Array:
        """Whether each parameter is held at zero, of shape (P,)."""
        no_bias = [np.zeros(b.shape, bool) for b in self.intercepts_]
        nothing = [np.zeros(coef.shape, bool) for coef in self.coefs_]
        pruned = learned(self).get("pruned_", nothing)
        return self._network.from_coefs(pruned, no_bias)

    def _with_dropped(self: Any, theta: Array, dropped: Array, loss: float) -> Any:
        """Return a copy with other parameters, of that loss, and another mask."""
        out = deepcopy(self)
        raw = self._scaling_.fold(self._network, theta)
        out.coefs_, out.intercepts_ = self._network.to_coefs(raw)
        out.pruned_, _ = self._network.to_coefs(dropped)
        out.loss_ = loss
        return out
