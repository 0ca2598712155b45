"""From a class raster to polygons: its outlines, to the pixel."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.features
import shapely
from rasterio.errors import NotGeoreferencedWarning
from shapely.geometry.base import BaseGeometry

from geoseg.grid import Grid
from geoseg.legend import NODATA

__all__ = ["PolygonBatch", "trace"]

BATCH = 20_000
"""Polygons handed on together."""


@dataclass(frozen=True, slots=True)
class PolygonBatch:
    """Some polygons of a map."""

    codes: npt.NDArray[np.uint8]
    """(N,), class codes."""
    shapes: npt.NDArray[np.object_]
    """(N,), shapely polygons in map coordinates."""
    pixels: npt.NDArray[np.int64]
    """(N,), how many pixels each covers."""
    area_m2: npt.NDArray[np.float64] | None
    """(N,), true area on the ellipsoid; None when the map has no CRS."""


def trace(raster: Path) -> Iterator[PolygonBatch]:
    """Outline every patch of pixels of one class that hang together by their sides.

    Pixels without data belong to no polygon. The polygons cover the others once.

    Args:
        raster: a class raster; its first band is traced.
    """
    with _opened(raster) as dataset:
        grid = Grid(dataset.crs, dataset.transform, dataset.shape)
    codes: list[int] = []
    shapes: list[BaseGeometry] = []
    # GDAL traces a band in the band's own coordinates: in pixels, without a georeference
    with _opened(raster, GEOREF_SOURCES="NONE") as dataset:
        for outline, code in rasterio.features.shapes(rasterio.band(dataset, 1), connectivity=4):
            if int(code) != NODATA:
                codes.append(int(code))
                shell, *holes = outline["coordinates"]
                shapes.append(shapely.Polygon(shell, holes))
            if len(codes) == BATCH:
                yield _batch(grid, codes, shapes)
                codes, shapes = [], []
        if codes:
            yield _batch(grid, codes, shapes)


@contextmanager
def _opened(raster: Path, **options: str) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(raster, driver="GTiff", **options) as dataset:
            yield dataset


def _batch(grid: Grid, codes: list[int], shapes: list[BaseGeometry]) -> PolygonBatch:
    in_pixels = np.array(shapes, dtype=object)
    pixels = np.rint(shapely.area(in_pixels)).astype(np.int64)
    t = grid.transform
    on_map = shapely.transform(
        in_pixels,
        lambda xy: np.column_stack(
            (t.a * xy[:, 0] + t.b * xy[:, 1] + t.c, t.d * xy[:, 0] + t.e * xy[:, 1] + t.f)
        ),
    )
    return PolygonBatch(
        np.array(codes, np.uint8), on_map, pixels, _true_areas(grid, in_pixels, pixels)
    )


def _true_areas(
    grid: Grid, in_pixels: npt.NDArray[np.object_], pixels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64] | None:
    """Pixels times the cell area at the centroid: exact where cell area varies linearly.

    The error grows with the square of a polygon's extent: about 1e-5 over 100 km.
    """
    centroids = shapely.get_coordinates(shapely.centroid(in_pixels))
    cells = grid.cell_area_m2_at(centroids[:, 1], centroids[:, 0])
    return None if cells is None else pixels * cells
