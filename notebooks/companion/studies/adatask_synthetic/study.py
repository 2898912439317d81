"""Training cells of the scale-gap study: one method at some learning rates on some seeds, as a tidy table."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from companion.problems.scale_gap import prepare
from companion.train.all_tasks import Run, loss_scales, make_method, runs_of, tidy
from companion.train.losses import ScaledLosses
from companion.train.runs import falling, train_epochs
from companion.train.share_recorder import SignalRecorder
from companion.train.stacked import evaluate
from companion.train.weightings import TaskGradients

EPOCH = 20  # steps that DWA averages the losses over


@dataclass(frozen=True)
class Trained:
    """The runs of a program after training: validation and test loss `[T, R]`, and the recorder of shares, if any."""

    validation: Tensor
    test: Tensor
    recorder: SignalRecorder | None


def train(c: Mapping[str, Any], method: str, runs: list[Run], record: bool, weights: Tensor | None = None) -> Trained:
    """Train runs of one method as one batched program.

    Args:
        c: See `train_cell`.
        method: What `make_weighting` knows.
        runs: R runs.
        record: Whether to follow dominance.
        weights: Of the shared layers' gradients in joint training, `[T, R]`.
    """
    problem = prepare(c, [run.seed for run in runs])
    losses_fn = ScaledLosses(problem.losses_fn, loss_scales(runs, problem.num_tasks).to(problem.train.source.device))
    weighting, optimizer = make_method(
        method, c["optimizer"], problem.model, losses_fn, problem.shared, kinds=problem.kinds, steps_per_epoch=EPOCH,
        apart=record,
    )  # fmt: skip
    if weights is not None:
        weighting = TaskGradients(problem.model, losses_fn, problem.shared, weights)
    recorder = SignalRecorder(optimizer, problem.shared) if record else None
    rates = problem.per_run([run.rate for run in runs])
    list(train_epochs(weighting, optimizer, [problem.in_order()], rates, falling(c["steps"])))
    validation, test = (evaluate(problem.model, problem.losses_fn, fold) for fold in (problem.validation, problem.test))
    return Trained(validation, test, recorder)


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
    runs = runs_of(configuration, len(configuration["noise"]))
    if method == "constant weights":
        before = train(configuration, "equal weights", runs, record=True).recorder
        assert before is not None
        trained = train(configuration, "equal weights", runs, record, before.mean_square().rsqrt())
    else:
        # One backward pass gives the gradients of joint training and of a single task, whose loss alone counts.
        method = "equal weights" if method in ("joint", "single task") else method
        trained = train(configuration, method, runs, record)
    measures = {
        (task, 0, metric): values
        for metric, losses in (("validation loss", trained.validation), ("test loss", trained.test))
        for task, values in enumerate(losses, start=1)
    }
    if trained.recorder is not None:
        measures |= {(0, layer, metric): values for (layer, metric), values in trained.recorder.measures().items()}
    table = tidy(runs, measures, ["task", "layer", "metric"])
    return table.assign(seconds=(time.perf_counter() - begin) / len(runs))
