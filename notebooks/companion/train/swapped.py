"""The swap control, one for every study: HydaLearn anew with weights that do not belong to the run's own batches."""

import time
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pandas as pd
from torch import Tensor

from companion.train.runs import History
from companion.train.weightings import ScheduledWeights


def swap(study: ModuleType, configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train HydaLearn, then anew with weights that do not belong to the run's own batches.

    "swapped" takes the weights of the next seed's run at the same step: level, drift and spread stay, the match to
    the batch goes. "averaged" takes the mean over seeds at that step: the spread goes too. "replayed" takes the run's
    own weights and has to give HydaLearn's result, which checks the machinery.

    Args:
        study: The module with the study's `Setup`, `make_weighting`, `train` and `outcome`.
        configuration: As for the study's `train_grid`, with one rate and one scale, method "HydaLearn".

    Returns:
        Tidy rows by seed, `weights` and metric.
    """
    seeds = list(configuration["seeds"])
    (rate,), (scale,) = configuration["rates"], configuration["scales"]
    tables: list[pd.DataFrame] = []

    def run(name: str, schedule: Tensor | None) -> History:
        begin = time.perf_counter()
        setup = study.Setup.of(configuration, seeds)
        losses_fn = setup.scaled_losses([scale] * len(seeds))
        if schedule is None:
            weighting = study.make_weighting(setup, losses_fn, configuration)
        else:
            weighting = ScheduledWeights(setup.model, losses_fn, schedule)
        history: History = study.train(setup, weighting, configuration, setup.per_run([rate] * len(seeds)))
        table = study.outcome(setup, history, {"weights": [name] * len(seeds)}, time.perf_counter() - begin)
        tables.append(table)
        return history

    own = run("own", None).weights  # [steps, T, R]
    run("replayed", own)
    run("swapped", own.roll(1, dims=2))
    run("averaged", own.mean(2, keepdim=True).expand_as(own))
    return pd.concat(tables, ignore_index=True)
