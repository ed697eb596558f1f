"""Solvers of (H + damping I) x = b in two phases, one file each."""

from skgnh.solvers.auto import Auto
from skgnh.solvers.base import Factor, Price, Solver
from skgnh.solvers.cg import CG
from skgnh.solvers.dense import Dense
from skgnh.solvers.exact_hessian import ExactHessianSolver
from skgnh.solvers.gram import Gram
from skgnh.solvers.hmatrix import HMatrix
from skgnh.solvers.kfac import KFAC
from skgnh.solvers.layers import LayerElimination
from skgnh.solvers.mfac import MFAC
from skgnh.solvers.nystrom import Nystrom
from skgnh.solvers.sketched_gram import SketchedGram

__all__ = [
    "CG",
    "KFAC",
    "MFAC",
    "Auto",
    "Dense",
    "ExactHessianSolver",
    "Factor",
    "Gram",
    "HMatrix",
    "LayerElimination",
    "Nystrom",
    "Price",
    "SketchedGram",
    "Solver",
    "all_solvers",
]

_SOLVERS = {
    "auto": Auto,
    "dense": Dense,
    "gram": Gram,
    "cg": CG,
    "kfac": KFAC,
    "nystrom": Nystrom,
    "hmatrix": HMatrix,
    "sketched_gram": SketchedGram,
    "exact_hessian": ExactHessianSolver,
    "mfac": MFAC,
}


def all_solvers() -> dict[str, type[Solver]]:
    """Return every solver class by the name that estimators take.

    Examples
    --------
    >>> from skgnh.solvers import all_solvers
    >>> {"auto", "cg", "dense", "gram"} <= set(all_solvers())
    True
    """
    return dict(_SOLVERS)
