"""What a step costs over blocks of dask, against the same fit in memory.

``python benchmarks/dask_blocks.py --json dask.json``. See the README beside this file.
"""

import argparse
import json
import warnings
from pathlib import Path
from time import perf_counter

import dask.array as da
import numpy as np
from defaults import environment
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from hmatrix_report import table
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from skgnh import GaussNewtonMLPRegressor, blocks

# Cases of rows, columns and width: steps of nothing but overhead, and of work.
CASES = {"overhead": (2_000, 4, 4), "work": (200_000, 50, 100)}
QUICK = {"overhead": (200, 4, 4), "work": (400, 4, 4)}
NAME = "tasks of the benchmark"
# Workers that are asked about on paper, a block each, and what a node of the tree adds.
MANY, FAN = 1000, 8


class Tasks(SchedulerPlugin):
    """Counts the tasks that have been done."""

    name = NAME

    def __init__(self):
        self.done = 0

    def transition(self, key, start, finish, *args, **kwargs):
        """Count one."""
        self.done += (start, finish) == ("processing", "memory")


def tasks_done(dask_scheduler):
    """Return how many tasks there have been, on the scheduler."""
    return dask_scheduler.plugins[NAME].done


class Trips:
    """Counts how often the fit has waited for a sum."""

    def __init__(self):
        self.done, self._gathered = 0, blocks.gathered

    def __call__(self, tasks):
        """Count one."""
        self.done += 1
        return self._gathered(tasks)

    def __enter__(self):
        """Begin."""
        blocks.gathered = self
        return self

    def __exit__(self, *error):
        """Put back what was there."""
        blocks.gathered = self._gathered


def data(case):
    """Rows of a smooth function of two columns, with noise."""
    n, columns, _ = case
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, columns))
    return X, np.tanh(X[:, 0] + X[:, 1]) + 0.1 * rng.standard_normal(n)


def fit(case, X, y, steps):
    """Take so many steps over all rows by Kronecker factors."""
    n, _, width = case
    model = GaussNewtonMLPRegressor(
        hidden_layer_sizes=(width,),
        alpha=1e-3,
        batch_size=n,
        curvature_batch_size=n,
        solver="kfac",
        tol=0.0,
        max_iter=steps,
        random_state=0,
    )
    assert model.fit(X, y).n_iter_ == steps


def a_step(case, X, y, steps, counts=tuple):
    """Return seconds and counts of one step: of a longer fit less a shorter one."""
    found = []
    for most in (2, 2 + steps):
        before, start = counts(), perf_counter()
        fit(case, X, y, most)
        seconds = perf_counter() - start
        found.append([seconds, *np.subtract(counts(), before)])
    return np.subtract(found[1], found[0]) / steps


def over_blocks(name, case, n_blocks, steps, client):
    """Return the record of fits of so many blocks."""
    size = -(-case[0] // n_blocks)
    X, y = (da.from_array(x, (size, *x.shape[1:])) for x in data(case))
    X = X.persist()
    with Trips() as trips:

        def counts():
            return client.run_on_scheduler(tasks_done), trips.done

        seconds, tasks, waits = a_step(case, X, y, steps, counts)
    return {
        "case": name,
        "blocks": n_blocks,
        "seconds a step": seconds,
        "tasks a step": tasks,
        "round trips a step": waits,
    }


def overhead(records):
    """Return milliseconds of a round trip and of a task, where there is no work."""
    own = [record for record in records if record["case"] == "overhead"]
    A = [[record["round trips a step"], record["tasks a step"]] for record in own]
    seconds = [record["seconds a step"] for record in own]
    return 1e3 * np.linalg.lstsq(np.array(A), np.array(seconds), rcond=None)[0]


def on_paper(trip, task, trips):
    """Return the seconds of a step's overhead with many workers, of a block each."""
    tasks = MANY + (MANY - 1) / (FAN - 1) + 1
    return trips * (trip + task * tasks) / 1e3


def main(argv=None):
    """Measure, print, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--blocks", default="2,8,32,128")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    cases, records, here = QUICK if args.quick else CASES, [], {}
    warnings.simplefilter("ignore", ConvergenceWarning)
    with (
        threadpool_limits(1),
        LocalCluster(args.workers, threads_per_worker=1, dashboard_address=":0") as own,
        Client(own) as client,
    ):
        client.register_plugin(Tasks())
        for name, case in cases.items():
            (here[name],) = a_step(case, *data(case), args.steps)
            for n_blocks in map(int, args.blocks.split(",")):
                found = over_blocks(name, case, n_blocks, args.steps, client)
                records.append(found | {"in memory": here[name]})
    trip, task = overhead(records)
    paper = on_paper(trip, task, records[0]["round trips a step"])
    print(table(records))
    print(f"\n{trip:.1f} ms a round trip and {task:.2f} ms a task are overhead.")
    print(f"{MANY} workers on paper: {paper:.1f} s of overhead a step.")
    if args.json:
        made = {"environment": environment(), "workers": args.workers}
        made |= {"records": records, "seconds on paper": paper}
        made |= {"ms a round trip": trip, "ms a task": task}
        args.json.write_text(json.dumps(made, indent=1, default=float))


if __name__ == "__main__":
    main()
