"""The ledger as a GeoPackage, which QGIS opens."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyogrio
import shapely

from geoseg.errors import JobError
from geoseg.jobs.database import LEDGER_TABLES
from geoseg.jobs.ledger_style import ledger_style
from geoseg.jobs.records import CHANGE_COLUMNS, columns_of
from geoseg.vector.styles import add_layer_style, register_table

__all__ = ["GeoPackageDatabase"]

TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "BOOLEAN", datetime: "DATETIME"}
WGS84 = 4326
GEOMETRY = "geom"

HEADER = struct.Struct("<2sBBi4d")
"""Of a geometry: magic, version, flags, CRS, and its envelope: minx, maxx, miny, maxy."""
ENVELOPE_LITTLE_ENDIAN = 0b0000_0011

PATIENCE_S = 60
"""How long to wait while another program, such as QGIS, has the file to itself."""


class GeoPackageDatabase:
    """A ledger in a GeoPackage; made when missing.

    Args:
        path: the file.

    Raises:
        JobError: if it cannot be opened, or is no ledger.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._complaining():
            if not path.exists():
                _create(path)
            self._connection = _connect(path)
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        tables = {row["name"] for row in self.execute("SELECT name FROM sqlite_master")}
        missing = {*LEDGER_TABLES, "changes", "gpkg_contents"} - tables
        if missing:
            raise JobError(
                f"{self._path} is no ledger of geoseg: it has no table "
                f"{', '.join(sorted(missing))}; give another file as ledger"
            )

    def execute(
        self, statement: str, values: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """See Database."""
        with self._complaining():
            rows = self._connection.execute(statement, values or {})
            names = [each[0] for each in rows.description or ()]
            return [dict(zip(names, row, strict=True)) for row in rows]

    def insert_changes(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """See Database."""
        with self._complaining():
            encoded = ({**row, GEOMETRY: _blob(row[GEOMETRY])} for row in rows)
            return self._connection.executemany(statement, encoded).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See Database."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute(TOUCH)
            self.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise

    def close(self) -> None:
        """See Database."""
        self._connection.close()

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, JobError):
                raise
            raise JobError(f"the ledger {self._path} cannot be used: {error}") from error


TOUCH = """
UPDATE gpkg_contents SET
    last_change = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
    min_x = (SELECT min(minx) FROM rtree_changes_geom),
    min_y = (SELECT min(miny) FROM rtree_changes_geom),
    max_x = (SELECT max(maxx) FROM rtree_changes_geom),
    max_y = (SELECT max(maxy) FROM rtree_changes_geom)
WHERE table_name = 'changes'
"""


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)
    # what GeoPackage's spatial index asks for when rows come and go
    connection.create_function("ST_IsEmpty", 1, lambda blob: False, deterministic=True)
    for place, name in enumerate(("ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"), 4):
        connection.create_function(
            name, 1, lambda blob, at=place: HEADER.unpack_from(blob)[at], deterministic=True
        )
    return connection


def _blob(wkb: bytes) -> bytes:
    """A geometry as GeoPackage stores it."""
    west, south, east, north = shapely.bounds(shapely.from_wkb(wkb))
    head = HEADER.pack(b"GP", 0, ENVELOPE_LITTLE_ENDIAN, WGS84, west, east, south, north)
    return head + wkb


def _create(path: Path) -> None:
    """Make an empty ledger; it has its name once it is complete. One process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.stem}.new.gpkg")
    for leftover in (staged, staged.with_name(f"{staged.name}-journal")):
        leftover.unlink(missing_ok=True)  # of a process that was killed at this
    _create_layer(staged)
    style = ledger_style()
    add_layer_style(
        staged, "changes", GEOMETRY, style, name="changes", description="changes, outlined"
    )
    with closing(_connect(staged)) as database:
        database.execute("BEGIN")
        for table, (record, identity) in LEDGER_TABLES.items():
            columns = ", ".join(
                f'"{name}" {TYPES[kind]}' for name, kind in columns_of(record).items()
            )
            database.execute(
                f"CREATE TABLE {table} (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "
                f'{columns}, UNIQUE (job, "{identity}"))'
            )
            register_table(database, table, f"{table} of geoseg jobs")
        database.execute("CREATE INDEX changes_of_run ON changes (job, run)")
        database.execute("COMMIT")
    staged.replace(path)


def _create_layer(path: Path) -> None:
    """GDAL knows best what makes a layer of a GeoPackage."""
    types = {str: pa.utf8(), float: pa.float64(), date: pa.date32()}
    fields = [pa.field(name, types[kind]) for name, kind in CHANGE_COLUMNS.items()]
    schema = pa.schema([*fields, pa.field(GEOMETRY, pa.binary())])
    pyogrio.write_arrow(
        schema.empty_table(), path, layer="changes", driver="GPKG", geometry_name=GEOMETRY,
        geometry_type="MultiPolygon", crs=f"EPSG:{WGS84}", VERSION="1.2", SPATIAL_INDEX="YES",
    )  # fmt: skip
