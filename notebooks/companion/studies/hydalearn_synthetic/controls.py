"""Interventions: another run's weights, an auxiliary task that changes, one that is switched off.

Each function is one cell: a configuration in, a tidy table out.
"""

import time

import pandas as pd
from torch import Tensor

from companion.problems.synthetic import prepare
from companion.studies.hydalearn_synthetic.study import measure
from companion.train import interventions
from companion.train.losses import select_tasks
from companion.train.main_task import Configuration, at_one_setting, by_seed, train
from companion.train.problem import Problem
from companion.train.weightings import ScheduledWeights, Switched
from mtlcore.hydalearn import HydaLearn


def swap(configuration: Configuration) -> pd.DataFrame:
    """Train HydaLearn with its own and with others' weights, see `interventions.swap`."""
    return interventions.swap(configuration, prepare, measure)


def jump(configuration: Configuration) -> pd.DataFrame:
    """Record HydaLearn's share of the auxiliary task where it becomes unrelated at a known step, and where it does not.

    Args:
        configuration: As for `study.train_grid`, with design "drift", one rate and one scale, method
            "HydaLearn", and `jump_epoch`: the epoch (from 0) from which on the auxiliary target is unrelated; the
            number of epochs for the stationary control.

    Returns:
        Tidy rows by seed, epoch and metric: the mean "share" of the weights over the epoch's batches.
    """
    begin = time.perf_counter()
    problem, scaled, rates = at_one_setting(configuration, prepare)
    before, after = (HydaLearn(problem.model, select_tasks(scaled, [0, t]), problem.shared) for t in (1, 2))
    weighting = Switched(before, after, configuration["jump_epoch"] * problem.steps_per_epoch)
    history = train(problem, weighting, configuration, rates)
    share = history.weights[:, 1].reshape(configuration["epochs"], -1, len(rates)).mean(1)  # [E, R]
    table = by_seed(share, problem.seeds, "epoch")
    return table.assign(metric="share", seconds=(time.perf_counter() - begin) / len(rates))


def switch_off(configuration: Configuration) -> pd.DataFrame:
    """Train with a constant auxiliary weight up to an epoch, then with the main task alone.

    Args:
        configuration: See `interventions.switch_off`; for design "drift" with `jump_epoch` as for `jump`.
    """

    def jumping(problem: Problem, weights: Tensor) -> Switched:
        change = configuration.get("jump_epoch", configuration["epochs"]) * problem.steps_per_epoch
        before, after = (
            ScheduledWeights(problem.model, select_tasks(problem.losses_fn, [0, task]), part)
            for task, part in ((1, weights[:change]), (2, weights[change:]))
        )
        return Switched(before, after, change)

    return interventions.switch_off(configuration, prepare, measure, jumping)
