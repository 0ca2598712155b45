"""The ground that matters: polygons in a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from geoseg.errors import InputError

__all__ = ["AreaOfInterest", "read_area"]

ENDINGS = (".gpkg", ".shp", ".fgb", ".geojson", ".json")
LONGEST_EDGE_PARTS = 64
"""Edges are cut into so many parts before they are carried into another CRS, where they bend."""


@dataclass(frozen=True, slots=True)
class AreaOfInterest:
    """Polygons that scenes are looked at within."""

    shape: Any
    """A shapely Polygon or MultiPolygon, in `crs`."""
    crs: pyproj.CRS
    """What its coordinates mean."""

    @property
    def sha256(self) -> str:
        """Of what it is, whatever the file looks like."""
        shape = shapely.to_wkb(shapely.normalize(self.shape))
        return hashlib.sha256(shape + self.crs.to_wkt().encode()).hexdigest()

    def carried_into(self, crs: pyproj.CRS) -> Any:
        """The shape in another CRS."""
        if crs == self.crs:
            return self.shape
        west, south, east, north = shapely.bounds(self.shape)
        step = max(east - west, north - south) / LONGEST_EDGE_PARTS
        transformer = pyproj.Transformer.from_crs(self.crs, crs, always_xy=True)
        return shapely.transform(
            shapely.segmentize(self.shape, step),
            lambda x, y: np.asarray(transformer.transform(x, y)),
            interleaved=False,
        )


def read_area(path: Path) -> AreaOfInterest:
    """Read all polygons of the first layer of a vector file.

    Raises:
        InputError: if it cannot be read, holds no valid polygon, or has no CRS.
    """
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        raise InputError(f"{path} is no file with an area of interest ({', '.join(ENDINGS)})")
    try:
        frame = pyogrio.read_dataframe(path, columns=[])
    except (DataSourceError, DataLayerError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if frame.crs is None:
        raise InputError(f"{path} has no CRS, so nobody knows where the area lies")
    shapes = np.asarray(frame.geometry)
    polygonal = np.isin(shapely.get_type_id(shapes), (3, 6))
    shape = shapely.union_all(shapely.make_valid(shapes[polygonal]))
    if not polygonal.any() or shape.area == 0:
        raise InputError(f"{path} holds no polygon; draw the area of interest as polygons")
    return AreaOfInterest(shape, pyproj.CRS(frame.crs))
