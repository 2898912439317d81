"""What trained networks see in the test tile of median loss: chosen by rule, not for looks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from companion.data.scenes import natural_colours
from companion.metrics.scene_tables import ALONE
from companion.metrics.scenes import pixel_losses
from companion.problems.scenes import load_folds
from companion.studies.scenes.study import train
from companion.train.all_tasks import Run
from companion.train.devices import resolve_device

Planes = dict[str, NDArray[np.float64]]  # "class" and "number", `[H, W]` each


class Picture(NamedTuple):
    """A test tile: its number, its image `[3, H, W]` in [0, 1], truth and prediction."""

    tile: int
    image: NDArray[np.float64]
    truth: Planes
    predicted: Planes


def predict(configuration: Mapping[str, Any]) -> pd.DataFrame:
    """Train one run as `train_cell` does, and look at the test tile whose loss is the median of all.

    A tile's loss is the mean of its cross-entropy and its absolute error, each over that of the mean tile.

    Args:
        configuration: As `train_cell`'s, with one seed and spread, and one rate; for the method "single tasks" the two
            rates of the two networks.

    Returns:
        Tidy rows: the predicted class and number of every pixel of the tile by row and column, and, at 0, which tile it
        is.
    """
    c = configuration
    methods = list(ALONE) if c["method"] == "single tasks" else [c["method"]]
    outputs = []
    for method, rate in zip(methods, c["rates"], strict=True):
        trained = train(c, method, [Run(c["spreads"][0], rate, c["seeds"][0])], record=False)
        test = trained.folds.held_out["test"]
        x, y = test.batch(test.chunks(test.num_rows)[0])
        with torch.no_grad():
            outputs.append(trained.model(x))
    scores, numbers = outputs[0][0], outputs[-1][1]  # [1, N, C, H, W] and [1, N, H, W]
    tile = median_tile(pixel_losses([scores, numbers], y)[0])
    planes = {"class": scores[0, tile].argmax(0), "number": numbers[0, tile]}  # [H, W] each
    index = pd.MultiIndex.from_product([range(side) for side in numbers.shape[-2:]], names=["y", "x"])
    wide = pd.DataFrame({name: plane.double().cpu().numpy().ravel() for name, plane in planes.items()}, index=index)
    table = wide.reset_index().melt(["y", "x"], var_name="metric", value_name="value")
    which = pd.DataFrame({"y": [0], "x": [0], "metric": ["tile"], "value": [float(tile)]})
    return pd.concat([table, which], ignore_index=True)


def median_tile(losses: list[Tensor]) -> int:
    """The tile of median loss, of an even number the lower one, from every pixel's losses `[1, N, H, W]`."""
    by_tile = [loss[0].double().mean((-2, -1)) for loss in losses]  # [N] each
    relative = sum((loss / loss.mean() for loss in by_tile), start=torch.zeros_like(by_tile[0]))
    return int(relative.median(0).indices)


def as_picture(predicted: pd.DataFrame, configuration: Mapping[str, Any]) -> Picture:
    """The tile that `predict` looked at, from its rows and its configuration."""
    c = configuration
    device, dtype = resolve_device(c["device"]), getattr(torch, c["dtype"])
    folds = load_folds(c, c["seeds"][:1], torch.zeros(1, dtype=torch.int64), device, dtype)
    by_metric = predicted.sort_values(["y", "x"]).groupby("metric")["value"]
    tile = int(by_metric.get_group("tile").iloc[0])
    (x, y) = folds.held_out["test"].batch(torch.tensor([[tile]], device=device))
    image, classes, numbers = (values.double().cpu().numpy() for values in (x[0], y[0, 0, 0], y[1, 0, 0]))
    image = natural_colours(image)[0] if c["dataset"] == "earth" else image[0]
    predictions = {name: by_metric.get_group(name).to_numpy().reshape(classes.shape) for name in ("class", "number")}
    return Picture(tile, image, {"class": classes, "number": numbers}, predictions)
