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
from companion.train.null_level import against_itself
from companion.train.runs import falling, train_epochs
from companion.train.share_recorder import SignalRecorder
from companion.train.stacked import evaluate
from companion.train.weightings import TaskGradients

EPOCH = 20  # steps that DWA averages the losses over
NULLS = {"first task against itself": 0, "second task against itself": 1}
JOINT = ("joint", "single task", *NULLS)  # trained by the sum of their losses


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
        method: One of those there.
        runs: R runs.
        record: Whether to follow dominance.
        weights: Of the shared layers' gradients in joint training, `[T, R]`.
    """
    problem = prepare(c, [run.seed for run in runs])
    losses_fn = problem.losses_fn
    if method in NULLS:
        losses_fn = against_itself(losses_fn, NULLS[method], problem.num_tasks)
    losses_fn = ScaledLosses(losses_fn, loss_scales(runs, problem.num_tasks).to(problem.train.source.device))
    # One backward pass gives the gradients of joint training and of a single task, whose loss alone counts.
    weighting, optimizer = make_method(
        "equal weights" if method in JOINT else method, c["optimizer"], problem.model, losses_fn, problem.shared,
        kinds=problem.kinds, steps_per_epoch=EPOCH, apart=record, decay=c["decay"],
    )  # fmt: skip
    if weights is not None:
        weighting = TaskGradients(problem.model, losses_fn, problem.shared, weights)
    recorder = SignalRecorder(optimizer, problem.shared) if record else None
    rates = problem.per_run([run.rate for run in runs])
    epochs = problem.epochs(c["steps"] // problem.steps_per_epoch)
    list(train_epochs(weighting, optimizer, epochs, rates, falling(c["steps"])))
    validation, test = (evaluate(problem.model, problem.losses_fn, fold) for fold in (problem.validation, problem.test))
    return Trained(validation, test, recorder)


def train_cell(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train one method at several settings on several seeds as one batched program, in float64, and measure it.

    All methods of a seed have the same examples in the same order; the learning rate falls linearly to 0.

    Args:
        configuration: `noise` (per task), `own_part` and `rows` (examples of the training fold; 0 stands for fresh ones
            at every step) make the problem; `optimizer`, `decay` (of the weights, with Adam), `seeds`, `steps`,
            `batch_size`, `held_out` (rows of each held-out fold), `hidden` and `device` say how to train; `spreads` and
            `rates` are the settings, in pairs: the weight of the last task's loss, the first's being 1, and the
            learning rate. `record` asks for dominance. `method` is one of

            - "single task": every task alone, in a network of its own;
            - "joint": the sum of the weighted losses;
            - "first task against itself", "second task against itself": joint training of one task on two halves of
              the batch, for the null level of dominance;
            - "constant weights": joint training with constant weights that give the tasks' gradients of the trunk one
              mean square, measured over a joint training of the same setting and seed beforehand;
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
        before = train(configuration, "joint", runs, record=True).recorder
        assert before is not None
        trained = train(configuration, "joint", runs, record, before.mean_square().rsqrt())
    else:
        trained = train(configuration, method, runs, record)
    measures: dict[tuple[int, int, str], Tensor] = {
        (task, 0, metric): values
        for metric, losses in (("validation loss", trained.validation), ("test loss", trained.test))
        for task, values in enumerate(losses, start=1)
        if method not in NULLS
    }
    if trained.recorder is not None:
        measures |= {(0, layer, metric): values for (layer, metric), values in trained.recorder.measures().items()}
    table = tidy(runs, measures, ["task", "layer", "metric"])
    return table.assign(seconds=(time.perf_counter() - begin) / len(runs))
