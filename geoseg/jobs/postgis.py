"""The ledger as tables of a PostGIS database, for teams."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

from geoseg.errors import JobError
from geoseg.jobs.database import LEDGER_TABLES
from geoseg.jobs.records import CHANGE_COLUMNS, columns_of
from geoseg.vector.database_address import psycopg_module, split_address

__all__ = ["PostgisDatabase"]

TYPES = {
    str: "text",
    int: "bigint",
    float: "double precision",
    bool: "boolean",
    datetime: "timestamptz",
    date: "date",
}
SCHEMA = "geoseg"
PARAMETER = re.compile(r"(?<!:):(\w+)")


class PostgisDatabase:
    """A ledger in a schema of a PostGIS database; made when missing.

    Args:
        url: postgresql://USER@HOST/DATABASE?schema=NAME; the schema may be left out.
        make: make the tables when missing.

    Raises:
        InputError: if the address makes no sense, or psycopg is not installed.
        JobError: if the database cannot be reached, lacks PostGIS or refuses.
    """

    def __init__(self, url: str, *, make: bool = True) -> None:
        self._psycopg = psycopg_module()
        self._url, self._place, schema = split_address(url, "schema")
        self._schema = schema or SCHEMA
        with self._complaining():
            self._connection = self._psycopg.connect(
                self._url, connect_timeout=10, autocommit=True, application_name="geoseg job"
            )
            try:
                self._prepare(make)
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self, make: bool) -> None:
        # a client whose machine went away frees its lock within a minute
        for setting, value in (("idle", 30), ("interval", 10), ("count", 3)):
            self.execute(
                "SELECT set_config(:name, :value, false)",
                {"name": f"tcp_keepalives_{setting}", "value": str(value)},
            )
        if not self.execute("SELECT to_regtype('geometry') AS kind")[0]["kind"]:
            raise JobError(f"{self._place} has no PostGIS; run CREATE EXTENSION postgis in it")
        schema = self._psycopg.sql.Identifier(self._schema)
        if make:
            self._make(schema)
        self._connection.execute(
            self._psycopg.sql.SQL("SET search_path TO {}, public").format(schema)
        )

    def _make(self, schema: Any) -> None:
        sql = self._psycopg.sql
        with self._connection.transaction():
            self.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))",
                {"what": "geoseg ledger is being made"},
            )
            self._connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
            for statement in _tables(sql, schema):
                self._connection.execute(statement)

    def is_made(self) -> bool:
        """Whether the tables are there."""
        found = self.execute("SELECT to_regclass(:name) AS runs", {"name": "runs"})
        return found[0]["runs"] is not None

    def execute(
        self, statement: str, values: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """See Database."""
        with self._complaining():
            rows = self._connection.execute(PARAMETER.sub(r"%(\1)s", statement), values or {})
            if rows.description is None:
                return []
            names = [each.name for each in rows.description]
            return [dict(zip(names, map(_plain, row), strict=True)) for row in rows]

    def insert_changes(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """See Database."""
        statement = PARAMETER.sub(r"%(\1)s", statement)
        statement = statement.replace("%(geom)s", "ST_GeomFromWKB(%(geom)s, 4326)")
        with self._complaining(), self._connection.cursor() as cursor:
            cursor.executemany(statement, rows)
            return int(cursor.rowcount)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See Database."""
        with self._complaining(), self._connection.transaction():
            yield

    def lock(self, job: str, wait_s: float) -> bool:
        """Take the job for this connection; the server frees it when the connection ends."""
        key = {"what": f"geoseg job {self._schema} {job}"}
        until = time.monotonic() + wait_s
        while True:
            taken = self.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(:what, 0)) AS taken", key
            )
            if taken[0]["taken"] or time.monotonic() >= until:
                return bool(taken[0]["taken"])
            time.sleep(0.2)

    def close(self) -> None:
        """See Database."""
        self._connection.close()

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.Error as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise JobError(f"the ledger in {self._place} cannot be used: {reason}") from error


def _tables(sql: Any, schema: Any) -> Iterator[Any]:
    fid = "fid bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    for table, (record, identity) in LEDGER_TABLES.items():
        columns = ", ".join(f'"{name}" {TYPES[kind]}' for name, kind in columns_of(record).items())
        yield sql.SQL(
            f"CREATE TABLE IF NOT EXISTS {{}}.{table} "
            f'({fid}, {columns}, UNIQUE (job, "{identity}"))'
        ).format(schema)
    columns = ", ".join(f'"{name}" {TYPES[kind]}' for name, kind in CHANGE_COLUMNS.items())
    yield sql.SQL(
        f"CREATE TABLE IF NOT EXISTS {{}}.changes ({fid}, {columns}, "
        "geom geometry(MultiPolygon, 4326))"
    ).format(schema)
    for method, what in (("gist", "geom"), ("btree", "job, run")):
        name = sql.SQL(f"changes_{method}")
        yield sql.SQL(
            f"CREATE INDEX IF NOT EXISTS {{}} ON {{}}.changes USING {method} ({what})"
        ).format(name, schema)


def _plain(value: Any) -> Any:
    """A value as a GeoPackage would give it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else value
