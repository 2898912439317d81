"""Quality from published runs: which cells are a study's, and what is computed from them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from companion.claims.statistics import paired_interval
from companion.store import paths
from companion.store.published import Cell, publish
from companion.studies.cost.quality import quality
from companion.studies.cost.studies import STUDIES

BY_NAME = {study.name: study for study in STUDIES}
SEEDS, TUNING = [0, 1, 2, 3], [1000, 1001, 1002, 1003]
MAIN = replace(BY_NAME["composition"], methods=("single task", "DWA", "HydaLearn"), test_to_train=0.25)
THREE = ("single tasks", "equal weights", "AdaTask-Adam")
ALL = replace(BY_NAME["films"], methods=THREE)
SCENES = replace(BY_NAME["scenes"], methods=THREE)
SINGLE, HYDA, DWA, OTHER = [1.0, 2.0, 4.0, 8.0], [0.9, 1.7, 3.5, 7.5], [1.1, 1.9, 4.1, 7.0], [1.0, 1.0, 1.0, 1.0]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for `figures/full`."""
    monkeypatch.setattr(paths, "COMMITTED_FIGURES", tmp_path)
    return tmp_path


def mean_log(a: list[float], b: list[float]) -> float:
    return float(np.mean(np.log(a) - np.log(b)))


def main_cell(method: str, losses: list[float], rates: list[float], **more: Any) -> Cell:
    """A cell of notebook 02: `losses` by seed, the same at every rate; seeds from 1000 on tune."""
    configuration = {**MAIN.configuration, "method": method, "rates": rates, "scales": [1.0], "seeds": SEEDS, **more}
    table = pd.DataFrame(
        [(seed, rate, 1.0, v) for rate in rates for seed, v in zip(configuration["seeds"], losses, strict=True)],
        columns=["seed", "rate", "scale", "value"],
    )
    return Cell("train_grid", configuration, table.assign(seconds=0.5, metric="test loss"))


def test_the_reported_runs_are_compared_with_single_task_training(place: Path) -> None:
    cells = [
        main_cell("single task", SINGLE, [0.1]),
        main_cell("HydaLearn", HYDA, [0.1]),
        main_cell("DWA", DWA, [0.1]),
        main_cell("DWA", SINGLE, [0.1, 0.2, 0.3], seeds=TUNING),
        main_cell("DWA", SINGLE, [0.9], seeds=TUNING),  # of an ablation
        main_cell("DWA", OTHER, [0.1], dose="i.i.d."),  # of another design
        main_cell("HydaLearn", OTHER, [0.1], gain_data="other"),  # of an ablation
        replace(main_cell("HydaLearn", OTHER, [0.1]), kind="swap"),  # of a control
    ]
    publish(place, MAIN.notebook, cells)
    table = quality(MAIN)
    assert set(table["reference"]) == {"single task", "DWA"}
    (price,) = table[table["reference"] == "DWA"].to_dict("records")
    assert price["method"] == "HydaLearn"
    assert price["mean"] == pytest.approx(mean_log(HYDA, DWA), abs=1e-12)
    found = table[table["reference"] == "single task"].set_index("method")
    assert list(found.index) == ["single task", "DWA", "HydaLearn"]
    expected = paired_interval(np.log(DWA), np.log(SINGLE), test_to_train=0.25)
    assert list(found.loc["DWA", ["mean", "low", "high", "count"]]) == pytest.approx(list(vars(expected).values()))
    assert list(found.loc["single task", ["mean", "low", "high"]]) == [0, 0, 0]
    assert found.loc["DWA", "settings"] == 3
    assert found.loc["DWA", "recorded seconds"] == 0.5


def tasks_cell(method: str, losses: list[float], spread: float = 1.0) -> Cell:
    """A cell of notebook 08 with three tasks, whose losses differ by a factor."""
    configuration = {**ALL.configuration, "method": method, "spreads": [spread], "rates": [0.1], "seeds": SEEDS}
    table = pd.DataFrame(
        [(seed, task, v * task) for task in (1, 2, 3) for seed, v in zip(SEEDS, losses, strict=True)],
        columns=["seed", "task", "value"],
    )
    return Cell("train_cell", configuration, table.assign(spread=spread, rate=0.1, metric="test loss", seconds=0.25))


def test_where_all_tasks_count_their_mean_does_and_the_bill_of_single_tasks_is_that_of_all(place: Path) -> None:
    by_method = {"joint": HYDA, "AdaTask": DWA, "single task": SINGLE}
    cells = [tasks_cell(method, losses) for method, losses in by_method.items()]
    publish(place, ALL.notebook, [*cells, tasks_cell("joint", OTHER, spread=10.0)])
    found = quality(ALL).query("reference == 'single tasks'").set_index("method")
    assert found.loc["AdaTask-Adam", "mean"] == pytest.approx(mean_log(DWA, SINGLE), abs=1e-12)
    assert found.loc["equal weights", "mean"] == pytest.approx(mean_log(HYDA, SINGLE), abs=1e-12)
    assert found.loc["single tasks", "recorded seconds"] == 3 * 0.25


def scenes_cell(method: str, error: float) -> Cell:
    """A cell of notebook 07 in which all four measures are equally far from those of the single tasks, which are 1."""
    measures = {"mIoU": -error, "pixel accuracy": -error, "absolute error": error, "relative error": error}
    values = {"cross-entropy": 1.0} | {name: 1.0 + value for name, value in measures.items()}
    configuration = {**SCENES.configuration, "method": method, "spreads": [1.0], "rates": [0.1], "seeds": [0, 1]}
    table = pd.DataFrame(
        [(seed, metric, value) for seed in (0, 1) for metric, value in values.items()],
        columns=["seed", "metric", "value"],
    )
    return Cell(
        "train_cell", configuration, table.assign(spread=1.0, rate=0.1, fold="test", epoch=0, layer=0, seconds=3.0)
    )


def test_scenes_are_compared_by_delta_m(place: Path) -> None:
    errors = {"joint": 0.2, "AdaTask": 0.1, "first task alone": 0.0, "second task alone": 0.0}
    publish(place, SCENES.notebook, [scenes_cell(method, error) for method, error in errors.items()])
    found = quality(SCENES).query("reference == 'single tasks'").set_index("method")
    expected = {"single tasks": 0.0, "equal weights": 0.2, "AdaTask-Adam": 0.1}
    assert dict(found["mean"]) == pytest.approx(expected, abs=1e-12)
    assert found.loc["single tasks", "recorded seconds"] == 6.0


def test_a_published_difference_comes_out_again() -> None:
    """Notebook 02 publishes the same measure, a difference of log losses."""
    study = BY_NAME["composition"]
    found = quality(study).query("reference == 'single task'").set_index("method")["mean"]
    benefit = pd.read_csv(paths.COMMITTED_FIGURES / f"{study.stem}.csv").query("design == 'composition'")
    published = benefit.set_index("reference")["mean"]
    for method in ("single task", "equal weights", "static grid"):
        assert found["HydaLearn"] - found[method] == pytest.approx(published[method], abs=2e-7)
