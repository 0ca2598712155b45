"""An area of interest: polygons that say which pixels of a grid are meant."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio.features
import shapely

from geoseg.errors import InputError
from geoseg.grid import Grid, Window
from geoseg.vector.area_of_interest import AreaOfInterest, read_area

__all__ = ["Area"]


class Area:
    """The pixels of a grid whose centres lie in polygons.

    Args:
        path: a vector file; all polygons of its first layer with geometries count.
        grid: where the pixels lie.

    Raises:
        InputError: if the file cannot be read, has no CRS where the grid has one, or its polygons
            do not meet the grid.
    """

    def __init__(self, path: str | Path, grid: Grid) -> None:
        self._shapes = _on_grid(read_area(Path(path)), grid)
        self._tree = shapely.STRtree(self._shapes)
        left, top, right, bottom = shapely.total_bounds(self._shapes)
        found = None
        if all(map(math.isfinite, (left, top, right, bottom))):
            found = Window.from_stops(
                math.floor(top), math.floor(left), math.ceil(bottom), math.ceil(right)
            ).intersect(grid.window)
        if found is None:
            raise InputError(f"the area in {path} does not meet the scenes")
        self.window = found
        """The smallest one that holds all of it on the grid."""

    def inside(self, window: Window) -> npt.NDArray[np.bool_]:
        """Which pixels (H, W) of a window lie in the area."""
        box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
        near = self._tree.query(box)
        if not len(near):
            return np.zeros(window.shape, np.bool_)
        moved = shapely.transform(self._shapes[near], lambda xy: xy - (window.col, window.row))
        burnt = rasterio.features.rasterize(
            [(shape, 1) for shape in moved], out_shape=window.shape, fill=0, dtype="uint8"
        )
        return np.asarray(burnt, np.bool_)


def _on_grid(area: AreaOfInterest, grid: Grid) -> npt.NDArray[np.object_]:
    """The polygons of an area, in (column, row) of a grid."""
    shapes = area.carried_into(None if grid.crs is None else pyproj.CRS.from_wkt(grid.crs.to_wkt()))

    def to_pixels(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.column_stack(grid.to_pixels(xy[:, 0], xy[:, 1]))

    return np.asarray(shapely.transform(shapes, to_pixels), dtype=object)
