"""Interventions on real data: another split's weights, an auxiliary task that is switched off.

Each function is one cell: a configuration in, a tidy table out. See `study` for what configurations hold.
"""

import time
from itertools import product

import pandas as pd
import torch

from companion.studies.tabular import study
from companion.studies.tabular.study import Configuration, Setup, outcome, train
from companion.train import swapped
from companion.train.weightings import ScheduledWeights


def swap(configuration: Configuration) -> pd.DataFrame:
    """Train HydaLearn with its own and with others' weights, see `swapped.swap`."""
    return swapped.swap(study, configuration)


def switch_off(configuration: Configuration) -> pd.DataFrame:
    """Train with constant auxiliary weights up to an epoch, then with the main task alone.

    Args:
        configuration: As for `study.train_grid`, with one rate, one scale (the auxiliary weight) and `off_epochs`
            (epoch, from 0, from which on the auxiliary weight is 0; the number of epochs for never).

    Returns:
        Tidy rows by seed, `off_epoch` and metric. Beside those of `outcome`, "last validation loss" is that after the
        last epoch: keeping the best epoch is itself a way to be rid of a bad auxiliary task.
    """
    begin = time.perf_counter()
    (rate,), (scale,) = configuration["rates"], configuration["scales"]
    runs = list(product(configuration["off_epochs"], configuration["seeds"]))
    setup = Setup.of(configuration, [seed for _, seed in runs])
    per_epoch, epochs = setup.steps_per_epoch, configuration["epochs"]
    off_steps = torch.tensor([off for off, _ in runs], device=setup.train.source.device) * per_epoch  # [R]
    steps = torch.arange(epochs * per_epoch, device=off_steps.device)
    auxiliary = scale * (steps[:, None] < off_steps).double()  # [steps, R]
    weights = torch.stack([torch.ones_like(auxiliary), *[auxiliary] * (len(setup.kinds) - 1)], dim=1)  # [steps, T, R]
    weighting = ScheduledWeights(setup.model, setup.losses_fn, weights)
    history = train(setup, weighting, configuration, setup.per_run([rate] * len(runs)))
    labels = {"off_epoch": [off for off, _ in runs]}
    table = outcome(setup, history, labels, time.perf_counter() - begin)
    last = history.validation[-1].masked_fill(history.failed, torch.nan).cpu().numpy()  # [R]
    rows = pd.DataFrame({"seed": setup.seeds, **labels, "metric": "last validation loss", "value": last})
    return pd.concat([table, rows.assign(seconds=table["seconds"].iloc[0])], ignore_index=True)
