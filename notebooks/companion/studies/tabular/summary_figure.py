"""One page per domain: what the data say about HydaLearn's claims, at a glance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.claims.evidence import VERDICT_STYLES
from companion.studies.tabular.panels import (
    benefit_panel,
    calibration_panel,
    forest_panel,
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
    """Draw the page: H3 above, then H1 and the weights, calibration, scarce labels, and the verdicts in words.

    Args:
        summary: The tables.
        title: Domain, data and whether they stand in for the paper's.
    """
    below = "benefit" if summary.benefit is not None else "calibration"
    rows = [("loss", "auc"), ("shares", "weights"), ("calibration", below), ("verdicts", "verdicts")]
    references = summary.differences["reference"].nunique()
    heights = [0.26 * (4 + references), 2.9, 3.4, 0.5 + 0.24 * len(summary.verdicts)]
    fig = plt.figure(figsize=(9.6, 0.7 + sum(heights)))
    grid = fig.subplot_mosaic(cast(Any, rows), height_ratios=heights)
    for name, (metric, least) in zip(("loss", "auc"), summary.smallest.items(), strict=True):
        forest_panel(grid[name], summary.differences, metric, least)
    grid["auc"].set_yticklabels([])
    shares_panel(grid["shares"], summary.histogram)
    weights_panel(grid["weights"], summary.curves, summary.levels)
    calibration_panel(grid["calibration"], summary.bins)
    if summary.benefit is not None:
        benefit_panel(grid["benefit"], summary.benefit, next(iter(summary.smallest)))
        grid["benefit"].legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), fontsize=8, ncols=3)
    _verdicts(grid["verdicts"], summary.verdicts)
    titles = {
        "loss": "H3  HydaLearn against each method",
        "shares": "H1  share from batch to batch, parameters fixed",
        "weights": "H2  share over training",
        "calibration": "Calibration",
        "benefit": "H3  gain over the single task by labels",
    }
    for name, text in titles.items():
        if name in grid:
            grid[name].set_title(text, fontsize=10)
    how = "lines: corrected 95 % intervals over paired splits; bars: plain intervals; shaded: too small to count"
    fig.suptitle(f"{title}\n{how}", x=0.01, ha="left", fontsize=11)
    return fig


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
