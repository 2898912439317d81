"""Figures of the scene study about the measures: learning rates, predictions, benefit and robustness."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from companion.studies.adatask_synthetic.figures import DARK, colour, end_labels
from companion.studies.tabular.panels import LEFT, RIGHT

# Classes differ in lightness as well as in hue; the order is that of `earth_scenes.CLASSES`.
CLASS_COLOURS = ("#16306E", "#6CC5F0", "#0B5D1E", "#EBC944", "#8DB255", "#7A4A2B", "#F4F4F4")
UNKNOWN = "#000000"


def titled(fig: Figure, title: str) -> Figure:
    """Head a figure with its data and what it shows."""
    fig.suptitle(title, x=0.01, ha="left", fontsize=11)
    return fig


def draw_rates(curves: pd.DataFrame, chosen: pd.DataFrame) -> Figure:
    """Draw the tuning criterion over the learning rate, one panel per optimizer.

    Args:
        curves: One row per optimizer, label and rate: `mean`, `low` and `high` of the criterion over tuning seeds.
        chosen: One row per optimizer and label: the chosen `rate` and its `mean`.
    """
    optimizers = list(curves["optimizer"].unique())
    fig, axes = plt.subplots(1, len(optimizers), sharey=True, figsize=(7.2, 4.0), squeeze=False)
    for ax, optimizer in zip(axes[0], optimizers, strict=True):
        for label, rows in curves[curves["optimizer"] == optimizer].groupby("label", sort=False):
            look = {"color": colour(str(label)), "ls": _line(str(label))}
            ax.plot(rows["rate"], rows["mean"], marker="o", ms=3, label=label, **look)
            ax.fill_between(rows["rate"], rows["low"], rows["high"], color=look["color"], alpha=0.1, lw=0)
            best = chosen[(chosen["optimizer"] == optimizer) & (chosen["label"] == label)].iloc[0]
            ax.plot(best["rate"], best["mean"], "o", ms=9, mfc="none", mec=look["color"], mew=1.5)
        ax.set(title=optimizer, xlabel="learning rate")
        ax.set_xscale("log", base=2)
    axes[0, 0].set_ylabel("mean of the tasks' log validation losses")
    entries = {text: handle for ax in axes[0] for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, handlelength=3)
    return fig


def _line(label: str) -> str:
    """Joint trainings are told apart by their lines: dashed where the second task is the lighter one."""
    return {"joint 1:0.1": "--", "joint 1:10": "-", "joint 1:0.01": ":", "joint 1:100": "-."}.get(label, "-")


def draw_predictions(
    images: NDArray[np.float64],
    columns: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    classes: Sequence[str],
    number: str,
) -> Figure:
    """Draw scenes: the image, and truth and predictions of both tasks beside one another.

    Args:
        images: `[N, 3, H, W]` in [0, 1].
        columns: Title -> classes and numbers, `[N, H, W]` each; "truth" has -1 and NaN where unknown.
        classes: Their names.
        number: What the second task's number is, with its unit.
    """
    fig, axes = plt.subplots(len(images), 1 + 2 * len(columns), figsize=(7.2, 0.75 + 0.56 * len(images)))
    palette = ListedColormap([UNKNOWN, *CLASS_COLOURS])
    low, high = np.nanmin(columns["truth"][1]), np.nanmax(columns["truth"][1])
    for i, row in enumerate(axes):
        row[0].imshow(images[i].transpose(1, 2, 0).clip(0, 1), interpolation="nearest")
        for k, (found, _) in enumerate(columns.values()):
            row[1 + k].imshow(found[i], palette, vmin=-1.5, vmax=6.5, interpolation="nearest")
        for k, (_, found) in enumerate(columns.values()):
            shown = row[1 + len(columns) + k].imshow(found[i], "cividis", vmin=low, vmax=high, interpolation="nearest")
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            for spine in ax.spines.values():
                spine.set_visible(False)
    tasks = ("classes", number.replace(",", " ").split()[0])
    titles = ["image", *(f"{task}:\n{title}" if title == "truth" else title for task in tasks for title in columns)]
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9, loc="center", color=colour(title))
    fig.legend(
        handles=[Patch(color=shade, label=name) for shade, name in zip(CLASS_COLOURS, classes, strict=True)],
        loc="outside lower left",
        ncols=len(classes),
        fontsize=8,
        handlelength=0.8,
        columnspacing=0.7,
        handletextpad=0.3,
    )
    bar = fig.colorbar(shown, ax=axes, shrink=0.75, aspect=14, pad=0.01)
    bar.set_label(number, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return fig


def draw_benefit(table: pd.DataFrame, panels: Mapping[str, str]) -> Figure:
    """Draw a forest plot of paired differences, AdaTask minus a reference: one panel per measure.

    Args:
        table: One row per reference (`second`) and `measure`: `mean`, `low`, `high`.
        panels: Measure -> title of its panel; lower is better in all.
    """
    references = list(table["second"].unique())
    fig, axes = plt.subplots(1, len(panels), sharey=True, figsize=(7.2, 1.3 + 0.3 * len(references)))
    for ax, (measure, title) in zip(axes, panels.items(), strict=True):
        for row in table[table["measure"] == measure].to_dict("records"):
            y, shade = references.index(row["second"]), colour(row["second"])
            ax.plot([row["low"], row["high"]], [y, y], color=shade, lw=1.8)
            ax.plot(row["mean"], y, "o", color=shade, ms=5.5)
        ax.axvline(0, color=DARK, lw=1, zorder=1)
        ax.set_title(title, fontsize=10)
        ax.grid(axis="y", visible=False)
        ax.locator_params(axis="x", nbins=4)
        ax.set_ylim(len(references) - 0.5, -0.5)
        ax.set_xlabel(f"{LEFT} AdaTask better   worse {RIGHT}", fontsize=8)
    axes[0].set_yticks(range(len(references)), [f"AdaTask \N{MINUS SIGN} {name}" for name in references], fontsize=8)
    return fig


def draw_robustness(table: pd.DataFrame, tasks: Mapping[str, str]) -> Figure:
    """Draw quality against the weight of the second task's loss: Delta_m, and each task's loss.

    Args:
        table: One row per label, measure and spread: `mean` with interval `low`, `high`.
        tasks: Measure -> title of its panel.
    """
    fig, axes = plt.subplots(1, len(tasks), figsize=(7.2, 3.5), width_ratios=[1.4] + [1] * (len(tasks) - 1))
    for ax, (measure, title) in zip(axes, tasks.items(), strict=True):
        rows = table[table["measure"] == measure]
        shown = {"joint": colour("joint"), "AdaTask": colour("AdaTask")}
        heights = {}
        for number, (label, line) in enumerate(rows.groupby("label", sort=False)):
            whiskers = [line["mean"] - line["low"], line["high"] - line["mean"]]
            beside = line["spread"] * 1.08**number  # so that whiskers do not hide one another
            shade = shown.setdefault(str(label), colour(str(label)))
            ax.errorbar(beside, line["mean"], whiskers, color=shade, marker="o", ms=4, capsize=2, elinewidth=1.2)
            heights[str(label)] = float(line["mean"].iloc[-1])
        ax.axhline(0, color=DARK, lw=1, ls="--", zorder=1)
        ax.set(xscale="log", title=title)
        spreads = sorted(rows["spread"].unique())
        ax.set_xticks(spreads, [f"{spread:g}" for spread in spreads], fontsize=8)
        ax.xaxis.set_minor_locator(NullLocator())
        if ax is axes[-1]:
            end_labels(ax, heights, shown, 0.08)
    fig.supxlabel("weight of the second task's loss, the first's being 1", fontsize=10)
    return fig
