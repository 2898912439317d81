"""What the figures of the tabular study draw: benefit by number of labels, weights by epoch, shares, calibration."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from companion.claims.statistics import paired_interval
from companion.studies.tabular.report import MAIN_MEASURES, MEASURES, paired_differences


def label_benefit(
    by_labels: Mapping[int, pd.DataFrame],
    methods: Sequence[str],
    reference: str,
    *,
    test_to_train: float,
    confidence: float = 0.95,
    metrics: Sequence[str] = MAIN_MEASURES,
) -> pd.DataFrame:
    """Compute what methods gain over a reference at each number of main labels, positive where they are better.

    Args:
        by_labels: Number of main labels for training -> tidy runs.
        methods: Methods to compare with the reference; one without runs at some number is left out there.
        reference: Usually the single task.
        test_to_train: As for `paired_differences`.
        confidence: Level of the intervals.
        metrics: Names of `MEASURES`.

    Returns:
        One row per metric, method and number of labels: mean, low, high, count, failed.
    """
    tables = []
    for labels, runs in by_labels.items():
        for method in (m for m in methods if m in set(runs["method"])):
            found = paired_differences(
                runs, method, [reference], test_to_train=test_to_train, confidence=confidence, metrics=metrics
            )
            tables.append(found.assign(labels=labels))
    table = pd.concat(tables, ignore_index=True)
    turn = np.where(table["metric"].map(lambda name: MEASURES[name].lower_is_better), -1.0, 1.0)
    limits = np.sort(table[["low", "high"]].to_numpy() * turn[:, None], axis=1)
    table = table.assign(mean=table["mean"] * turn, low=limits[:, 0], high=limits[:, 1])
    return table[["metric", "method", "reference", "labels", "mean", "low", "high", "count", "failed"]]


def share_histogram(shares: pd.DataFrame, num_bins: int = 20) -> pd.DataFrame:
    """Count at fixed parameters how the auxiliary share is distributed over mini-batches.

    Args:
        shares: Columns seed, step, share: one row per mini-batch.
        num_bins: Equal bins above 0, up to 1.

    Returns:
        One row per step and bin: left, right, and the part of the batches (mean over splits, 10 % and 90 % quantiles
        over splits as low and high). The first bin, of no width, is the share 0 itself.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    rows = []
    for step, at_step in shares.groupby("step"):
        parts = []
        for _, share in at_step.groupby("seed")["share"]:
            values = share.to_numpy(np.float64)
            above = np.histogram(values[values > 0], edges)[0]
            parts.append(np.concatenate([[(values <= 0).sum()], above]) / len(values))  # [1 + bins]
        low, high = np.quantile(parts, [0.1, 0.9], axis=0)
        bins = {"left": [0.0, *edges[:-1]], "right": [0.0, *edges[1:]]}
        rows.append(pd.DataFrame({"step": step, **bins, "mean": np.mean(parts, axis=0), "low": low, "high": high}))
    return pd.concat(rows, ignore_index=True)


def calibration_means(calibration: pd.DataFrame, *, test_to_train: float, confidence: float = 0.95) -> pd.DataFrame:
    """Average calibration curves over splits.

    Args:
        calibration: Rows of `curves.calibrate` with the column method.
        test_to_train: As for `paired_differences`.
        confidence: Level of the interval of the observed share.

    Returns:
        One row per method and bin: the means of predicted, observed and rows, and the limits low and high of observed.
    """
    wide = calibration.pivot(index=["method", "bin", "seed"], columns="metric", values="value")
    rows = []
    for (method, number), group in wide.groupby(["method", "bin"], sort=False):
        zero = np.zeros(len(group))
        interval = paired_interval(group["observed"], zero, confidence=confidence, test_to_train=test_to_train)
        limits = {"low": max(0.0, interval.low), "high": min(1.0, interval.high)}  # shares
        means = {name: float(group[name].mean()) for name in ("predicted", "observed", "rows")}
        rows.append({"method": method, "bin": number, **means, **limits})
    order = list(dict.fromkeys(calibration["method"]))
    return pd.DataFrame(rows).sort_values(
        ["method", "bin"], key=lambda c: c.map(order.index) if c.name == "method" else c
    )
