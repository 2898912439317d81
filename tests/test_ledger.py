"""The evidence of claims: tables, a figure, verdicts computed from committed files, a README that is not stale."""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from mtlcore import ledger, paths
from mtlcore.claims import load_claims
from mtlcore.evidence import draw_evidence, evidence_table, intervals_of
from mtlcore.statistics import Interval

CLAIMS = load_claims()
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
    assert marks[1] == pytest.approx(0.2 / smallest)  # the claim is that the difference is negative
    assert marks[0] == pytest.approx(0.2 / CLAIMS["H1-composition"].smallest)
    plt.close(fig)


def test_ledger_computes_verdicts_and_names_what_has_no_evidence() -> None:
    rows = ledger.ledger(CLAIMS, evidence_table(CLAIMS, FOUND)).set_index("claim")
    assert len(rows) == len(CLAIMS)
    assert rows.loc["H1-composition", "verdict"] == "holds"
    assert rows.loc["H1-composition", "effect"] == "0.20 [0.15, 0.25]"
    assert rows.loc["H1-swap", "verdict"] == "holds in part"
    assert rows.loc["H1-swap", "effect"] == "\N{MINUS SIGN}0.200 to 0.000"
    assert rows.loc["H1-dose", "verdict"] == ledger.NO_EVIDENCE


def test_ledger_refuses_evidence_beyond_the_register() -> None:
    table = evidence_table(CLAIMS, {"H1-composition": FOUND["H1-swap"]})
    with pytest.raises(ValueError, match="at most the 1 registered"):
        ledger.ledger(CLAIMS, table)
    with pytest.raises(ValueError, match="Found 'H1-gone'"):
        ledger.ledger(CLAIMS, pd.DataFrame({"claim": ["H1-gone"]}))


def test_readme_shows_the_verdicts_of_the_committed_evidence() -> None:
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    current = ledger.as_markdown(ledger.ledger(CLAIMS, ledger.evidence()))
    assert ledger.with_ledger(readme, current) == readme, "run make claims"


def test_readme_without_markers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# no markers\n")
    with pytest.raises(ValueError, match="one pair of markers"):
        ledger.main(tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == "# no markers\n"
