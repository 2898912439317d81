"""AUC of many runs at once, over all rows and averaged over users."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class GroupedAuc(NamedTuple):
    """AUC averaged over groups.

    Attributes:
        mean: `[R]`; NaN where no group counts or a score of the run is not finite.
        groups: How many groups counted: those with both classes, `[R]`.
    """

    mean: NDArray[np.float64]
    groups: NDArray[np.int64]


def auc(labels: ArrayLike, scores: ArrayLike) -> NDArray[np.float64]:
    """Compute the area under the ROC curve of each run: the chance that a positive outranks a negative, ties half.

    Args:
        labels: 0 or 1, `[R, N]`.
        scores: Any increasing function of the predicted probability, `[R, N]`.

    Returns:
        `[R]`; NaN for a run with one class only, or whose scores are not all finite.
    """
    return grouped_auc(labels, scores, np.zeros(np.shape(labels), dtype=np.int64)).mean


def grouped_auc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> GroupedAuc:
    """Compute the AUC within every group, averaged over the groups (users) that have both classes.

    All groups count alike, whatever their number of rows; those with one class have no AUC and are left out.

    Args:
        labels: 0 or 1, `[R, N]`.
        scores: Any increasing function of the predicted probability, `[R, N]`.
        groups: Whole numbers, `[R, N]`.
    """
    by_group, by_score = np.asarray(groups, np.int64), np.asarray(scores, np.float64)
    order = np.lexsort((by_score, by_group), axis=-1)
    y = np.take_along_axis(np.asarray(labels, np.float64), order, axis=-1)
    z, g = np.take_along_axis(by_score, order, axis=-1), np.take_along_axis(by_group, order, axis=-1)
    runs, rows = y.shape
    first_of_group = _changes(g)
    first_of_tie = first_of_group | _changes(z)
    position = np.broadcast_to(np.arange(rows), (runs, rows))
    low = np.maximum.accumulate(np.where(first_of_tie, position, 0), axis=-1)
    last_of_tie = np.concatenate([first_of_tie[:, 1:], np.ones((runs, 1), dtype=np.bool_)], axis=-1)
    high = np.minimum.accumulate(np.where(last_of_tie, position, rows)[:, ::-1], axis=-1)[:, ::-1]
    start = np.maximum.accumulate(np.where(first_of_group, position, 0), axis=-1)
    rank = (low + high) / 2 - start + 1  # within the group, [R, N]

    number = np.cumsum(first_of_group).reshape(runs, rows) - 1  # of the group, over all runs
    count = int(number[-1, -1]) + 1
    positives, total, ranks = (
        np.bincount(number.ravel(), weights.ravel(), minlength=count) for weights in (y, np.ones_like(y), rank * y)
    )
    pairs = positives * (total - positives)
    area = np.where(pairs > 0, (ranks - positives * (positives + 1) / 2) / np.maximum(pairs, 1), 0.0)
    run_of_group = np.repeat(np.arange(runs), first_of_group.sum(-1))
    counted = np.bincount(run_of_group, pairs > 0, minlength=runs)
    mean = np.bincount(run_of_group, area, minlength=runs) / np.where(counted > 0, counted, np.nan)
    return GroupedAuc(np.where(np.isfinite(z).all(-1), mean, np.nan), counted.astype(np.int64))


def _changes(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where a value differs from the one before it in its row, `[R, N]`; True at the first."""
    first = np.ones((len(values), 1), dtype=np.bool_)
    return np.concatenate([first, values[:, 1:] != values[:, :-1]], axis=-1)
