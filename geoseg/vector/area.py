"""An area of interest: polygons that say which pixels of a grid are meant."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import rasterio.features
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from geoseg.errors import InputError
from geoseg.grid import Grid, Window
from geoseg.vector.opening import check_format

__all__ = ["Area"]

PIECES = 256
"""Lines are followed in pieces of this part of the whole from one CRS to another."""


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
        self._shapes = _on_grid(Path(path), grid)
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


def _on_grid(path: Path, grid: Grid) -> npt.NDArray[np.object_]:
    """The polygons of a file, in (column, row) of a grid."""
    check_format(path, "areas")
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if not layers:
            raise InputError(f"{path} holds no layer with geometries; give polygons")
        frame = pyogrio.read_dataframe(path, layer=layers[0], columns=[])
    except (DataSourceError, DataLayerError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    shapes = np.asarray(frame.geometry.array, dtype=object)
    shapes = shapes[~(shapely.is_missing(shapes) | shapely.is_empty(shapes))]
    if not len(shapes) or (shapely.get_dimensions(shapes) != 2).any():
        raise InputError(f"{path} should hold polygons, and nothing else")
    if grid.crs is not None and frame.crs is None:
        raise InputError(f"{path} has no CRS, the scenes have; give the area one")
    between = None
    if grid.crs is not None and frame.crs is not None:
        own, goal = pyproj.CRS.from_user_input(frame.crs), pyproj.CRS.from_wkt(grid.crs.to_wkt())
        if own != goal:
            between = pyproj.Transformer.from_crs(own, goal, always_xy=True)
            left, bottom, right, top = shapely.total_bounds(shapes)
            shapes = shapely.segmentize(shapes, max(right - left, top - bottom) / PIECES)

    def to_pixels(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = xy[:, 0], xy[:, 1]
        if between is not None:
            x, y = between.transform(x, y)
        return np.column_stack(grid.to_pixels(x, y))

    return np.asarray(shapely.transform(shapes, to_pixels), dtype=object)
