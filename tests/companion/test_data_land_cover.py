"""MODIS land cover: the bundled file, read the right way up."""

import numpy as np
import pytest
from companion.data import land_cover
from companion.data.land_cover import IGBP, modis_land_cover
from numpy.typing import NDArray


@pytest.fixture(scope="module")
def classes() -> NDArray[np.uint8]:
    return modis_land_cover()


def test_shape_and_shares(classes: NDArray[np.uint8]) -> None:
    assert classes.shape == (3600, 7200)
    assert classes.dtype == np.uint8
    shares = np.bincount(classes.ravel()) / classes.size
    assert len(shares) == len(IGBP) == 17
    assert shares[[0, 2, 12, 15, 16]] == pytest.approx([0.677, 0.016, 0.020, 0.101, 0.031], abs=0.001)


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        (-3, -65, "evergreen broadleaf forest"),  # the Amazon
        (23, 10, "barren"),  # the Sahara
        (72, -40, "snow and ice"),  # Greenland
        (42, -94, "cropland"),  # Iowa
        (0, -30, "water"),  # the Atlantic
        (44, -87, "water"),  # Lake Michigan
    ],
)
def test_places_have_their_class(classes: NDArray[np.uint8], latitude: float, longitude: float, expected: str) -> None:
    assert IGBP[classes[int((90 - latitude) * 20), int((longitude + 180) * 20)]] == expected


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(land_cover, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match=r"`MCD12C1.* should have sha256 0{64}. Found a253c7.*git checkout notebooks/"):
        modis_land_cover()
