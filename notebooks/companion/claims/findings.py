"""What was found, in sentences that the verdicts and intervals of registered rows write."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from IPython.display import Markdown, display

from companion.claims.evidence import evidence_table, rulings
from companion.claims.lines import decisive
from companion.claims.register import Claim
from companion.claims.statistics import Interval
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


PER_CENT_OF_LOSS = Unit(" %", lambda difference: 100 * math.expm1(difference), 1)  # of a difference of logs
THOUSANDTHS = Unit("", lambda difference: 1000 * difference, 1)  # of a log loss, in nats
POINTS = Unit(" points of AUC", lambda difference: 100 * difference, 2)
PER_CENT = Unit(" %", lambda share: 100 * share, 0)
SHARE = Unit("", lambda share: share, 2)


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
        """Say what was found; rows that no evidence decides yet are left out.

        Args:
            claims: The register.
            found: Of `companion.claims.ledger.evidence`.
            verdicts: Of `companion.claims.evidence.rulings`.
        """
        decided = {name: shown for name, shown in self.rows.items() if name in verdicts}
        rulings = [verdicts[name] for name in decided]
        numbers = [
            where + _number(claims[name], found[found["claim"] == name], unit)
            for name, (where, unit) in decided.items()
        ]
        if len(set(rulings)) > 1:
            numbers = [f"{number}, {ruling}" for number, ruling in zip(numbers, rulings, strict=True)]
        return f"**{self._headline(rulings)}** {self.measure}: {'; '.join(numbers)}."

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
        "HydaLearn beats single-task training, equal weights and tuned constant weights on real data",
        "HydaLearn does not beat single-task training, equal weights and tuned constant weights alike on real data",
        "Main task's test log loss, HydaLearn minus the baseline",
        {"H3-loss-credit": ("credit", PER_CENT_OF_LOSS), "H3-loss-mortality": ("mortality", PER_CENT_OF_LOSS)},
    ),
    Finding(
        "The best weights of a mini-batch follow its composition",
        "The best weights of a mini-batch hardly follow its composition",
        "Part of their variance that composition explains",
        {
            "H1-composition": ("synthetic", PER_CENT),
            "H1-composition-credit": ("credit", PER_CENT),
            "H1-composition-mortality": ("mortality", PER_CENT),
        },
    ),
    Finding(
        "One task comes to dominate many shared parameters by itself",
        "No task comes to dominate many shared parameters by itself",
        "Parameters of which one task has more than nine tenths of the updates, beyond a task against itself",
        {
            "A1-equal": ("synthetic", PER_CENT),
            "A1-scenes": ("scenes", PER_CENT),
            "A1-recommendation-equal": ("film ratings", PER_CENT),
        },
    ),
    Finding(
        "AdaTask serves the tasks better than equal and tuned constant weights",
        "AdaTask does not serve the tasks better than equal and tuned constant weights",
        "AdaTask minus joint training, mean over tasks",
        {
            "A4-average": ("synthetic tasks' loss", PER_CENT_OF_LOSS),
            "A4-scenes-average": ("measures on scenes", PER_CENT),
            "A4-recommendation-average": ("film ratings", POINTS),
        },
    ),
    Finding(
        "The two together do better than each alone",
        "The two together do not do better than each alone",
        "Both minus one of them",
        {
            "H3-composed-cards-credit": ("credit cards' test loss", PER_CENT_OF_LOSS),
            "H3-composed-credit": ("thousandths of a nat of log loss on mortgages", THOUSANDTHS),
            "H3-composed-recommendation": ("film ratings", POINTS),
        },
    ),
)


def told(
    findings: Sequence[Finding], claims: Mapping[str, Claim], evidence: Mapping[str, Mapping[str, Interval]]
) -> list[str]:
    """The sentences of a notebook's findings, from the evidence that it has computed."""
    table = evidence_table(claims, evidence)
    verdicts = rulings(claims, table)
    return [finding.sentence(claims, table, verdicts) for finding in findings]


def tell(*sentences: str) -> None:
    """Show what a notebook found as a numbered list, which breaks into lines on a page of any width.

    Args:
        sentences: Markdown.
    """
    display(Markdown(numbered(sentences)))


def numbered(sentences: Iterable[str]) -> str:
    """A numbered list in Markdown."""
    return "\n".join(f"{n}. {' '.join(text.split())}" for n, text in enumerate(sentences, start=1))


def in_sentences(claims: Mapping[str, Claim], found: pd.DataFrame, verdicts: Mapping[str, str]) -> str:
    """The findings of all notebooks on which there is evidence."""
    decided = [one for one in FINDINGS if verdicts.keys() & one.rows.keys()]
    return numbered(one.sentence(claims, found, verdicts) for one in decided)
