"""How many threads a network's products are worth."""

from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import threadpool_limits

# Below this many multiply-adds in a layer's product a second thread gains little on an
# idle machine and loses an order of magnitude on a busy one.
_ONE_THREAD = 1e7


def limit_threads(network: Any, n_rows: int) -> AbstractContextManager:
    """Return a context with one BLAS thread where products are small.

    Parameters
    ----------
    network : MLP
        The network.
    n_rows : int
        Rows of the smallest of its frequent products.
    """
    largest = n_rows * max(out * fan for out, fan in network.shapes)
    return threadpool_limits(1 if largest < _ONE_THREAD else None, user_api="blas")
