"""Training cells of the recommendation study: one method at some learning rates on some splits, as a tidy table."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from companion.metrics.recommenders import auc, grouped_auc
from companion.problems.interactions import Network, folds, prepare
from companion.studies.recommendation.shares import LayerShares
from companion.train.all_tasks import Run, loss_scales, make_method, runs_of, tidy
from companion.train.losses import ScaledLosses
from companion.train.problem import Problem
from companion.train.runs import falling, train_runs
from companion.train.stacked import evaluate, predict

Measures = dict[tuple[int, int, str], Tensor]  # (task, layer, metric) -> `[R]`


def _train(c: Mapping[str, Any], runs: Sequence[Run]) -> tuple[Problem, Measures]:
    """Train runs as one batched program, each left at its best epoch; measure validation losses and dominance."""
    problem = prepare(c, [run.seed for run in runs])
    assert isinstance(problem.model.stack, Network)
    num_tasks, steps = problem.num_tasks, problem.steps_per_epoch * c["epochs"]
    scales = loss_scales(runs, num_tasks).to(problem.train.source.device)
    # One backward pass gives the gradients of joint training and of a single task, whose loss alone counts.
    method = "equal weights" if c["method"] in ("joint", "single task") else c["method"]
    weighting, optimizer = make_method(
        method, c["optimizer"], problem.model, ScaledLosses(problem.losses_fn, scales), problem.shared,
        kinds=problem.kinds, steps_per_epoch=problem.steps_per_epoch, apart=c["record"],
    )  # fmt: skip
    layers = list(problem.model.stack.shared_layers().values())
    recorder = LayerShares(optimizer, layers, steps) if c["record"] else None
    own = (scales > 0).double()
    own = own / own.sum(0)  # [T, R]: which tasks choose the epoch
    history = train_runs(
        problem, weighting, optimizer, rates=problem.per_run([run.rate for run in runs]), epochs=c["epochs"],
        schedule=falling(steps), criterion=lambda losses: (own * losses.log()).sum(0),
    )  # fmt: skip
    measures = {(task, 0, "validation loss"): values for task, values in enumerate(history.best, start=1)}
    if recorder is not None:
        measures |= {(0, layer, metric): values for (layer, metric), values in recorder.measures().items()}
    return problem, measures


def _test(c: Mapping[str, Any], problem: Problem) -> Measures:
    """Measures on the test fold."""
    _, (_, _, fold) = folds(c["dataset"], c["users"], c["split"], tuple(c["seeds"]), c["rare"])
    source = problem.test.source.cpu().numpy()
    losses = evaluate(problem.model, problem.losses_fn, problem.test)
    logits = predict(problem.model, problem.test).cpu().numpy()  # [T, R, N]
    measures: Measures = {}
    for task, (loss, z) in enumerate(zip(losses, logits, strict=True)):
        labels = fold.targets[source, task]
        by_user = grouped_auc(labels, z, fold.users[source])
        measures |= {
            (task + 1, 0, "test loss"): loss.cpu(),
            (task + 1, 0, "AUC"): torch.from_numpy(auc(labels, z)),
            (task + 1, 0, "user AUC"): torch.from_numpy(by_user.mean),
            (task + 1, 0, "users with both classes"): torch.from_numpy(by_user.groups).double(),
        }
    return measures


def train_cell(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train one method at several settings on several splits, in float64, and measure it.

    Within a seed every method has the same split, initial weights and batches; the learning rate falls linearly to 0,
    and the epoch with the least mean log validation loss over tasks counts (a single task: its own).

    Args:
        configuration: `dataset`, `users`, `split` and `rare` make the data (see `problem`); `network`, `width` and
            `hidden` the model; `optimizer`, `seeds`, `epochs`, `batch_size` and `device` say how to train; `spreads`
            and `rates` are the settings, in pairs: the weight of the last task's loss, the first's being 1, and the
            learning rate. `at_once` runs train as one program. `record` asks for dominance, `test` for the test fold.
            `method` is "single task" (every task alone, in a network of its own), "joint" (the sum of the weighted
            losses), "AdaTask", or a batched baseline of `companion.baselines`.

    Returns:
        One row per setting, seed, task, layer and metric. Tasks and layers count from 1; task 0 stands for none and
        layer 0 for all shared parameters. Losses are unweighted cross-entropies in nats, NaN for a run that diverged.
        `seconds` are the program's, divided by its number of runs.
    """
    begin = time.perf_counter()
    c = configuration
    _, (fold, *_) = folds(c["dataset"], c["users"], c["split"], tuple(c["seeds"]), c["rare"])
    runs = runs_of(c, fold.targets.shape[1])
    tables = []
    for first in range(0, len(runs), c["at_once"]):
        part = runs[first : first + c["at_once"]]
        problem, measures = _train(c, part)
        if c["test"]:
            measures |= _test(c, problem)
        tables.append(tidy(part, measures, ["task", "layer", "metric"]))
    return pd.concat(tables, ignore_index=True).assign(seconds=(time.perf_counter() - begin) / len(runs))
