"""Windows, grids, legends and band names."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest
from affine import Affine
from conftest import GRIDS, NORTH_UP, SIX, UTM
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

import geoseg
from geoseg.bands import match_bands, parse_bands, sensor_named
from geoseg.errors import BandError, GridError, LegendError
from geoseg.grid import Grid, Window
from geoseg.legend import Legend, LegendClass

small = st.integers(-20, 20)
size = st.integers(0, 20)
windows = st.builds(Window, small, small, size, size)


@given(windows, windows)
def test_windows_intersect_where_both_hold_a_pixel(a: Window, b: Window) -> None:
    def pixels(w: Window) -> set[tuple[int, int]]:
        return {(r, c) for r in range(w.row, w.row_stop) for c in range(w.col, w.col_stop)}

    shared = a.intersect(b)
    assert pixels(a) & pixels(b) == (set() if shared is None else pixels(shared))
    assert shared is None or (a.contains(shared) and b.contains(shared))


@given(windows, st.integers(0, 5))
def test_within_cuts_the_window_out_of_its_surroundings(window: Window, px: int) -> None:
    outer = window.pad(px)
    rows, cols = np.mgrid[outer.row : outer.row_stop, outer.col : outer.col_stop]
    place = window.within(outer)
    expected = np.mgrid[window.row : window.row_stop, window.col : window.col_stop]
    np.testing.assert_array_equal([rows[place], cols[place]], expected)


@given(windows, st.integers(1, 7))
def test_row_strips_join_to_the_window(window: Window, height: int) -> None:
    strips = list(window.row_strips(height))
    rows = [row for strip in strips for row in range(strip.row, strip.row_stop)]
    assert rows == list(range(window.row, window.row_stop))
    assert all(s.width == window.width and s.height <= height for s in strips)


def test_a_window_outside_is_refused() -> None:
    with pytest.raises(GridError, match="does not lie inside"):
        Window(0, 0, 5, 5).within(Window(1, 0, 5, 5))


@pytest.mark.parametrize("name", GRIDS)
def test_crop_and_align_are_inverse(name: str) -> None:
    grid = Grid(*GRIDS[name], (70, 90))
    window = Window(-3, 17, 20, 31)
    part = grid.crop(window)
    assert grid.align(part) == window
    np.testing.assert_allclose(
        part.transform @ (0, 0), grid.transform @ (window.col, window.row), rtol=0, atol=1e-6
    )
    assert grid.pad(5).align(grid) == Window(5, 5, 70, 90)
    shared = grid.intersect(part)
    assert shared is not None
    assert shared.shape == (17, 31)


def test_grids_of_other_lattices_are_refused() -> None:
    grid = Grid(UTM, NORTH_UP, (10, 10))
    for other in (
        Grid(UTM, NORTH_UP @ Affine.translation(0.3, 0), (10, 10)),
        Grid(UTM, NORTH_UP @ Affine.scale(1.01), (10, 10)),
        Grid(CRS.from_epsg(32634), NORTH_UP, (10, 10)),
    ):
        with pytest.raises(GridError):
            grid.align(other)


@pytest.mark.parametrize("name", GRIDS)
def test_cell_areas_sum_to_the_geodesic_area_of_the_outline(name: str) -> None:
    crs, transform = GRIDS[name]
    grid = Grid(crs, transform, (600, 500))
    areas = grid.cell_area_m2()
    assert areas is not None
    h, w = grid.shape
    n = 200  # points a side, so that the sides follow the grid and not geodesics
    side = np.linspace(0, 1, n, endpoint=False)
    cols = np.concatenate([side * w, np.full(n, w), w - side * w, np.zeros(n)])
    rows = np.concatenate([np.zeros(n), side * h, np.full(n, h), h - side * h])
    t = transform
    x, y = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    to_geodetic = pyproj.Transformer.from_crs(crs.to_wkt(), "EPSG:4326", always_xy=True)
    outline, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*to_geodetic.transform(x, y))
    assert areas.sum() == pytest.approx(abs(outline), rel=1e-6)


def test_cell_areas_of_a_degree_and_of_an_equal_area_map() -> None:
    degree = Grid(CRS.from_epsg(4326), Affine(0.001, 0, 0, 0, -0.001, 1), (1000, 1000))
    areas = degree.cell_area_m2()
    assert areas is not None
    # the zone between two parallels in closed form: Snyder 1987, Map Projections, eq. 3-12
    a, f = 6_378_137.0, 1 / 298.257223563
    e, s = math.sqrt(f * (2 - f)), math.sin(math.radians(1))
    q = (1 - e**2) * (s / (1 - (e * s) ** 2) + math.atanh(e * s) / e)
    assert areas.sum() == pytest.approx(math.radians(1) * a**2 * q / 2, rel=1e-7)
    equal_area = Grid(CRS.from_epsg(6933), Affine(100, 0, 1e6, 0, -100, 5e6), (30, 40))
    np.testing.assert_allclose(equal_area.cell_area_m2(), 10_000, rtol=1e-6)


def test_cell_areas_do_not_depend_on_the_window() -> None:
    grid = Grid(CRS.from_epsg(4326), Affine(0.05, 0, -20, 0, -0.05, 70), (900, 400))
    whole = grid.cell_area_m2()
    part = grid.cell_area_m2(Window(123, 45, 67, 89))
    assert whole is not None
    np.testing.assert_allclose(part, whole[123:190, 45:134], rtol=1e-9)


def test_areas_and_gsd_without_a_crs_are_unknown() -> None:
    grid = Grid(None, Affine.identity(), (5, 5))
    assert grid.cell_area_m2() is None
    assert grid.gsd_m is None


def test_gsd_and_rescale() -> None:
    grid = Grid(UTM, NORTH_UP, (100, 101))
    assert grid.gsd_m == pytest.approx(10 / 0.9996, rel=1e-5)  # on the central meridian
    coarse = grid.rescale(3)
    assert coarse.shape == (34, 34)
    assert coarse.transform @ (0, 0) == grid.transform @ (0, 0)
    assert coarse.gsd_m == pytest.approx(30 / 0.9996, rel=1e-5)


@pytest.mark.parametrize(
    ("transform", "shape"),
    [
        (NORTH_UP, (0, 5)),
        (Affine(0, 0, 0, 0, 0, 0), (5, 5)),
        (Affine(math.nan, 0, 0, 0, 1, 0), (5, 5)),
    ],
)
def test_impossible_grids_are_refused(transform: Affine, shape: tuple[int, int]) -> None:
    with pytest.raises(GridError):
        Grid(UTM, transform, shape)


def test_a_legend_refuses_twins_and_nonsense() -> None:
    water = LegendClass(1, "water", "#0000ff")
    assert Legend((water,)).by_code(1).rgb == (0, 0, 255)
    with pytest.raises(LegendError, match="code 1"):
        Legend((water, LegendClass(1, "sea", "#0000ff")))
    with pytest.raises(LegendError, match="water"):
        Legend((water, LegendClass(2, "water", "#0000ff")))
    for code, name, colour in ((254, "x", "#000000"), (1, " ", "#000000"), (1, "x", "blue")):
        with pytest.raises(LegendError):
            LegendClass(code, name, colour)


@pytest.mark.parametrize(
    ("descriptions", "expected"),
    [
        (("blue", "green", "red", "nir", "swir1", "swir2"), (1, 2, 3, 4, 5, 6)),
        (("B02", "B03", "B04", "B08", "B11", "B12"), (1, 2, 3, 4, 5, 6)),
        (("B12_20m", "B11_20m", "B08_10m", "B04_10m", "B03_10m", "B02_10m"), (6, 5, 4, 3, 2, 1)),
        (("Red", "Green", "Blue", "NIR", "SWIR-1", "SWIR 2"), (3, 2, 1, 4, 5, 6)),
        (("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"),
         (2, 3, 4, 8, 11, 12)),
    ],
)  # fmt: skip
def test_bands_are_found_by_their_names(
    descriptions: tuple[str, ...], expected: tuple[int, ...]
) -> None:
    match = match_bands(SIX, count=len(descriptions), descriptions=descriptions)
    assert match.indexes == expected
    assert match.assumed == ()


def test_names_of_two_sensors_are_refused_until_one_is_told() -> None:
    names = ("SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7")
    with pytest.raises(BandError, match="--sensor"):
        match_bands(SIX, count=6, descriptions=names)
    landsat = match_bands(SIX, count=6, descriptions=names, sensor=sensor_named("Landsat 8"))
    assert landsat.indexes == (1, 2, 3, 4, 5, 6)


def test_wavelengths_colours_and_told_sensors() -> None:
    seen = match_bands(SIX, count=6, wavelengths_um=(2.19, 1.61, 0.84, 0.66, 0.56, 0.49))
    assert seen.indexes == (6, 5, 4, 3, 2, 1)
    rgb = match_bands(("blue", "red"), count=3, colours=("red", "green", "blue"))
    assert rgb.indexes == (3, 1)
    naip = match_bands(("nir", "red"), count=4, sensor="naip")
    assert naip.indexes == (4, 1)
    assert "customary order" in naip.assumed[0]


def test_a_narrow_nir_stands_in_and_is_said() -> None:
    match = match_bands(("nir",), count=2, descriptions=("red", "nir08"))
    assert match.indexes == (2,)
    assert match.assumed == ("nir08 stands in for nir",)


def test_position_alone_is_never_enough() -> None:
    with pytest.raises(BandError, match=r"6 without names.*--bands blue=1,green=2") as error:
        match_bands(SIX, count=6, descriptions=(None,) * 6)
    assert error.value.exit_status == 2
    with pytest.raises(BandError, match="missing: swir16, swir22"):
        match_bands(SIX, count=4, descriptions=("red", "green", "blue", "nir"))


def test_told_bands() -> None:
    told = parse_bands(" red=3, green=2 ,swir1=4")
    assert told == {"red": 3, "green": 2, "swir16": 4}
    assert match_bands(("green", "red"), count=4, told=told).indexes == (2, 3)
    with pytest.raises(BandError, match="has 3 bands"):
        match_bands(("red",), count=3, told={"red": 4})
    for text in ("red", "red=", "red=0", "red=x", "rot=1", "red=1,red=2", ""):
        with pytest.raises(BandError, match="--bands"):
            parse_bands(text)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Sentinel-2", "sentinel2"),
        ("s2a", "sentinel2"),
        ("sentinel2-l2a", "sentinel2"),
        ("landsat8", "landsat-oli"),
        ("LC09", "landsat-oli"),
        ("Landsat 7", "landsat-tm"),
        ("ETM+", "landsat-tm"),
        ("landsat-tm", "landsat-tm"),
        ("NAIP", "naip"),
    ],
)
def test_sensors_by_the_names_people_use(said: str, meant: str) -> None:
    assert sensor_named(said) == meant


def test_an_unknown_sensor_is_refused() -> None:
    with pytest.raises(BandError, match="known are sentinel2"):
        sensor_named("landsat")


def test_exported_names_are_real_and_complete() -> None:
    for name in geoseg.__all__:
        assert getattr(geoseg, name) is not None
    assert sorted(geoseg.__all__) == list(geoseg.__all__)
    assert set(geoseg._HOME_OF) == set(geoseg.__all__)
    assert callable(geoseg.predict), "the module of a verb must not hide it"
    with pytest.raises(AttributeError):
        geoseg.nothing_of_that_name  # noqa: B018
