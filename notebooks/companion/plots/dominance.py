"""Dominance: which share of a layer's parameters one task moves alone, and how a task's rAU is distributed there."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.plots.style import INK, colour, head, legend_below, line_style

NULL = "joint 1:1, the null level"


def layers_panel(ax: Axes, rows: pd.DataFrame, layers: Sequence[str], labels: Sequence[str]) -> None:
    """Draw the share of dominated parameters by layer on given axes.

    Args:
        ax: Where.
        rows: One row per `label` and `layer`: `mean`, `low`, `high`.
        layers: From the input on.
        labels: All settings of the figure, each at its own place beside a layer's middle.
    """
    for label, line in rows.groupby("label", sort=False):
        name = str(label)
        x = np.array([layers.index(layer) for layer in line["layer"]])
        x = x + 0.1 * (labels.index(name) - (len(labels) - 1) / 2)
        whiskers = [line["mean"] - line["low"], line["high"] - line["mean"]]
        look: dict[str, Any] = {"color": colour(name), "ls": line_style(name), "lw": 1, "elinewidth": 1.4}
        ax.errorbar(x, line["mean"], whiskers, marker="o", ms=4, label=name, **look)
    named = isinstance(layers[0], str)
    ax.set_xticks(range(len(layers)), layers, rotation=45 * named, ha="right" if named else "center")
    ax.set_ylim(-0.03, 1.03)


def draw_dominance(table: pd.DataFrame) -> Figure:
    """Draw the share of dominated parameters layer by layer: by updates above, by accumulated gradients below.

    Args:
        table: One row per `optimizer`, `label`, `what` ("updates" or "gradients") and `layer`: `mean`, `low`, `high`.
    """
    table = table.replace("joint 1:1", NULL)
    optimizers, layers, labels = (list(dict.fromkeys(table[name])) for name in ("optimizer", "layer", "label"))
    fig, axes = plt.subplots(2, len(optimizers), sharex=True, sharey=True, figsize=(7.2, 5.0), squeeze=False)
    for line, what in zip(axes, ("updates", "gradients"), strict=True):
        for ax, optimizer in zip(line, optimizers, strict=True):
            here = table[(table["optimizer"] == optimizer) & (table["what"] == what)]
            layers_panel(ax, here, layers, labels)
        line[0].set_ylabel(f"dominated parameters,\nby {what}")
    for ax, optimizer in zip(axes[0], optimizers, strict=True):
        ax.set_title(optimizer)
    for ax in axes[1]:
        ax.set_xlabel("shared layer")
    legend_below(fig)
    return fig


def draw_distributions(table: pd.DataFrame, whose: str, title: str, equal: float = 0.5) -> Figure:
    """Draw how one task's rAU is distributed over the parameters of each layer, as ridgelines, a panel per setting.

    Args:
        table: One row per `label`, `layer` and `rAU`, ascending: `parameters`, the part of them there; a column
            `optimizer` makes a row of panels each. Layers are drawn from the input (bottom) on.
        whose: The task.
        title: Of the figure.
        equal: The share of each task if all moved a parameter alike.
    """
    table = table if "optimizer" in table else table.assign(optimizer="")
    optimizers, labels, layers = (list(dict.fromkeys(table[name])) for name in ("optimizer", "label", "layer"))
    size = (7.2, 1.1 + len(optimizers) * (0.5 + 0.27 * len(layers)))
    fig, axes = plt.subplots(len(optimizers), len(labels), sharex=True, sharey=True, figsize=size, squeeze=False)
    highest = table["parameters"].max() ** 0.5
    for ax, (optimizer, label) in zip(axes.flat, product(optimizers, labels), strict=True):
        here = table[(table["optimizer"] == optimizer) & (table["label"] == label)]
        for y, layer in reversed(list(enumerate(layers))):
            rows = here[here["layer"] == layer]
            top = y + 1.6 * rows["parameters"] ** 0.5 / highest  # the root shows what few parameters do, too
            ax.fill_between(rows["rAU"], y, top, color=colour(label), alpha=0.8, lw=0, zorder=len(layers) - y)
            ax.plot(rows["rAU"], top, color="white", lw=1, zorder=len(layers) - y)
        for share, style in ((0.1, ":"), (equal, "--"), (0.9, ":")):
            ax.axvline(share, color=INK, lw=0.8, ls=style, zorder=20)
        ax.set_title(", ".join(filter(None, (optimizer, label))), color=colour(label), fontsize=10)
        ax.grid(visible=False)
    axes[0, 0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes[0, 0].set_yticks(range(len(layers)), layers)
    axes[0, 0].set_ylim(-0.1, len(layers) + 0.7)
    fig.supxlabel(
        f"rAU of {whose}; dashed: all tasks alike; beyond the dotted lines one dominates; height: root of the part",
        fontsize=9,
    )
    return head(fig, title)
