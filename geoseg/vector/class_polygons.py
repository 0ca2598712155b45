"""Polygons that each are of one class, as class codes on the pixels of a grid."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import rasterio.features
import shapely

from geoseg.errors import InputError
from geoseg.grid import Grid, Window, between_crs
from geoseg.legend import NODATA

__all__ = ["ClassPolygons"]

Codes: TypeAlias = npt.NDArray[np.uint8]


class ClassPolygons:
    """Polygons burnt onto a grid window by window: a pixel is of what covers its centre.

    Args:
        shapes: (N,), shapely polygons in the coordinates of `crs`.
        codes: (N,), the class code of each, 0 to 253.
        crs: as WKT; None when not known.
        grid: whose pixels are asked for.
        source: what to call the polygons' file.
        target: what to call the raster on that grid.

    Raises:
        InputError: if the grid has a CRS and the polygons have none.
    """

    def __init__(
        self,
        shapes: npt.NDArray[np.object_],
        codes: npt.NDArray[np.integer[Any]],
        crs: str | None,
        grid: Grid,
        source: str,
        target: str,
    ) -> None:
        if grid.crs is not None and crs is None:
            raise InputError(f"{source} has no CRS, {target} has; give the polygons one")
        placed = _in_pixels(shapes, crs, grid)
        near = _meeting(shapely.STRtree(placed), grid.window)  # of a whole country, few are
        self._shapes, self._codes = placed[near], codes[near]
        self._tree = shapely.STRtree(self._shapes)

    def reach(self, window: Window) -> bool:
        """Whether any polygon comes near a window."""
        return bool(len(_meeting(self._tree, window)))

    def read(self, window: Window) -> tuple[Codes, npt.NDArray[np.bool_]]:
        """Codes in a window, 255 where no polygon is, and where polygons of two classes are."""
        near = _meeting(self._tree, window)
        found = np.full(window.shape, NODATA, np.uint8)
        disputed = np.zeros(window.shape, np.bool_)
        for code in np.unique(self._codes[near]).tolist():
            covered = self._covered(near[self._codes[near] == code], window)
            disputed |= covered & (found != NODATA)
            found[covered] = code
        return found, disputed

    def _covered(self, which: npt.NDArray[np.intp], window: Window) -> npt.NDArray[np.bool_]:
        corner = (window.col, window.row)
        moved = shapely.transform(self._shapes[which], lambda xy: xy - corner)
        burnt = rasterio.features.rasterize(
            moved, out_shape=window.shape, fill=0, default_value=1, dtype="uint8"
        )
        return np.asarray(burnt, np.bool_)


def _meeting(tree: shapely.STRtree, window: Window) -> npt.NDArray[np.intp]:
    """Which of a tree's shapes come near a window."""
    box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
    return np.sort(tree.query(box))


def _in_pixels(
    shapes: npt.NDArray[np.object_], crs: str | None, grid: Grid
) -> npt.NDArray[np.object_]:
    between = None
    if grid.crs is not None and crs is not None:
        between = between_crs(crs, grid.crs.to_wkt())

    def to_pixels(xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = xy[:, 0], xy[:, 1]
        if between is not None:
            x, y = between.transform(x, y)
        return np.column_stack(grid.to_pixels(x, y))

    return np.asarray(shapely.transform(shapes, to_pixels), dtype=object)
