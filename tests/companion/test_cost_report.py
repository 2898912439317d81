"""Notebook 10's tables on cases made by hand, and its studies' sizes against the studies themselves."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from companion.problems.interactions import folds
from companion.problems.scale_gap import NUM_INPUTS
from companion.problems.synthetic import prepare
from companion.problems.tables import folds_of
from companion.studies.cost import report
from companion.studies.cost.counts import Cost
from companion.studies.cost.figures import draw_growth, draw_memory, draw_planes
from companion.studies.cost.report import (
    counted,
    front,
    growth,
    machine,
    memory,
    read_bench,
    study_costs,
    versus,
    worth,
)
from companion.studies.cost.studies import STUDIES, Study
from companion.studies.scenes.study import make_model

BY_NAME = {study.name: study for study in STUDIES}


def rows(**costs: tuple[float, float]) -> pd.DataFrame:
    """Methods of the composition study by (gain, passes)."""
    table = pd.DataFrame([(m, g, p) for m, (g, p) in costs.items()], columns=["method", "gain", "passes"])
    table[["gain low", "gain high"]] = np.stack([table["gain"] - 1, table["gain"] + 1], axis=1)
    return table.assign(study="composition", count=5)


def test_the_front_is_what_no_method_beats() -> None:
    table = rows(cheap=(1.0, 10), worse=(0.5, 10), dear=(3.0, 40), beaten=(2.0, 50), middle=(2.0, 20))
    assert front(table, "passes") == ["cheap", "middle", "dear"]
    assert front(table, "passes", equal=0.5) == ["cheap", "dear"]  # the middle costs no less than half of the best
    assert front(table.assign(passes=[np.nan, 10, 40, 50, 20]), "passes") == ["worse", "middle", "dear"]


def test_what_a_method_is_worth_is_said_with_its_cheaper_rivals() -> None:
    table = rows(cheap=(2.0, 10), worse=(0.5, 10), HydaLearn=(1.5, 40), equal=(1.5, 40))
    assert worth(table, "HydaLearn") == (
        "composition: HydaLearn +1.5 % [+0.5, +2.5], better, 40 passes; fewer passes and no lower mean: cheap"
    )
    assert worth(table, "cheap").endswith("better, 10 passes; fewer passes and no lower mean: none")
    assert "undecided" in worth(table, "worse")


def test_gains_are_per_cent_of_the_single_tasks_loss_and_costs_are_multiplied_out() -> None:
    quality = pd.DataFrame(
        [
            ("composition", "HydaLearn", math.log(0.9), math.log(0.8), 0.0, 20, 45),
            ("scenes", "AdaTask-Adam", 0.1, -0.2, 0.4, 6, 5),
        ],
        columns=["study", "method", "mean", "low", "high", "count", "settings"],
    )
    bench = pd.DataFrame(
        [("composition", "HydaLearn", "step", 2.0), ("composition", "HydaLearn", "peak", 2**20 / 1e6)],
        columns=["problem", "method", "measure", "value"],
    )
    first, second = study_costs(quality, bench).to_dict("records")
    assert [first[name] for name in ("gain", "gain low", "gain high")] == pytest.approx([10.0, 0.0, 20.0], abs=1e-9)
    assert [second[name] for name in ("gain", "gain low", "gain high")] == pytest.approx([-10.0, -40.0, 20.0], abs=1e-9)
    assert (first["passes"], first["passes with tuning"]) == (500 * 2, 500 * 2 * 45)
    assert first["training seconds"] == pytest.approx(1.0)
    assert first["peak mib"] == pytest.approx(1.0)
    assert math.isnan(second["training seconds"])  # nobody measured it


def test_a_sweep_is_arranged() -> None:
    entry = {"problem": "tasks", "tasks": 2, "parameters": "100", "runs": 1}
    bench = pd.DataFrame(
        {**entry, "method": method, "measure": measure, "value": value}
        for method, measure, value in [
            ("a", "step per run", 3.0), ("a", "floor per run", 2.0),
            ("b", "step per run", 6.0), ("b", "floor per run", 4.0),
        ]
    )  # fmt: skip
    found = growth(bench, "tasks").assign(sweep="tasks")
    assert list(found["seconds ratio"]) == [1.5, 1.5]
    assert versus(found, "b", "a", "tasks", 2) == 2.0


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


@pytest.mark.parametrize("benchmark", ["scaling", "study_step", "memory"])
def test_the_committed_table_has_what_is_drawn(benchmark: str) -> None:
    table = read_bench(benchmark)
    assert (table["value"] > (-1 if benchmark == "memory" else 0)).all()
    assert "torch" in machine(table)


def test_a_benchmark_that_was_not_run_is_named() -> None:
    with pytest.raises(ValueError, match=r"Found none\. Run make bench COMMIT=1"):
        read_bench("nothing")


def test_every_step_of_every_study_is_measured() -> None:
    table = read_bench("study_step")
    assert set(table["problem"]) == set(BY_NAME)
    for study in STUDIES:
        missing = set(study.methods) - set(table.loc[table["problem"] == study.name, "method"])
        assert not missing, f"{study.name}: run make bench COMMIT=1 for {missing}"


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_step_of_each_study_runs(study: Study) -> None:
    problem = study.problem(study.num_tasks)
    losses = problem.losses_fn(problem.model, problem.batch)
    assert len(losses) == len(problem.kinds) == study.num_tasks
    assert all(bool(torch.isfinite(loss)) for loss in losses)
    alone = study.problem(1)
    assert len(alone.losses_fn(alone.model, alone.batch)) == 1


def shared_numbers(name: str) -> int:
    return sum(p.numel() for p in BY_NAME[name].problem(BY_NAME[name].num_tasks).shared)


def test_the_synthetic_studies_have_the_studies_sizes() -> None:
    common = {"noise": 1.0, "hidden": [32, 32], "batch_size": 40, "num_batches": 50, "device": "cpu"}
    for name in ("composition", "related and unrelated"):
        study = BY_NAME[name]
        configuration = {**common, **study.configuration}
        problem = prepare(configuration, [0])
        assert problem.num_tasks == study.num_tasks
        assert problem.train.num_rows * configuration["epochs"] == study.steps
        assert sum(p.numel() for p in problem.shared) == shared_numbers(name)
        assert problem.train.batch(torch.tensor([[0]]))[0].shape[1:] == study.problem(2).batch[0].shape
    assert BY_NAME["two synthetic tasks"].problem(2).batch[0].shape[1] == NUM_INPUTS


def test_the_mortality_studies_have_the_studies_sizes() -> None:
    for name in ("mortality", "mortality, 200 labels"):
        study = BY_NAME[name]
        found = folds_of(study.configuration, [100])
        problem = study.problem(2)
        assert found.train.inputs.shape[-1] == problem.batch[0].shape[1]
        assert found.kinds == problem.kinds
        assert found.train.inputs.shape[1] // 256 * 8 == study.steps
        assert found.test_to_train == pytest.approx(study.test_to_train, abs=1e-9)


def test_the_other_studies_have_the_studies_sizes() -> None:
    sizes, (train, *_) = folds("movielens", 0, "random", (0,), 10)
    films = BY_NAME["films"]
    assert train.targets.shape[1] == films.num_tasks
    assert train.targets.shape[2] // 512 * 3 == films.steps
    tables = sum(8 * rows for rows in sizes.values())
    assert shared_numbers("films") == tables + (4 * 8 + 1) * 32 + (32 + 1) * 16
    network = make_model({"depths": [], "channels": [8, 8, 16, 16], "dtype": "float32"}, 0)
    assert shared_numbers("scenes") == sum(p.numel() for p in network.shared_parameters())


def test_the_figures_draw_whatever_is_there() -> None:
    table = rows(HydaLearn=(2.0, 10), PCGrad=(0.5, 10), DWA=(3.0, 40)).assign(notebook="02_x")
    assert len(draw_planes(table, "passes", "passes", "title").axes) == 3
    sweep = pd.DataFrame(
        {"method": "HydaLearn", "tasks": [1, 2], "parameters": [1, 10], "runs": [1, 4], "step ms": [1.0, 2.0],
         "floor ms": [1.0, 1.0], "seconds ratio": [1.0, 2.0]}
    )  # fmt: skip
    grown = pd.concat(sweep.assign(sweep=name) for name in ("tasks", "parameters", "runs"))
    assert len(draw_growth(grown, ["HydaLearn", "Nash-MTL"], "title").axes) == 6
    peaks = pd.DataFrame({"method": "plain Adam", "tasks": [1, 2], "units": [4.0, 4.1], "ideal": [4, 4]})
    assert draw_memory(peaks, "title").axes[0].get_title() == "title"
