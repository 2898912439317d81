"""The interface of every tabular data set, its splits, and preprocessing that sees the training fold only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

RARE = 20  # a level with fewer training rows joins the level "infrequent", as do levels never seen in training


@dataclass(frozen=True)
class TabularTask:
    """One data set with a main and auxiliary binary tasks.

    Attributes:
        name: What tables and figures call it.
        inputs: One row per example; numbers or strings, missing values allowed.
        targets: Task name -> labels 0.0 or 1.0, `[N]`; the first is the main task.
        groups: `[N]` identifiers of rows that must stay in one fold together, or None.
        checksum: sha256 of the file that it was read from.
        licence: Terms of the data, in words.
        stand_in: Whether it only stands for the data of a paper.
    """

    name: str
    inputs: pd.DataFrame
    targets: dict[str, NDArray[np.float64]]
    groups: NDArray[np.int64] | None
    checksum: str
    licence: str
    stand_in: bool


@dataclass(frozen=True)
class Split:
    """Row numbers of the three folds; disjoint, and disjoint in groups where the data have groups."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One fold of several splits as arrays: `inputs [S, N, F]` and `targets [S, T, N]`, float64."""

    inputs: NDArray[np.float64]
    targets: NDArray[np.float64]


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
        ValueError: A share is not positive, or nothing is left for training.
    """
    if validation <= 0 or test <= 0 or validation + test >= 1:
        raise ValueError(
            "Parameters `validation` and `test` should be positive and sum to less than 1. "
            f"Found `validation = {validation}`, `test = {test}`. Pass for example 0.2 and 0.2."
        )
    draw = _stratified if task.groups is None else _grouped
    rows = len(task.inputs)
    return [draw(task, seed, round(validation * rows), round(test * rows)) for seed in seeds]


def _stratified(task: TabularTask, seed: int, validation: int, test: int) -> Split:
    main = next(iter(task.targets.values()))
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


def preprocessor() -> ColumnTransformer:
    """Build the transformation of one split: fitted on its training fold, applied to all three.

    Numbers: median in place of missing values with a 0/1 column that says so, standardised, then `arcsinh`, which
    leaves the bulk as it is and draws in incomes thirty standard deviations out. Strings: one-hot, rare and unseen
    levels together; a missing string is a level of its own.
    """
    numbers = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
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
    columns of zeros, which add nothing to the model's output or gradient.

    Returns:
        The training, validation and test fold, each with `inputs [S, N, F]` and `targets [S, T, N]`.
    """
    labels = np.stack(list(task.targets.values()))  # [T, N]
    arrays: tuple[list[NDArray[np.float64]], ...] = ([], [], [])
    for split in drawn:
        transformer = preprocessor().fit(task.inputs.iloc[split.train])
        for fold, rows in zip(arrays, (split.train, split.validation, split.test), strict=True):
            fold.append(np.asarray(transformer.transform(task.inputs.iloc[rows]), dtype=np.float64))
    width = max(array.shape[1] for array in arrays[0])
    train, validation, test = (
        Fold(
            inputs=np.stack([np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in fold]),
            targets=np.stack([labels[:, getattr(split, name)] for split in drawn]),
        )
        for name, fold in zip(("train", "validation", "test"), arrays, strict=True)
    )
    return train, validation, test
