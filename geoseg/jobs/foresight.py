"""What a run of a job would do: looked at, not done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from geoseg.jobs.arrivals import Arrival
from geoseg.jobs.ledger import Ledger
from geoseg.jobs.outcome import SceneOutcome
from geoseg.jobs.processing import outcome_of
from geoseg.jobs.records import Run, SceneRecord
from geoseg.jobs.work import ARRIVING, Work

__all__ = ["foresee"]

UNREAD = "if it turns out clear, which a dry run does not look at"


def foresee(work: Work, ledger: Ledger | None, note: Callable[[str], None]) -> list[SceneOutcome]:
    """What a run would do if all new scenes turned out clear. Nothing is read but names.

    Raises:
        JobError: if scenes cannot be listed, or the ledger cannot be read.
    """
    scenes = {} if ledger is None else ledger.scenes()
    runs = {} if ledger is None else ledger.runs()
    arrivals = [each for each in work.source.arrivals() if not work.job.excludes(each.name)]
    scenes = {name: each for name, each in scenes.items() if not work.job.excludes(name)}
    for line in work.source.notes:
        note(line)
    arriving = [each for each in arrivals if each.arriving]
    new = {
        each.name: _as_if_clear(each)
        for each in arrivals
        if not each.arriving
        and _is_new(each, scenes.get(each.name))
        and (each.cloud_cover or 0) <= work.job.max_cloud
    }
    counted = {key: run for key, run in runs.items() if run.status != "superseded"}
    plan = work.plan(scenes | new, counted)
    removed = [*plan.stale, *(run for task in plan.tasks for run in task.replaced)]
    outcomes = [work.outcome(each.name, each.date, "arriving", ARRIVING) for each in arriving]
    for task in plan.tasks:
        unread = {task.before.name, task.after.name} & new.keys()
        outcome = outcome_of(work.job, task.run)
        outcomes.append(replace(outcome, status="to_compare", reason=UNREAD if unread else None))
    outcomes += [_to_remove(work, run) for run in removed]
    alone = [each for each in plan.alone if each.name in new]
    outcomes += [work.outcome(each.name, each.date, "to_read") for each in alone]
    return sorted(outcomes, key=lambda each: (each.date, each.scene))


def _is_new(arrival: Arrival, known: SceneRecord | None) -> bool:
    return known is None or known.fingerprint != arrival.fingerprint


def _as_if_clear(arrival: Arrival) -> SceneRecord:
    return SceneRecord(
        arrival.name, arrival.date, "clear", None, 0.0, 0, f"not read: {arrival.name}",
        arrival.source, arrival.fingerprint, "", arrival.date,
    )  # fmt: skip


def _to_remove(work: Work, run: Run) -> SceneOutcome:
    reason = "its scene is compared with another now, or in another way"
    return replace(outcome_of(work.job, run), status="to_remove", reason=reason, files={})
