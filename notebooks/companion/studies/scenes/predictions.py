"""What a trained network sees in some test scenes, for pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from companion.problems.scenes import load_folds
from companion.studies.scenes.study import train
from companion.train.all_tasks import runs_of
from companion.train.devices import resolve_device
from companion.train.stacked import RunData


class Scenes(NamedTuple):
    """Test scenes: images `[N, 3, H, W]`, true classes and numbers `[N, H, W]`, and their row numbers."""

    images: NDArray[np.float64]
    truth: tuple[NDArray[np.float64], NDArray[np.float64]]
    rows: list[int]


def look(configuration: Mapping[str, Any]) -> Scenes:
    """The test scenes with most classes, of the split of the first seed.

    Args:
        configuration: As `train_cell`'s, with `pictures`, how many scenes are looked at.
    """
    device, dtype = resolve_device(configuration["device"]), getattr(torch, configuration["dtype"])
    folds = load_folds(configuration, configuration["seeds"][:1], torch.zeros(1, dtype=torch.int64), device, dtype)
    (x, y), rows = _scenes(folds.held_out["test"], configuration["pictures"])
    images, classes, numbers = (values.double().cpu().numpy() for values in (x[0], y[0, 0], y[1, 0]))
    return Scenes(images, (classes, numbers), rows)


def predict(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train one run as `train_cell` does, in the same order of the data, and look at the same scenes.

    Args:
        configuration: As `look`'s, with one seed, spread and rate.

    Returns:
        Tidy rows: the predicted class and number of every pixel by scene (from 0), row and column.
    """
    c = configuration
    trained = train(c, c["method"], runs_of(c, 2), record=False)
    (x, _), _ = _scenes(trained.folds.held_out["test"], c["pictures"])
    with torch.no_grad():
        scores, numbers = trained.model(x)
    found = {"class": scores[0].argmax(1), "number": numbers[0]}  # [N, H, W] each
    height, width = found["class"].shape[-2:]
    index = pd.MultiIndex.from_product([range(c["pictures"]), range(height), range(width)], names=["scene", "y", "x"])
    wide = pd.DataFrame({name: values.double().cpu().numpy().ravel() for name, values in found.items()}, index=index)
    return wide.reset_index().melt(["scene", "y", "x"], var_name="metric", value_name="value")


def as_pictures(predicted: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted classes and numbers `[N, H, W]` from the rows of `predict`."""
    shape = tuple(int(predicted[name].max()) + 1 for name in ("scene", "y", "x"))
    by_metric = predicted.sort_values(["scene", "y", "x"]).groupby("metric")["value"]
    classes, numbers = (by_metric.get_group(name).to_numpy().reshape(shape) for name in ("class", "number"))
    return classes, numbers


def _scenes(fold: RunData, count: int) -> tuple[tuple[Tensor, Tensor], list[int]]:
    """The scenes with most classes as a batch of one run, and which they are."""
    rows = richest(fold.targets[0, 0].cpu().numpy(), count)
    return fold.batch(torch.tensor([rows], device=fold.source.device)), rows


def richest(classes: NDArray[np.float64], count: int, least: float = 0.05) -> list[int]:
    """Scenes `[N, H, W]` in which most classes have at least a share `least`; the first of equals."""
    number = [sum((scene == c).mean() >= least for c in np.unique(scene[scene >= 0])) for scene in classes]
    order: Sequence[int] = np.argsort(-np.array(number), kind="stable").tolist()
    return sorted(order[:count])
