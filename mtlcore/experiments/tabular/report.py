"""Tables of a study: paired differences with intervals, HydaLearn's weight over training, sentences with numbers."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlcore.statistics import paired_interval

# Measure -> whether lower is better, and the decimals that a sentence prints.
MEASURES = {"log loss": True, "AUC": False}
DECIMALS = {"log loss": 4, "AUC": 3}


def compare(table: pd.DataFrame, pairs: Sequence[tuple[str, str]], test_to_train: float) -> pd.DataFrame:
    """Compute the paired differences between methods on the test folds.

    Args:
        table: One row per method and split, with the measures.
        pairs: `(method, reference)`; the difference is method minus reference.
        test_to_train: Rows of the test fold per row of the training fold, see `paired_interval`.

    Returns:
        One row per measure and pair: the mean difference, its 95 % interval (`low`, `high`), the plain t-interval
        (`plain low`, `plain high`), which takes the splits for independent, and the verdict.
    """
    rows = []
    for (measure, lower_is_better), (method, reference) in product(MEASURES.items(), pairs):
        values = table.pivot(index="seed", columns="method", values=measure)
        interval = paired_interval(values[method], values[reference], test_to_train=test_to_train)
        plain = paired_interval(values[method], values[reference])
        rows.append(
            {
                "measure": measure,
                "method": method,
                "reference": reference,
                "comparison": f"{method} \N{MINUS SIGN} {reference}",
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "plain low": plain.low,
                "plain high": plain.high,
                "splits": interval.count,
                "verdict": interval.verdict(lower_is_better=lower_is_better),
            }
        )
    return pd.DataFrame(rows)


def sentence(row: pd.Series) -> str:
    """Say one row of `compare` in words: the difference, its interval and what it supports.

    Example:
        >>> row = {"comparison": "A - B", "measure": "AUC", "mean": 0.01, "low": -0.02, "high": 0.04}
        >>> sentence(pd.Series({**row, "verdict": "undecided", "splits": 10}))
        'A - B, AUC: 0.010 [−0.020, 0.040], undecided at 10 splits'
    """
    decimals = DECIMALS[row["measure"]]
    mean, low, high = (f"{row[key]:z.{decimals}f}".replace("-", "\N{MINUS SIGN}") for key in ("mean", "low", "high"))
    return f"{row['comparison']}, {row['measure']}: {mean} [{low}, {high}], {row['verdict']} at {row['splits']} splits"


def weight_curve(auxiliary_weights: NDArray[np.float64], epochs: int) -> pd.DataFrame:
    """Summarise HydaLearn's auxiliary weight by epoch.

    Args:
        auxiliary_weights: `[steps, R]`, one run per split.
        epochs: Number of epochs, all of equally many steps.

    Returns:
        One row per epoch: mean over batches and splits, 95 % t-interval of the splits' means (`low`, `high`), the 10 %
        and 90 % quantiles over batches, and the share of batches whose weight is zero.
    """
    by_epoch = auxiliary_weights.reshape(epochs, -1, auxiliary_weights.shape[1])  # [E, steps per epoch, R]
    rows = []
    for epoch, weights in enumerate(by_epoch, start=1):
        interval = paired_interval(weights.mean(0), np.zeros(weights.shape[1]))
        low, high = np.quantile(weights, [0.1, 0.9])
        rows.append(
            {
                "epoch": epoch,
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "quantile 10": low,
                "quantile 90": high,
                "share zero": float((weights == 0).mean()),
            }
        )
    return pd.DataFrame(rows)
