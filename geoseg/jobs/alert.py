"""What people are told when the alert rule fires, and how it is delivered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests

from geoseg.jobs.job_file import Job
from geoseg.jobs.ledger import Ledger
from geoseg.jobs.outcome import date_text
from geoseg.jobs.records import Run

__all__ = ["Alert", "deliver_alerts"]

TIMEOUT_S = (5, 20)
"""To connect, and to be answered."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert, as feeds and webhooks have it."""

    urn: str
    """The same for the same pair, however often it is delivered."""
    title: str
    text: str
    raised_at: str
    """ISO 8601, UTC."""
    bounds: tuple[float, float, float, float] | None
    """West, south, east, north of the changes, degrees."""
    facts: dict[str, Any]
    """The figures."""

    @classmethod
    def of(cls, job: str, run: Run) -> Alert:
        """The alert of a run whose rule fired."""
        since, until = date_text(run.before_date), date_text(run.after_date)
        area = f"{run.changed_area_ha or 0:,.2f} ha"
        bounds = None if run.bounds is None else json.loads(run.bounds)
        summary = json.loads(run.summary or "{}")
        facts = {
            "job": job,
            "scene": run.after_name,
            "date": until,
            "before": run.before_name,
            "before_date": since,
            "changed_area_ha": run.changed_area_ha,
            "polygons": run.polygons,
            "transitions": summary.get("transitions", []),
            "bounds": bounds,
            "files": json.loads(run.files or "{}"),
        }
        return cls(
            urn=f"urn:geoseg:{job}:{run.key}",
            title=f"{job}: {area} changed between {since} and {until}",
            text=f"{run.polygons or 0:,} changes of {area} together, between {run.before_name} "
            f"of {since} and {run.after_name} of {until}.",
            raised_at=_iso(run.finished_at),
            bounds=None if bounds is None else tuple(bounds),
            facts=facts,
        )


def deliver_alerts(job: Job, ledger: Ledger, note: Callable[[str], None]) -> None:
    """Post the alerts that are due to the webhook; each is posted until it was taken once.

    What was taken is entered in the ledger afterwards, so a kill in between makes one come
    twice, with the same id. A failure is entered too, and fails nothing.

    Raises:
        JobError: if the ledger cannot be written.
    """
    if job.webhook is None:
        return
    host = urlsplit(job.webhook).hostname  # the rest may hold a secret
    for run in ledger.runs().values():
        if run.webhook != "due" or run.status != "done":
            continue
        alert = Alert.of(job.name, run)
        reason = _post(job.webhook, {"id": alert.urn, "title": alert.title, **alert.facts})
        taken = reason is None
        ledger.save(
            replace(
                run,
                webhook="delivered" if taken else "due",
                webhook_attempts=run.webhook_attempts + 1,
                webhook_reason=reason,
                webhook_at=datetime.now(UTC) if taken else None,
            )
        )
        if not taken:
            note(f"the alert was not delivered to {host}: {reason}; the next run tries again")
            return  # the others would wait as long for the same answer


def _post(url: str, payload: dict[str, Any]) -> str | None:
    """Why a payload was not taken, None when it was."""
    try:
        answer = requests.post(
            url,
            json=payload,
            timeout=TIMEOUT_S,
            headers={"Idempotency-Key": payload["id"]},
            allow_redirects=False,
        )
    except requests.RequestException as error:
        return f"no answer ({type(error).__name__})"
    return None if answer.ok and answer.status_code < 300 else f"status {answer.status_code}"


def _iso(date: datetime | None) -> str:
    date = date or datetime.fromtimestamp(0, UTC)
    return date.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
