"""Small patches go to their neighbours, in the raster and in the polygons alike."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from scipy import ndimage
from test_polygons import rasters, strips

from geoseg.grid import Grid
from geoseg.legend import NO_CLASS
from geoseg.vector.sieve import MinArea, plan_sieve


def sieve(codes: np.ndarray, pixels: float, rows: int | None = None) -> np.ndarray:
    grid = Grid(None, Affine.identity(), codes.shape)
    plan = plan_sieve(strips(codes, rows), grid, MinArea(pixels, in_pixels=True))
    return np.concatenate([strip.codes for strip in plan.apply(strips(codes, rows))])


def test_the_longest_shared_border_decides() -> None:
    codes = np.array([[1, 1, 1, 1], [1, 3, 3, 2], [2, 2, 2, 2], [2, 2, 2, 2]])
    expected = codes.copy()
    expected[1, 1:3] = 1  # three sides against three: of equals, the larger one
    one, two = (codes == 1).sum(), (codes == 2).sum()
    expected[1, 1:3] = 1 if one > two else 2
    np.testing.assert_array_equal(sieve(codes, 3), expected)
    codes[1, 3] = 1  # now four against two
    expected = codes.copy()
    expected[1, 1:3] = 1
    np.testing.assert_array_equal(sieve(codes, 3), expected)


def test_never_to_no_data() -> None:
    codes = np.full((5, 5), NO_CLASS)
    codes[2, 2] = 1
    np.testing.assert_array_equal(sieve(codes, 10), codes)
    codes[2, 3] = 2
    assert set(np.unique(sieve(codes, 10))) < {NO_CLASS, 1, 2}


def test_patches_that_meet_are_one_patch_then() -> None:
    codes = np.array([[1, 1, 2, 1, 1, 3, 3, 3, 3, 3, 3]])
    # the single 2 joins a 1; the five pixels of 1 are then large enough
    np.testing.assert_array_equal(sieve(codes, 5), [[1, 1, 1, 1, 1, 3, 3, 3, 3, 3, 3]])


@settings(max_examples=150, deadline=None)
@given(rasters())
def test_nothing_small_stays_that_has_a_neighbour(codes: np.ndarray) -> None:
    sieved = sieve(codes, 6, rows=3)
    np.testing.assert_array_equal(sieved, sieve(codes, 6))
    np.testing.assert_array_equal(sieved == NO_CLASS, codes == NO_CLASS)
    valid = sieved != NO_CLASS
    for code in np.unique(sieved[valid]):
        labels, count = ndimage.label(sieved == code)
        for label in range(1, count + 1):
            patch = labels == label
            around = ndimage.binary_dilation(patch) & ~patch & valid
            assert patch.sum() >= 6 or not around.any()


def test_square_metres_are_true_ones() -> None:
    from rasterio.crs import CRS

    codes = np.zeros((40, 40), np.int32)
    codes[5:7, 5:7] = 1
    grid = Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 15, 0, -1e-4, 60), codes.shape)
    area = 4 * float(grid.cell_area_m2()[5:7, 5:7].mean())
    for factor, left in ((0.999, {0, 1}), (1.001, {0})):
        plan = plan_sieve(strips(codes), grid, MinArea(area * factor, in_pixels=False))
        sieved = np.concatenate([strip.codes for strip in plan.apply(strips(codes))])
        assert set(np.unique(sieved)) == left


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_strips_leave_no_trace(rows: int) -> None:
    codes = np.random.default_rng(4).integers(0, 3, (30, 30))
    np.testing.assert_array_equal(sieve(codes, 8), sieve(codes, 8, rows))
