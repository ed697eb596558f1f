"""Progress bars of long builds."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

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
