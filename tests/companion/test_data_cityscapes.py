"""CityScapes in MTAN's layout, on a generated set: what is read, what is refused, and the augmentation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapes_layout import SHAPE, SIZES, write_layout
from companion.data import cityscapes
from companion.data.cityscapes import load_cityscapes, scale_crop_flip
from companion.data.scenes import SceneFold
from numpy.typing import NDArray
from torch.nn.functional import interpolate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_layout(tmp_path)
    return tmp_path


def load(folder: Path) -> tuple[SceneFold, SceneFold]:
    return load_cityscapes(folder, sizes=SIZES, shape=SHAPE)


def test_reads_images_classes_and_depths(folder: Path) -> None:
    train, val = load(folder)
    assert train.inputs.shape == (1, SIZES["train"], 3, *SHAPE)
    assert val.targets.shape == (1, 2, SIZES["val"], *SHAPE)
    image, label, depth = (np.load(folder / "val" / kind / "1.npy") for kind in ("image", "label_7", "depth"))
    assert np.array_equal(val.inputs[0, 1], np.moveaxis(image, -1, 0).astype(np.float32))
    assert np.array_equal(val.targets[0, 0, 1], label)
    assert (label == -1).any()
    assert np.array_equal(np.isnan(val.targets[0, 1, 1]), depth[..., 0] == 0)
    assert (depth == 0).any()
    known = depth[..., 0] > 0
    assert np.array_equal(val.targets[0, 1, 1][known], depth[..., 0][known])


def test_the_official_set_has_its_published_size() -> None:
    assert cityscapes.SIZES == {"train": 2975, "val": 500}
    assert cityscapes.SHAPE == (128, 256)


def array(kind: str) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    if kind == "label_7":
        return rng.integers(-1, 7, SHAPE).astype(np.float32)
    return rng.random((*SHAPE, {"image": 3, "depth": 1}[kind])).astype(np.float32)


def nan_at_the_corner(kind: str) -> NDArray[np.float32]:
    values = array(kind)
    values[0, 0] = np.nan
    return values


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        ("image", array("image")[:-1], "numbers of shape 16 x 32 x 3. Found float32 of shape 15 x 32 x 3"),
        ("label_7", array("image"), "numbers of shape 16 x 32. Found float32 of shape 16 x 32 x 3"),
        ("depth", array("depth")[..., 0], "numbers of shape 16 x 32 x 1. Found float32 of shape 16 x 32"),
        ("image", array("image").astype("U3"), "numbers of shape 16 x 32 x 3. Found <U3"),
        ("label_7", array("label_7") + 7, "classes 0 to 6 or -1. Found"),
        ("label_7", array("label_7") + 0.5, "classes 0 to 6 or -1. Found"),
        ("depth", nan_at_the_corner("depth"), "finite numbers. Found 1 NaN or infinite"),
        ("image", nan_at_the_corner("image"), "finite numbers. Found 3 NaN or infinite"),
        ("depth", -array("depth"), "depths of at least 0. Found -"),
    ],
)
def test_bad_content_is_one_sentence_that_names_the_file(
    folder: Path, kind: str, values: NDArray[np.float32], says: str
) -> None:
    np.save(folder / "train" / kind / "2.npy", values)
    with pytest.raises(ValueError, match=rf"^File `train/{kind}/2.npy` should hold {says}.*Get the data again from"):
        load(folder)


@pytest.mark.parametrize("size", [0, 10, 100, 400])
def test_a_truncated_file_is_named(folder: Path, size: int) -> None:
    path = folder / "val" / "image" / "0.npy"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=rf"^File `val/image/0.npy` should be a complete array.*Found {size} bytes"):
        load(folder)


def test_a_pickle_is_never_opened(folder: Path) -> None:
    np.save(folder / "train" / "image" / "0.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"`train/image/0.npy` should be a complete array of numbers"):
        load(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "train" / "depth" / "3.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"File `train/depth/3.npy` should be there"):
        load(folder)


def test_where_the_official_data_are_looked_for(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("MTLCORE_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"MTLCORE_DATA. Found the variable unset.*lorenmt/mtan"):
        load_cityscapes()
    monkeypatch.setenv("MTLCORE_DATA", str(folder))
    with pytest.raises(FileNotFoundError, match="Found no `cityscapes` there"):
        load_cityscapes()
    (folder / "cityscapes").symlink_to(folder)
    with pytest.raises(ValueError, match=r"`train/image/0.npy` should hold numbers of shape 128 x 256 x 3"):
        load_cityscapes()


class TestAugmentation:
    SIZE = (24, 48)

    def batch(self, runs: int, scenes: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(runs, scenes, 3, *self.SIZE, generator=generator, dtype=torch.float64)
        classes = torch.randint(-1, 7, (runs, scenes, *self.SIZE), generator=generator).double()
        depth = torch.rand(runs, scenes, *self.SIZE, generator=generator, dtype=torch.float64) + 1
        depth[..., 0] = torch.nan
        return x, torch.stack([classes, depth])

    def by_hand(self, x: torch.Tensor, y: torch.Tensor, draw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One scene by slicing, torch's `interpolate` and `flip`, from the same four random numbers."""
        scale = (1.0, 1.2, 1.5)[int(draw[0] * 3)]
        height, width = self.SIZE
        high, wide = int(height / scale), int(width / scale)
        top, left = int(draw[1] * (height - high + 1)), int(draw[2] * (width - wide + 1))
        part = (..., slice(top, top + high), slice(left, left + wide))
        image = interpolate(x[part][None], self.SIZE, mode="bilinear", align_corners=True)[0]
        targets = interpolate(y[part][None], self.SIZE, mode="nearest")[0]
        targets[1] /= scale
        if draw[3] < 0.5:
            image, targets = image.flip(-1), targets.flip(-1)
        return image, targets

    def test_is_a_crop_enlarged_and_maybe_mirrored(self) -> None:
        x, y = self.batch(2, 12)
        seeds = [5, 6]
        image, targets = scale_crop_flip((x, y), [torch.Generator().manual_seed(seed) for seed in seeds])
        scales = set()
        for run, seed in enumerate(seeds):
            draws = torch.rand(12, 4, generator=torch.Generator().manual_seed(seed))
            for scene, draw in enumerate(draws):
                expected = self.by_hand(x[run, scene], y[:, run, scene], draw)
                torch.testing.assert_close(image[run, scene], expected[0], atol=1e-5, rtol=0)
                torch.testing.assert_close(targets[:, run, scene], expected[1], atol=1e-6, rtol=0, equal_nan=True)
                scales.add((int(draw[0] * 3), bool(draw[3] < 0.5)))
        assert len(scales) == 6  # every scale, mirrored and not

    def test_paired_runs_see_the_same(self) -> None:
        x, y = self.batch(1, 4)
        both = (x.expand(2, -1, -1, -1, -1), y.expand(-1, 2, -1, -1, -1))
        image, targets = scale_crop_flip(both, [torch.Generator().manual_seed(1) for _ in range(2)])
        assert torch.equal(image[0], image[1])
        assert torch.equal(targets[0, 0], targets[0, 1])

    def test_leaves_its_input_alone(self) -> None:
        x, y = self.batch(1, 4)
        before = x.clone(), y.clone()
        scale_crop_flip((x, y), [torch.Generator().manual_seed(1)])
        assert torch.equal(x, before[0])
        assert torch.equal(y.nan_to_num(-9), before[1].nan_to_num(-9))
