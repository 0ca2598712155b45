"""Pixels and areas of classes, counted run by run, against a count pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from conftest import UTM
from rasterio.crs import CRS

from geoseg.accuracy import area
from geoseg.accuracy.area import AreaCount
from geoseg.grid import Grid
from geoseg.legend import NODATA

DEGREES = CRS.from_epsg(4326)
SHAPE = 70, 1300


@pytest.mark.parametrize("speckle", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (UTM, Affine(30, 0, 5e5, 0, -30, 5e6)),
        (UTM, Affine(300, 200, 3e5, 200, -300, 6e6)),
        (DEGREES, Affine(0.01, 0, 3, 0, -0.01, 71)),
    ],
)
def test_a_class_has_the_area_of_its_pixels(
    crs: CRS, transform: Affine, speckle: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(area, "COUNTED_AT_ONCE", 10 * SHAPE[1])  # strips of 23 rows do not fit
    rng = np.random.default_rng(5)
    classes = np.broadcast_to(np.arange(SHAPE[1]) // 300, SHAPE).astype(np.uint8)
    noise = rng.random(SHAPE) < speckle
    classes[noise] = rng.choice([0, 3, 9, NODATA], np.count_nonzero(noise))
    grid = Grid(crs, transform, SHAPE)
    count = AreaCount(grid)
    for strip in grid.window.row_strips(23):
        count.add(strip, classes[strip.row : strip.row_stop])
    square_metres = grid.cell_area_m2()
    hectares = count.hectares_by_code
    assert square_metres is not None
    assert hectares is not None
    for code in range(NODATA + 1):
        here = classes == code
        assert count.pixels_by_code[code] == here.sum()
        assert hectares[code] == pytest.approx(square_metres[here].sum() / 1e4, rel=1e-9)


def test_pixels_off_the_earth_have_no_area() -> None:
    seen_from_afar = CRS.from_string("+proj=ortho +lat_0=50 +lon_0=10 +datum=WGS84")
    grid = Grid(seen_from_afar, Affine(3e5, 0, -9e6, 0, -3e5, 9e6), (60, 60))
    classes = np.ones(grid.shape, np.uint8)
    count = AreaCount(grid)
    count.add(grid.window, classes)
    known = np.isfinite(cells := grid.cell_area_m2())
    assert 0 < count.off_the_earth == np.count_nonzero(~known)
    assert count.hectares_by_code[1] == pytest.approx(cells[known].sum() / 1e4)


def test_without_a_crs_pixels_are_counted() -> None:
    grid = Grid(None, Affine.identity(), (5, 1))
    count = AreaCount(grid)
    count.add(grid.window, np.array([[1], [1], [2], [NODATA], [2]], np.uint8))
    assert count.hectares_by_code is None
    assert (count.pixels_by_code[[1, 2, NODATA]] == [2, 2, 1]).all()
    assert count.valid_share == pytest.approx(0.8)
