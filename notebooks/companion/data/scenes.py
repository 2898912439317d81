"""Images with a class and a number per pixel: the arrays that every scene data set gives, and Earth's tiles as such."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from companion.data.earth_scenes import COLUMNS, EarthMap

BLOCKS = 42  # of longitude, each 128 image pixels or 8.5 degrees wide
# Blocks by fold. Held-out blocks lie apart, 7 blocks from one another, so that every fold sees all continents; there is
# no gap to the neighbouring training block, and no pixel is in two folds.
TEST, VALIDATION = range(0, BLOCKS, 7), range(3, BLOCKS, 7)
MIDDLE, SPREAD = 0.5, 0.2  # about those of the square roots of Blue Marble's brightness, most of which is dark


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


def earth_folds(earth: EarthMap, seeds: Sequence[int], side: int) -> tuple[SceneFold, SceneFold, SceneFold]:
    """Cut the map into square tiles, one split per seed: training, validation and test fold.

    The seed turns the globe by a random angle before it is cut, so every seed has other tiles and other held-out
    longitudes. Of each fold's tiles the half with most land is kept: open sea teaches nothing. Splits of different
    seeds overlap, as repeated splits do, which intervals over seeds have to allow for.

    Args:
        earth: The map, whose blocks are `128 / pool` of its pixels wide.
        seeds: One integer per split.
        side: Of a tile, in pixels of the map; it divides the width of a block.

    Returns:
        Folds whose inputs are the square roots of red, green and blue, centred.
    """
    rows, columns = earth.classes.shape
    colours = (np.sqrt(earth.image) - MIDDLE) / SPREAD
    layers = np.stack([*colours, earth.classes, earth.log_distance]).astype(np.float32)  # [5, H, W]
    width = columns * 128 // COLUMNS  # of a block
    training = [block for block in range(BLOCKS) if block not in (*TEST, *VALIDATION)]
    folds: tuple[list[NDArray[np.float32]], ...] = ([], [], [])
    for seed in seeds:
        angle = int(np.random.default_rng(seed).integers(columns))
        turned = np.roll(layers, angle, axis=2)[:, :, : BLOCKS * width]  # a few columns are left over
        tiles = turned.reshape(5, rows // side, side, BLOCKS, width // side, side).transpose(3, 1, 4, 0, 2, 5)
        for fold, blocks in zip(folds, (training, VALIDATION, TEST), strict=True):
            several = tiles[list(blocks)].reshape(-1, 5, side, side)
            land = (several[:, 3] > 0).mean((1, 2))
            fold.append(several[np.sort(np.argsort(-land, kind="stable")[: len(several) // 2])])
    train, validation, test = (
        SceneFold(stacked[:, :, :3], np.moveaxis(stacked[:, :, 3:], 2, 1)) for stacked in map(np.stack, folds)
    )
    return train, validation, test


def natural_colours(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Red, green and blue in [0, 1] of Earth scenes, brightened by a square root."""
    return (inputs * SPREAD + MIDDLE).clip(0, 1)
