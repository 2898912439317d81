"""Scarce main labels: which are kept, which are hidden, and which designs are refused."""

import dataclasses

import numpy as np
import pytest
from companion.data import Fold, TabularTask, fold_arrays, hide_main_labels, load_support2, splits

SEEDS = [0, 1]
Folds = tuple[Fold, Fold]


@pytest.fixture(scope="module")
def patients() -> TabularTask:
    return load_support2()


@pytest.fixture(scope="module")
def folds(patients: TabularTask) -> Folds:
    return fold_arrays(patients, splits(patients, SEEDS))[:2]


@pytest.mark.parametrize("keep", [100, 200, 500, 2000])
def test_kept_labels_are_true_and_in_proportion(patients: TabularTask, folds: Folds, keep: int) -> None:
    scarce = hide_main_labels(patients, *folds, keep, SEEDS)
    for full, few, number in zip(folds, scarce, (keep, round(keep / 3)), strict=True):
        main = few.targets[:, 0]
        known = ~np.isnan(main)
        assert (known.sum(1) == number).all()
        assert np.array_equal(main[known], full.targets[:, 0][known])
        assert np.abs(np.nansum(main, axis=1) / number - 0.2705).max() < 0.51 / number + 1e-3
        assert np.array_equal(few.targets[:, 1:], full.targets[:, 1:], equal_nan=True)
        assert few.inputs is full.inputs


def test_kept_labels_are_nested_and_follow_their_seed(patients: TabularTask, folds: Folds) -> None:
    few, more = (~np.isnan(hide_main_labels(patients, *folds, keep, SEEDS)[0].targets[:, 0]) for keep in (100, 500))
    assert (more | ~few).all()
    again = hide_main_labels(patients, *folds, 100, SEEDS)[0].targets[:, 0]
    other = hide_main_labels(patients, *folds, 100, [2, 3])[0].targets[:, 0]
    assert np.array_equal(~np.isnan(again), few)
    assert (~np.isnan(other) & few).sum() < 20  # chance overlap of two hundred labels is four


def test_nothing_happens_to_the_folds_passed_in(patients: TabularTask, folds: Folds) -> None:
    before = [fold.targets.copy() for fold in folds]
    hide_main_labels(patients, *folds, 100, SEEDS)
    assert all(np.array_equal(a, fold.targets, equal_nan=True) for a, fold in zip(before, folds, strict=True))


def test_a_design_that_tells_hidden_labels_is_refused(folds: Folds) -> None:
    task = load_support2(30, ["physiology score", "death within 180 days"])
    with pytest.raises(ValueError, match=r"should not tell .*30 days.* Found death within 180 days. Load the data"):
        hide_main_labels(task, *folds, 100, SEEDS)


@pytest.mark.parametrize("keep", [0, 1, 2, 5463, 6000])
def test_label_counts_that_stratification_cannot_meet(patients: TabularTask, folds: Folds, keep: int) -> None:
    if keep == 5463:  # all there are: nothing hidden
        assert np.array_equal(hide_main_labels(patients, *folds, keep, SEEDS)[0].targets, folds[0].targets, True)
        return
    with pytest.raises(ValueError, match=rf"`keep` should leave each class .* Found `keep = {keep}`, which makes"):
        hide_main_labels(patients, *folds, keep, SEEDS)


def test_one_seed_per_split(patients: TabularTask, folds: Folds) -> None:
    with pytest.raises(ValueError, match=r"one entry per split. Found 1 for 2 splits"):
        hide_main_labels(patients, *folds, 100, [0])


def test_a_task_with_two_auxiliaries_keeps_both(patients: TabularTask) -> None:
    task = load_support2(30, ["physiology score", "do-not-resuscitate order"])
    task = dataclasses.replace(task, inputs=task.inputs[["num_age"]])
    train, validation, _ = fold_arrays(task, splits(task, [0]))
    few, _ = hide_main_labels(task, train, validation, 100, [0])
    assert np.array_equal(few.targets[0, 1:], train.targets[0, 1:], equal_nan=True)
