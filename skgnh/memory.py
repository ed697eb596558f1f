"""The memory contract: what is made must fit scikit-learn's working memory."""

from sklearn import get_config

# Temporaries of this size stay in cache, and memory that was used before serves them;
# larger ones only cost traffic and pages, but products of fewer rows than this run far
# below the machine's matrix rate.
_CACHE_BYTES = 2**21
_MIN_ROWS = 256


def working_memory() -> int:
    """Return scikit-learn's ``working_memory`` in bytes."""
    return int(get_config()["working_memory"] * 2**20)


def fits(nbytes: float) -> bool:
    """Say whether an array of `nbytes` bytes fits the working memory."""
    return nbytes <= working_memory()


def require(nbytes: float, what: str, instead: str) -> None:
    """Refuse, before it is allocated, an array beyond the working memory.

    Parameters
    ----------
    nbytes : float
        Its size in bytes.
    what : str
        What needs it, the subject of the message.
    instead : str
        What the user can do instead.

    Raises
    ------
    ValueError
        If `nbytes` exceeds ``sklearn.get_config()["working_memory"]``.
    """
    if not fits(nbytes):
        raise ValueError(
            f"{what} needs {nbytes / 2**20:,.1f} MiB, more than the working memory of "
            f"{working_memory() / 2**20:,.1f} MiB. {instead}, or raise "
            "sklearn.set_config(working_memory=...)."
        )


def rows_per_chunk(bytes_per_row: float, cached: bool = True) -> int:
    """Return how many rows of `bytes_per_row` to take at a time, at least one.

    Those of a device, which are not to stay in a processor's cache, as many as fit.
    """
    if not cached:
        return max(1, int(working_memory() // max(bytes_per_row, 1)))
    in_cache, allowed = (
        int(nbytes // max(bytes_per_row, 1))
        for nbytes in (_CACHE_BYTES, working_memory())
    )
    return max(1, min(max(in_cache, _MIN_ROWS), allowed))


def parts_that_fit(n_rows: int, bytes_per_row: float) -> list[slice]:
    """Return slices of rows whose temporaries fit: a single one where all do."""
    if fits(n_rows * bytes_per_row):
        return [slice(0, n_rows)]
    return slices(n_rows, max(1, int(working_memory() // bytes_per_row)))


def slices(stop: int, size: int, start: int = 0) -> list[slice]:
    """Return the slices of at most `size` that make up a range.

    scikit-learn's ``gen_batches`` checks its arguments for as long as a product with a
    small network takes.
    """
    return [slice(k, min(k + size, stop)) for k in range(start, stop, size)]
