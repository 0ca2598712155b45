"""One pair: compared, its files put in place, then entered in the ledger in one transaction."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geoseg.errors import OutputError, SceneError
from geoseg.jobs.arrivals import NotThereError
from geoseg.jobs.change_polygons import ChangePolygons
from geoseg.jobs.comparison import ChangeDetector, Comparison, MadeChange
from geoseg.jobs.job_file import Job
from geoseg.jobs.ledger import Ledger
from geoseg.jobs.outcome import SceneOutcome, date_text
from geoseg.jobs.pairing import DatedScene
from geoseg.jobs.planning import Task
from geoseg.jobs.reception import reason_of
from geoseg.jobs.records import Run

__all__ = ["Processor", "outcome_of", "remove_superseded"]

MOST_INTERRUPTIONS = 10
"""So often a pair may end the process, or be at work when something else does."""


@dataclass(frozen=True, slots=True)
class Processor:
    """Compares pairs for a job."""

    job: Job
    ledger: Ledger
    comparison: Comparison
    locate: Callable[[DatedScene], Path]
    """Gives a scene's file, or raises NotThereError."""
    change: ChangeDetector
    note: Callable[[str], None]
    """Takes what a person should know."""

    def process(self, task: Task) -> SceneOutcome:
        """Compare a pair and enter it in the ledger; a failure is entered, not raised.

        That it is begun is written first, so that a pair that takes the process down with it is
        known by that, and has its next turn after the others.

        Raises:
            OutputError: if results cannot be written: no other pair's could be.
            JobError: if the ledger cannot be written.
        """
        if task.run.interruptions >= MOST_INTERRUPTIONS:
            return self._set_aside(task.run)
        try:
            before, after = self.locate(task.before), self.locate(task.after)
        except NotThereError as error:  # a matter of what is there, not of the pair
            return replace(outcome_of(self.job, task.run), status="waiting", reason=str(error))
        except SceneError as error:
            return self._failed(task.run, error)
        began = datetime.now(UTC)
        run = replace(
            task.run,
            status="started",
            interruptions=task.run.interruptions + 1,
            started_at=began,
        )
        self.ledger.save(run)
        try:
            watch = time.monotonic()
            made = self._change(run, before, after)
            changes = ChangePolygons.among(made.files)
            run = self._finished(run, made, changes, time.monotonic() - watch)
        except OutputError:
            raise
        except Exception as error:
            return self._failed(run, error)
        run = _told_before(run, task.replaced)
        self.ledger.settle(run, changes.rows(run), task.replaced)
        return outcome_of(self.job, run)

    def _change(self, run: Run, before: Path, after: Path) -> MadeChange:
        return self.change(
            before,
            after,
            output=self.job.output,
            name=run.stem,
            before_date=run.before_date.date(),
            after_date=run.after_date.date(),
            overwrite=True,  # what a killed run put in place without entering it
            **self.comparison.options,
        )

    def _finished(self, run: Run, made: MadeChange, changes: ChangePolygons, seconds: float) -> Run:
        summary = made.summary
        limit, changed_ha = self.job.alert_area_ha, summary.get("changed_area_ha")
        alert = limit is not None and changed_ha is not None and changed_ha >= limit
        bounds = changes.bounds
        return replace(
            run,
            status="done",
            attempts=0,
            interruptions=0,
            reason=None,
            valid_share=summary.get("valid_share"),
            shift_px=_length(summary.get("shift_px")),
            changed_pixels=summary.get("changed_pixels"),
            changed_share=summary.get("changed_share"),
            changed_area_ha=changed_ha,
            polygons=changes.count,
            alert=alert,
            webhook="due" if alert and self.job.webhook else None,
            bounds=None if bounds is None else json.dumps(bounds),
            summary=_without_names(summary),
            files=json.dumps({what: path.name for what, path in made.files.items()}),
            seconds=round(seconds, 2),
            finished_at=datetime.now(UTC),
        )

    def _failed(self, run: Run, error: Exception) -> SceneOutcome:
        attempts = run.attempts + 1
        run = replace(
            run,
            status="set_aside" if attempts > self.job.retries else "failed",
            attempts=attempts,
            interruptions=0,
            reason=reason_of(error, self.note),
            finished_at=datetime.now(UTC),
        )
        self.ledger.settle(run, (), ())
        return outcome_of(self.job, run)

    def _set_aside(self, run: Run) -> SceneOutcome:
        reason = f"the process ended {run.interruptions} times while it was compared"
        now = datetime.now(UTC)
        run = replace(run, status="set_aside", interruptions=0, reason=reason, finished_at=now)
        self.ledger.settle(run, (), ())
        return outcome_of(self.job, run)


def _told_before(run: Run, replaced: Sequence[Run]) -> Run:
    """A run whose alert is not told again where that of the same two scenes was."""
    same = [
        each
        for each in replaced
        if (each.before_sha256, each.after_sha256) == (run.before_sha256, run.after_sha256)
    ]
    if not run.alert or not same:
        return run
    posted = next((each for each in same if each.webhook == "delivered"), None)
    return replace(
        run,
        announced=any(each.announced for each in same),
        webhook=run.webhook if posted is None else posted.webhook,
        webhook_at=None if posted is None else posted.webhook_at,
    )


def _without_names(summary: Mapping[str, Any]) -> str:
    """A summary as JSON, less the names of the scenes, which the ledger has by itself.

    Of one content there may come files of several names, and any may be the one that was read.
    """
    told = {key: value for key, value in summary.items() if key not in ("before", "after")}
    return json.dumps(told, ensure_ascii=False, default=str)


def _length(shift: Any) -> float | None:
    """How far scenes are shifted, in any direction."""
    if isinstance(shift, dict):
        shift = math.hypot(shift.get("rows", 0), shift.get("cols", 0))
    return None if shift is None else round(float(shift), 3)


def outcome_of(job: Job, run: Run) -> SceneOutcome:
    """What is told of a run."""
    done = run.status == "done"
    files: dict[str, str] = json.loads(run.files) if done and run.files else {}
    return SceneOutcome(
        job=job.name,
        scene=run.after_name,
        date=date_text(run.after_date),
        status="compared" if done else "set_aside" if run.status == "set_aside" else "failed",
        before=run.before_name,
        before_date=date_text(run.before_date),
        changed_area_ha=run.changed_area_ha,
        polygons=run.polygons,
        alert=run.alert,
        reason=run.reason,
        files={what: str(Path(job.output, name)) for what, name in files.items()},
        seconds=run.seconds,
    )


def remove_superseded(ledger: Ledger, output: Path, note: Callable[[str], None]) -> None:
    """Remove the files of superseded runs, then their entries: a kill in between is made good.

    A file that cannot be removed, as somebody has it open, is noted, and the entry stays.
    """
    for run in ledger.runs().values():
        if run.status != "superseded":
            continue
        try:
            for path in [*output.glob(f"{run.stem}[._]*"), *output.glob(f".{run.stem}.*")]:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        except OSError as error:
            note(f"{error.filename} cannot be removed: {error.strerror}; the next run tries again")
        else:
            ledger.forget(run)
