"""GeoParquet 1.1, written batch by batch."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
from rasterio.crs import CRS

from geoseg.vector.tables import GEOMETRY, PolygonTable

__all__ = ["write_geoparquet"]


def write_geoparquet(path: Path, table: PolygonTable, crs: CRS | None) -> int:
    """Write polygons and return how many the finished file says it holds.

    Raises:
        OSError: if the file cannot be written.
    """
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": None if crs is None else pyproj.CRS.from_wkt(crs.to_wkt()).to_json_dict(),
    }
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
    plain = pa.field(GEOMETRY, pa.binary())
    place = table.schema.get_field_index(GEOMETRY)
    schema = table.schema.set(place, plain).with_metadata({"geo": json.dumps(geo)})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in table.batches():
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
    return int(pq.read_metadata(path).num_rows)
