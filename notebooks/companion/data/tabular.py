"""The interface of every tabular data set: inputs, a main task with its auxiliaries, and folds of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Kind = Literal["classification", "regression"]


@dataclass(frozen=True)
class TabularTask:
    """One data set with a binary main task and auxiliary tasks.

    Attributes:
        name: What tables and figures call it.
        inputs: One row per example; numbers or strings, missing values allowed.
        targets: Task name -> values `[N]`; the first is the main task. A classification's labels are 0.0 or 1.0. NaN
            is a label that is not available, which only auxiliary tasks may have here.
        groups: `[N]` identifiers of rows that must stay in one fold together, or None.
        checksum: sha256 of the file that it was read from.
        licence: Terms of the data, in words.
        stand_in: Whether it only stands for the data of a paper.
        kinds: Task name -> its kind; tasks that are left out are classifications. Filled in for every task.
        revealing: Auxiliary tasks whose label tells the main label of some rows. They are fair where a row's labels
            come and go together, and a leak where only the main label is hidden (`hide_main_labels` refuses them).
        periods: `[N]` observation period of each row, for splits by time, or None.

    What `kinds` and `revealing` say of tasks that are not among the targets is dropped, so that
    `dataclasses.replace(task, targets=...)` can leave tasks out.

    Raises:
        ValueError: Lengths differ, a classification has another label than 0, 1 and NaN, or the main task is a
            regression or lacks a label.
    """

    name: str
    inputs: pd.DataFrame
    targets: dict[str, NDArray[np.float64]]
    groups: NDArray[np.int64] | None
    checksum: str
    licence: str
    stand_in: bool
    kinds: dict[str, Kind] = field(default_factory=dict)
    revealing: frozenset[str] = frozenset()
    periods: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Name every task's kind and refuse fields that contradict each other."""
        kinds: dict[str, Kind] = {task: self.kinds.get(task, "classification") for task in self.targets}
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(self, "revealing", self.revealing & {*self.targets})
        columns = {**self.targets, "groups": self.groups, "periods": self.periods}
        for column, values in columns.items():
            if values is not None and len(values) != len(self.inputs):
                raise ValueError(
                    f"Column `{column}` should have {len(self.inputs)} rows, as the inputs have. "
                    f"Found {len(values)}. Build it from the same table."
                )
        for task, values in self.targets.items():
            if kinds[task] == "classification" and not np.isin(values[~np.isnan(values)], (0.0, 1.0)).all():
                raise ValueError(
                    f"Labels of the classification `{task}` should be 0, 1 or NaN. Found other values. "
                    f'Pass `kinds = {{"{task}": "regression"}}` for a measured quantity.'
                )
        if kinds[self.main] == "regression" or np.isnan(self.targets[self.main]).any():
            raise ValueError(
                f"Main task `{self.main}` should be a classification with a label in every row. Found a regression "
                "or a missing label. Put another task first or leave those rows out."
            )

    @property
    def main(self) -> str:
        """Name of the main task, the first of `targets`."""
        return next(iter(self.targets))


@dataclass(frozen=True)
class Split:
    """Row numbers of the three folds; disjoint, and disjoint in groups where the data have groups."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One fold of several splits as arrays, float64.

    Attributes:
        inputs: `[S, N, F]`, finite.
        targets: `[S, T, N]`; NaN is a label that is not available. Regressions are in units of the standard deviation
            of their split's training fold, from its mean.
    """

    inputs: NDArray[np.float64]
    targets: NDArray[np.float64]


def check_auxiliaries(auxiliaries: Sequence[str], choices: Sequence[str]) -> None:
    """Refuse auxiliary tasks that are not among a data set's choices."""
    unknown = [name for name in auxiliaries if name not in choices]
    if unknown or len(set(auxiliaries)) < len(auxiliaries):
        raise ValueError(
            f"Parameter `auxiliaries` should hold different tasks among {', '.join(choices)}. "
            f'Found {", ".join(unknown) or "a task twice"}. Pass for example ("{choices[0]}",).'
        )
