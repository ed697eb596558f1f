"""Progress bars of long builds, and of what joblib does in parallel."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from sklearn.utils.parallel import Parallel, delayed

Track = Callable[[Any, str], Iterable[Any]]


def silent(steps: Any, name: str) -> Iterable[Any]:
    """Return the steps of a loop as they are."""
    return steps


def tracker(verbose: bool) -> Track:
    """Return what yields the steps of a named loop and shows how many are done.

    The bar is rich's, as that of scikit-learn's own callback, and is gone when the loop
    ends. Without `verbose`, without rich, or in a log, which keeps what a terminal
    wipes out, there is none.
    """
    if verbose:
        with suppress(ImportError):
            from rich import get_console
            from rich.progress import track

            if get_console().is_terminal or get_console().is_jupyter:
                return partial(track, transient=True)
    return silent


def in_parallel(
    function: Callable,
    items: Sequence,
    n_jobs: int | None = None,
    track: Track = silent,
    name: str = "",
) -> Iterator[tuple[int, Any]]:
    """Yield the number of each item and what a function makes of it, as they are done.

    Parameters
    ----------
    function : callable
        Of an item; it may change nothing but what it returns.
    items : sequence
        What it is given.
    n_jobs : int, optional
        Most of them at a time; of one after the other, in their order. None takes what
        :func:`joblib.parallel_config` says, and one at a time if it says nothing.
    track : callable
        Shows how many are done, see :func:`tracker`.
    name : str
        What the bar is called.

    Examples
    --------
    >>> from skgnh.progress import in_parallel
    >>> sorted(in_parallel(abs, [-3, 2], n_jobs=1))
    [(0, 3), (1, 2)]
    """
    jobs = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    done = jobs(delayed(_numbered)(function, k, item) for k, item in enumerate(items))
    yield from track(_Counted(done, len(items)), name)


def _numbered(function: Callable, k: int, item: Any) -> tuple[int, Any]:
    return k, function(item)


class _Counted:
    """An iterable that says how many there will be."""

    def __init__(self, steps: Iterable, n: int):
        self._steps, self._n = steps, n

    def __iter__(self) -> Iterator:
        """Return the steps."""
        return iter(self._steps)

    def __len__(self) -> int:
        """Return how many there will be."""
        return self._n
