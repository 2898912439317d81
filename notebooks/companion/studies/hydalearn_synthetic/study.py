"""Training on the synthetic problems: every method, every setting and every seed of it as one batched program."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from companion.problems.synthetic import prepare
from companion.train import main_task
from companion.train.main_task import Configuration, side_by_side
from companion.train.problem import Problem
from companion.train.stacked import evaluate


def measure(problem: Problem) -> dict[str, NDArray[np.float64]]:
    """The main task's loss on the test fold, `[R]`."""
    return {"test loss": evaluate(problem.model, problem.losses_fn, problem.test)[0].cpu().numpy()}


def train_grid(configuration: Configuration) -> pd.DataFrame:
    """Train one method at every learning rate, auxiliary loss scale and seed: one cell of the study.

    Args:
        configuration: What `prepare` and `main_task.configured` read, and `epochs`; `rates`, `scales` and `seeds` are
            lists.

    Returns:
        Tidy rows by seed, rate, scale and metric.
    """
    return main_task.grid(configuration, prepare, measure)


def tune_grid(configuration: Configuration) -> pd.DataFrame:
    """Train as `train_grid` does, without a look at the test fold: for choosing settings."""
    return main_task.grid(configuration, prepare, None)


def tune_listed(configuration: Configuration) -> pd.DataFrame:
    """Train as `tune_grid` does, at listed settings alone: its lists of knobs are read side by side."""
    return main_task.grid(configuration, prepare, None, settings=side_by_side)
