"""CityScapes as preprocessed for MTAN (Liu et al. 2019): street scenes with 7 classes and a depth per pixel.

The layout is `{train,val}/{image,label_7,depth}/{i}.npy` with 2,975 and 500 files of 128 x 256 pixels. A reader puts it
into the folder `cityscapes` below the one that `MTLCORE_DATA` names; CityScapes asks everybody to accept its own terms
(research and teaching, no redistribution), so nothing is downloaded here.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from companion.data.scenes import SceneFold
from companion.train.stacked import Batch

FOLDER = "cityscapes"
SIZES = {"train": 2975, "val": 500}
NUM_CLASSES = 7
SHAPE = (128, 256)
SOURCE = "the README of github.com/lorenmt/mtan, section CityScapes"
LICENCE = "CityScapes' own terms (cityscapes-dataset.com/license): read in place, never redistributed"
SCALES = (1.0, 1.2, 1.5)


def load_cityscapes(
    folder: Path | None = None, *, sizes: Mapping[str, int] = SIZES, shape: tuple[int, int] = SHAPE
) -> tuple[SceneFold, SceneFold]:
    """Read and check both folds into memory, 2 GB for the official set.

    Labels of -1 stay (unknown class); a depth of 0 becomes NaN (unknown).

    Args:
        folder: Holds `train` and `val`; by default `MTLCORE_DATA/cityscapes`.
        sizes: Number of scenes of each fold; the official ones by default.
        shape: Height and width; the official ones by default.

    Returns:
        The folds "train" and "val" with S = 1.

    Raises:
        FileNotFoundError: `MTLCORE_DATA` is unset, or a file is absent.
        ValueError: A file is damaged, or holds other shapes, unknown classes or numbers that are not finite.
    """
    folder = _official_folder() if folder is None else folder
    train, val = (_fold(folder / name, sizes[name], shape) for name in ("train", "val"))
    return train, val


def _official_folder() -> Path:
    place = os.environ.get("MTLCORE_DATA")
    if not place or not (Path(place) / FOLDER).is_dir():
        found = "the variable unset" if not place else f"no `{FOLDER}` there"
        raise FileNotFoundError(
            f"Folder `{FOLDER}` should lie in the folder named by the environment variable MTLCORE_DATA. "
            f"Found {found}. Get the data from {SOURCE} and set the variable."
        )
    return Path(place) / FOLDER


def _fold(folder: Path, size: int, shape: tuple[int, int]) -> SceneFold:
    inputs = np.empty((1, size, 3, *shape), np.float32)
    targets = np.empty((1, 2, size, *shape), np.float32)
    for i in range(size):
        image = _array(folder / "image" / f"{i}.npy", (*shape, 3))
        label = _array(folder / "label_7" / f"{i}.npy", shape)
        depth = _array(folder / "depth" / f"{i}.npy", (*shape, 1))
        path = folder / "label_7" / f"{i}.npy"
        known = np.isin(label, np.arange(-1, NUM_CLASSES))
        if not known.all():
            raise _error(path, f"hold classes 0 to {NUM_CLASSES - 1} or -1", f"{label[~known][0]:g}")
        if (depth < 0).any():
            raise _error(folder / "depth" / f"{i}.npy", "hold depths of at least 0", f"{depth.min():g}")
        inputs[0, i] = np.moveaxis(image, -1, 0)
        targets[0, 0, i] = label
        targets[0, 1, i] = np.where(depth == 0, np.nan, depth)[..., 0]
    return SceneFold(inputs, targets)


def _array(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The numbers of one file, checked; never a pickle, which would run code."""
    if not path.is_file():
        raise FileNotFoundError(
            f"File `{_name(path)}` should be there. Found nothing at `{path}`. Get the data from {SOURCE}."
        )
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise _error(path, "be a complete array of numbers", f"{path.stat().st_size} bytes that are none") from None
    if values.shape != shape or values.dtype.kind not in "fiu":
        expected = " x ".join(map(str, shape))
        found = f"{values.dtype} of shape {' x '.join(map(str, values.shape)) or 'none'}"
        raise _error(path, f"hold numbers of shape {expected}", found)
    if not np.isfinite(values).all():
        raise _error(path, "hold finite numbers", f"{np.count_nonzero(~np.isfinite(values))} NaN or infinite")
    return np.asarray(values, np.float32)


def _name(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _error(path: Path, should: str, found: str) -> ValueError:
    return ValueError(f"File `{_name(path)}` should {should}. Found {found}. Get the data again from {SOURCE}.")


def scale_crop_flip(batch: Batch, generators: list[torch.Generator]) -> Batch:
    """Augment a batch of R runs as MTAN does: enlarge by 1, 1.2 or 1.5, cut to the old size at random, maybe mirror.

    A scene that is enlarged is nearer, so its depth is divided by the scale. Images are resized bilinearly, classes and
    depths by the nearest pixel.

    Args:
        batch: `x [R, B, 3, H, W]` and `y [2, R, B, H, W]`, class and depth.
        generators: One per run, on the CPU: runs with equal generators see equal scenes.
    """
    x, y = batch
    height, width = x.shape[-2:]
    draws = torch.stack([torch.rand(x.shape[1], 4, generator=g) for g in generators])  # [R, B, 4], in [0, 1)
    number, top, left, mirror = draws.to(x.device).unbind(-1)  # [R, B]
    scale = torch.tensor(SCALES, device=x.device)[(number * len(SCALES)).long()]
    high, wide = (height / scale).floor(), (width / scale).floor()  # of the part that is cut out
    top, left = (top * (height - high + 1)).floor(), (left * (width - wide + 1)).floor()
    mirrored = (mirror < 0.5)[..., None]

    def along(first: Tensor, part: Tensor, size: int, *, corners: bool) -> Tensor:
        """Where the pixels 0, ..., size - 1 come from, `[R, B, size]`."""
        pixel = torch.arange(size, device=x.device, dtype=part.dtype)
        step = (part - 1) / (size - 1) if corners else part / size
        return first[..., None] + pixel * step[..., None]

    columns, near = (along(left, wide, width, corners=corners) for corners in (True, False))
    columns, near = (torch.where(mirrored, c.flip(-1), c) for c in (columns, near))
    rows = along(top, high, height, corners=True)
    grid = torch.stack(
        [
            (2 * columns[..., None, :] / (width - 1) - 1).expand(-1, -1, height, -1),
            (2 * rows[..., None] / (height - 1) - 1).expand(-1, -1, -1, width),
        ],
        dim=-1,
    )  # [R, B, H, W, 2]
    image = grid_sample(x.flatten(0, 1), grid.flatten(0, 1).to(x.dtype), align_corners=True, padding_mode="border")
    below = along(top, high, height, corners=False).long()[..., None].expand(-1, -1, -1, width)  # [R, B, H, W]
    beside = near.long()[..., None, :].expand(-1, -1, height, -1)
    cut = torch.stack([t.gather(-2, below).gather(-1, beside) for t in y])  # both gathers see the whole size
    cut[1] = cut[1] / scale[..., None, None].to(cut.dtype)
    return image.view_as(x), cut
