"""Scenes that arrive in a folder."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from geoseg.errors import InputError, JobError, SceneError
from geoseg.jobs.name_pattern import NamePattern

__all__ = [
    "Arrival",
    "ArrivalSource",
    "FolderArrivals",
    "MissingAssetError",
    "NotThereError",
    "sha256_of",
]

READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Arrival:
    """A scene where it arrived, before it is read."""

    name: str
    """Its path within the folder, or the id of its STAC item."""
    date: datetime
    """When it was taken, UTC."""
    source: str
    """Where to get it: a path, or the addresses of assets."""
    fingerprint: str
    """Changes when the content does, and costs nothing to ask for."""
    arriving: bool = False
    """Whether somebody may still be writing it."""
    cloud_cover: float | None = None
    """The share of the ground that clouds hide, as somebody states it; None: nobody does."""


class NotThereError(SceneError):
    """A scene is no longer where it arrived, or no longer what it was."""


class MissingAssetError(NotThereError):
    """A catalogue lists a scene that is not there."""


class ArrivalSource(Protocol):
    """Where scenes arrive."""

    notes: list[str]
    """What a person should know of things there that are no scenes, a line each."""

    def arrivals(self) -> Iterator[Arrival]:
        """All scenes that are there, in no order.

        Raises:
            JobError: if they cannot be listed.
        """
        ...

    def fetch(self, arrival: Arrival) -> Path:
        """A file with the scene.

        Raises:
            NotThereError: if it is gone, or has changed since it was listed.
            SceneError: if it cannot be had.
        """
        ...


class FolderArrivals:
    """Scenes that are put into a folder.

    Args:
        folder: where.
        pattern: which of the files are scenes, and their dates.
        settle_s: a file that was written to less than so many seconds ago is still arriving.
        results: a folder whose files are no scenes, though it may lie inside.

    Raises:
        InputError: if the folder does not exist, or is that of the results.
    """

    def __init__(
        self, folder: Path, pattern: NamePattern, *, settle_s: float, results: Path
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"the folder {folder}, where scenes are to arrive, does not exist")
        if results.resolve() == folder.resolve():
            raise InputError(f"output: results cannot go where scenes arrive, {folder}")
        self._folder, self._pattern, self._settle_s = folder, pattern, settle_s
        self._results = results.resolve()
        self.notes: list[str] = []

    def arrivals(self) -> Iterator[Arrival]:
        """See ArrivalSource."""
        for path in self._files():
            name = path.relative_to(self._folder).as_posix()
            try:
                date = self._pattern.date_in(name)
            except ValueError:
                self.notes.append(f"{name} is no scene: there is no such date")
                continue
            if date is None:
                continue
            try:
                name.encode()
                stat = path.stat()
            except FileNotFoundError:  # it went away meanwhile
                continue
            except (OSError, UnicodeError) as error:
                self.notes.append(f"{_printable(name)} is no scene: {_cause(error)}")
                continue
            # a clock that is ahead makes files that seem to come from the future
            arriving = abs(time.time() - stat.st_mtime) < self._settle_s
            yield Arrival(name, date, str(path), _fingerprint(stat), arriving)

    def _files(self) -> Iterator[Path]:
        for folder, below, names in os.walk(self._folder, onerror=_refuse):
            if not self._pattern.deep:
                below.clear()
            elif Path(folder).resolve() == self._results:
                below.clear()
                continue
            for name in names:
                yield Path(folder, name)

    def fetch(self, arrival: Arrival) -> Path:
        """See ArrivalSource."""
        path = Path(arrival.source)
        try:
            now = _fingerprint(path.stat())
        except OSError as error:
            raise NotThereError(f"{path} is no longer there") from error
        if now != arrival.fingerprint:
            raise NotThereError(f"{path} has changed since it was listed")
        return path


def _refuse(error: OSError) -> None:
    """A folder that cannot be listed is not an empty one."""
    if not isinstance(error, FileNotFoundError):
        reason = error.strerror or error
        raise JobError(f"the folder {error.filename} cannot be listed: {reason}") from error


def _cause(error: OSError | UnicodeError) -> str:
    return "its name is not UTF-8" if isinstance(error, UnicodeError) else str(error.strerror)


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _fingerprint(stat: os.stat_result) -> str:
    return f"{stat.st_size} bytes, {stat.st_mtime_ns} ns"


def sha256_of(path: Path) -> str:
    """The sha256 of a file.

    Raises:
        SceneError: if it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise SceneError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
