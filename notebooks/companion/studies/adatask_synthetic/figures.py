"""Figures of the scale-gap study about losses: learning-rate curves, the step-size confound, benefit, robustness."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from companion.plots.figures import METHOD_COLOURS
from companion.studies.tabular.panels import LEFT, RIGHT

DARK = "#3D3D3D"
# The colour of a setting is that of its method, whichever the optimizer, since panels tell optimizers apart.
_COLOURS = {
    "AdaTask": METHOD_COLOURS["AdaTask-Adam"],
    "joint 1:1": METHOD_COLOURS["equal weights"],
    "constant weights": METHOD_COLOURS["static grid"],
    "tuned static": METHOD_COLOURS["static grid"],
}


def colour(label: str) -> str:
    """Colour of a labelled setting; joint training with unequal weights is dark grey."""
    return _COLOURS.get(label, METHOD_COLOURS.get(label, DARK))


def optimizer_colour(optimizer: str) -> str:
    """Colour of an optimizer's AdaTask form."""
    return METHOD_COLOURS[f"AdaTask-{optimizer}"]


def end_labels(ax: Axes, heights: dict[str, float], colours: dict[str, str], gap: float) -> None:
    """Label curves at the right edge of an axis, pushed apart to at least `gap` of its height."""
    low, high = ax.get_ylim()
    place = -np.inf
    for text, height in sorted(heights.items(), key=lambda item: item[1]):
        place = max((height - low) / (high - low), place + gap)
        ax.text(1.02, place, text, color=colours[text], transform=ax.transAxes, va="center", fontsize=9)


def draw_rates(curves: pd.DataFrame, chosen: pd.DataFrame) -> Figure:
    """Draw the validation loss of every method over the learning rate, one panel per optimizer.

    Args:
        curves: One row per optimizer, label and rate: `mean` log of the loss over the tuned single task's, and its
            range over tuning seeds `low`, `high`.
        chosen: One row per optimizer and label: the chosen `rate` and its `mean`.
    """
    optimizers, labels = list(curves["optimizer"].unique()), list(curves["label"].unique())
    fig, axes = plt.subplots(1, len(optimizers), sharey=True, figsize=(7.2, 3.9))
    for ax, optimizer in zip(axes, optimizers, strict=True):
        for label in labels:
            rows = curves[(curves["optimizer"] == optimizer) & (curves["label"] == label)]
            if rows.empty:
                continue
            look = {"color": colour(label), "ls": "--" if label == "single task" else "-"}
            ax.plot(rows["rate"], np.exp(rows["mean"]), marker="o", ms=3, label=label, **look)
            ax.fill_between(
                rows["rate"], np.exp(rows["low"]), np.exp(rows["high"]), color=colour(label), alpha=0.12, lw=0
            )
            best = chosen[(chosen["optimizer"] == optimizer) & (chosen["label"] == label)].iloc[0]
            ax.plot(best["rate"], np.exp(best["mean"]), "o", ms=9, mfc="none", mec=colour(label), mew=1.5)
        ax.set(xscale="log", yscale="log", xlabel="learning rate", title=optimizer)
        ax.set_xscale("log", base=2)
    axes[0].set_ylabel("validation loss / tuned single task's,\ngeometric mean of tasks")
    axes[0].set_ylim(0.8, min(12.0, 1.1 * np.exp(curves["high"].max())))  # beyond 12 a curve leaves the panel
    ticks = [tick for tick in (1, 1.5, 2, 3, 4, 6, 8, 12) if tick <= axes[0].get_ylim()[1]]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].yaxis.set_minor_locator(NullLocator())
    entries = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(len(entries), 5))
    return fig


