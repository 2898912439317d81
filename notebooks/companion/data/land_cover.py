"""MODIS land cover of 2019: one of the 17 classes of IGBP for every twentieth of a degree of the Earth."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from companion.data.files import bundled_file

FILE = "MCD12C1.A2019001.006.tif"
SHA256 = "a253c7643966d99580dacc890fedbe78417ca0dcb4c45845b41b838369c975ad"
LICENCE = "MODIS land cover MCD12C1 V006, NASA and USGS open data, credit NASA EOSDIS Land Processes DAAC"
IGBP = (
    "water", "evergreen needleleaf forest", "evergreen broadleaf forest", "deciduous needleleaf forest",
    "deciduous broadleaf forest", "mixed forest", "closed shrubland", "open shrubland", "woody savanna", "savanna",
    "grassland", "wetland", "cropland", "built-up", "cropland and natural vegetation", "snow and ice", "barren",
)  # fmt: skip


def modis_land_cover() -> NDArray[np.uint8]:
    """Read the class of every pixel, an index into `IGBP`: `[3600, 7200]`, row 0 in the north, column 0 at 180 W.

    Raises:
        FileNotFoundError: The file is absent.
        ValueError: The file is not the known one.
    """
    return np.array(Image.open(io.BytesIO(bundled_file(FILE, SHA256))))
