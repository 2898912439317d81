"""Training cells of the scene study: one method at some settings on some seeds, as a tidy table."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from companion.metrics.scene_tables import ALONE
from companion.metrics.scenes import LOSSES, SceneScores, pixel_losses, scene_losses
from companion.networks.scenes import LoopedModel, SceneModel, SegNet, UNet
from companion.problems.scenes import NUM_CLASSES, NUM_PLANES, Folds, load_folds
from companion.train.all_tasks import Run, loss_scales, make_method, runs_of, tidy
from companion.train.devices import resolve_device
from companion.train.optimizers import per_run
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
        model: The trained networks, each as it was in its best epoch where there is a validation fold.
        folds: What they read.
        scores: (fold, measure) -> of the best epoch, or mean over the last epochs, `[R]`.
        recorder: Of dominance, if asked for.
        course: (fold, epoch, layer, measure) -> what was seen after an epoch, `[R]`: validation losses, with layer 0,
            and dominance, whose layers count from 1.
    """

    model: LoopedModel
    folds: Folds
    scores: dict[tuple[str, str], Tensor]
    recorder: SignalRecorder | None
    course: dict[tuple[str, int, int, str], Tensor]


class BestEpoch:
    """Keeps every run's parameters of the epoch with the least mean of the logarithms of its validation losses.

    Args:
        model: R runs.
        counts: Which losses count for which run, `[2, R]`.
    """

    def __init__(self, model: LoopedModel, counts: Tensor) -> None:
        self._parameters = list(model.parameters())
        self._counts = counts.double()
        self._least = torch.full_like(self._counts[0], torch.inf)
        self._kept = [p.detach().clone() for p in self._parameters]
        self.epoch = torch.zeros_like(self._least)  # [R], from 1; 0 where no loss was finite

    @torch.no_grad()
    def look(self, epoch: int, losses: Tensor) -> None:
        """Compare an epoch with the best one so far, by its losses `[2, R]`."""
        mean = (self._counts * losses.log()).sum(0) / self._counts.sum(0)
        improved = mean < self._least  # False for NaN
        self._least = torch.where(improved, mean, self._least)
        self.epoch = torch.where(improved, epoch, self.epoch)
        for kept, p in zip(self._kept, self._parameters, strict=True):
            kept.copy_(torch.where(per_run(improved, p), p, kept))

    @torch.no_grad()
    def restore(self) -> None:
        """Give the model the parameters that were kept."""
        for kept, p in zip(self._kept, self._parameters, strict=True):
            p.copy_(kept)


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
    """The network of one run: `SegNet` where the configuration has `depths`, else `UNet` with `octaves` of waves."""
    kind = {"generator": torch.Generator().manual_seed(seed), "dtype": getattr(torch, c["dtype"])}
    num_classes = NUM_CLASSES[c["dataset"]]
    if c["depths"]:
        return SegNet(num_classes, c["channels"], c["depths"], **kind)
    return UNet(c["channels"], num_classes, planes=NUM_PLANES[c["dataset"]], octaves=c["octaves"], **kind)


