"""The benchmarks' scripts as modules."""

from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@contextmanager
def imported(*names):
    """Import scripts beside `defaults`, and put back the environment that they set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        made = SimpleNamespace(**{name: import_module(name) for name in names})
        for name in made.defaults.ONE_THREAD:  # main sets them: put back what was there
            patch.setenv(name, "1")
        yield made
