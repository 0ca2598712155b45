"""Polygons to files that GIS programs open."""

from __future__ import annotations

import csv
import sqlite3
import warnings
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyogrio
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS

from geoseg.errors import GeosegError, InputError, OutputError
from geoseg.vector.geoparquet import write_geoparquet
from geoseg.vector.styles import add_layer_style, qgis_style
from geoseg.vector.tables import GEOMETRY, PolygonTable

__all__ = ["ENDINGS", "layer_file_names", "write_layer"]

DRIVERS: dict[str, tuple[str, dict[str, str]]] = {
    # 1.2 is what QGIS and GDAL of the last years all read without a word
    ".gpkg": ("GPKG", {"VERSION": "1.2", "SPATIAL_INDEX": "YES"}),
    ".shp": ("ESRI Shapefile", {"ENCODING": "UTF-8", "2GB_LIMIT": "YES"}),
    ".fgb": ("FlatGeobuf", {"SPATIAL_INDEX": "YES"}),
    ".geojson": ("GeoJSON", {"RFC7946": "YES", "WRITE_NAME": "NO"}),
}
"""GDAL's drivers by the ending of a file name, and how they are used."""

ENDINGS = (*DRIVERS, ".parquet")

SHAPEFILE_NAMES = {"perimeter_m": "perim_m", "perimeter_px": "perim_px"}
"""Field names of more than ten characters, and what a Shapefile calls them."""

MAX_SHAPEFILE_BYTES = 2**31 - 1
"""What programs that count a Shapefile's bytes in 32 bits can read."""

SHAPE_HEADER_BYTES, SHAPE_RECORD_BYTES = 100, 56
ROW_BYTES = 200
"""A row of the Shapefile's table takes no more."""


def layer_file_names(name: str, *, georeferenced: bool) -> list[str]:
    """All files that a layer called `name` consists of, that one last.

    Raises:
        InputError: if its ending says no format.
    """
    path = Path(name)
    if path.suffix.lower() not in ENDINGS:
        raise InputError(
            f"{name!r} has no ending that says a format; choose one of {', '.join(ENDINGS)}, "
            "or a postgresql:// address"
        )
    if path.suffix.lower() != ".shp":
        return [name]
    parts = [".shx", ".dbf", ".cpg"] + [".prj"] * georeferenced
    return [*(f"{path.stem}{part}" for part in parts), f"{path.stem}_fields.csv", name]


def write_layer(path: Path, table: PolygonTable, crs: CRS | None, *, layer: str) -> int:
    """Write polygons as a new file in the format of its ending; return how many there are.

    Raises:
        InputError: if the format cannot hold the map.
        OutputError: when the file cannot be written in full.
    """
    ending = path.suffix.lower()
    if ending == ".geojson" and crs is None:
        raise InputError(
            f"{path.name} would need longitudes and latitudes, and the map has no CRS; "
            "choose another format, such as .gpkg"
        )
    try:
        if ending == ".parquet":
            found = write_geoparquet(path, table, crs)
        else:
            _write_with_gdal(path, table, crs, layer)
            found = pyogrio.read_info(path, layer=0, force_feature_count=True)["features"]
        if ending == ".gpkg":
            style = qgis_style(*table.attributes.drawn(table.codes))
            told = {"name": "classes", "description": "the colours of the legend"}
            add_layer_style(path, layer, GEOMETRY, style, **told)
    except (DataSourceError, DataLayerError, pa.ArrowException, RuntimeError, OSError,
            sqlite3.Error) as error:  # fmt: skip
        if isinstance(table.error, GeosegError):
            raise table.error from error
        raise OutputError(f"could not write {path.name}: {error}") from error
    if found != table.count:
        raise OutputError(f"{path.name} holds {found} polygons of {table.count}: the disk is full")
    return table.count


def _write_with_gdal(path: Path, table: PolygonTable, crs: CRS | None, layer: str) -> None:
    driver, options = DRIVERS[path.suffix.lower()]
    stream = table.reader()
    if driver == "ESRI Shapefile":
        names = table.schema.names
        _write_field_map(path, names)
        stream = table.reader([SHAPEFILE_NAMES.get(n, n) for n in names], _ShapefileSize(path))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # the map has none
        pyogrio.write_arrow(
            stream,
            path,
            layer=layer,
            driver=driver,
            geometry_name=GEOMETRY,
            geometry_type="Polygon",
            crs=None if crs is None else crs.to_wkt(),
            **options,
        )


def _write_field_map(path: Path, names: Iterable[str]) -> None:
    """Write which field of the Shapefile is which; its names have ten characters at most."""
    with path.with_name(f"{path.stem}_fields.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("in_shapefile", "field"))
        writer.writerows((SHAPEFILE_NAMES.get(n, n), n) for n in names if n != GEOMETRY)


class _ShapefileSize:
    """Adds up what a Shapefile will hold, and refuses what makes it too large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shapes = self._rows = SHAPE_HEADER_BYTES

    def __call__(self, batch: pa.RecordBatch) -> None:
        """See one more batch."""
        self._shapes += batch.column(GEOMETRY).nbytes + SHAPE_RECORD_BYTES * batch.num_rows
        self._rows += ROW_BYTES * batch.num_rows
        if max(self._shapes, self._rows) > MAX_SHAPEFILE_BYTES:
            raise InputError(
                f"{self._path.name} would grow beyond 2 GB, which Shapefiles must not; "
                "write .gpkg, .fgb or .parquet, or merge small patches with --min-area"
            )
