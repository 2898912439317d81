"""Training cells: one method at every learning rate, loss scale and seed as one batched program, as a tidy table."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from companion.metrics.recommenders import auc
from companion.studies.composed.problems import Problem, prepare
from companion.studies.composed.variants import MEAN, Decaying, TaskGradients, make_variant
from companion.train.layer_shares import share
from companion.train.runs import History, train_runs
from companion.train.stacked import Batch, LossesFn, evaluate, predict
from companion.train.work import work_of
from mtlcore.dominance import Dominance

Configuration = Mapping[str, Any]
EVERY = 10  # steps between two looks at AU, whose mean is the average over time


@dataclass(frozen=True)
class Runs:
    """R trained runs: their problem, history, and what else was measured in training, metric -> `[R]`."""

    problem: Problem
    history: History
    measures: dict[str, Tensor]


class AuxiliaryShare:
    """The part of AU that is not the main task's: its mean over live shared parameters, averaged over the training.

    Args:
        optimizer: Before its first step.
        shared: The stacked parameters that tasks share.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, shared: Sequence[Tensor]) -> None:
        self._dominance, self._shared = Dominance(optimizer), shared
        self._looks: list[Tensor] = []
        self._steps = 0
        optimizer.register_step_post_hook(self._look)  # after that of `Dominance`

    @torch.no_grad()
    def _look(self, *_: object) -> None:
        self._steps += 1
        if self._steps % EVERY == 0:
            au = [self._dominance.au[p].flatten(2) for p in self._shared]  # [T, R, n_p] each
            self._looks.append(1 - share(torch.cat(au, dim=2))[0].nanmean(-1))

    def mean(self) -> Tensor:
        """The share of each run, `[R]`."""
        return torch.stack(self._looks).mean(0)


def mean_of_tasks(losses_fn: LossesFn) -> LossesFn:
    """Losses whose first is their mean: what chooses an epoch where no task is the main one."""

    def losses(model: nn.Module, batch: Batch) -> list[Tensor]:
        return [torch.stack(list(losses_fn(model, batch))).mean(0)]

    return losses


