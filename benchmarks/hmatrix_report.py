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
    """Write a PNG for each part that has one."""
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
            figure.savefig(folder / f"hmatrix_{name}_{title}.png".replace(" ", "_"))


def _groups(name, parts):
    """Rows by network and state; all sizes of part d together."""
    rows = parts.get(name, [])
    if name == "d":
        return [("scaling", rows)] if len(rows) > 1 else []
    groups = {}
    for row in rows:
        groups.setdefault(f"{row['network']} {row['state']}", []).append(row)
    return groups.items()


def _errors(axes, rows):
    """Error against the share of the storage that the global part has."""
    lines = {}
    for row in rows:
        if row["method"].startswith("hmatrix"):
            _, order, share = row["method"].split()
            lines.setdefault(order, []).append((float(share), row["error"]))
        else:
            style = ":" if row["method"] == "kfac" else "--"
            axes.axhline(row["error"], ls=style, color="black", label=row["method"])
    for order, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", label=f"H-matrix, {order}")
    axes.set(yscale="log", xlabel="share of the global part")
    axes.set_ylabel("relative Frobenius error")


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
