"""Labels are brought onto the scene's own pixels, and say nothing where they know nothing."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from geoseg.errors import InputError, LegendError, SceneError
from geoseg.grid import Grid, Window
from geoseg.labels import open_labels, pair_up
from geoseg.legend import NODATA, Legend, LegendClass

LEGEND = Legend((LegendClass(1, "water", "#0000ff"), LegendClass(2, "road", "#999999")))
GRID = Grid(CRS.from_epsg(32633), Affine(10, 0, 500_000, 0, -10, 5_000_000), (40, 50))


def write(path: Path, codes: np.ndarray, grid: Grid, nodata: int | None = 0) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", count=1, dtype="uint8", height=grid.height, width=grid.width,
        crs=grid.crs, transform=grid.transform, nodata=nodata,
    ) as file:  # fmt: skip
        file.write(codes.astype(np.uint8), 1)
    return path


def test_a_raster_on_the_scenes_lattice_is_read_as_it_is(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 3, (30, 30))
    labels = write(tmp_path / "l.tif", codes, GRID.crop(Window(5, -10, 30, 30)))
    with open_labels(labels, GRID, LEGEND) as opened:
        found = opened.read(Window(-2, -3, 44, 56))
        assert opened.assumed == ()
    expected = np.full((44, 56), NODATA)
    expected[7:37, 3:23] = np.where(codes == 0, NODATA, codes)[:, 10:]
    np.testing.assert_array_equal(found, expected)


def test_a_raster_on_another_grid_gives_the_nearest_pixel_and_says_so(tmp_path: Path) -> None:
    other = Grid(CRS.from_epsg(4326), Affine(2e-4, 0, 15.002, 0, -2e-4, 45.152), (60, 80))
    codes = np.random.default_rng(1).integers(1, 3, other.shape)
    labels = write(tmp_path / "l.tif", codes, other)
    with open_labels(labels, GRID, LEGEND) as opened:
        found = opened.read(GRID.window)
        assert "nearest taken" in opened.assumed[0]
    degrees = pyproj.Transformer.from_crs(32633, 4326, always_xy=True)
    labelled = 0
    for row in range(GRID.height):
        for col in range(GRID.width):
            x, y = degrees.transform(*(GRID.transform @ (col + 0.5, row + 0.5)))
            c, r = ~other.transform @ (x, y)
            inside = 0 <= r < 60 and 0 <= c < 80
            assert found[row, col] == (codes[int(r), int(c)] if inside else NODATA)
            labelled += inside
    assert 100 < labelled < GRID.height * GRID.width  # both cases are there


def test_polygons_cover_pixel_centres_and_disputed_ground_is_unlabelled(tmp_path: Path) -> None:
    water = shapely.box(500_000, 4_999_800, 500_200, 5_000_000)
    road = shapely.box(500_150, 4_999_900, 500_400, 5_000_000)
    bow_tie = shapely.Polygon(
        [(500_300, 4_999_600), (500_400, 4_999_700), (500_400, 4_999_600), (500_300, 4_999_700)]
    )
    labels = tmp_path / "labels.gpkg"
    geopandas.GeoDataFrame(
        {"class": ["Water", "2", "road", None]},
        geometry=[water, road, bow_tie, shapely.box(500_000, 4_999_600, 500_100, 4_999_700)],
        crs=32633,
    ).to_crs(4326).to_file(labels)
    with open_labels(labels, GRID, LEGEND) as opened:
        found = opened.read(GRID.window)
        assert any("repaired" in told for told in opened.assumed)
    assert (found[:20, :15] == 1).all()
    assert (found[:10, 15:20] == NODATA).all()
    assert (found[10:20, 15:20] == 1).all()
    assert (found[:10, 20:40] == 2).all()
    assert (found[30:, :10] == NODATA).all()
    assert 40 < (found[30:40, 30:40] == 2).sum() < 60  # both lobes of the bow tie


def test_ground_is_disputed_whatever_the_order_of_the_polygons(tmp_path: Path) -> None:
    """Forest, cleared, forest again: sorted by year, the first and the last agree."""
    square = shapely.box(500_000, 4_999_800, 500_200, 5_000_000)
    labels = tmp_path / "labels.gpkg"
    geopandas.GeoDataFrame(
        {"class": ["water", "road", "water"]}, geometry=[square] * 3, crs=32633
    ).to_file(labels)
    with open_labels(labels, GRID, LEGEND) as opened:
        assert (opened.read(GRID.window) == NODATA).all()


def test_of_many_polygons_those_near_the_scene_are_kept(tmp_path: Path) -> None:
    far = [shapely.box(x, 5_100_000, x + 10, 5_100_010) for x in range(600_000, 600_500, 10)]
    near = shapely.box(500_000, 4_999_800, 500_200, 5_000_000)
    labels = tmp_path / "labels.gpkg"
    codes = ["water"] * 25 + ["road"] + ["water"] * 25
    shapes = [*far[:25], near, *far[25:]]
    geopandas.GeoDataFrame({"class": codes}, geometry=shapes, crs=32633).to_file(labels)
    with open_labels(labels, GRID, LEGEND) as opened:
        assert (opened.read(GRID.window)[:20, :20] == 2).all()
        assert len(opened._polygons._shapes) == 1  # type: ignore[attr-defined]


def test_a_code_that_nobody_declared_is_refused_unless_it_is_unlabelled(tmp_path: Path) -> None:
    labels = write(tmp_path / "l.tif", np.full(GRID.shape, 7), GRID)
    with open_labels(labels, GRID, LEGEND) as opened, pytest.raises(LegendError, match="code 7"):
        opened.read(GRID.window)
    with open_labels(labels, GRID, LEGEND, unlabelled=[7]) as opened:
        assert (opened.read(GRID.window) == NODATA).all()


@pytest.mark.parametrize("kind", ["raster", "polygons"])
def test_labels_elsewhere_are_refused(tmp_path: Path, kind: str) -> None:
    if kind == "raster":
        labels = write(tmp_path / "l.tif", np.ones((9, 9)), GRID.crop(Window(400, 0, 9, 9)))
    else:
        labels = tmp_path / "l.geojson"
        geopandas.GeoDataFrame(
            {"class": ["water"]}, geometry=[shapely.box(1, 1, 2, 2)], crs=4326
        ).to_file(labels)
    with (
        pytest.raises(SceneError, match=r"do not overlap scene\.tif"),
        open_labels(labels, GRID, LEGEND, scene="scene.tif"),
    ):
        pass


def test_scenes_and_labels_are_paired_by_name() -> None:
    a, b, c = Path("s/a.tif"), Path("s/b.tif"), Path("l/a.tif")
    assert [pair.labels for pair in pair_up([b, a], [c, Path("l/b.png")])] == [Path("l/b.png"), c]
    assert {pair.labels for pair in pair_up([a, b], [Path("all.gpkg")])} == {Path("all.gpkg")}
    assert pair_up([a], [Path("l/other.tif")])[0].labels == Path("l/other.tif")
    for scenes, labels, said in (
        ([a, b], [c], "1 of 2 scenes have no labels"),
        ([a], [c, Path("l/b.tif")], "have no scene"),
        ([a], [c, Path("m/a.tif")], "one name"),
        ([], [c], "no scenes"),
    ):
        with pytest.raises(InputError, match=said):
            pair_up(scenes, labels)
