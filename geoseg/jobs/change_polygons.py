"""The polygons of a result, carried to longitudes and latitudes for the ledger."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely

from geoseg.jobs.records import ChangeRow, Run

__all__ = ["ChangePolygons"]

BATCH = 10_000
WGS84 = pyproj.CRS(4326)


@dataclass(frozen=True, slots=True)
class ChangePolygons:
    """The polygons that `change` wrote; none when it wrote no file of them."""

    path: Path | None

    @classmethod
    def among(cls, files: Mapping[str, Path]) -> ChangePolygons:
        """Find them among the results."""
        found = (path for path in files.values() if path.name.endswith("_polygons.gpkg"))
        return cls(next(found, None))

    @property
    def count(self) -> int:
        """How many there are."""
        if self.path is None:
            return 0
        return int(pyogrio.read_info(self.path, layer=0, force_feature_count=True)["features"])

    @property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east and north of all, degrees; None when there are none."""
        if not self.count:
            return None
        info = pyogrio.read_info(self.path, layer=0, force_total_bounds=True)
        carry = pyproj.Transformer.from_crs(info["crs"], WGS84, always_xy=True)
        west, south, east, north = carry.transform_bounds(*info["total_bounds"])
        return west, south, east, north

    def rows(self, run: Run) -> Iterator[ChangeRow]:
        """The polygons of a run as the ledger takes them."""
        for start in range(0, self.count, BATCH):
            frame = pyogrio.read_dataframe(
                self.path, layer=0, skip_features=start, max_features=BATCH
            )
            frame = frame.to_crs(WGS84)
            shapes = shapely.to_wkb(_multi(np.asarray(frame.geometry)))
            for wkb, fields in zip(shapes, frame.to_dict("records"), strict=True):
                yield ChangeRow(wkb, _fields(fields, run))


def _multi(shapes: Any) -> Any:
    """The ledger's layer is of multipolygons, which take in both kinds."""
    return [s if s.geom_type == "MultiPolygon" else shapely.MultiPolygon([s]) for s in shapes]


def _fields(fields: Mapping[str, Any], run: Run) -> dict[str, Any]:
    told = {name: fields.get(name) for name in ("from", "to", "area_m2", "conf_mean")}
    return {
        **{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in told.items()},
        "date_before": run.before_date.date().isoformat(),
        "date_after": run.after_date.date().isoformat(),
    }
