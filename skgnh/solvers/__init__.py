"""Solvers of (H + damping I) x = b in two phases, one file each."""

from skgnh.solvers.auto import Auto
from skgnh.solvers.base import Factor, Solver
from skgnh.solvers.cg import CG
from skgnh.solvers.dense import Dense
from skgnh.solvers.gram import Gram

__all__ = ["CG", "Auto", "Dense", "Factor", "Gram", "Solver", "all_solvers"]

_SOLVERS = (Auto, Dense, Gram, CG)


def all_solvers() -> dict[str, type[Solver]]:
    """Return every solver class by the name that estimators take.

    Examples
    --------
    >>> from skgnh.solvers import all_solvers
    >>> {"auto", "cg", "dense", "gram"} <= set(all_solvers())
    True
    """
    return {solver.__name__.lower(): solver for solver in _SOLVERS}
