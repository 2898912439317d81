"""Figures of the recommendation study, one function each."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from companion.studies.adatask_synthetic.figures import DARK, colour, end_labels, optimizer_colour
from companion.train.layer_shares import NUM_BINS

LEFT, RIGHT, MINUS = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}", "\N{MINUS SIGN}"
TOP = 0.12  # of the learning-rate panels; a curve beyond leaves the panel


def draw_rates(curves: pd.DataFrame) -> Figure:
    """Draw the validation loss of every method over the learning rate, one panel per optimizer.

    Args:
        curves: Of `report.rate_curves`, the labels that are to be drawn.
    """
    optimizers = list(curves["optimizer"].unique())
    fig, axes = plt.subplots(1, len(optimizers), sharey=True, figsize=(7.2, 3.7), squeeze=False)
    for ax, optimizer in zip(axes[0], optimizers, strict=True):
        for label, rows in curves[curves["optimizer"] == optimizer].groupby("label", sort=False):
            shade = colour(str(label))
            style = {"single task": "--", "per-task RMS": ":"}.get(str(label), "-")
            ax.plot(rows["rate"], rows["mean"], marker="o", ms=3, ls=style, color=shade, label=label)
            ax.fill_between(rows["rate"], rows["low"], rows["high"], color=shade, alpha=0.12, lw=0)
            best = rows[rows["chosen"]]
            ax.plot(best["rate"], best["mean"], "o", ms=9, mfc="none", mec=shade, mew=1.5)
        ax.set(xlabel="learning rate", title=optimizer)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylim(min(-0.03, 1.15 * curves["low"].min()), TOP)
    axes[0, 0].set_ylabel("log validation loss over the tuned\nsingle task's, mean of tasks")
    entries = {text: line for ax in axes[0] for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(len(entries), 5))
    return fig


def draw_dominance(table: pd.DataFrame) -> Figure:
    """Draw the share of dominated parameters, table by table and layer by layer: by updates and by gradients.

    Args:
        table: One row per optimizer, label, what ("updates" or "gradients") and layer: `mean`, `low`, `high`.
    """
    optimizers, layers = list(table["optimizer"].unique()), list(table["layer"].unique())
    fig, axes = plt.subplots(2, len(optimizers), sharex=True, sharey=True, figsize=(7.2, 5.2), squeeze=False)
    labels = list(table["label"].unique())
    for row, what in zip(axes, ("updates", "gradients"), strict=True):
        for ax, optimizer in zip(row, optimizers, strict=True):
            here = table[(table["optimizer"] == optimizer) & (table["what"] == what)]
            for label, line in here.groupby("label", sort=False):
                number = labels.index(str(label))
                x = np.arange(len(line)) + 0.12 * (number - (len(labels) - 1) / 2)
                whiskers = [line["mean"] - line["low"], line["high"] - line["mean"]]
                mark = {"joint 1:1": "s", "per-task RMS": "^"}.get(str(label), "o")
                ax.errorbar(x, line["mean"], whiskers, fmt=mark, ms=4.5, color=colour(str(label)), label=label)
        row[0].set_ylabel(f"dominated parameters,\nby {what}")
    for ax, optimizer in zip(axes[0], optimizers, strict=True):
        ax.set_title(optimizer)
    for ax in axes[1]:
        ax.set_xticks(range(len(layers)), layers, rotation=45, ha="right")
    axes[0, 0].set_ylim(-0.03, 1.03)
    entries = {text: line for ax in axes[0] for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    named = [f"{text}, the null level" if text == "joint 1:1" else text for text in entries]
    fig.legend(entries.values(), named, loc="outside lower center", ncols=len(entries))
    return fig


def draw_shares(table: pd.DataFrame, task: str, equal: float) -> Figure:
    """Draw before and after as halves of violins: the distribution over parameters of one task's rAU.

    Args:
        table: One row per optimizer, label, layer and bin: `share`; the first label goes to the left, the second to
            the right.
        task: Whose rAU it is.
        equal: The share of each task if all were served alike.
    """
    optimizers, layers, labels = (list(table[name].unique()) for name in ("optimizer", "layer", "label"))
    fig, axes = plt.subplots(len(optimizers), 1, sharex=True, sharey=True, figsize=(7.2, 1.2 + 1.7 * len(optimizers)))
    edges = np.linspace(0, 1, NUM_BINS + 1)
    widest = table["share"].max() ** 0.5
    for ax, optimizer in zip(np.atleast_1d(axes), optimizers, strict=True):
        for place, layer in enumerate(layers):
            for label, side in zip(labels, (-1, 1), strict=True):
                rows = table[(table["optimizer"] == optimizer) & (table["label"] == label) & (table["layer"] == layer)]
                heights = (
                    rows.sort_values("bin")["share"].to_numpy() ** 0.5 / widest
                )  # roots: small shares stay visible
                ax.fill_betweenx(
                    np.repeat(edges, 2)[1:-1], place, place + side * 0.45 * np.repeat(heights, 2),
                    color=colour(label), alpha=0.85, lw=0, label=label if place == 0 else None,
                )  # fmt: skip
        ax.axhline(equal, color=DARK, lw=1, ls="--", zorder=1)
        ax.set_ylabel(optimizer)
        ax.set_ylim(0, 1)
        ax.set_yticks([0, equal, 0.9, 1], ["0", f"{equal:.2f}", "0.9", "1"])
        ax.grid(axis="x", visible=False)
    last = np.atleast_1d(axes)[-1]
    last.set_xticks(range(len(layers)), layers)
    handles, texts = last.get_legend_handles_labels()
    fig.legend(handles, texts, loc="outside upper center", ncols=2)
    fig.supylabel(f"rAU of {task}", fontsize=10)
    fig.supxlabel("width: root of the share of the live parameters at that rAU, end of training", fontsize=9)
    return fig


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
            ax.axhline(1 / len(colours), color=DARK, lw=0.8, ls="--", zorder=1)
            ax.set_xticks([0.1, 1], ["0.1", "1"])
        row[0].set_ylabel(f"{label}\nshare of AU")
    for ax, layer in zip(axes[0], layers, strict=True):
        ax.set_title(layer, fontsize=10)
    axes[0, 0].set_ylim(0, 1)
    handles, texts = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, texts, loc="outside lower center", ncols=len(texts))
    for ax in axes[-1]:
        ax.set_xlabel("training", fontsize=9)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def draw_benefit(table: pd.DataFrame, tasks: Mapping[int, str], smallest: float) -> Figure:
    """Draw a forest plot of paired differences in AUC: one panel per task, one group of rows per reference.

    Args:
        table: Of `report.compare`: `name` is the row's text; dots are told apart by optimizer.
        tasks: Number of the task -> title of its panel.
        smallest: Differences below it, shaded, do not count.
    """
    names, optimizers = list(table["name"].unique()), list(table["optimizer"].unique())
    fig, axes = plt.subplots(1, len(tasks), sharey=True, figsize=(7.4, 1.5 + 0.42 * len(names)))
    for ax, (task, title) in zip(axes, tasks.items(), strict=True):
        ax.axvspan(-smallest, smallest, color="#EEEEEE", zorder=0)
        for row in table[table["task"] == task].to_dict("records"):
            beside = optimizers.index(row["optimizer"]) - (len(optimizers) - 1) / 2
            several = (table["name"] == row["name"]) & (table["task"] == task)
            y = names.index(row["name"]) + (0.24 * beside if several.sum() > 1 else 0)
            shade = optimizer_colour(row["optimizer"])
            ax.plot([row["plain low"], row["plain high"]], [y, y], color=shade, lw=4, alpha=0.4, solid_capstyle="butt")
            ax.plot([row["low"], row["high"]], [y, y], color=shade, lw=1.2)
            face = "white" if row["low"] <= 0 <= row["high"] else shade
            ax.plot(row["mean"], y, "o", color=shade, mfc=face, ms=4.5)
        ax.axvline(0, color=DARK, lw=1, zorder=1)
        ax.set_title(title)
        ax.grid(axis="y", visible=False)
        ax.locator_params(axis="x", nbins=3)
        ax.tick_params(axis="x", labelsize=8)
        ax.set_ylim(len(names) - 0.5, -0.5)
    axes[0].set_yticks(range(len(names)), names)
    handles = [axes[0].plot([], [], "o-", color=optimizer_colour(name), label=name)[0] for name in optimizers]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(optimizers))
    fig.supxlabel(f"AUC, AdaTask {MINUS} reference;  {LEFT} AdaTask worse     AdaTask better {RIGHT}", fontsize=10)
    return fig


def draw_scale(table: pd.DataFrame, panels: Mapping[int, str], heaviest: str) -> Figure:
    """Draw how quality falls, or does not, as the loss weights spread.

    Args:
        table: One row per task, label and spread: `mean` difference in AUC to joint training with equal weights, with
            95 % interval `low`, `high`.
        panels: Number of the task -> title of its panel.
        heaviest: The task whose loss has the weight on the axis.
    """
    fig, axes = plt.subplots(1, len(panels), sharey=True, figsize=(7.4, 3.8), squeeze=False)
    spreads = sorted(table["spread"].unique())
    heights: dict[str, float] = {}
    for ax, (task, title) in zip(axes[0], panels.items(), strict=True):
        for number, (label, rows) in enumerate(table[table["task"] == task].groupby("label", sort=False)):
            shade = colour(str(label))
            whiskers = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
            beside = rows["spread"] * 1.05**number  # so that whiskers do not hide one another
            ax.errorbar(beside, rows["mean"], whiskers, color=shade, marker="o", ms=4, capsize=2, elinewidth=1)
            heights[str(label)] = float(rows["mean"].iloc[-1])
        ax.axhline(0, color=DARK, lw=1, ls="--", zorder=1)
        ax.set(xscale="log", xlabel=f"weight of the loss of {heaviest}", title=title)
        ax.set_xticks(spreads, [f"{spread:g}" for spread in spreads])
        ax.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel(f"AUC {MINUS} joint 1:1's")
    end_labels(axes[0, -1], heights, {label: colour(label) for label in heights}, 0.07)
    return fig
