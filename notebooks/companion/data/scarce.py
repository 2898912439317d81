"""Scarce main labels: most rows keep their auxiliary labels only."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from companion.data.tabular import Fold, TabularTask


def hide_main_labels(
    task: TabularTask, train: Fold, validation: Fold, keep: int, seeds: Sequence[int]
) -> tuple[Fold, Fold]:
    """Keep `keep` main labels of every training fold, in proportion to the classes; the rest becomes NaN.

    Inputs and auxiliary labels stay. **Validation labels are scarce too**, since whoever has few labels for training
    has few for choosing a model: a validation fold keeps as many in proportion, `round(keep * N_validation / N_train)`.
    The test fold keeps all its labels: it measures. Labels that a seed keeps at a small `keep` are among those it
    keeps at a larger one, so curves over `keep` are paired.

    Args:
        task: Where the folds come from.
        train: Training folds, `targets [S, T, N]`.
        validation: Validation folds of the same splits.
        keep: Number of main labels that a training fold keeps.
        seeds: One per split, as for `splits`.

    Returns:
        The training and the validation fold with fewer main labels.

    Raises:
        ValueError: An auxiliary task of the data would tell hidden main labels, `keep` is more than the labels there
            are, or so small that a class would keep none in the training or the validation fold.
    """
    if task.revealing:
        raise ValueError(
            f"Auxiliary tasks should not tell the main label `{task.main}` of rows where it is hidden. "
            f"Found {', '.join(sorted(task.revealing))}. Load the data without these auxiliary tasks."
        )
    if len(seeds) != len(train.targets):
        raise ValueError(
            f"Parameter `seeds` should have one entry per split. Found {len(seeds)} for {len(train.targets)} splits. "
            "Pass the seeds that the splits were drawn with."
        )
    share = keep / train.targets.shape[-1]
    kept_validation = round(share * validation.targets.shape[-1])
    return _scarce(train, keep, seeds, keep), _scarce(validation, kept_validation, seeds, keep)


def _scarce(fold: Fold, kept: int, seeds: Sequence[int], asked: int) -> Fold:
    hidden = [_hidden(targets, kept, seed, asked) for targets, seed in zip(fold.targets, seeds, strict=True)]
    return replace(fold, targets=np.stack(hidden))


def _hidden(targets: NDArray[np.float64], kept: int, seed: int, asked: int) -> NDArray[np.float64]:
    """Return `targets [T, N]` with all but `kept` main labels turned into NaN, classes in proportion."""
    main = targets[0]
    positives = round(kept * float(main.mean()))
    order = np.random.default_rng(seed).permutation(len(main))
    chosen = []
    for label, number in ((1.0, positives), (0.0, kept - positives)):
        rows = order[main[order] == label]
        if not 1 <= number <= len(rows):
            raise ValueError(
                f"Parameter `keep` should leave each class at least one label and at most those there are, in the "
                f"training and the validation fold. Found `keep = {asked}`, which makes {number} of {len(rows)} "
                f"labels of class {label:.0f} in a fold. Pass a number in between, for example a tenth of the rows."
            )
        chosen.append(rows[:number])
    hidden = targets.copy()
    hidden[0] = np.nan
    rows = np.concatenate(chosen)
    hidden[0, rows] = main[rows]
    return hidden
