"""Splits by time: windows, groups, equal sizes, seeds, and the messages."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from companion.data import TabularTask, time_splits

WINDOWS = {"validation_from": 12, "test_from": 16}


@pytest.fixture
def panel() -> TabularTask:
    """4,000 groups, each observed over 1 to 12 of 20 periods; the inputs mean nothing."""
    rng = np.random.default_rng(0)
    first, length = rng.integers(0, 20, 4000), rng.integers(1, 13, 4000)
    rows = [(g, p) for g in range(4000) for p in range(first[g], min(first[g] + length[g], 20))]
    groups, periods = np.array(rows).T
    inputs = pd.DataFrame({"a": rng.normal(size=len(rows))})
    main = {"main": (rng.random(len(rows)) < 0.2).astype(float)}
    return TabularTask("panel", inputs, main, groups, "-", "made here", True, periods=periods)


def test_windows_groups_and_sizes(panel: TabularTask) -> None:
    assert panel.groups is not None
    assert panel.periods is not None
    drawn = time_splits(panel, range(20), **WINDOWS)
    for split in drawn:
        for rows, low, high in ((split.train, 0, 12), (split.validation, 12, 16), (split.test, 16, 20)):
            assert ((panel.periods[rows] >= low) & (panel.periods[rows] < high)).all()
            assert len(np.unique(rows)) == len(rows)
        members = [set(panel.groups[rows]) for rows in vars(split).values()]
        assert len(set.union(*members)) == sum(map(len, members))
    window = np.digitize(panel.periods, [12, 16])
    expected = tuple(round(share * (window == fold).sum()) for fold, share in ((0, 0.55), (1, 0.2), (2, 0.2)))
    assert {(len(s.train), len(s.validation), len(s.test)) for s in drawn} == {expected}


def test_seeds_deal_anew_and_repeat(panel: TabularTask) -> None:
    a, b, c = time_splits(panel, [3, 3, 4], **WINDOWS)
    assert np.array_equal(a.test, b.test)
    assert len(np.intersect1d(a.test, c.test)) < 0.35 * len(a.test)  # chance overlap is a fifth
    assert np.array_equal(time_splits(panel, [4], **WINDOWS)[0].train, c.train)  # whatever other seeds are drawn


def test_rows_without_groups_are_dealt_one_by_one(panel: TabularTask) -> None:
    (split,) = time_splits(dataclasses.replace(panel, groups=None), [0], **WINDOWS)
    assert not np.intersect1d(split.train, split.test).size
    assert panel.periods is not None
    assert panel.periods[split.train].max() == 11


@pytest.mark.parametrize(("first", "second"), [(16, 12), (12, 12), (0, 12), (12, 20), (-5, 40)])
def test_boundaries_that_leave_a_window_empty(panel: TabularTask, first: int, second: int) -> None:
    with pytest.raises(ValueError, match=rf"periods 0 to 19 into three .* `validation_from = {first}`, `test_from ="):
        time_splits(panel, [0], validation_from=first, test_from=second)


def test_data_without_periods(panel: TabularTask) -> None:
    with pytest.raises(ValueError, match=r"Data `panel` should have `periods` .* Found None. Use `splits`"):
        time_splits(dataclasses.replace(panel, periods=None), [0], **WINDOWS)


def test_shares_that_leave_no_room(panel: TabularTask) -> None:
    with pytest.raises(ValueError, match=r"sum to less than 0.95. Found `validation = 0.5`, `test = 0.45`"):
        time_splits(panel, [0], validation=0.5, test=0.45, **WINDOWS)


def test_too_few_groups_for_equal_sizes(panel: TabularTask) -> None:
    assert panel.groups is not None
    with pytest.raises(ValueError, match=r"many enough .* Found \d+ of \d+ rows left for fold training under seed"):
        time_splits(dataclasses.replace(panel, groups=panel.groups // 400), range(10), **WINDOWS)


def test_a_window_with_one_class(panel: TabularTask) -> None:
    assert panel.periods is not None
    never = {"main": np.where(panel.periods >= 16, 0.0, panel.targets["main"])}
    with pytest.raises(ValueError, match=r"both classes of the main task `main`. Found 1 in the test fold of split 0"):
        time_splits(dataclasses.replace(panel, targets=never), [0], **WINDOWS)
