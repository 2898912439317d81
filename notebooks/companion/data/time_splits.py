"""The harder protocol: train on the past, choose on what follows, test on the future, on groups never seen."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from companion.data.splits import check_classes, check_shares
from companion.data.tabular import Split, TabularTask

# Share of the rows that stays unused, so that sizes can be equal: four standard deviations on the mortgage panel.
ROOM = 0.05


def time_splits(
    task: TabularTask,
    seeds: Sequence[int],
    *,
    validation_from: int,
    test_from: int,
    validation: float = 0.2,
    test: float = 0.2,
) -> list[Split]:
    """Draw splits by time: training rows before `validation_from`, test rows from `test_from`, validation between.

    No group is in two folds. Most mortgages are observed across a boundary, so each is dealt to one fold by the
    seed, **whatever its future**, and only its rows in that fold's window are used; the others are left out. Dealing
    by first or last period instead would leave the training fold mortgages that ended early, many by default. Each
    seed deals anew, so seeds are paired repetitions, and every fold has the same number of rows under every seed.

    Args:
        task: The data, with `periods`; without `groups` every row is a group of its own.
        seeds: One integer per split.
        validation_from: First period of the validation window.
        test_from: First period of the test window.
        validation: Share of the rows in the validation window that make the validation fold.
        test: Share of the rows in the test window that make the test fold. The training fold holds
            `1 - validation - test - 0.05` of the rows of its window.

    Raises:
        ValueError: The data have no periods, a window or share is empty, groups are so few and uneven that equal
            sizes are out of reach, or a fold holds a single class.
    """
    check_shares(validation, test, ROOM)
    if task.periods is None:
        raise ValueError(
            f"Data `{task.name}` should have `periods` to be split by time. Found None. Use `splits` instead."
        )
    # 0 before the first boundary, 1 between, 2 from the second on; a window that ends before it begins stays empty.
    window = 1 * (task.periods >= validation_from) + (task.periods >= max(validation_from, test_from))  # [N]
    if len(np.unique(window)) < 3:
        raise ValueError(
            "Parameters `validation_from` and `test_from` should cut the periods "
            f"{task.periods.min()} to {task.periods.max()} into three windows that hold rows. Found "
            f"`validation_from = {validation_from}`, `test_from = {test_from}`. Pass boundaries inside, in this order."
        )
    shares = {2: test, 1: validation, 0: 1 - validation - test - ROOM}  # test rows are the scarcest: dealt first
    sizes = {fold: round(share * int((window == fold).sum())) for fold, share in shares.items()}
    groups = np.arange(len(window)) if task.groups is None else task.groups
    drawn = [_dealt(groups, window, sizes, seed) for seed in seeds]
    check_classes(task, drawn)
    return drawn


def _dealt(groups: NDArray[np.int64], window: NDArray[np.int64], sizes: dict[int, int], seed: int) -> Split:
    """Deal shuffled groups to the folds in turn until a fold has its number of rows inside its window."""
    _, member = np.unique(groups, return_inverse=True)  # [N] group numbers
    place = np.random.default_rng(seed).permutation(member.max() + 1)[member]  # [N] place of each row's group
    folds = {}
    begin = 0
    for fold, size in sizes.items():
        rows = np.flatnonzero((window == fold) & (place >= begin))
        rows = rows[np.argsort(place[rows], kind="stable")][:size]
        if len(rows) < max(size, 1):
            raise ValueError(
                f"Groups should be many enough for folds of equal size. Found {len(rows)} of {size} rows left for "
                f"fold {('training', 'validation', 'test')[fold]} under seed {seed}. Pass smaller shares."
            )
        folds[fold] = np.sort(rows)
        begin = int(place[rows].max()) + 1
    return Split(train=folds[0], validation=folds[1], test=folds[2])
