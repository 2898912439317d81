"""The data of a run by configuration: Earth scenes or CityScapes, on the device, and what is done to a batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from companion.data.cityscapes import load_cityscapes, scale_crop_flip
from companion.data.earth_scenes import CLASSES, load_earth_map
from companion.data.scenes import SceneFold, earth_folds
from companion.train.stacked import Batch, RunData

NUM_CLASSES = {"earth": len(CLASSES), "cityscapes": 7}
NUM_PLANES = {"earth": 4, "cityscapes": 3}  # of an image; Earth's have their latitude
TEST_TO_TRAIN = {"earth": 48 / 240, "cityscapes": 0.0}  # for intervals over splits that overlap; one fixed split: none


@dataclass(frozen=True)
class Folds:
    """Training fold, held-out folds by name ("validation", "test"), and the augmentation of training batches."""

    train: RunData
    held_out: dict[str, RunData]
    augment: Callable[[Batch, list[torch.Generator]], Batch]
    num_classes: int


def load_folds(
    c: Mapping[str, Any], seeds: Sequence[int], source: Tensor, device: torch.device, dtype: torch.dtype
) -> Folds:
    """Load the folds that the runs read.

    Args:
        c: `dataset`, and for "earth" `pool` and `side`, for "cityscapes" `sizes` (training and test scenes), `shape`
            and `augment`. CityScapes has one split for all seeds and no validation fold: its published protocol tunes
            nothing.
        seeds: Of the splits.
        source: Which seed each run has, `[R]`.
        device: Where the data go.
        dtype: Of images and targets.

    Raises:
        ValueError: There is no such data set.
    """

    def on_device(fold: SceneFold, which: Tensor) -> RunData:
        inputs, targets = (torch.from_numpy(values).to(device, dtype) for values in (fold.inputs, fold.targets))
        return RunData(inputs, targets, which.to(device))

    if c["dataset"] == "earth":
        train, validation, test = earth_folds(load_earth_map(c["pool"]), seeds, c["side"])
        held_out = {"validation": on_device(validation, source), "test": on_device(test, source)}
        return Folds(on_device(train, source), held_out, turned, NUM_CLASSES["earth"])
    if c["dataset"] == "cityscapes":
        sizes = dict(zip(("train", "val"), c["sizes"], strict=True))
        train, test = load_cityscapes(sizes=sizes, shape=tuple(c["shape"]))
        only = torch.zeros_like(source)
        augment = scale_crop_flip if c["augment"] else lambda batch, generators: batch
        return Folds(on_device(train, only), {"test": on_device(test, only)}, augment, NUM_CLASSES["cityscapes"])
    raise ValueError(
        f"Parameter `dataset` should be one of {', '.join(map(repr, NUM_CLASSES))}. "
        f"Found `dataset = {c['dataset']!r}`. Pass one of them."
    )


def turned(batch: Batch, generators: list[torch.Generator]) -> Batch:
    """Turn and mirror every square tile of a batch at random: eight ways, all alike to a view from above.

    Args:
        batch: `x [R, B, planes, H, H]` and `y [2, R, B, H, H]`.
        generators: One per run.
    """
    x, y = batch
    ways = torch.stack([torch.rand(3, x.shape[1], generator=g) < 0.5 for g in generators], dim=1).to(x.device)
    for way, chosen in enumerate(ways):
        at = chosen[..., None, None]  # [R, B, 1, 1]
        x, y = (torch.where(where, _seen(way, v), v) for where, v in ((at[..., None], x), (at, y)))
    return x, y


def _seen(way: int, values: Tensor) -> Tensor:
    """Values `[..., H, H]` mirrored from left to right, from top to bottom, or along the diagonal."""
    return values.mT if way == 2 else values.flip(-1 - way)
