"""The figures of the recommendation study alone: who moves which layer, quality over the network's size."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter

from companion.plots.style import INK, colour, head, legend_below

LOOKS = {  # label -> colour and line
    "mis-scaled, 1:10": ("#E69F00", "-"),
    "equal weights": (colour("equal weights"), "-"),
    "AdaTask": (colour("AdaTask"), "-"),
    "chance, other rows": (INK, ":"),
    "chance, same rows": (INK, "--"),
}


def draw_layers(table: pd.DataFrame, panels: Mapping[str, str], equal: float, title: str) -> Figure:
    """Draw measures of who moves each table and layer, a panel per measure.

    Args:
        table: One row per `metric`, `label` (one of `LOOKS`) and `layer`: `mean`, `low`, `high`.
        panels: Metric -> title.
        equal: Share of each task if all moved a parameter alike, drawn in the last panel.
        title: Of the figure.
    """
    layers = list(dict.fromkeys(table["layer"]))
    fig, axes = plt.subplots(1, len(panels), figsize=(8.2, 3.9))
    for ax, (metric, text) in zip(axes, panels.items(), strict=True):
        for number, (label, (shade, line)) in enumerate(LOOKS.items()):
            rows = table[(table["metric"] == metric) & (table["label"] == label)].set_index("layer").loc[layers]
            x = [place + 0.07 * (number - 2) for place in range(len(layers))]
            whiskers = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
            ax.errorbar(x, rows["mean"], whiskers, color=shade, ls=line, marker="o", ms=4, elinewidth=1.2, label=label)
        ax.set_xticks(range(len(layers)), layers)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_title(text, fontsize=10)
    axes[-1].axhline(equal, color=INK, lw=0.8)
    for ax in axes:
        ax.set_ylim(0, None)
    axes[-1].annotate("all tasks alike", (0, equal), (2, 3), textcoords="offset points", fontsize=8, color=INK)
    legend_below(fig)
    return head(fig, title)


def draw_sizes(table: pd.DataFrame, panels: Mapping[str, str], chosen: Mapping[str, float], title: str) -> Figure:
    """Draw validation AUC over one size of the network at a time.

    Args:
        table: Of `comparison.sizes`.
        panels: Size -> words for the axis.
        chosen: Size -> the value that the study takes, marked.
        title: Of the figure.
    """
    fig, axes = plt.subplots(1, len(panels), sharey=True, figsize=(8.2, 2.9))
    shade = colour("equal weights")
    for ax, (size, words) in zip(axes, panels.items(), strict=True):
        rows = table[table["size"] == size].pivot(index="value", columns="seed", values="AUC")
        ax.plot(rows.index, rows, color=shade, lw=0.8, alpha=0.6)
        ax.plot(rows.index, rows.mean(axis=1), color=INK, marker="o", ms=4)
        ax.plot(chosen[size], rows.mean(axis=1)[chosen[size]], "o", ms=10, mfc="none", mec="#D55E00", mew=1.5)
        ax.set_xscale("log", base=2)
        ax.set_xticks(rows.index, [f"{value:g}" for value in rows.index])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.set_xlabel(words)
    axes[0].set_ylabel("validation AUC,\nmean of tasks")
    return head(fig, title)


def draw_rate_curves(table: pd.DataFrame, title: str) -> Figure:
    """Draw how much a method's validation loss exceeds its least, over the learning rate, a panel per method.

    Args:
        table: Of `report.rate_curves`.
        title: Of the figure.
    """
    methods = list(dict.fromkeys(table["label"]))
    fig, axes = plt.subplots(1, len(methods), sharex=True, sharey=True, figsize=(1.35 * len(methods), 2.9))
    for ax, method in zip(axes, methods, strict=True):
        rows = table[table["label"] == method]
        shade = colour("single task" if method.endswith("alone") else method.replace("static weights", "static grid"))
        whiskers = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        ax.errorbar(rows["rate"], rows["mean"], whiskers, color=shade, marker="o", ms=4, elinewidth=1.2)
        best = rows[rows["mean"] == 0]
        ax.plot(best["rate"], best["mean"], "o", ms=10, mfc="none", mec="#D55E00", mew=1.5)
        ax.axhline(0, color=INK, lw=0.8, zorder=1)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_title(method.replace(" ", "\n", 1), fontsize=9)
    axes[0].set_ylabel("validation loss above\nits least, %")
    axes[0].set_ylim(-0.6, 3)
    fig.supxlabel("learning rate", fontsize=10)
    return head(fig, title)
