"""HydaLearn's share of the auxiliary task at fixed parameters on real data, batch by batch.

Training stops at a few steps; at each, many mini-batches are weighed and none is trained on. What then differs from
one share to the next is the mini-batch alone: its labels, and which of the loans bear them.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import islice

import pandas as pd
import torch
from torch import Tensor

from companion.problems.tables import prepare
from companion.train.main_task import Configuration, at_one_setting, by_seed, train_to
from companion.train.problem import Problem
from companion.train.stacked import Batch, LossesFn, RunData
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
    problem, losses_fn, rates = at_one_setting(configuration, prepare)
    generator = torch.Generator().manual_seed(0)  # the same row numbers in every split, whose rows differ

    def drawn() -> Iterator[Batch]:
        while True:
            rows = torch.randint(problem.train.num_rows, (1, problem.batch_size), generator=generator)
            yield problem.train.batch(rows.expand(len(rates), -1).to(problem.train.source.device))

    batches = list(islice(drawn(), configuration["probe_batches"]))
    tables = []
    for checkpoint in train_to(configuration["checkpoints"], problem, rates, drawn()):
        for metric, values in zip(PROBED, _weigh(problem, losses_fn, batches), strict=True):
            tables.append(by_seed(values, problem.seeds, "batch").assign(step=checkpoint, metric=metric))
    result = pd.concat(tables, ignore_index=True)
    return result.assign(seconds=(time.perf_counter() - begin) / len(rates))


def _weigh(problem: Problem, losses_fn: LossesFn, batches: Sequence[Batch]) -> list[Tensor]:
    """Weigh M batches: what `PROBED` names, `[M, R]` each."""
    hydalearn = HydaLearn(problem.model, losses_fn, problem.shared)
    large = _large_gradients(problem, losses_fn)
    population = _share(_gains(large, [gradient[0] for gradient in large]))
    found = []
    for batch in batches:
        zero_task_grad(problem.shared)
        step = hydalearn.backward(batch)
        means = batch[1].nanmean(2)  # [T, R]
        own = [p.task_grad for p in problem.shared]  # type: ignore[attr-defined]
        gains = _gains(own, [gradient[0] for gradient in large])
        auxiliary = means[1:].nan_to_num().mean(0)
        found.append(torch.stack([means[0].nan_to_num(), auxiliary, _share(step.weights), _share(gains), population]))
    problem.model.zero_grad()
    return list(torch.stack(found, dim=1))


def _share(gains: Tensor) -> Tensor:
    """The auxiliary tasks' share of the weights `[R]` that gains `[T, R]` lead to; weights are their own gains."""
    return 1 - gain_weights(gains, main_task=0)[0]


def _gains(gradients: list[Tensor], main: list[Tensor]) -> Tensor:
    """First-order gains `[T, R]` of task gradients `[T, R, *shape]` with the main task's, `[R, *shape]`."""
    parts = [(g * m).flatten(2).sum(2) for g, m in zip(gradients, main, strict=True)]
    return torch.stack(parts).sum(0)


def _large_gradients(problem: Problem, losses_fn: LossesFn) -> list[Tensor]:
    """Task gradients `[T, R, *shape]` of the shared parameters on the validation and test folds together."""
    total = [torch.zeros(problem.num_tasks, *p.shape, dtype=p.dtype, device=p.device) for p in problem.shared]
    folds: list[RunData] = [problem.validation, problem.test]
    num_rows = sum(fold.num_rows for fold in folds)
    for fold in folds:
        for rows in fold.chunks():
            losses = losses_fn(problem.model, fold.batch(rows))
            for task, loss in enumerate(losses):
                gradients = torch.autograd.grad(loss.sum(), problem.shared, retain_graph=True)
                for sum_, gradient in zip(total, gradients, strict=True):
                    sum_[task] += gradient * (rows.shape[1] / num_rows)
    return total
