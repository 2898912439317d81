"""Findings say what the verdicts and intervals say, in whichever way they go."""

from dataclasses import replace

import pytest
from companion.claims.evidence import evidence_table, rulings
from companion.claims.findings import (
    FINDINGS,
    PER_CENT_OF_LOSS,
    POINTS,
    THOUSANDTHS,
    Finding,
    in_sentences,
    numbered,
    tell,
    told,
)
from companion.claims.lines import decisive, in_units, lines
from companion.claims.register import Claim, load_claims
from companion.claims.statistics import Interval
from companion.claims.verdicts import MINUS

CLAIMS = load_claims()
PLAIN = replace(next(iter(CLAIMS.values())), direction="lower", smallest=0.05, comparisons=2, control="")
LOSS, RATING = replace(PLAIN, id="H3-a"), replace(PLAIN, id="H3-b", direction="higher", smallest=0.005)
HOLDS, IN_PART = Interval(-0.1, -0.11, -0.09, 20), Interval(-0.1, -0.16, -0.04, 20)
OPEN, FAILS = Interval(-0.02, -0.06, 0.02, 20), Interval(0.0, -0.01, 0.01, 20)
FINDING = Finding("It helps", "It does not help", "Loss", {"H3-a": ("images", PER_CENT_OF_LOSS)})


def said(finding: Finding, **found: dict[str, Interval]) -> str:
    """The sentence on rows `a` and `b`, with this evidence and ordinary minus signs."""
    claims = {claim.id: claim for claim in (LOSS, RATING)}
    table = evidence_table(claims, {f"H3-{name}": intervals for name, intervals in found.items()})
    return finding.sentence(claims, table, rulings(claims, table)).replace(MINUS, "-")


@pytest.mark.parametrize(
    ("interval", "headline"),
    [
        (HOLDS, "It helps."),
        (IN_PART, "It helps, if perhaps by less than what counts."),
        (OPEN, "Open: It helps?"),
        (FAILS, "It does not help."),
    ],
)
def test_the_verdict_writes_the_headline(interval: Interval, headline: str) -> None:
    assert said(FINDING, a={"x": interval}).startswith(f"**{headline}** Loss: images ")


def test_numbers_are_in_words_a_reader_knows_and_name_the_comparison_that_decides() -> None:
    alone = said(FINDING, a={"DWA": FAILS})
    assert alone.endswith("images 0.0 % [-1.0, 1.0], asked -4.9.")
    two = said(FINDING, a={"DWA": HOLDS, "GradNorm": FAILS})
    assert two == "**It does not help.** Loss: images (GradNorm) 0.0 % [-1.0, 1.0], asked -4.9."
    assert THOUSANDTHS.text(-0.0012) == f"{MINUS}1.2"
    assert POINTS.text(0.005) == "0.50"


def test_rows_that_disagree_are_counted_and_each_says_its_verdict() -> None:
    both = replace(FINDING, rows={**FINDING.rows, "H3-b": ("films", POINTS)})
    sentence = said(both, a={"x": HOLDS}, b={"x": OPEN})
    assert sentence.startswith("**It helps on 1 of 2 kinds of data.** Loss: ")
    assert "images -9.5 % [-10.4, -8.6], asked -4.9, holds" in sentence
    assert sentence.endswith("asked 0.50, undecided.")
    assert said(both, a={"x": FAILS}, b={"x": OPEN}).startswith("**It does not help on 1 of 2 kinds of data.**")
    assert said(both, a={"x": OPEN}, b={"x": OPEN}).startswith("**Open: It helps?**")


def test_rows_without_evidence_are_left_out() -> None:
    both = replace(FINDING, rows={**FINDING.rows, "H3-b": ("films", POINTS)})
    assert said(both, a={"x": FAILS}) == said(FINDING, a={"x": FAILS})
    assert in_sentences(CLAIMS, evidence_table(CLAIMS, {}), {}) == ""


def test_findings_rest_on_primary_rows() -> None:
    primary = {name for name, claim in CLAIMS.items() if claim.kind == "primary"}
    assert [name for one in FINDINGS for name in one.rows if name not in primary] == []


# One line per row.


def test_a_row_is_drawn_to_the_right_where_its_claim_points() -> None:
    table = evidence_table({LOSS.id: LOSS}, {LOSS.id: {"x": Interval(-0.1, -0.2, -0.05, 20)}})
    (row,) = in_units(LOSS, table).to_dict("records")
    assert [row[side] for side in ("low", "mean", "high")] == pytest.approx([1, 2, 4])


@pytest.mark.parametrize(
    ("found", "worst"),
    [
        ({"a": HOLDS, "b": Interval(-0.08, -0.1, -0.06, 20)}, "b"),  # all hold: the least of them
        ({"a": FAILS, "b": Interval(-0.02, -0.5, 0.46, 20)}, "a"),  # one is ruled out, whatever else is open
        ({"a": HOLDS, "b": OPEN}, "b"),
    ],
)
def test_the_comparison_that_decides_has_the_verdict_of_the_row(found: dict[str, Interval], worst: str) -> None:
    claims: dict[str, Claim] = {LOSS.id: LOSS}
    table = evidence_table(claims, {LOSS.id: found})
    one = table.iloc[decisive(LOSS, table)]
    verdicts = rulings(claims, table)
    assert (one["comparison"], one["verdict"]) == (worst, verdicts[LOSS.id])
    (line,) = lines(claims, table, verdicts).to_dict("records")
    assert (line["comparison"], line["comparisons"], line["mean"]) == (worst, 2, -one["mean"] / LOSS.smallest)


def test_of_no_difference_the_largest_decides() -> None:
    claim = replace(LOSS, direction="within", smallest=0.1)
    table = evidence_table({claim.id: claim}, {claim.id: {"a": FAILS, "b": Interval(-0.05, -0.06, -0.04, 20)}})
    assert decisive(claim, table) == 1


def test_a_notebook_tells_its_findings_as_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    claims = {claim.id: claim for claim in (LOSS, RATING)}
    evidence = {"H3-a": {"x": HOLDS}}
    (sentence,) = told([FINDING], claims, evidence)
    assert sentence.replace(MINUS, "-") == said(FINDING, a={"x": HOLDS})
    assert numbered(["one\n   sentence.", "two."]) == "1. one sentence.\n2. two."
    tell("one", "two")
    assert "Markdown" in capsys.readouterr().out
