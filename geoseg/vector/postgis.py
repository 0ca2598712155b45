"""Polygons to a PostGIS table, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from rasterio.crs import CRS

from geoseg.errors import InputError, OutputError
from geoseg.vector.database_address import psycopg_module, split_address
from geoseg.vector.tables import GEOMETRY, PolygonTable

__all__ = ["DatabaseTable", "write_table"]

TYPES = {pa.int32(): "integer", pa.utf8(): "text", pa.float64(): "double precision"}


@dataclass(frozen=True, slots=True)
class DatabaseTable:
    """A table of a PostgreSQL database.

    Raises:
        InputError: from `parse`, if the address makes no sense.
    """

    url: str
    """Where the database is, as libpq takes it; it may hold a password, so it is never shown."""
    place: str
    """Host and database, for messages."""
    schema: str
    """Its schema."""
    name: str
    """Its name."""

    @classmethod
    def parse(cls, url: str, default_name: str) -> DatabaseTable:
        """Read postgresql://USER@HOST/DATABASE?table=SCHEMA.NAME; the table may be left out."""
        server, place, table = split_address(url, "table")
        schema, _, name = (default_name if table is None else table).rpartition(".")
        if not name:
            raise InputError(f"no table is named in ?table= of the address of {place}")
        return cls(server, place, schema or "public", name)

    def __str__(self) -> str:
        return f"table {self.schema}.{self.name} of {self.place}"


def write_table(
    target: DatabaseTable, polygons: PolygonTable, crs: CRS | None, *, overwrite: bool
) -> int:
    """Make the table, fill it, index it; nothing of that is left when anything fails.

    Raises:
        InputError: if the table exists and `overwrite` is False, or the CRS has no EPSG number.
        OutputError: if the database cannot be reached, lacks PostGIS, or refuses.
    """
    psycopg = psycopg_module()
    srid = _srid(crs)
    try:
        with psycopg.connect(target.url, connect_timeout=10) as connection:
            return _fill(psycopg.sql, connection, target, polygons, srid, overwrite)
    except psycopg.Error as error:
        if polygons.error is not None:
            raise polygons.error from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OutputError(f"could not write {target}: {reason}") from error


def _fill(
    sql: Any,
    connection: Any,
    target: DatabaseTable,
    polygons: PolygonTable,
    srid: int,
    overwrite: bool,
) -> int:
    table = sql.Identifier(target.schema, target.name)
    if connection.execute("SELECT to_regtype('geometry')").fetchone()[0] is None:
        raise OutputError(f"{target.place} has no PostGIS; run CREATE EXTENSION postgis in it")
    known = connection.execute("SELECT to_regclass(%s)", [table.as_string(connection)]).fetchone()
    if known[0] is not None:
        if not overwrite:
            raise InputError(
                f"{target} exists already; choose another with ?table= or replace with --overwrite"
            )
        connection.execute(sql.SQL("DROP TABLE {}").format(table))
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(TYPES[field.type]))
        for field in polygons.schema
        if field.name != GEOMETRY
    ]
    columns.append(sql.SQL("{} geometry(Polygon, {})").format(sql.Identifier(GEOMETRY), srid))
    fid = sql.SQL("fid integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    connection.execute(
        sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join([fid, *columns]))
    )
    names = sql.SQL(", ").join(map(sql.Identifier, polygons.schema.names))
    with connection.cursor() as cursor:
        with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(table, names)) as copy:
            for row in _rows(polygons):
                copy.write_row(row)
        cursor.execute(sql.SQL("CREATE INDEX ON {} USING gist ({})").format(
            table, sql.Identifier(GEOMETRY)))  # fmt: skip
        found = cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()[0]
    if found != polygons.count:
        raise OutputError(f"{target} holds {found} polygons of {polygons.count}")
    return int(found)


def _rows(polygons: PolygonTable) -> Iterator[tuple[Any, ...]]:
    for batch in polygons.batches():
        columns = [column.to_pylist() for column in batch.columns]
        for *fields, wkb in zip(*columns, strict=True):
            yield (*fields, wkb.hex())


def _srid(crs: CRS | None) -> int:
    if crs is None:
        return 0
    epsg = crs.to_epsg()
    if epsg is None:
        raise InputError(
            "the map's CRS has no EPSG number, by which PostGIS knows CRSs; write a file instead"
        )
    return int(epsg)
