"""Random fits and calls on hostile data: none may crash or answer with a NaN.

``python benchmarks/hostile.py --fits 10000 --calls 2000 --seed 0``: what is refused
must be so by a ValueError or TypeError that names an argument, or by one of
scikit-learn's own checks, whose words are its own. Each fit and call is drawn
from a seed of its own, so that one that is found wrong can be repeated alone, by
``--seed ITS_SEED --fits 1 --calls 0``. See the README beside this file.
"""

import argparse
import re
import signal
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from time import perf_counter

import hostile_calls
import hostile_fits
import numpy as np
from threadpoolctl import threadpool_limits

REFUSALS = (ValueError, TypeError)
# Seconds, of hundredths for most, after which one counts as never ending.
LIMIT = 60


@contextmanager
def at_most(seconds):
    """Raise a TimeoutError within what takes longer."""

    def alarm(*_):
        raise TimeoutError(f"no end within {seconds} s")

    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def outcome(made, seed):
    """Run one and return 'answered', 'refused' or what is wrong with it."""
    name, names, call = made(seed)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Warnings are for the user: a hostile call may well be warned of.
            warnings.simplefilter("ignore")
            with at_most(LIMIT):
                call()
    except REFUSALS as error:
        if re.search(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)", str(error)):
            return name, "refused"
        if "sklearn" in _place(error):
            return name, "refused"
        return name, f"names no argument: {error!r} {_place(error)}"
    except Exception as error:
        return name, f"{error!r} {_place(error)}"
    return name, "answered"


def _place(error):
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"({'/'.join(last.filename.split('/')[-3:])}:{last.lineno})"


def run(made, first, number, seconds):
    """Run many and print what is wrong; return how many of which outcome."""
    found, begun = Counter(), perf_counter()
    for seed in range(first, first + number):
        if perf_counter() - begun > seconds:
            break
        name, said = outcome(made, seed)
        if said in ("answered", "refused"):
            found[said] += 1
            continue
        found["wrong"] += 1
        print(f"seed {seed}: {name}: {said[:400]}", flush=True)
    return found


def main():
    """Run the fits and the calls that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=np.inf, help="of each part")
    args = parser.parse_args()
    with threadpool_limits(1):
        for title, made, number in (
            ("fits", hostile_fits.drawn, args.fits),
            ("calls", hostile_calls.drawn, args.calls),
        ):
            found = run(made, args.seed, number, args.seconds)
            shares = ", ".join(f"{n} {outcome}" for outcome, n in found.items())
            print(f"{title}: {found.total()} run: {shares or 'none'}", flush=True)


if __name__ == "__main__":
    main()
