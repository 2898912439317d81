"""The evidence of claims: tables, a figure, verdicts computed from committed files, a README that is not stale."""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from companion.claims import ledger, ledger_tables
from companion.claims.evidence import evidence_table, intervals_of, rulings
from companion.claims.fields import KINDS
from companion.claims.register import Claim, load_claims, load_not_testable
from companion.claims.statistics import Interval
from companion.claims.words import IN_PLURAL, IN_WORDS, NO_EVIDENCE, ROWS, without_domain
from companion.plots.effects import EDGE, VERDICT_STYLES, draw_evidence
from companion.store import paths

CLAIMS, BARRED = load_claims(), load_not_testable()
FOUND = {
    "H1-composition": {"i.i.d.": Interval(0.2, 0.15, 0.25, 20)},
    "H1-swap": {"Beta-mixed": Interval(-0.2, -0.25, -0.15, 20), "i.i.d.": Interval(0.0, -0.01, 0.01, 20)},
}


def test_evidence_is_one_row_per_comparison_and_gives_its_intervals_back() -> None:
    table = evidence_table(CLAIMS, FOUND)
    assert list(table["comparison"]) == ["i.i.d.", "Beta-mixed", "i.i.d."]
    assert list(table["verdict"]) == ["holds", "holds", "does not hold"]
    assert intervals_of(table[table["claim"] == "H1-swap"]) == list(FOUND["H1-swap"].values())


