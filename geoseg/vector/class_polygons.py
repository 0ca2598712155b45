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
        self._shapes = _in_pixels(shapes, crs, grid)
        self._codes = codes
        self._tree = shapely.STRtree(self._shapes)

    def reach(self, window: Window) -> bool:
        """Whether any polygon comes near a window."""
        return bool(len(self._near(window)))

    def read(self, window: Window) -> tuple[Codes, npt.NDArray[np.bool_]]:
        """Codes in a window, 255 where no polygon is, and where polygons of two classes are."""
        near = self._near(window)
        if not len(near):
            return np.full(window.shape, NODATA, np.uint8), np.zeros(window.shape, np.bool_)
        first, last = self._burn(near[::-1], window), self._burn(near, window)
        return last, first != last

    def _near(self, window: Window) -> npt.NDArray[np.intp]:
        box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
        return np.sort(self._tree.query(box))

    def _burn(self, order: npt.NDArray[np.intp], window: Window) -> Codes:
        """The polygons painted in this order, later ones over earlier ones."""
        corner = (window.col, window.row)
        moved = shapely.transform(self._shapes[order], lambda xy: xy - corner)
        burnt = rasterio.features.rasterize(
            list(zip(moved, self._codes[order].tolist(), strict=True)),
            out_shape=window.shape,
            fill=NODATA,
            dtype="uint8",
        )
        return np.asarray(burnt, np.uint8)


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
