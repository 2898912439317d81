"""The mortgage panel: its messages always, its content where the file is present."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from companion.data import TabularTask, fold_arrays, load_mortgages, mortgages, splits, time_splits


@pytest.fixture(scope="module")
def panel() -> TabularTask:
    folder = os.environ.get("MTLCORE_DATA")
    if not folder:
        pytest.skip("MTLCORE_DATA is unset: the mortgage panel dcr.csv is not redistributed")
    if not (Path(folder) / mortgages.FILE).is_file():
        pytest.skip(f"there is no {mortgages.FILE} in MTLCORE_DATA")
    return load_mortgages()


def test_counts(panel: TabularTask) -> None:
    assert panel.inputs.shape == (62_178, 21)
    assert {name: int(labels.sum()) for name, labels in panel.targets.items()} == {"default": 1525, "payoff": 2625}
    assert panel.groups is not None
    assert len(np.unique(panel.groups)) == 5000


def test_no_leak_among_the_inputs(panel: TabularTask) -> None:
    leaks = {"status_time", "lgd_time", "recovery_res", "res_time", "default_time", "payoff_time", "id"}
    assert not leaks & set(panel.inputs.columns)


def test_no_mortgage_in_two_folds(panel: TabularTask) -> None:
    assert panel.groups is not None
    drawn = splits(panel, [0, 1])
    for split in drawn:
        assert not np.isin(panel.groups[split.test], panel.groups[split.train]).any()
        assert not np.isin(panel.groups[split.validation], panel.groups[split.train]).any()
        assert not np.isin(panel.groups[split.validation], panel.groups[split.test]).any()
    folds = fold_arrays(panel, drawn)
    assert all(np.isfinite(fold.inputs).all() for fold in folds)
    assert all(0.02 < fold.targets[:, 0].mean() < 0.03 for fold in folds)


def test_splits_by_time_hold_enough_defaults_and_share_no_mortgage(panel: TabularTask) -> None:
    assert panel.groups is not None
    assert panel.periods is not None
    drawn = time_splits(panel, range(20), **mortgages.WINDOWS)
    assert {(len(s.train), len(s.validation), len(s.test)) for s in drawn} == {(12603, 2589, 5264)}
    for split in drawn:
        assert panel.periods[split.train].max() < 31 <= panel.periods[split.validation].min()
        assert panel.periods[split.validation].max() < 37 <= panel.periods[split.test].min()
        members = [set(panel.groups[rows]) for rows in vars(split).values()]
        assert len(set.union(*members)) == sum(map(len, members))
        assert min(panel.targets["default"][rows].sum() for rows in vars(split).values()) > 80


def test_dealing_whatever_the_future_keeps_the_default_rate_of_the_past(panel: TabularTask) -> None:
    assert panel.groups is not None
    assert panel.periods is not None
    default = panel.targets["default"]
    past = default[panel.periods < 31].mean()
    rates = [default[s.train].mean() for s in time_splits(panel, range(40), **mortgages.WINDOWS)]
    # Dealing by the last period would train on those who left early, of whom more defaulted.
    early = ~np.isin(panel.groups, panel.groups[panel.periods >= 31])
    assert default[early].mean() > 1.5 * past
    assert abs(np.mean(rates) / past - 1) < 0.03


def test_unset_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MTLCORE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"`dcr.csv` should lie .* MTLCORE_DATA. Found .* unset.*creditrisk"):
        load_mortgages()


def test_absent_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MTLCORE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"`dcr.csv` should be there. Found nothing.*deepcreditrisk"):
        load_mortgages()


def test_other_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MTLCORE_DATA", str(tmp_path))
    (tmp_path / "dcr.csv").write_text("id,time\n1,2\n")
    with pytest.raises(ValueError, match=r"`dcr.csv` should have sha256 804f.* Found [0-9a-f]{64}.*deepcreditrisk"):
        load_mortgages()


def test_missing_columns() -> None:
    with pytest.raises(ValueError, match=r"Found no default_time, .*status_time"):
        mortgages.mortgages_task(pd.DataFrame({"id": [1]}))
