"""Figures across designs (data sets and protocols), a panel each: tuning, shares, interventions, comparisons."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from companion.plots.figures import METHOD_COLOURS
from companion.studies.tabular.panels import BLUE, INK, SHADE, forest_panel

# Measure of `shares.share_measures` -> what its panel says, and where the line of "nothing" is drawn.
SHARE_PANELS = {
    "mean": ("mean share\n(cross: large sample)", None),
    "sd": ("standard deviation\nof the share", 0.0),
    "R squared": ("variance explained by\nlabel counts (R²)", 0.0),
    "match": ("correlation with the\nlarge-sample share", 0.0),
    "lag-1": ("correlation with the\nnext batch's share", 0.0),
}


def draw_tuning(curves: pd.DataFrame, methods: Sequence[str], title: str) -> Figure:
    """Draw validation loss against learning rate, a panel per method and a line per auxiliary loss scale.

    Args:
        curves: Columns method, scale, rate, validation loss (mean over tuning splits).
        methods: Order of the panels.
        title: Data and task.
    """
    columns = min(4, len(methods))
    lines = -(-len(methods) // columns)
    fig, axes = plt.subplots(lines, columns, sharex=True, sharey=True, figsize=(8.6, 1.2 + 1.6 * lines), squeeze=False)
    scales, rates = sorted(set(curves["scale"])), sorted(set(curves["rate"]))
    shades = dict(zip(scales, sns.color_palette("viridis", len(scales)), strict=True))
    for ax in axes.flat[len(methods) :]:
        ax.set_axis_off()
    for ax, method in zip(axes.flat, methods, strict=False):
        for scale, rows in curves[curves["method"] == method].groupby("scale"):
            rows = rows.sort_values("rate")
            ax.plot(rows["rate"], rows["validation loss"], marker="o", ms=3.5, lw=1.4, color=shades[scale])
        ax.set(xscale="log")
        ax.xaxis.set_minor_locator(NullLocator())
        shown = rates if len(rates) < 4 else rates[::2]
        ax.set_xticks(shown, [f"{rate:g}" for rate in shown])
        ax.set_title(method, fontsize=9)
    best = curves.groupby("method")["validation loss"].min()
    low, high = best.min(), best.max()
    room = max(4 * (high - low), 0.02 * low)  # the minima fill a quarter of the height; far worse settings leave it
    axes[0, 0].set_ylim(low - 0.1 * room, low + room)
    axes[0, 0].yaxis.set_major_locator(MaxNLocator(4))
    handles = [Line2D([], [], color=shade, marker="o", ms=3.5, label=f"{scale:g}") for scale, shade in shades.items()]
    fig.legend(handles=handles, title="scale", title_fontsize=9, loc="outside right upper")
    fig.supxlabel("learning rate", fontsize=10)
    fig.supylabel("validation loss (nats)", fontsize=10)
    how = "validation loss by learning rate and scale of the auxiliary loss, mean over tuning splits"
    fig.suptitle(f"{title}\n{how}", x=0.01, ha="left", fontsize=11)
    return fig


def draw_switch_off(curves: Mapping[str, pd.DataFrame], epochs: int, smallest: float) -> Figure:
    """Draw what switching the auxiliary off at an epoch does to the test loss, a panel per design.

    Args:
        curves: Design -> columns off_epoch, mean, low, high, the differences to always on in nats, and chosen: True
            for the epoch that the tuning splits chose.
        epochs: Number of epochs, where "always on" stands.
        smallest: The least difference that counts.
    """
    fig, axes = plt.subplots(
        1, len(curves), figsize=(max(7.2, 1.2 + 3.6 * len(curves)), 3.4), squeeze=False, sharex=True
    )
    colour = METHOD_COLOURS["static grid"]
    for ax, (name, rows) in zip(axes[0], curves.items(), strict=True):
        ax.axhspan(-smallest, smallest, color=SHADE, zorder=0)
        ax.axhline(0, color=INK, lw=1)
        whiskers = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        ax.errorbar(rows["off_epoch"], rows["mean"], whiskers, color=colour, marker="o", mfc="white", ms=6, capsize=3)
        chosen = rows[rows["chosen"]]
        ax.plot(chosen["off_epoch"], chosen["mean"], "o", color=colour, ms=6.5, zorder=5)
        ax.plot(epochs, 0, "s", color=INK, ms=6)
        ax.annotate("always on", (epochs, 0), (0, 8), textcoords="offset points", ha="right", fontsize=9, color=INK)
        ax.set_title(name)
        ax.set_xlabel("epochs with the auxiliary task")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5))
    axes[0, 0].set_ylabel("test log loss, difference\nto always on (nats)")
    how = "corrected 95 % interval; filled: chosen on tuning splits; shaded: too small to count"
    fig.suptitle(f"Auxiliary task switched off after some epochs\n{how}", x=0.01, ha="left", fontsize=11)
    return fig


def draw_share_measures(measures: pd.DataFrame) -> Figure:
    """Draw what the shares at fixed parameters are like, a panel per measure, a row per design and checkpoint.

    Args:
        measures: Of `shares.share_intervals`, with the column design.
    """
    places = list(dict.fromkeys(zip(measures["design"], measures["step"], strict=True)))
    fig, axes = plt.subplots(1, len(SHARE_PANELS), sharey=True, figsize=(9.6, 1.7 + 0.32 * len(places)))
    for ax, (measure, (text, nothing)) in zip(axes, SHARE_PANELS.items(), strict=True):
        if nothing is not None:
            ax.axvline(nothing, color=INK, lw=1)
        for row in measures[measures["measure"] == measure].to_dict("records"):
            y = places.index((row["design"], row["step"]))
            ax.plot([row["low"], row["high"]], [y, y], color=BLUE, lw=1.6)
            ax.plot(row["mean"], y, "o", color=BLUE, ms=6)
        if measure == "mean":
            for row in measures[measures["measure"] == "population"].to_dict("records"):
                y = places.index((row["design"], row["step"]))
                ax.plot(row["mean"], y, "x", color=INK, ms=7, mew=1.8)
        ax.set_xlabel(text, fontsize=9)
        ax.grid(axis="y", visible=False)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=3)
        ax.margins(x=0.12)
    axes[0].set_yticks(range(len(places)), [f"{design}, step {step}" for design, step in places])
    axes[0].set_ylim(len(places) - 0.5, -0.5)
    how = "auxiliary share over i.i.d. mini-batches; mean over splits, corrected 95 % interval"
    fig.suptitle(f"HydaLearn's weights at fixed parameters\n{how}", x=0.01, ha="left", fontsize=11)
    return fig


def draw_designs(panels: Mapping[str, pd.DataFrame], metric: str, smallest: float, title: str) -> Figure:
    """Draw the differences of one metric, a panel per design and a row per reference.

    Args:
        panels: Design -> rows of `report.paired_differences`; the first names all references, in their order.
        metric: Which of their metrics.
        smallest: The least difference that counts.
        title: What is compared.
    """
    order = list(dict.fromkeys(name for rows in panels.values() for name in rows["reference"]))
    heights = 1.9 + 0.27 * len(order)
    fig, axes = plt.subplots(1, len(panels), figsize=(max(7.8, 1.8 + 2.8 * len(panels)), heights), squeeze=False)
    for number, (ax, (name, rows)) in enumerate(zip(axes[0], panels.items(), strict=True)):
        forest_panel(ax, rows, metric, smallest)
        names = rows["reference"].drop_duplicates().to_list()
        if names == order[: len(names)]:  # in line with the first panel, whose labels serve
            ax.set_ylim(len(order) - 0.5, -0.5)
            ax.tick_params(labelleft=not number)
        ax.set_title(name, fontsize=10)
    how = "95 % intervals: line corrected for shared rows, bar plain; open: holds 0; shaded: too small"
    fig.suptitle(f"{title}\n{how}", x=0.01, ha="left", fontsize=11)
    return fig
