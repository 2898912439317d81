"""From a table to arrays: everything that is fitted sees the training fold of its split only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from companion.data.tabular import Fold, Split, TabularTask

RARE = 20  # a level with fewer training rows joins the level "infrequent", as do levels never seen in training


def preprocessor() -> ColumnTransformer:
    """Build the transformation of one split: fitted on its training fold, applied to all three.

    Numbers: median in place of missing values with a 0/1 column that says so, standardised, then `arcsinh`, which
    leaves the bulk as it is and draws in incomes thirty standard deviations out. Strings: one-hot, rare and unseen
    levels together; a missing string is a level of its own.
    """
    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True),
        StandardScaler(),
        FunctionTransformer(np.arcsinh),
    )
    strings = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing", missing_values=np.nan),
        OneHotEncoder(min_frequency=RARE, handle_unknown="infrequent_if_exist", sparse_output=False),
    )
    return ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include=np.number)),
            ("strings", strings, make_column_selector(dtype_exclude=np.number)),
        ]
    )


def fold_arrays(task: TabularTask, drawn: Sequence[Split]) -> tuple[Fold, Fold, Fold]:
    """Preprocess every split by its own training fold and stack the splits.

    Training folds differ in their rare levels, so widths differ by a few columns; narrower ones are padded with
    columns of zeros, which add nothing to the model's output or gradient. Targets of regressions are standardised by
    the training fold too, which makes their squared error comparable with the tasks' cross-entropies (our design).

    Returns:
        The training, validation and test fold, each with `inputs [S, N, F]` and `targets [S, T, N]`.

    Raises:
        ValueError: A column has no value in a training fold, or a task has less than two different targets there.
    """
    inputs: tuple[list[NDArray[np.float64]], ...] = ([], [], [])
    targets: tuple[list[NDArray[np.float64]], ...] = ([], [], [])
    for number, split in enumerate(drawn):
        _check_training_fold(task, split, number)
        transformer = preprocessor().fit(task.inputs.iloc[split.train])
        labels = _standardised_targets(task, split)
        for fold, rows in enumerate((split.train, split.validation, split.test)):
            inputs[fold].append(np.asarray(transformer.transform(task.inputs.iloc[rows]), dtype=np.float64))
            targets[fold].append(labels[:, rows])
    width = max(array.shape[1] for array in inputs[0])
    train, validation, test = (
        Fold(
            inputs=np.stack([np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in x]),
            targets=np.stack(y),
        )
        for x, y in zip(inputs, targets, strict=True)
    )
    return train, validation, test


def _check_training_fold(task: TabularTask, split: Split, number: int) -> None:
    present = task.inputs.iloc[split.train].notna().any()
    empty = present.index[~present]
    if len(empty):
        raise ValueError(
            f"Every input column should have a value in the training fold. Found none of {', '.join(empty)} "
            f"in split {number}. Leave the columns out of the inputs or draw larger training folds."
        )
    for name, values in task.targets.items():
        known = values[split.train]
        if len(np.unique(known[~np.isnan(known)])) < 2:
            raise ValueError(
                f"Task `{name}` should have at least two different targets in the training fold. "
                f"Found fewer in split {number}. Leave the task out or draw larger training folds."
            )


def _standardised_targets(task: TabularTask, split: Split) -> NDArray[np.float64]:
    """Return all targets `[T, N]`, regressions in standard deviations of the training fold from its mean."""
    rows = []
    for name, values in task.targets.items():
        if task.kinds[name] == "regression":
            known = values[split.train]
            values = (values - np.nanmean(known)) / np.nanstd(known)
        rows.append(values)
    return np.stack(rows)
