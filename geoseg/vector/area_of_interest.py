"""The ground that matters: polygons in a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from geoseg.errors import InputError
from geoseg.vector.opening import check_format

__all__ = ["AreaOfInterest", "read_area"]

PIECES = 256
"""Lines are followed in pieces of this part of the whole from one CRS to another."""


@dataclass(frozen=True, slots=True, eq=False)
class AreaOfInterest:
    """Polygons that scenes are looked at within."""

    name: str
    """What to call it in messages."""
    shapes: npt.NDArray[np.object_]
    """(N,), shapely polygons and multipolygons."""
    crs: pyproj.CRS | None
    """What their coordinates mean; None when the file does not say it."""

    @property
    def sha256(self) -> str:
        """Of what it is, whatever the file looks like."""
        shapes = sorted(shapely.to_wkb(shapely.normalize(self.shapes)))
        return hashlib.sha256(b"".join((*shapes, self._crs_text.encode()))).hexdigest()

    @property
    def _crs_text(self) -> str:
        """The CRS by its code, where it has one: its text changes with PROJ's database."""
        if self.crs is None:
            return ""
        authority = self.crs.to_authority(min_confidence=100)
        return self.crs.to_wkt() if authority is None else ":".join(authority)

    def carried_into(self, crs: pyproj.CRS | None) -> npt.NDArray[np.object_]:
        """The shapes in another CRS; as they are, where that is None.

        Raises:
            InputError: if the area has no CRS.
        """
        if crs is None:
            return self.shapes
        if self.crs is None:
            raise InputError(f"{self.name} has no CRS, the scenes have; give the area one")
        if crs == self.crs:
            return self.shapes
        transformer = pyproj.Transformer.from_crs(self.crs, crs, always_xy=True)
        west, south, east, north = shapely.total_bounds(self.shapes)
        pieces = shapely.segmentize(self.shapes, max(east - west, north - south) / PIECES)
        return np.asarray(
            shapely.transform(
                pieces, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))
            ),
            dtype=object,
        )


def read_area(path: Path) -> AreaOfInterest:
    """Read the polygons of the first layer with geometries of a vector file.

    Raises:
        InputError: if it cannot be read, or holds no polygons, or something else beside them.
    """
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
    crs = None if frame.crs is None else pyproj.CRS.from_user_input(frame.crs)
    return AreaOfInterest(str(path), shapes, crs)
