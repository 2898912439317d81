"""Training cells of the scale-gap study: one method at some learning rates on some seeds, as a tidy table."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from companion.baselines import make_baseline, trained_parameters
from companion.networks.shared_bottom import SharedBottom
from companion.studies.adatask_synthetic.problem import NUM_INPUTS, Problem, folds, loss_weights
from companion.train.devices import resolve_device
from companion.train.layer_shares import ShareRecorder
from companion.train.runs import StaticWeights, step_per_run
from companion.train.stacked import Batch, LossesFn, StackedModel, evaluate
from companion.train.weightings import ScaledLosses, squared_losses
from mtlcore.adatask import AdaTaskAdagrad, AdaTaskAdam, AdaTaskRMSprop
from mtlcore.dominance import Dominance
from mtlcore.task_gradients import combine, task_backward, zero_task_grad

# Ordinary optimizer and its AdaTask form, with their defaults.
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], Callable[..., torch.optim.Optimizer]]] = {
    "Adagrad": (torch.optim.Adagrad, AdaTaskAdagrad),
    "RMSprop": (torch.optim.RMSprop, AdaTaskRMSprop),
    "Adam": (torch.optim.Adam, AdaTaskAdam),
}
EPOCH = 20  # steps that DWA averages the losses over


@dataclass(frozen=True)
class Run:
    """One run of a program; `alone` is the task that it trains alone, if any."""

    alone: int | None
    spread: float
    rate: float
    seed: int


class Weighting(Protocol):
    """Adds the gradient of a batch to the parameters."""

    def backward(self, batch: Batch) -> object:
        """Add to `p.grad`, and to `p.task_grad` where tasks are kept apart."""
        ...


class TaskGradients:
    """Keeps the tasks' gradients of the trunk apart, for AdaTask or `Dominance`, and their weighted sum in ``p.grad``.

    Args:
        model: The stacked model.
        losses_fn: Its losses.
        weights: Constant weights of the trunk's gradients, `[T, R]`, or None for ones; heads follow their own loss.
    """

    def __init__(self, model: StackedModel, losses_fn: LossesFn, weights: Tensor | None) -> None:
        """Keep what `backward` needs."""
        self.model, self.losses_fn, self.weights = model, losses_fn, weights
        self.shared = trunk(model)

    def backward(self, batch: Batch) -> None:
        """One backward pass per task."""
        task_backward(self.losses_fn(self.model, batch), self.shared)
        combine(self.shared, self.weights)


def trunk(model: StackedModel) -> list[nn.Parameter]:
    """The stacked parameters that the tasks share: weight and bias of each layer in turn."""
    assert isinstance(model.stack, SharedBottom)
    return model.stack.shared_parameters()


@dataclass(frozen=True)
class Trained:
    """The runs of a program after training: validation and test loss `[T, R]`, and the recorder of shares, if any."""

    validation: Tensor
    test: Tensor
    recorder: ShareRecorder | None


def train(c: Mapping[str, Any], method: str, runs: list[Run], record: bool, weights: Tensor | None = None) -> Trained:
    """Train runs of one method as one batched program.

    Args:
        c: See `train_cell`.
        method: See there.
        runs: R runs.
        record: Whether to follow dominance.
        weights: Of the trunk's gradients in joint training, `[T, R]`.
    """
    device, num_tasks, seeds = resolve_device(c["device"]), len(c["noise"]), list(c["seeds"])
    source = torch.tensor([seeds.index(run.seed) for run in runs], device=device)
    data, *held_out = folds(
        Problem(c["noise"], c["own_part"]), seeds, source, c["steps"] * c["batch_size"], c["held_out"]
    )
    alone = torch.eye(num_tasks, dtype=torch.float64)
    scales = [loss_weights(num_tasks, r.spread) if r.alone is None else alone[r.alone] for r in runs]  # [T] each
    losses_fn = ScaledLosses(squared_losses, torch.stack(scales, dim=1).to(device))
    networks = [
        SharedBottom(
            NUM_INPUTS, c["hidden"], num_tasks, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        for seed in seeds
    ]
    model = StackedModel([networks[s] for s in source.tolist()]).to(device)
    weighting = _weighting(method, model, losses_fn, record, weights, num_tasks)
    ordinary, per_task = OPTIMIZERS[c["optimizer"]]
    parameters = trained_parameters(model, weighting)
    separate = method == "AdaTask"
    optimizer = per_task(parameters, num_tasks=num_tasks, lr=1.0) if separate else ordinary(parameters, lr=1.0)
    recorder = ShareRecorder(Dominance(optimizer), trunk(model)) if record else None
    rates = torch.tensor([run.rate for run in runs], dtype=torch.float64, device=device)
    steps = torch.arange(c["steps"] * c["batch_size"], device=device).view(c["steps"], 1, c["batch_size"])
    for i, rows in enumerate(steps):  # [1, B]
        optimizer.zero_grad()
        zero_task_grad(parameters)
        weighting.backward(data.batch(rows.expand(len(runs), -1)))
        optimizer.param_groups[0]["lr"] = 1 - i / len(steps)
        step_per_run(optimizer, rates)
        if recorder is not None:
            recorder.record()
    validation, test = (evaluate(model, squared_losses, fold) for fold in held_out)
    return Trained(validation, test, recorder)


def _weighting(
    method: str, model: StackedModel, losses_fn: LossesFn, record: bool, weights: Tensor | None, num_tasks: int
) -> Weighting:
    if method == "AdaTask" or (record and method == "joint"):
        return TaskGradients(model, losses_fn, weights)
    if method in ("joint", "single task"):  # one backward pass gives the same gradients
        parameter = next(model.parameters())
        return StaticWeights(model, losses_fn, parameter.new_ones(num_tasks, model.num_runs))
    return make_baseline(
        method, model, losses_fn, trunk(model), kinds=["regression"] * num_tasks, steps_per_epoch=EPOCH
    )


def train_cell(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train one method at several settings on several seeds as one batched program, in float64, and measure it.

    The data stream by once: every step has fresh examples, the same for all methods of a seed, and the learning rate
    falls linearly to 0.

    Args:
        configuration: `noise` (per task) and `own_part` make the problem; `optimizer`, `seeds`, `steps`, `batch_size`,
            `held_out` (rows of each held-out fold), `hidden` and `device` say how to train; `spreads` and `rates` are
            the settings, in pairs: the weight of the last task's loss, the first's being 1, and the learning rate.
            `record` asks for dominance. `method` is one of

            - "single task": every task alone, in a network of its own;
            - "joint": the sum of the weighted losses;
            - "constant weights": the same with constant weights that give the tasks' gradients of the trunk one mean
              square, measured over a joint training of the same setting and seed beforehand;
            - "AdaTask", or a batched baseline of `companion.baselines`, such as "per-task RMS".

    Returns:
        One row per setting, seed, task, layer and metric. Tasks and layers count from 1; task 0 stands for none and
        layer 0 for the whole trunk. Losses are unweighted mean squared errors on noise-free targets, not finite for a
        run that diverged. `seconds` are the program's, divided by its number of runs.
    """
    begin = time.perf_counter()
    method, record = configuration["method"], configuration["record"]
    tasks = range(len(configuration["noise"]))
    alone = tasks if method == "single task" else [None]
    settings = zip(configuration["spreads"], configuration["rates"], strict=True)
    runs = [
        Run(task, spread, rate, seed) for task, (spread, rate), seed in product(alone, settings, configuration["seeds"])
    ]
    if method == "constant weights":
        before = train(configuration, "joint", runs, record=True).recorder
        assert before is not None
        trained = train(configuration, "joint", runs, record, before.mean_square().rsqrt())
    else:
        trained = train(configuration, method, runs, record)
    measures = {
        (task + 1, 0, metric): losses[task]
        for metric, losses in (("validation loss", trained.validation), ("test loss", trained.test))
        for task in tasks
    }
    if trained.recorder is not None:
        measures |= {(0, layer, metric): values for (layer, metric), values in trained.recorder.measures().items()}
    values = torch.stack(list(measures.values())).cpu().numpy()  # [measures, R]
    table = pd.DataFrame(
        [
            (run.spread, run.rate, run.seed, *measure, value)
            for measure, row in zip(measures, values, strict=True)
            for run, value in zip(runs, row, strict=True)
            if run.alone is None or run.alone + 1 == measure[0]
        ],
        columns=["spread", "rate", "seed", "task", "layer", "metric", "value"],
    )
    return table.assign(seconds=(time.perf_counter() - begin) / len(runs))
