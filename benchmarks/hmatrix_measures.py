"""Parts a, b, c: accuracy, preconditioning and eigenvalues at equal storage."""

from functools import partial
from itertools import islice
from time import perf_counter

import numpy as np
from scipy.sparse.linalg import eigsh

from skgnh.inspection.eigenpairs import hierarchical
from skgnh.linalg.nystrom import nystrom
from skgnh.operators.kronecker import kronecker_factors
from skgnh.solvers.hmatrix import HMatrix
from skgnh.solvers.hmatrix_factor import HMatrixFactor
from skgnh.solvers.kfac import KroneckerFactor
from skgnh.solvers.nystrom import LowRankFactor
from skgnh.solvers.preconditioned import conjugate_gradients


def timed(call):
    """The result and the seconds it took."""
    begun = perf_counter()
    result = call()
    return result, perf_counter() - begun


# ---- equal storage -------------------------------------------------------------------


class Approximations:
    """H-matrices, low rank and K-FAC of one matrix, made once for all parts."""

    def __init__(self, H, args):
        self.H, self.seed = H, args.seed
        P = H.shape[0]
        rng = np.random.default_rng(args.seed)
        rank = min(args.storage, P)
        self.seconds, self.storage, self.hmatrices = {}, {}, {}
        self.low, self.seconds["low rank"] = timed(lambda: nystrom(H, rank, rng))
        self.storage["low rank"] = self.low.size / P
        self.kfac, self.seconds["kfac"] = timed(lambda: KroneckerFactor(H))
        units = H.network.layer_units
        pairs = zip(units[:-1], units[1:], strict=True)
        self.storage["kfac"] = sum((i + 1) ** 2 + o**2 for i, o in pairs) / P
        solver = HMatrix(args.storage, random_state=args.seed)
        for choice in solver.choices(H):
            name = f"hmatrix {describe(choice)}"
            self.hmatrices[name], self.seconds[name] = timed(
                partial(solver.approximation, H, choice)
            )
            self.storage[name] = self.hmatrices[name].size / P

    def factor(self):
        """The solver's factor with everything still to choose."""
        return HMatrixFactor(self.H, list(self.hmatrices.values()), self.seed)

    def products(self):
        """Products with the approximations, by name."""
        return {
            **{name: matrix.matmat for name, matrix in self.hmatrices.items()},
            "low rank": lambda Z: self.low @ (self.low.T @ Z),
            "kfac": self._kronecker,
        }

    def _kronecker(self, Z):
        """K-FAC's approximation times Z."""
        out, unpack = np.empty_like(Z.T), self.H.network.unpack
        layers = zip(kronecker_factors(self.H), unpack(Z.T), unpack(out), strict=True)
        for (S, A), layer, target in layers:
            target[...] = S @ layer @ A
        return out.T + self.H.ridge[:, None] * Z


def describe(choice):
    """A choice of the solver in words."""
    basis = "own" if choice.tail is None else f"tail {choice.tail:g}"
    head = f" head {choice.head:g}" if choice.head else ""
    shift = f" shift {choice.shift:g}" if choice.shift else ""
    return f"{basis} share {choice.share:g}{head}{shift}"


# ---- a: accuracy ---------------------------------------------------------------------


def accuracy(case, made, args):
    """Relative Frobenius errors, all from the same random vectors."""
    H = made.H
    rng = np.random.default_rng(args.seed + 1)
    Z = rng.standard_normal((H.shape[0], args.vectors)).astype(H.dtype)
    exact = H @ Z
    whole = np.linalg.norm(exact)
    factor = made.factor()
    factor.choose_by_error()
    chosen = f"hmatrix {describe(factor.choice)}"
    return [
        {
            **case,
            "method": name,
            "error": float(np.linalg.norm(product(Z) - exact) / whole),
            "numbers": made.storage[name],
            "build s": made.seconds[name],
            "chosen": "yes" if name == chosen else "",
        }
        for name, product in made.products().items()
    ]


def best_errors(rows):
    """A row for each case: the chosen H-matrix against low rank and K-FAC."""
    out = []
    for key in {(row["network"], row["state"]): None for row in rows}:
        case = [row for row in rows if (row["network"], row["state"]) == key]
        errors = {row["method"]: row["error"] for row in case}
        (chosen,) = [row for row in case if row["chosen"]]
        other = min(errors["low rank"], errors["kfac"])
        out.append(
            {
                "network": key[0],
                "state": key[1],
                "hmatrix": chosen["error"],
                "which": chosen["method"].removeprefix("hmatrix "),
                "low rank": errors["low rank"],
                "kfac": errors["kfac"],
                "gain": other / chosen["error"],
            }
        )
    return out


