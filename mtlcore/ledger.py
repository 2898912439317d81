"""The ledger: every registered claim with the verdict that the committed full-profile evidence gives it.

Nobody types a verdict. `python -m mtlcore.ledger` computes them from `figures/full/*_claims.csv` by the rules of
`claims.toml`, draws them (the full profile of notebook 00), records notebook 00 anew and writes the matrix between the
two markers of the README; `tests/test_ledger.py` fails when one of these is stale.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mtlcore import notebooks, paths
from mtlcore.claims import DOMAINS, Claim, NotTestable, load_claims, load_not_testable
from mtlcore.evidence import intervals_of
from mtlcore.figures import read_manifest
from mtlcore.verdicts import Direction, combine, verdict

BEGIN, END = "<!-- ledger: written by make claims -->", "<!-- end of ledger -->"
NO_EVIDENCE, NOT_TESTABLE = "no full run yet", "not testable here"
OFFICIAL = "the papers' data"  # the domain of what cannot be tested here
OVERVIEW = "00_overview"
SYMBOLS = {
    "holds": "\N{HEAVY CHECK MARK}",
    "holds in part": "\N{CIRCLE WITH LEFT HALF BLACK}",
    "undecided": "\N{WHITE CIRCLE}",
    "does not hold": "\N{HEAVY BALLOT X}",
    NO_EVIDENCE: "\N{HORIZONTAL ELLIPSIS}",
    NOT_TESTABLE: "\N{EN DASH}",
}
BOUNDS: dict[Direction, str] = {
    "higher": "\N{GREATER-THAN OR EQUAL TO} ",
    "lower": "\N{LESS-THAN OR EQUAL TO} \N{MINUS SIGN}",
    "within": "within \N{PLUS-MINUS SIGN}",
}
IN_WORDS = {
    "H1": "the best weights follow the mini-batch",
    "H2": "an auxiliary task's relevance drifts during learning",
    "H3": "HydaLearn beats constant weights",
    "A1": "one task dominates many shared parameters",
    "A2": "because of the accumulated gradients",
    "A3": "an accumulator per task balances every layer",
    "A4": "AdaTask serves the dominated task and the average best",
    "A5": "with AdaGrad, RMSProp and Adam alike",
    "A6": "AdaTask combines with methods for the gradients",
}


def evidence(folder: Path = paths.COMMITTED_FIGURES) -> pd.DataFrame:
    """The evidence tables of all notebooks of a folder of figures, one below the other; empty when there are none."""
    stems = [stem for stem in read_manifest(folder) if stem.endswith("_claims")]
    tables = [pd.read_csv(folder / f"{stem}.csv") for stem in stems]
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
        One row per registered claim, by claim and domain: claim, domain, verdict, effect (in the measure's units, with
        the interval of a single comparison), counts_from, comparisons, notebook, certainty.

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
    rows = [_row(claim, found[found["claim"] == name]) for name, claim in claims.items()]
    rows += [
        {"claim": name, "domain": OFFICIAL, "verdict": NOT_TESTABLE, "effect": "", "counts_from": "", "comparisons": ""}
        | {"notebook": claim.notebook, "certainty": claim.certainty}
        for name, claim in barred.items()
    ]
    rows.sort(key=lambda row: (list(IN_WORDS).index(row["claim"][:2]), [*DOMAINS, OFFICIAL].index(row["domain"])))
    return pd.DataFrame(rows)


def _row(claim: Claim, found: pd.DataFrame) -> dict[str, str]:
    intervals = intervals_of(found)
    if len(intervals) > claim.comparisons:
        raise ValueError(
            f"The evidence for {claim.id} should be at most the {claim.comparisons} registered comparisons. "
            f"Found {len(intervals)}. Register them, or leave them out."
        )
    ruling, effect = NO_EVIDENCE, ""
    if intervals:
        ruling = combine([verdict(interval, claim.direction, claim.smallest) for interval in intervals])
        means = sorted(interval.mean for interval in intervals)
        least, most, low, high = (
            f"{value:z.{decimals(claim)}f}" for value in (means[0], means[-1], intervals[0].low, intervals[0].high)
        )
        effect = f"{least} [{low}, {high}]" if len(means) == 1 else f"{least} to {most}"
    return {
        "claim": claim.id,
        "domain": claim.domain,
        "verdict": ruling,
        "effect": effect.replace("-", "\N{MINUS SIGN}"),
        "counts_from": f"{BOUNDS[claim.direction]}{claim.smallest:g}",
        "comparisons": f"{len(intervals)} of {claim.comparisons}",
        "notebook": claim.notebook,
        "certainty": claim.certainty,
    }


def _counts(verdicts: pd.Series) -> dict[str, int]:
    """How often each verdict is there, in the order of `SYMBOLS`; none that is not."""
    return {name: count for name in SYMBOLS if (count := int((verdicts == name).sum()))}


def in_one_sentence(table: pd.DataFrame) -> str:
    """How many claims there are, by verdict."""
    listed = ", ".join(f"{count} {SYMBOLS[name]} {name}" for name, count in _counts(table["verdict"]).items())
    return f"{len(table)} registered claims: {listed}."


def full_table(table: pd.DataFrame) -> str:
    """The ledger as a Markdown table, a heading per claim, with links from the folder of the notebooks."""
    lines = []
    for claim, rows in table.groupby(table["claim"].str[:2], sort=False):
        lines += [f"\n**{claim}: {IN_WORDS[str(claim)]}**\n"]
        lines += ["| row | data | verdict | effect | counts from | comparisons | source | in |", "|" + "---|" * 8]
        lines += [
            f"| {r['claim']} | {r['domain']} | {SYMBOLS[r['verdict']]} {r['verdict']} | {r['effect']} "
            f"| {r['counts_from']} | {r['comparisons']} | {r['certainty']} "
            f"| [{r['notebook'][:2]}]({r['notebook']}.ipynb) |"
            for r in rows.to_dict("records")
        ]
    return "\n".join(lines).strip()


def _cell(rows: pd.DataFrame) -> str:
    """One verdict in words where all rows agree, else how many have which; and where they come from."""
    if rows.empty:
        return ""
    counts = _counts(rows["verdict"])
    if len(counts) == 1:
        name, count = next(iter(counts.items()))
        words = f"{SYMBOLS[name]} {name}" + f" ({count})" * (count > 1)
    else:
        words = " ".join(f"{SYMBOLS[name]}\N{NO-BREAK SPACE}{count}" for name, count in counts.items())
    links = " ".join(f"[{name[:2]}](notebooks/{name}.ipynb)" for name in sorted(set(rows["notebook"])))
    return f"{words}<br>{links}"


def matrix(table: pd.DataFrame) -> str:
    """The ledger at a glance: claims by domains, as Markdown with links from the README's folder."""
    domains = [*DOMAINS, OFFICIAL]
    lines = [f"| claim | {' | '.join(domains)} |", "|---" * (len(domains) + 1) + "|"]
    derived = table["certainty"] == "D"  # no paper claims it
    for claim, words in IN_WORDS.items():
        rows = table[table["claim"].str.startswith(claim) & ~derived]
        cells = [_cell(rows[rows["domain"] == domain]) for domain in domains]
        lines.append(f"| **{claim}** {words} | {' | '.join(cells)} |")
    key = "Where the rows of a cell disagree it counts them, one row per measure; a notebook's number leads to it."
    if derived.any():
        key += f" {derived.sum()} of them are about what is derived here, not claimed by a paper, and stand in no cell."
    whole = f"[Notebook 00](notebooks/{OVERVIEW}.ipynb) has each row with its effect, and all of them in one picture."
    return "\n".join([*lines, "", f"{in_one_sentence(table)} {key} {whole}"])


def with_ledger(text: str, content: str) -> str:
    """Put content between the two markers of a text.

    Raises:
        ValueError: The text has not exactly one pair of markers.
    """
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", flags=re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"The README should hold one pair of markers {BEGIN} ... {END}. Found another number. Add it.")
    return pattern.sub(lambda _: f"{BEGIN}\n{content}\n{END}", text)


def main(readme: Path = paths.ROOT / "README.md") -> None:
    """Draw the verdicts, record notebook 00 and write the README's matrix, each in one step, the README last."""
    table = ledger(load_claims(), evidence(), load_not_testable())
    text = with_ledger(readme.read_text(encoding="utf-8"), matrix(table))
    overview = paths.NOTEBOOKS / f"{OVERVIEW}.ipynb"
    if overview.exists():
        notebooks.execute(overview, paths.BUILD / "claims" / overview.name, {"profile": "full"})
        notebooks.record(overview)
    temporary = readme.with_name(f".{readme.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(readme)
    print(in_one_sentence(table))
    print(f"{readme.name}, notebook 00 and figures/full/00_verdicts are up to date.")


if __name__ == "__main__":
    main()
