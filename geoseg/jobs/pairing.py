"""Which scene is compared with which: a function of the set of scenes, not of their arrival."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

__all__ = ["DatedScene", "PairingRule", "first_of_each", "pair_scenes"]


@dataclass(frozen=True, slots=True, order=True)
class DatedScene:
    """A scene that can be compared."""

    date: datetime
    """When it was taken, UTC."""
    name: str
    """What it is called; it decides which of two scenes of one date comes first."""
    sha256: str
    """Of its content."""


@dataclass(frozen=True, slots=True)
class PairingRule:
    """What each scene is compared with."""

    kind: Literal["previous", "same_season", "baseline"] = "previous"
    season_days: int = 45
    """With same_season: how far from the same day of last year, at most."""
    baseline: DatedScene | None = None
    """With baseline: the fixed scene."""


def first_of_each(scenes: Iterable[DatedScene]) -> list[DatedScene]:
    """One scene for each content, in the order of time: the earliest, the first by name."""
    found: dict[str, DatedScene] = {}
    for scene in sorted(scenes):
        found.setdefault(scene.sha256, scene)
    return list(found.values())


def pair_scenes(
    scenes: Iterable[DatedScene], rule: PairingRule
) -> list[tuple[DatedScene, DatedScene | None]]:
    """Each scene with the one that it is compared with, None where there is none.

    Scenes of the very same date are never compared with each other.

    Args:
        scenes: clear ones, in any order.
        rule: what to compare with.

    Returns:
        (after, before), in the order of time.
    """
    ordered = sorted(scenes)
    return [(scene, _counterpart(scene, ordered, rule)) for scene in ordered]


def _counterpart(
    scene: DatedScene, ordered: Sequence[DatedScene], rule: PairingRule
) -> DatedScene | None:
    if rule.kind == "baseline":
        if rule.baseline is None or rule.baseline.sha256 == scene.sha256:
            return None
        return rule.baseline if rule.baseline.date < scene.date else None
    earlier = ordered[: bisect_left(ordered, scene.date, key=lambda each: each.date)]
    if rule.kind == "previous":
        return earlier[-1] if earlier else None
    wanted = _a_year_before(scene.date)
    reach = timedelta(days=rule.season_days)
    season = [each for each in earlier if abs(each.date - wanted) <= reach]
    return min(season, key=lambda each: (abs(each.date - wanted), each), default=None)


def _a_year_before(date: datetime) -> datetime:
    try:
        return date.replace(year=date.year - 1)
    except ValueError:  # 29 February
        return date.replace(year=date.year - 1, day=28)
