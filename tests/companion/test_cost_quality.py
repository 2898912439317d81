"""Quality from stored runs: which are taken, what is computed from them, and that the committed table is not stale."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from companion.claims.statistics import paired_interval
from companion.plots.figures import read_numbers
from companion.store import paths
from companion.store.results import Results
from companion.studies.cost import quality as module
from companion.studies.cost.quality import COLUMNS, TABLES, gather, published, quality
from companion.studies.cost.studies import STUDIES, Study
from companion.studies.hydalearn_synthetic.study import train_grid
from companion.studies.recommendation.study import train_cell
from companion.studies.scenes.study import train_cell as train_scenes

BY_NAME = {study.name: study for study in STUDIES}
SEEDS = [0, 1, 2, 3]
MAIN = replace(BY_NAME["composition"], methods=("single task", "DWA", "HydaLearn"), test_to_train=0.25)
THREE = ("single tasks", "equal weights", "AdaTask-Adam")
ALL = replace(BY_NAME["films"], methods=THREE)
SCENES = replace(BY_NAME["scenes"], methods=THREE, first="AdaTask-Adam")


def store(
    folder: Path, compute: Callable[..., pd.DataFrame], configuration: Mapping[str, Any], table: pd.DataFrame, code: str
) -> None:
    """Keep a table as if `compute` had made it."""

    def made(_: Mapping[str, Any]) -> pd.DataFrame:
        return table

    made.__module__, made.__qualname__ = compute.__module__, compute.__qualname__
    Results(folder, code).cell(configuration, made)


def main_cell(
    folder: Path, method: str, losses: list[float], rates: list[float], code: str = "new", **more: Any
) -> None:
    """A cell of notebook 02: `losses` by seed, the same at every rate; seeds from 1000 on tune."""
    configuration = {**MAIN.configuration, "method": method, "rates": rates, "scales": [1.0], "seeds": SEEDS, **more}
    rows = [
        (seed, rate, 1.0, 0.5, "test loss", loss)
        for rate in rates
        for seed, loss in zip(configuration["seeds"], losses, strict=True)
    ]
    columns = ["seed", "rate", "scale", "seconds", "metric", "value"]
    store(folder, train_grid, configuration, pd.DataFrame(rows, columns=columns), code)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], None]:
    """Set what a notebook has published."""

    def say(means: dict[str, float]) -> None:
        monkeypatch.setattr(module, "published", lambda _: means)

    return say


SINGLE, HYDA, DWA, OTHER = [1.0, 2.0, 4.0, 8.0], [0.9, 1.7, 3.5, 7.5], [1.1, 1.9, 4.1, 7.0], [1.0, 1.0, 1.0, 1.0]


def mean_log(a: list[float], b: list[float]) -> float:
    return float(np.mean(np.log(a) - np.log(b)))


def fill(folder: Path) -> None:
    main_cell(folder, "single task", SINGLE, [0.1])
    main_cell(folder, "HydaLearn", HYDA, [0.1])
    main_cell(folder, "DWA", OTHER, [0.3])  # of an earlier choice
    main_cell(folder, "DWA", DWA, [0.1])
    main_cell(folder, "DWA", SINGLE, [0.1, 0.2, 0.3], seeds=[1000, 1001, 1002, 1003])
    main_cell(folder, "DWA", SINGLE, [0.1, 0.2], seeds=[1000, 1001, 1002, 1003], code="old")
    main_cell(folder, "DWA", OTHER, [0.1], dose="i.i.d.")  # of another design


def test_the_published_runs_are_taken_and_compared_with_single_task_training(
    tmp_path: Path, says: Callable[[dict[str, float]], None]
) -> None:
    fill(tmp_path)
    says({"single task": mean_log(HYDA, SINGLE), "DWA": mean_log(HYDA, DWA)})
    table = quality(MAIN, tmp_path)
    assert table is not None
    assert list(table.columns) == list(COLUMNS)
    assert set(table["reference"]) == {"single task", "DWA"}
    price = table[table["reference"] == "DWA"].to_dict("records")
    assert [row["method"] for row in price] == ["HydaLearn"]
    assert price[0]["mean"] == pytest.approx(mean_log(HYDA, DWA), abs=1e-12)
    found = table[table["reference"] == "single task"].set_index("method")
    assert list(found.index) == ["single task", "DWA", "HydaLearn"]
    expected = paired_interval(np.log(DWA), np.log(SINGLE), test_to_train=0.25)
    assert list(found.loc["DWA", ["mean", "low", "high", "count"]]) == pytest.approx(list(vars(expected).values()))
    assert list(found.loc["single task", ["mean", "low", "high"]]) == [0, 0, 0]
    assert found.loc["DWA", "settings"] == 3  # those of the code that made the final runs
    assert found.loc["DWA", "recorded seconds"] == 0.5


def test_runs_that_give_other_numbers_do_not_count(tmp_path: Path, says: Callable[[dict[str, float]], None]) -> None:
    fill(tmp_path)
    says({"single task": mean_log(HYDA, SINGLE), "DWA": mean_log(HYDA, DWA) + 1e-5})
    assert quality(MAIN, tmp_path) is None
    assert quality(MAIN, tmp_path / "nothing") is None


def tasks_cell(
    folder: Path, method: str, losses: list[float], aucs: list[float], spread: float = 1.0, code: str = "new"
) -> None:
    """A cell of notebook 08 with three tasks; the tasks' losses and AUCs differ by fixed amounts."""
    configuration = {**ALL.configuration, "method": method, "spreads": [spread], "rates": [0.1], "seeds": SEEDS}
    rows = [
        (spread, 0.1, seed, task, metric, value * task, 0.25)
        for task in (1, 2, 3)
        for metric, values in (("test loss", losses), ("AUC", aucs))
        for seed, value in zip(SEEDS, values, strict=True)
    ]
    columns = ["spread", "rate", "seed", "task", "metric", "value", "seconds"]
    store(folder, train_cell, configuration, pd.DataFrame(rows, columns=columns), code)


