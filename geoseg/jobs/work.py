"""A job with all that its file names looked up, and what there is to tell of its scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyproj
import shapely

from geoseg.jobs.arrivals import (
    Arrival,
    ArrivalSource,
    FolderArrivals,
    NotThereError,
    sha256_of,
)
from geoseg.jobs.comparison import Comparison
from geoseg.jobs.job_file import Job
from geoseg.jobs.name_pattern import NamePattern
from geoseg.jobs.outcome import OutcomeStatus, SceneOutcome, date_text
from geoseg.jobs.pairing import DatedScene, PairingRule
from geoseg.jobs.planning import Plan, make_plan
from geoseg.jobs.reception import Gauge, clear_scenes
from geoseg.jobs.records import Run, SceneRecord
from geoseg.vector.area_of_interest import AreaOfInterest, read_area

__all__ = ["ARRIVING", "Work"]

WGS84 = pyproj.CRS(4326)
ARRIVING = "it was written to a moment ago"
CACHE = ".scenes"
"""The folder within the output folder where scenes from elsewhere are kept, a folder a job."""


@dataclass(frozen=True, slots=True)
class Work:
    """A job, ready to run."""

    job: Job
    source: ArrivalSource
    comparison: Comparison
    gauge: Gauge
    rule: PairingRule

    @classmethod
    def of(cls, job: Job) -> Work:
        """Look up what a job file names.

        Raises:
            InputError: if the folder of scenes, the area, the baseline or the model is missing
                or makes no sense.
        """
        area = None if job.area is None else read_area(Path(job.area))
        return cls(
            job,
            _source(job, area),
            Comparison.of(job, area),
            Gauge.of(job, area),
            PairingRule(job.compare_with, job.season_days, _baseline(job)),
        )

    def plan(self, scenes: Mapping[str, SceneRecord], runs: Mapping[str, Run]) -> Plan:
        """What is to be done about these scenes, after these runs."""
        clear = clear_scenes(scenes.values())
        failed = {each.name for each in scenes.values() if each.status in ("failed", "set_aside")}
        return make_plan(clear, runs, self.rule, self.comparison, self.job.name, failed=failed)

    def outcome(
        self, name: str, date: datetime, status: OutcomeStatus, reason: str | None = None
    ) -> SceneOutcome:
        """What is told of a scene that was not compared."""
        return SceneOutcome(self.job.name, name, date_text(date), status, reason=reason)

    def locator(self, scenes: Mapping[str, SceneRecord]) -> Callable[[DatedScene], Path]:
        """What gives a scene's file, or raises NotThereError when none has its content now."""

        def locate(scene: DatedScene) -> Path:
            reason = f"{scene.name} is no longer there"
            for candidate in self._candidates(scene, scenes):
                try:
                    path = candidate()
                except NotThereError as error:
                    reason = str(error)
                    continue
                if sha256_of(path) == scene.sha256:
                    return path
                reason = f"{path} is no longer what it was"
            raise NotThereError(reason)

        return locate

    def _candidates(
        self, scene: DatedScene, scenes: Mapping[str, SceneRecord]
    ) -> Iterator[Callable[[], Path]]:
        """Where a content may be found."""
        if self.job.baseline is not None and scene == self.rule.baseline:
            yield partial(Path, self.job.baseline)
        for record in scenes.values():
            if record.sha256 == scene.sha256:
                arrival = Arrival(record.name, record.date, record.source, record.fingerprint)
                yield partial(self.source.fetch, arrival)


def _source(job: Job, area: AreaOfInterest | None) -> ArrivalSource:
    output = Path(job.output)
    if job.stac is not None:
        outline = None
        if area is not None:
            outline = shapely.union_all(shapely.make_valid(area.carried_into(WGS84)))
        from geoseg.jobs.stac import StacArrivals
        from geoseg.raster.cloud_rule import CloudRule

        rule = CloudRule(job.cloudy, job.cloudy_bits)
        quality = None if job.quality is None else (job.quality, rule)
        return StacArrivals(
            job.stac, job.assets, output / CACHE / job.name, area=outline, quality=quality
        )
    pattern = NamePattern(str(job.pattern))
    folder = Path(str(job.scenes))
    return FolderArrivals(folder, pattern, settle_s=job.settle_seconds, results=output)


def _baseline(job: Job) -> DatedScene | None:
    if job.baseline is None or job.baseline_date is None:
        return None
    path = Path(job.baseline)
    date = datetime.combine(job.baseline_date, datetime.min.time(), UTC)
    return DatedScene(date, path.name, sha256_of(path))
