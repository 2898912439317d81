"""Training cells: one method at every learning rate, loss scale and seed as one batched program, as a tidy table."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from companion.metrics.recommenders import auc
from companion.problems.run_seeds import named, run_seed
from companion.studies.composed.problems import DECAYING, prepare
from companion.studies.composed.variants import MEAN, Projected, make_variant
from companion.train.layer_shares import share
from companion.train.losses import ScaledLosses
from companion.train.main_task import side_by_side
from companion.train.problem import Problem
from companion.train.runs import History, train_runs
from companion.train.share_recorder import Measures, ShareRecorder, joined
from companion.train.stacked import Batch, LossesFn, evaluate, predict
from companion.train.work import work_of

Configuration = Mapping[str, Any]


@dataclass(frozen=True)
class Runs:
    """R trained runs: their problem, history, and what else was measured in training, metric -> `[R]`."""

    problem: Problem
    history: History
    measures: dict[str, Tensor]


class AuxiliaryShare(ShareRecorder):
    """The part of AU that is not the main task's: its mean over live shared parameters, averaged over the training."""

    def take_in(self) -> None:
        """Take in no gradients: AU alone is looked at."""

    def now(self) -> Measures:
        """The share of each run."""
        return {(0, "auxiliary share"): 1 - share(joined(self.dominance.au, self.layers[0]))[0].nanmean(-1)}


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
    constant = c["method"] == "static on updates"  # there the scale is a weight, for AdaTask erases it from a loss
    weights = problem.loss_scales(scales, c["gap"]) if constant else means
    losses_fn = ScaledLosses(
        problem.losses_fn, problem.loss_scales([1.0] * len(seeds) if constant else scales, c["gap"])
    )
    method = "HydaLearn on updates" if c["method"] == MEAN and means is None else c["method"]
    follow = follow and method != "single task"  # which has no share to follow
    weighting, optimizer = make_variant(method, problem, losses_fn, weights, follow)
    recorder = AuxiliaryShare(optimizer, [problem.shared]) if follow else None
    steps = c["epochs"] * problem.steps_per_epoch
    history = train_runs(
        problem if c["main"] else replace(problem, losses_fn=mean_of_tasks(problem.losses_fn)),
        weighting,
        optimizer,
        rates=problem.per_run(rates),
        epochs=c["epochs"],
        schedule=lambda step: (steps - step) / steps if c["study"] in DECAYING else 1.0,
    )
    measures = {} if recorder is None else {"auxiliary share": recorder.over_time()[0, "auxiliary share"]}
    if isinstance(weighting, Projected):
        measures["conflicts"] = torch.stack(weighting.conflicts).double().mean(0)
    return Runs(problem, history, measures)


def _tested(problem: Problem, main: bool) -> dict[str, Tensor]:
    """Measures on the test fold, `[R]` each; without a main task the mean of log losses, and the mean AUC."""
    losses = evaluate(problem.model, problem.losses_fn, problem.test)  # [T, R]
    measures = {"test loss": losses[0] if main else losses.log().mean(0).exp()}
    measures |= {f"test loss, task {t + 1}": loss for t, loss in enumerate(losses)}
    if set(problem.kinds) == {"classification"}:
        logits = predict(problem.model, problem.test).cpu().numpy()  # [T, R, N]
        targets = problem.test.targets[problem.test.source].cpu().numpy()  # [R, T, N]
        areas = np.stack([auc(targets[:, t], z) for t, z in enumerate(logits)])  # [T, R]
        measures["test AUC"] = torch.from_numpy(areas[0] if main else areas.mean(0))
    return measures


def _grid(
    c: Configuration, *, tested: bool, settings: Callable[..., Iterable[tuple[float, ...]]] = product
) -> pd.DataFrame:
    begin = time.perf_counter()
    drawn = [run_seed(split, i) for split in c["seeds"] for i in range(c["inits"] if tested else 1)]
    every = [(*setting, seed) for setting in settings(c["rates"], c["scales"]) for seed in drawn]
    rates, scales, seeds = (list(values) for values in zip(*every, strict=True))
    tables = []
    for first in range(0, len(seeds), c["at_once"]):
        part = slice(first, first + c["at_once"])
        runs = rates[part], scales[part], seeds[part]
        means = _train(c, *runs).history.weights.mean(0) if c["method"] == MEAN else None  # [T, R]
        trained = _train(c, *runs, means, follow=tested and c["record"])
        history = trained.history
        measures = {"validation loss": history.best[0]}
        if tested:
            weights = history.weights / history.weights.sum(1, keepdim=True)  # [steps, T, R]
            measures |= _tested(trained.problem, c["main"]) | {
                "mean auxiliary weight": 1 - weights[:, 0].mean(0),
                "spread of the auxiliary weight": weights[:, 0].std(0),
            }
        measures |= trained.measures
        kept = {name: values.masked_fill(history.failed, torch.nan).cpu() for name, values in measures.items()}
        kept["failed"] = history.failed.double().cpu()
        labels = named(pd.DataFrame({"rate": rates[part], "scale": scales[part], "seed": seeds[part]}))
        tables += [labels.assign(metric=name, value=values.numpy()) for name, values in kept.items()]
    return pd.concat(tables, ignore_index=True).assign(seconds=(time.perf_counter() - begin) / len(seeds))


def train_grid(c: Configuration) -> pd.DataFrame:
    """Train one method at every learning rate, auxiliary loss scale and seed, in float64.

    Args:
        c: As `problems.prepare`, and `method` (see `variants`), `rates`, `scales`, `seeds`, `epochs`; `inits`, how
            many initialisations a seed has that is a split of data, 1 where it names a simulated problem; `gap`, the
            constant weight of the last task's loss (1: none); `main`, whether the first task is a main task, whose
            loss chooses epochs and is reported, or all tasks alike; `record`, whether AU is followed in the runs that
            are tested; `at_once`, how many runs train as one program.

    Returns:
        Tidy rows by seed, initialisation, rate, scale and metric, NaN for a run that failed, with the seconds of a run.
        The auxiliary weight is a share of the sum of weights, its mean and standard deviation taken over steps;
        "conflicts" is the part of the steps in which two tasks' gradients had an obtuse angle.
    """
    return _grid(c, tested=True)


def tune_grid(c: Configuration) -> pd.DataFrame:
    """Train as `train_grid` does, once per seed and without a look at the test fold: for choosing settings."""
    return _grid(c, tested=False).drop(columns="initialisation")


def tune_listed(c: Configuration) -> pd.DataFrame:
    """Train as `tune_grid` does, at listed settings alone: `rates` and `scales` are read side by side."""
    return _grid(c, tested=False, settings=side_by_side).drop(columns="initialisation")


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
        weighting, _ = make_variant(method, problem, problem.scaled_losses([1.0]), problem.loss_scales([1.0]))
        batch = problem.train.batch(torch.arange(problem.batch_size, device=problem.test.source.device)[None])
        rows.append({"method": method, **work_of(partial(weighting.backward, batch), problem.shared[-1])})
    return pd.DataFrame(rows)
