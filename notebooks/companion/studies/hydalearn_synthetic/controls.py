"""Interventions: another run's weights, an auxiliary task that changes, one that is switched off.

Each function is one cell: a configuration in, a tidy table out. See `study` for what configurations hold.
"""

import time
from itertools import product

import pandas as pd
import torch

from companion.studies.hydalearn_synthetic import study
from companion.studies.hydalearn_synthetic.study import Configuration, Setup, outcome, train
from companion.train import swapped
from companion.train.weightings import ScheduledWeights, Switched, select_tasks, squared_losses
from mtlcore.hydalearn import HydaLearn


def swap(configuration: Configuration) -> pd.DataFrame:
    """Train HydaLearn with its own and with others' weights, see `swapped.swap`."""
    return swapped.swap(study, configuration)


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
    seeds = list(configuration["seeds"])
    (rate,), (scale,) = configuration["rates"], configuration["scales"]
    setup = Setup.of(configuration, seeds)
    scaled = setup.scaled_losses([scale] * len(seeds))
    before, after = (HydaLearn(setup.model, select_tasks(scaled, [0, t]), setup.shared) for t in (1, 2))
    weighting = Switched(before, after, configuration["jump_epoch"] * configuration["num_batches"])
    history = train(setup, weighting, configuration, setup.per_run([rate] * len(seeds)))
    share = history.weights[:, 1].reshape(configuration["epochs"], -1, len(seeds)).mean(1)  # [E, R]
    rows = pd.DataFrame(share.cpu().numpy(), columns=seeds).rename_axis("epoch").reset_index()
    table = rows.melt("epoch", var_name="seed", value_name="value").astype({"seed": "int64"}).assign(metric="share")
    return table.assign(seconds=(time.perf_counter() - begin) / len(seeds))


def switch_off(configuration: Configuration) -> pd.DataFrame:
    """Train with a constant auxiliary weight up to an epoch, then with the main task alone.

    Args:
        configuration: As for `study.train_grid`, with one rate and one scale (the auxiliary weight), the lists
            `off_epochs` (epoch, from 0, from which on the auxiliary weight is 0; the number of epochs for never) and,
            for design "drift", `jump_epoch` as for `jump`.

    Returns:
        Tidy rows by seed, `off_epoch` and metric. Beside those of `outcome`, "last validation loss" is that after the
        last epoch: keeping the best epoch is itself a way to be rid of a bad auxiliary task.
    """
    begin = time.perf_counter()
    (rate,), (scale,) = configuration["rates"], configuration["scales"]
    runs = list(product(configuration["off_epochs"], configuration["seeds"]))
    setup = Setup.of(configuration, [seed for _, seed in runs])
    per_epoch, epochs = configuration["num_batches"], configuration["epochs"]
    off_steps = torch.tensor([off for off, _ in runs], device=setup.train.source.device) * per_epoch  # [R]
    steps = torch.arange(epochs * per_epoch, device=off_steps.device)
    auxiliary = scale * (steps[:, None] < off_steps).double()  # [steps, R]
    weights = torch.stack([torch.ones_like(auxiliary), auxiliary], dim=1)  # [steps, T, R]
    change = configuration.get("jump_epoch", epochs) * per_epoch
    before, after = (
        ScheduledWeights(setup.model, select_tasks(squared_losses, [0, task]), part)
        for task, part in ((1, weights[:change]), (2, weights[change:]))
    )
    weighting = Switched(before, after, change)
    history = train(setup, weighting, configuration, setup.per_run([rate] * len(runs)))
    labels = {"off_epoch": [off for off, _ in runs]}
    table = outcome(setup, history, labels, time.perf_counter() - begin)
    last = history.validation[-1].masked_fill(history.failed, torch.nan).cpu().numpy()  # [R]
    rows = pd.DataFrame({"seed": setup.seeds, **labels, "metric": "last validation loss", "value": last})
    return pd.concat([table, rows.assign(seconds=table["seconds"].iloc[0])], ignore_index=True)
