"""From intervals to a verdict, and to the words that print it: computed by one rule, never typed."""

from collections.abc import Sequence
from typing import Literal

from companion.claims.fields import Direction
from companion.claims.register import Claim
from companion.claims.statistics import Interval

Verdict = Literal["holds", "holds in part", "does not hold", "undecided", "uninterpretable"]
MINUS = "\N{MINUS SIGN}"


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
    """Compute the verdict on a claim about every comparison: one refutes it, and else one undecided leaves it open.

    The logic is Kleene's, of true, false and unknown; "holds in part" is what all of them say at least.
    """
    order: tuple[Verdict, ...] = ("does not hold", "undecided", "holds in part", "holds")
    return min(verdicts, key=order.index)


def rule_on(claim: Claim, intervals: Sequence[Interval], control: Verdict | None = None) -> Verdict:
    """Compute the verdict on a claim from the intervals at hand, which may be fewer than are registered.

    Args:
        claim: As registered.
        intervals: Of its comparisons.
        control: The verdict on its control, if it has one: where that fails, the claim's test says nothing.
    """
    if control not in (None, "holds", "holds in part"):
        return "uninterpretable"
    return combine([verdict(interval, claim.direction, claim.smallest) for interval in intervals])


def ends(intervals: Sequence[Interval], decimals: int) -> tuple[str, str, str, str]:
    """The least and the greatest mean, the lowest and the highest limit, as text."""
    means = [interval.mean for interval in intervals]
    low, high = min(interval.low for interval in intervals), max(interval.high for interval in intervals)
    least, most, lowest, highest = (f"{value:z.{decimals}f}" for value in (min(means), max(means), low, high))
    return least, most, lowest, highest


def asked(claim: Claim) -> str:
    """From where on an effect counts, in words."""
    bound = {"higher": "at least ", "lower": "at most -", "within": "within \N{PLUS-MINUS SIGN}"}[claim.direction]
    return f"{bound}{claim.smallest:g}"


def sentence(claim: Claim, intervals: Sequence[Interval], found: str) -> str:
    """Say the verdict on a claim, what was found, and what was asked; fewer comparisons than registered are said so."""
    here = len(intervals)
    some = "" if here == claim.comparisons else f" ({here} of {claim.comparisons} comparisons here)"
    return f"{claim.id}: {rule_on(claim, intervals)}{some}. {found}, asked {asked(claim)}"
