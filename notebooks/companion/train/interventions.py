"""Interventions in HydaLearn's studies: weights of other runs, an auxiliary task that is switched off."""

import time
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from companion.train.main_task import Configuration, Measure, Prepare, at_one_setting, configured, outcome, train
from companion.train.problem import Problem
from companion.train.runs import hold
from companion.train.weightings import ScheduledWeights, Weighting


def swap(c: Configuration, prepare: Prepare, measure: Measure) -> pd.DataFrame:
    """Train HydaLearn, then anew with weights that do not belong to the run's own batches.

    "swapped" takes the weights of the next seed's run at the same step: level, drift and spread stay, the match to
    the batch goes. "averaged" takes the mean over seeds at that step: the spread goes too. "replayed" takes the run's
    own weights and has to give HydaLearn's result, which checks the machinery.

    Args:
        c: As for the study's `train_grid`, with one rate and one scale, method "HydaLearn".
        prepare: Makes the study's problem.
        measure: Of its test fold.

    Returns:
        Tidy rows by seed, `weights` and metric.
    """
    tables: list[pd.DataFrame] = []

    def run(name: str, schedule: Tensor | None) -> Tensor:
        begin = time.perf_counter()
        problem, losses_fn, rates = at_one_setting(c, prepare)
        weighting = configured(problem, losses_fn, c)
        if schedule is not None:
            weighting = ScheduledWeights(problem.model, losses_fn, schedule)
        history = train(problem, weighting, c, rates)
        tables.append(outcome(problem, history, {"weights": [name] * len(rates)}, begin, measure))
        return history.weights

    own = run("own", None)  # [steps, T, R]
    run("replayed", own)
    run("swapped", own.roll(1, dims=2))
    run("averaged", own.mean(2, keepdim=True).expand_as(own))
    return pd.concat(tables, ignore_index=True)


def _scheduled(problem: Problem, weights: Tensor) -> Weighting:
    return ScheduledWeights(problem.model, problem.losses_fn, weights)


def switch_off(
    c: Configuration,
    prepare: Prepare,
    measure: Measure,
    make: Callable[[Problem, Tensor], Weighting] = _scheduled,
) -> pd.DataFrame:
    """Train with constant auxiliary weights up to an epoch, then with the main task alone.

    Args:
        c: As for the study's `train_grid`, with one rate, one scale (the auxiliary weight) and `off_epochs` (epoch,
            from 0, from which on the auxiliary weight is 0; the number of epochs for never).
        prepare: Makes the study's problem.
        measure: Of its test fold.
        make: Builds the weighting with weights `[steps, T, R]`.

    Returns:
        Tidy rows by seed, `off_epoch` and metric. Beside those of `outcome`, "last validation loss" and each measure
        with "last" in front are those after the last epoch: keeping the best epoch is itself a way to be rid of a bad
        auxiliary task.
    """
    begin = time.perf_counter()
    (rate,), (scale,) = c["rates"], c["scales"]
    off_epochs, seeds = zip(*product(c["off_epochs"], c["seeds"]), strict=True)
    problem = prepare(c, seeds)
    off_steps = problem.per_run(off_epochs) * problem.steps_per_epoch  # [R]
    steps = torch.arange(c["epochs"] * problem.steps_per_epoch, device=off_steps.device)
    auxiliary = scale * (steps[:, None] < off_steps).double()  # [steps, R]
    weights = torch.stack([torch.ones_like(auxiliary), *[auxiliary] * (problem.num_tasks - 1)], dim=1)  # [steps, T, R]
    history = train(problem, make(problem, weights), c, [rate] * len(seeds))
    labels = {"off_epoch": off_epochs}
    table = outcome(problem, history, labels, begin, measure)
    hold(problem.model, history.last)
    last = {"validation loss": history.validation[-1].cpu().numpy(), **measure(problem)}  # [R] each
    for metric, values in last.items():
        known = np.where(history.failed.cpu().numpy(), np.nan, values)
        rows = pd.DataFrame({"seed": seeds, **labels, "metric": f"last {metric}", "value": known})
        table = pd.concat([table, rows.assign(seconds=table["seconds"].iloc[0])], ignore_index=True)
    return table
