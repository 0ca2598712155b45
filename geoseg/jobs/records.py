"""What the ledger remembers. The fields of a record are the columns of its table."""

from __future__ import annotations

import types
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

__all__ = ["CHANGE_COLUMNS", "ChangeRow", "Run", "SceneRecord", "SceneStatus", "columns_of"]

SceneStatus: TypeAlias = Literal["clear", "cloudy", "duplicate", "failed", "set_aside", "excluded"]
RunStatus: TypeAlias = Literal["started", "done", "failed", "set_aside", "superseded"]

CHANGE_COLUMNS: dict[str, type] = {
    "job": str,
    "run": str,
    "from": str,
    "to": str,
    "area_m2": float,
    "conf_mean": float,
    "date_before": date,
    "date_after": date,
}
"""Columns of the layer of changes, without its geometry."""


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A polygon of change."""

    wkb: bytes
    """A multipolygon in longitudes and latitudes of WGS 84, well-known binary."""
    fields: dict[str, Any]
    """The columns from, to, area_m2, conf_mean, date_before and date_after."""


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """A scene that arrived."""

    name: str
    """Its path within the folder, or the id of its STAC item."""
    date: datetime
    """When it was taken, UTC."""
    status: SceneStatus
    """Only clear scenes are compared."""
    reason: str | None
    """Why it is not clear."""
    invalid_share: float | None
    """Of the area of interest, 0 to 1; None when it could not be read."""
    attempts: int
    """How often it failed to be read."""
    sha256: str | None
    """Of its content."""
    source: str
    """Where it is: a path, or the addresses of assets."""
    fingerprint: str
    """What the source said of the content when it was read."""
    measured: str
    """The hash of the settings that the invalid share depends on."""
    seen_at: datetime
    """When it was first read."""


@dataclass(frozen=True, slots=True)
class Run:
    """A pair of scenes and what became of it."""

    key: str
    """The hash of both contents and dates, the method or model, and the settings."""
    status: RunStatus
    """A superseded run is about to be removed, with its files."""
    before_name: str
    before_date: datetime
    after_name: str
    after_date: datetime
    before_sha256: str
    after_sha256: str
    method: str
    """model, irmad or cva."""
    model_sha256: str | None
    settings_sha256: str
    stem: str
    """What the names of its files begin with."""
    attempts: int = 0
    """How often it failed."""
    interruptions: int = 0
    """How often a run ended in the middle of it."""
    reason: str | None = None
    """Why it failed."""
    valid_share: float | None = None
    shift_px: float | None = None
    changed_pixels: int | None = None
    changed_share: float | None = None
    changed_area_ha: float | None = None
    polygons: int | None = None
    alert: bool = False
    """Whether the alert rule fired."""
    announced: bool = False
    """Whether a job has ended with the alert's exit status."""
    webhook: Literal["due", "delivered"] | None = None
    webhook_attempts: int = 0
    webhook_reason: str | None = None
    """Why the last delivery failed."""
    webhook_at: datetime | None = None
    """When the alert was delivered."""
    bounds: str | None = None
    """JSON: west, south, east, north of the changes, degrees."""
    summary: str | None = None
    """JSON: what the summary file holds, but the names of the scenes."""
    files: str | None = None
    """JSON: names of the files, in the output folder."""
    seconds: float | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


def columns_of(record: type[Any]) -> dict[str, type]:
    """The columns of a record's table and the types of their values."""
    hints = get_type_hints(record)
    columns = {each.name: _plain(hints[each.name]) for each in fields(record)}
    return {"job": str, **columns}


def _plain(hint: Any) -> type:
    """The type of a value: str of "str | None", str of Literal["due"]."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0])
    return hint if isinstance(hint, type) else str
