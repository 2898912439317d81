"""Figures of the tabular study alone, and the panels that a domain's page shares with them."""

from collections.abc import Mapping
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion.plots.forest import Panel, draw_forest
from companion.plots.style import INK, METHOD_COLOURS, colour, end_labels, head, task_colours
from companion.studies.tabular.report import MEASURES

BLUE = METHOD_COLOURS["HydaLearn"]
MARKERS = "osD^vPX<>*"

# Measure of `shares.share_measures` -> what its panel says.
SHARE_PANELS: dict[str, Panel] = {
    "mean": Panel("mean over\nmini-batches", "share", None),
    "population": Panel("of a\nlarge sample", "share", None),
    "sd": Panel("spread over\nmini-batches", "standard deviation", None),
    "R squared": Panel("explained by\nlabel counts", "R²", None),
    "match": Panel("with the large\nsample's share", "correlation", None),
    "lag-1": Panel("with the next\nbatch's share", "correlation", None),
}


def metric_panel(metric: str, smallest: float | None, title: str = "") -> Panel:
    """How a forest plot reads differences of one metric of the test fold, under its name unless titled."""
    measure = MEASURES[metric]
    unit = f"difference in {metric}" + f" ({measure.unit})" * bool(measure.unit)
    return Panel(title or metric, unit, measure.lower_is_better, smallest)


def draw_designs(
    tables: Mapping[str, pd.DataFrame], metric: str, smallest: float, title: str, first: str = "HydaLearn"
) -> Figure:
    """Draw the paired differences of one metric, a panel per design.

    Args:
        tables: Design -> rows of `report.paired_differences`.
        metric: Which of their metrics.
        smallest: The least difference that counts.
        title: What is compared.
        first: As for `draw_forest`.
    """
    rows = pd.concat(table[table["metric"] == metric].assign(design=name) for name, table in tables.items())
    panels = {name: metric_panel(metric, smallest, name) for name in tables}
    return draw_forest(rows, panels, title, first=first)


def draw_share_measures(measures: pd.DataFrame) -> Figure:
    """Draw what the shares at fixed parameters are like, a panel per measure, a row per design and checkpoint.

    Args:
        measures: Of `shares.share_intervals`, with the column design.
    """
    places = measures["design"] + ", step " + measures["step"].astype(str)
    title = "HydaLearn's weights at fixed parameters: auxiliary share over i.i.d. mini-batches"
    return draw_forest(measures.assign(place=places), SHARE_PANELS, title, panel="measure", row="place")


def draw_weight_paths(curves: pd.DataFrame, levels: Mapping[str, float], title: str) -> Figure:
    """Draw HydaLearn's auxiliary share over training for every split, with the mean.

    Args:
        curves: Columns seed, epoch, share.
        levels: Method with constant weights -> its auxiliary share.
        title: Data and tasks.
    """
    fig, ax = plt.subplots(figsize=(7.2, 3.4))
    weights_panel(ax, curves, levels)
    return head(fig, f"{title}\nthin: one split, mean over the batches of an epoch; thick: mean over splits")


def draw_shares(histogram: pd.DataFrame, title: str) -> Figure:
    """Draw the distribution of the auxiliary share over mini-batches at fixed parameters.

    Args:
        histogram: Of `summaries.share_histogram`.
        title: Data and tasks.
    """
    fig, ax = plt.subplots(figsize=(7.2, 3.4))
    shares_panel(ax, histogram)
    return head(fig, f"{title}\nmean over splits, 10 % to 90 % of splits shaded")


def draw_calibration(bins: pd.DataFrame, title: str) -> Figure:
    """Draw calibration curves: observed against predicted probability, with the number of rows behind each point.

    Args:
        bins: Of `summaries.calibration_means`.
        title: Data and main task.
    """
    fig, ax = plt.subplots(figsize=(5.6, 4.6))
    calibration_panel(ax, bins)
    return head(fig, f"{title}\nbins of equally many rows; mean over splits, corrected 95 % interval")


def label_panels(benefit: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Panel]]:
    """What methods gain over the reference, with a `panel` for each metric and number of main labels.

    Args:
        benefit: Of `summaries.label_benefit`.
    """
    panels: dict[str, Panel] = {}
    most = benefit["labels"].max()
    for metric, labels in product(dict.fromkeys(benefit["metric"]), sorted(set(benefit["labels"]))):
        title = f"all {labels:,} labels" if labels == most else f"{labels:,} labels"
        panels[f"{metric}, {labels}"] = Panel(title, f"gain in {metric}", lower_is_better=False)
    return benefit.assign(panel=benefit["metric"] + ", " + benefit["labels"].astype(str)), panels


def draw_labels(benefit: pd.DataFrame, title: str) -> Figure:
    """Draw what each method gains over the reference at each number of main labels, a row of panels per metric.

    Args:
        benefit: Of `summaries.label_benefit`.
        title: Data and main task.
    """
    table, panels = label_panels(benefit)
    return draw_forest(table, panels, title, panel="panel", row="method", first="")


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
        ax.axhline(share, color=colour(method), ls="--", lw=1.4, zorder=1)
    top = 1.1 * max(curves["share"].max(), *levels.values(), 0.05)
    ax.set_ylim(0, top)
    ends = {"HydaLearn": float(mean.iloc[-1]), **levels}
    named = {f"{method} {share:.2f}": share for method, share in ends.items()}
    end_labels(ax, named, {text: colour(method) for text, method in zip(named, ends, strict=True)})
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
    for (step, shade), style in zip(task_colours(map(str, steps)).items(), ("-", "--", ":", "-."), strict=False):
        rows = histogram[histogram["step"].astype(str) == step]
        zero, bins = rows[rows["left"] == rows["right"]], rows[rows["left"] < rows["right"]]
        middle = (bins["left"] + bins["right"]) / 2
        ax.fill_between(middle, bins["low"], bins["high"], color=shade, alpha=0.15, lw=0)
        ax.plot(middle, bins["mean"], color=shade, ls=style, lw=1.6, label=f"step {step}")
        place = -0.16 - 0.04 * steps.index(int(step))
        ax.errorbar([place], zero["mean"], [zero["mean"] - zero["low"], zero["high"] - zero["mean"]], color=shade,
                    marker="s", ms=4.5, capsize=2, lw=1.2)  # fmt: skip
    ax.set_ylim(bottom=0)
    ax.set_xticks([-0.2, 0, 0.5, 1.0], ["none", "0", "0.5", "1"])
    ax.set(xlabel="auxiliary share of the weights\n(squares: none)", ylabel="part of the batches, per bin")
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
        ax.errorbar(rows["predicted"], rows["observed"], whiskers, color=colour(method), marker=marker, ms=4.5,
                    lw=1.2, elinewidth=1, label=method)  # fmt: skip
    top = min(1.0, 1.05 * float(max(bins["predicted"].max(), bins["high"].max())))
    ax.set(xlim=(0, top), ylim=(0, top), ylabel="observed share")
    ax.set_xlabel(f"predicted probability\n({bins['rows'].mean():,.0f} test rows per point)")
    ax.legend(loc="upper left")
