"""The ledger: which scenes arrived, which pairs were compared, what changed. It is the state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from geoseg.errors import JobError
from geoseg.jobs.database import LEDGER_TABLES, Database
from geoseg.jobs.records import CHANGE_COLUMNS, ChangeRow, Run, SceneRecord, columns_of
from geoseg.vector.database_address import is_database_url

__all__ = ["AtWorkError", "Ledger", "open_ledger", "read_ledger"]

Record = TypeVar("Record", SceneRecord, Run)


class AtWorkError(JobError):
    """Another process runs this job."""


class Ledger:
    """The part of a ledger that belongs to one job.

    Each method that writes is one transaction.
    """

    def __init__(self, database: Database, job: str) -> None:
        self._database, self._job = database, job

    def scenes(self) -> dict[str, SceneRecord]:
        """All scenes by name, in the order of time."""
        found = self._read("scenes", SceneRecord, "date, name")
        return {scene.name: scene for scene in found}

    def runs(self) -> dict[str, Run]:
        """All runs by key, in the order of time; superseded ones too."""
        return {run.key: run for run in self._read("runs", Run, "after_date, after_name, key")}

    def save(self, *records: SceneRecord | Run) -> None:
        """Write records over those of the same name or key."""
        if records:
            with self._database.transaction():
                for record in records:
                    self._save(record)

    def settle(self, run: Run, changes: Iterable[ChangeRow], replaced: Sequence[Run]) -> None:
        """Write what became of a run, its changes, and supersede the runs that it replaces."""
        with self._database.transaction():
            self._remove_changes(run.key)
            self._database.insert_changes(INSERT_CHANGE, self._rows(run, changes))
            self._save(run)
            for each in replaced:
                self._supersede(each)

    def supersede(self, runs: Sequence[Run]) -> None:
        """Take runs out of what counts; their files are still there."""
        if runs:
            with self._database.transaction():
                for run in runs:
                    self._supersede(run)

    def forget(self, run: Run) -> None:
        """Remove a superseded run, whose files are gone."""
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM runs WHERE job = :job AND key = :key",
                {"job": self._job, "key": run.key},
            )

    def _supersede(self, run: Run) -> None:
        self._remove_changes(run.key)
        self._save(replace(run, status="superseded"))

    def _remove_changes(self, key: str) -> None:
        self._database.execute(
            "DELETE FROM changes WHERE job = :job AND run = :run", {"job": self._job, "run": key}
        )

    def _rows(self, run: Run, changes: Iterable[ChangeRow]) -> Iterator[dict[str, Any]]:
        for change in changes:
            yield {"job": self._job, "run": run.key, **change.fields, "geom": change.wkb}

    def _read(self, table: str, record: type[Record], order: str) -> Iterator[Record]:
        statement = f"SELECT * FROM {table} WHERE job = :job ORDER BY {order}"  # noqa: S608
        kinds = columns_of(record)
        for row in self._database.execute(statement, {"job": self._job}):
            values = {name: _decoded(row[name], kinds[name]) for name in kinds if name != "job"}
            yield record(**values)

    def _save(self, record: SceneRecord | Run) -> None:
        values = {name: _encoded(value) for name, value in asdict(record).items()}
        self._database.execute(UPSERT[type(record)], {"job": self._job, **values})


def _encoded(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def _decoded(value: Any, kind: type) -> Any:
    if value is None:
        return None
    return datetime.fromisoformat(value) if kind is datetime else kind(value)


def _upsert(table: str, record: type[Any], identity: str) -> str:
    """The statement that writes a record over that of the same name or key."""
    names = list(columns_of(record))
    updates = ", ".join(f'"{name}" = excluded."{name}"' for name in names)
    conflict = f'ON CONFLICT (job, "{identity}") DO UPDATE SET {updates}'
    return f"{_insert(table, names)} {conflict}"


def _insert(table: str, names: Sequence[str]) -> str:
    """The statement that writes a row. Its words are the code's own, its values are bound."""
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(f":{name}" for name in names)
    return f"INSERT INTO {table} ({columns}) VALUES ({values})"  # noqa: S608


UPSERT = {
    record: _upsert(table, record, identity) for table, (record, identity) in LEDGER_TABLES.items()
}


INSERT_CHANGE = _insert("changes", [*CHANGE_COLUMNS, "geom"])


@contextmanager
def open_ledger(place: str, job: str, *, wait_s: float = 0) -> Iterator[Ledger]:
    """Open the ledger for the one process that runs this job now; it is made when missing.

    The operating system, or the database's server, frees the job when the process ends, however
    it ends.

    Args:
        place: a GeoPackage's path, or a database's address.
        job: the job's name.
        wait_s: how long to wait for another process that runs it.

    Raises:
        AtWorkError: if another process runs it still.
        JobError: if the ledger cannot be used.
        InputError: if its address makes no sense.
    """
    if is_database_url(place):
        from geoseg.jobs.postgis import PostgisDatabase

        with closing(PostgisDatabase(place)) as server:
            if not server.lock(job, wait_s):
                raise AtWorkError(f"another process is running the job {job}")
            yield Ledger(server, job)
        return
    from geoseg.jobs.geopackage import GeoPackageDatabase

    path = Path(place)
    with _locked(path, job, wait_s):
        with _locked(path, "", 60):  # two jobs must not make one file at once
            file = GeoPackageDatabase(path)
        with closing(file):
            yield Ledger(file, job)


@contextmanager
def read_ledger(place: str, job: str) -> Iterator[Ledger | None]:
    """Open the ledger to look into it; None where there is none yet.

    Raises:
        JobError: if it cannot be used.
        InputError: if its address makes no sense.
    """
    if is_database_url(place):
        from geoseg.jobs.postgis import PostgisDatabase

        with closing(PostgisDatabase(place, make=False)) as server:
            yield Ledger(server, job) if server.is_made() else None
    elif not Path(place).exists():
        yield None
    else:
        from geoseg.jobs.geopackage import GeoPackageDatabase

        with closing(GeoPackageDatabase(Path(place))) as file:
            yield Ledger(file, job)


@contextmanager
def _locked(path: Path, what: str, wait_s: float) -> Iterator[None]:
    lock = FileLock(path.with_name(f".{path.name}.{what}{'.' if what else ''}lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait_s)
    except Timeout as error:
        raise AtWorkError(f"another process is running the job {what}") from error
    except (NotImplementedError, OSError) as error:
        raise JobError(f"cannot lock the ledger {path}: {error}") from error
    with lock:
        lock.release()  # entering has counted once more
        yield
