"""The front door: pictures that follow the methods' rules, verdicts that are those of the ledger, nothing stale."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from companion.claims import ledger
from companion.claims import ledger_tables as tables
from companion.claims.evidence import rulings
from companion.claims.findings import in_sentences
from companion.claims.lines import lines
from companion.claims.register import load_claims, load_not_testable
from companion.plots.effects import VERDICT_STYLES
from companion.store import paths
from companion.store.manifest import read_manifest
from companion.studies.overview.pictures import PAIR, divide, draw_adatask, draw_hydalearn, weigh
from companion.studies.overview.verdict_figure import draw_verdicts

CLAIMS, BARRED = load_claims(), load_not_testable()
FOUND = ledger.evidence()
VERDICTS = rulings(CLAIMS, FOUND)
LINES = lines(CLAIMS, FOUND, VERDICTS)
NOTEBOOK = paths.NOTEBOOKS / "00_overview.ipynb"


def shown(notebook: Path) -> tuple[str, list[str]]:
    """What a notebook printed, and the Markdown that it displayed."""
    outputs: list[dict[str, Any]] = [
        output
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
    ]
    printed = "".join("".join(output.get("text", [])) for output in outputs)
    markdown = [
        "".join(output["data"]["text/markdown"]) for output in outputs if "text/markdown" in output.get("data", {})
    ]
    return printed, markdown


# Nothing is stale.


def test_the_overview_shows_the_verdicts_of_the_committed_evidence() -> None:
    table = ledger.ledger(CLAIMS, FOUND, BARRED)
    assert shown(NOTEBOOK)[1] == [
        in_sentences(CLAIMS, FOUND, VERDICTS),
        tables.counts_by_kind(table),
        tables.counts_at_other_sizes(CLAIMS, FOUND),
        *(tables.folded(*part) for part in tables.row_by_row(table, CLAIMS, FOUND, BARRED)),
        tables.folded("Every change of a registered row, with its reason", tables.changes_table(CLAIMS)),
    ], "run make claims"


def test_the_overview_shows_the_committed_figures() -> None:
    figures = read_manifest(paths.COMMITTED_FIGURES)
    lines = [line for line in shown(NOTEBOOK)[0].splitlines() if ", full profile, " in line]
    assert len(lines) == 3
    for line in lines:
        assert figures[line.split(",")[0]]["digest"][:12] in line, "run make claims"


def test_the_figure_of_verdicts_is_drawn_from_the_committed_evidence() -> None:
    drawn = pd.read_csv(paths.COMMITTED_FIGURES / "00_verdicts.csv")
    numbers = ["mean", "low", "high"]
    assert drawn.drop(columns=numbers).to_dict("list") == LINES.drop(columns=numbers).to_dict("list"), "run make claims"
    np.testing.assert_allclose(drawn[numbers], LINES[numbers], rtol=1e-6)


# The verdicts in one picture.


def test_every_claim_with_evidence_has_its_line_and_the_verdict_of_the_ledger() -> None:
    lines = LINES.set_index("claim")
    table = ledger.ledger(CLAIMS, FOUND).set_index("claim")
    tested = table[table["verdict"] != "no full run yet"]
    assert set(lines.index) == set(tested.index)
    assert (lines["verdict"] == tested["verdict"].reindex(lines.index)).all()
    assert ((lines["low"] <= lines["mean"]) & (lines["mean"] <= lines["high"])).all()
    one_way = lines[(lines["direction"] != "within") & (lines["verdict"] != "uninterpretable")]
    assert ((one_way["low"] >= 1) == (one_way["verdict"] == "holds")).all()  # the blue ground is what decides
    assert ((one_way["high"] < 1) == (one_way["verdict"] == "does not hold")).all()


def test_the_figure_has_a_line_per_primary_row_in_two_blocks_and_says_each_verdict() -> None:
    fig = draw_verdicts(LINES)
    words = [text.get_text() for text in fig.axes[0].texts]
    primary = LINES[LINES["kind"] == "primary"]
    assert sorted(word for word in words if word in VERDICT_STYLES) == sorted(primary["verdict"])
    assert [word for word in words if word in ("HydaLearn", "AdaTask")] == ["HydaLearn", "AdaTask"]
    plt.close(fig)


# The pictures of the methods.


def test_the_picture_of_hydalearn_follows_the_rule() -> None:
    kinds = [[True] * 7 + [False], [True] * 2 + [False] * 6]
    found, batches = weigh(kinds, trial_step=0.8, seed=0)
    for (_, part), targets in zip(found.groupby("batch"), batches, strict=True):
        theta = torch.tensor([-1.0, 0.6], dtype=torch.float64)
        gradients = theta - targets.mean(1)  # of half the mean squared distance
        loss = 0.5 * (theta - targets[0]).square().sum(-1).mean()
        moved = [theta - 0.8 * gradient for gradient in gradients]
        after = [0.5 * (point - targets[0]).square().sum(-1).mean() for point in moved]
        gains = torch.stack([loss - value for value in after])
        np.testing.assert_allclose(part["gain"], gains, rtol=1e-12)
        np.testing.assert_allclose(part["weight"], gains.clamp(min=0) / gains.clamp(min=0).sum(), rtol=1e-12)
    assert found["weight"].iloc[3] == 0 < found["weight"].iloc[1]  # the batches differ in what they say
    plt.close(draw_hydalearn(found, batches))


def test_the_picture_of_adatask_divides_by_the_joint_and_by_own_accumulators() -> None:
    found, shares = divide(scale=10.0, num_parameters=200, steps=300, seed=0)
    sizes = {(r["method"], r["task"]): r for r in found.to_dict("records")}
    a, b = PAIR
    joint, own = ([sizes[method, task] for task in (a, b)] for method in ("joint Adam", "AdaTask-Adam"))
    assert joint[0]["divisor"] == joint[1]["divisor"] == pytest.approx(joint[1]["gradient"], rel=0.05)
    assert [one["divisor"] for one in own] == pytest.approx([one["gradient"] for one in own], rel=0.05)
    assert joint[1]["update"] / joint[0]["update"] == pytest.approx(10.0, rel=0.1)
    assert own[1]["update"] / own[0]["update"] == pytest.approx(1.0, rel=0.1)
    means = shares.groupby("method", sort=False)["share"].mean()
    assert means.iloc[0] > 0.9
    assert means.iloc[1] == pytest.approx(0.5, abs=0.05)
    plt.close(draw_adatask(found, shares))
