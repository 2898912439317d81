"""From an interval to a verdict: computed by one rule, never typed."""

from collections.abc import Sequence
from typing import Literal

from companion.claims.statistics import Interval

Verdict = Literal["holds", "holds in part", "does not hold", "undecided"]
Direction = Literal["higher", "lower", "within"]


def verdict(interval: Interval, direction: Direction, smallest: float) -> Verdict:
    """Compute what an interval says about an effect.

    With direction "higher" (and "lower" for the interval's mirror image):

    - "holds": all of it is at least `smallest`;
    - "does not hold": all of it is below `smallest`, so an effect that counts is ruled out, whatever its sign;
    - "holds in part": all of it is above 0, but not all at least `smallest`: the direction is sure, the size is not;
    - "undecided": it reaches from 0 or below to `smallest` or above.

    With "within", for claims that there is no difference: "holds" when all of it lies between -`smallest` and
    `smallest`, "does not hold" when it lies outside, else "undecided".

    Args:
        interval: Of the registered measure.
        direction: Where the measure lies when the claim is true.
        smallest: The smallest effect that counts, positive.

    Raises:
        ValueError: A limit is not a number.
    """
    low, high = interval.low, interval.high
    if not low <= high:
        raise ValueError(
            f"Parameter `interval` should have limits in order. Found [{low}, {high}]. Report failed runs apart."
        )
    if direction == "within":
        if -smallest < low and high < smallest:
            return "holds"
        return "does not hold" if low >= smallest or high <= -smallest else "undecided"
    if direction == "lower":
        low, high = -high, -low
    if low >= smallest:
        return "holds"
    if high < smallest:
        return "does not hold"
    return "holds in part" if low > 0 else "undecided"


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Compute the verdict on a claim about every comparison: all alike, or in part when some hold, else undecided."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "holds in part" if {"holds", "holds in part"} & set(verdicts) else "undecided"
