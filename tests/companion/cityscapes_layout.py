"""A tiny generated set in the layout of CityScapes as MTAN preprocessed it."""

from pathlib import Path

import numpy as np

SIZES = {"train": 6, "val": 3}
SHAPE = (16, 32)


def write_layout(folder: Path, sizes: dict[str, int] = SIZES, shape: tuple[int, int] = SHAPE) -> None:
    """Write scenes whose class and depth can be told from the image, with unknown pixels of both kinds."""
    rng = np.random.default_rng(0)
    for fold, size in sizes.items():
        for kind in ("image", "label_7", "depth"):
            (folder / fold / kind).mkdir(parents=True)
        for i in range(size):
            field = np.add.outer(np.linspace(0, 1, shape[0]), rng.random(shape[1]))  # [H, W] in [0, 2]
            image = np.stack([field / 2, 1 - field / 2, rng.random(shape)], axis=-1)
            label, depth = np.floor(field * 3.4), 0.05 + 0.2 * field
            label[:2], depth[:, :3] = -1, 0
            np.save(folder / fold / "image" / f"{i}.npy", image)
            np.save(folder / fold / "label_7" / f"{i}.npy", label.astype(np.float32))
            np.save(folder / fold / "depth" / f"{i}.npy", depth[..., None].astype(np.float32))
