"""How much of an area of interest a scene does not show."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from rasterio.features import geometry_mask

from geoseg.errors import SceneError
from geoseg.grid import Grid, Window
from geoseg.limits import MAX_PIXELS
from geoseg.raster.scene import SourceScene
from geoseg.raster.source import RasterSource

__all__ = ["invalid_share"]

STRIP_ROWS = 256


def invalid_share(
    path: Path,
    area: Callable[[pyproj.CRS], Any] | None = None,
    *,
    nodata: float | None = None,
    max_pixels: int = MAX_PIXELS,
) -> float:
    """The share of an area whose pixels have no data in a scene, in at least one of its bands.

    Where the area reaches beyond the scene, the scene has no data. Every pixel of the area is
    read, so a file that is cut short is found out.

    Args:
        path: the scene.
        area: gives the polygons of the area in a CRS, an array of shapely's; by default, the
            area is all of the scene.
        nodata: the stored value that stands for no data, where the file does not say it.
        max_pixels: larger scenes, or areas that would be larger on their lattice, are refused.

    Returns:
        0 to 1.

    Raises:
        SceneError: if the scene cannot be read, has no CRS, or the area covers no pixel of its
            lattice.
    """
    with closing(RasterSource(path, max_pixels=max_pixels)) as source:
        scene = _all_bands(source, nodata)
        if scene.grid.crs is None:
            raise SceneError(f"{scene.name} has no CRS, so nobody knows where it lies")
        shapes = None if area is None else area(pyproj.CRS.from_wkt(scene.grid.crs.to_wkt()))
        window = scene.grid.window if shapes is None else _window(scene.grid, shapes)
        if window.height * window.width > max_pixels:
            raise SceneError(f"the area is far larger than the scene {scene.name}")
        pixels = invalid = 0
        for strip in window.row_strips(STRIP_ROWS):
            inside = _inside(scene.grid, shapes, strip)
            pixels += int(inside.sum())
            invalid += int((inside & ~scene.read(strip).valid).sum())
    if not pixels:
        raise SceneError(f"the area covers no pixel of the scene {path.name}")
    return invalid / pixels


def _all_bands(source: RasterSource, nodata: float | None) -> SourceScene:
    header = source.header
    alpha = header.alpha(())
    numbers = [n for n in range(1, header.count + 1) if n != alpha]
    told = [header.nodata[n - 1] if nodata is None else nodata for n in numbers]
    plain = np.ones(len(numbers), np.float32), np.zeros(len(numbers), np.float32)
    return SourceScene(source, [str(n) for n in numbers], numbers, plain, told, alpha)


def _window(grid: Grid, shapes: Any) -> Window:
    """The pixels around shapes, which may lie beyond the grid."""
    west, south, east, north = shapely.total_bounds(shapes)
    if not all(map(math.isfinite, (west, south, east, north))):
        raise SceneError("the area of interest lies where the scene's CRS does not reach")
    x, y = np.array([west, east, east, west]), np.array([north, north, south, south])
    cols, rows = grid.to_pixels(x, y)
    first, last = (rows.min(), cols.min()), (rows.max(), cols.max())
    return Window.from_stops(*map(math.floor, first), *map(math.ceil, last))


def _inside(grid: Grid, shapes: Any, strip: Window) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if shapes is None:
        return np.ones(strip.shape, np.bool_)
    transform = grid.crop(strip).transform
    return np.asarray(geometry_mask(shapes, strip.shape, transform, invert=True))
