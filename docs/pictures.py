"""The picture of the first page, drawn from the measured table, and the gallery's."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

# Ratios beyond these are drawn at the border, as arrows.
LEAST, MOST = 0.15, 70
MARKERS = {"MLP, defaults": "o", "boosting": "s", "Gaussian process": "D"}
# What lies at one place is drawn side by side.
SHIFTS = dict(zip(MARKERS, (0.2, 0, -0.2), strict=True))


def read(path):
    """Return {table: {method: error}} of the first list-table of a file."""
    text = path.read_text().split("\n\n\n")[0]
    head, *rows = (
        [cell.strip() for cell in row.split("\n     - ")]
        for row in text.split("\n   * - ")[1:]
    )
    return {
        row[0]: {
            name: float(cell.split()[0])
            for name, cell in zip(head[2:], row[2:], strict=True)
            if cell != r"\-"
        }
        for row in rows
    }


def ratios(errors):
    """Return {table: {method: its error over ours}}, the best tables of ours last."""
    found = {
        table: {name: row[name] / row["skgnh"] for name in MARKERS if name in row}
        for table, row in errors.items()
    }
    on_all = ("MLP, defaults", "boosting")
    return dict(
        sorted(found.items(), key=lambda item: np.prod([item[1][k] for k in on_all]))
    )


def label(table):
    """Return the name of a table, Friedman's with their rows and noise."""
    friedman = re.fullmatch(r"friedman(\d)-(\d+)-(.+)", table)
    if friedman:
        return "Friedman {}, {} rows, noise {}".format(*friedman.groups())
    return table.replace("_", " ")


def draw(found, target):
    """Write the picture, a row for each table and a marker for each method."""
    figure, ax = plt.subplots(figsize=(4.7, 6.8), layout="constrained")
    ax.axvline(1, color=plt.rcParams["text.color"], linewidth=1)
    for method, marker in MARKERS.items():
        rows = [(r[method], y) for y, r in enumerate(found.values()) if method in r]
        ratio, y = np.array(rows).T + [[0], [SHIFTS[method]]]
        (line,) = ax.plot([], [], marker, label=method, linestyle="")
        for shape, those in (
            (marker, (ratio > LEAST) & (ratio < MOST)),
            ("<", ratio <= LEAST),
            (">", ratio >= MOST),
        ):
            x = np.clip(ratio[those], LEAST, MOST)
            ax.plot(
                x, y[those], shape, color=line.get_color(), alpha=0.9, clip_on=False
            )
    ax.set(xscale="log", xlim=(LEAST, MOST), ylim=(-0.7, len(found) - 0.3))
    ax.set_xticks(
        [0.2, 0.5, 1, 2, 5, 10, 50], ["1/5", "1/2", "1", "2", "5", "10", "50"]
    )
    ax.set_xticks([], minor=True)
    ax.set_yticks(range(len(found)), [label(table) for table in found])
    ax.set_xlabel("test error, theirs / ours\n← theirs better      ours better →")
    ax.grid(axis="both", alpha=0.2)
    ax.tick_params(axis="y", length=0, pad=8)
    ax.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, columnspacing=1)
    figure.savefig(target, transparent=True)
    plt.close(figure)


def landing_picture(app):
    """Draw it for light and dark pages."""
    found = ratios(read(Path(app.srcdir, "defaults_table.rst")))
    folder = Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    for mode, style in (("light", "default"), ("dark", "dark_background")):
        with plt.style.context([style, {"svg.hashsalt": "skgnh", "font.size": 9.5}]):
            draw(found, folder / f"defaults_{mode}.svg")


def larger_fonts(gallery_conf, name):
    """Let figures of the gallery be read as thumbnails too."""
    plt.rcParams["font.size"] = 13
    plt.rcParams["legend.fontsize"] = 11
