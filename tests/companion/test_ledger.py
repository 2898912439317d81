"""The evidence of claims: tables, a figure, verdicts computed from committed files, a README that is not stale."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from companion.claims import ledger, ledger_tables
from companion.claims.evidence import evidence_table, intervals_of
from companion.claims.register import Claim, load_claims, load_not_testable
from companion.claims.statistics import Interval
from companion.plots.effects import draw_evidence
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


def test_figure_points_to_the_right_where_the_claim_is_right() -> None:
    fig = draw_evidence(evidence_table(CLAIMS, FOUND), "title")
    (ax,) = fig.axes
    marks = {line.get_ydata()[0]: line.get_xdata()[0] for line in ax.lines if line.get_marker() not in ("None", "")}  # type: ignore[index]
    smallest = CLAIMS["H1-swap"].smallest
    rows = {text.get_text(): y for y, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    assert marks[rows["Beta-mixed"]] == pytest.approx(0.2 / smallest)  # the claim is that the difference is negative
    assert marks[1] == pytest.approx(0.2 / CLAIMS["H1-composition"].smallest)
    headings = [text.get_text() for text in ax.texts]
    assert headings == ["H1-composition:  holds 1", "H1-swap:  holds 1, does not hold 1"]
    plt.close(fig)


def test_ledger_computes_verdicts_and_names_what_has_no_evidence() -> None:
    rows = ledger.ledger(CLAIMS, evidence_table(CLAIMS, FOUND), BARRED).set_index("claim")
    assert len(rows) == len(CLAIMS) + len(BARRED)
    assert rows.loc["H1-composition", "verdict"] == "holds"
    assert rows.loc["H1-composition", "effect"] == "0.20 [0.15, 0.25]"
    assert rows.loc["H1-swap", "verdict"] == "does not hold"
    assert rows.loc["H1-swap", "effect"] == "\N{MINUS SIGN}0.200 to 0.000"
    assert rows.loc["H1-dose", "verdict"] == ledger_tables.NO_EVIDENCE
    assert set(rows.loc[list(BARRED), "verdict"]) == {"not testable here"}
    order = list(rows["group"])
    assert order == sorted(order, key=list(ledger_tables.IN_WORDS).index)


def test_ledger_refuses_evidence_beyond_the_register() -> None:
    table = evidence_table(CLAIMS, {"H1-composition": FOUND["H1-swap"]})
    with pytest.raises(ValueError, match="at most the 1 registered"):
        ledger.ledger(CLAIMS, table)
    with pytest.raises(ValueError, match="Found 'H1-gone'"):
        ledger.ledger(CLAIMS, pd.DataFrame({"claim": ["H1-gone"]}))
    with pytest.raises(ValueError, match=r"no evidence for A4-tiktok, .* not testable here\. Found some"):
        ledger.ledger(CLAIMS, pd.DataFrame({"claim": ["A4-tiktok"]}), BARRED)


def test_a_cell_says_the_verdict_in_words_or_counts_the_rows_that_disagree() -> None:
    lines = ledger_tables.matrix(ledger.ledger(CLAIMS, evidence_table(CLAIMS, FOUND), BARRED)).splitlines()
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if line.startswith("| **")}
    h1 = next(found for name, found in cells.items() if name.startswith("**H1**"))
    assert h1[0].strip() == ("\u2714\xa01 \u2718\xa01 \u2026\xa02<br>[02](notebooks/02_hydalearn_synthetic.ipynb)")
    assert h1[1].strip().startswith("\u2026 no full run yet (3)<br>[03]")
    assert h1[3].strip() == ""
    assert h1[5].strip().startswith("\u2013 not testable here<br>")
    assert lines[-1].startswith(
        f"{len(CLAIMS) + len(BARRED)} registered claims: 1 \u2714 holds, 1 \u2718 does not hold,"
    )


def test_what_is_ours_is_no_claim_of_a_paper() -> None:
    table = ledger.ledger(CLAIMS, ledger.evidence(), BARRED)
    ours = table[table["group"] == "ours"]
    assert set(ours["claim"]) == {name for name, claim in CLAIMS.items() if claim.certainty == "D"} != set()
    with_them, without = (ledger_tables.matrix(t).splitlines()[:-2] for t in (table, table.drop(ours.index)))
    assert with_them[:-1] == without[:-1]
    assert with_them[-1] != without[-1]


# The committed evidence.


def test_every_testable_claim_has_its_evidence() -> None:
    rows = ledger.evidence()["claim"].value_counts()
    lacking = {
        c.id: f"{rows.get(c.id, 0)} of {c.comparisons}" for c in CLAIMS.values() if rows.get(c.id, 0) < c.comparisons
    }
    assert lacking == {}, "run make full, then make claims"


def test_readme_shows_the_verdicts_of_the_committed_evidence() -> None:
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    current = ledger_tables.matrix(ledger.ledger(CLAIMS, ledger.evidence(), BARRED))
    assert ledger.with_ledger(readme, current) == readme, "run make claims"


def test_readme_without_markers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# no markers\n")
    with pytest.raises(ValueError, match="one pair of markers"):
        ledger.write_readme(tmp_path / "README.md", ledger.ledger(CLAIMS, ledger.evidence(), BARRED))
    assert (tmp_path / "README.md").read_text() == "# no markers\n"


# Tolerances.


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_printed_effects_are_finer_than_half_of_what_counts(claim: Claim) -> None:
    rounding = 0.5 * 10.0 ** -ledger.decimals(claim)
    assert rounding < claim.smallest / 2
