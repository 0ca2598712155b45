"""What a ledger needs of a database: a GeoPackage or PostGIS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from geoseg.jobs.records import Run, SceneRecord

__all__ = ["LEDGER_TABLES", "Database"]

LEDGER_TABLES: dict[str, tuple[type[SceneRecord] | type[Run], str]] = {
    "scenes": (SceneRecord, "name"),
    "runs": (Run, "key"),
}
"""Records by table, and the column that with `job` says which is which."""


class Database(Protocol):
    """A database with the ledger's tables in it.

    Statements name their parameters as :name; values are bound, never written into them.
    Its own errors come out as JobError.
    """

    def execute(
        self, statement: str, values: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run a statement and return its rows by column."""
        ...

    def insert_changes(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Run a statement for each row; the parameter `geom` is well-known binary."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing of what happens inside; what is read inside stays true until its end."""
        ...

    def close(self) -> None:
        """Give the database back."""
        ...
