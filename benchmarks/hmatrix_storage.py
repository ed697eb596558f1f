"""Part h: errors by storage, beside truncated eigenvectors, K-FAC and HODLR."""

from functools import partial
from time import process_time

import numpy as np
from hmatrix_cases import kernel_matrix, states
from hmatrix_report import table

from skgnh.hmatrix import HODLRMatrix, compress, hodlr
from skgnh.hmatrix.budget import plan
from skgnh.hmatrix.hodlr_build import decomposed, shared
from skgnh.hmatrix.tree import distance_order, leaves
from skgnh.operators import DenseMatrix
from skgnh.operators.kronecker import kronecker_factors
from skgnh.solvers.hmatrix import HMatrix

# Of the thresholded HODLR.
LEAF = 32


def storages(args):
    """A row for each matrix and storage: relative Frobenius errors, CPU seconds."""
    rows = []
    for name, H, order in matrices(args):
        every = np.arange(H.shape[0])
        array = H.entries(every, every)
        rng = np.random.default_rng(args.seed + 1)
        Z = rng.standard_normal((len(every), args.vectors)).astype(H.dtype)
        squares, Y = np.sort(np.linalg.eigvalsh(array) ** 2), array @ Z
        kfac = error(kronecker_array(H), Z, Y) if hasattr(H, "network") else None
        for storage in args.storages:
            lost = squares[:-storage].sum() / squares.sum()
            row = {"matrix": name, "storage": storage, "eigenvectors": lost**0.5}
            HODLR = thresholded(array, order, storage, args)
            row |= {"k-fac": kfac, "HODLR": error(HODLR, Z, Y)}
            for method, make in methods(H, order, storage, args).items():
                begun = process_time()
                made = make()
                seconds = process_time() - begun
                row |= {method: error(made, Z, Y), f"{method} s": seconds}
            rows.append(row)
        print(table([row for row in rows if row["matrix"] == name]), flush=True)
    return rows


def matrices(args):
    """Yield the name, the matrix and the best order of the GNHs and of a kernel."""
    for network in args.networks:
        for state, H in states(network, args):
            yield f"{network}, {state}", H, "natural"
    H = kernel_matrix("gaussian", args.kernel_points, 6, args.bandwidth, args.seed)
    yield "gaussian kernel", H, "angle"


def methods(H, order, storage, args):
    """Our forms of that storage, by name."""
    n, seed = H.shape[0], args.seed

    def nested(share):
        return compress(H, order=order, random_state=seed, **plan(n, storage, share))

    out = {f"nested, share {share:g}": partial(nested, share) for share in (0, 0.5)}
    out["low rank and diagonal"] = partial(nested, 1.0)
    out["hodlr"] = partial(hodlr, H, storage, order=order, random_state=seed)
    if hasattr(H, "network"):
        solver = HMatrix(storage, random_state=seed)
        for choice in solver.choices(H):
            if choice.tail is not None:
                name = f"kronecker, share {choice.share:g}"
                out[name] = partial(solver.approximation, H, choice)
    return out


def thresholded(array, order, storage, args):
    """Truncated blocks, ranks by one threshold; it may be indefinite."""
    rng, H, n = np.random.default_rng(args.seed), DenseMatrix(array), len(array)
    n_leaves = 2 ** int(np.ceil(np.log2(n / LEAF)))
    sequence = np.arange(n)
    if order == "angle":
        sequence = distance_order(H, n_leaves, order, rng)
    nodes = [row[row >= 0] for row in leaves(sequence, n_leaves)]
    own = [H.entries(node, node) for node in nodes]
    left = storage * n - sum(len(D) * (len(D) + 1) // 2 for D in own)
    levels = decomposed(H, sequence, [len(D) for D in own], storage, rng)
    return HODLRMatrix(sequence, own, shared(levels, left, 1.0))


def kronecker_array(H):
    """K-FAC's approximation as an array."""
    out = np.diag(H.ridge)
    for (S, A), start in zip(kronecker_factors(H), H.network.offsets, strict=False):
        block = np.kron(S, A)
        here = slice(start, start + len(block))
        out[here, here] += block
    return out


def error(made, Z, exact):
    """The relative error of products with random vectors."""
    return float(np.linalg.norm(made @ Z - exact) / np.linalg.norm(exact))
