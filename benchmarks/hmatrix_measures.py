"""Parts a, b, c: accuracy, preconditioning and eigenvalues at equal storage."""

from functools import partial
from itertools import islice
from time import perf_counter

import numpy as np
from scipy.sparse.linalg import eigsh

from skgnh.hmatrix import compress
from skgnh.hmatrix.low_rank import nystrom
from skgnh.solvers.kfac import KroneckerFactor
from skgnh.solvers.nystrom import LowRankFactor
from skgnh.solvers.preconditioned import conjugate_gradients

# At least the leaf's size over the rank; a storage is spent best at about 2.8.
LEAF_OVER_RANK = 2.0


def timed(call):
    """The result and the seconds it took."""
    begun = perf_counter()
    result = call()
    return result, perf_counter() - begun


# ---- equal storage -------------------------------------------------------------------


def plan(n_parameters, storage, share):
    """Ranks and leaf size of an H-matrix with `storage` numbers a parameter.

    A global part of rank g, leaves of m indices and rank r take
    ``g + m/2 + r + 4 r^2 / m`` numbers a parameter, of symmetric blocks one triangle.
    """
    global_rank = round(share * storage)
    rest = storage - global_rank
    best = None
    for depth in range(1, int(np.log2(n_parameters))):
        m = n_parameters / 2**depth
        room = 16 * (rest / m - 0.5) + 1
        rank = int(m * (np.sqrt(max(room, 0)) - 1) / 8)
        if rank >= 1 and m >= LEAF_OVER_RANK * rank and (not best or rank > best[0]):
            best = rank, int(np.ceil(m))
    if best is None:
        raise ValueError(f"{rest} numbers a parameter are too few for a remainder.")
    return {"rank": best[0], "leaf_size": best[1], "global_rank": global_rank}


class Approximations:
    """H-matrices, low rank and K-FAC of one matrix, made once for all parts."""

    def __init__(self, H, args):
        self.H = H
        P, itemsize = H.shape[0], H.dtype.itemsize
        rng = np.random.default_rng(args.seed)
        rank = min(args.storage, P)
        self.seconds, self.storage, self.plans, self.hmatrices = {}, {}, {}, {}
        self.low, self.seconds["low rank"] = timed(lambda: nystrom(H, rank, rng))
        self.storage["low rank"] = self.low.size / P
        self.kfac, self.seconds["kfac"] = timed(lambda: KroneckerFactor(H))
        units = H.network.layer_units
        pairs = zip(units[:-1], units[1:], strict=True)
        self.storage["kfac"] = sum((i + 1) ** 2 + o**2 for i, o in pairs) / P
        for order in args.orders:
            for share in args.shares:
                name = f"hmatrix {order} {share:g}"
                settings = plan(P, args.storage, share)
                call = partial(
                    compress, H, order=order, random_state=args.seed, **settings
                )
                matrix, self.seconds[name] = timed(call)
                self.hmatrices[name], self.plans[name] = matrix, settings
                self.storage[name] = matrix.nbytes / itemsize / P

    def products(self):
        """Products with the approximations, by name."""
        return {
            **{name: matrix.matmat for name, matrix in self.hmatrices.items()},
            "low rank": lambda Z: self.low @ (self.low.T @ Z),
            "kfac": lambda Z: self.kfac.power(Z, 0.0, 1.0),
        }


# ---- a: accuracy ---------------------------------------------------------------------


def accuracy(case, made, args):
    """Relative Frobenius errors, all from the same random vectors."""
    H = made.H
    rng = np.random.default_rng(args.seed + 1)
    Z = rng.standard_normal((H.shape[0], args.vectors)).astype(H.dtype)
    exact = H @ Z
    whole = np.linalg.norm(exact)
    return [
        {
            **case,
            "method": name,
            "error": float(np.linalg.norm(product(Z) - exact) / whole),
            "numbers": made.storage[name],
            "build s": made.seconds[name],
            **made.plans.get(name, {}),
        }
        for name, product in made.products().items()
    ]


def best_errors(rows):
    """A row for each case: the best H-matrix against low rank and K-FAC."""
    out = []
    for key in {(row["network"], row["state"]): None for row in rows}:
        errors = {
            row["method"]: row["error"]
            for row in rows
            if (row["network"], row["state"]) == key
        }
        names = [name for name in errors if name.startswith("hmatrix")]
        hmatrix = min(names, key=errors.get)
        other = min(errors["low rank"], errors["kfac"])
        out.append(
            {
                "network": key[0],
                "state": key[1],
                "hmatrix": errors[hmatrix],
                "which": hmatrix.removeprefix("hmatrix "),
                "low rank": errors["low rank"],
                "kfac": errors["kfac"],
                "gain": other / errors[hmatrix],
            }
        )
    return out


# ---- b: preconditioned conjugate gradients -------------------------------------------


def preconditioners(made):
    """Set-ups by name: of a damping, a map of residuals."""
    diagonal = made.H.diagonal()
    low = LowRankFactor(made.low, 1.0)

    def jacobi(damping):
        scale = 1 / (diagonal + damping)
        return lambda r: scale * r

    return {
        "none": lambda damping: lambda r: r,
        "diagonal": jacobi,
        "kfac": lambda damping: lambda r: made.kfac.solve(r, damping),
        "nystrom": lambda damping: lambda r: low.solve(r, damping),
        **{
            name: lambda damping, matrix=matrix: matrix.factor(damping).solve
            for name, matrix in made.hmatrices.items()
        },
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
            precondition, seconds = timed(lambda d=damping, s=set_up: s(d * mean))
            found = iterate(H, b, damping * mean, precondition, args)
            row = {**case, "method": name, "damping": damping, "factor s": seconds}
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
        found[name] = timed(lambda matrix=matrix: leading(matrix))
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
