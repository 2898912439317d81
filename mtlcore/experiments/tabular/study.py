"""A paired comparison of task weightings on repeated splits of a tabular data set with a main and an auxiliary task.

Every setting trains on the same splits, from the same initial weights and on the same batches; settings are chosen on
the validation folds of tuning splits. `report` turns the runs into tables.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from mtlcore.data import Fold
from mtlcore.hydalearn import HydaLearn
from mtlcore.metrics import auc_per_run, log_loss_per_run
from mtlcore.models import SharedBottom, binary_losses
from mtlcore.runs import StaticWeights, Weighting, train_runs
from mtlcore.stacked import Batch, RunData, StackedModel, predict


@dataclass(frozen=True)
class Setting:
    """A method with its knobs: `auxiliary_weight` is None for HydaLearn, which sets its own weights."""

    method: str
    rate: float
    auxiliary_weight: float | None = None


@dataclass(frozen=True)
class Training:
    """What all runs of a study share: widths of the shared layers, epochs, batch size and device."""

    hidden: Sequence[int]
    epochs: int
    batch_size: int
    device: torch.device


@dataclass(frozen=True)
class Trained:
    """The runs of one program.

    Attributes:
        table: One row per run: method, rate, auxiliary weight, seed, validation loss, best epoch, failed, seconds
            (the program's time shared equally), and log loss and AUC of the main task where a test fold was given.
        auxiliary_weights: Weight of the auxiliary task at every step, `[steps, R]`.
    """

    table: pd.DataFrame
    auxiliary_weights: NDArray[np.float64]


def weighting(model: StackedModel, settings: Sequence[Setting]) -> Weighting:
    """Build the weighting of a stack whose runs have these settings: all HydaLearn (its defaults) or all static."""
    static = [s.auxiliary_weight for s in settings if s.auxiliary_weight is not None]
    if not static:
        assert isinstance(model.stack, SharedBottom)
        return HydaLearn(model, binary_losses, model.stack.shared_parameters())
    if len(static) < len(settings):
        raise ValueError(
            "Parameter `settings` should be all HydaLearn or all static. "
            f"Found {len(static)} runs of {len(settings)} with static weights. Train them in two calls."
        )
    auxiliary = torch.tensor(static, dtype=torch.float64, device=next(model.parameters()).device)
    return StaticWeights(model, binary_losses, torch.stack([torch.ones_like(auxiliary), auxiliary]))  # [2, R]


def _stack(seeds: Sequence[int], num_inputs: int, training: Training) -> StackedModel:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return StackedModel(
        [SharedBottom(num_inputs, training.hidden, 2, generator=g, dtype=torch.float64) for g in generators]
    ).to(training.device)


def train_settings(
    settings: Sequence[Setting],
    seeds: Sequence[int],
    train: Fold,
    validation: Fold,
    training: Training,
    test: Fold | None = None,
) -> Trained:
    """Train every setting on every split as one batched program, in float64 with Adam.

    Args:
        settings: All HydaLearn or all static.
        seeds: One per split of the folds; it fixes initial weights and batches, which all settings of a split share.
        train: Training fold of every split.
        validation: Chooses each run's epoch by the main task's loss.
        training: What all runs share.
        test: Gives log loss and AUC; leave it out while tuning.
    """
    runs = list(product(settings, range(len(seeds))))
    source = torch.tensor([split for _, split in runs], device=training.device)

    def on_device(fold: Fold) -> RunData:
        inputs, targets = (torch.from_numpy(a).to(training.device) for a in (fold.inputs, fold.targets))
        return RunData(inputs, targets, source)

    run_seeds = [seeds[split] for _, split in runs]
    model = _stack(run_seeds, train.inputs.shape[-1], training)
    rates = torch.tensor([setting.rate for setting, _ in runs], dtype=torch.float64, device=training.device)
    begin = time.perf_counter()
    history = train_runs(
        model,
        weighting(model, [setting for setting, _ in runs]),
        torch.optim.Adam(model.parameters(), lr=1.0),
        binary_losses,
        on_device(train),
        on_device(validation),
        rates=rates,
        seeds=run_seeds,
        epochs=training.epochs,
        batch_size=training.batch_size,
    )
    failed = history.failed.cpu().numpy()
    table = pd.DataFrame(
        {
            "method": [setting.method for setting, _ in runs],
            "rate": [setting.rate for setting, _ in runs],
            "auxiliary weight": [setting.auxiliary_weight for setting, _ in runs],
            "seed": run_seeds,
            "validation loss": np.where(failed, np.nan, history.validation.amin(0).cpu().numpy()),
            "best epoch": history.best_epoch.cpu().numpy() + 1,
            "failed": failed,
        }
    )
    table["seconds"] = (time.perf_counter() - begin) / len(runs)  # after the copies above, which wait for the device
    if test is not None:
        logits = predict(model, on_device(test))[0].cpu().numpy()  # [R, N]
        labels = test.targets[source.cpu().numpy(), 0]
        table["log loss"] = log_loss_per_run(labels, logits)
        table["AUC"] = auc_per_run(labels, logits)
    return Trained(table, history.weights[:, 1].cpu().numpy())


def choose(tuned: pd.DataFrame, method: str, auxiliary_weights: Sequence[float] | None) -> tuple[Setting, list[str]]:
    """Choose a method's knobs by mean validation loss over the tuning splits; a setting with a failed run is out.

    Args:
        tuned: Table of the tuning runs.
        method: What the chosen setting is called.
        auxiliary_weights: The static weights that the method may choose from; None for HydaLearn's runs.

    Returns:
        The setting, and a sentence for each knob whose best value lies at an edge of its grid.
    """
    column = tuned["auxiliary weight"]
    candidates = tuned[column.isna() if auxiliary_weights is None else column.isin(auxiliary_weights)]
    means = candidates.groupby(["auxiliary weight", "rate"], dropna=False)["validation loss"].agg(
        lambda losses: losses.mean(skipna=False)
    )
    knobs = means.index.to_frame().to_numpy(np.float64)  # [settings, 2]
    weight, rate = knobs[int(np.nanargmin(means))]
    edges = []
    for knob, value, grid in zip(("auxiliary weight", "rate"), (weight, rate), knobs.T, strict=True):
        if grid.min() < grid.max() and value in (grid.min(), grid.max()):
            edges.append(f"{method}: the best {knob}, {value:g}, lies at an edge of its grid: widen it.")
    return Setting(method, float(rate), None if auxiliary_weights is None else float(weight)), edges


def cost_per_step(settings: Sequence[Setting], train: Fold, training: Training) -> pd.DataFrame:
    """Count the work of one training step of each method on one batch: measured, the same on every machine.

    Returns:
        One row per setting: how often the shared parameters' gradient is evaluated, and millions of floating-point
        operations in matrix products.
    """
    rows = []
    for setting in settings:
        model = _stack([0], train.inputs.shape[-1], training)
        method = weighting(model, [setting])
        data = RunData(torch.from_numpy(train.inputs[:1]), torch.from_numpy(train.targets[:1]), torch.zeros(1).long())
        x, y = data.batch(torch.arange(training.batch_size)[None])
        batch: Batch = (x.to(training.device), y.to(training.device))
        evaluations: list[int] = []
        next(model.parameters()).register_hook(lambda _, seen=evaluations: seen.append(1))  # type: ignore[no-untyped-call]
        with FlopCounterMode(display=False) as counter:
            method.backward(batch)
        rows.append({"method": setting.method, "gradients": len(evaluations), "Mflop": counter.get_total_flops() / 1e6})
    return pd.DataFrame(rows)
