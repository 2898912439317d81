"""Intervals: the formula by hand, and coverage by simulation."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from companion.claims.statistics import (
    Interval,
    Retuned,
    TuningPart,
    estimate,
    paired_interval,
    power,
    tuned_difference,
)
from companion.train.choice import choose
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


@pytest.mark.parametrize("ratio", [0.0, 1 / 3])
def test_an_estimate_of_one_run_per_split_is_the_paired_interval(ratio: float) -> None:
    values = np.array([0.3, -0.1, 0.4, 0.2, 0.05])
    found, expected = estimate(values, test_to_train=ratio), paired_interval(values, np.zeros(5), test_to_train=ratio)
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high), abs=1e-12)
    assert (found.split, found.initialisation, found.tuning, found.count) == (1, 0, 0, 5)


def test_parts_of_the_variance_by_hand() -> None:
    values = np.array([[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]])  # mean squares: between 32, within 2
    found = estimate(values, test_to_train=0.5, tuning=TuningPart(2.0, 10))
    split, initialisation = 15 * (1 / 3 + 0.5), 2 / 6
    assert (found.split, found.initialisation, found.tuning) == pytest.approx(
        np.array([split, initialisation, 2.0]) / (split + initialisation + 2), abs=1e-12
    )
    terms = {2: 32 / 2 * (1 / 3 + 0.5), 9: 2.0, 3: 2 / 2 * 0.5}
    freedom = (split + initialisation + 2) ** 2 / sum(term**2 / df for df, term in terms.items())
    half = stats.t.ppf(0.975, freedom) * (split + initialisation + 2) ** 0.5
    assert (found.low, found.high) == pytest.approx((5 - half, 5 + half), abs=1e-12)


def test_splits_that_do_not_differ_have_no_part() -> None:
    values = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.2]])
    found = estimate(values, test_to_train=0.5)
    assert (found.split, found.initialisation) == (0, 1)


@pytest.mark.parametrize(
    ("of_split", "of_initialisation", "curvature"), [(1.0, 1.0, 0.3), (0.3, 1.0, 1.0), (0.1, 0.2, 0.3)]
)
def test_coverage_with_all_three_parts(of_split: float, of_initialisation: float, curvature: float) -> None:
    """With ten tuning seeds and five initialisations; the standard error of the share is 0.008."""
    assert 0.93 <= coverage_when_tuned(of_split, of_initialisation, curvature, inits=5, tuning_seeds=10) <= 0.97


def test_with_three_tuning_seeds_intervals_are_rather_too_long() -> None:
    """As on scenes: a bootstrap of three seeds exaggerates what their choice adds."""
    assert coverage_when_tuned(1.0, 1.0, 0.3, inits=1, tuning_seeds=3) >= 0.97


def coverage_when_tuned(
    of_split: float, of_initialisation: float, curvature: float, inits: int, tuning_seeds: int
) -> float:
    """Made-up data: two methods choose among five settings; splits share a quarter of their rows."""
    rng = np.random.default_rng(3)
    splits, shared, times = 10, 0.25, 700
    truths = curvature * np.array([1.0, 0.3, 0.0, 0.3, 1.0])  # of the settings
    chosen, intervals = [], []
    for _ in range(times):
        methods, means = [], []
        for _ in range(2):
            tuning = truths[:, None] + rng.normal(size=(5, tuning_seeds))
            rows = pd.DataFrame(tuning).rename_axis("rate").melt(ignore_index=False, var_name="seed").reset_index()
            choice = choose(rows.assign(metric="validation loss"), "made up", ("rate",), rivals=2)
            settings = [int(place["rate"]) for place in (choice.setting, *choice.rivals)]
            effect = of_split * (shared**0.5 * rng.normal() + (1 - shared) ** 0.5 * rng.normal(size=splits))
            noise = of_initialisation * rng.normal(size=(len(settings), splits, inits))
            values = truths[settings][:, None, None] + effect[:, None] + noise
            methods.append(Retuned(values, choice.draws, choice.seeds))
            means.append(truths[settings[0]])
        first, second = methods
        intervals.append(tuned_difference(first, second, test_to_train=shared / (1 - shared))[0])
        chosen.append(means[0] - means[1])
    truth = float(np.mean(chosen))  # over data, runs and tunings
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


def test_power_is_the_chance_by_simulation() -> None:
    rng = np.random.default_rng(4)
    wide = Interval(0.0, -0.8, 0.8, 10)
    of_one = 0.8 / stats.t.ppf(0.975, 9)  # the standard error
    means = rng.standard_t(9, size=100_000) * of_one
    assert power(wide, 1.0) == pytest.approx(np.mean(means + 0.8 < 1.0), abs=0.005)
    assert power(wide, 1.0) == pytest.approx(np.mean(2 + means - 0.8 >= 1.0), abs=0.005)
    assert power(Interval(0.0, 0.0, 0.0, 10), 1.0) == 1


def test_an_estimate_asks_for_splits() -> None:
    with pytest.raises(ValueError, match=r"Found shape \(1, 3\), 0 not finite"):
        estimate([[1.0, 2.0, 3.0]])
