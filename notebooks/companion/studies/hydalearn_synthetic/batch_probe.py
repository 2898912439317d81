"""HydaLearn's share of the auxiliary task at fixed parameters, batch by batch, beside what the batch holds.

Training stops at a few steps; at each, many mini-batches are weighed and none is trained on. What then differs from
one share to the next is the mini-batch alone.
"""

import time

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from companion.studies.hydalearn_synthetic.composed_batches import ListedBatches, list_batches, minor_counts
from companion.studies.hydalearn_synthetic.study import MINOR, Configuration, Setup, make_weighting
from companion.train.runs import step_per_run
from companion.train.stacked import LossesFn
from companion.train.weightings import squared_losses
from mtlcore.hydalearn import HydaLearn, gain_weights
from mtlcore.task_gradients import zero_task_grad


def probe(configuration: Configuration) -> pd.DataFrame:
    """Train with equal weights, and weigh many batches of one dose at each checkpoint.

    Equal weights train, not HydaLearn, so that all doses are probed at the same parameters.

    Args:
        configuration: As for `study.train_grid`, with design "composition", one rate, one scale (of the
            auxiliary loss in the gains; training has it unscaled), and `checkpoints` (steps), `probe_dose`,
            `probe_batches` (how many); `dose` is that of the batches trained on.

    Returns:
        Tidy rows by seed, step, batch and metric: "minor share" of the hidden cluster in the batch; "share" of the
        auxiliary task in HydaLearn's weights; "held-out share", the same with the main task's gradient taken from
        the whole test fold, where its targets are without noise.
    """
    begin = time.perf_counter()
    seeds = list(configuration["seeds"])
    (rate,), (scale,) = configuration["rates"], configuration["scales"]
    setup = Setup.of(configuration, seeds)
    losses_fn = setup.scaled_losses([scale] * len(seeds))
    trainer = make_weighting(setup, squared_losses, {**configuration, "method": "equal weights"})
    optimizer = torch.optim.Adam(setup.model.parameters(), lr=1.0)
    rates = setup.per_run([rate] * len(seeds))
    batches, minor = probe_batches(configuration, setup)
    generator = torch.Generator().manual_seed(0)
    tables, steps = [], 0
    for checkpoint in configuration["checkpoints"]:
        for _ in range(checkpoint - steps):
            row = torch.randint(setup.train.num_rows, (1, 1), generator=generator).expand(len(seeds), 1)
            optimizer.zero_grad()
            trainer.backward(setup.train.batch(row))
            step_per_run(optimizer, rates)
        steps = checkpoint
        share, held_out = _weigh(setup, losses_fn, batches)
        for metric, values in (("minor share", minor), ("share", share), ("held-out share", held_out)):
            table = pd.DataFrame(values, columns=seeds).rename_axis("batch").reset_index()
            table = table.melt("batch", var_name="seed", value_name="value").astype({"seed": "int64"})
            tables.append(table.assign(step=checkpoint, metric=metric))
    result = pd.concat(tables, ignore_index=True)
    return result.assign(seconds=(time.perf_counter() - begin) / len(seeds))


def probe_batches(configuration: Configuration, setup: Setup) -> tuple[ListedBatches, NDArray[np.float64]]:
    """List the batches to be weighed, and the minor cluster's share of each, `[M, R]`."""
    size, clusters = configuration["batch_size"], setup.clusters
    counts = minor_counts(configuration["probe_dose"], MINOR, size, configuration["probe_batches"])
    pairs = zip(clusters, setup.seeds, strict=True)
    rows = [list_batches(c, counts, size, np.random.default_rng([seed, 5])) for c, seed in pairs]
    minor = np.stack([c[r].mean(1) for c, r in zip(clusters, rows, strict=True)], axis=1)
    return ListedBatches.of(setup.train, np.stack(rows)), minor


def _weigh(setup: Setup, losses_fn: LossesFn, batches: ListedBatches) -> tuple[Tensor, Tensor]:
    """Weigh every batch by gains on itself and on the test fold: the auxiliary task's shares, `[M, R]` each."""
    parameters, num_runs = setup.shared, setup.model.num_runs
    hydalearn = HydaLearn(setup.model, losses_fn, parameters)
    (everything,) = setup.test.chunks(setup.test.num_rows)
    main_loss = losses_fn(setup.model, setup.test.batch(everything))[0]
    held_out = torch.autograd.grad(main_loss.sum(), parameters)  # [R, *shape] each
    share, other = [], []
    for number in range(batches.num_rows):
        zero_task_grad(parameters)
        step = hydalearn.backward(batches.batch(torch.full((num_runs, 1), number, device=batches.source.device)))
        gains = torch.zeros_like(step.gains)  # [T, R], first order: the trial step's size cancels in the ratio
        for g, p in zip(held_out, parameters, strict=True):
            gains += (g * p.task_grad).flatten(2).sum(2)  # type: ignore[attr-defined]
        share.append(step.weights[1])
        other.append(gain_weights(gains, main_task=0)[1])
    setup.model.zero_grad()
    return torch.stack(share).cpu(), torch.stack(other).cpu()
