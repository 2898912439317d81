"""HydaLearn's share of the auxiliary task at fixed parameters on real data, batch by batch.

Training stops at a few steps; at each, many mini-batches are weighed and none is trained on. What then differs from
one share to the next is the mini-batch alone: its labels, and which of the loans bear them.
"""

import time

import pandas as pd
import torch
from torch import Tensor

from companion.studies.tabular.study import Configuration, Setup, make_weighting
from companion.train.runs import step_per_run
from companion.train.stacked import LossesFn, RunData
from mtlcore.hydalearn import HydaLearn, gain_weights
from mtlcore.task_gradients import zero_task_grad

LABELS = ("main labels", "auxiliary labels")
PROBED = (*LABELS, "share", "large-sample share", "population share")


def probe(configuration: Configuration) -> pd.DataFrame:
    """Train with equal weights, and weigh many mini-batches at each checkpoint.

    Args:
        configuration: As for `study.train_grid`, with one rate, one scale (of the auxiliary losses in the gains;
            training has them unscaled), and `checkpoints` (steps) and `probe_batches` (how many).

    Returns:
        Tidy rows by seed, step, batch and metric: mean of the batch's available "main labels" and "auxiliary labels"
        (for a binary task the share of positives); "share" of the auxiliary tasks in HydaLearn's weights; "large-sample
        share", the same with the main task's gradient taken from the validation and test folds together; "population
        share", with all gradients from there, one number per step.
    """
    begin = time.perf_counter()
    seeds = list(configuration["seeds"])
    (rate,), (scale,) = configuration["rates"], configuration["scales"]
    setup = Setup.of(configuration, seeds)
    losses_fn = setup.scaled_losses([scale] * len(seeds))
    trainer = make_weighting(setup, setup.losses_fn, {**configuration, "method": "equal weights"})
    optimizer = torch.optim.Adam(setup.model.parameters(), lr=1.0)
    rates = setup.per_run([rate] * len(seeds))
    generator = torch.Generator().manual_seed(0)  # the same row numbers in every split, whose rows differ

    def draw(count: int) -> Tensor:
        rows = torch.randint(setup.train.num_rows, (count, 1, setup.batch_size), generator=generator)
        return rows.expand(-1, len(seeds), -1).to(setup.train.source.device)  # [M, R, B]

    batches = draw(configuration["probe_batches"])
    tables, steps = [], 0
    for checkpoint in configuration["checkpoints"]:
        for rows in draw(checkpoint - steps):
            optimizer.zero_grad()
            trainer.backward(setup.train.batch(rows))
            step_per_run(optimizer, rates)
        steps = checkpoint
        for metric, values in zip(PROBED, _weigh(setup, losses_fn, batches), strict=True):
            table = pd.DataFrame(values.cpu().numpy(), columns=seeds).rename_axis("batch").reset_index()
            table = table.melt("batch", var_name="seed", value_name="value").astype({"seed": "int64"})
            tables.append(table.assign(step=checkpoint, metric=metric))
    result = pd.concat(tables, ignore_index=True)
    return result.assign(seconds=(time.perf_counter() - begin) / len(seeds))


def _weigh(setup: Setup, losses_fn: LossesFn, batches: Tensor) -> list[Tensor]:
    """Weigh every batch `[M, R, B]`: what `PROBED` names, `[M, R]` each."""
    hydalearn = HydaLearn(setup.model, losses_fn, setup.shared)
    large = _large_gradients(setup, losses_fn)
    population = _share(_gains(large, [gradient[0] for gradient in large]))
    found = []
    for rows in batches:
        zero_task_grad(setup.shared)
        batch = setup.train.batch(rows)
        step = hydalearn.backward(batch)
        means = batch[1].nanmean(2)  # [T, R]
        own = [p.task_grad for p in setup.shared]  # type: ignore[attr-defined]
        gains = _gains(own, [gradient[0] for gradient in large])
        auxiliary = means[1:].nan_to_num().mean(0)
        found.append(torch.stack([means[0].nan_to_num(), auxiliary, _share(step.weights), _share(gains), population]))
    setup.model.zero_grad()
    return list(torch.stack(found, dim=1))


def _share(gains: Tensor) -> Tensor:
    """The auxiliary tasks' share of the weights `[R]` that gains `[T, R]` lead to; weights are their own gains."""
    return 1 - gain_weights(gains, main_task=0)[0]


def _gains(gradients: list[Tensor], main: list[Tensor]) -> Tensor:
    """First-order gains `[T, R]` of task gradients `[T, R, *shape]` with the main task's, `[R, *shape]`."""
    parts = [(g * m).flatten(2).sum(2) for g, m in zip(gradients, main, strict=True)]
    return torch.stack(parts).sum(0)


def _large_gradients(setup: Setup, losses_fn: LossesFn) -> list[Tensor]:
    """Task gradients `[T, R, *shape]` of the shared parameters on the validation and test folds together."""
    total = [torch.zeros(len(setup.kinds), *p.shape, dtype=p.dtype, device=p.device) for p in setup.shared]
    folds: list[RunData] = [setup.validation, setup.test]
    num_rows = sum(fold.num_rows for fold in folds)
    for fold in folds:
        for rows in fold.chunks():
            losses = losses_fn(setup.model, fold.batch(rows))
            for task, loss in enumerate(losses):
                gradients = torch.autograd.grad(loss.sum(), setup.shared, retain_graph=True)
                for sum_, gradient in zip(total, gradients, strict=True):
                    sum_[task] += gradient * (rows.shape[1] / num_rows)
    return total
