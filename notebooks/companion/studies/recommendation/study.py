"""Training cells of the recommendation study: one method at some learning rates on some splits, as a tidy table."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from companion.baselines import make_baseline, trained_parameters
from companion.data.interactions import Encoded
from companion.metrics.recommenders import auc, grouped_auc
from companion.networks.shared_bottom import binary_losses
from companion.studies.adatask_synthetic.problem import loss_weights
from companion.studies.adatask_synthetic.study import OPTIMIZERS, Run, Weighting
from companion.studies.recommendation.problem import Network, build, folds
from companion.studies.recommendation.shares import LayerShares
from companion.train.devices import resolve_device
from companion.train.runs import StaticWeights, step_per_run
from companion.train.stacked import Batch, LossesFn, RunData, StackedModel, evaluate, predict
from companion.train.weightings import ScaledLosses
from mtlcore.dominance import Dominance
from mtlcore.task_gradients import combine, task_backward, zero_task_grad


class TaskGradients:
    """Keeps the tasks' gradients of shared parameters apart, for AdaTask or `Dominance`, and their sum in ``p.grad``.

    Args:
        model: The stacked model.
        losses_fn: Its losses.
        shared: The stacked parameters that tasks share.
    """

    def __init__(self, model: StackedModel, losses_fn: LossesFn, shared: Sequence[Tensor]) -> None:
        """Keep what `backward` needs."""
        self.model, self.losses_fn, self.shared = model, losses_fn, shared

    def backward(self, batch: Batch) -> None:
        """One backward pass per task."""
        task_backward(self.losses_fn(self.model, batch), self.shared)
        combine(self.shared)


@dataclass(frozen=True)
class Trained:
    """A program after training, each run at its best epoch: the model, its validation losses `[T, R]` and shares."""

    model: StackedModel
    validation: Tensor
    recorder: LayerShares | None


def _network(model: StackedModel) -> Network:
    assert isinstance(model.stack, Network)
    return model.stack


def _weighting(
    method: str, model: StackedModel, losses_fn: LossesFn, record: bool, num_tasks: int, steps_per_epoch: int
) -> Weighting:
    shared = _network(model).shared_parameters()
    if method == "AdaTask" or (record and method == "joint"):
        return TaskGradients(model, losses_fn, shared)
    if method in ("joint", "single task"):  # one backward pass gives the same gradients
        return StaticWeights(model, losses_fn, shared[0].new_ones(num_tasks, model.num_runs))
    kinds = ["classification"] * num_tasks
    return make_baseline(method, model, losses_fn, shared, kinds=kinds, steps_per_epoch=steps_per_epoch)


def _run_data(fold: Encoded, source: Tensor) -> RunData:
    inputs, targets = (torch.from_numpy(array).to(source.device) for array in (fold.ids, fold.targets))
    return RunData(inputs, targets, source)


def train(c: Mapping[str, Any], method: str, runs: Sequence[Run], record: bool) -> Trained:
    """Train runs of one method as one batched program; each is left at its epoch of least validation loss.

    Args:
        c: See `train_cell`.
        method: See there.
        runs: R runs.
        record: Whether to follow dominance, through the whole training.
    """
    device, seeds = resolve_device(c["device"]), tuple(c["seeds"])
    source = torch.tensor([seeds.index(run.seed) for run in runs], device=device)
    sizes, (train_fold, validation_fold, _) = folds(c["dataset"], c["users"], c["split"], seeds, c["rare"])
    data, validation = (_run_data(fold, source) for fold in (train_fold, validation_fold))
    num_tasks = train_fold.targets.shape[1]
    alone = torch.eye(num_tasks, dtype=torch.float64)
    scales = [loss_weights(num_tasks, r.spread) if r.alone is None else alone[r.alone] for r in runs]  # [T] each
    losses_fn = ScaledLosses(binary_losses, torch.stack(scales, dim=1).to(device))
    networks = [build(c["network"], sizes, c["width"], c["hidden"], num_tasks, run.seed) for run in runs]
    model = StackedModel(networks).to(device)
    per_epoch = data.num_rows // c["batch_size"]
    steps = per_epoch * c["epochs"]
    weighting = _weighting(method, model, losses_fn, record, num_tasks, per_epoch)
    ordinary, per_task = OPTIMIZERS[c["optimizer"]]
    parameters = trained_parameters(model, weighting)
    optimizer = (
        per_task(parameters, num_tasks=num_tasks, lr=1.0) if method == "AdaTask" else ordinary(parameters, lr=1.0)
    )
    recorder = LayerShares(Dominance(optimizer), _network(model).shared_layers(), steps) if record else None
    rates = torch.tensor([run.rate for run in runs], dtype=torch.float64, device=device)
    own = torch.stack([torch.ones(num_tasks).double() if r.alone is None else alone[r.alone] for r in runs], dim=1)
    own = (own / own.sum(0)).to(device)  # [T, R]: which tasks choose the epoch
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    least, best = torch.full_like(rates, torch.inf), [p.detach().clone() for p in model.parameters()]
    found = torch.full((num_tasks, len(runs)), torch.nan, dtype=torch.float64, device=device)
    for epoch in range(c["epochs"]):
        order = torch.stack([torch.randperm(data.num_rows, generator=g) for g in generators]).to(device)[source]
        for i in range(per_epoch):
            optimizer.zero_grad()
            zero_task_grad(parameters)
            weighting.backward(data.batch(order[:, i * c["batch_size"] : (i + 1) * c["batch_size"]]))
            optimizer.param_groups[0]["lr"] = 1 - (epoch * per_epoch + i) / steps
            step_per_run(optimizer, rates)
            if recorder is not None:
                recorder.record()
        losses = evaluate(model, binary_losses, validation)  # [T, R], unweighted
        criterion = (own * losses.log()).sum(0)
        better = criterion < least  # False for NaN
        least = torch.where(better, criterion, least)
        found = torch.where(better, losses, found)
        with torch.no_grad():
            best = [
                torch.where(better.view(-1, *[1] * (p.dim() - 1)), p, b)
                for p, b in zip(model.parameters(), best, strict=True)
            ]
    with torch.no_grad():
        for p, b in zip(model.parameters(), best, strict=True):
            p.copy_(b)
    return Trained(model, found, recorder)


def _test(c: Mapping[str, Any], model: StackedModel, runs: Sequence[Run]) -> dict[tuple[int, int, str], Tensor]:
    """Measures on the test fold: (task, layer 0, metric) -> `[R]`."""
    seeds = tuple(c["seeds"])
    _, (_, _, fold) = folds(c["dataset"], c["users"], c["split"], seeds, c["rare"])
    source = np.array([seeds.index(run.seed) for run in runs])
    data = _run_data(fold, torch.from_numpy(source).to(next(model.parameters()).device))
    losses = evaluate(model, binary_losses, data)
    logits = predict(model, data).cpu().numpy()  # [T, R, N]
    measures: dict[tuple[int, int, str], Tensor] = {}
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
    alone = range(fold.targets.shape[1]) if c["method"] == "single task" else [None]
    settings = zip(c["spreads"], c["rates"], strict=True)
    runs = [Run(task, spread, rate, seed) for task, (spread, rate), seed in product(alone, settings, c["seeds"])]
    rows = []
    for first in range(0, len(runs), c["at_once"]):
        part = runs[first : first + c["at_once"]]
        trained = train(c, c["method"], part, c["record"])
        measures = {(t + 1, 0, "validation loss"): row.cpu() for t, row in enumerate(trained.validation)}
        if c["test"]:
            measures |= _test(c, trained.model, part)
        if trained.recorder is not None:
            shares = trained.recorder.measures().items()
            measures |= {(0, layer, metric): values.cpu() for (layer, metric), values in shares}
        for measure, values in measures.items():
            rows += [
                (run.spread, run.rate, run.seed, *measure, value)
                for run, value in zip(part, values.tolist(), strict=True)
                if run.alone is None or run.alone + 1 == measure[0]
            ]
    table = pd.DataFrame(rows, columns=["spread", "rate", "seed", "task", "layer", "metric", "value"])
    return table.assign(seconds=(time.perf_counter() - begin) / len(runs))
