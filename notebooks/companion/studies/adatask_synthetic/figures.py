"""Figures of the synthetic study of AdaTask: what it gains, dominance above chance, its causes, and what balances."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from companion.plots.style import INK, LEFT, MINUS, RIGHT, SHADE, colour, end_labels
from companion.studies.adatask_synthetic.report import NULL, REFERENCES

ADAM_BOUND = (0.05, 0.95)  # c/(1+c) and 1/(1+c) of `adam_share`, with c = 0.1/1.9
BEST, WORST = 0.15, 0.6  # margins of the sweep's panels below and above what was tuned, in units of its range


def draw_regimes(table: pd.DataFrame, smallest: float) -> Figure:
    """Draw AdaTask against every reference, a panel per regime, at its tuned rate (full) and at the one beside (open).

    Args:
        table: One row per `problem`, `reference` and `beside`: log difference `mean` with interval `low`, `high`.
        smallest: The least log difference that counts.
    """
    order, problems = list(dict.fromkeys(table["reference"])), list(dict.fromkeys(table["problem"]))
    fig, axes = plt.subplots(1, len(problems), sharey=True, figsize=(7.6, 1.5 + 0.32 * len(order)))
    for ax, problem in zip(axes, problems, strict=True):
        ax.axvspan(100 * np.expm1(-smallest), 100 * np.expm1(smallest), color=SHADE, zorder=0)
        ax.axvline(0, color=INK, lw=1, zorder=1)
        for row in table[table["problem"] == problem].to_dict("records"):
            y = order.index(row["reference"]) + (0.17 if row["beside"] else -0.12)
            mean, low, high = (100 * float(np.expm1(row[name])) for name in ("mean", "low", "high"))
            shade = colour("AdaTask") if row["reference"] in REFERENCES else INK
            ax.plot([low, high], [y, y], color=shade, lw=1.0 if row["beside"] else 2.2)
            ax.plot(mean, y, "o", color=shade, ms=4.5 if row["beside"] else 7, mfc="white" if row["beside"] else shade)
        ax.set_title(problem, fontsize=10)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(order)), order)
    axes[0].set_ylim(len(order) - 0.5, -0.5)
    for text in axes[0].get_yticklabels():
        text.set_fontweight("bold" if text.get_text() in REFERENCES else "normal")
    fig.supxlabel(
        f"test loss of AdaTask {MINUS} that of the reference, %      {LEFT} AdaTask better    worse {RIGHT}",
        fontsize=10,
    )
    handles = [
        Line2D([], [], marker="o", color=INK, ms=size, mfc=face, label=text)
        for face, size, text in (
            (INK, 7, "AdaTask at its tuned learning rate"),
            ("white", 4.5, "at the rate beside it"),
        )
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2)
    return fig


def draw_excess(table: pd.DataFrame) -> Figure:
    """Draw dominance by layer and the null level, whose distance is filled: a column per regime, a row per weight.

    Args:
        table: One row per `problem`, `spread`, `label` ("joint" or the null level) and `layer`: `mean`, `low`, `high`.
    """
    problems, spreads = (list(dict.fromkeys(table[name])) for name in ("problem", "spread"))
    fig, axes = plt.subplots(len(spreads), len(problems), sharex=True, sharey=True, figsize=(7.4, 4.6))
    for ax, (spread, problem) in zip(axes.flat, [(s, p) for s in spreads for p in problems], strict=True):
        rows = table[(table["problem"] == problem) & (table["spread"] == spread)]
        lines = {str(label): line.set_index("layer") for label, line in rows.groupby("label")}
        for label, shade, style in (("joint", INK, "-"), (NULL, colour(NULL), "--")):
            line = lines[label]
            whiskers = [line["mean"] - line["low"], line["high"] - line["mean"]]
            ax.errorbar(line.index, line["mean"], whiskers, color=shade, ls=style, marker="o", ms=4, lw=1.6)
        ax.fill_between(lines[NULL].index, lines[NULL]["mean"], lines["joint"]["mean"], color=INK, alpha=0.15, lw=0)
        ax.set_xticks(sorted(set(table["layer"])))
    for ax, problem in zip(axes[0], problems, strict=True):
        ax.set_title(problem)
    for line, spread in zip(axes, spreads, strict=True):
        line[0].set_ylabel(f"loss weights 1:{spread:g}\ndominated parameters")
    axes[0, 0].set_ylim(-0.02, min(1.0, 1.15 * table["high"].max()))
    last = {str(label): float(rows["mean"].iloc[-1]) for label, rows in rows.groupby("label")}
    names = {"joint": "two tasks", NULL: "a task against itself\n(null level)"}
    shades = {names["joint"]: INK, names[NULL]: colour(NULL)}
    for ax in (axes[0, -1], axes[-1, -1]):
        end_labels(ax, {names[label]: height for label, height in last.items()}, shades)
    fig.supxlabel("shared layer, from the input (1) to the heads", fontsize=10)
    return fig


def draw_causes(table: pd.DataFrame, order: Sequence[str]) -> Figure:
    """Draw dominance of the whole trunk under each intervention, by updates (full) and by gradients (hollow).

    Args:
        table: One row per optimizer, label and what: `mean`, `low`, `high`.
        order: Labels from top to bottom; a method's name, then its loss weights.
    """
    optimizers = list(table["optimizer"].unique())
    fig, axes = plt.subplots(1, len(optimizers), sharex=True, sharey=True, figsize=(7.2, 3.6), squeeze=False)
    for ax, optimizer in zip(axes[0], optimizers, strict=True):
        for entry in table[table["optimizer"] == optimizer].to_dict("records"):
            shade, full = colour(entry["label"].rpartition(" ")[0]), entry["what"] == "updates"
            y = order.index(entry["label"]) + (-0.13 if full else 0.13)
            ax.plot([entry["low"], entry["high"]], [y, y], color=shade, lw=1.4)
            ax.plot(entry["mean"], y, "o", color=shade, ms=6, mfc=shade if full else "white")
        ax.set_title(optimizer)
        ax.grid(axis="y", visible=False)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes[0, 0].set_yticks(range(len(order)), order)
    axes[0, 0].set_ylim(len(order) - 0.5, -0.5)
    handles = [
        axes[0, 0].plot([], [], "o", color=INK, mfc=face, label=text)[0]
        for face, text in ((INK, "by updates (AU)"), ("white", "by accumulated gradients"))
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2)
    fig.supxlabel("share of the trunk's parameters that one task dominates, mean over training", fontsize=10)
    return fig


def draw_balance(shares: pd.DataFrame, prediction: pd.DataFrame) -> Figure:
    """Draw the noisy task's share of AU by layer, and under AdaTask what its gradients' noise predicts.

    Args:
        shares: One row per `label` and `layer`: quantiles `low`, `mean`, `high` of the parameters' rAU.
        prediction: One row per bin of the prediction: `predicted` (its centre), `measured` and `share`, that of the
            parameters which is in the bin and gives the dot its area.
    """
    fig, (left, right) = plt.subplots(1, 2, sharey=True, width_ratios=[1.25, 1], figsize=(7.2, 3.6))
    labels = list(dict.fromkeys(shares["label"]))
    for number, label in enumerate(labels):
        rows = shares[shares["label"] == label]
        x = rows["layer"] + 0.2 * (number - (len(labels) - 1) / 2)
        left.vlines(x, rows["low"], rows["high"], color=colour(label), lw=4, alpha=0.45)
        left.plot(x, rows["mean"], "o", color=colour(label), ms=6, label=label)
    left.set(title="Noisy task's share of AU", xlabel="shared layer", ylabel="rAU of the noisy task", ylim=(0, 1))
    left.set_xticks(sorted(set(shares["layer"])))
    fig.legend(loc="outside upper center", ncols=2)
    right.plot([0, 1], [0, 1], color=INK, lw=1)
    right.text(0.68, 0.65, "as predicted", va="top", fontsize=8, color=INK)
    right.plot(prediction["predicted"], prediction["measured"], color=colour("AdaTask"), lw=1)
    right.scatter(prediction["predicted"], prediction["measured"], 150 * prediction["share"], colour("AdaTask"), lw=0)
    right.set(title="AdaTask: what noise predicts", xlabel="rAU that signal-to-noise predicts", xlim=(0, 1))
    for ax in (left, right):
        ax.axhline(0.5, color=INK, lw=0.8, zorder=1)
        for bound in ADAM_BOUND:
            ax.axhline(bound, color=INK, lw=1, ls=":", zorder=1)
    right.text(0.03, ADAM_BOUND[1] - 0.02, "Adam's bounds", va="top", fontsize=8, color=INK)
    return fig


def draw_sweep(table: pd.DataFrame) -> Figure:
    """Draw the loss over the static weight, a line per learning rate and one for the tuned rates, against AdaTask.

    Args:
        table: Of `report.sweep_table`.
    """
    problems = list(dict.fromkeys(table["problem"]))
    fig, axes = plt.subplots(1, len(problems), figsize=(7.6, 3.7))
    for ax, problem in zip(axes, problems, strict=True):
        rows = table[table["problem"] == problem]
        static, ours = (rows[rows["method"] == method] for method in ("joint", "AdaTask"))
        for _, line in static.groupby("rate"):
            ax.plot(line["spread"], line["mean"], color=colour("equal weights"), lw=0.8)
        tuned = static[static["tuned"]].sort_values("spread")
        whiskers = [tuned["mean"] - tuned["low"], tuned["high"] - tuned["mean"]]
        ax.errorbar(tuned["spread"], tuned["mean"], whiskers, color=INK, marker="o", ms=4, lw=2)
        best = ours[ours["tuned"]].iloc[0]
        ax.axhspan(best["low"], best["high"], color=colour("AdaTask"), alpha=0.25, lw=0)
        ax.axhline(best["mean"], color=colour("AdaTask"), lw=2)
        for beside in ours[ours["rate"].isin([best["rate"] / 2, best["rate"] * 2])]["mean"]:
            ax.axhline(beside, color=colour("AdaTask"), lw=1.2, ls=":")
        ax.axhline(0, color=INK, lw=1, ls="--", zorder=1)
        seen = [*tuned["mean"], best["low"], 0.0]
        ax.set(xscale="log", title=problem, ylim=(min(seen) - BEST * np.ptp(seen), max(seen) + WORST * np.ptp(seen)))
        spreads = sorted(set(static["spread"]))
        ax.xaxis.set_major_locator(FixedLocator(spreads))
        ax.set_xticks(spreads, [f"{spread:g}" for spread in spreads], fontsize=8)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("log test loss over the single tasks',\nmean of tasks")
    fig.supxlabel("static weight of the second task's loss, the first's being 1", fontsize=10)
    handles = [
        Line2D([], [], color=INK, marker="o", ms=4, lw=2, label="static weights, tuned rate"),
        Line2D([], [], color=colour("equal weights"), lw=0.8, label="each learning rate"),
        Line2D([], [], color=colour("AdaTask"), lw=2, label="AdaTask"),
        Line2D([], [], color=colour("AdaTask"), lw=1.2, ls=":", label="at the rates beside"),
        Line2D([], [], color=INK, lw=1, ls="--", label="single tasks"),
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=5, fontsize=8)
    return fig
