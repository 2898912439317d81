"""Intervals: the formula by hand, and coverage by simulation."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from companion.claims.statistics import Interval, paired_interval
from numpy.typing import NDArray
from scipy import stats


def test_equals_the_t_test_of_scipy() -> None:
    a, b = np.array([1.0, 2.0, 4.0, 3.5]), np.array([0.5, 2.5, 3.0, 3.0])
    expected = stats.ttest_rel(a, b).confidence_interval(0.9)
    found = paired_interval(a, b, confidence=0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.mean == pytest.approx(0.375)


def test_coverage_of_independent_pairs_is_95_percent() -> None:
    rng = np.random.default_rng(0)
    pair_effect = rng.normal(size=(4000, 10)) * 5  # pairing removes what both runs share
    first = 0.3 + pair_effect + rng.normal(size=(4000, 10))
    found = [paired_interval(a, b) for a, b in zip(first, pair_effect, strict=True)]
    covered = np.mean([interval.low <= 0.3 <= interval.high for interval in found])
    # Standard error of the share 0.0034. A normal quantile in place of Student's covers 0.918, a difference of 0.032.
    assert covered == pytest.approx(0.95, abs=0.012)


def test_coverage_over_splits_of_one_data_set() -> None:
    """The case the correction is for: splits share rows, and the truth is the expectation over data sets."""
    rng = np.random.default_rng(1)
    n_train, n_test, repeats = 60, 20, 10
    covered: dict[float, list[bool]] = {0.0: [], n_test / n_train: []}
    for _ in range(3000):
        data = rng.normal(size=n_train + n_test)  # a difference per row, of mean 0
        differences = [rng.permutation(data)[:n_test].mean() for _ in range(repeats)]
        for ratio, kept in covered.items():
            interval = paired_interval(differences, np.zeros(repeats), test_to_train=ratio)
            kept.append(interval.low <= 0 <= interval.high)
    plain, corrected = (float(np.mean(kept)) for kept in covered.values())
    assert plain < 0.75  # two test folds share a quarter of their rows: ten splits are not ten experiments
    assert corrected == pytest.approx(0.95, abs=0.02)  # standard error 0.004


def test_verdicts() -> None:
    assert Interval(-2, -3, -1, 10).verdict(lower_is_better=True) == "better"
    assert Interval(-2, -3, -1, 10).verdict(lower_is_better=False) == "worse"
    assert Interval(2, 1, 3, 10).verdict(lower_is_better=True) == "worse"
    assert Interval(0.1, -1, 1.2, 10).verdict(lower_is_better=True) == "undecided"


def test_failed_runs_are_not_dropped_silently() -> None:
    with pytest.raises(ValueError, match="Found 1 pairs that are not"):
        paired_interval([1.0, np.nan, 2.0], [0.0, 0.0, 0.0])


def test_lengths() -> None:
    with pytest.raises(ValueError, match=r"Found shapes \(2,\) and \(3,\)"):
        paired_interval([1, 2], [1, 2, 3])


Array = NDArray[np.float64]


def coverage(compute: Callable[[Array, Array], Interval], draw: Callable[[], Array], truth: float, times: int) -> float:
    """How often the interval of `draw() - 0` holds the truth, where both runs of a pair share a large effect."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(times):
        difference = draw()
        pair_effect = 8.0 * np.round(rng.normal(size=difference.size) * 2**20) / 2**20  # so that nothing is rounded off
        interval = compute(difference + pair_effect, pair_effect)
        covered += interval.low <= truth <= interval.high
    return covered / times


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_interval_drops_failed_runs(value: float) -> None:
    with pytest.raises(ValueError, match="Found 1 pairs that are not"):
        paired_interval([value, *range(9)], [0.0] * 10)
