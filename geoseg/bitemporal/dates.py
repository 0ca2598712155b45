"""When a scene was taken: as told, or as its metadata or its name say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from geoseg.errors import InputError
from geoseg.raster.source import RasterSource

__all__ = ["SceneDate", "find_date", "scene_dates"]

TAGS = ("DATE_ACQUIRED", "ACQUISITION_DATE", "ACQUISITIONDATE", "ACQUISITIONDATETIME", "ACQUIRED",
        "SENSING_TIME", "DATETIME", "PRODUCT_START_TIME", "DATE")  # fmt: skip
"""Metadata that say when a scene was taken. TIFFTAG_DATETIME says when its file was written."""

IN_NAME = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
IN_NAME_WITH_TIME = re.compile(
    r"(?<!\d)((?:19|20)\d\d)()(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])T\d{4,6}"
)


@dataclass(frozen=True, slots=True)
class SceneDate:
    """When a scene was taken."""

    day: str | None
    """ISO 8601; None when nothing says it."""
    assumed: tuple[str, ...] = ()
    """Where it is from, when nobody told it."""
    told: bool = False
    """Whether somebody did."""


def find_date(name: str, tags: Mapping[str, str], told: date | str | None) -> SceneDate:
    """The date of a scene.

    Args:
        name: its file's.
        tags: its metadata.
        told: what a person says.

    Raises:
        InputError: if that is no date.
    """
    if told is not None:
        return SceneDate(_iso(told), told=True)
    by_name = {key.upper(): value for key, value in tags.items()}
    for tag in TAGS:
        if tag in by_name and (day := _parsed(by_name[tag])) is not None:
            return SceneDate(day, (f"{name}: taken on {day}, as its metadata say ({tag})",))
    for match in (*IN_NAME_WITH_TIME.finditer(name), *IN_NAME.finditer(name)):
        if (day := _parsed("-".join(match.group(1, 3, 4)))) is not None:
            return SceneDate(day, (f"{name}: taken on {day}, as its name says",))
    return SceneDate(None)


def _iso(told: date | str) -> str:
    if isinstance(told, date):
        return (told.date() if isinstance(told, datetime) else told).isoformat()
    try:
        return date.fromisoformat(told).isoformat()
    except ValueError as error:
        raise InputError(f"{told!r} is no date; give it as YYYY-MM-DD") from error


def _parsed(text: str) -> str | None:
    try:
        return datetime.fromisoformat(text.strip()).date().isoformat()
    except ValueError:
        return None


def scene_dates(
    scenes: Sequence[str | Path], told: Sequence[date | str | None]
) -> tuple[list[SceneDate], list[str]]:
    """The dates of an earlier and a later scene, and what there is to warn of.

    Raises:
        InputError: if somebody told dates the wrong way round, or one is no date.
        SceneError: if a scene cannot be opened.
    """
    found = []
    for path, day in zip(scenes, told, strict=True):
        source = RasterSource(path)
        tags = source.tags()
        source.close()
        found.append(find_date(Path(path).name, tags, day))
    first, second = found
    if first.day is None or second.day is None or first.day <= second.day:
        return found, []
    late = f"the earlier scene is of {first.day}, the later one of {second.day}"
    if first.told and second.told:
        raise InputError(f"{late}; give the earlier scene first")
    return found, [f"{late}: are they given the wrong way round?"]
