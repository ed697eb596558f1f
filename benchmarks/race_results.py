"""Reading the traces of a race: times to a target, medians, the table."""

from pathlib import Path

import numpy as np

COLUMNS = (
    "problem",
    "solver",
    "threads",
    "iterations",
    "seconds",
    "final objective",
    "lowest",
    "held-out score",
    "s to target",
    "ratio",
    "s to target*",
    "ratio*",
    "note",
)


# ---- reading traces ------------------------------------------------------------------


def time_to(seconds, objective, target):
    """Seconds to the first value at or below the target; inf if there is none.

    Between two points of a trace the logarithm of the objective is taken as linear.
    """
    reached = np.flatnonzero(np.asarray(objective) <= target)
    if not len(reached):
        return np.inf
    k = reached[0]
    if k == 0:
        return float(seconds[0])
    above, below = _log(objective[k - 1]), _log(objective[k])
    if not np.isfinite(above):
        return float(seconds[k])
    share = (above - _log(target)) / (above - below)
    return float(seconds[k - 1] + share * (seconds[k] - seconds[k - 1]))


def value_at(seconds, objective, time):
    """Lowest objective up to a time, interpolated as `time_to` does."""
    lowest = np.minimum.accumulate(_finite(objective))
    return float(np.exp(np.interp(time, seconds, _log(lowest))))


def lowest(trace):
    return float(np.min(_finite(trace.objective)))


def _finite(objective):
    return np.where(np.isfinite(objective), objective, np.finfo(float).max)


def _log(objective):
    return np.log(np.maximum(objective, np.finfo(float).tiny))


# ---- medians and the table -----------------------------------------------------------


def medians(rounds):
    def middle(pick):
        return float(np.median([pick(r) for r in rounds]))

    numbers = ("iterations", "seconds", "objective", "lowest", "score")
    solvers = {
        name: {k: middle(lambda r, n=name, k=k: r["solvers"][n][k]) for k in numbers}
        for name in rounds[0]["solvers"]
    }
    marks = {}
    for label, mark in rounds[0]["marks"].items():
        marks[label] = {
            key: middle(lambda r, label=label, key=key: r["marks"][label][key])
            for key in mark
            if key != "seconds"
        }
        marks[label]["seconds"] = {
            name: middle(lambda r, m=label, n=name: r["marks"][m]["seconds"][n])
            for name in mark["seconds"]
        }
    return {"solvers": solvers, "marks": marks}


def table(results):
    """Markdown: a row for each problem and solver, of the medians of the rounds."""
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for result in results:
        marks = result["median"]["marks"]
        for name, solver in result["median"]["solvers"].items():
            last = result["rounds"][-1]["solvers"][name]
            row = [
                result["name"],
                name,
                result["threads"][name],
                f"{solver['iterations']:.0f}",
                f"{solver['seconds']:.3g}",
                f"{solver['objective']:.4g}",
                f"{solver['lowest']:.4g}",
                f"{solver['score']:.4f}",
            ]
            for label in ("scikit-learn", "with lbfgs*"):
                mark = marks.get(label, {"seconds": {}})
                row += [_seconds(mark, name), _ratio(mark, name)]
            notes = [last["status"], last["note"]]
            if name == "skgnh":
                at = marks["scikit-learn"]["skgnh_objective_at_best_time"]
                notes.append(f"{at:.4g} at the best time")
            rows.append((*row, ", ".join(filter(None, notes))))
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for row in texts:
        cells = (
            cell.ljust(w, "-" if cell == "---" else " ")
            for cell, w in zip(row, widths, strict=True)
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _seconds(mark, name):
    if name not in mark["seconds"]:
        return ""
    seconds = mark["seconds"][name]
    return f"{seconds:.3g}" if np.isfinite(seconds) else "-"


def _ratio(mark, name):
    if name != "skgnh" or "ratio" not in mark:
        return ""
    if mark["ratio"] == 0:
        return f"< {mark['ratio_bound']:.2g}"
    return f"{mark['ratio']:.3g}"


def to_json(value):
    """Replace what JSON has no number for by None."""
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
