"""Figures of the scene study about dominance: layer by layer as ridgelines, by setting, and over training."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from companion.studies.adatask_synthetic.figures import DARK, colour


def draw_ridges(table: pd.DataFrame, second: str) -> Figure:
    """Draw how the second task's share of AU is distributed over the parameters of each layer, a panel per setting.

    Args:
        table: Of `report.distribution`; layers are drawn from the image (bottom) to the heads (top).
        second: Name of the second task.
    """
    labels, names = list(table["label"].unique()), list(table["name"].unique())
    fig, axes = plt.subplots(1, len(labels), sharex=True, sharey=True, figsize=(7.2, 4.4))
    highest = float(table["density"].max())
    for ax, label in zip(axes, labels, strict=True):
        for y, name in reversed(list(enumerate(names))):
            rows = table[(table["label"] == label) & (table["name"] == name)].sort_values("share")
            height = 1.6 * (rows["density"] / highest) ** 0.5  # the root shows what few parameters do, too
            ax.fill_between(rows["share"], y, y + height, color=colour(label), alpha=0.8, lw=0, zorder=len(names) - y)
            ax.plot(rows["share"], y + height, color="white", lw=1, zorder=len(names) - y)
        for share in (0.1, 0.9):
            ax.axvline(share, color=DARK, lw=0.8, ls=":", zorder=20)
        ax.set_title(label, color=colour(label), fontsize=10)
        ax.grid(visible=False)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(-0.1, len(names) + 0.7)
    fig.supxlabel(f"share of AU that {second} has; beyond the dotted lines one task dominates", fontsize=10)
    return fig


def draw_dominance(layers: pd.DataFrame, course: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Draw the dominated share by layer, averaged over training, and over the epochs, averaged over layers.

    Args:
        layers: Of `report.by_layer`.
        course: One row per label and epoch: `value`.
        names: Of the layers.
    """
    fig, (left, right) = plt.subplots(1, 2, sharey=True, width_ratios=[1.5, 1], figsize=(7.2, 4.0))
    for number, (label, rows) in enumerate(layers.groupby("label", sort=False)):
        text = str(label)
        look = {"color": _shade(text), "ls": "--" if text in ("joint 1:0.1", "null level") else "-"}
        whiskers = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
        beside = rows["layer"] + 0.06 * (number - 2)
        left.errorbar(beside, rows["mean"], whiskers, marker="o", ms=4, capsize=2, elinewidth=1, label=text, **look)
        line = course[course["label"] == label]
        right.plot(line["epoch"], line["value"], **look)
    left.set(
        title="by layer, mean over training", ylabel="share of parameters\nthat one task dominates", ylim=(-0.04, 1.03)
    )
    left.set_xticks(range(1, len(names) + 1), names, rotation=35, ha="right")
    right.set(title="over training, mean of layers", xlabel="epoch")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=3)
    return fig


def _shade(label: str) -> str:
    return "#0072B2" if label == "null level" else colour(label)
