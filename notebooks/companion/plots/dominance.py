"""Figures of the scale-gap study about dominance: by layer, by cause, shares, and what signal to noise predicts."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from companion.studies.adatask_synthetic.figures import DARK, colour
from companion.train.layer_shares import NUM_BINS, QUANTILES

ADAM_BOUND = (0.05, 0.95)  # c/(1+c) and 1/(1+c) of `adam_share`, with c = 0.1/1.9


def draw_dominance(table: pd.DataFrame) -> Figure:
    """Draw the share of dominated parameters in every layer: by updates and by accumulated gradients.

    Args:
        table: One row per optimizer, label, what ("updates" or "gradients") and layer: `mean`, `low`, `high`.
    """
    optimizers = list(table["optimizer"].unique())
    fig, axes = plt.subplots(2, len(optimizers), sharex=True, sharey=True, figsize=(7.2, 5.0))
    for row, what in zip(axes, ("updates", "gradients"), strict=True):
        for ax, optimizer in zip(row, optimizers, strict=True):
            rows = table[(table["optimizer"] == optimizer) & (table["what"] == what)]
            for label, line in rows.groupby("label", sort=False):
                look = {"color": colour(str(label)), "ls": "--" if label == "joint 1:1" else "-"}
                whiskers = [line["mean"] - line["low"], line["high"] - line["mean"]]
                ax.errorbar(line["layer"], line["mean"], whiskers, marker="o", ms=4, capsize=2, label=label, **look)
        row[0].set_ylabel(f"dominated parameters,\nby {what}")
    for ax, optimizer in zip(axes[0], optimizers, strict=True):
        ax.set_title(optimizer)
    for ax in axes[1]:
        ax.set_xlabel("shared layer")
        ax.set_xticks(sorted(table["layer"].unique()))
    axes[0, 0].set_ylim(-0.03, 1.03)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    labels = [f"{label}, the null level" if label == "joint 1:1" else label for label in labels]
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return fig


def draw_causes(table: pd.DataFrame, order: Sequence[str]) -> Figure:
    """Draw dominance of the whole trunk under each intervention, by updates (full) and by gradients (hollow).

    Args:
        table: One row per optimizer, label and what: `mean`, `low`, `high`.
        order: Labels from top to bottom.
    """
    optimizers = list(table["optimizer"].unique())
    fig, axes = plt.subplots(1, len(optimizers), sharex=True, sharey=True, figsize=(7.2, 3.3))
    for ax, optimizer in zip(axes, optimizers, strict=True):
        for entry in table[table["optimizer"] == optimizer].to_dict("records"):
            shade, full = colour(entry["label"]), entry["what"] == "updates"
            y = order.index(entry["label"]) + (-0.13 if full else 0.13)
            ax.plot([entry["low"], entry["high"]], [y, y], color=shade, lw=1.4)
            ax.plot(entry["mean"], y, "o", color=shade, ms=6, mfc=shade if full else "white")
        ax.set_title(optimizer)
        ax.grid(axis="y", visible=False)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes[0].set_yticks(range(len(order)), order)
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    handles = [
        axes[0].plot([], [], "o", color=DARK, mfc=face, label=text)[0]
        for face, text in ((DARK, "by updates (AU)"), ("white", "by accumulated gradients"))
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2)
    fig.supxlabel("share of the trunk's parameters that one task dominates, mean over training", fontsize=10)
    return fig


def draw_quantiles(table: pd.DataFrame) -> Figure:
    """Draw quantiles of the last task's rAU over the parameters of each layer.

    Args:
        table: One row per optimizer, label, layer and quantile: `value`, the mean over seeds.
    """
    optimizers, labels = list(table["optimizer"].unique()), list(table["label"].unique())
    fig, axes = plt.subplots(1, len(optimizers), sharey=True, figsize=(7.2, 3.8))
    for ax, optimizer in zip(axes, optimizers, strict=True):
        for number, label in enumerate(labels):
            rows = table[(table["optimizer"] == optimizer) & (table["label"] == label)]
            wide = rows.pivot(index="layer", columns="quantile", values="value")
            x, shade = wide.index + 0.24 * (number - (len(labels) - 1) / 2), colour(label)
            ends, quartiles, median = QUANTILES[::4], QUANTILES[1:4:2], QUANTILES[2]
            ax.vlines(x, wide[ends[0]], wide[ends[1]], color=shade, lw=1.2)
            ax.vlines(x, wide[quartiles[0]], wide[quartiles[1]], color=shade, lw=5, alpha=0.6)
            ax.plot(x, wide[median], "o", color=shade, ms=4, label=label)
        ax.axhline(0.5, color=DARK, lw=0.8, zorder=1)
        if optimizer == "Adam":
            for bound in ADAM_BOUND:
                ax.axhline(bound, color=colour("AdaTask"), lw=1, ls=":", zorder=1)
        ax.set(title=optimizer, xlabel="shared layer")
        ax.set_xticks(sorted(table["layer"].unique()))
    axes[0].set_ylabel("rAU of the heavier task")
    axes[0].set_ylim(-0.02, 1.02)
    handles, texts = axes[0].get_legend_handles_labels()
    fig.legend(handles, texts, loc="outside lower center", ncols=len(texts))
    return fig


def draw_histograms(table: pd.DataFrame, title: str) -> Figure:
    """Draw the distribution of the last task's rAU in every layer, settings beside one another.

    Args:
        table: One row per label, layer and bin: `value`, the mean share of live parameters in the bin.
        title: Of the figure.
    """
    layers, labels = sorted(table["layer"].unique()), list(table["label"].unique())
    fig, axes = plt.subplots(len(layers), len(labels), sharex=True, sharey=True, figsize=(7.2, 5.2))
    edges = np.linspace(0, 1, NUM_BINS + 1)
    for row, layer in zip(axes, layers, strict=True):
        for ax, label in zip(row, labels, strict=True):
            values = table[(table["layer"] == layer) & (table["label"] == label)].sort_values("bin")["value"]
            ax.stairs(values, edges, fill=True, color=colour(label), alpha=0.75)
            ax.axvline(0.9, color=DARK, lw=0.8, ls=":")
            ax.axvline(0.1, color=DARK, lw=0.8, ls=":")
            ax.grid(visible=False)
        row[0].set_ylabel(f"layer {layer}", rotation=0, ha="right", va="center")
    for ax, label in zip(axes[0], labels, strict=True):
        ax.set_title(label, color=colour(label))
    axes[0, 0].set_yscale("symlog", linthresh=0.05)
    axes[0, 0].set_yticks([0, 0.05, 0.5], ["0", "5 %", "50 %"])
    axes[0, 0].yaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    fig.supxlabel("rAU of the heavier task; beyond the dotted lines one task dominates", fontsize=10)
    return fig


def draw_prediction(table: pd.DataFrame) -> Figure:
    """Draw rAU under AdaTask-Adam against what the gradients' signal-to-noise ratio predicts, with the bound.

    Args:
        table: One row per problem and layer and bin: `predicted` (the bin's centre), `measured` and `share`, that of
            the layer's parameters which is in the bin and gives the dot its area.
    """
    problems = list(table["problem"].unique())
    fig, axes = plt.subplots(1, len(problems), sharex=True, sharey=True, figsize=(7.2, 3.6), squeeze=False)
    for ax, problem in zip(axes[0], problems, strict=True):
        rows = table[table["problem"] == problem]
        for layer, line in rows.groupby("layer"):
            shade = plt.get_cmap("YlOrBr")(0.25 + 0.7 * float(str(layer)) / rows["layer"].max())
            ax.plot(line["predicted"], line["measured"], lw=1, color=shade, label=f"layer {layer}")
            ax.scatter(line["predicted"], line["measured"], 250 * line["share"], color=shade, lw=0)
        ax.plot([0, 1], [0, 1], color=DARK, lw=0.8)
        for bound in ADAM_BOUND:
            ax.axhline(bound, color=DARK, lw=1, ls=":")
        ax.set(title=problem, xlabel="predicted rAU of the last task", xlim=(0, 1), ylim=(0, 1))
    axes[0, 0].set_ylabel("measured rAU, mean")
    axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 0.08))
    return fig
