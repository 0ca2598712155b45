"""What is to be done: the pairs that there should be, less those that the ledger holds."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from geoseg.jobs.comparison import Comparison
from geoseg.jobs.pairing import DatedScene, PairingRule, pair_scenes
from geoseg.jobs.records import Run

__all__ = ["Plan", "Task", "make_plan"]

SETTLED = ("done", "set_aside")


@dataclass(frozen=True, slots=True)
class Task:
    """A pair to compare."""

    before: DatedScene
    after: DatedScene
    run: Run
    """Its entry in the ledger, as it is or as it will begin."""
    replaced: tuple[Run, ...]
    """Runs of the same scene that this one supersedes once it is done."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job has to do for the ledger to say what the set of scenes demands."""

    tasks: tuple[Task, ...]
    """Pairs to compare. Those that ended a run before come last, so that they hold up no other."""
    alone: tuple[DatedScene, ...]
    """Scenes that there is nothing to compare with."""
    stale: tuple[Run, ...]
    """Runs that nothing replaces."""
    renamed: tuple[Run, ...]
    """Runs whose scenes have other names now; the content is the same."""


def make_plan(
    scenes: Iterable[DatedScene],
    runs: Mapping[str, Run],
    rule: PairingRule,
    comparison: Comparison,
    job: str,
    *,
    failed: Container[str] = (),
) -> Plan:
    """Find what is missing and what is too much.

    The pairs that there should be depend on the set of scenes, the rule and the settings alone,
    and so does what the ledger says when all of a plan is done.

    Args:
        scenes: the clear ones.
        runs: what the ledger holds, by key.
        rule: what each scene is compared with.
        comparison: how.
        job: the job's name, with which the names of files begin.
        failed: names of the scenes that could not be read: nobody knows what they show now.
    """
    pairs = pair_scenes(scenes, rule)
    wanted = {comparison.key(b, a): (b, a) for a, b in pairs if b is not None}
    key_of = {after.sha256: key for key, (_, after) in wanted.items()}
    replaced: dict[str, list[Run]] = {}
    stale = []
    for run in runs.values():
        if run.key in wanted:
            continue
        successor = key_of.get(run.after_sha256)
        following = None if successor is None else runs.get(successor)
        # what is of use stays until there is something in its place
        if run.status != "done" or (following is not None and following.status == "done"):
            stale.append(run)
        elif successor is not None:
            replaced.setdefault(successor, []).append(run)
        elif run.after_name not in failed:
            stale.append(run)
    tasks = [
        Task(
            before,
            after,
            runs.get(key) or _new_run(key, before, after, comparison, job),
            tuple(replaced.get(key, ())),
        )
        for key, (before, after) in wanted.items()
        if not _is_settled(runs.get(key))
    ]
    return Plan(
        tuple(sorted(tasks, key=lambda task: (task.run.interruptions, task.after))),
        tuple(after for after, before in pairs if before is None),
        tuple(stale),
        tuple(_renamed(runs, wanted)),
    )


def _is_settled(run: Run | None) -> bool:
    return run is not None and run.status in SETTLED


def _new_run(
    key: str, before: DatedScene, after: DatedScene, comparison: Comparison, job: str
) -> Run:
    return Run(
        key=key,
        status="started",
        before_name=before.name,
        before_date=before.date,
        after_name=after.name,
        after_date=after.date,
        before_sha256=before.sha256,
        after_sha256=after.sha256,
        method=comparison.method,
        model_sha256=comparison.model_sha256,
        settings_sha256=comparison.settings_sha256,
        stem=f"{job}_{after.date:%Y%m%d}_since_{before.date:%Y%m%d}_{key[:12]}",
    )


def _renamed(
    runs: Mapping[str, Run], wanted: Mapping[str, tuple[DatedScene, DatedScene]]
) -> Iterable[Run]:
    for key, (before, after) in wanted.items():
        run = runs.get(key)
        if run and (run.before_name, run.after_name) != (before.name, after.name):
            yield replace(run, before_name=before.name, after_name=after.name)
