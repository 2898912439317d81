"""Repeated splits into three folds: stratified by the main label, or by whole groups."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from companion.data.tabular import Split, TabularTask


def splits(task: TabularTask, seeds: Sequence[int], *, validation: float = 0.2, test: float = 0.2) -> list[Split]:
    """Draw one train/validation/test split per seed, all of equal sizes so that they train as one batched program.

    Without groups the splits are stratified by the main task: with 178 positives an unlucky fold would have few. With
    groups, shuffled groups fill the test, then the validation, then the training fold; the rows of a group that does
    not fit into a full fold are left out (fewer than three groups in all), which keeps sizes equal and groups whole.

    Args:
        task: The data.
        seeds: One integer per split.
        validation: Share of rows for model selection.
        test: Share of rows for the final numbers.

    Raises:
        ValueError: A share is not positive, nothing is left for training, a class has too few rows for every fold to
            get one, or a fold holds a single class.
    """
    check_shares(validation, test)
    _check_class_sizes(task, min(validation, test, 1 - validation - test))
    draw = _stratified if task.groups is None else _grouped
    rows = len(task.inputs)
    drawn = [draw(task, seed, round(validation * rows), round(test * rows)) for seed in seeds]
    check_classes(task, drawn)
    return drawn


def check_shares(validation: float, test: float, room: float = 0.0) -> None:
    """Refuse shares of which one is not positive or which, with the room left unused, leave nothing for training."""
    if validation <= 0 or test <= 0 or validation + test >= 1 - room:
        raise ValueError(
            f"Parameters `validation` and `test` should be positive and sum to less than {1 - room:g}. "
            f"Found `validation = {validation}`, `test = {test}`. Pass for example 0.2 and 0.2."
        )


def check_classes(task: TabularTask, drawn: Sequence[Split]) -> None:
    """Refuse splits with a fold in which the main task has one class only: nothing can be learned or ranked there."""
    labels = task.targets[task.main]
    for number, split in enumerate(drawn):
        for fold, rows in vars(split).items():
            classes = np.unique(labels[rows])
            if len(classes) < 2:
                raise ValueError(
                    f"Each fold should hold both classes of the main task `{task.main}`. Found {len(classes)} "
                    f"in the {fold} fold of split {number}. Pass larger shares or data with more rows of both classes."
                )


def _check_class_sizes(task: TabularTask, smallest: float) -> None:
    labels = task.targets[task.main]
    needed = int(np.ceil(1 / smallest - 1e-9))
    for label in (0, 1):
        found = int((labels == label).sum())
        if found < needed:
            raise ValueError(
                f"Main task `{task.main}` should have at least {needed} rows of each class, so that every fold can "
                f"hold one. Found {found} of class {label}. Pass more rows or larger shares of the smallest fold."
            )


def _stratified(task: TabularTask, seed: int, validation: int, test: int) -> Split:
    main = task.targets[task.main]
    rest, test_rows = train_test_split(np.arange(len(main)), test_size=test, stratify=main, random_state=seed)
    train, validation_rows = train_test_split(rest, test_size=validation, stratify=main[rest], random_state=seed)
    return Split(np.sort(train), np.sort(validation_rows), np.sort(test_rows))


def _grouped(task: TabularTask, seed: int, validation: int, test: int) -> Split:
    assert task.groups is not None
    _, member = np.unique(task.groups, return_inverse=True)  # [N] group numbers
    sizes = np.bincount(member)
    place = np.random.default_rng(seed).permutation(len(sizes))
    rows = np.argsort(place[member], kind="stable")  # rows ordered by shuffled group, whole groups together
    # The training size leaves room for two cut groups of any size, so that it is the same for every seed.
    train = len(rows) - test - validation - 2 * int(sizes.max())
    folds = []
    for size in (test, validation, train):
        folds.append(np.sort(rows[:size]))
        rows = rows[size:]
        rows = rows[~np.isin(member[rows], member[folds[-1]])]
    return Split(train=folds[2], validation=folds[1], test=folds[0])
