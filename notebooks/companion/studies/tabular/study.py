"""Training on tabular data with a main task and auxiliaries: every method, setting and split as batched programs."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from companion.problems.tables import prepare
from companion.studies.tabular.measures import fold_measures
from companion.train import main_task
from companion.train.main_task import Configuration, configured
from companion.train.problem import Problem
from companion.train.stacked import predict
from companion.train.work import work_of

METHODS = (
    "single task", "equal weights", "static grid", "uncertainty weighting", "DWA", "GradNorm", "cosine gate", "OL-AUX",
    "per-task RMS", "HydaLearn",
)  # fmt: skip


def tested(problem: Problem) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The main task's labels and log odds on the test fold, `[R, N]` each."""
    labels = problem.test.targets[:, 0][problem.test.source].cpu().numpy()
    return labels, predict(problem.model, problem.test)[0].cpu().numpy()


def measure(problem: Problem) -> dict[str, NDArray[np.float64]]:
    """The measures of the test fold, `[R]` each."""
    return fold_measures(*tested(problem))


def train_grid(configuration: Configuration) -> pd.DataFrame:
    """Train one method at every learning rate, auxiliary loss scale and split: one cell of the study.

    Args:
        configuration: What `prepare` and `main_task.configured` read, and `epochs`; `rates`, `scales` and `seeds` are
            lists.

    Returns:
        Tidy rows by seed, rate, scale and metric, with the seconds of a run.
    """
    return main_task.grid(configuration, prepare, measure)


def tune_grid(configuration: Configuration) -> pd.DataFrame:
    """Train as `train_grid` does, without a look at the test fold: for choosing settings."""
    return main_task.grid(configuration, prepare, None)


def cost_per_step(configuration: Configuration, methods: Sequence[str]) -> pd.DataFrame:
    """Count the work of one training step of one run: measured, the same on every machine.

    Args:
        configuration: What `prepare` reads.
        methods: Names of methods at their defaults.

    Returns:
        One row per method: how often the shared parameters' gradient is evaluated, and millions of floating-point
        operations in matrix products.
    """
    rows = []
    for method in methods:
        problem = prepare(configuration, configuration["seeds"][:1])
        weighting = configured(problem, problem.losses_fn, {**configuration, "method": method})
        batch = problem.train.batch(torch.arange(problem.batch_size, device=problem.train.source.device)[None])
        rows.append({"method": method, **work_of(partial(weighting.backward, batch), problem.shared[0])})
    return pd.DataFrame(rows)
