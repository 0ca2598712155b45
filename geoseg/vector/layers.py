"""Polygons to files that GIS programs open."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS

from geoseg.errors import OutputError
from geoseg.legend import Legend
from geoseg.vector.polygons import PolygonBatch

__all__ = ["write_geopackage"]


def write_geopackage(
    path: Path,
    batches: Iterable[PolygonBatch],
    legend: Legend,
    crs: CRS | None,
    *,
    layer: str,
) -> int:
    """Write polygons as one layer of a new GeoPackage and return how many there are.

    Fields: class_id, class, and area_m2 (the true area), or area_px when there is no CRS.

    Raises:
        OutputError: when the file cannot be written in full.
    """
    names = dict(zip(legend.codes, legend.names, strict=True))
    count = 0
    try:
        for batch in batches:
            _append(path, _frame(batch, names, crs), layer, more=count > 0)
            count += len(batch.codes)
    except (DataSourceError, DataLayerError, RuntimeError) as error:
        raise OutputError(f"could not write {path.name}: {error}") from error
    _check(path, layer, count)
    return count


def _frame(batch: PolygonBatch, names: dict[int, str], crs: CRS | None) -> geopandas.GeoDataFrame:
    fields = {
        "class_id": batch.codes.astype(np.int32),
        "class": [names.get(int(code), "") for code in batch.codes],
    }
    if batch.area_m2 is None:
        fields["area_px"] = batch.pixels
    else:
        fields["area_m2"] = np.round(batch.area_m2, 2)
    wkt = None if crs is None else crs.to_wkt()
    return geopandas.GeoDataFrame(fields, geometry=batch.shapes, crs=wkt)


def _append(path: Path, frame: geopandas.GeoDataFrame, layer: str, *, more: bool) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # the map's summary says it
        pyogrio.write_dataframe(
            frame,
            path,
            layer=layer,
            driver="GPKG",
            geometry_type="Polygon",
            append=more,
            VERSION="1.2",  # what QGIS and GDAL of the last years all read without a word
            spatial_index=True,
        )


def _check(path: Path, layer: str, count: int) -> None:
    found = pyogrio.read_info(path, layer=layer, force_feature_count=True)["features"]
    if found != count:
        raise OutputError(f"{path.name} holds {found} polygons of {count}: the disk is full")
