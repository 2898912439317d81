"""The ledger: every registered claim with the verdict that the committed full-profile evidence gives it.

Nobody types a verdict. `python -m mtlcore.ledger` computes them from `figures/full/*_claims.csv` by the rules of
`claims.toml` and writes them between the two markers of the README; `tests/test_ledger.py` fails when they are stale.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mtlcore import paths
from mtlcore.claims import Claim, load_claims
from mtlcore.evidence import intervals_of
from mtlcore.figures import read_manifest
from mtlcore.verdicts import Direction, combine, verdict

BEGIN, END = "<!-- ledger: written by make claims -->", "<!-- end of ledger -->"
NO_EVIDENCE = "no full run yet"
BOUNDS: dict[Direction, str] = {
    "higher": "\N{GREATER-THAN OR EQUAL TO} ",
    "lower": "\N{LESS-THAN OR EQUAL TO} \N{MINUS SIGN}",
    "within": "within \N{PLUS-MINUS SIGN}",
}


def evidence(folder: Path = paths.COMMITTED_FIGURES) -> pd.DataFrame:
    """The evidence tables of all notebooks of a folder of figures, one below the other; empty when there are none."""
    stems = [stem for stem in read_manifest(folder) if stem.endswith("_claims")]
    tables = [pd.read_csv(folder / f"{stem}.csv") for stem in stems]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["claim"])


def ledger(claims: Mapping[str, Claim], found: pd.DataFrame) -> pd.DataFrame:
    """Compute every claim's verdict.

    Args:
        claims: The register.
        found: Of `evidence`.

    Returns:
        One row per registered claim: claim, verdict, effect (in the measure's units, with the interval of a single
        comparison), counts_from, comparisons, notebook, figure.

    Raises:
        ValueError: Evidence for a claim that is not registered, or more comparisons than are registered.
    """
    unknown = sorted(set(found["claim"]) - set(claims))
    if unknown:
        raise ValueError(f"The evidence should be about registered claims. Found {unknown[0]!r}. Run make full anew.")
    rows = []
    for name, claim in claims.items():
        intervals = intervals_of(found[found["claim"] == name])
        if len(intervals) > claim.comparisons:
            raise ValueError(
                f"The evidence for {name} should be at most the {claim.comparisons} registered comparisons. "
                f"Found {len(intervals)}. Register them, or leave them out."
            )
        row = {"claim": name, "verdict": NO_EVIDENCE, "effect": "", "comparisons": f"0 of {claim.comparisons}"}
        if intervals:
            each = [verdict(interval, claim.direction, claim.smallest) for interval in intervals]
            row["verdict"] = combine(each)
            row["comparisons"] = f"{len(intervals)} of {claim.comparisons}"
            means = sorted(interval.mean for interval in intervals)
            decimals = 1 - math.floor(math.log10(claim.smallest))  # a tenth of what counts is seen
            least, most, low, high = (
                f"{value:z.{decimals}f}" for value in (means[0], means[-1], intervals[0].low, intervals[0].high)
            )
            effect = f"{least} [{low}, {high}]" if len(means) == 1 else f"{least} to {most}"
            row["effect"] = effect.replace("-", "\N{MINUS SIGN}")
        row["counts_from"] = f"{BOUNDS[claim.direction]}{claim.smallest:g}"
        rows.append({**row, "notebook": claim.notebook, "figure": claim.figure})
    return pd.DataFrame(rows)


def as_markdown(table: pd.DataFrame) -> str:
    """The ledger as a Markdown table with links to notebooks."""
    lines = [
        "| claim | verdict | effect: mean [95 % interval], or least to largest mean | counts from | comparisons | in |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['claim']} | **{r['verdict']}** | {r['effect']} | {r['counts_from']} | {r['comparisons']} "
        f"| [{r['notebook'][:2]}](notebooks/{r['notebook']}.ipynb) |"
        for r in table.to_dict("records")
    ]
    counts = table["verdict"].value_counts()
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    return "\n".join([*lines, "", f"{len(table)} registered claims: {summary}."])


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
    """Write the ledger into the README."""
    text = with_ledger(readme.read_text(encoding="utf-8"), as_markdown(ledger(load_claims(), evidence())))
    temporary = readme.with_name(f".{readme.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(readme)
    print(f"{readme.name}: the ledger of claims is up to date.")


if __name__ == "__main__":
    main()
