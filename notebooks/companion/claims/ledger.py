"""The ledger: every registered claim with the verdict that the committed full-profile evidence gives it.

Nobody types a verdict. `python -m companion.claims.ledger` computes them from `figures/full/*_claims.csv` by the rules
of `companion.claims.verdicts`, draws them (the full profile of notebook 00), records notebook 00 anew and writes what
was found between the two markers of the README; `tests/companion/test_ledger.py` fails when one of these is stale.
"""

import io
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from companion.claims.evidence import intervals_of, rulings
from companion.claims.fields import Direction
from companion.claims.findings import in_sentences
from companion.claims.ledger_tables import OVERVIEW, in_one_sentence
from companion.claims.register import DOMAINS, Claim, NotTestable, load_claims, load_not_testable
from companion.claims.statistics import Interval
from companion.claims.verdicts import MINUS, Verdict, ends
from companion.claims.words import IN_WORDS, NO_EVIDENCE, NOT_TESTABLE, OFFICIAL
from companion.store import paths
from companion.store.manifest import read_manifest, read_numbers
from companion.store.writing import sentence, write

BEGIN, END = "<!-- ledger: written by make claims -->", "<!-- end of ledger -->"
BOUNDS: dict[Direction, str] = {
    "higher": "\N{GREATER-THAN OR EQUAL TO} ",
    "lower": "\N{LESS-THAN OR EQUAL TO} \N{MINUS SIGN}",
    "within": "within \N{PLUS-MINUS SIGN}",
}


def evidence(folder: Path = paths.COMMITTED_FIGURES) -> pd.DataFrame:
    """The evidence tables of all notebooks of a folder of figures, one below the other; empty when there are none."""
    stems = [stem for stem in read_manifest(folder) if stem.endswith("_claims")]
    tables = [pd.read_csv(io.BytesIO(read_numbers(folder, stem))) for stem in stems]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["claim"])


def decimals(claim: Claim) -> int:
    """How many decimals of an effect are printed: a tenth of the smallest effect that counts is seen."""
    return 1 - math.floor(math.log10(claim.smallest))


def ledger(
    claims: Mapping[str, Claim], found: pd.DataFrame, not_testable: Mapping[str, NotTestable] | None = None
) -> pd.DataFrame:
    """Compute every claim's verdict.

    Args:
        claims: The rows that evidence decides.
        found: Of `evidence`.
        not_testable: The rows that nothing here can decide.

    Returns:
        One row per registered claim, by group and domain: claim, group, domain, kind, verdict, effect (in the measure's
        units, with the interval of a single comparison), counts_from, comparisons, notebook, certainty.

    Raises:
        ValueError: Evidence for a claim that is not registered or cannot be tested here, or more comparisons than are
            registered.
    """
    barred = not_testable or {}
    for name in found["claim"]:
        if name in barred:
            raise ValueError(
                f"There should be no evidence for {name}, which is registered as not testable here. Found some. "
                "Register a claim with a measure first."
            )
        if name not in claims:
            raise ValueError(f"The evidence should be about registered claims. Found {name!r}. Run make full anew.")
    ruled = rulings(claims, found)
    rows = [_row(claim, found[found["claim"] == name], ruled.get(name)) for name, claim in claims.items()]
    rows += [
        {"claim": name, "group": name[:2], "domain": OFFICIAL, "kind": "", "verdict": NOT_TESTABLE, "effect": ""}
        | {"counts_from": "", "comparisons": "", "notebook": claim.notebook, "certainty": claim.certainty}
        for name, claim in barred.items()
    ]
    rows.sort(key=lambda row: (list(IN_WORDS).index(row["group"]), [*DOMAINS, OFFICIAL].index(row["domain"])))
    return pd.DataFrame(rows)


def effect(claim: Claim, intervals: Sequence[Interval]) -> str:
    """An effect with the interval of a single comparison, the least and the greatest of several, or nothing."""
    if not intervals:
        return ""
    least, most, low, high = ends(intervals, decimals(claim))
    return f"{least} [{low}, {high}]" if len(intervals) == 1 else f"{least} to {most}"


def _row(claim: Claim, found: pd.DataFrame, ruling: Verdict | None) -> dict[str, str]:
    intervals = intervals_of(found)
    if len(intervals) > claim.comparisons:
        raise ValueError(
            f"The evidence for {claim.id} should be at most the {claim.comparisons} registered comparisons. "
            f"Found {len(intervals)}. Register them, or leave them out."
        )
    return {
        "claim": claim.id,
        "group": claim.group,
        "domain": claim.domain,
        "kind": claim.kind,
        "verdict": ruling or NO_EVIDENCE,
        "effect": effect(claim, intervals).replace("-", MINUS),
        "counts_from": f"{BOUNDS[claim.direction]}{claim.smallest:g}",
        "comparisons": f"{len(intervals)} of {claim.comparisons}",
        "notebook": claim.notebook,
        "certainty": claim.certainty,
    }


def with_ledger(text: str, content: str) -> str:
    """Put content between the two markers of a text.

    Raises:
        ValueError: The text has not exactly one pair of markers.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", flags=re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"The README should hold one pair of markers {BEGIN} ... {END}. Found another number. Add it.")
    return pattern.sub(lambda _: f"{BEGIN}\n{content}\n{END}", text)


def write_readme(readme: Path, content: str) -> None:
    """Put what was found into a README, in one step.

    Raises:
        ValueError: The README has not exactly one pair of markers; it stays as it was.
        OSError: It cannot be written; it stays as it was.
    """
    write({readme: with_ledger(readme.read_text(encoding="utf-8"), content).encode()})


def what_was_found(claims: Mapping[str, Claim], found: pd.DataFrame, table: pd.DataFrame) -> str:
    """The README's part: the findings, and how many rows of each kind have which verdict."""
    return f"{in_sentences(claims, found, rulings(claims, found))}\n\n{in_one_sentence(table)}"


def main() -> int:
    """Draw the verdicts, record notebook 00 and write the README's part, in this order; returns the exit status."""
    from companion.runner import notebooks  # takes a second, which notebook 00 need not wait for

    try:
        claims, found = load_claims(), evidence()
        table = ledger(claims, found, load_not_testable())
        overview = str(paths.NOTEBOOKS / f"{OVERVIEW}.ipynb")
        drawn = str(paths.BUILD / "claims" / f"{OVERVIEW}.ipynb")
        for command in (["run", overview, "--output", drawn, "-p", "profile=full"], ["record", overview]):
            if notebooks.main(command):  # it has said why
                return 1
        write_readme(paths.ROOT / "README.md", what_was_found(claims, found, table))
    except (ValueError, OSError) as error:
        print(sentence(error) if isinstance(error, OSError) else error, file=sys.stderr)
        return 1
    print(in_one_sentence(table))
    print("figures/full/00_verdicts, notebook 00 and README.md are up to date.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
