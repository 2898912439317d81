"""Figures of the tabular study alone: benefit by data set, shares over training, benefit by number of labels."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from companion.plots.forest import Panel, draw_forest
from companion.plots.style import METHOD_COLOURS, SHADE, head, legend_below

BLUE, ORANGE = METHOD_COLOURS["HydaLearn"], METHOD_COLOURS["static grid"]
# Measure of `shares.share_measures` -> its name in the figure, its colour and line.
SHARES = {
    "best R squared": ("best share: explained by composition (R²)", ORANGE, "-"),
    "R squared": ("HydaLearn's: explained (R²)", BLUE, "-"),
    "match": ("HydaLearn's with the best (correlation)", BLUE, "--"),
}


def draw_designs(tables: Mapping[str, pd.DataFrame], smallest: float, title: str, first: str = "HydaLearn") -> Figure:
    """Draw paired differences of losses in per cent, a panel per data set.

    Args:
        tables: Name of a panel -> rows of `report.paired_differences`.
        smallest: The least difference that counts.
        title: What is compared.
        first: As for `draw_forest`.
    """
    rows = pd.concat(table.assign(design=name) for name, table in tables.items())
    panels = {name: Panel(name, "test loss, %", True, smallest, percent=True) for name in tables}
    return draw_forest(rows, panels, title, first=first)


def draw_shares(measures: pd.DataFrame, burn_in: int, smallest: float) -> Figure:
    """Draw what the shares at fixed parameters follow, over the steps of training, a panel per data set.

    Args:
        measures: Of `shares.share_intervals`, with the column design.
        burn_in: The step from which on the measures count.
        smallest: The least part of the variance that counts.
    """
    designs = list(dict.fromkeys(measures["design"]))
    fig, axes = plt.subplots(1, len(designs), sharey=True, figsize=(9.0, 3.4), squeeze=False)
    for ax, design in zip(axes[0], designs, strict=True):
        here = measures[measures["design"] == design]
        ax.axhspan(-1, smallest, color=SHADE, zorder=0)
        ax.axvspan(0, burn_in, color=SHADE, zorder=0)
        for measure, (name, colour, line) in SHARES.items():
            rows = here[here["measure"] == measure].sort_values("step")
            ax.fill_between(rows["step"], rows["low"], rows["high"], color=colour, alpha=0.18, lw=0)
            ax.plot(rows["step"], rows["mean"], color=colour, ls=line, marker="o", ms=4, label=name)
        ax.set(title=design, xlabel="step of training", xlim=(0, None))
    shown = measures[measures["measure"].isin(SHARES)]
    axes[0, 0].set_ylim(min(-0.1, shown["low"].min() - 0.03), 1)
    axes[0, 0].set_ylabel("R² or correlation")
    legend_below(fig)
    how = "mean and 95 % interval over splits; grey: burn-in, not counted, and what is too small to count"
    return head(fig, f"What a mini-batch's auxiliary share follows, parameters held\n{how}")
