"""Vector files that come from elsewhere, opened only as what they say they are."""

from __future__ import annotations

from pathlib import Path

from geoseg.errors import InputError

__all__ = ["check_format"]

OPENERS = {
    ".gpkg": b"SQLite format 3\x00",
    ".shp": b"\x00\x00\x27\x0a",
    ".fgb": b"fgb",
    ".geojson": b"{",
    ".json": b"{",
}
"""Formats that are read, and what their files begin with: a file that says it is another, such as
a description that reaches out to the network, is refused."""


def check_format(path: Path, what: str) -> None:
    """Refuse a file that is missing or of another format.

    Args:
        path: the file.
        what: what it should hold, such as "labelled samples".

    Raises:
        InputError: saying so.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the file of the {what}")
    opener = OPENERS.get(path.suffix.lower())
    with path.open("rb") as file:
        start = file.read(64)
    if opener is None or not start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(opener):
        raise InputError(
            f"{path} is not one of the formats that geoseg reads {what} from: {', '.join(OPENERS)}"
        )
