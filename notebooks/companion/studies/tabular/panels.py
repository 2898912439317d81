"""The panels of which the figures of the tabular study are made: each draws one small table on given axes.

One colour per method everywhere; what an interval is stands in the figure's title, since panels share it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from companion.plots.figures import METHOD_COLOURS, task_colours
from companion.studies.tabular.report import MEASURES

LEFT, RIGHT = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"
INK, SHADE = "#444444", "#EFEFEF"
BLUE = METHOD_COLOURS["HydaLearn"]
LABEL = 8.5  # size of labels inside a panel
MARKERS = "osD^vPX<>*"


def unit(metric: str) -> str:
    """A metric with its unit."""
    return f"{metric} ({MEASURES[metric].unit})" if MEASURES[metric].unit else metric


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move sorted places up until neighbours are at least `gap` apart.

    Example:
        >>> spread([0.0, 0.1, 5.0], 1.0)
        [0.0, 1.0, 5.0]
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    return moved


def forest_panel(ax: Axes, differences: pd.DataFrame, metric: str, smallest: float | None = None) -> None:
    """Draw the differences of one metric, a row per reference in the reference's colour.

    Args:
        ax: Where.
        differences: Of `report.paired_differences`: a thin line is the corrected interval, a bar the plain one.
        metric: Which of its metrics.
        smallest: The least difference that counts; the band where none does is shaded.
    """
    rows = differences[differences["metric"] == metric].to_dict("records")
    if smallest is not None:
        ax.axvspan(-smallest, smallest, color=SHADE, zorder=0)
    ax.axvline(0, color=INK, lw=1, zorder=1)
    for y, row in enumerate(rows):
        colour = METHOD_COLOURS.get(row["reference"], INK)
        ax.plot([row["plain low"], row["plain high"]], [y, y], color=colour, lw=6, alpha=0.4, solid_capstyle="butt")
        ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.4)
        sure = row["low"] > 0 or row["high"] < 0
        ax.plot(row["mean"], y, "o", ms=6, mec=colour, mfc=colour if sure else "white", mew=1.6)
    better = f"{rows[0]['method']} better"
    side = f"{LEFT} {better}" if MEASURES[metric].lower_is_better else f"{better} {RIGHT}"
    ax.set_xlabel(f"difference in {unit(metric)}\n{side}")
    ax.set_yticks(range(len(rows)), [row["reference"] for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.locator_params(axis="x", nbins=4)
    ax.margins(x=0.08)


def weights_panel(ax: Axes, curves: pd.DataFrame, levels: Mapping[str, float]) -> None:
    """Draw HydaLearn's auxiliary share by epoch: a thin line per split, a thick one for their mean.

    Args:
        ax: Where.
        curves: Columns seed, epoch, share (mean over the epoch's batches).
        levels: Method with constant weights -> its share, drawn as a dashed line.
    """
    for _, rows in curves.groupby("seed"):
        ax.plot(rows["epoch"], rows["share"], color=BLUE, lw=0.7, alpha=0.35)
    mean = curves.groupby("epoch")["share"].mean()
    ax.plot(mean.index, mean, color=BLUE, lw=2.2, marker="o", ms=3.5)
    for method, share in levels.items():
        ax.axhline(share, color=METHOD_COLOURS[method], ls="--", lw=1.4, zorder=1)
    top = 1.1 * max(curves["share"].max(), *levels.values(), 0.05)
    ax.set_ylim(0, top)
    ends = sorted({"HydaLearn, mean": float(mean.iloc[-1]), **levels}.items(), key=lambda item: item[1])
    for (label, share), place in zip(ends, spread([share for _, share in ends], 0.075 * top), strict=True):
        colour = METHOD_COLOURS[label.removesuffix(", mean")]
        ax.annotate(f"{label} {share:.2f}", (1.02, place), xycoords=ax.get_yaxis_transform(), va="center",
                    fontsize=LABEL, color=colour if label != "equal weights" else INK)  # fmt: skip
    ax.set(xlabel="epoch", ylabel="auxiliary share of the weights")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def shares_panel(ax: Axes, histogram: pd.DataFrame) -> None:
    """Draw how HydaLearn's auxiliary share is distributed over mini-batches at fixed parameters, a line per step.

    Args:
        ax: Where.
        histogram: Columns step, left, right, mean, low, high: part of the batches whose share lies in the bin; a bin
            without width is the share 0 itself, drawn as a point at the left.
    """
    steps = sorted(set(histogram["step"]))
    for (step, colour), style in zip(task_colours(map(str, steps)).items(), ("-", "--", ":", "-."), strict=False):
        rows = histogram[histogram["step"].astype(str) == step]
        zero, bins = rows[rows["left"] == rows["right"]], rows[rows["left"] < rows["right"]]
        middle = (bins["left"] + bins["right"]) / 2
        ax.fill_between(middle, bins["low"], bins["high"], color=colour, alpha=0.15, lw=0)
        ax.plot(middle, bins["mean"], color=colour, ls=style, lw=1.6, label=f"step {step}")
        place = -0.08 - 0.03 * steps.index(int(step))
        ax.errorbar([place], zero["mean"], [zero["mean"] - zero["low"], zero["high"] - zero["mean"]], color=colour,
                    marker="s", ms=4.5, capsize=2, lw=1.2)  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_xticks([-0.11, 0, 0.25, 0.5, 0.75, 1.0], ["none", "0", "0.25", "0.5", "0.75", "1"])
    ax.set(xlabel="auxiliary share of the weights (squares: none)", ylabel="part of the batches, per bin")
    ax.legend(loc="upper right", handlelength=2.4)


def calibration_panel(ax: Axes, bins: pd.DataFrame) -> None:
    """Draw the observed share of positives against the predicted one, a line per method.

    Args:
        ax: Where.
        bins: Of `summaries.calibration_means`.
    """
    ax.plot([0, 1], [0, 1], color=INK, lw=1, zorder=1)
    methods = list(dict.fromkeys(bins["method"]))
    for method, marker in zip(methods, MARKERS, strict=False):
        rows = bins[bins["method"] == method]
        whiskers = [rows["observed"] - rows["low"], rows["high"] - rows["observed"]]
        ax.errorbar(rows["predicted"], rows["observed"], whiskers, color=METHOD_COLOURS[method], marker=marker, ms=4.5,
                    lw=1.2, elinewidth=1, label=method)  # fmt: skip
    top = min(1.0, 1.05 * float(max(bins["predicted"].max(), bins["high"].max())))
    ax.set(xlim=(0, top), ylim=(0, top), xlabel="predicted probability", ylabel="observed share")
    text = f"{bins['rows'].mean():,.0f} rows of a test fold per point"
    ax.annotate(text, (0.98, 0.03), xycoords="axes fraction", ha="right", fontsize=LABEL, color=INK)
    ax.legend(loc="upper left")


def benefit_panel(ax: Axes, benefit: pd.DataFrame, metric: str) -> None:
    """Draw what each method gains over the reference against the number of main labels, upwards is better.

    Args:
        ax: Where.
        benefit: Of `summaries.label_benefit`: columns metric, method, reference, labels, mean, low, high.
        metric: Which of its metrics.
    """
    rows = benefit[benefit["metric"] == metric]
    counts, methods = sorted(set(rows["labels"])), list(dict.fromkeys(rows["method"]))
    ax.axhline(0, color=INK, lw=1, zorder=1)
    for number, (method, marker) in enumerate(zip(methods, MARKERS, strict=False)):
        own = rows[rows["method"] == method].sort_values("labels")
        beside = 0.6 * ((number + 0.5) / len(methods) - 0.5)
        x = np.array([counts.index(count) for count in own["labels"]]) + beside
        whiskers = [own["mean"] - own["low"], own["high"] - own["mean"]]
        ax.errorbar(x, own["mean"], whiskers, color=METHOD_COLOURS[method], marker=marker, ms=5, lw=1, ls="--",
                    elinewidth=1.6, label=method, zorder=4 if method == "HydaLearn" else 3)  # fmt: skip
    most = max(counts)
    ax.set_xticks(range(len(counts)), [f"all\n({c:,})" if c == most else f"{c:,}" for c in counts])
    ax.set_xlim(-0.5, len(counts) - 0.5)
    ax.grid(axis="x", visible=False)
    direction = "lower" if MEASURES[metric].lower_is_better else "higher"
    ax.set(
        xlabel="main labels for training", ylabel=f"{unit(metric)},\n{direction} than {rows['reference'].iloc[0]} by"
    )
