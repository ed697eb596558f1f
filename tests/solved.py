"""Operators of all kinds and the solvers that serve them, set to be exact."""

import numpy as np
from cases import Case
from scipy import sparse

from skgnh.linalg import as_curvature
from skgnh.operators import DenseMatrix, compress_jacobian
from skgnh.solvers import SketchedGram, all_solvers
from skgnh.solvers.preconditioned import Preconditioned

# What makes a preconditioned solver exact.
EXACT = {"max_iter": 10_000, "rtol": 1e-14}

TALL = Case("tanh", 1, "softmax", weighted=True, n=40)
WIDE = Case("tanh", 3, "binary")


def prescribed(*eigenvalues):
    """A dense matrix of given spectrum in a random basis."""
    rng = np.random.default_rng(0)
    U, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))
    A = (U * eigenvalues) @ U.T
    return DenseMatrix((A + A.T) / 2)


OPERATORS = {
    "more rows than parameters": TALL.operator,
    "fewer rows than parameters": WIDE.operator,
    "many rows, no ridge": lambda: TALL.operator(ridge=False),
    "few rows, no ridge": lambda: WIDE.operator(ridge=False),
    "no hidden layer": Case("identity", 0, "poisson").operator,
    "sparse rows": lambda: WIDE.operator(convert=sparse.csr_array),
    "sampled rows": lambda: TALL.operator().sample(7, 0),
    "probed outputs": lambda: TALL.operator().probe(2, 0),
    "low rank": lambda: compress_jacobian(TALL.operator(), rank=9, random_state=0),
    "dense": lambda: prescribed(*np.geomspace(1e-3, 10, 20)),
    "dense, singular": lambda: prescribed(*[0] * 5, *range(1, 6)),
    "dense, two": lambda: DenseMatrix([[2.0, 1.0], [1.0, 2.0]]),
    "dense, one": lambda: DenseMatrix([[2.0]]),
}


def missing(solver, H):
    return [name for name in solver.requires if name not in as_curvature(H).offers]


PAIRS = [
    (name, operator)
    for name, solver in all_solvers().items()
    for operator in OPERATORS
    if not missing(solver, OPERATORS[operator]())
]


def exact(name):
    solver = all_solvers()[name]
    iterates = issubclass(solver, (Preconditioned, SketchedGram))
    return solver(**EXACT) if iterates else solver()


def right_hand_side(H, k=None):
    shape = H.shape[0] if k is None else (H.shape[0], k)
    return np.random.default_rng(1).standard_normal(shape).astype(H.dtype)
