"""Areas of interest, and how much of one a scene shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from conftest import GRIDS
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import InputError, SceneError
from geoseg.grid import Grid
from geoseg.limits import MAX_PIXELS
from geoseg.raster.validity import invalid_share
from geoseg.vector.area_of_interest import AreaOfInterest, read_area

ROWS, COLS = 300, 40


def box_area(*bounds: float) -> AreaOfInterest:
    return AreaOfInterest("a box", np.array([shapely.box(*bounds)]), pyproj.CRS(4326))


@pytest.mark.parametrize("lattice", GRIDS)
def test_the_share_is_that_of_pixels_counted_one_by_one(
    write_scene: Callable[..., Path], lattice: str
) -> None:
    crs, transform = GRIDS[lattice]
    grid = Grid(crs, transform, (ROWS, COLS))
    dice = np.random.default_rng(1)
    pixels = dice.integers(0, 4, (3, ROWS, COLS)).astype(np.uint8)
    path = write_scene(pixels, crs=crs, transform=transform, nodata=0)
    # a blob over the lower edge, in pixels: a third of it lies beyond the scene
    blob = shapely.Point(20.3, 290.7).buffer(25.2)
    shape = shapely.transform(blob, lambda x, y: np.stack(grid.to_map(x, y)), interleaved=False)
    area = AreaOfInterest("a", np.array([shape]), pyproj.CRS(crs))
    rows, cols = np.mgrid[200:400, -50:120]
    inside = shapely.contains_xy(blob, cols + 0.5, rows + 0.5)
    seen = (rows >= 0) & (rows < ROWS) & (cols >= 0) & (cols < COLS)
    valid = (pixels != 0).all(axis=0)
    shown = seen & valid[rows.clip(0, ROWS - 1), cols.clip(0, COLS - 1)]
    expected = 1 - (inside & shown).sum() / inside.sum()
    assert invalid_share(path, area.carried_into) == pytest.approx(expected, abs=1e-12)
    assert invalid_share(path) == pytest.approx(1 - valid.mean(), abs=1e-12)
    assert invalid_share(path, nodata=3) == pytest.approx((pixels == 3).any(axis=0).mean())


def test_masks_and_alpha_count(write_scene: Callable[..., Path]) -> None:
    pixels = np.full((4, 10, 10), 7, np.uint8)
    pixels[3, :4] = 0
    path = write_scene(pixels, photometric="RGB", alpha="YES")
    assert invalid_share(path) == pytest.approx(0.4)


def test_what_nobody_could_compare(write_scene: Callable[..., Path]) -> None:
    pixels = np.ones((1, 10, 10), np.uint8)
    with pytest.raises(SceneError, match="has no CRS"):
        invalid_share(write_scene(pixels, crs=None))
    far = box_area(0, 0, 1e-9, 1e-9)
    with pytest.raises(SceneError, match="covers no pixel"):
        invalid_share(write_scene(pixels), far.carried_into)
    whole = box_area(14, 44, 16, 46)
    with pytest.raises(SceneError, match="far larger"):
        invalid_share(write_scene(pixels), whole.carried_into, max_pixels=1_000_000)
    assert MAX_PIXELS > 1_000_000
    torn = write_scene(np.random.default_rng(0).integers(0, 255, (1, 500, 500)).astype(np.uint8))
    torn.write_bytes(torn.read_bytes()[:100_000])
    with pytest.raises(SceneError, match="cut short"):
        invalid_share(torn)


@pytest.mark.parametrize("ending", [".gpkg", ".geojson", ".shp", ".fgb"])
def test_areas_of_every_format_are_the_same(tmp_path: Path, ending: str) -> None:
    boxes = [shapely.box(15, 45, 15.01, 45.01), shapely.box(15.005, 45, 15.02, 45.01)]
    frame = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=boxes, crs=4326)
    frame.to_file(tmp_path / f"area{ending}")
    area = read_area(tmp_path / f"area{ending}")
    assert shapely.union_all(area.shapes).equals(shapely.box(15, 45, 15.02, 45.01))
    assert area.crs is not None
    assert area.crs.to_epsg() == 4326


@settings(max_examples=20)
@given(st.floats(10, 20), st.floats(40, 50), st.floats(0.001, 1))
def test_areas_are_carried_as_proj_carries_points(west: float, south: float, side: float) -> None:
    area = box_area(west, south, west + side, south + side)
    (carried,) = area.carried_into(pyproj.CRS(32633))
    inverse = pyproj.Transformer.from_crs(32633, 4326, always_xy=True)
    x, y = np.asarray(carried.exterior.coords).T
    back = np.stack(inverse.transform(x, y), axis=-1)
    distances = shapely.distance(shapely.points(back), area.shapes[0].exterior)
    assert distances.max() < 1e-9


def test_areas_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_area(tmp_path / "none.gpkg")
    (tmp_path / "text.geojson").write_text("words")
    with pytest.raises(InputError, match="not one of the formats"):
        read_area(tmp_path / "text.geojson")
    points = geopandas.GeoDataFrame(geometry=[shapely.Point(1, 2)], crs=4326)
    points.to_file(tmp_path / "points.gpkg")
    with pytest.raises(InputError, match="should hold polygons"):
        read_area(tmp_path / "points.gpkg")
    nowhere = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    nowhere.to_file(tmp_path / "nowhere.shp")
    (tmp_path / "nowhere.prj").unlink()
    with pytest.raises(InputError, match="has no CRS"):
        read_area(tmp_path / "nowhere.shp").carried_into(pyproj.CRS(4326))
