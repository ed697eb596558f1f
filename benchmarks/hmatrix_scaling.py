"""Parts d, e, f: scaling in P, the entry sampler, kernel matrices."""

import tracemalloc
from itertools import product

import numpy as np
from hmatrix_cases import (
    KERNELS,
    hessian,
    images,
    kernel_matrix,
    network_of,
    smooth_network,
    wide_network,
)
from hmatrix_measures import timed
from scipy.linalg import cho_factor, cho_solve
from sklearn import config_context

from skgnh.hmatrix import compress
from skgnh.operators import EntrySampler

DAMPING = 1e-2
# The largest P that is compared with the dense way.
DENSE = 16_000
# What part d asks of a slope, and of which column.
SLOPES = {
    "numbers": 1.05,
    "build s": 1.15,
    "factor s": 1.15,
    "solve s": 1.10,
    "solve cold s": 1.10,
    "solve many s": 1.10,
}
# Right-hand sides of the solve of many.
MANY = 16
# Larger than any cache.
SWEPT_BYTES = 2**27


def fastest(call, repeat=5):
    """Least seconds of several calls, after the first with what they read in cache."""
    return min(timed(call)[1] for _ in range(repeat))


def cold(call, repeat=5):
    """Least seconds of several calls that find the caches full of something else.

    One right-hand side reads each number twice: memory is what it waits for. Small
    matrices lie in the cache and large ones do not, which a slope of warm times counts
    as growth.
    """
    swept, seconds = np.ones(SWEPT_BYTES // 8), []
    for _ in range(repeat):
        swept += 1
        seconds.append(timed(call)[1])
    return min(seconds)


# ---- d: scaling in P -----------------------------------------------------------------


def scaling(args):
    """Memory and times for a growing P at fixed rows, outputs and ranks."""
    rows = []
    P = args.from_parameters
    while args.to_parameters >= P:
        H = smooth_network(P, args.scaling_rows, args.seed)
        row = scaling_row(H, args)
        if not rows and P <= DENSE:
            row |= against_dense(H, row, args)
        rows.append(row)
        P *= 2
    return rows


def settings_of(args):
    return {
        "rank": args.rank,
        "leaf_size": 2 * args.rank,
        "global_rank": args.global_rank,
        "random_state": args.seed,
    }


def scaling_row(H, args):
    P, damping = H.shape[0], DAMPING * float(H.diagonal().mean())
    v = np.random.default_rng(args.seed).standard_normal(P)
    V = np.random.default_rng(args.seed).standard_normal((P, MANY))
    exact = fastest(lambda: H @ v)
    matrix, build = timed(lambda: compress(H, **settings_of(args)))
    factor, first = timed(lambda: matrix.factor(damping))
    return {
        "P": P,
        "build s": build,
        "factor s": min(first, fastest(lambda: matrix.factor(damping), 4)),
        "solve s": fastest(lambda: factor.solve(v)),
        "solve cold s": cold(lambda: factor.solve(v)),
        "solve many s": fastest(lambda: factor.solve(V)),
        "product s": fastest(lambda: matrix @ v),
        "product cold s": cold(lambda: matrix @ v),
        "exact product s": exact,
        "numbers": matrix.nbytes / H.dtype.itemsize,
        "MB": matrix.nbytes / 1e6,
        "factor MB": factor.nbytes / 1e6,
        "error": float(np.linalg.norm(matrix @ v - H @ v) / np.linalg.norm(H @ v)),
    }


def against_dense(H, row, args):
    """Seconds of the dense way at the same matrix and how many times slower it is."""
    P, damping = H.shape[0], DAMPING * float(H.diagonal().mean())
    v = np.ones(P)

    def dense():
        A = H.toarray()
        A.flat[:: P + 1] += damping
        return cho_solve(cho_factor(A, lower=True, overwrite_a=True), v)

    with config_context(working_memory=4 * P**2 * 8 / 2**20):
        _, seconds = timed(dense)
    own = row["build s"] + row["factor s"] + row["solve s"]
    return {"dense s": seconds, "dense over H": seconds / own}


def slopes(rows):
    """Log-log slopes of the columns in P."""
    sizes = np.log([row["P"] for row in rows])
    return [
        {
            "column": column,
            "slope": float(np.polyfit(sizes, np.log([r[column] for r in rows]), 1)[0]),
            "at most": SLOPES.get(column, ""),
        }
        for column in (*SLOPES, "product s", "product cold s")
    ]


def large(args):
    """One large P: build and factor, a further damping, a product, peak memory."""
    H = smooth_network(args.large_parameters, args.scaling_rows, args.seed)
    row = scaling_row(H, args)
    tracemalloc.start()
    try:
        matrix = compress(H, **settings_of(args))
        factor = matrix.factor(DAMPING * float(H.diagonal().mean()))
        matrix @ factor.solve(np.ones(H.shape[0]))
        row["peak MB"] = tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
    row["build + factor s"] = row["build s"] + row["factor s"]
    row["damping share"] = row["factor s"] / row["build + factor s"]
    return [row]


def sources(args):
    """Builds from entries and from products: seconds and errors at equal ranks."""
    rows = []
    for P in args.source_parameters:
        H = smooth_network(P, args.scaling_rows, args.seed)
        B = np.random.default_rng(args.seed).standard_normal((H.shape[0], 4))
        HB, damping = H @ B, DAMPING * float(H.diagonal().mean())
        for source in ("entries", "products", "auto"):
            matrix, seconds = timed(
                lambda H=H, source=source: compress(
                    H, source=source, **settings_of(args)
                )
            )
            X = matrix.factor(damping).solve(B)
            rows.append(
                {
                    "P": H.shape[0],
                    "source": source,
                    "build s": seconds,
                    "error": _relative(matrix @ B, HB),
                    "solve residual": _relative(H @ X + damping * X, B),
                }
            )
    return rows


# ---- e: the entry sampler ------------------------------------------------------------


def entry_times(args):
    """Seconds a sampled entry for a growing P at fixed rows and outputs."""
    rows = []
    for P in args.sampler_parameters:
        with config_context(working_memory=8192):
            rows.append(_entry_time(wide_network(P, args.scaling_rows, args.seed)))
    for row in rows:
        row["over the first"] = row["us an entry"] / rows[0]["us an entry"]
    return rows


def _entry_time(H, n_pairs=1000, epsilon=0.1):
    sampler, set_up = timed(lambda: EntrySampler(H))
    k, m = np.random.default_rng(0).integers(0, H.shape[0], (2, n_pairs))
    seconds = fastest(lambda: sampler.pairs(k, m, epsilon, 0), 3)
    return {
        "P": H.shape[0],
        "sampler s": set_up,
        "us an entry": 1e6 * seconds / n_pairs,
    }


def entry_errors(args):
    """RMS errors of many draws of many pairs, over their bound."""
    H = wide_network(args.sampler_parameters[0], args.scaling_rows, args.seed)
    sampler, rng = EntrySampler(H), np.random.default_rng(args.seed)
    diagonal = H.diagonal()
    k, m = rng.integers(0, H.shape[0], (2, args.pairs))
    exact = np.array([H.entries(k[[j]], m[[j]])[0, 0] for j in range(len(k))])
    bound = np.sqrt(diagonal[k] * diagonal[m])
    rows = []
    for epsilon in (0.3, 0.1):
        found = np.stack([sampler.pairs(k, m, epsilon, rng) for _ in range(args.draws)])
        off = found - exact
        rms = np.sqrt((off**2).mean(axis=0)) / (epsilon * bound)
        error = off.std(axis=0, ddof=1) / np.sqrt(args.draws)
        z = np.abs(off.mean(axis=0)) / np.maximum(error, np.finfo(float).tiny)
        rows.append(
            {
                "epsilon": epsilon,
                "pairs": len(k),
                "draws": args.draws,
                "rms over bound, all": float(np.sqrt((rms**2).mean())),
                "rms over bound, worst pair": float(rms.max()),
                "bias in standard errors, worst": float(z.max()),
            }
        )
    return rows


def block_times(args):
    """A block at arbitrary indices, sampled and exact, and its share of a GEMM."""
    network = network_of("784-32-10")
    X, _ = images(784, args.data)
    X = X[: args.sampler_rows]
    theta = network.initialize(np.random.RandomState(args.seed))
    size, epsilon = args.block, 0.05
    with config_context(working_memory=8192):
        H = hessian(network, theta, X)
        sampler, set_up = timed(lambda: EntrySampler(H))
        rng = np.random.default_rng(args.seed)
        index = rng.choice(H.shape[0], (2, size), replace=False)
        exact = H.entries(*index)
        slow = fastest(lambda: H.entries(*index), 2)
        found = sampler.entries(*index, epsilon, 0)
        quick = fastest(lambda: sampler.entries(*index, epsilon, 0), 5)
        near = np.arange(size)
        together = fastest(lambda: H.entries(near, near + size), 2)
    traces = [H.diagonal()[part].sum() for part in index]
    rate = gemm_rate(size, H.dtype)
    flops = 2 * H.n_roots * len(X) * size**2
    return [
        {
            "rows": len(X),
            "sampler s": set_up,
            "exact s": slow,
            "sampled s": quick,
            "speedup": slow / quick,
            "error over bound": float(
                np.linalg.norm(found - exact) / (epsilon * np.sqrt(np.prod(traces)))
            ),
            "GEMM share, arbitrary": flops / slow / rate,
            "GEMM share, neighbours": flops / together / rate,
        }
    ]


def gemm_rate(size, dtype):
    """Operations a second of the product that an exact block is."""
    long = 20_000
    A, B = np.ones((2, long, size), dtype)
    return 2 * long * size**2 / fastest(lambda: A.T @ B)


# ---- f: kernel matrices --------------------------------------------------------------


def kernels(args):
    """Errors of products and solves on kernel matrices."""
    rows = []
    for kernel in KERNELS:
        K = kernel_matrix(
            kernel, args.points, args.dimension, args.bandwidth, args.seed
        )
        B = np.random.default_rng(args.seed).standard_normal((K.shape[0], 4))
        KB = K @ B
        for order, tol in product(args.kernel_orders, args.tols):
            rows += _kernel_rows(kernel, order, tol, K, B, KB, args)
    return rows


def _kernel_rows(kernel, order, tol, K, B, KB, args):
    matrix, build = timed(
        lambda: compress(
            K,
            rank=args.kernel_rank,
            global_rank=args.kernel_global_rank,
            tol=tol,
            order=order,
            random_state=args.seed,
        )
    )
    rows = []
    for damping in args.kernel_dampings:
        factor, seconds = timed(lambda damping=damping: matrix.factor(damping))
        X = factor.solve(B)
        row = {
            "kernel": kernel,
            "points": K.shape[0],
            "order": order,
            "tol": tol,
            "rank": max((level.U.shape[2] for level in matrix.levels), default=0),
            "product error": _relative(matrix @ B, KB),
            "damping": damping,
            # Of a right-hand side that is random, and of a solution that is.
            "solve residual": _relative(K @ X + damping * X, B),
            "solution error": _relative(factor.solve(KB + damping * B), B),
            # As GOFMM reports it: the products are the approximation's own.
            "own error": _relative(factor.solve(matrix @ B + damping * B), B),
            "build s": build,
            "factor s": seconds,
            "MB": matrix.nbytes / 1e6,
        }
        row["over tol"] = max(row["solve residual"], row["solution error"]) / tol
        rows.append(row)
    return rows


def _relative(found, exact):
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
