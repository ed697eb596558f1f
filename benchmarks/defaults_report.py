"""Tables and the picture of the benchmark of defaults."""

import numpy as np
from defaults_methods import CONSTANT, LABELS, OURS, RAW

# Ratios of errors between which points are too many to be named.
CROWD = (0.5, 1.3)
ASPECT = (7.5, 5)
RESULTS = ("error", "seconds")


# ---- numbers -------------------------------------------------------------------------


def middle(runs):
    """Mean test error and median seconds of one method's runs, by split."""
    errors, seconds = ([run[key] for run in runs.values()] for key in RESULTS)
    return float(np.mean(errors)), float(np.median(seconds))


def ratios(table):
    """Ours against each peer, on the splits that both have.

    The error is ours over theirs, the seconds theirs over ours.
    """
    ours, found = table["methods"].get(OURS, {}), {}
    for name, theirs in table["methods"].items():
        both = [split for split in ours if split in theirs]
        if name in (OURS, CONSTANT) or not both:
            continue
        own, peer = (middle({k: runs[k] for k in both}) for runs in (ours, theirs))
        found[name] = {"error": own[0] / peer[0], "seconds": peer[1] / own[1]}
    return found


def summary(tables):
    """Geometric means and worst tables of the ratios to each peer."""
    rows = {}
    for table in tables:
        for name, ratio in ratios(table).items():
            rows.setdefault(name, []).append((table["name"], ratio))
    found = {}
    for name, pairs in rows.items():
        error, seconds = (
            np.array([ratio[key] for _, ratio in pairs]) for key in RESULTS
        )
        found[name] = {
            "tables": len(pairs),
            "error": _geometric_mean(error),
            "worst error": float(error.max()),
            "worst error on": pairs[error.argmax()][0],
            "seconds": _geometric_mean(seconds),
            "worst seconds": float(seconds.min()),
            "worst seconds on": pairs[seconds.argmin()][0],
        }
    return found


def worse_than_constant(tables):
    """Fits of ours that are worse on the test rows than the best constant."""
    return [
        f"{table['name']} ({name}, split {split}): {run['error'] / constant:.3g}"
        for table in tables
        for name in (OURS, RAW)
        for split, run in table["methods"].get(name, {}).items()
        if run["error"] > (constant := table["methods"][CONSTANT][split]["error"])
    ]


def _geometric_mean(values):
    return float(np.exp(np.mean(np.log(values))))


# ---- text ----------------------------------------------------------------------------


def report(tables):
    """All of it as Markdown."""
    parts = [_measured(tables), _compared(tables), _summarised(tables)]
    worse = worse_than_constant(tables)
    parts.append(
        "Worse than the best constant: " + ("; ".join(worse) if worse else "none") + "."
    )
    return "\n\n".join(parts)


def _measured(tables):
    names = [name for name in LABELS if any(name in t["methods"] for t in tables)]
    rows = [["table", "training rows", *(LABELS[name] for name in names)]]
    for table in tables:
        cells = [table["name"], str(table["rows"])]
        for name in names:
            runs = table["methods"].get(name)
            cells.append("{:.3g} ({:.2g} s)".format(*middle(runs)) if runs else "-")
        rows.append(cells)
    return "Test error (seconds of the fit)\n\n" + _markdown(rows)


def _compared(tables):
    names = list(summary(tables))
    rows = [["table", *(LABELS[name] for name in names)]]
    for table in tables:
        found = ratios(table)
        rows.append([table["name"], *(_ratio(found.get(name)) for name in names)])
    return "Error, ours / theirs; seconds, theirs / ours\n\n" + _markdown(rows)


def _ratio(ratio):
    return "{error:.3g}; {seconds:.3g}".format(**ratio) if ratio else "-"


def _summarised(tables):
    rows = [
        [
            "against",
            "tables",
            "error: geometric mean / worst",
            "seconds: geometric mean / worst",
        ]
    ]
    for name, s in summary(tables).items():
        rows.append(
            [
                LABELS[name],
                str(s["tables"]),
                "{error:.3g} / {worst error:.3g} ({worst error on})".format(**s),
                "{seconds:.3g} / {worst seconds:.3g} ({worst seconds on})".format(**s),
            ]
        )
    return _markdown(rows)


def _markdown(rows):
    rows = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


# ---- picture -------------------------------------------------------------------------


def plot(tables, path):
    """Error against speed, a point for each table and peer."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(ASPECT, layout="constrained")
    axes = figure.subplots()
    points = {}
    for table in tables:
        for name, ratio in ratios(table).items():
            points.setdefault(name, []).append((ratio["seconds"], ratio["error"]))
            if CROWD[0] < ratio["error"] < CROWD[1]:
                continue
            axes.annotate(
                table["name"],
                points[name][-1],
                xytext=(3, 2),
                textcoords="offset points",
                fontsize="xx-small",
                alpha=0.7,
            )
    for name, pairs in points.items():
        axes.plot(*zip(*pairs, strict=True), "o", label=LABELS[name])
    axes.axhline(1, color="0.5", linewidth=0.8)
    axes.axvline(1, color="0.5", linewidth=0.8)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("seconds, theirs / ours (right: skgnh is faster)")
    axes.set_ylabel("test error, ours / theirs (down: skgnh is better)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", title="against")
    # The same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "skgnh"}):
        figure.savefig(path, metadata={"Date": None})
