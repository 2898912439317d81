"""Intervals of paired differences: their parts of variance, their power, and the side that they are on."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


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


@dataclass(frozen=True)
class Estimate(Interval):
    """An interval that knows where its width comes from.

    Attributes:
        split: Share of the variance of the mean that is due to the split of the data.
        initialisation: Share due to initial weights and the order of batches.
        tuning: Share due to the choice of the settings.
    """

    split: float
    initialisation: float
    tuning: float


class TuningPart(NamedTuple):
    """What the choice of settings adds to the variance of a mean difference, and how many seeds chose."""

    variance: float
    seeds: int


@dataclass(frozen=True)
class Retuned:
    """One method's final numbers at the settings that its tuning might have chosen.

    Attributes:
        values: `[C, S, I]` for C settings, the chosen one first, S splits and I initialisations.
        draws: `[B]`: which of the C settings each of B bootstrap samples of the tuning seeds chooses; C where it
            chooses one that was not trained.
        seeds: How many tuning seeds there were.
    """

    values: Array
    draws: NDArray[np.int64]
    seeds: int

    def drawn(self) -> Array:
        """The mean at the setting of each draw, `[B]`; one not trained counts as the farthest that was."""
        means = self.values.mean(axis=(1, 2))  # [C]
        return np.append(means, means[np.abs(means - means[0]).argmax()])[self.draws]

    def noise(self) -> float:
        """How much `drawn` would vary between settings that are alike: their means are those of few runs."""
        count = len(self.values)
        shares = np.bincount(self.draws, minlength=count + 1)[:count] / len(self.draws)
        apart = (self.values - self.values[0]).reshape(count, -1)  # [C, S I]
        return float((shares * (1 - shares) * apart.var(axis=1, ddof=1)).sum() / apart.shape[1])


def tuning_part(first: Retuned, second: Retuned) -> TuningPart:
    """Compute how much the difference of two methods varies with what their tuning chooses (our design).

    Both methods' draws are of the same bootstrap samples of the same tuning seeds. Their variance holds the noise of
    the final runs at each setting too, which is taken off.
    """
    if len(first.values) == len(second.values) == 1:  # without rivals there is nothing but rounding
        return TuningPart(0.0, min(first.seeds, second.seeds))
    variance = float((first.drawn() - second.drawn()).var()) - first.noise() - second.noise()
    return TuningPart(max(variance, 0.0), min(first.seeds, second.seeds))


def estimate(
    differences: ArrayLike, *, test_to_train: float = 0.0, tuning: TuningPart | None = None, confidence: float = 0.95
) -> Estimate:
    """Compute the interval of a mean difference over splits and initialisations, and the parts of its variance.

    A difference is `mu + split_s + initialisation_si`. With the mean squares between splits MSB and within them MSW,
    the variance of the mean is `MSB / (S I) + (n_test / n_train) (MSB - MSW) / I + tuning`: the term of Nadeau and
    Bengio (see `paired_interval`) belongs to the split's part alone, which cannot be negative. Degrees of freedom
    after Satterthwaite (1946), at least half of the S - 1 between splits: fewer make intervals that cover too often
    (by simulation, `tests/companion/test_statistics.py`).

    Args:
        differences: Paired differences `[S, I]`, or `[S]` where each split, or seed of a simulation, has one run.
        test_to_train: As of `paired_interval`; 0 for what has no test fold, such as a share of updates.
        tuning: What the choice of settings adds.
        confidence: Level of the interval.

    Raises:
        ValueError: There are fewer than two splits, or a value is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            "Parameter `differences` should be finite numbers by split and initialisation, for at least 2 splits. "
            f"Found shape {values.shape}, {(~np.isfinite(values)).sum()} not finite. Report failed runs apart."
        )
    splits, inits = values.shape
    tuned, tuning_df = (tuning.variance, max(tuning.seeds - 1, 1)) if tuning else (0.0, 1)  # one seed: no variance
    between = inits * float(values.mean(axis=1).var(ddof=1))
    freedom = splits * (inits - 1)
    within = float(((values - values.mean(axis=1, keepdims=True)) ** 2).sum() / freedom) if freedom else 0.0
    split = max(between - within, 0.0) / inits * (1 / splits + test_to_train)
    initialisation = min(between, within) / (splits * inits)
    variance = split + initialisation + tuned
    terms = [(between * (1 / splits + test_to_train) / inits, splits - 1), (tuned, tuning_df)]
    terms += [(within * test_to_train / inits, freedom)] if freedom else []
    spread = sum(term**2 / df for term, df in terms)
    df = max(variance**2 / spread, (splits - 1) / 2) if spread else splits - 1
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * variance**0.5
    mean, whole = float(values.mean()), variance or 1.0
    return Estimate(mean, mean - half, mean + half, splits, split / whole, initialisation / whole, tuned / whole)


def tuned_difference(
    first: Retuned, second: Retuned, *, test_to_train: float = 0.0, confidence: float = 0.95
) -> tuple[Estimate, int]:
    """Compute the interval of `first - second` with what the tuning of both adds.

    All of it is of the same splits, or seeds: those at which no run failed, at the chosen settings and at their rivals.
    Only initialisations that both have are there: costly methods may have run on fewer.

    Args:
        first: A method.
        second: Another, on the same splits and tuning seeds.
        test_to_train: As of `estimate`.
        confidence: Level of the interval.

    Returns:
        The interval, and how many splits were left out because a run failed there.
    """
    inits = min(each.values.shape[2] for each in (first, second))
    values = np.concatenate([each.values[..., :inits] for each in (first, second)])  # [C, S, I] of both
    sound = np.isfinite(values).all(axis=(0, 2))  # [S]
    ours, theirs = (replace(each, values=each.values[:, sound, :inits]) for each in (first, second))
    part = tuning_part(ours, theirs)
    apart = ours.values[0] - theirs.values[0]  # [S, I]
    found = estimate(apart, test_to_train=test_to_train, tuning=part, confidence=confidence)
    return found, int((~sound).sum())


def power(interval: Interval, smallest: float, confidence: float = 0.95) -> float:
    """The chance that an interval of this width rules out an effect of 0, and finds one of twice the smallest.

    The two are the same by symmetry: the interval, whose half width is `half`, must end before `smallest` where the
    truth is 0, and begin after it where the truth is twice that.

    Args:
        interval: At the confidence given.
        smallest: The smallest effect that counts, positive.
        confidence: Of the interval.
    """
    half, df = (interval.high - interval.low) / 2, interval.count - 1
    quantile = float(stats.t.ppf((1 + confidence) / 2, df))
    return float(stats.t.cdf((smallest / half - 1) * quantile, df)) if half > 0 else 1.0
