"""Tables and plots of the H-matrix benchmark."""

from numbers import Integral, Real

import numpy as np

ASPECT = (7, 4.5)


def table(rows):
    """Markdown of rows with the columns of the first and of all others."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    texts = [columns, ["---"] * len(columns)]
    texts += [[_cell(row.get(name, "")) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = []
    for line in texts:
        cells = (
            cell.ljust(width, "-" if cell == "---" else " ")
            for cell, width in zip(line, widths, strict=True)
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value):
    if value is None:
        return "-"
    if isinstance(value, Integral) or not isinstance(value, Real):
        return str(value)
    return f"{value:.3g}"


def plots(parts, folder):
    """Write an SVG for each part that has one."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in (("a", _errors), ("b", _iterations), ("d", _scaling)):
        for title, rows in _groups(name, parts):
            figure = Figure(ASPECT, layout="constrained")
            axes = figure.subplots()
            draw(axes, rows)
            axes.set_title(title)
            axes.legend(fontsize="small")
            axes.grid(alpha=0.3)
            figure.savefig(folder / f"hmatrix_{title}.svg".replace(" ", "_"))


def _groups(name, parts):
    """Part b by network and state; all rows of the others together."""
    rows = parts.get(name, [])
    if name != "b":
        title = {"a": "errors", "d": "scaling"}[name]
        return [(title, rows)] if len(rows) > 1 else []
    groups = {}
    for row in rows:
        groups.setdefault(f"{row['network']} {row['state']}", []).append(row)
    return groups.items()


def _errors(axes, rows):
    """Errors of the chosen H-matrix, of low rank and of K-FAC in every case."""
    lines = {}
    for row in rows:
        case = f"{row['network']}\n{row['state']}"
        if row["chosen"] or not row["method"].startswith("hmatrix"):
            lines.setdefault(row["method"].split()[0], []).append((case, row["error"]))
    for method, points in lines.items():
        axes.plot(*zip(*points, strict=True), "o", label=method)
    axes.tick_params(axis="x", labelsize="xx-small", rotation=90)
    axes.set(yscale="log", ylabel="relative Frobenius error")


def _iterations(axes, rows):
    """Iterations to the loosest residual against the damping."""
    column = next(name for name in rows[0] if name.startswith("to "))
    lines = {}
    for row in rows:
        k = np.nan if row[column] is None else row[column]
        lines.setdefault(row["method"], []).append((row["damping"], k))
    for method, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", label=method)
    axes.set(xscale="log", yscale="log", xlabel="damping / mean diagonal")
    axes.set_ylabel(f"iterations {column}")


def _scaling(axes, rows):
    for column in ("build s", "factor s", "solve s", "product s", "exact product s"):
        axes.plot([r["P"] for r in rows], [r[column] for r in rows], "o-", label=column)
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="seconds")
