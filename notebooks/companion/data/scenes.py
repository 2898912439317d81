"""Images with a class and a number per pixel: the arrays that every scene data set gives, and Earth's tiles as such."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from companion.data.earth_scenes import EarthMap

TILE_ROWS, TILE_COLUMNS = 16, 21  # the map is cut into so many tiles
# Columns of tiles by fold, each 17 degrees wide. Held-out columns lie apart, 7 columns from one another, so that every
# fold sees several continents; there is no gap to the neighbouring training column, and no pixel is in two folds.
TEST, VALIDATION = (0, 7, 14), (3, 10, 17)
SECOND = ("distance", "altitude")


@dataclass(frozen=True)
class SceneFold:
    """One fold of S splits (or data sets).

    Attributes:
        inputs: Images, `[S, N, 3, H, W]`.
        targets: Class and number of every pixel, `[S, 2, N, H, W]`: a whole number, -1 where unknown, and a float, NaN
            where unknown.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]


def earth_folds(
    earth: EarthMap, seeds: Sequence[int], second: str = "distance"
) -> tuple[SceneFold, SceneFold, SceneFold]:
    """Cut the map into tiles, one split per seed: training, validation and test fold with 120, 24 and 24 tiles.

    The seed turns the globe by a random angle before it is cut, so every seed has other tiles and other held-out
    longitudes. Of each fold's tiles the half with most land is kept: open sea teaches nothing. Splits of different
    seeds overlap, as repeated splits do, which intervals over seeds have to allow for.

    Args:
        earth: The map; a tile is 128 x 256 image pixels, so `H = 128 / pool` and `W = 256 / pool`.
        seeds: One integer per split.
        second: The second task: "distance" (log distance to water) or "altitude" (km, unknown at sea).

    Raises:
        ValueError: There is no such second task.
    """
    if second not in SECOND:
        raise ValueError(
            f"Parameter `second` should be one of {', '.join(map(repr, SECOND))}. Found `second = {second!r}`. "
            "Pass one of them."
        )
    number = earth.log_distance if second == "distance" else earth.altitude
    layers = np.concatenate([earth.image, earth.classes[None].astype(np.float32), number[None]])  # [5, H, W]
    height, width = layers.shape[1] // TILE_ROWS, layers.shape[2] // TILE_COLUMNS
    training = [column for column in range(TILE_COLUMNS) if column not in TEST + VALIDATION]
    folds: tuple[list[NDArray[np.float32]], ...] = ([], [], [])
    for seed in seeds:
        angle = int(np.random.default_rng(seed).integers(layers.shape[2]))
        turned = np.roll(layers, angle, axis=2)[:, :, : TILE_COLUMNS * width]  # a few columns are left over
        tiles = turned.reshape(5, TILE_ROWS, height, TILE_COLUMNS, width).transpose(3, 1, 0, 2, 4)
        for fold, columns in zip(folds, (training, VALIDATION, TEST), strict=True):
            several = tiles[list(columns)].reshape(-1, 5, height, width)
            land = (several[:, 3] > 1).mean((1, 2))
            fold.append(several[np.sort(np.argsort(-land, kind="stable")[: len(several) // 2])])
    train, validation, test = (
        SceneFold(stacked[:, :, :3], np.moveaxis(stacked[:, :, 3:], 2, 1)) for stacked in map(np.stack, folds)
    )
    return train, validation, test
