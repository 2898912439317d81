"""Notebook 10's tables on cases made by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from companion.claims.ledger import evidence
from companion.claims.register import load_claims
from companion.studies.cost import report
from companion.studies.cost.counts import Cost
from companion.studies.cost.figures import draw_bought, draw_growth, draw_memory
from companion.studies.cost.report import bought, by_device, counted, growth, machine, memory, read_bench


def test_what_is_bought_is_read_from_primary_rows_in_units_of_what_counts() -> None:
    loss = replace(next(iter(load_claims().values())), direction="lower", smallest=0.1, kind="primary")
    claims = {
        "H3-loss-credit": replace(loss, id="H3-loss-credit", notebook="03_credit_default"),
        "A4-static": replace(loss, id="A4-static", notebook="06_adatask_synthetic", direction="higher"),
        "H3-other": replace(loss, id="H3-other", kind="secondary"),
        "H1-swap": replace(loss, id="H1-swap"),
    }
    compared = [
        ("H3-loss-credit", "mortgages: static grid", -0.2), ("H3-loss-credit", "cards: equal weights", 0.1),
        ("H3-loss-credit", "cards: cosine gate", 0.1), ("A4-static", "Adam", -0.1), ("H3-other", "equal weights", 1.0),
        ("H1-swap", "equal weights", 1.0),
    ]  # fmt: skip
    rows = [(claim, name, mean, mean - 0.05, mean + 0.05, 9) for claim, name, mean in compared]
    found = pd.DataFrame(rows, columns=["claim", "comparison", "mean", "low", "high", "count"])
    table = bought(claims, found)
    assert table[["method", "rival", "data"]].to_numpy().tolist() == [
        ["HydaLearn", "equal weights", "03 credit, cards"],
        ["HydaLearn", "constant weights", "03 credit, mortgages"],
        ["AdaTask-Adam", "constant weights", "06 synthetic, Adam"],
    ]
    assert table[["mean", "low", "high"]].to_numpy() == pytest.approx(
        pd.DataFrame([[-1.0, -1.5, -0.5], [2.0, 1.5, 2.5], [-1.0, -1.5, -0.5]]).to_numpy()
    )
    assert len(draw_bought(table, "title").axes) == 2


def test_both_methods_have_primary_comparisons_with_cheaper_ones() -> None:
    assert set(bought(load_claims(), evidence())["method"]) == {"HydaLearn", "AdaTask-Adam"}


def test_a_sweep_is_arranged() -> None:
    entry = {"problem": "tasks", "tasks": 2, "parameters": "100", "runs": 1}
    bench = pd.DataFrame(
        {**entry, "method": method, "measure": measure, "value": value}
        for method, measure, value in [
            ("equal weights", "step per run", 3.0), ("equal weights", "floor per run", 2.0),
            ("b", "step per run", 6.0), ("b", "floor per run", 4.0),
        ]
    )  # fmt: skip
    assert growth(bench, "tasks").set_index("method")["joint steps"].to_dict() == {"b": 2.0, "equal weights": 1.0}


def test_steps_of_devices_stand_side_by_side() -> None:
    """Without the number of threads, which a GPU has not, and without the networks of other tables."""
    columns = ["method", "tasks", "measure", "problem", "value"]
    cpu = [("a", 2, "step / plain step", "4 x 64, batch 128, threads 1", 1.8), ("a", 2, "step / plain step", "", 1.7)]
    gpu = [("a", 2, "step / plain step", "4 x 64, batch 128", 1.6), ("a", 2, "step", "4 x 64, batch 128", 9.0)]
    found = by_device({name: pd.DataFrame(rows, columns=columns) for name, rows in (("CPU", cpu), ("GPU", gpu))})
    assert found.reset_index().to_dict("records") == [
        {"network": "4 x 64, batch 128", "T": 2, "method": "a", "CPU": 1.8, "GPU": 1.6}
    ]


def test_ideals_are_what_the_peak_is_measured_from() -> None:
    bench = pd.DataFrame(
        [("a", 2, "peak / shared parameters", "units", 6.03), ("a", 2, "peak - ideal", "units", 0.03),
         ("a", 2, "peak", "MB", 60.3)],
        columns=["method", "tasks", "measure", "unit", "value"],
    )  # fmt: skip
    assert memory(bench).to_dict("records") == [{"method": "a", "tasks": 2, "units": 6.03, "ideal": 6}]


def test_counting_says_where_a_formula_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    good = counted(["equal weights"], [2], [4, 3], 5)
    assert good["as said"].all()
    assert good["rest"].sum() == 0
    monkeypatch.setattr(report, "cost", lambda *_: Cost(9, 9, 9, 9))
    assert not counted(["equal weights"], [2], [4, 3], 5)["as said"].any()


@pytest.mark.parametrize("benchmark", ["scaling", "memory"])
def test_the_committed_table_has_what_is_drawn(benchmark: str) -> None:
    table = read_bench(benchmark)
    assert (table["value"] > (-1 if benchmark == "memory" else 0)).all()
    assert "torch" in machine(table)


def test_a_benchmark_that_was_not_run_is_named() -> None:
    with pytest.raises(ValueError, match=r"Found none\. Run make bench COMMIT=1"):
        read_bench("nothing")


def test_the_figure_of_growth_draws_what_is_asked() -> None:
    sweep = pd.DataFrame(
        {"method": "HydaLearn", "tasks": [1, 2], "runs": [1, 4], "step ms": [1.0, 2.0], "joint steps": [1.4, 2.3]}
    )
    grown = pd.concat(sweep.assign(sweep=name) for name in ("tasks", "runs"))
    left, right = draw_growth(grown, ["HydaLearn"], "title").axes
    assert [len(left.lines), len(right.lines)] == [2, 1]


def test_every_method_named_in_the_figure_of_memory_was_measured() -> None:
    (ax,) = draw_memory(memory(read_bench("memory")), "title").axes
    assert {text.get_text() for text in ax.texts} > {"plain Adam", "AdaTask-Adam", "HydaLearn exact"}
    assert all(np.size(line.get_xdata()) == 4 for line in ax.lines)