def draw_step_size(equal: pd.DataFrame, tuned: pd.DataFrame) -> Figure:
    """Draw AdaTask against balanced joint training: at equal learning rates, and each at its own tuned rate.

    Args:
        equal: One row per optimizer and rate: `mean` difference of log losses and its range over seeds `low`, `high`;
            `position`, the binary logarithm of the rate over joint training's chosen one.
        tuned: One row per optimizer: `mean` with 95 % interval `low`, `high`.
    """
    fig, (left, right) = plt.subplots(1, 2, sharey=True, width_ratios=[3, 1], figsize=(7.2, 3.7))
    for number, row in enumerate(tuned.to_dict("records")):
        shade, rows = optimizer_colour(row["optimizer"]), equal[equal["optimizer"] == row["optimizer"]]
        left.fill_between(rows["position"], rows["low"], rows["high"], color=shade, alpha=0.15, lw=0)
        left.plot(rows["position"], rows["mean"], marker="o", ms=4, color=shade, label=row["optimizer"])
        whiskers = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
        right.errorbar(number, row["mean"], whiskers, color=shade, marker="o", ms=4, capsize=4)
    for ax in (left, right):
        ax.axhline(0, color=DARK, lw=1, zorder=1)
    left.set(
        title="At equal learning rates", xlabel="learning rate / the one that suits joint training (powers of 2)",
        ylabel=f"log loss, AdaTask \N{MINUS SIGN} joint 1:1\n{LEFT} AdaTask better      worse {RIGHT}",
    )  # fmt: skip
    # Beyond the means, a range over seeds leaves the panel: it would press the intervals on the right flat.
    least, most = min(equal["mean"].min(), tuned["low"].min()), max(equal["mean"].max(), tuned["high"].max())
    left.set_ylim(least - 0.3, most + 0.1)
    right.set(title="Each at its own", xlim=(-0.5, len(tuned) - 0.5))
    right.set_xticks(range(len(tuned)), tuned["optimizer"], fontsize=8)
    left.legend()
    return fig


def draw_benefit(table: pd.DataFrame, tasks: dict[int, str]) -> Figure:
    """Draw a forest plot of paired differences: one panel per task, one group of rows per reference.

    Args:
        table: Of `report.compare`, one row per task, reference (`second`) and optimizer.
        tasks: Number of the task -> title of its panel.
    """
    references, optimizers = list(table["second"].unique()), list(table["optimizer"].unique())
    fig, axes = plt.subplots(1, len(tasks), sharey=True, figsize=(7.2, 0.9 + 0.75 * len(references)))
    for ax, (task, title) in zip(axes, tasks.items(), strict=True):
        for row in table[table["task"] == task].to_dict("records"):
            y = references.index(row["second"]) + 0.22 * (optimizers.index(row["optimizer"]) - 1)
            shade = optimizer_colour(row["optimizer"])
            ax.plot([row["low"], row["high"]], [y, y], color=shade, lw=1.6)
            ax.plot(row["mean"], y, "o", color=shade, ms=5, label=row["optimizer"])
        ax.axvline(0, color=DARK, lw=1, zorder=1)
        ax.set_title(title)
        ax.grid(axis="y", visible=False)
        ax.locator_params(axis="x", nbins=4)
        ax.set_ylim(len(references) - 0.5, -0.5)
        ax.set_xlabel(f"{LEFT} AdaTask better   worse {RIGHT}", fontsize=9)
    axes[0].set_yticks(range(len(references)), [f"AdaTask \N{MINUS SIGN}\n{name}" for name in references])
    handles = [axes[0].plot([], [], "o-", color=optimizer_colour(name), label=name)[0] for name in optimizers]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(optimizers))
    fig.supxlabel("difference of log test losses, 95 % intervals", fontsize=10)
    return fig


def draw_gap(table: pd.DataFrame, title: str) -> Figure:
    """Draw the mean effect of each method over the spread of the loss weights.

    Args:
        table: One row per label and spread: `mean` effect with 95 % interval `low`, `high`.
        title: Problem and optimizer.
    """
    fig, ax = plt.subplots(figsize=(7.2, 3.7))
    heights, colours = {}, {}
    for number, (label, rows) in enumerate(table.groupby("label", sort=False)):
        shade = colours[str(label)] = colour(str(label))
        whiskers = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        beside = rows["spread"] * 1.03**number  # so that whiskers do not hide one another
        ax.errorbar(beside, rows["mean"], whiskers, color=shade, marker="o", ms=4, capsize=3, elinewidth=1.2)
        heights[str(label)] = float(rows["mean"].iloc[-1])
    ax.axhline(0, color=DARK, lw=1, ls="--")
    spreads = sorted(table["spread"].unique())
    ax.set(xscale="log", xlabel="weight of the last task's loss, the first's being 1", title=title)
    ax.set_xticks(spreads, [f"{spread:g}" for spread in spreads])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylabel("log test loss over the single task's,\nmean of tasks")
    end_labels(ax, heights, colours, 0.07)
    return fig
