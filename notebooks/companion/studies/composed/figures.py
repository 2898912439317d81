"""Figures of the composed study alone: shares of the updates over a loss scale, and what fluctuating weights do."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from companion.plots.style import INK, colour, end_labels, head

# Method -> its name at the end of its line, and its mark.
PLACES = {
    "HydaLearn": ("HydaLearn with Adam", "^"),
    "HydaLearn in front": ("in front of AdaTask", "s"),
    "HydaLearn on updates": ("on AdaTask's updates", "o"),
}


def draw_shares(dose: pd.DataFrame, plain: Mapping[str, float], title: str) -> Figure:
    """Draw the auxiliary tasks' share of the updates over the scale of their losses, a line per place of the weights.

    Args:
        dose: Of `report.by_level`, with the column `problem`.
        plain: Problem -> the share under AdaTask without weights.
        title: Of the figure.
    """
    fig, axes = plt.subplots(1, len(plain), sharey=True, figsize=(2.1 * len(plain) + 1.8, 3.6), squeeze=False)
    for ax, (problem, share) in zip(axes[0], plain.items(), strict=True):
        ax.axhline(share, color=colour("AdaTask"), lw=1.4, ls=":")
        heights = {"AdaTask without weights": share}
        for method, rows in dose[dose["problem"] == problem].groupby("method", sort=False):
            name, mark = PLACES[str(method)]
            rows = rows.sort_values("scale")
            ax.fill_between(rows["scale"], rows["low"], rows["high"], color=colour(str(method)), alpha=0.15, lw=0)
            ax.plot(rows["scale"], rows["mean"], color=colour(str(method)), marker=mark, ms=5)
            heights[name] = float(rows["mean"].iloc[-1])
        ax.set(title=problem, xscale="log", ylim=(0, 1.04))
        ax.xaxis.set_minor_locator(NullLocator())
    fig.supxlabel("factor on the auxiliary losses", fontsize="medium")
    axes[0, 0].set_ylabel("auxiliary tasks' share of the updates")
    colours = {name: colour(method) for method, (name, _) in PLACES.items()}
    end_labels(axes[0, -1], heights, {**colours, "AdaTask without weights": colour("AdaTask")})
    return head(fig, title)


def draw_fluctuation(table: pd.DataFrame, title: str) -> Figure:
    """Draw what weights of mean 1 leave of the mean update, by how much they fluctuate and where they stand.

    Args:
        table: Of `mechanism.fluctuation`, one optimizer.
        title: Of the figure.
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    v = np.linspace(0, float(table["variation"].max()), 100)
    front, updates = colour("HydaLearn in front"), colour("HydaLearn on updates")
    ax.plot(v, np.ones_like(v), color=updates, lw=1.6, ls="--")
    ax.plot(v, (1 + v**2) ** -0.5, color=front, lw=1.6)
    ax.set(xlabel="standard deviation / mean of the weights, v", ylabel="mean update / without weights", ylim=(0, 1.1))
    once, often = sorted(set(table["level"]))
    looks = {"gamma": (front, "smooth weights"), "gate": ("white", "open or shut")}
    for (kind, level), rows in table.groupby(["kind", "level"]):
        face, label = looks[str(kind)]
        if level == once:
            ax.plot(rows["variation"], rows["ratio"], "o", ms=5.5, color=front, mfc=face, label=label)
        else:
            ax.plot(rows["variation"], rows["ratio"], "o", ms=10, color=INK, mfc="none")
    ax.plot([], [], "o", ms=10, color=INK, mfc="none", label=f"the same x {often / once:g}")
    ax.legend(loc="lower left")
    ends = {
        "weights on the updates\n(derived)": (1.0, updates),
        "weights in front:\n$1/\\sqrt{1+v^2}$": ((1 + v[-1] ** 2) ** -0.5, INK),
    }
    end_labels(ax, {text: at for text, (at, _) in ends.items()}, {text: shade for text, (_, shade) in ends.items()})
    return head(fig, title)
