"""`make compare`: planted differences are found and judged by what would count, in the right number and table."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from companion.claims import compare
from companion.claims.differences import OF_EFFECT, OF_SPREAD
from companion.claims.differences import compare as compare_tables
from companion.claims.register import load_claims
from companion.store import paths
from companion.store.published import Cell, publish

CLAIMS = load_claims()
SMALLEST = CLAIMS["H1-swap"].smallest
EVIDENCE = pd.DataFrame(
    {
        "claim": ["H1-swap", "H1-swap", "H2-jump"],
        "comparison": ["Beta-mixed", "i.i.d.", "share"],
        "mean": [-0.30, -0.20, 0.30],
        "low": [-0.40, -0.30, 0.20],
        "high": [-0.20, -0.10, 0.40],
        "count": 20,
        "verdict": "holds",
    }
)
CURVES = pd.DataFrame({"method": ["a", "a", "b"], "rate": [0.1, 0.2, 0.1], "loss": [1.0, 2.0, 3.0], "seconds": 2.0})


def written(folder: Path, **tables: pd.DataFrame) -> Path:
    """A folder of figures with these tables."""
    folder.mkdir()
    for stem, table in tables.items():
        table.to_csv(folder / f"{stem}.csv", index=False)
    about = {"notebook": "02_hydalearn_synthetic", "files": [], "seeds": [], "digest": ""}
    entries = dict.fromkeys(tables, about)
    (folder / "manifest.json").write_text(json.dumps({"figures": entries}), encoding="utf-8")
    return folder


def run(own: Path, reference: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(paths, "COMMITTED_FIGURES", own)
    monkeypatch.setattr(paths, "BUILD", own.parent / "build")
    return compare.main([str(reference)])


def test_the_same_run_agrees_in_every_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, reference = (written(tmp_path / name, t_claims=EVIDENCE, t_curves=CURVES) for name in ("own", "committed"))
    assert run(own, reference, monkeypatch) == 0
    shown = capsys.readouterr().out
    assert re.search(r"t_claims +12 +12 +0 +0 +0$", shown, re.MULTILINE)  # 3 intervals and their counts
    assert re.search(r"t_curves +6 +6 +0 +0 +0$", shown, re.MULTILINE)  # seconds are no numbers to judge
    assert "Verdicts: 2 of 2 claims as committed, 0 changed." in shown
    assert "Nothing differs" in shown


@pytest.mark.parametrize(("share", "status"), [(0.9, 0), (1.1, 1)])
def test_an_interval_is_judged_by_the_smallest_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], share: float, status: int
) -> None:
    reference = written(tmp_path / "committed", t_claims=EVIDENCE)
    moved = EVIDENCE.assign(mean=EVIDENCE["mean"] + [0.0, share * OF_EFFECT * SMALLEST, 0.0])
    assert run(written(tmp_path / "own", t_claims=moved), reference, monkeypatch) == status
    shown = capsys.readouterr().out
    assert re.search(
        rf"t_claims +12 +11 +{1 - status} +{status} +0  {share * OF_EFFECT:.2g} of the least effect", shown
    )
    assert ("mean of H1-swap, i.i.d. (1): -0.2 is -0.19" in shown) == bool(status)
    assert "0 changed" in shown


def test_a_verdict_that_changed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = written(tmp_path / "committed", t_claims=EVIDENCE)
    moved = EVIDENCE.copy()
    moved.loc[2, "low"] = 0.5 * CLAIMS["H2-jump"].smallest  # above 0 still, but less than what counts
    assert run(written(tmp_path / "own", t_claims=moved), reference, monkeypatch) == 1
    assert "H2-jump: holds, in yours holds in part" in capsys.readouterr().out
    report, page = ((tmp_path / "build" / "replication" / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert "1 of 2 verdicts are as committed; 0 claims did not run." in report
    (row,) = (line.split(" | ") for line in report.splitlines() if line.startswith("| H2-jump"))
    assert (row[4], row[6].strip(" |")) == ("holds", "holds in part")
    assert page.count("<tr>") == 3  # the head and two claims
    assert "<strong>H2-jump</strong>" in page


def test_a_verdict_rests_on_the_comparisons_that_both_runs_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader without the optional data has fewer comparisons, which is no change of a verdict."""
    mixed = EVIDENCE.copy()
    mixed.loc[1, ["mean", "low", "high"]] = [0.0, -0.01, 0.01]  # does not hold, so the claim holds in part
    reference = written(tmp_path / "committed", t_claims=mixed)
    assert run(written(tmp_path / "own", t_claims=mixed.drop(index=1)), reference, monkeypatch) == 0
    shown = capsys.readouterr().out
    assert re.search(r"t_claims +12 +8 +0 +0 +4$", shown, re.MULTILINE)
    assert "2 of 2 claims as committed, 0 changed" in shown
    assert run(written(tmp_path / "less", t_claims=mixed.drop(index=2)), reference, monkeypatch) == 0
    assert "not in yours: H2-jump" in capsys.readouterr().out


