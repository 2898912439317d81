"""The two figures of a study: paired differences as a forest plot, and HydaLearn's weight over training."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtlcore.experiments.tabular.report import MEASURES
from mtlcore.figures import METHOD_COLOURS

LEFT, RIGHT = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"
UNITS = {"log loss": " (nats)", "AUC": ""}


def draw_differences(differences: pd.DataFrame, title: str) -> Figure:
    """Draw one panel per measure and one row per comparison, in the colour of the first-named method.

    Args:
        differences: Of `report.compare`.
        title: What is compared on what; how the intervals are drawn is added.

    Returns:
        The figure: a dot for the mean, a line for the corrected interval, a bar for the plain one.
    """
    fig, axes = plt.subplots(1, len(MEASURES), sharey=True, figsize=(7.2, 3.5))
    for ax, (measure, lower_is_better) in zip(axes, MEASURES.items(), strict=True):
        rows = differences[differences["measure"] == measure]
        for y, row in enumerate(rows.to_dict("records")):
            colour = METHOD_COLOURS[row["method"]]
            ax.plot([row["plain low"], row["plain high"]], [y, y], color=colour, lw=6, alpha=0.4, solid_capstyle="butt")
            ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.4)
            ax.plot(row["mean"], y, "o", color=colour, ms=6)
        ax.axvline(0, color="#444444", lw=1.2, zorder=1)
        sides = ("better", "worse") if lower_is_better else ("worse", "better")
        ax.set_xlabel(
            f"difference in test {measure}{UNITS[measure]}\n{LEFT} first {sides[0]}    first {sides[1]} {RIGHT}"
        )
        ax.grid(axis="y", visible=False)
        ax.locator_params(axis="x", nbins=4)
        ax.margins(x=0.08)
        ax.set_yticks(range(len(rows)), rows["comparison"])
        ax.set_ylim(len(rows) - 0.5, -0.5)
    fig.suptitle(
        f"{title}\n95 % intervals: corrected for shared rows (line), plain (bar)", x=0.01, ha="left", fontsize=11
    )
    return fig


def draw_weights(curve: pd.DataFrame, levels: Mapping[str, float], title: str) -> Figure:
    """Draw HydaLearn's auxiliary weight by epoch beside the shares that constant weights have.

    Args:
        curve: Of `report.weight_curve`.
        levels: Static method -> its auxiliary weight, the main task's being 1; drawn as the share `w / (1 + w)`.
        title: Data and task.
    """
    fig, ax = plt.subplots(figsize=(7.2, 3.6))
    blue, epoch, mean = METHOD_COLOURS["HydaLearn"], curve["epoch"], curve["mean"]
    ax.fill_between(epoch, curve["quantile 10"], curve["quantile 90"], color=blue, alpha=0.13, lw=0)
    whiskers = [mean - curve["low"], curve["high"] - mean]
    ax.errorbar(epoch, mean, whiskers, color=blue, marker="o", ms=4, capsize=3, elinewidth=1.2)
    labels = {"HydaLearn": float(mean.iloc[-1])}
    for weight in sorted(set(levels.values())):
        methods = [method for method, w in levels.items() if w == weight]
        labels[" and\n".join(methods)] = share = weight / (1 + weight)
        ax.axhline(share, color=METHOD_COLOURS[methods[-1]], ls="--", lw=1.4)
    ax.set_ylim(0, 1.08 * max(curve["quantile 90"].max(), *labels.values()))
    lowest = 0.0  # labels at the right end of their lines, pushed up where they would overlap
    for label, height in sorted(labels.items(), key=lambda item: item[1]):
        place = max(height, lowest)
        ax.annotate(f"{label}, {height:.2f}", (1.01, place), xycoords=ax.get_yaxis_transform(), va="center", fontsize=9)
        lowest = place + 0.07 * ax.get_ylim()[1] * (1 + label.count("\n"))
    ax.set(xlabel="epoch", ylabel="auxiliary task's share of the weights")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    how = "HydaLearn: mean and 95 % interval over splits; shaded, 10 % to 90 % of batches"
    fig.suptitle(f"{title}\n{how}", x=0.01, ha="left", fontsize=11)
    return fig
