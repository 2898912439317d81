"""Intervals of paired differences, and the side that an interval is on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits and the number of pairs behind it.

    Attributes:
        mean: The estimate.
        low: Lower limit.
        high: Upper limit.
        count: Number of pairs.
    """

    mean: float
    low: float
    high: float
    count: int

    def verdict(self, *, lower_is_better: bool) -> str:
        """Say what the interval supports: `"better"`, `"worse"` or, when it holds 0, `"undecided"`."""
        if self.low <= 0 <= self.high:
            return "undecided"
        return "better" if (self.high < 0) == lower_is_better else "worse"


def paired_interval(
    first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, test_to_train: float = 0.0
) -> Interval:
    """Compute the t-interval of the mean of `first - second` over paired runs.

    Repeated splits of one data set share most of their rows, so their differences are correlated and the plain
    interval is too short as a statement about new data from the same source. Nadeau and Bengio (2003, "Inference for
    the generalization error") lengthen it: the variance of the mean is `s^2 (1/n + n_test / n_train)` in place of
    `s^2 / n`.

    Args:
        first: One number per run, `[n]`.
        second: The paired numbers, `[n]`.
        confidence: Level of the interval.
        test_to_train: `n_test / n_train` for repeated splits of one data set; 0, the plain interval, for independent
            pairs such as seeds of a simulation.

    Raises:
        ValueError: Lengths differ, there are fewer than two pairs, or a value is not finite: a failed run is the
            caller's to count and report, not for the interval to drop.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or a.size < 2:
        raise ValueError(
            "Parameters `first` and `second` should be two lists of equal length, at least 2. "
            f"Found shapes {a.shape} and {b.shape}. Pass one number per paired run."
        )
    difference = a - b
    if not np.isfinite(difference).all():
        raise ValueError(
            "Parameters `first` and `second` should be finite. "
            f"Found {np.count_nonzero(~np.isfinite(difference))} pairs that are not. Report failed runs apart."
        )
    mean, spread, n = float(difference.mean()), float(difference.std(ddof=1)), difference.size
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * spread * (1 / n + test_to_train) ** 0.5
    return Interval(mean, mean - half, mean + half, n)
