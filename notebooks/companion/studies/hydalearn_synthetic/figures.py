"""Figures of the weight study alone: the best weights over training, every constant weight at every learning rate."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.plots.style import INK, METHOD_COLOURS, SHADE, head

BLUE, ORANGE, GREY = (METHOD_COLOURS[name] for name in ("HydaLearn", "static grid", "equal weights"))
BEST = "#009E73"  # the best weights, which no method knows
Line = tuple[str, str, str, str, str]  # batches, weights, colour, line style, label


def draw_best_weights(steps: pd.DataFrame, own: str) -> Figure:
    """Draw over training what the best weights of a mini-batch follow, who finds them, and what they are worth.

    Args:
        steps: Of `report.by_step`.
        own: HydaLearn's weights at its tuned auxiliary scale, as `batch_probe.probe` names them.
    """
    panels: dict[str, tuple[str, list[Line]]] = {
        "Does composition explain\nthe best weight?": (
            "R squared",
            [
                ("one cluster, large", "best", BEST, ":", "one cluster,\n100 rows"),
                ("one cluster", "best", BEST, "--", "one cluster,\n40 rows"),
                ("ordinary", "best", BEST, "-", "ordinary,\n40 rows"),
            ],
        ),
        "Does HydaLearn find it?": (
            "match",
            [("ordinary", "HydaLearn x 1", BLUE, "-", "as it is"), ("ordinary", own, BLUE, "--", "tuned\nscale")],
        ),
        "What is it worth?": (
            "extra gain",
            [
                ("ordinary", "best", BEST, "-", "best of\neach batch"),
                ("ordinary", "best constant", ORANGE, "-", "best\nconstant"),
                ("ordinary", "HydaLearn x 1", BLUE, "-", "HydaLearn"),
                ("ordinary", own, BLUE, "--", "HydaLearn,\ntuned scale"),
            ],
        ),
    }
    units = ("variance explained (R²)", "correlation with the best", "gain of a step, beyond\nthe main task's alone")
    fig, axes = plt.subplots(1, 3, figsize=(10.4, 3.7))
    for ax, unit, (title, (metric, lines)) in zip(axes, units, panels.items(), strict=True):
        ends = []
        for batches, weights, colour, style, label in lines:
            rows = steps[(steps["batches"] == batches) & (steps["weights"] == weights) & (steps["metric"] == metric)]
            ax.fill_between(rows["step"], rows["low"], rows["high"], color=colour, alpha=0.18, lw=0)
            ax.plot(rows["step"], rows["mean"], color=colour, ls=style, marker="o", ms=3.5)
            ends.append((float(rows["mean"].iloc[-1]), label, colour))
        ax.set(title=title, xlabel="steps trained", ylabel=unit)
        ax.axhline(0, color=INK, lw=0.8, zorder=1)
        if metric == "R squared":
            ax.set_ylim(0, 1)
        _name_ends(ax, ends)
    how = "mean over seeds, 95 % interval; a gain of 1 is the most that a step of its length can have"
    return head(fig, f"Weights of single mini-batches, parameters held\n{how}")


def _name_ends(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name lines at the right edge, two lines of text each, apart from one another, as near to their ends as can be."""
    low, high = ax.get_ylim()
    heights = [(height - low) / (high - low) for height, _, _ in sorted(ends)]
    places = heights[:1]
    for height in heights[1:]:
        places.append(max(height, places[-1] + 0.13))
    above = float(np.mean(places) - np.mean(heights))
    for place, (_, label, colour) in zip(places, sorted(ends), strict=True):
        ax.text(1.03, place - above, label, color=colour, transform=ax.transAxes, va="center", fontsize=8.5)


def mark_jump(ax: Axes, epoch: float) -> None:
    """Mark the epoch at which the auxiliary task becomes unrelated."""
    ax.axvline(epoch, color=INK, lw=1, ls=":")
    ax.annotate("jump", (epoch, 0.98), (4, 0), xycoords=ax.get_xaxis_transform(), textcoords="offset points", va="top",
                fontsize=9, color=INK)  # fmt: skip


def draw_sweep(curves: pd.DataFrame, smallest: float) -> Figure:
    """Draw the loss of every constant weight relative to tuned HydaLearn: the best learning rate of each, and the rest.

    Args:
        curves: Of `report.sweep_curves`, with a `panel`.
        smallest: The least log difference that counts.
    """
    panels = list(dict.fromkeys(curves["panel"]))
    fig, axes = plt.subplots(1, len(panels), sharex=True, sharey=True, figsize=(10.0, 3.6), squeeze=False)
    for ax, panel in zip(axes[0], panels, strict=True):
        here = curves[curves["panel"] == panel]
        ax.axhspan(*(100 * np.expm1([-smallest, smallest])), color=SHADE, zorder=0)
        ax.axhline(0, color=BLUE, lw=2)
        for _, rows in here.groupby("rate"):
            ax.plot(rows["scale"], 100 * np.expm1(rows["mean"]), color=GREY, lw=0.8)
        best = here.loc[here.groupby("scale")["mean"].idxmin()]
        low, mean, high = (100 * np.expm1(best[side]) for side in ("low", "mean", "high"))
        ax.fill_between(best["scale"], low, high, color=ORANGE, alpha=0.25, lw=0)
        ax.plot(best["scale"], mean, color=ORANGE, marker="o", ms=4, lw=2.2)
        ax.set(xscale="log", title=panel.replace(", ", "\n"), xlabel="constant weight\nof the auxiliary tasks")
        ax.set_ylim(-30, 100)
        ax.minorticks_off()
    axes[0, 0].set_ylabel("test loss above tuned HydaLearn's, %")
    axes[0, 0].annotate("HydaLearn", (0.03, 0), (0, -12), xycoords=("axes fraction", "data"),
                        textcoords="offset points", color=BLUE, fontsize=9)  # fmt: skip
    how = "orange: best learning rate at each weight, with 95 % interval; grey: each learning rate; shaded: too small"
    return head(fig, f"Every constant weight at every learning rate, against HydaLearn as tuned\n{how}")
