"""Figures of the weight study alone: shares by the composition of batches, and over a jump."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion.plots.style import INK, head, legend_below, task_colours
from companion.problems.composed_batches import DOSES

STEP_COLOURS = ("#6CAED6", "#2171B5", "#08306B", "#000000")  # from light to dark as training goes on


def composition_bins(batches: pd.DataFrame, num_bins: int = 8) -> pd.DataFrame:
    """Summarise the shares of probed batches by dose, step and composition: one row per bin of the minor share.

    Args:
        batches: Of `report.probed_batches`.
        num_bins: Equal bins of the minor share from 0 to 1, the last of them closed.

    Returns:
        Columns probe_dose, step, minor share (mean within the bin), count, median, and the quantiles q10 and q90.
    """
    number = (batches["minor share"] * num_bins).astype(int).clip(upper=num_bins - 1)
    groups = batches.groupby(["probe_dose", "step", number.rename("bin")])
    return pd.DataFrame(
        {
            "minor share": groups["minor share"].mean(),
            "count": groups.size(),
            "median": groups["share"].median(),
            "q10": groups["share"].quantile(0.1),
            "q90": groups["share"].quantile(0.9),
        }
    ).reset_index()


def draw_composition(bins: pd.DataFrame, explained: Mapping[tuple[str, int], float]) -> Figure:
    """Draw the auxiliary share against the batch's composition: a panel per dose, a line per checkpoint.

    Args:
        bins: Of `composition_bins`.
        explained: (dose, step) -> mean R squared, NaN where composition does not vary.
    """
    steps = sorted(set(bins["step"]))
    fig, axes = plt.subplots(1, len(DOSES), sharex=True, sharey=True, figsize=(9.0, 3.9), squeeze=False)
    for ax, dose in zip(axes[0], DOSES, strict=True):
        for number, (step, shade) in enumerate(zip(steps, STEP_COLOURS, strict=False)):
            rows = bins[(bins["probe_dose"] == dose) & (bins["step"] == step)]
            x = rows["minor share"] + 0.022 * (number - (len(steps) - 1) / 2)
            whiskers = [rows["median"] - rows["q10"], rows["q90"] - rows["median"]]
            look = {"color": shade, "marker": "o", "ms": 4.5, "elinewidth": 1, "lw": 1.6}
            ax.errorbar(x, rows["median"], whiskers, label=f"step {step}", **look)
            r2 = explained[(dose, step)]
            text = f"R² {r2:.2f}" if not np.isnan(r2) else "constant" if number == 0 else ""
            place = (0.98, 0.985 - 0.065 * number)
            ax.annotate(text, place, xycoords="axes fraction", ha="right", va="top", fontsize=9, color=shade,
                        weight="bold")  # fmt: skip
        ax.set(title=dose, xlabel="smaller cluster's part\nof the mini-batch")
    axes[0, 0].set(xlim=(-0.06, 1.06), xticks=[0, 0.5, 1], ylim=(-0.05, 1.3), ylabel="auxiliary task's share")
    axes[0, 0].set_yticks([0, 0.25, 0.5, 0.75, 1])
    legend_below(fig)
    how = "dot: median over batches of all seeds, line: 10 % to 90 % of them; R²: explained by composition"
    return head(fig, f"Auxiliary task's share of HydaLearn's weights, parameters fixed\n{how}")


def mark_jump(ax: Axes, epoch: float) -> None:
    """Mark the epoch at which the auxiliary task becomes unrelated."""
    ax.axvline(epoch, color=INK, lw=1, ls=":")
    ax.annotate("jump", (epoch, 0.98), (4, 0), xycoords=ax.get_xaxis_transform(), textcoords="offset points", va="top",
                fontsize=9, color=INK)  # fmt: skip


def draw_jump(curve: pd.DataFrame, jump_epoch: int) -> Figure:
    """Draw the auxiliary share by epoch, jump against stationary control, with intervals over seeds.

    Args:
        curve: Columns setting ("jump" or "control"), epoch, mean, low, high.
        jump_epoch: Epoch, from 0, at which the auxiliary becomes unrelated.
    """
    fig, ax = plt.subplots(figsize=(7.2, 3.6))
    colours = dict(zip(("control", "jump"), task_colours(["control", "jump"]).values(), strict=True))
    for name, colour in colours.items():
        rows = curve[curve["setting"] == name]
        epoch = rows["epoch"] + 1
        ax.fill_between(epoch, rows["low"], rows["high"], color=colour, alpha=0.18, lw=0)
        ax.plot(epoch, rows["mean"], color=colour, marker="o", ms=4, ls="-" if name == "control" else "--")
        label = {"control": "stationary", "jump": "unrelated\nafter the jump"}[name]
        ax.annotate(label, (epoch.iloc[-1], rows["mean"].iloc[-1]), (8, 0), textcoords="offset points",
                    va="center", fontsize=9, color=colour)  # fmt: skip
    mark_jump(ax, jump_epoch + 0.5)
    ax.set(xlabel="epoch", ylabel="auxiliary task's share of the weights")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.02)
    return head(fig, "HydaLearn's share of the auxiliary task: mean over seeds, 95 % interval")
