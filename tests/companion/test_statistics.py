"""Intervals: the formula by hand, and coverage by simulation."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from companion.claims.statistics import (
    Interval,
    bootstrap_interval,
    improvement_interval,
    median_interval,
    paired_interval,
)
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


def test_coverage_of_the_bootstrap() -> None:
    draws = np.random.default_rng(2)

    def skewed() -> Array:
        return draws.exponential(size=40)  # mean 1, skewness 2

    def right(a: Array, b: Array) -> Interval:
        return bootstrap_interval(a, b, rng=draws, num_resamples=499)

    def of_the_runs(a: Array, b: Array) -> Interval:  # resamples the two methods apart, as if they were not paired
        means = [draws.choice(x, (199, x.size)).mean(1) for x in (a, b)]
        low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
        return Interval(0.0, float(low), float(high), a.size)

    def one_sided(a: Array, b: Array) -> Interval:  # 5 % on each side
        return bootstrap_interval(a, b, rng=draws, num_resamples=499, confidence=0.9)

    found = [coverage(compute, skewed, 1.0, 600) for compute in (right, of_the_runs, one_sided)]
    # BCa over 40 exponentials covers about 0.935; the standard error of a share is 0.010.
    assert found[0] == pytest.approx(0.935, abs=0.025)
    assert found[1] > 0.99
    assert found[2] < 0.91


def test_bootstrap_is_scipys_and_repeats() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 15))
    first, again = (bootstrap_interval(a, b, rng=np.random.default_rng(5)) for _ in range(2))
    assert first == again
    expected = stats.bootstrap((a - b,), np.mean, rng=np.random.default_rng(5)).confidence_interval
    assert (first.low, first.high) == (expected.low, expected.high)
    assert first.mean == pytest.approx(float((a - b).mean()), abs=1e-15)
    near = paired_interval(a, b)
    assert (first.low, first.high) == pytest.approx((near.low, near.high), abs=0.3 * (near.high - near.low))
    # All differences equal: the interval is a point, without scipy's warning.
    assert bootstrap_interval([3.0, 2.0], [1.0, 0.0], rng=rng) == Interval(2.0, 2.0, 2.0, 2)


def test_median_interval_is_two_of_the_differences() -> None:
    difference = np.arange(20.0)[::-1] ** 3
    interval = median_interval(difference, np.zeros(20))
    # Of 20 the 6th and the 15th: 1 - 2 P(Bin(20, 1/2) <= 5) = 0.959, while the 7th and 14th cover 0.885.
    assert (interval.mean, interval.low, interval.high, interval.count) == ((9**3 + 10**3) / 2, 5**3, 14**3, 20)


def test_coverage_of_the_median_with_heavy_tails() -> None:
    draws = np.random.default_rng(4)

    def heavy() -> Array:
        return np.exp(2 * draws.normal(size=20)) - 1  # median 0, mean 6.4

    def one_rank_short(a: Array, b: Array) -> Interval:
        ordered = np.sort(a - b)
        return Interval(0.0, float(ordered[6]), float(ordered[13]), 20)

    expected = 1 - 2 * float(stats.binom.cdf(5, 20, 0.5))
    found = [coverage(compute, heavy, 0.0, 1500) for compute in (median_interval, one_rank_short, paired_interval)]
    assert found[0] == pytest.approx(expected, abs=0.02)  # standard error 0.005
    assert found[1] < expected - 0.05
    assert found[2] < expected - 0.05  # the t-interval is about another number, the mean


def test_too_few_pairs_for_a_median() -> None:
    with pytest.raises(ValueError, match=r"at least 6 pairs for a median at 0\.95\. Found 5"):
        median_interval(range(5), [0] * 5)
    assert median_interval(range(6), [0] * 6).high == 5
    with pytest.raises(ValueError, match=r"at least 8 pairs for a median at 0\.99\. Found 7"):
        median_interval(range(7), [0] * 7, confidence=0.99)
    assert median_interval(range(8), [0] * 8, confidence=0.99).high == 7


def test_probability_of_improvement_by_hand() -> None:
    first, second = [1.0, 1, 1, 1, 1, 1, 1, 9, 5, 5], [2.0, 2, 2, 2, 2, 2, 2, 0, 5, 5]  # 7 lower, 1 higher, 2 ties
    lower = improvement_interval(first, second, lower_is_better=True)
    assert (lower.mean, lower.count) == (0.8, 10)
    # Clopper and Pearson: P(Bin(10, low) >= 7) = P(Bin(10, high) <= 9) = 0.025.
    assert stats.binom.sf(6, 10, lower.low) == pytest.approx(0.025)
    assert stats.binom.cdf(9, 10, lower.high) == pytest.approx(0.025)
    higher = improvement_interval(first, second, lower_is_better=False)
    assert (higher.mean, higher.low, higher.high) == pytest.approx((0.2, 1 - lower.high, 1 - lower.low))


@pytest.mark.parametrize("ties", [0.0, 0.4])
def test_coverage_of_the_probability_of_improvement(ties: float) -> None:
    """Exact, by adding up all outcomes of 20 pairs of which 0.75 improve, ties counted half."""
    truth, n = 0.75, 20
    covered = np.zeros(3)
    for wins, tied in ((w, t) for w in range(n + 1) for t in range(n + 1 - w if ties else 1)):
        probability = stats.multinomial.pmf([wins, tied, n - wins - tied], n, [truth - ties / 2, ties, 0.25 - ties / 2])
        if probability < 1e-6:
            continue
        first = np.repeat([1.0, 0.0, -1.0], [wins, tied, n - wins - tied])
        right = improvement_interval(first, np.zeros(n), lower_is_better=False)
        swapped = improvement_interval(first, np.zeros(n), lower_is_better=True)
        tie_as_loss = improvement_interval(first, np.full(n, 0.5), lower_is_better=False)
        covered += [probability * (i.low <= truth <= i.high) for i in (right, swapped, tie_as_loss)]
    assert 0.95 <= covered[0] < (1 if ties else 0.975)  # discrete, so at least 95 %; ties lengthen it
    assert covered[1] < 0.9
    assert bool(covered[2] < 0.9) == (ties > 0)


@pytest.mark.parametrize(
    "compute",
    [
        paired_interval,
        median_interval,
        lambda a, b: bootstrap_interval(a, b, rng=np.random.default_rng(0)),
        lambda a, b: improvement_interval(a, b, lower_is_better=True),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_interval_drops_failed_runs(compute: Callable[[list[float], list[float]], Interval], value: float) -> None:
    with pytest.raises(ValueError, match="Found 1 pairs that are not"):
        compute([value, *range(9)], [0.0] * 10)
