"""The table of the UCI benchmark."""

import numpy as np
from hmatrix_report import table
from uci_methods import METHODS

COVERAGES = (50, 90, 95)
# Column, key of the runs, formats of the mean and of its error.
COLUMNS = (
    ("RMSE", "rmse", ".4g", ".2g"),
    ("log-likelihood", "log_likelihood", ".3f", ".3f"),
    *(
        (f"in {percent} %", f"coverage_{percent}", ".1f", ".1f")
        for percent in COVERAGES
    ),
    ("seconds", "seconds", ".3g", ".2g"),
)
PUBLISHED_NAME = "MC dropout, published"
# Mean RMSE and log-likelihood over all splits.
PUBLISHED = {
    "yacht": (0.666, -1.25),
    "concrete": (4.826, -2.937),
    "kin8nm": (0.079, 1.136),
    "power_plant": (4.014, -2.808),
    "protein": (4.274, -2.871),
}
SOURCE = (
    f"{PUBLISHED_NAME}: tuned, 4,000 epochs; Gal and Ghahramani's later run as "
    'reported again by Mukhoti et al. 2018, "On the importance of strong baselines in '
    'Bayesian deep learning".'
)


def mean_and_error(values):
    """Mean of values and its standard error, None for a single value."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float(values.mean()), None
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def report(records):
    """All runs as Markdown, with what is published where names match."""
    rows = []
    for record in records:
        for name in METHODS:
            if runs := record["methods"].get(name):
                rows.append({"data": record["name"], "method": name, **_row(runs)})
        if record["name"] in PUBLISHED:
            rows.append(_published(record["name"]))
    if not rows:
        return "No runs."
    parts = ["Mean over the test splits ± its standard error", table(rows)]
    if any(record["name"] in PUBLISHED for record in records):
        parts.append(SOURCE)
    return "\n\n".join(parts)


def _row(runs):
    cells = {"splits": len(runs)}
    for column, key, mean_format, error_format in COLUMNS:
        mean, error = mean_and_error([run[key] for run in runs.values()])
        cells[column] = f"{mean:{mean_format}}"
        if error is not None:
            cells[column] += f" ± {error:{error_format}}"
    return cells


def _published(name):
    cells = dict.fromkeys(["splits", *(column for column, *_ in COLUMNS)])
    error, likelihood = (f"{value:g}" for value in PUBLISHED[name])
    cells |= {"RMSE": error, "log-likelihood": likelihood}
    return {"data": name, "method": PUBLISHED_NAME, **cells}
