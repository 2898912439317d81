"""The synthetic designs of notebook 02 as problems: mini-batches of known composition, listed beforehand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from companion.networks.shared_bottom import SharedBottom
from companion.problems import synthetic_tasks
from companion.problems.composed_batches import ListedBatches, list_batches, minor_counts
from companion.train.devices import resolve_device
from companion.train.losses import squared_losses
from companion.train.problem import WITHHELD, Problem, withholds
from companion.train.stacked import RunData, StackedModel

Configuration = Mapping[str, Any]
MINOR = 0.25  # share of the smaller hidden cluster
# Design -> how a problem is made from its seed. Scales of the auxiliaries' targets: every second one is three times
# larger, since a method that follows gradients follows the larger ones.
DESIGNS: dict[str, Callable[[int, Sequence[int], float], synthetic_tasks.Drawn]] = {
    "composition": partial(synthetic_tasks.composition, minor=MINOR),
    "drift": synthetic_tasks.drift,
    "related and unrelated": partial(synthetic_tasks.related, scales=(1.0, 3.0, 1.0, 3.0), num_related=2),
    "one relevant": partial(synthetic_tasks.related, scales=(1.0, 1.0, 1.0, 1.0), num_related=1),
}


def draw(c: Configuration, seed: int) -> synthetic_tasks.Drawn:
    """Draw the problem of a seed by `c["design"]`, `c["rows"]` (of the three folds) and `c["noise"]`."""
    return DESIGNS[c["design"]](seed, c["rows"], c["noise"])


def prepare(c: Configuration, seeds: Sequence[int]) -> Problem:
    """Prepare a design for runs with these seeds; equal ones share data, batches and initial weights.

    Validation has noisy main targets, the test fold the main task's function itself. One row of the training fold is
    one listed batch.

    Args:
        c: As `draw`, and `dose`, `hidden`, `num_batches`, `batch_size`, `device`. With `jump_epoch` the training fold
            keeps the target that the jump leads to. Where the configuration `withholds`, a fifth of the
            training rows is kept from training, to be read as one batch.
        seeds: One per run.
    """
    device = resolve_device(c["device"])
    names = sorted(set(seeds))
    drawn = [draw(c, seed) for seed in names]
    source = torch.tensor([names.index(seed) for seed in seeds], device=device)
    num_tasks = 2 if c["design"] == "drift" else len(drawn[0].targets["train"])  # heads

    def fold(name: str) -> RunData:
        inputs, targets = (
            np.stack([values[name] for values in part])
            for part in ([d.inputs for d in drawn], [d.targets for d in drawn])
        )
        data = RunData(torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device), source)
        whole = name == "train" and "jump_epoch" in c
        return data if whole else replace(data, targets=data.targets[:, :num_tasks])

    rows, size = c["rows"][0], c["batch_size"]
    used = round(rows * (1 - WITHHELD)) if withholds(c) else rows
    counts = np.zeros(c["num_batches"], dtype=np.int64)
    if drawn[0].clusters.any():
        counts = minor_counts(c["dose"], MINOR, size, c["num_batches"])
    generators = [np.random.default_rng([seed, 4]) for seed in names]
    batches = [list_batches(d.clusters[:used], counts, size, g) for d, g in zip(drawn, generators, strict=True)]
    withheld = np.tile(np.arange(used, rows), (len(names), 1, 1))  # [S, 1, W]
    train = fold("train")
    return Problem(
        StackedModel([_model(c["hidden"], num_tasks, seed) for seed in seeds]).to(device),
        list(seeds),
        ["regression"] * num_tasks,
        squared_losses,
        ListedBatches.of(train, np.stack(batches)),
        fold("validation"),
        fold("test"),
        batch_size=1,
        withheld=ListedBatches.of(train, withheld) if used < rows else None,
    )


def _model(hidden: Sequence[int], num_tasks: int, seed: int) -> SharedBottom:
    generator = torch.Generator().manual_seed(seed)
    return SharedBottom(synthetic_tasks.NUM_INPUTS, hidden, num_tasks, generator=generator, dtype=torch.float64)
