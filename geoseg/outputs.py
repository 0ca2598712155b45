"""Nothing half-written: results are made in a staging folder and put in place together.

The staging folder lies beside the results, so that putting them in place is a rename. A run that
is killed leaves only that folder, hidden; the next run for the same results clears it. A lock in
it keeps two runs from writing the same results at once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from geoseg.errors import InputError, OutputError

__all__ = ["Staging", "staged"]

COMMIT = "commit.json"


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

    def put_in_place(self, names: Sequence[str]) -> list[Path]:
        """Give the results their final names, in this order, and return their paths.

        What is being put in place is noted first: a run killed between two renames is known
        by that note, and its results are then replaced, not refused.
        """
        (self.folder / COMMIT).write_text(json.dumps(list(names)), encoding="utf-8")
        for name in names:
            if (self.destination / name).is_dir():  # a rename replaces files, not full folders
                shutil.rmtree(self.destination / name)
        return [self.path(name).replace(self.destination / name) for name in names]


@contextmanager
def staged(
    destination: Path, key: str, names: Sequence[str], *, overwrite: bool = False
) -> Iterator[Staging]:
    """Open a staging folder for the results `names` in the folder `destination`.

    Args:
        destination: the folder of the results; made when missing, its parents too.
        key: what the results have in common; two runs of one key exclude each other.
        names: the final file names.
        overwrite: replace results that exist.

    Raises:
        InputError: if results exist and `overwrite` is False.
        OutputError: if the folder cannot be written, is full, or another run is at it.
    """
    folder = destination / f".{key}.geoseg"
    made = not destination.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write into {destination}: {_reason(error)}") from error
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(f"another geoseg run is writing {key} in {destination}") from error
    try:
        _refuse_existing(folder, destination, names, overwrite)
        _clear(folder)
        yield Staging(folder, destination)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"could not write into {destination}: {_reason(error)}") from error
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)
        if made and destination.exists() and not any(destination.iterdir()):
            destination.rmdir()


def _refuse_existing(
    folder: Path, destination: Path, names: Sequence[str], overwrite: bool
) -> None:
    note = folder / COMMIT
    interrupted = json.loads(note.read_text(encoding="utf-8")) if note.exists() else []
    existing = [n for n in names if n not in interrupted and (destination / n).exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise InputError(
            f"{destination / existing[0]}{more} exists already; "
            "choose another folder with -o or replace with --overwrite"
        )


def _clear(folder: Path) -> None:
    for leftover in folder.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        elif leftover.name != "lock":
            leftover.unlink()


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
