"""Axes to draw on."""

from typing import Any

from sklearn.utils._optional_dependencies import check_matplotlib_support


def axes_of(ax: Any, caller: str) -> Any:
    """Return the axes, those of a new figure where there are none."""
    check_matplotlib_support(caller)
    import matplotlib.pyplot as plt

    return plt.subplots()[1] if ax is None else ax
