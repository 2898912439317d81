"""What one method does in training and predicts afterwards, as curves: weights by epoch, calibration.

Each function is one cell: a configuration in, a tidy table out. See `study` for what configurations hold.
"""

import time

import pandas as pd
import torch

from companion.problems.tables import prepare
from companion.studies.tabular.measures import calibration_rows
from companion.studies.tabular.study import tested
from companion.train.main_task import Configuration, at_one_setting, by_seed, configured, train
from companion.train.problem import Problem
from companion.train.runs import History


def trained(configuration: Configuration) -> tuple[Problem, History]:
    """Train one method at one learning rate and scale, a run per seed."""
    problem, losses_fn, rates = at_one_setting(configuration, prepare)
    return problem, train(problem, configured(problem, losses_fn, configuration), configuration, rates)


def weight_course(configuration: Configuration) -> pd.DataFrame:
    """Follow the auxiliary tasks' share of the weights over training, the scale of their losses counted in.

    Args:
        configuration: As for `study.train_grid`, with one rate and one scale.

    Returns:
        Tidy rows by seed, epoch (from 1) and metric over the epoch's batches: mean "share" of all auxiliary tasks
        together, its standard deviation "sd", how often it is "zero", and "lag-1", its autocorrelation from one batch
        to the next (NaN where it does not vary).
    """
    begin = time.perf_counter()
    problem, history = trained(configuration)
    main, auxiliary = history.weights[:, 0], history.weights[:, 1:].sum(1) * configuration["scales"][0]
    share = auxiliary / (main + auxiliary)  # [steps, R]
    by_epoch = share.reshape(configuration["epochs"], -1, share.shape[1])  # [E, steps, R]
    measures = {
        "share": by_epoch.mean(1),
        "sd": by_epoch.std(1),
        "zero": (by_epoch == 0).double().mean(1),
        "lag-1": torch.stack([_lag_1(epoch) for epoch in by_epoch]),
    }
    tables = [by_seed(values, problem.seeds, "epoch").assign(metric=metric) for metric, values in measures.items()]
    table = pd.concat(tables, ignore_index=True)
    seconds = (time.perf_counter() - begin) / len(problem.seeds)
    return table.assign(epoch=table["epoch"] + 1, seconds=seconds)


def _lag_1(series: torch.Tensor) -> torch.Tensor:
    """Autocorrelation at lag 1 of every column of `[steps, R]`."""
    centred = series - series.mean(0)
    power = centred.square().sum(0)
    return (centred[1:] * centred[:-1]).sum(0) / torch.where(power > 1e-12, power, torch.nan)


def calibrate(configuration: Configuration) -> pd.DataFrame:
    """Compare predicted probabilities with observed shares on the test fold, in ten bins of equally many rows.

    Args:
        configuration: As for `study.train_grid`, with one rate and one scale.

    Returns:
        Tidy rows by seed, bin (from 1) and metric: "predicted", "observed" and "rows".
    """
    problem, _ = trained(configuration)
    return calibration_rows(*tested(problem), problem.seeds)