def train(c: Mapping[str, Any], method: str, runs: list[Run], record: bool) -> Trained:
    """Train runs of one method as one program; see `train_cell` for the configuration and the methods."""
    device, dtype, seeds = resolve_device(c["device"]), getattr(torch, c["dtype"]), list(c["seeds"])
    source = torch.tensor([seeds.index(run.seed) for run in runs])
    folds = load_folds(c, seeds, source, device, dtype)
    networks = {seed: make_model(c, seed) for seed in seeds}
    model = LoopedModel([networks[run.seed] for run in runs]).to(device)
    weights = loss_scales(runs, 2).to(device, dtype)
    counts = torch.ones_like(weights)
    if method in ALONE:
        weights[1 - ALONE[method]] = counts[1 - ALONE[method]] = 0
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
    course: dict[tuple[str, int, int, str], Tensor] = {}
    best = BestEpoch(model, counts)

    def schedule(step: int) -> float:
        epoch, i = divmod(step, per_epoch)
        if c["halve_every"]:
            return float(0.5 ** (epoch // c["halve_every"]))
        return float(1 - (epoch + i / per_epoch) / c["epochs"])

    for epoch, _ in enumerate(train_epochs(weighting, optimizer, epochs, rates, schedule), start=1):
        if recorder is not None:
            layers = recorder.dominance.layers(model.stack).values()
            for layer, found in enumerate(layers, start=1):
                course["training", epoch, layer, "dominated, updates"] = found.dominated
        if method in TWICE:
            continue
        if "validation" in folds.held_out:
            seen = measure(model, folds.held_out["validation"], folds.num_classes)
            best.look(epoch, torch.stack([seen[name] for name in LOSSES]))
            course |= {("validation", epoch, 0, name): seen[name] for name in LOSSES}
        elif epoch > c["epochs"] - c["last"]:
            scores.append(_measures(model, folds))
    if "validation" in folds.held_out and method not in TWICE:
        best.restore()
        scores.append({**_measures(model, folds), ("validation", "best epoch"): best.epoch})
    means = {key: torch.stack([one[key] for one in scores]).mean(0) for key in (scores[0] if scores else {})}
    return Trained(model, folds, means, recorder, course)


def _measures(model: LoopedModel, folds: Folds) -> dict[tuple[str, str], Tensor]:
    return {
        (name, m): v
        for name, fold in folds.held_out.items()
        for m, v in measure(model, fold, folds.num_classes).items()
    }


def _batches(c: Mapping[str, Any], folds: Folds, seeds: list[int], epoch: int) -> Iterator[Batch]:
    """Batches of one epoch in the order that each run's seed and the epoch fix."""
    generators = [torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch) for seed in seeds]
    order = torch.stack([torch.randperm(folds.train.num_rows, generator=g) for g in generators])  # [R, N]
    for i in range(folds.train.num_rows // c["batch_size"]):
        rows = order[:, i * c["batch_size"] : (i + 1) * c["batch_size"]].to(folds.train.source.device)
        yield folds.augment(folds.train.batch(rows), generators)


def measure(model: LoopedModel, fold: RunData, num_classes: int) -> dict[str, Tensor]:
    """All measures of `SceneScores` over a fold, `[R]` each."""
    scores = SceneScores(num_classes)
    with torch.no_grad():
        for rows in fold.chunks(CHUNK):
            x, y = fold.batch(rows)
            scores.update(model(x), y)
    return scores.measures()


def train_cell(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train one method at several settings on several seeds as one program, and measure it.

    Args:
        configuration: `dataset` and what `load_folds` reads say which data; what `make_model` reads which
            network; `optimizer`, `seeds`, `epochs`, `batch_size`, `device` how to train. The learning rate falls
            linearly to 0, or is halved every `halve_every` epochs where that is not 0. Measures are those of the best
            epoch on the validation fold, or, where there is none, means over the `last` epochs. `spreads` and `rates`
            are the settings, in pairs: weight of the second task's loss, the first's being 1, and learning rate.
            `record` asks for dominance. `method` is one of

            - "first task alone", "second task alone": the single tasks;
            - "joint": the sum of the weighted losses;
            - "first task twice", "second task twice": joint training of two halves of the batch, for the null level;
            - "AdaTask", or a baseline of `companion.baselines`, such as "per-task RMS".

    Returns:
        One row per setting, seed, fold, epoch, layer and metric. Fold is "training" for dominance; layers count from 1,
        and layer 0 stands for none or the whole of the shared layers; epochs count from 1, and epoch 0 is the best one
        or the end. A run that diverged has NaN. `seconds` are the program's, divided by its number of runs.
    """
    begin = time.perf_counter()
    c, method = configuration, configuration["method"]
    runs = runs_of(c, 2)
    trained = train(c, method, runs, c["record"])
    measures = {(fold, 0, 0, metric): values for (fold, metric), values in trained.scores.items()} | trained.course
    if trained.recorder is not None:
        found = trained.recorder.measures()
        measures |= {("training", 0, layer, metric): values for (layer, metric), values in found.items()}
    table = tidy(runs, measures, ["fold", "epoch", "layer", "metric"])
    return table.assign(seconds=(time.perf_counter() - begin) / len(runs))