def test_other_numbers_are_judged_by_their_columns_spread() -> None:
    moved = CURVES.assign(loss=CURVES["loss"] + [0.0, 1.9 * OF_SPREAD, 2.1 * OF_SPREAD])  # the losses span 2
    found = compare_tables(moved, CURVES, "t_curves", CLAIMS)
    assert (found.identical, found.within, len(found.beyond)) == (4, 1, 1)
    assert found.beyond[0].startswith("loss of b (1): 3 is 3.021 in yours, 0.01 of the spread")


def test_intervals_of_a_figure_that_shows_a_claim_are_judged_by_its_effect() -> None:
    table = pd.DataFrame({"dose": ["a", "b"], "mean": [-100.0, 100.0], "low": 0.0, "high": 0.0})
    moved = table.assign(mean=table["mean"] + 1.1 * OF_EFFECT * SMALLEST)
    assert len(compare_tables(moved, table, "02_benefit", CLAIMS).beyond) == 2
    assert compare_tables(moved, table, "02_none", CLAIMS).beyond == []


def test_costs_are_listed_and_not_judged() -> None:
    found = compare_tables(CURVES.assign(seconds=[2.0, 4.0, 20.0]), CURVES, "t_curves", CLAIMS)
    assert (found.costs, found.beyond, found.numbers) == ([1.0, 2.0, 10.0], [], 6)
    table = pd.DataFrame({"measure": ["step", "passes"], "unit": ["ms", "count"], "value": [5.0, 2.0]})
    found = compare_tables(table.assign(value=[50.0, 2.0]), table, "t_cost", CLAIMS)
    assert (found.costs, found.beyond, found.identical) == ([10.0], [], 1)


def test_rows_and_cells_without_counterpart_do_not_pass() -> None:
    renamed = compare_tables(CURVES.replace("b", "c"), CURVES, "t_curves", CLAIMS)
    assert (renamed.absent, renamed.beyond) == (2, ["row 'c' of yours is not among the committed ones"])
    failed = compare_tables(CURVES.assign(loss=[1.0, 2.0, float("nan")]), CURVES, "t_curves", CLAIMS)
    assert len(failed.beyond) == 1
    assert "nan in yours, inf" in failed.beyond[0]
    reordered = compare_tables(CURVES.iloc[::-1].sort_values("rate", kind="stable"), CURVES, "t_curves", CLAIMS)
    assert reordered.identical == 6
    flipped = compare_tables(CURVES.assign(chosen=True), CURVES.assign(chosen=[True, True, False]), "t_curves", CLAIMS)
    assert len(flipped.beyond) == 1


def test_tolerances_are_less_than_half_of_what_counts() -> None:
    assert 0 < OF_SPREAD < 0.5
    assert 0 < OF_EFFECT < 0.5


def test_the_committed_run_is_what_git_has(tmp_path: Path) -> None:
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=paths.ROOT, capture_output=True, check=False).returncode:
        pytest.skip("this checkout is no git repository")
    compare.committed(tmp_path)
    found = compare.tables(tmp_path)
    assert {"02_claims", "06_regimes", "08_sizes"} <= set(found)
    assert not any(stem.startswith("00") for stem in found)
    assert (tmp_path / "02_runs.json").exists()
    text, agrees = compare.report(found, found, CLAIMS)
    assert agrees
    assert "0 beyond, 0 absent" in text


def test_without_a_reference_or_a_run_one_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = written(tmp_path / "full", t_claims=EVIDENCE)
    monkeypatch.setattr(paths, "COMMITTED_FIGURES", own)
    monkeypatch.setattr(paths, "ROOT", tmp_path)  # no git there
    assert compare.main([]) == 2
    assert "Found no git checkout with a commit here. Name another" in capsys.readouterr().err
    assert compare.main([str(tmp_path / "nowhere")]) == 2
    assert "should be a figures/full with its manifest.json. Found none" in capsys.readouterr().err
    shutil.rmtree(own)
    assert compare.main([str(tmp_path / "nowhere")]) == 2


def test_a_cell_that_differs_or_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.DataFrame({"seed": [0, 1], "metric": "loss", "value": [1.0, 2.0], "seconds": 1.0})
    said = {"design": "drift", "seeds": [0, 1], "rates": [0.1]}
    cells = [Cell("train_grid", {"method": method, **said}, table) for method in ("a", "b", "c", "d")]
    reference, own = (written(tmp_path / name, t_claims=EVIDENCE) for name in ("committed", "own"))
    publish(reference, "02", cells)
    publish(
        own,
        "02",
        [*cells[:1], *(replace(c, table=table.assign(value=v)) for c, v in zip(cells[1:3], MOVED, strict=True))],
    )
    assert run(own, reference, monkeypatch) == 1
    shown = capsys.readouterr().out
    assert re.search(r"02_runs +4 +1 +1 +1 +1$", shown, re.MULTILINE)
    assert "train_grid c drift seeds 0 to 1: loss: 1 of 2 values differ" in shown
    assert "train_grid d drift seeds 0 to 1: no such cell in yours." in shown
    publish(own, "02", [replace(cell, table=table.assign(seconds=9.0)) for cell in cells])
    assert run(own, reference, monkeypatch) == 0


MOVED = ([1.001, 2.0], [1.1, 2.0])  # by less and by more than a hundredth of the spread
