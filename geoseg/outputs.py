"""Nothing half-written: results are made in a staging folder and put in place together.

The staging folder lies beside the results, so that putting them in place is a rename. A run that
is killed leaves only that folder, hidden; the next run for the same results clears it. A lock in
it keeps two runs from writing the same results at once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from geoseg.errors import InputError, OutputError

__all__ = ["Staging", "is_whole", "replace_file", "staged"]

COMMIT = "commit.json"

COMPANIONS = {
    ".shp": ("{stem}.qix", "{stem}.sbn", "{stem}.sbx", "{stem}.idm", "{stem}.ind", "{name}.xml"),
    ".gpkg": ("{name}-wal", "{name}-shm", "{name}-journal"),
    ".tif": ("{name}.ovr", "{name}.msk", "{name}.aux.xml"),
}
"""What other programs lay beside a file: where it stays, they take it for the new file's."""


class Staging:
    """A folder to write results into before they take their final names."""

    def __init__(self, folder: Path, destination: Path) -> None:
        self.folder = folder
        """Where results are written."""
        self.destination = destination
        """Where they end up."""

    def path(self, name: str) -> Path:
        """Where to write the result that will be called `name`."""
        return self.folder / name

    def put_in_place(self, names: Sequence[str], stale: Sequence[str] = ()) -> list[Path]:
        """Give the results their final names, in this order, and return their paths.

        Files called `stale`, of an earlier run that these results replace, are removed first.

        What is being put in place is noted first: a run killed between two renames is known
        by that note, and its results are then replaced, not refused.
        """
        replace_file(self.folder / COMMIT, json.dumps(list(names)).encode())
        for name in (*stale, *_companions(names)):
            (self.destination / name).unlink(missing_ok=True)
        for name in names:
            if self.path(name).is_dir() and (self.destination / name).is_dir():
                shutil.rmtree(self.destination / name)  # a rename replaces no full folder
        return [self.path(name).replace(self.destination / name) for name in names]


def is_whole(destination: Path, key: str, names: Sequence[str]) -> bool:
    """Whether results lie there that a run put in place to the last of them."""
    if (_staging_folder(destination, key) / COMMIT).exists():
        return False
    return all((destination / name).exists() for name in names)


def _staging_folder(destination: Path, key: str) -> Path:
    return destination / f".{key}.geoseg"


def _companions(names: Sequence[str]) -> Iterator[str]:
    """What may lie beside the old files of these names, and belongs to none of the new."""
    for name in names:
        path = Path(name)
        for pattern in COMPANIONS.get(path.suffix.lower(), ()):
            companion = pattern.format(stem=path.stem, name=name)
            if companion not in names:
                yield companion


def replace_file(path: Path, content: bytes) -> None:
    """Write a single file so that it is always whole: the old content or the new."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def staged(
    destination: Path,
    key: str,
    names: Sequence[str],
    *,
    folders: Sequence[str] = (),
    overwrite: bool = False,
) -> Iterator[Staging]:
    """Open a staging folder for the results `names` in the folder `destination`.

    Args:
        destination: the folder of the results; made when missing, its parents too.
        key: what the results have in common; two runs of one key exclude each other.
        names: the final names.
        folders: which of them are folders.
        overwrite: replace results that exist.

    Raises:
        InputError: if results exist and `overwrite` is False.
        OutputError: if the folder cannot be written, is full, or another run is at it.
    """
    folder = _staging_folder(destination, key)
    made = _missing_parents(destination)
    lock = FileLock(folder / "lock", thread_local=False)  # another thread may finish the results
    try:
        _lock(folder, lock, key)
    except BaseException:
        _remove_empty(made)
        raise
    try:
        _refuse_existing(folder, destination, names, folders, overwrite)
        _clear(folder)
        yield Staging(folder, destination)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"could not write into {destination}: {_reason(error)}") from error
    finally:
        try:
            _clear(folder)
            with suppress(OSError):  # an open file stays on some systems until it is released
                (folder / "lock").unlink(missing_ok=True)
                folder.rmdir()
        finally:
            lock.release()
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(made)


def _lock(folder: Path, lock: FileLock, key: str) -> None:
    """Make the staging folder and lock it, again if another run was just clearing it away."""
    for _ in range(10):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            if (folder / "lock").exists():
                return
            lock.release()
        except Timeout as error:
            raise OutputError(f"another geoseg run is writing {key} in {folder.parent}") from error
        except (OSError, NotImplementedError) as error:
            reason = _reason(error) if isinstance(error, OSError) else str(error)
            raise OutputError(f"cannot write into {folder.parent}: {reason}") from error
    raise OutputError(f"cannot lock {folder}; remove it and try again")


def _refuse_existing(
    folder: Path,
    destination: Path,
    names: Sequence[str],
    folders: Sequence[str],
    overwrite: bool,
) -> None:
    try:
        interrupted = json.loads((folder / COMMIT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        interrupted = []
    existing = [n for n in names if n not in interrupted and (destination / n).exists()]
    for name in existing:
        if (destination / name).is_dir() != (name in folders):
            kind = "a file" if name in folders else "a folder"
            raise InputError(f"{destination / name} is {kind}; results cannot replace it")
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more exist" if len(existing) > 1 else " exists"
        raise InputError(
            f"{destination / existing[0]}{more} already; "
            "write elsewhere with -o, or replace with --overwrite"
        )


def _clear(folder: Path) -> None:
    """Remove everything but the lock."""
    for leftover in folder.iterdir() if folder.is_dir() else ():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        elif leftover.name != "lock":
            leftover.unlink()


def _missing_parents(folder: Path) -> list[Path]:
    """The folders that will have to be made, innermost first."""
    try:
        return [each for each in (folder, *folder.parents) if not each.exists()]
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {_reason(error)}") from error


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
