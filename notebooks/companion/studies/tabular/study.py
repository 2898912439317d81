"""Training on tabular data with a main task and auxiliaries: every method, setting and split as batched programs."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion.problems.run_seeds import named, run_seed
from companion.problems.tables import prepare
from companion.studies.tabular.measures import fold_measures
from companion.train import main_task
from companion.train.main_task import Configuration, side_by_side
from companion.train.problem import Problem
from companion.train.stacked import predict


def tested(problem: Problem) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The main task's labels and log odds on the test fold, `[R, N]` each."""
    labels = problem.test.targets[:, 0][problem.test.source].cpu().numpy()
    return labels, predict(problem.model, problem.test)[0].cpu().numpy()


def measure(problem: Problem) -> dict[str, NDArray[np.float64]]:
    """The measures of the test fold, `[R]` each."""
    return fold_measures(*tested(problem))


def over_initialisations(configuration: Configuration, cell: Callable[[Configuration], pd.DataFrame]) -> pd.DataFrame:
    """Compute a cell for `configuration["inits"]` initialisations of every split, by default for one.

    Returns:
        The cell's table, whose `seed` is the split; with `inits` it has the column `initialisation`, from 0.
    """
    inits = range(configuration.get("inits", 1))
    table = cell({**configuration, "seeds": [run_seed(split, i) for i in inits for split in configuration["seeds"]]})
    if "inits" not in configuration:
        return table
    return named(table)


def train_grid(configuration: Configuration) -> pd.DataFrame:
    """Train one method at every learning rate, auxiliary loss scale and split: one cell of the study.

    Args:
        configuration: What `prepare` and `main_task.grid` read, and `inits`; its `seeds` are splits.

    Returns:
        Tidy rows by seed, initialisation, rate, scale and metric, with the seconds of a run.
    """
    return over_initialisations(configuration, lambda runs: main_task.grid(runs, prepare, measure))


def tune_grid(configuration: Configuration) -> pd.DataFrame:
    """Train as `train_grid` does, once per split and without a look at the test fold: for choosing settings."""
    return main_task.grid(configuration, prepare, None)


def tune_listed(configuration: Configuration) -> pd.DataFrame:
    """Train as `tune_grid` does, at listed settings alone: its lists of knobs are read side by side."""
    return main_task.grid(configuration, prepare, None, settings=side_by_side)
