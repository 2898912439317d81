"""One page per domain: what the data say about HydaLearn's claims, at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from companion.plots.effects import VERDICT_STYLES
from companion.plots.forest import forest_panel
from companion.plots.style import head
from companion.studies.tabular.figures import (
    calibration_panel,
    label_panels,
    metric_panel,
    shares_panel,
    weights_panel,
)


@dataclass(frozen=True)
class Summary:
    """The tables of a domain's page.

    Attributes:
        differences: Of `report.paired_differences`.
        smallest: Metric -> the least difference that counts.
        curves: Weights by epoch: seed, epoch, share.
        levels: Method with constant weights -> its auxiliary share.
        histogram: Of `summaries.share_histogram`.
        bins: Of `summaries.calibration_means`.
        verdicts: Of `report.verdict_row`, one row per registered claim.
        benefit: Of `summaries.label_benefit`, or None where there is no design with scarce labels.
    """

    differences: pd.DataFrame
    smallest: Mapping[str, float]
    curves: pd.DataFrame
    levels: Mapping[str, float]
    histogram: pd.DataFrame
    bins: pd.DataFrame
    verdicts: pd.DataFrame
    benefit: pd.DataFrame | None = None


def draw_summary(summary: Summary, title: str) -> Figure:
    """Draw the page: the verdicts in words, HydaLearn against each method, its weights, and gains by number of labels.

    Args:
        summary: The tables.
        title: Domain, data and whether they stand in for the paper's.
    """
    references = list(dict.fromkeys(summary.differences["reference"]))
    heights = [0.7 + 0.22 * len(summary.verdicts), 1.1 + 0.23 * len(references), 3.2]
    if summary.benefit is not None:
        heights.append(2.2)
    fig = plt.figure(figsize=(9.6, 0.6 + sum(heights)))
    parts: Any = fig.subfigures(len(heights), 1, height_ratios=heights)
    _verdicts(parts[0].subplots(), summary.verdicts)
    _named(parts[0], "What was registered, and found")
    for ax, (metric, least) in zip(parts[1].subplots(1, 2, sharey=True), summary.smallest.items(), strict=True):
        rows = summary.differences[summary.differences["metric"] == metric]
        forest_panel(ax, rows, references, metric_panel(metric, least))
    _named(parts[1], "H3: HydaLearn against each method")
    left, middle, right = parts[2].subplots(1, 3)
    shares_panel(left, summary.histogram)
    weights_panel(middle, summary.curves, summary.levels)
    calibration_panel(right, summary.bins)
    _named(parts[2], "H1, H2: its weights from batch to batch and over training; calibration")
    if summary.benefit is not None:
        table, panels = label_panels(summary.benefit)
        panels = {name: panel for name, panel in panels.items() if name.startswith(next(iter(summary.smallest)))}
        methods = list(dict.fromkeys(table["method"]))
        for ax, (name, panel) in zip(parts[3].subplots(1, len(panels), sharey=True), panels.items(), strict=True):
            forest_panel(ax, table[table["panel"] == name], methods, panel, row="method", first="")
        _named(parts[3], "H3: gain over the single task by number of main labels")
    how = "lines: corrected 95 % intervals over paired splits; bars: plain intervals; shaded: too small to count"
    return head(fig, f"{title}\n{how}")


def _named(part: SubFigure, text: str) -> None:
    part.suptitle(text, x=0.01, ha="left", fontsize=10, weight="bold")


def _verdicts(ax: Axes, verdicts: pd.DataFrame) -> None:
    """The verdict table as text, each verdict in its colour."""
    ax.set_axis_off()
    lines = len(verdicts) + 1
    columns = {"claim": -0.15, "verdict": 0.11, "counts from": 0.26, "comparisons": 0.425, "found, 95 % interval": 0.56}
    colours = {str(verdict): colour for verdict, (colour, _) in VERDICT_STYLES.items()}
    for name, x in columns.items():
        ax.text(x, 1 - 0.5 / lines, name, transform=ax.transAxes, va="center", fontsize=8.5, weight="bold")
        for number, text in enumerate(verdicts[name].astype(str), start=1):
            colour = colours[text] if name == "verdict" else "#222222"
            ax.text(x, 1 - (number + 0.5) / lines, text, transform=ax.transAxes, va="center", fontsize=8.5,
                    color=colour, weight="bold" if name == "verdict" else "normal")  # fmt: skip
