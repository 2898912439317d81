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

NUM_CLASSES = len(CLASSES)  # CityScapes in MTAN's layout has as many
DATASETS = ("earth", "cityscapes")
TEST_TO_TRAIN = {"earth": 24 / 120, "cityscapes": 0.0}  # for intervals over splits that overlap; one fixed split: none


@dataclass(frozen=True)
class Folds:
    """Training fold, held-out folds by name ("validation", "test") and the augmentation of training batches."""

    train: RunData
    held_out: dict[str, RunData]
    augment: Callable[[Batch, list[torch.Generator]], Batch]


def load_folds(
    c: Mapping[str, Any], seeds: Sequence[int], source: Tensor, device: torch.device, dtype: torch.dtype
) -> Folds:
    """Load the folds that the runs read.

    Args:
        c: `dataset`, and for "earth" `pool` and `second`, for "cityscapes" `sizes` (training and test scenes), `shape`
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
        train, validation, test = earth_folds(load_earth_map(c["pool"]), seeds, c["second"])
        held_out = {"validation": on_device(validation, source), "test": on_device(test, source)}
        return Folds(on_device(train, source), held_out, lambda batch, generators: batch)
    if c["dataset"] == "cityscapes":
        sizes = dict(zip(("train", "val"), c["sizes"], strict=True))
        train, test = load_cityscapes(sizes=sizes, shape=tuple(c["shape"]))
        only = torch.zeros_like(source)
        augment = scale_crop_flip if c["augment"] else lambda batch, generators: batch
        return Folds(on_device(train, only), {"test": on_device(test, only)}, augment)
    raise ValueError(
        f"Parameter `dataset` should be one of {', '.join(map(repr, DATASETS))}. Found `dataset = {c['dataset']!r}`. "
        "Pass one of them."
    )
