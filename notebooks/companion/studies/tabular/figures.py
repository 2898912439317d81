"""The figures of the tabular study, one function each; their panels are in `panels`, their tables in `summaries`."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from companion.studies.tabular.panels import (
    benefit_panel,
    calibration_panel,
    forest_panel,
    shares_panel,
    weights_panel,
)


def _headed(fig: Figure, title: str, how: str) -> Figure:
    fig.suptitle(f"{title}\n{how}", x=0.01, ha="left", fontsize=11)
    return fig


def draw_forest(differences: pd.DataFrame, smallest: Mapping[str, float], title: str) -> Figure:
    """Draw paired differences as a forest plot, a panel per metric and a row per reference.

    Args:
        differences: Of `report.paired_differences`.
        smallest: Metric -> the least difference that counts, shaded; the metrics are the panels.
        title: What is compared on what; how intervals are drawn is added.
    """
    rows = differences["reference"].nunique()
    fig, axes = plt.subplots(1, len(smallest), sharey=True, figsize=(7.6, 1.8 + 0.3 * rows), squeeze=False)
    for ax, (metric, least) in zip(axes[0], smallest.items(), strict=True):
        forest_panel(ax, differences, metric, least)
    how = "95 % intervals: line corrected for shared rows, bar plain; open: holds 0; shaded: too small"
    return _headed(fig, title, how)


def draw_weight_paths(curves: pd.DataFrame, levels: Mapping[str, float], title: str) -> Figure:
    """Draw HydaLearn's auxiliary share over training for every split, with the mean.

    Args:
        curves: Columns seed, epoch, share.
        levels: Method with constant weights -> its auxiliary share.
        title: Data and tasks.
    """
    fig, ax = plt.subplots(figsize=(7.2, 3.4))
    weights_panel(ax, curves, levels)
    return _headed(fig, title, "thin: one split, mean over the batches of an epoch; thick: mean over splits")


def draw_shares(histogram: pd.DataFrame, title: str) -> Figure:
    """Draw the distribution of the auxiliary share over mini-batches at fixed parameters.

    Args:
        histogram: Of `summaries.share_histogram`.
        title: Data and tasks.
    """
    fig, ax = plt.subplots(figsize=(7.2, 3.4))
    shares_panel(ax, histogram)
    return _headed(fig, title, "mean over splits, 10 % to 90 % of splits shaded")


def draw_calibration(bins: pd.DataFrame, title: str) -> Figure:
    """Draw calibration curves: observed against predicted probability, with the number of rows behind each point.

    Args:
        bins: Of `summaries.calibration_means`.
        title: Data and main task.
    """
    fig, ax = plt.subplots(figsize=(5.6, 4.6))
    calibration_panel(ax, bins)
    return _headed(fig, title, "bins of equally many rows; mean over splits, corrected 95 % interval")


def draw_benefit(benefit: pd.DataFrame, title: str) -> Figure:
    """Draw what each method gains over the reference against the number of main labels, a panel per metric.

    Args:
        benefit: Of `summaries.label_benefit`.
        title: Data and main task.
    """
    metrics = list(dict.fromkeys(benefit["metric"]))
    fig, axes = plt.subplots(1, len(metrics), figsize=(4.4 * len(metrics), 4.2), squeeze=False)
    for ax, metric in zip(axes[0], metrics, strict=True):
        benefit_panel(ax, benefit, metric)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    return _headed(fig, title, "above 0: better than the single task; paired splits, corrected 95 % intervals")
