"""Figures of the scale-gap study alone: the step-size confound, dominance by cause, rAU and what predicts it."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from companion.plots.style import INK, LEFT, MINUS, RIGHT, colour
from companion.train.layer_shares import QUANTILES

ADAM_BOUND = (0.05, 0.95)  # c/(1+c) and 1/(1+c) of `adam_share`, with c = 0.1/1.9


def draw_step_size(equal: pd.DataFrame, tuned: pd.DataFrame) -> Figure:
    """Draw AdaTask against balanced joint training: at equal learning rates, and each at its own tuned rate.

    Args:
        equal: One row per optimizer and rate: `mean` difference of log losses and its range over seeds `low`, `high`;
            `position`, the binary logarithm of the rate over joint training's chosen one.
        tuned: One row per optimizer: `mean` with 95 % interval `low`, `high`.
    """
    fig, (left, right) = plt.subplots(1, 2, sharey=True, width_ratios=[3, 1], figsize=(7.2, 3.7))
    for number, row in enumerate(tuned.to_dict("records")):
        shade, rows = colour(row["optimizer"]), equal[equal["optimizer"] == row["optimizer"]]
        left.fill_between(rows["position"], rows["low"], rows["high"], color=shade, alpha=0.15, lw=0)
        left.plot(rows["position"], rows["mean"], marker="o", ms=4, color=shade, label=row["optimizer"])
        whiskers = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
        right.errorbar(number, row["mean"], whiskers, color=shade, marker="o", ms=4, capsize=4)
    for ax in (left, right):
        ax.axhline(0, color=INK, lw=1, zorder=1)
    left.set(
        title="At equal learning rates", xlabel="learning rate / the one that suits joint training (powers of 2)",
        ylabel=f"log loss, AdaTask {MINUS} joint 1:1\n{LEFT} AdaTask better      worse {RIGHT}",
    )  # fmt: skip
    # Beyond the means, a range over seeds leaves the panel: it would press the intervals on the right flat.
    least, most = min(equal["mean"].min(), tuned["low"].min()), max(equal["mean"].max(), tuned["high"].max())
    left.set_ylim(least - 0.3, most + 0.1)
    right.set(title="Each at its own", xlim=(-0.5, len(tuned) - 0.5))
    right.set_xticks(range(len(tuned)), tuned["optimizer"], fontsize=8)
    left.legend()
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
        axes[0].plot([], [], "o", color=INK, mfc=face, label=text)[0]
        for face, text in ((INK, "by updates (AU)"), ("white", "by accumulated gradients"))
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
        ax.axhline(0.5, color=INK, lw=0.8, zorder=1)
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
        ax.plot([0, 1], [0, 1], color=INK, lw=0.8)
        for bound in ADAM_BOUND:
            ax.axhline(bound, color=INK, lw=1, ls=":")
        ax.set(title=problem, xlabel="predicted rAU of the last task", xlim=(0, 1), ylim=(0, 1))
    axes[0, 0].set_ylabel("measured rAU, mean")
    axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 0.08))
    return fig