def test_where_all_tasks_count_their_mean_does_and_the_bill_of_single_tasks_is_that_of_all(
    tmp_path: Path, says: Callable[[dict[str, float]], None]
) -> None:
    aucs = {"joint": [0.1, 0.2, 0.3, 0.2], "AdaTask": [0.2, 0.2, 0.3, 0.1], "single task": [0.3, 0.3, 0.3, 0.3]}
    for method, losses in (("joint", HYDA), ("AdaTask", DWA), ("single task", SINGLE)):
        tasks_cell(tmp_path, method, losses, aucs[method])
    tasks_cell(tmp_path, "joint", OTHER, aucs["joint"], spread=10.0)
    says({"AdaTask-Adam": 2 * float(np.mean(aucs["joint"])) - 2 * float(np.mean(aucs["AdaTask"]))})
    table = quality(ALL, tmp_path)
    assert table is not None
    found = table[table["reference"] == "single tasks"].set_index("method")
    assert found.loc["AdaTask-Adam", "mean"] == pytest.approx(mean_log(DWA, SINGLE), abs=1e-12)
    assert found.loc["equal weights", "mean"] == pytest.approx(mean_log(HYDA, SINGLE), abs=1e-12)
    assert found.loc["single tasks", "recorded seconds"] == 3 * 0.25


def test_single_tasks_of_other_code_do_not_count(tmp_path: Path, says: Callable[[dict[str, float]], None]) -> None:
    says({"AdaTask-Adam": 0.0})
    for method in ("joint", "AdaTask"):
        tasks_cell(tmp_path, method, SINGLE, SINGLE)
    assert quality(ALL, tmp_path) is None
    tasks_cell(tmp_path, "single task", SINGLE, SINGLE, code="old")
    assert quality(ALL, tmp_path) is None
    tasks_cell(tmp_path, "single task", SINGLE, SINGLE)
    assert quality(ALL, tmp_path) is not None


