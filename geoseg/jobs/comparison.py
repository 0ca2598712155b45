"""How a job compares two scenes, and the hash that says when two comparisons are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from geoseg.bands import parse_bands, sensor_named
from geoseg.jobs.job_file import Job
from geoseg.jobs.pairing import DatedScene
from geoseg.vector.area_of_interest import AreaOfInterest

if TYPE_CHECKING:
    from geoseg.model.card import Card

__all__ = ["ChangeDetector", "Comparison", "MadeChange"]

SETTINGS = (
    "min_area", "from_classes", "to_classes", "coregister", "force", "bands", "sensor", "scale",
    "offset", "nodata", "level", "gsd",
)  # fmt: skip
"""Keys of a job that the result of a comparison depends on."""

WAYS = ("runtime", "max_pixels")
"""Keys that `change` takes and its result does not depend on."""


class MadeChange(Protocol):
    """What `change` returns."""

    @property
    def files(self) -> Mapping[str, Path]:
        """What was written."""
        ...

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the summary file holds."""
        ...


ChangeDetector: TypeAlias = Callable[..., MadeChange]
"""`geoseg.change`, or what stands for it in a test."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that the result of comparing two scenes depends on, besides the scenes."""

    method: str
    """model, irmad or cva."""
    model_sha256: str | None
    """Of the model; None for methods that need none."""
    settings_sha256: str
    """Of the settings."""
    options: Mapping[str, Any]
    """What `change` is told, besides its defaults."""

    @classmethod
    def of(cls, job: Job, area: AreaOfInterest | None) -> Comparison:
        """The comparison that a job file asks for.

        Raises:
            InputError: if its settings make no sense, or its model is missing or damaged.
        """
        _check(job)
        told: dict[str, Any] = {
            key: getattr(job, key)
            for key in (*SETTINGS, *WAYS)
            if getattr(job, key) != Job.model_fields[key].default
        }
        options = {"method": job.method, **told}
        # only what is told, or a geoseg with one more setting would compare everything again
        settings = {key: value for key, value in told.items() if key in SETTINGS}
        if job.area is not None:
            options["area"] = Path(job.area)
        model_sha256 = None
        if job.method == "model":
            from geoseg.model.bundle import load_bundle

            bundle = load_bundle(job.model)
            _check_classes(job, bundle.card)
            options["model"], model_sha256 = job.model, bundle.sha256
        settings["area"] = None if area is None else area.sha256
        return cls(job.method, model_sha256, _sha256(settings), options)

    def key(self, before: DatedScene, after: DatedScene) -> str:
        """What says whether a pair was compared in this way already."""
        scenes = [[each.sha256, each.date.isoformat()] for each in (before, after)]
        return _sha256([scenes, self.method, self.model_sha256, self.settings_sha256])


def _check_classes(job: Job, card: Card) -> None:
    from geoseg.bitemporal.change_legend import ChangeLegend
    from geoseg.bitemporal.semantic import WantedTransitions

    wanted = job.from_classes or None, job.to_classes or None
    if card.dates == 2:
        ChangeLegend(card.legend, card.unchanged).wanted_kinds(*wanted)
    else:
        WantedTransitions.of(card.legend, *wanted)


def _check(job: Job) -> None:
    """Refuse at once what would fail every pair."""
    if job.sensor is not None:
        sensor_named(job.sensor)
    if isinstance(job.bands, str):
        parse_bands(job.bands)
    if job.min_area is not None:
        from geoseg.vector.sieve import MinArea  # its libraries cost a second

        MinArea.parse(job.min_area)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
