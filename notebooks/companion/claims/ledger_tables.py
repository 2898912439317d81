"""How the ledger is shown: counted by kind, and row by row; Markdown for README and notebook 00."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from companion.claims.evidence import intervals_of, rulings
from companion.claims.lines import decisive
from companion.claims.register import FOLDER, Claim, NotTestable
from companion.claims.statistics import power
from companion.claims.words import IN_PLURAL, IN_WORDS, NO_EVIDENCE, NOT_TESTABLE, SYMBOLS

OVERVIEW = "00_overview"
FIRST_ROUND = FOLDER / "first_round.csv"
SIZES = {0.5: "half", 1.0: "as registered", 2.0: "twice"}


def _counts(verdicts: pd.Series) -> dict[str, int]:
    """How often each verdict is there, in the order of `SYMBOLS`."""
    return {name: int((verdicts == name).sum()) for name in SYMBOLS}


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines: list[Sequence[object]] = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _count_table(corner: str, counted: Mapping[str, dict[str, int]]) -> str:
    """Verdicts by what they are counted for; a verdict that nothing has is left out."""
    there = [name for name in SYMBOLS if any(counts[name] for counts in counted.values())]
    header = [corner, "rows", *(f"{SYMBOLS[name]} {name}" for name in there)]
    rows = [[words, sum(counts.values()), *(counts[n] or "" for n in there)] for words, counts in counted.items()]
    return _table(header, rows)


def _of_kinds(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many rows of each kind have which verdict; what cannot be tested here has none."""
    return {words: _counts(table["verdict"][table["kind"] == kind]) for kind, words in IN_PLURAL.items()}


def in_one_sentence(table: pd.DataFrame) -> str:
    """How many rows of each kind there are, by verdict."""
    parts = []
    for words, counts in _of_kinds(table).items():
        listed = ", ".join(f"{count} {SYMBOLS[name]} {name}" for name, count in counts.items() if count)
        parts.append(f"{sum(counts.values())} {words} ({listed})")
    return f"Registered rows: {', '.join(parts)}, {(table['verdict'] == NOT_TESTABLE).sum()} {NOT_TESTABLE}."


def counts_by_kind(table: pd.DataFrame) -> str:
    """How many rows of each kind have which verdict, as a table."""
    barred = _counts(table["verdict"][table["verdict"] == NOT_TESTABLE])
    return _count_table("kind", _of_kinds(table) | {"the papers' own data": barred})


def counts_at_other_sizes(claims: Mapping[str, Claim], found: pd.DataFrame) -> str:
    """How many primary rows had which verdict if half or twice the smallest effect counted."""
    primary = [name for name, claim in claims.items() if claim.kind == "primary"]
    counted = {}
    for factor, words in SIZES.items():
        other = {name: replace(claims[name], smallest=factor * claims[name].smallest) for name in primary}
        verdicts = rulings({**claims, **other}, found)
        counted[words] = _counts(pd.Series([verdicts.get(name, NO_EVIDENCE) for name in primary]))
    return _count_table("smallest effect that counts", counted)


def row_by_row(
    table: pd.DataFrame, claims: Mapping[str, Claim], found: pd.DataFrame, barred: Mapping[str, NotTestable]
) -> Iterator[tuple[str, str]]:
    """Give the tables of the rows of each kind, of what cannot be tested, and of what the first round alone had.

    Args:
        table: Of `companion.claims.ledger.ledger`.
        claims: The register.
        found: Of `companion.claims.ledger.evidence`.
        barred: What cannot be tested here.

    Yields:
        What a table is, and its Markdown with links from the folder of the notebooks.
    """
    first = pd.read_csv(FIRST_ROUND).set_index("claim")
    header = [
        "row",
        "data",
        "verdict",
        "effect",
        "counts from",
        "comparisons",
        "power",
        "noise",
        "first round",
        "source",
        "in",
    ]
    for kind, words in IN_PLURAL.items():
        rows = [
            [
                row["claim"],
                row["domain"],
                f"{SYMBOLS[row['verdict']]} {row['verdict']}",
                *(row[name] for name in ("effect", "counts_from", "comparisons")),
                *_width(claims[row["claim"]], found[found["claim"] == row["claim"]]),
                " → ".join(first.loc[row["claim"]]) if row["claim"] in first.index else "new",
                row["certainty"],
                f"[{row['notebook'][:2]}]({row['notebook']}.ipynb)",
            ]
            for row in table[table["kind"] == kind].to_dict("records")
        ]
        yield f"{words.capitalize()}, {len(rows)} rows", _table(header, rows)
    yield "What cannot be tested here, and what would make it testable", _not_testable(barred)
    gone = first[~first.index.isin(list(claims))]
    if len(gone):
        header = ["row", "verdict then", "by the corrected rule"]
        yield (
            f"Rows of the first round that were dropped or replaced, {len(gone)}",
            _table(header, [[n, *r] for n, r in gone.iterrows()]),
        )


def _width(claim: Claim, found: pd.DataFrame) -> tuple[str, str]:
    """The least power of a row's comparisons, and what of the variance of the one that decides has which source."""
    if found.empty:
        return "", ""
    least = min(power(interval, claim.smallest) for interval in intervals_of(found))
    parts = found.reindex(columns=["split", "initialisation", "tuning"]).iloc[decisive(claim, found)]
    return f"{100 * least:.0f} %", "" if parts.isna().any() else " / ".join(f"{100 * part:.0f}" for part in parts)


def _not_testable(barred: Mapping[str, NotTestable]) -> str:
    """What cannot be tested here, by claim."""
    by_claim = sorted(barred.values(), key=lambda c: list(IN_WORDS).index(c.id[:2]))
    header = ["row", "the source reports", "source", "why not here", "what would make it testable"]
    return _table(header, [[c.id, c.reported, c.certainty, c.why, c.how] for c in by_claim])


def changes_table(claims: Mapping[str, Claim]) -> str:
    """Every listed change of a registered row."""
    rows = [[claim.id, change.date, change.reason] for claim in claims.values() for change in claim.changes]
    return _table(["row", "date", "what, why, and what had been seen"], rows)


def folded(words: str, content: str) -> str:
    """Markdown that opens on demand."""
    return f"<details>\n<summary>{words}</summary>\n\n{content}\n\n</details>"
