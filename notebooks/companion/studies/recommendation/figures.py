"""The figure of the recommendation study alone: who moves which layer over training."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from companion.plots.style import INK, head, legend_below


def draw_over_time(table: pd.DataFrame, colours: Mapping[str, str], title: str) -> Figure:
    """Draw each task's mean share of AU over training, settings below one another and layers side by side.

    Args:
        table: One row per label, layer, task and `time` (from 0 to 1): `mean`, `low`, `high`.
        colours: Task -> colour.
        title: Of the figure.
    """
    labels, layers = list(table["label"].unique()), list(table["layer"].unique())
    fig, axes = plt.subplots(len(labels), len(layers), sharex=True, sharey=True, figsize=(7.2, 4.2), squeeze=False)
    for row, label in zip(axes, labels, strict=True):
        for ax, layer in zip(row, layers, strict=True):
            here = table[(table["label"] == label) & (table["layer"] == layer)]
            for task, line in here.groupby("task", sort=False):
                ax.plot(line["time"], line["mean"], color=colours[str(task)], label=task)
                ax.fill_between(line["time"], line["low"], line["high"], color=colours[str(task)], alpha=0.2, lw=0)
            ax.axhline(1 / len(colours), color=INK, lw=0.8, ls="--", zorder=1)
            ax.set_xticks([0.1, 1], ["0.1", "1"])
        row[0].set_ylabel(f"{label}\nshare of AU")
    for ax, layer in zip(axes[0], layers, strict=True):
        ax.set_title(layer, fontsize=10)
    axes[0, 0].set_ylim(0, 1)
    legend_below(fig)
    for ax in axes[-1]:
        ax.set_xlabel("training", fontsize=9)
    return head(fig, title)
