"""HydaLearn's share of the auxiliary task at fixed parameters, batch by batch, beside what the batch holds.

Training stops at a few steps; at each, many mini-batches are weighed and none is trained on. What then differs from
one share to the next is the mini-batch alone.
"""

import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from companion.problems.composed_batches import ListedBatches, list_batches, minor_counts
from companion.problems.synthetic import MINOR, draw, prepare
from companion.train.main_task import Configuration, at_one_setting, by_seed, train_to
from companion.train.problem import Problem
from companion.train.stacked import Batch, LossesFn
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
    problem, losses_fn, rates = at_one_setting(configuration, prepare)
    batches, minor = probe_batches(configuration, problem)
    generator = torch.Generator().manual_seed(0)

    def drawn() -> Iterator[Batch]:
        while True:
            row = torch.randint(problem.train.num_rows, (1, 1), generator=generator)
            yield problem.train.batch(row.expand(len(rates), 1).to(problem.train.source.device))

    tables = []
    for checkpoint in train_to(configuration["checkpoints"], problem, rates, drawn()):
        share, held_out = _weigh(problem, losses_fn, batches)
        for metric, values in (("minor share", minor), ("share", share), ("held-out share", held_out)):
            tables.append(by_seed(values, problem.seeds, "batch").assign(step=checkpoint, metric=metric))
    result = pd.concat(tables, ignore_index=True)
    return result.assign(seconds=(time.perf_counter() - begin) / len(rates))


def probe_batches(configuration: Configuration, problem: Problem) -> tuple[ListedBatches, Tensor]:
    """List the batches to be weighed, and the minor cluster's share of each, `[M, R]`."""
    size, clusters = configuration["batch_size"], [draw(configuration, seed).clusters for seed in problem.seeds]
    counts = minor_counts(configuration["probe_dose"], MINOR, size, configuration["probe_batches"])
    pairs = zip(clusters, problem.seeds, strict=True)
    rows = [list_batches(c, counts, size, np.random.default_rng([seed, 5])) for c, seed in pairs]
    minor = np.stack([c[r].mean(1) for c, r in zip(clusters, rows, strict=True)], axis=1)
    return ListedBatches.of(problem.train, np.stack(rows)), torch.from_numpy(minor)


def _weigh(problem: Problem, losses_fn: LossesFn, batches: ListedBatches) -> tuple[Tensor, Tensor]:
    """Weigh every batch by gains on itself and on the test fold: the auxiliary task's shares, `[M, R]` each."""
    parameters, num_runs = problem.shared, problem.model.num_runs
    hydalearn = HydaLearn(problem.model, losses_fn, parameters)
    (everything,) = problem.test.chunks(problem.test.num_rows)
    main_loss = losses_fn(problem.model, problem.test.batch(everything))[0]
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
    problem.model.zero_grad()
    return torch.stack(share).cpu(), torch.stack(other).cpu()
