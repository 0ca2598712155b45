"""How a job stands: what its ledger says, scene by scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geoseg.jobs.job_file import Job, load_job
from geoseg.jobs.ledger import read_ledger
from geoseg.jobs.outcome import date_text
from geoseg.jobs.records import Run, SceneRecord

__all__ = ["JobStatus", "SceneState", "job_status"]


@dataclass(frozen=True, slots=True)
class SceneState:
    """A scene as the ledger has it."""

    date: str
    scene: str
    status: str
    """compared, clear (but not compared), cloudy, duplicate, started, failed or set_aside."""
    invalid_share: float | None
    before_date: str | None
    """Date of the scene that it was compared with."""
    changed_area_ha: float | None
    alert: bool
    webhook: str | None
    """due or delivered."""
    reason: str | None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as its ledger has it."""

    job: str
    ledger: str
    """A path, or host and database."""
    scenes: tuple[SceneState, ...]
    """In the order of time."""

    @property
    def counts(self) -> dict[str, int]:
        """How many scenes there are of each status."""
        return dict(Counter(each.status for each in self.scenes))

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "counts": self.counts}


def job_status(job: Job | str | Path) -> JobStatus:
    """Look into the ledger of a job.

    Raises:
        InputError: if the job file makes no sense.
        JobError: if the ledger cannot be read.
    """
    job = job if isinstance(job, Job) else load_job(job)
    with read_ledger(job.ledger, job.name) as ledger:
        scenes = {} if ledger is None else ledger.scenes()
        runs = {} if ledger is None else ledger.runs()
    # of two runs of one scene, the superseding one is told
    ordered = sorted(runs.values(), key=lambda run: run.status == "done")
    latest = {run.after_sha256: run for run in ordered if run.status != "superseded"}
    states = tuple(_state(scene, latest) for scene in scenes.values())
    shown = job.ledger.rpartition("@")[2] if "://" in job.ledger else job.ledger
    return JobStatus(job.name, shown.partition("?")[0], states)


def _state(scene: SceneRecord, runs: Mapping[str, Run]) -> SceneState:
    run = runs.get(scene.sha256 or "") if scene.status == "clear" else None
    status = scene.status if run is None else "compared" if run.status == "done" else run.status
    return SceneState(
        date=date_text(scene.date),
        scene=scene.name,
        status=status,
        invalid_share=scene.invalid_share,
        before_date=None if run is None else date_text(run.before_date),
        changed_area_ha=None if run is None else run.changed_area_ha,
        alert=run is not None and run.alert,
        webhook=None if run is None else run.webhook,
        reason=scene.reason if run is None else run.reason,
    )