def _train(
    c: Configuration,
    rates: list[float],
    scales: list[float],
    seeds: list[int],
    means: Tensor | None = None,
    follow: bool = False,
) -> Runs:
    problem = prepare(c, seeds)
    loss_scales = problem.loss_scales(scales, c["gap"])
    constant = c["method"] == "static on updates"  # there the scale is a weight, for AdaTask erases it from a loss
    factors = problem.loss_scales([1.0] * len(seeds), c["gap"]) if constant else loss_scales
    losses_fn = problem.scaled_losses(factors)
    method = "HydaLearn on updates" if c["method"] == MEAN and means is None else c["method"]
    follow = follow and method != "single task"  # which has no share to follow
    weighting, optimizer = make_variant(method, problem.model, losses_fn, problem.shared, loss_scales, means, follow)
    recorder = AuxiliaryShare(optimizer, problem.shared) if follow else None
    conflicts = weighting.conflicts if isinstance(weighting, TaskGradients) else []
    if problem.decay:
        steps = c["epochs"] * (problem.train.num_rows // problem.batch_size)
        weighting = Decaying(weighting, optimizer, steps)
    history = train_runs(
        problem.model,
        weighting,
        optimizer,
        problem.losses_fn if c["main"] else mean_of_tasks(problem.losses_fn),
        problem.train,
        problem.validation,
        rates=problem.per_run(rates),
        seeds=seeds,
        epochs=c["epochs"],
        batch_size=problem.batch_size,
    )
    measures = {} if recorder is None else {"auxiliary share": recorder.mean()}
    if conflicts:
        measures["conflicts"] = torch.stack(conflicts).double().mean(0)
    return Runs(problem, history, measures)


def _tested(problem: Problem, main: bool) -> dict[str, Tensor]:
    """Measures on the test fold, `[R]` each; without a main task the mean of log losses, and the mean AUC."""
    losses = evaluate(problem.model, problem.losses_fn, problem.test)  # [T, R]
    measures = {"test loss": losses[0] if main else losses.log().mean(0).exp()}
    measures |= {f"test loss, task {t + 1}": loss for t, loss in enumerate(losses)}
    if problem.binary:
        logits = predict(problem.model, problem.test).cpu().numpy()  # [T, R, N]
        targets = problem.test.targets[problem.test.source].cpu().numpy()  # [R, T, N]
        areas = np.stack([auc(targets[:, t], z) for t, z in enumerate(logits)])  # [T, R]
        measures["test AUC"] = torch.from_numpy(areas[0] if main else areas.mean(0))
    return measures


def _grid(c: Configuration, *, tested: bool) -> pd.DataFrame:
    begin = time.perf_counter()
    settings = list(product(c["rates"], c["scales"], c["seeds"]))
    rates, scales, seeds = (list(values) for values in zip(*settings, strict=True))
    tables = []
    for first in range(0, len(seeds), c["at_once"]):
        part = slice(first, first + c["at_once"])
        runs = rates[part], scales[part], seeds[part]
        means = _train(c, *runs).history.weights.mean(0) if c["method"] == MEAN else None  # [T, R]
        trained = _train(c, *runs, means, follow=tested and c["record"])
        history = trained.history
        measures = {"validation loss": history.validation.amin(0)}
        if tested:
            weights = history.weights / history.weights.sum(1, keepdim=True)  # [steps, T, R]
            measures |= _tested(trained.problem, c["main"]) | {
                "mean auxiliary weight": 1 - weights[:, 0].mean(0),
                "spread of the auxiliary weight": weights[:, 0].std(0),
            }
        measures |= trained.measures
        kept = {name: values.masked_fill(history.failed, torch.nan).cpu() for name, values in measures.items()}
        kept["failed"] = history.failed.double().cpu()
        labels = pd.DataFrame({"rate": rates[part], "scale": scales[part], "seed": seeds[part]})
        tables += [labels.assign(metric=name, value=values.numpy()) for name, values in kept.items()]
    return pd.concat(tables, ignore_index=True).assign(seconds=(time.perf_counter() - begin) / len(seeds))


def train_grid(c: Configuration) -> pd.DataFrame:
    """Train one method at every learning rate, auxiliary loss scale and seed, in float64.

    Args:
        c: As `problems.prepare`, and `method` (see `variants`), `rates`, `scales`, `seeds`, `epochs`; `gap`, the
            constant weight of the last task's loss (1: none); `main`, whether the first task is a main task, whose
            loss chooses epochs and is reported, or all tasks alike; `record`, whether AU is followed in the runs that
            are tested; `at_once`, how many runs train as one program.

    Returns:
        Tidy rows by seed, rate, scale and metric, NaN for a run that failed, with the seconds of a run. The auxiliary
        weight is a share of the sum of weights, its mean and standard deviation taken over steps; "conflicts" is the
        part of the steps in which two tasks' gradients had an obtuse angle.
    """
    return _grid(c, tested=True)


def tune_grid(c: Configuration) -> pd.DataFrame:
    """Train as `train_grid` does, without a look at the test fold: for choosing settings."""
    return _grid(c, tested=False)


def cost_per_step(c: Configuration, methods: Sequence[str]) -> pd.DataFrame:
    """Count the work of one training step of one run: measured, the same on every machine.

    Args:
        c: As `train_grid`'s.
        methods: Names of methods.

    Returns:
        One row per method: how often the shared parameters' gradient is evaluated, and millions of floating-point
        operations in matrix products, gains included.
    """
    rows = []
    for method in methods:
        problem = prepare(c, c["seeds"][:1])
        scales = problem.loss_scales([1.0], 1.0)
        losses_fn = problem.scaled_losses(scales)
        weighting, _ = make_variant(method, problem.model, losses_fn, problem.shared, scales, scales)
        batch = problem.train.batch(torch.arange(problem.batch_size, device=problem.test.source.device)[None])
        rows.append({"method": method, **work_of(partial(weighting.backward, batch), problem.shared[-1])})
    return pd.DataFrame(rows)
