"""A job, run once: take in what arrived, compare what is to be compared, tell what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geoseg.jobs.alert import Alert, AlertDelivery
from geoseg.jobs.comparison import ChangeDetector, MadeChange
from geoseg.jobs.feed import write_feed
from geoseg.jobs.foresight import foresee
from geoseg.jobs.job_file import Job, load_job
from geoseg.jobs.ledger import Ledger, open_ledger, read_ledger
from geoseg.jobs.outcome import SceneOutcome
from geoseg.jobs.processing import Processor, remove_superseded
from geoseg.jobs.reception import receive
from geoseg.jobs.records import Run, SceneRecord
from geoseg.jobs.work import ARRIVING, Work

__all__ = ["JobRun", "run_job"]


@dataclass(frozen=True, slots=True)
class JobRun:
    """What a run of a job did."""

    outcomes: tuple[SceneOutcome, ...]
    """What became of each scene that the run had to do with."""
    alerts: int
    """How many alerts are new: no earlier run that came to its end has told of them."""


def run_job(
    job: Job | str | Path,
    *,
    dry_run: bool = False,
    retry: bool = False,
    wait_s: float = 0,
    tell: Callable[[SceneOutcome], None] | None = None,
    note: Callable[[str], None] | None = None,
    change: ChangeDetector | None = None,
) -> JobRun:
    """Run a job: compare the scenes that arrived since, and nothing twice.

    It may be called as often as one likes, be killed at any moment and called again. What the
    ledger says in the end depends on the set of scenes and the job file, not on the order in
    which scenes arrived, nor on what was interrupted.

    Args:
        job: a job file, or a loaded one.
        dry_run: only say what would be done.
        retry: give what was set aside another chance.
        wait_s: how long to wait for another process that runs the same job.
        tell: called with what became of each scene, once it is in the ledger.
        note: called with lines for people.
        change: compares two scenes; `geoseg.change` unless a test gives another.

    Raises:
        InputError: if the job file, or something that it names, makes no sense.
        AtWorkError: if another process runs the job.
        JobError: if the ledger or the catalogue does not answer.
        OutputError: if results cannot be written.
    """
    work = Work.of(job if isinstance(job, Job) else load_job(job))
    place, name = work.job.ledger, work.job.name
    outcomes: list[SceneOutcome] = []
    note = note or (lambda line: None)

    def told(outcome: SceneOutcome) -> None:
        outcomes.append(outcome)
        if tell is not None:
            tell(outcome)

    if dry_run:
        with read_ledger(place, name) as known:
            for outcome in foresee(work, known, note):
                told(outcome)
        return JobRun(tuple(outcomes), 0)
    with open_ledger(place, name, wait_s=wait_s) as ledger:
        if retry:
            ledger.save(*_given_another_chance(ledger))
        delivery = AlertDelivery(work.job, ledger, note)
        delivery.deliver()  # what a run raised that did not come to its end
        for outcome in _bring_up_to_date(work, ledger, change or _change, note):
            if outcome.alert:
                delivery.deliver()
                _write_feeds(work.job, ledger)
            told(outcome)
        _write_feeds(work.job, ledger)
        return JobRun(tuple(outcomes), _announce(ledger))


def _bring_up_to_date(
    work: Work, ledger: Ledger, change: ChangeDetector, note: Callable[[str], None]
) -> Iterator[SceneOutcome]:
    """Make the ledger say what the set of scenes demands, a scene at a time."""
    job, output = work.job, Path(work.job.output)
    remove_superseded(ledger, output, note)
    reception = receive(work.source, ledger, work.gauge, job, note=note)
    for line in work.source.notes:
        note(line)
    scenes = ledger.scenes()
    plan = work.plan(scenes, ledger.runs())
    for arrival in reception.arriving:
        yield work.outcome(arrival.name, arrival.date, "arriving", ARRIVING)
    alone = {scene.name for scene in plan.alone}
    for name in reception.read:
        scene = scenes[name]
        if scene.status != "clear":
            yield work.outcome(name, scene.date, scene.status, scene.reason)
        elif name in alone:
            yield work.outcome(name, scene.date, "no_counterpart")
    ledger.save(*plan.renamed)
    ledger.supersede(plan.stale)
    processor = Processor(job, ledger, work.comparison, work.locator(scenes), change, note)
    for task in plan.tasks:
        yield processor.process(task)
    remove_superseded(ledger, output, note)


def _write_feeds(job: Job, ledger: Ledger) -> None:
    alerts = [Alert.of(job.name, run) for run in _raised(ledger)] if job.feed else []
    for path in job.feed:
        write_feed(Path(path), job.name, alerts)


def _announce(ledger: Ledger) -> int:
    """Enter that the exit status tells of the alerts, and count those that none told of yet."""
    new = [run for run in _raised(ledger) if not run.announced]
    ledger.save(*(replace(run, announced=True) for run in new))
    return len(new)


def _raised(ledger: Ledger) -> list[Run]:
    """The runs whose alerts stand."""
    return [run for run in ledger.runs().values() if run.alert and run.status == "done"]


def _given_another_chance(ledger: Ledger) -> Iterator[SceneRecord | Run]:
    for scene in ledger.scenes().values():
        if scene.status == "set_aside":
            yield replace(scene, status="failed", attempts=0)
    for run in ledger.runs().values():
        if run.status == "set_aside":
            yield replace(run, status="failed", attempts=0)


def _change(before: Path, after: Path, **options: Any) -> MadeChange:
    from geoseg.change_detection import change  # its libraries cost a second

    return change(before, after, **options)
