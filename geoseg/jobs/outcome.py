"""What became of a scene in one run of a job: a line of JSON, and a line for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

__all__ = ["OutcomeStatus", "SceneOutcome", "date_text"]

OutcomeStatus: TypeAlias = Literal[
    "compared", "no_counterpart", "cloudy", "duplicate", "arriving", "waiting", "failed",
    "set_aside", "excluded", "to_compare", "to_read", "to_remove",
]  # fmt: skip
"""What became of a scene; the three `to_` words are those of a dry run."""


@dataclass(frozen=True, slots=True)
class SceneOutcome:
    """What became of a scene in one run of a job."""

    job: str
    scene: str
    date: str
    status: OutcomeStatus
    before: str | None = None
    """What it was, or is to be, compared with."""
    before_date: str | None = None
    changed_area_ha: float | None = None
    polygons: int | None = None
    alert: bool = False
    """Whether the alert rule fired."""
    reason: str | None = None
    """Why it was not compared."""
    files: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None

    def to_json(self) -> str:
        """One line, without what is not known."""
        told: dict[str, Any] = {k: v for k, v in asdict(self).items() if v not in (None, {})}
        return json.dumps(told, ensure_ascii=False)

    def __str__(self) -> str:
        since = f" with {self.before} of {self.before_date}" if self.before else ""
        told = {
            "compared": f"compared{since}: {self.changed_area_ha or 0:,.2f} ha changed",
            "no_counterpart": "kept: there is no scene yet to compare it with",
            "to_compare": f"to be compared{since}",
        }.get(self.status, self.status.replace("_", " "))
        alert = ", ALERT" if self.alert else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.date}  {self.scene}  {told}{alert}{reason}"


def date_text(date: datetime) -> str:
    """A date as people write it: without the time when that is midnight."""
    midnight = not (date.hour or date.minute or date.second)
    return f"{date:%Y-%m-%d}" if midnight else f"{date:%Y-%m-%dT%H:%M:%SZ}"
