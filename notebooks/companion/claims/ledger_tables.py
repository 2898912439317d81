"""How the ledger is shown: at a glance, as claims by domains, and row by row; Markdown for README and notebook 00."""

from collections.abc import Mapping

import pandas as pd

from companion.claims.register import DOMAINS, OURS, NotTestable

NO_EVIDENCE, NOT_TESTABLE = "no full run yet", "not testable here"
OFFICIAL = "the papers' data"  # the domain of what cannot be tested here
OVERVIEW = "00_overview"
SYMBOLS = {
    "holds": "\N{HEAVY CHECK MARK}",
    "holds in part": "\N{CIRCLE WITH LEFT HALF BLACK}",
    "undecided": "\N{WHITE CIRCLE}",
    "does not hold": "\N{HEAVY BALLOT X}",
    "uninterpretable": "\N{EMPTY SET}",
    NO_EVIDENCE: "\N{HORIZONTAL ELLIPSIS}",
    NOT_TESTABLE: "\N{EN DASH}",
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
    OURS: "the two composed, and weights that are erased",
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
    for group, rows in table.groupby("group", sort=False):
        lines += [f"\n**{group}: {IN_WORDS[str(group)]}**\n"]
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
    for group, words in IN_WORDS.items():
        rows = table[table["group"] == group]
        cells = [_cell(rows[rows["domain"] == domain]) for domain in domains]
        lines.append(f"| **{group}** {words} | {' | '.join(cells)} |")
    key = "Where the rows of a cell disagree it counts them, one row per measure; a notebook's number leads to it."
    key += " Two rows of H2, jump and switchoff, plant a change of relevance, to see whether it would be noticed."
    whole = f"[Notebook 00](notebooks/{OVERVIEW}.ipynb) has each row with its effect, and all of them in one picture."
    return "\n".join([*lines, "", f"{in_one_sentence(table)} {key} {whole}"])


def not_testable_table(barred: Mapping[str, NotTestable]) -> str:
    """What cannot be tested here as a Markdown table, by claim."""
    lines = [
        "| row | the source reports | source | why not here | what would make it testable |",
        "|" + "---|" * 5,
    ]
    by_claim = sorted(barred.values(), key=lambda c: list(IN_WORDS).index(c.id[:2]))
    lines += [f"| {c.id} | {c.reported} | {c.certainty} | {c.why} | {c.how} |" for c in by_claim]
    return "\n".join(lines)
