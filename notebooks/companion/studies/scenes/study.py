"""Training cells of the scene study: one method at some settings on some seeds, as a tidy table."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from companion.metrics.scene_tables import ALONE
from companion.metrics.scenes import SceneScores, pixel_losses, scene_losses
from companion.networks.scenes import LoopedModel, SceneModel, SegNet, UNet
from companion.problems.scenes import NUM_CLASSES, Folds, load_folds
from companion.train.all_tasks import Run, loss_scales, make_method, runs_of, tidy
from companion.train.devices import resolve_device
from companion.train.runs import train_epochs
from companion.train.share_recorder import SignalRecorder
from companion.train.stacked import Batch, LossesFn, RunData

TWICE = {"first task twice": 0, "second task twice": 1}
KINDS = ["classification", "regression"]
CHUNK = 24  # scenes that are evaluated together


@dataclass(frozen=True)
class Trained:
    """What a program leaves.

    Attributes:
        model: The trained networks.
        folds: What they read.
        scores: (fold, measure) -> mean over the last epochs, `[R]`.
        recorder: Of dominance, if asked for.
        course: (epoch, layer, measure) -> dominance during training, `[R]`; layers count from 1.
    """

    model: LoopedModel
    folds: Folds
    scores: dict[tuple[str, str], Tensor]
    recorder: SignalRecorder | None
    course: dict[tuple[int, int, str], Tensor]


def halved_losses(task: int) -> LossesFn:
    """The loss of one task on the first and on the second half of the batch: two tasks that are equal but for chance.

    What dominance there is between the two is the null level of its measure.
    """

    def losses_fn(model: nn.Module, batch: Batch) -> list[Tensor]:
        x, y = batch
        losses, known = pixel_losses(model(x), y)
        return [
            loss.sum((-3, -2, -1)) / mask.sum((-3, -2, -1)).clamp(min=1)
            for loss, mask in zip(losses[task].chunk(2, dim=-3), known[task].chunk(2, dim=-3), strict=True)
        ]

    return losses_fn


def make_model(c: Mapping[str, Any], seed: int) -> SceneModel:
    """The network of one run: `SegNet` where the configuration has `depths`, else `UNet`."""
    kind = {"generator": torch.Generator().manual_seed(seed), "dtype": getattr(torch, c["dtype"])}
    if c["depths"]:
        return SegNet(NUM_CLASSES, c["channels"], c["depths"], **kind)
    return UNet(c["channels"], NUM_CLASSES, **kind)


def train(c: Mapping[str, Any], method: str, runs: list[Run], record: bool) -> Trained:
    """Train runs of one method as one program; see `train_cell` for the configuration and the methods."""
    device, dtype, seeds = resolve_device(c["device"]), getattr(torch, c["dtype"]), list(c["seeds"])
    source = torch.tensor([seeds.index(run.seed) for run in runs])
    folds = load_folds(c, seeds, source, device, dtype)
    networks = {seed: make_model(c, seed) for seed in seeds}
    model = LoopedModel([networks[run.seed] for run in runs]).to(device)
    weights = loss_scales(runs, 2).to(device, dtype)
    if method in ALONE:
        weights[1 - ALONE[method]] = 0
    per_epoch: int = folds.train.num_rows // c["batch_size"]
    weighting, optimizer = make_method(
        "equal weights" if method in ("joint", *ALONE, *TWICE) else method, c["optimizer"], model,
        halved_losses(TWICE[method]) if method in TWICE else scene_losses(weights), model.shared_parameters(),
        kinds=KINDS, steps_per_epoch=per_epoch, apart=record,
    )  # fmt: skip
    recorder = SignalRecorder(optimizer, model.shared_parameters()) if record else None
    rates = torch.tensor([run.rate for run in runs], dtype=dtype, device=device)
    epochs = (_batches(c, folds, [run.seed for run in runs], epoch) for epoch in range(c["epochs"]))
    scores: list[dict[tuple[str, str], Tensor]] = []
    course: dict[tuple[int, int, str], Tensor] = {}

    def schedule(step: int) -> float:
        epoch, i = divmod(step, per_epoch)
        if c["halve_every"]:
            return float(0.5 ** (epoch // c["halve_every"]))
        return float(1 - (epoch + i / per_epoch) / c["epochs"])

    for epoch, _ in enumerate(train_epochs(weighting, optimizer, epochs, rates, schedule)):
        if recorder is not None:
            layers = recorder.dominance.layers(model.stack).values()
            for layer, found in enumerate(layers, start=1):
                course[epoch + 1, layer, "dominated, updates"] = found.dominated
                course[epoch + 1, layer, "last task, updates"] = found.relative[-1]
        if method not in TWICE and epoch >= c["epochs"] - c["last"]:
            scores.append({(n, m): v for n, f in folds.held_out.items() for m, v in measure(model, f).items()})
    means = {key: torch.stack([one[key] for one in scores]).mean(0) for key in (scores[0] if scores else {})}
    return Trained(model, folds, means, recorder, course)


def _batches(c: Mapping[str, Any], folds: Folds, seeds: list[int], epoch: int) -> Iterator[Batch]:
    """Batches of one epoch in the order that each run's seed and the epoch fix."""
    generators = [torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch) for seed in seeds]
    order = torch.stack([torch.randperm(folds.train.num_rows, generator=g) for g in generators])  # [R, N]
    for i in range(folds.train.num_rows // c["batch_size"]):
        rows = order[:, i * c["batch_size"] : (i + 1) * c["batch_size"]].to(folds.train.source.device)
        yield folds.augment(folds.train.batch(rows), generators)


def measure(model: LoopedModel, fold: RunData) -> dict[str, Tensor]:
    """All measures of `SceneScores` over a fold, `[R]` each."""
    scores = SceneScores(NUM_CLASSES)
    with torch.no_grad():
        for rows in fold.chunks(CHUNK):
            x, y = fold.batch(rows)
            scores.update(model(x), y)
    return scores.measures()


def train_cell(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train one method at several settings on several seeds as one program, and measure it.

    Args:
        configuration: `dataset` and what `load_folds` reads say which data; `channels`, `depths` and `dtype` which
            network; `optimizer`, `seeds`, `epochs`, `batch_size`, `device` how to train. The learning rate falls
            linearly to 0, or is halved every `halve_every` epochs where that is not 0. Measures are means over the
            `last` epochs. `spreads` and `rates` are the settings, in pairs: weight of the second task's loss, the
            first's being 1, and learning rate. `record` asks for dominance. `method` is one of

            - "first task alone", "second task alone": the single tasks;
            - "joint": the sum of the weighted losses;
            - "first task twice", "second task twice": joint training of two halves of the batch, for the null level;
            - "AdaTask", or a batched baseline of `companion.baselines`, such as "per-task RMS".

    Returns:
        One row per setting, seed, fold, epoch, layer and metric. Fold is "training" for dominance; layers count from 1,
        and layer 0 stands for none or the whole of the shared layers; epochs count from 1, and epoch 0 is the end. A
        run that diverged has NaN. `seconds` are the program's, divided by its number of runs.
    """
    begin = time.perf_counter()
    c, method = configuration, configuration["method"]
    runs = runs_of(c, 2)
    trained = train(c, method, runs, c["record"])
    measures = {(fold, 0, 0, metric): values for (fold, metric), values in trained.scores.items()}
    if trained.recorder is not None:
        found = trained.recorder.measures()
        measures |= {("training", 0, layer, metric): values for (layer, metric), values in found.items()}
        measures |= {("training", *key): values for key, values in trained.course.items()}
    table = tidy(runs, measures, ["fold", "epoch", "layer", "metric"])
    return table.assign(seconds=(time.perf_counter() - begin) / len(runs))