def scenes_cell(folder: Path, method: str, error: float, code: str, rate: float = 0.1) -> None:
    """A cell of notebook 07 in which all four measures are equally far from those of the single tasks, which are 1."""
    measures = {"mIoU": -error, "pixel accuracy": -error, "absolute error": error, "relative error": error}
    values = {"cross-entropy": 1.0} | {name: 1.0 + value for name, value in measures.items()}
    configuration = {**SCENES.configuration, "method": method, "spreads": [1.0], "rates": [rate], "seeds": [0, 1]}
    rows = [(1.0, rate, seed, "test", 0, 0, metric, value, 3.0) for seed in (0, 1) for metric, value in values.items()]
    columns = ["spread", "rate", "seed", "fold", "epoch", "layer", "metric", "value", "seconds"]
    store(folder, train_scenes, configuration, pd.DataFrame(rows, columns=columns), code)


def test_scenes_are_compared_by_delta_m_within_one_code(
    tmp_path: Path, says: Callable[[dict[str, float]], None]
) -> None:
    says({"equal weights": -0.1})
    for method, error in (("joint", 0.2), ("AdaTask", 0.1), ("first task alone", 0.0)):
        scenes_cell(tmp_path, method, error, "new")
    assert quality(SCENES, tmp_path) is None  # one single task is missing
    scenes_cell(tmp_path, "second task alone", 0.0, "old")
    assert quality(SCENES, tmp_path) is None
    scenes_cell(tmp_path, "second task alone", 0.0, "new")
    table = quality(SCENES, tmp_path)
    assert table is not None
    found = table[table["reference"] == "single tasks"].set_index("method")["mean"]
    assert dict(found) == pytest.approx({"single tasks": 0.0, "equal weights": 0.2, "AdaTask-Adam": 0.1}, abs=1e-12)
    assert set(table.loc[table["method"] == "single tasks", "recorded seconds"]) == {6.0}
    scenes_cell(tmp_path, "joint", 0.3, "new", rate=0.2)
    assert quality(SCENES, tmp_path) is None  # which of two joint trainings is the published one, nobody can say


def test_a_damaged_description_is_named(tmp_path: Path) -> None:
    (tmp_path / ".half-0.json").write_text("{")  # what a writer leaves that was killed is no cell
    assert quality(MAIN, tmp_path) is None
    (tmp_path / "damaged-0.json").write_text("{")
    with pytest.raises(ValueError, match=r"damaged-0\.json should hold what was stored there\. Found it changed since"):
        quality(MAIN, tmp_path)


def test_without_stored_runs_the_committed_table_stands_for_them(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        table, read = gather(STUDIES, folder)
        assert read == []
        assert list(dict.fromkeys(table["study"])) == list(BY_NAME)


def test_a_study_that_is_nowhere_is_named() -> None:
    with pytest.raises(ValueError, match=r"no stored runs .* Run make full NOTEBOOK=02 first"):
        gather([replace(MAIN, name="another")], None)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_the_committed_table_has_what_its_notebook_published(study: Study) -> None:
    """Where the published measure is the table's own, every difference has to be the published one."""
    rows = read_numbers(paths.COMMITTED_FIGURES, TABLES[0])
    found = {row["method"]: row for row in rows[rows["study"] == study.name].to_dict("records")}
    expected = published(study)
    assert {*expected, study.first} <= set(found)
    if study.metric in ("test log loss", "AUC"):
        return  # published in nats or AUC, here relative: the stored runs had to give both
    for method, mean in expected.items():
        if found[method]["count"] == found[study.first]["count"]:
            difference = found[study.first]["mean"] - found[method]["mean"]
            assert difference == pytest.approx(mean, abs=2e-7), "run make full NOTEBOOK=10 again"
