"""The random generator that a user's seed stands for."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skgnh.linalg import check_seed


def generator(random_state: Any) -> Any:
    """Return a Generator; RandomState and its seeds are taken in scikit-learn's way."""
    check_seed(random_state)
    if isinstance(random_state, np.random.Generator):
        return random_state
    seed = check_random_state(random_state).randint(2**31 - 1)
    return np.random.default_rng(seed)