# ---- b: preconditioned conjugate gradients -------------------------------------------


def preconditioners(made):
    """Set-ups by name: of a damping, a map of residuals and what it is."""
    diagonal = made.H.diagonal()
    low = LowRankFactor(made.H, made.low, 1.0)

    def jacobi(damping):
        scale = 1 / (diagonal + damping)
        return lambda r: scale * r, ""

    def hierarchical(damping):
        factor = made.factor()
        factor.choose_by_trial(damping)
        factor.logdet(damping)
        return lambda r: factor.solve(r, damping), describe(factor.choice)

    return {
        "none": lambda damping: (lambda r: r, ""),
        "diagonal": jacobi,
        "kfac": lambda damping: (lambda r: made.kfac.solve(r, damping), ""),
        "nystrom": lambda damping: (lambda r: low.solve(r, damping), ""),
        "hmatrix": hierarchical,
    }


def iterate(H, b, damping, precondition, args):
    """Iterations and seconds to each residual; None where the cap came first."""
    shift = H.dtype.type(damping)
    iterates = conjugate_gradients(lambda x: H @ x + shift * x, b, precondition)
    found, norm, left = {}, np.linalg.norm(b), sorted(args.residuals, reverse=True)
    begun = perf_counter()
    for k, (_, residual, _) in enumerate(islice(iterates, args.max_iter + 1)):
        while left and np.linalg.norm(residual) <= left[0] * norm:
            found[left.pop(0)] = k, perf_counter() - begun
        if not left:
            break
    return {target: found.get(target, (None, None)) for target in args.residuals}


def preconditioning(case, made, args):
    """Iterations for every damping (in mean diagonals) and preconditioner."""
    H = made.H
    rng = np.random.default_rng(args.seed + 2)
    b = rng.standard_normal(H.shape[0]).astype(H.dtype)
    mean = float(H.diagonal().mean())
    rows = []
    for name, set_up in preconditioners(made).items():
        for damping in args.dampings:
            (precondition, choice), seconds = timed(
                lambda d=damping, s=set_up: s(d * mean)
            )
            found = iterate(H, b, damping * mean, precondition, args)
            row = {**case, "method": name, "damping": damping, "choice": choice}
            row["factor s"] = seconds
            for target, (k, time) in found.items():
                row |= {f"to {target:g}": k, f"s to {target:g}": time}
            rows.append(row)
    return rows


def iterations_table(rows, target):
    """A row for each case and preconditioner, a column for each damping."""
    out = {}
    for row in rows:
        key = row["network"], row["state"], row["method"]
        k, seconds = row[f"to {target:g}"], row[f"s to {target:g}"]
        cell = "-" if k is None else f"{k} ({seconds:.2g} s)"
        line = dict(zip(("network", "state", "method"), key, strict=True))
        out.setdefault(key, line)[f"{row['damping']:g}"] = cell
    return list(out.values())


# ---- c: leading eigenvalues ----------------------------------------------------------


def eigenvalues(case, made, args):
    """Relative errors of the leading eigenvalues, by ARPACK on the products."""
    k = args.eigenvalues
    v0 = np.random.default_rng(args.seed + 3).standard_normal(made.H.shape[0])
    v0 = v0.astype(made.H.dtype)

    def leading(A):
        return eigsh(A, k, v0=v0, tol=1e-6, return_eigenvectors=False)[::-1]

    exact, seconds = timed(lambda: leading(made.H))
    low = np.linalg.svd(made.low, compute_uv=False)[:k] ** 2
    found = {"low rank": (low, 0.0)}
    for name, matrix in made.hmatrices.items():
        found[name] = timed(partial(leading, matrix))
    # As GNHSpectrum(solver="hmatrix") finds them.
    rng = np.random.RandomState(args.seed)
    (values, _), time = timed(lambda: hierarchical(made.H, k, 1e-6, rng))
    found["hmatrix, refined"] = values[::-1], time
    return [
        {
            **case,
            "method": name,
            "largest error": float(np.max(np.abs(values / exact - 1))),
            "median error": float(np.median(np.abs(values / exact - 1))),
            "eigsh s": time,
            "exact eigsh s": seconds,
        }
        for name, (values, time) in found.items()
    ]