@pytest.mark.parametrize(
    ("evidence", "sentence"),
    [({"H9-none": FOUND["H1-swap"]}, "Register it"), ({"H1-swap": {}}, "hold a comparison for H1-swap")],
)
def test_evidence_that_cannot_count_is_refused(evidence: dict[str, dict[str, Interval]], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        evidence_table(CLAIMS, evidence)


def test_the_figure_of_claims_has_a_line_per_row_with_its_verdict_in_words() -> None:
    table = evidence_table(CLAIMS, FOUND)
    fig = draw_evidence(table, "title")
    (ax,) = fig.axes
    words = [text.get_text() for text in ax.texts]
    verdicts = rulings({name: CLAIMS[name] for name in FOUND}, table)
    assert [word for word in words if word in VERDICT_STYLES] == [
        verdicts[name] for name in sorted(FOUND, key=lambda name: KINDS.index(CLAIMS[name].kind))
    ]
    assert (
        sum(word.endswith("swapped weights, i.i.d., of 2") for word in words) == 1
    )  # the comparison that decides is named
    thin = [line for line in ax.lines if line.get_marker() == "|" and len(np.ravel(line.get_xdata()))]
    smallest = CLAIMS["H1-swap"].smallest
    assert [np.ravel(line.get_xdata()).tolist() for line in thin] == [
        [pytest.approx(0.2 / smallest)]
    ]  # lower: mirrored
    plt.close(fig)


def test_what_lies_beyond_the_figure_is_marked_at_its_edge_with_its_number() -> None:
    far = {"H1-composition": {"i.i.d.": Interval(1.0, 0.9, 1.1, 20)}}
    fig = draw_evidence(evidence_table(CLAIMS, far), "title")
    (ax,) = fig.axes
    assert "10" in [text.get_text() for text in ax.texts]
    assert max(np.ravel(line.get_xdata()).max() for line in ax.lines if line.get_marker() == ">") == EDGE
    plt.close(fig)


def test_ledger_computes_verdicts_and_names_what_has_no_evidence() -> None:
    rows = ledger.ledger(CLAIMS, evidence_table(CLAIMS, FOUND), BARRED).set_index("claim")
    assert len(rows) == len(CLAIMS) + len(BARRED)
    assert rows.loc["H1-composition", "verdict"] == "holds"
    assert rows.loc["H1-composition", "effect"] == "0.20 [0.15, 0.25]"
    assert rows.loc["H1-swap", "verdict"] == "does not hold"
    assert rows.loc["H1-swap", "effect"] == "\N{MINUS SIGN}0.200 to 0.000"
    assert rows.loc["H1-dose", "verdict"] == NO_EVIDENCE
    assert set(rows.loc[list(BARRED), "verdict"]) == {"not testable here"}
    order = list(rows["group"])
    assert order == sorted(order, key=list(IN_WORDS).index)


def test_ledger_refuses_evidence_beyond_the_register() -> None:
    table = evidence_table(CLAIMS, {"H1-composition": FOUND["H1-swap"]})
    with pytest.raises(ValueError, match="at most the 1 registered"):
        ledger.ledger(CLAIMS, table)
    with pytest.raises(ValueError, match="Found 'H1-gone'"):
        ledger.ledger(CLAIMS, pd.DataFrame({"claim": ["H1-gone"]}))
    with pytest.raises(ValueError, match=r"no evidence for A4-tiktok, .* not testable here\. Found some"):
        ledger.ledger(CLAIMS, pd.DataFrame({"claim": ["A4-tiktok"]}), BARRED)


def test_kinds_are_counted_apart() -> None:
    table = ledger.ledger(CLAIMS, evidence_table(CLAIMS, FOUND), BARRED)
    for line, kind in zip(ledger_tables.counts_by_kind(table).splitlines()[2:], KINDS, strict=False):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        rows = [claim.id for claim in CLAIMS.values() if claim.kind == kind]
        assert cells[:2] == [IN_PLURAL[kind], str(len(rows))]
        assert sum(int(cell or 0) for cell in cells[2:]) == len(rows)
    assert ledger_tables.counts_by_kind(table).splitlines()[-1].startswith(f"| the papers' own data | {len(BARRED)} |")
    assert f"{len(BARRED)} not testable here" in ledger_tables.in_one_sentence(table)


def test_half_the_smallest_effect_is_found_more_often_and_twice_less() -> None:
    claim = next(claim for claim in CLAIMS.values() if claim.kind == "primary")
    claim = replace(claim, direction="higher", smallest=0.1, control="")
    table = evidence_table({claim.id: claim}, {claim.id: {"x": Interval(0.12, 0.06, 0.18, 20)}})
    lines = ledger_tables.counts_at_other_sizes({claim.id: claim}, table).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["half", "as registered", "twice"]
    assert [cell.strip() for cell in lines[0].split("|")[3:-1]] == ["✔ holds", "◐ holds in part", "✘ does not hold"]
    assert [[cell.strip() for cell in line.split("|")[3:-1]] for line in lines[2:]] == [
        ["1", "", ""],
        ["", "1", ""],
        ["", "", "1"],
    ]


def test_every_row_stands_in_one_table_with_power_and_the_verdicts_of_both_rounds() -> None:
    table = ledger.ledger(CLAIMS, ledger.evidence(), BARRED)
    shown = dict(ledger_tables.row_by_row(table, CLAIMS, ledger.evidence(), BARRED))
    named = [line.split("|")[1].strip() for content in shown.values() for line in content.splitlines()[2:]]
    assert {*CLAIMS, *BARRED} <= set(named)
    assert len(named) == len(set(named))
    primary = next(content for words, content in shown.items() if words.startswith("Primary"))
    for line in primary.splitlines()[2:]:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert 0 <= int(cells[6].removesuffix(" %")) <= 100
        assert " → " in cells[8] or cells[8] == "new"


def test_every_row_says_what_it_asks_in_words() -> None:
    assert {without_domain(name) for name in CLAIMS} == ROWS.keys()


def test_what_is_ours_is_no_claim_of_a_paper() -> None:
    table = ledger.ledger(CLAIMS, ledger.evidence(), BARRED)
    ours = table[table["group"] == "ours"]
    assert set(ours["claim"]) == {name for name, claim in CLAIMS.items() if claim.certainty == "D"} != set()


# The committed evidence.


def test_every_testable_claim_has_its_evidence() -> None:
    rows = ledger.evidence()["claim"].value_counts()
    # A row stands alone from its registration to its full run; then it has all of its evidence.
    asked = {claim.id: claim.comparisons for claim in CLAIMS.values()}
    lacking = {name: f"{count} of {asked[str(name)]}" for name, count in rows.items() if count < asked[str(name)]}
    assert lacking == {}, "run make full, then make claims"
    assert len(rows) > 0.9 * len(CLAIMS)


def test_readme_shows_what_the_committed_evidence_says() -> None:
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    found = ledger.evidence()
    current = ledger.what_was_found(CLAIMS, found, ledger.ledger(CLAIMS, found, BARRED))
    assert ledger.with_ledger(readme, current) == readme, "run make claims"


def test_readme_without_markers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# no markers\n")
    with pytest.raises(ValueError, match="one pair of markers"):
        ledger.write_readme(tmp_path / "README.md", "what was found")
    assert (tmp_path / "README.md").read_text() == "# no markers\n"


# Tolerances.


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_printed_effects_are_finer_than_half_of_what_counts(claim: Claim) -> None:
    rounding = 0.5 * 10.0 ** -ledger.decimals(claim)
    assert rounding < claim.smallest / 2
