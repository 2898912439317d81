"""Measures of a trained run, one number per run, by scikit-learn."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn import metrics


def log_loss_per_run(labels: ArrayLike, logits: ArrayLike) -> NDArray[np.float64]:
    """Compute the mean cross-entropy in nats of each run; lower is better.

    Args:
        labels: 0 or 1, `[R, N]`.
        logits: Log odds of label 1, `[R, N]`.

    Returns:
        `[R]`; NaN for a run whose logits are not all finite.
    """
    return _per_run(labels, logits, lambda y, z: metrics.log_loss(y, expit(z), labels=[0, 1]))


def auc_per_run(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Compute the area under the ROC curve of each run: the chance that a positive outranks a negative.

    Args:
        labels: 0 or 1, `[R, N]`, both present in every run.
        scores: Any increasing function of the predicted probability, `[R, N]`.

    Returns:
        `[R]`; NaN for a run whose scores are not all finite.
    """
    return _per_run(labels, scores, metrics.roc_auc_score)


def _per_run(
    labels: ArrayLike, scores: ArrayLike, measure: Callable[[NDArray[np.float64], NDArray[np.float64]], float]
) -> NDArray[np.float64]:
    pairs = zip(np.asarray(labels, np.float64), np.asarray(scores, np.float64), strict=True)
    return np.array([measure(y, z) if np.isfinite(z).all() else np.nan for y, z in pairs])
