"""What a trained run is judged by on its test fold, beside log loss and AUC: ranking of the rare class, calibration."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import average_precision_score

from companion.metrics.per_run import auc_per_run, log_loss_per_run

Array = NDArray[np.float64]
CALIBRATION_BINS = 10


def calibration_bins(labels: Array, logits: Array, num_bins: int = CALIBRATION_BINS) -> tuple[Array, Array]:
    """Mean predicted probability and observed share of positives in bins of equally many rows, `[num_bins]` each.

    Bins of equal width would put nearly all rows of a rare class into the first.

    Args:
        labels: 0 or 1, `[N]`.
        logits: Log odds of label 1, `[N]`.
        num_bins: Their sizes differ by one row at most.
    """
    order = np.argsort(logits, kind="stable")
    parts = np.array_split(order, num_bins)
    probabilities = expit(logits)
    return np.array([probabilities[p].mean() for p in parts]), np.array([labels[p].mean() for p in parts])


def calibration_error(labels: Array, logits: Array) -> float:
    """Expected calibration error: mean distance of predicted and observed share over ten bins of equally many rows.

    A perfectly calibrated model is not at 0 either, since the observed share of a bin is a sample.
    """
    predicted, observed = calibration_bins(labels, logits)
    return float(np.abs(predicted - observed).mean())


def fold_measures(labels: Array, logits: Array) -> dict[str, Array]:
    """Measure every run on its test fold; NaN for a run whose logits are not all finite.

    Args:
        labels: 0 or 1, `[R, N]`.
        logits: Log odds of label 1, `[R, N]`.

    Returns:
        Measure -> `[R]`; "test PR-AUC" is the average precision.
    """
    return {
        "test log loss": log_loss_per_run(labels, logits),
        "test AUC": auc_per_run(labels, logits),
        "test PR-AUC": _per_run(labels, logits, average_precision_score),
        "test calibration error": _per_run(labels, logits, calibration_error),
    }


def _per_run(labels: Array, logits: Array, measure: Callable[[Array, Array], float]) -> Array:
    pairs = zip(labels, logits, strict=True)
    return np.array([measure(y, z) if np.isfinite(z).all() else np.nan for y, z in pairs])
