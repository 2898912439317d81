"""Images with a class and a number per pixel: the arrays that every scene data set gives, and Earth's tiles as such."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from companion.data.earth_scenes import COLUMNS, EarthMap

BLOCK = 128  # image pixels along the side of a block, 8.5 degrees
BLOCKS = 42  # around the globe
# Blocks by fold: a lattice that has each of seven kinds of blocks as often in every row, so that every fold sees all
# climates of all continents. The four blocks beside one that is held out train; no gap lies between, and no pixel is in
# two folds.
KINDS, DOWN, TEST, VALIDATION = 7, 3, 0, 2
MIDDLE, SPREAD = 0.5, 0.2  # about those of the square roots of Blue Marble's brightness, most of which is dark


@dataclass(frozen=True)
class SceneFold:
    """One fold of S splits (or data sets).

    Attributes:
        inputs: Images, `[S, N, planes, H, W]`: red, green, blue, and on Earth the latitude.
        targets: Class and number of every pixel, `[S, 2, N, H, W]`: a whole number, -1 where unknown, and a float, NaN
            where unknown.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]


def earth_folds(earth: EarthMap, seeds: Sequence[int], side: int) -> tuple[SceneFold, SceneFold, SceneFold]:
    """Cut the map into square tiles, one split per seed: training, validation and test fold.

    The seed turns the globe by a random angle before it is cut, so every seed has other tiles and other held-out
    places. Of each fold's tiles the half with most land is kept: open sea teaches nothing. Splits of different seeds
    overlap, as repeated splits do, which intervals over seeds have to allow for.

    Args:
        earth: The map, whose blocks are `BLOCK / pool` of its pixels wide.
        seeds: One integer per split.
        side: Of a tile, in pixels of the map; it divides the width of a block.

    Returns:
        Folds whose inputs are the square roots of red, green and blue, centred, and the latitude, which tells a dry
        steppe from a cold one of the same colour; all of about unit variance.
    """
    rows, columns = earth.classes.shape
    colours = (np.sqrt(earth.image) - MIDDLE) / SPREAD
    latitude = np.broadcast_to(np.linspace(1, -1, rows)[:, None] * np.sqrt(3), (rows, columns))
    layers = np.stack([*colours, latitude, earth.classes, earth.log_distance]).astype(np.float32)  # [6, H, W]
    width = columns * BLOCK // COLUMNS  # of a block
    kinds = (np.arange(BLOCKS)[:, None] + DOWN * (np.arange(rows // side) * side // width)) % KINDS  # [BLOCKS, tiles]
    held_out = (kinds == TEST) | (kinds == VALIDATION)
    folds: tuple[list[NDArray[np.float32]], ...] = ([], [], [])
    for seed in seeds:
        angle = int(np.random.default_rng(seed).integers(columns))
        turned = np.roll(layers, angle, axis=2)[:, :, : BLOCKS * width]  # a few columns are left over
        tiles = turned.reshape(6, rows // side, side, BLOCKS, width // side, side).transpose(3, 1, 4, 0, 2, 5)
        for fold, chosen in zip(folds, (~held_out, kinds == VALIDATION, kinds == TEST), strict=True):
            several = tiles[chosen].reshape(-1, 6, side, side)
            land = (several[:, 4] > 0).mean((1, 2))
            fold.append(several[np.sort(np.argsort(-land, kind="stable")[: len(several) // 2])])
    train, validation, test = (
        SceneFold(stacked[:, :, :4], np.moveaxis(stacked[:, :, 4:], 2, 1)) for stacked in map(np.stack, folds)
    )
    return train, validation, test


def natural_colours(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Red, green and blue in [0, 1] of Earth scenes `[..., 4, H, W]`, brightened by a square root."""
    return (inputs[..., :3, :, :] * SPREAD + MIDDLE).clip(0, 1)
