"""Quality over the weight of a task's loss: who withstands a gap between the scales of losses."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from companion.plots.style import INK, colour, end_labels, head


def draw_over_scale(
    table: pd.DataFrame,
    panels: Mapping[Any, str],
    xlabel: str,
    ylabel: str = "",
    title: str = "",
    *,
    panel: str = "task",
) -> Figure:
    """Draw quality over the weight of a loss, a line per method, named at its end.

    Args:
        table: One row per panel, `label` and `spread`, the weight: `mean` with its 95 % interval `low`, `high`.
        panels: Value of the column `panel` -> title of the panel.
        xlabel: Whose weight it is.
        ylabel: Of all panels, which then share the axis; without it each has its own.
        title: Of the figure.
        panel: Column that divides the table into panels.
    """
    fig, axes = plt.subplots(1, len(panels), sharey=bool(ylabel), figsize=(7.4, 3.7), squeeze=False)
    spreads = sorted(set(table["spread"]))
    step = (spreads[-1] / spreads[0]) ** 0.0065  # beside one another, so that whiskers do not hide one another
    for ax, (value, text) in zip(axes[0], panels.items(), strict=True):
        heights: dict[str, float] = {}
        for number, (label, rows) in enumerate(table[table[panel] == value].groupby("label", sort=False)):
            whiskers = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
            look = {"color": colour(str(label)), "marker": "o", "ms": 4, "capsize": 2, "elinewidth": 1.2}
            ax.errorbar(rows["spread"] * step**number, rows["mean"], whiskers, **look)
            heights[str(label)] = float(rows["mean"].iloc[-1])
        ax.axhline(0, color=INK, lw=1, ls="--", zorder=1)
        ax.set(xscale="log", title=text)
        ax.set_xticks(spreads, [f"{spread:g}" for spread in spreads], fontsize=8)
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel(ylabel)
    end_labels(axes[0, -1], heights, {label: colour(label) for label in heights})
    fig.supxlabel(xlabel, fontsize=10)
    return head(fig, title) if title else fig
