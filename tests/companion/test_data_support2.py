"""The patients of SUPPORT: labels, leaks, and the messages of their loader."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from companion.data import TabularTask, fold_arrays, load_support2, splits, support2

LEAKS = {"event", "time", "num_surv2m", "num_surv6m", "fac_dnr", "fac_sfdm2"}


@pytest.fixture(scope="module")
def patients() -> TabularTask:
    return load_support2()


def test_counts(patients: TabularTask) -> None:
    assert patients.inputs.shape == (9105, 29)
    assert list(patients.targets) == ["death within 30 days", "physiology score"]
    assert patients.targets["death within 30 days"].sum() == 2463
    assert patients.kinds == {"death within 30 days": "classification", "physiology score": "regression"}
    assert np.isnan(patients.targets["physiology score"]).sum() == 1
    assert patients.stand_in


@pytest.mark.parametrize(("days", "deaths"), [(7, 905), (30, 2463), (60, 3159), (180, 4265)])
def test_deaths_of_each_horizon(days: int, deaths: int) -> None:
    task = load_support2(days, auxiliaries=())
    assert {name: labels.sum() for name, labels in task.targets.items()} == {f"death within {days} days": deaths}


def test_no_leak_among_the_inputs() -> None:
    for auxiliaries in [(), ("physiology score",), ("functional disability", "death within 7 days")]:
        columns = set(load_support2(30, auxiliaries).inputs.columns)
        assert not {*LEAKS, "pid"} & columns
        assert ("num_sps" in columns) == ("physiology score" not in auxiliaries)


def test_the_leaks_are_columns_of_the_file() -> None:
    assert set(support2.LEAKS) == LEAKS
    with pytest.raises(ValueError, match=r"Found no event, fac_dnr, .*num_sps, .*pid, time"):
        support2.support2_task(pd.DataFrame({"num_age": [50.0]}), 30, ())


def test_disability_and_orders_are_unknown_where_they_were_not_observed() -> None:
    task = load_support2(30, ("functional disability", "do-not-resuscitate order"))
    dead = task.targets["death within 30 days"] == 1
    disability, order = task.targets["functional disability"], task.targets["do-not-resuscitate order"]
    assert np.isnan(disability[dead]).all()
    assert [int((disability == label).sum()) for label in (0, 1)] == [3061, 916 + 564 + 41]
    assert [int((order == label).sum()) for label in (0, 1)] == [5880, 2956]


@pytest.mark.parametrize(
    ("days", "auxiliary", "reveals"),
    [
        (30, "physiology score", False),
        (30, "do-not-resuscitate order", False),
        (30, "functional disability", True),
        (180, "functional disability", False),
        (30, "death within 180 days", True),
        (180, "death within 30 days", True),
    ],
)
def test_auxiliaries_that_tell_the_main_label_are_marked(days: int, auxiliary: str, reveals: bool) -> None:
    task = load_support2(days, [auxiliary])
    assert task.revealing == ({auxiliary} if reveals else set())
    known, main = task.targets[auxiliary], task.targets[task.main]
    rates = [main[known == value].mean() for value in (0, 1)] if task.kinds[auxiliary] != "regression" else [0.5]
    assert (min(rates) < 0.002 or max(rates) > 0.998) == reveals


def test_the_score_is_standardised_by_the_training_fold(patients: TabularTask) -> None:
    train, _, test = fold_arrays(patients, splits(patients, [0, 1]))
    score = train.targets[:, 1]
    assert np.abs(np.nanmean(score, axis=1)).max() < 1e-12
    assert np.abs(np.nanstd(score, axis=1) - 1).max() < 1e-12
    assert 1e-6 < np.abs(np.nanmean(test.targets[:, 1], axis=1)).max() < 0.1  # near 0, by another fold's mean
    assert all(np.isfinite(fold.inputs).all() for fold in (train, test))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon_days": 31}, r"`horizon_days` should be one of 7, 30, 60, 180. Found `horizon_days = 31`. Pass"),
        ({"auxiliaries": ["log survival time"]}, r"`auxiliaries` should .* Found log survival time. Pass"),
        ({"auxiliaries": ["death within 30 days"]}, r"`auxiliaries` should .* Found death within 30 days. Pass"),
        ({"auxiliaries": ["physiology score"] * 2}, r"Found a task twice"),
    ],
)
def test_parameters_are_checked(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_support2(**arguments)  # type: ignore[arg-type]


def test_absent_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SurvSet", None)
    with pytest.raises(FileNotFoundError, match=r"`support2.pickle` should be there. Found nothing.* SurvSet==0.2.11"):
        load_support2()


def test_another_file_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "resources/pickles").mkdir(parents=True)
    (tmp_path / "resources/pickles/support2.pickle").write_bytes(b"not a pickle")
    monkeypatch.setattr("companion.data.files.resources.files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=r"`support2.pickle` should have sha256 07d0.* Found [0-9a-f]{64} at"):
        load_support2()
