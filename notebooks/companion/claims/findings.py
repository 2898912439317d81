"""What was found, in sentences that the verdicts and intervals of registered rows write."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from companion.claims.lines import decisive
from companion.claims.register import Claim
from companion.claims.verdicts import MINUS


@dataclass(frozen=True)
class Unit:
    """What a measure is printed in.

    Attributes:
        name: Follows a number.
        of: From the measure's own unit.
        decimals: That are printed.
    """

    name: str
    of: Callable[[float], float]
    decimals: int

    def text(self, value: float) -> str:
        """A number, without the unit's name."""
        return f"{self.of(value):z.{self.decimals}f}".replace("-", MINUS)


PER_CENT_OF_LOSS = Unit(" %", lambda difference: 100 * math.expm1(difference), 0)  # of a difference of logs
MILLINATS = Unit(" thousandths of a nat", lambda difference: 1000 * difference, 1)
POINTS = Unit(" points of AUC", lambda difference: 100 * difference, 2)
PER_CENT = Unit(" %", lambda share: 100 * share, 0)
CORRELATION = Unit("", lambda value: value, 2)


@dataclass(frozen=True)
class Finding:
    """A sentence whose wording the verdicts decide.

    Attributes:
        yes: What is so when the rows hold.
        no: What is so when they do not.
        measure: What the numbers are.
        rows: The registered rows that decide -> on which data, in words, and in what to print the numbers.
    """

    yes: str
    no: str
    measure: str
    rows: Mapping[str, tuple[str, Unit]]

    def sentence(self, claims: Mapping[str, Claim], found: pd.DataFrame, verdicts: Mapping[str, str]) -> str:
        """Say what was found.

        Args:
            claims: The register.
            found: Of `companion.claims.ledger.evidence`.
            verdicts: Of `companion.claims.evidence.rulings`.
        """
        rulings = [verdicts[name] for name in self.rows]
        numbers = [
            where + _number(claims[name], found[found["claim"] == name], unit)
            for name, (where, unit) in self.rows.items()
        ]
        if len(set(rulings)) > 1:
            numbers = [f"{number}: {ruling}" for number, ruling in zip(numbers, rulings, strict=True)]
        return f"**{self._headline(rulings)}** {self.measure}. {'; '.join(numbers)}."

    def _headline(self, rulings: Sequence[str]) -> str:
        """One clause for all rows where they agree, else on how many of them it is so."""
        so, not_so = ("holds", "holds in part"), ("does not hold",)
        if set(rulings) <= set(so):
            return self.yes + ", if perhaps by less than what counts" * ("holds" not in rulings) + "."
        for sure, words in ((so, self.yes), (not_so, self.no)):
            count = sum(ruling in sure for ruling in rulings)
            if count == len(rulings):
                return f"{words}."
            if count:
                return f"{words} on {count} of {len(rulings)} kinds of data."
        return f"Open: {self.yes}?"


def _number(claim: Claim, found: pd.DataFrame, unit: Unit) -> str:
    """The comparison that decides, named where it is one of several, with what would count."""
    one = found.iloc[decisive(claim, found)]
    mean, low, high = (unit.text(float(one[side])) for side in ("mean", "low", "high"))
    sign = -1 if claim.direction == "lower" else 1
    counts = ("less than " if claim.direction == "within" else "") + unit.text(sign * claim.smallest)
    against = f" ({one['comparison']})" if len(found) > 1 else ""
    return f"{against} {mean}{unit.name} [{low}, {high}], asked {counts}"


FINDINGS = (
    Finding(
        "AdaTask beats tuned constant weights",
        "AdaTask does not beat tuned constant weights",
        "AdaTask minus joint training with constants, mean over tasks",
        {
            "A4-static": ("synthetic tasks' loss", PER_CENT_OF_LOSS),
            "A4-scenes-static": ("loss on scenes", PER_CENT_OF_LOSS),
            "A4-recommendation-static": ("film ratings", POINTS),
        },
    ),
    Finding(
        "One task dominates many shared parameters without anyone's planting it",
        "No task dominates many shared parameters unless it is planted",
        "Parameters of which one task has more than nine tenths of the updates",
        {"A1-scenes": ("scenes", PER_CENT), "A1-recommendation": ("film ratings", PER_CENT)},
    ),
    Finding(
        "HydaLearn beats tuned constant weights and all other baselines on real data",
        "HydaLearn does not beat tuned constant weights and all other baselines on real data",
        "Main task's test log loss, HydaLearn minus the baseline",
        {"H3-loss-credit": ("credit", MILLINATS), "H3-loss-mortality": ("mortality", MILLINATS)},
    ),
    Finding(
        "HydaLearn's weights follow the mini-batch as a large sample's gradient would set them",
        "HydaLearn's weights do not follow the mini-batch as a large sample's gradient would set them",
        "Correlation with the weights that held-out gradients give",
        {
            "H1-match": ("synthetic", CORRELATION),
            "H1-match-credit": ("credit", CORRELATION),
            "H1-match-mortality": ("mortality", CORRELATION),
        },
    ),
    Finding(
        "The two together do better than each alone",
        "The two together do not do better than each alone",
        "Both minus one of them",
        {
            "H3-composed-credit": ("log loss on credit", MILLINATS),
            "H3-composed-recommendation": ("film ratings", POINTS),
        },
    ),
)


def in_sentences(claims: Mapping[str, Claim], found: pd.DataFrame, verdicts: Mapping[str, str]) -> str:
    """All findings as a numbered list in Markdown."""
    return "\n".join(f"{n}. {one.sentence(claims, found, verdicts)}" for n, one in enumerate(FINDINGS, start=1))
