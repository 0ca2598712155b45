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

__all__ = ["Alert", "AlertDelivery"]

TIMEOUT_S = (5, 20)
"""To connect, and to be answered."""

TAKEN = (*range(200, 300), 409)
"""Statuses of what was taken, 409 from one who knows the id from before."""

BUSY = (408, 429, *range(500, 600))
"""Statuses that speak of the receiver, and not of the alert."""


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


class AlertDelivery:
    """Posts the alerts that are due to the webhook, each once in a run until it was taken.

    What was taken is entered in the ledger afterwards, so a kill in between makes one come
    twice, with the same id. A failure is entered too, and fails nothing.

    Args:
        job: says where to.
        ledger: says what is due.
        note: called with what was not taken, a line for people.
    """

    def __init__(self, job: Job, ledger: Ledger, note: Callable[[str], None]) -> None:
        self._job, self._ledger, self._note = job, ledger, note
        self._tried: set[str] = set()
        self._given_up = job.webhook is None

    def deliver(self) -> None:
        """Post what is due and was not tried yet.

        Raises:
            JobError: if the ledger cannot be written.
        """
        if self._given_up:
            return
        for run in self._ledger.runs().values():
            if run.webhook == "due" and run.status == "done" and run.key not in self._tried:
                self._tried.add(run.key)
                self._post(run)
                if self._given_up:
                    return

    def _post(self, run: Run) -> None:
        alert, url = Alert.of(self._job.name, run), str(self._job.webhook)
        answer = _answer(url, {"id": alert.urn, "title": alert.title, **alert.facts})
        taken = answer in TAKEN
        reason = None if taken else answer if isinstance(answer, str) else f"status {answer}"
        self._ledger.save(
            replace(
                run,
                webhook="delivered" if taken else "due",
                webhook_attempts=run.webhook_attempts + 1,
                webhook_reason=reason,
                webhook_at=datetime.now(UTC) if taken else None,
            )
        )
        if taken:
            return
        host = urlsplit(url).hostname  # the rest may hold a secret
        self._note(
            f"the alert of {run.after_name} was not delivered to {host}: {reason}; the next run "
            "tries again"
        )
        # the others would wait as long for the same answer
        self._given_up = isinstance(answer, str) or answer in BUSY


def _answer(url: str, payload: dict[str, Any]) -> int | str:
    """The status that answered a payload, or why there was none."""
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
    return answer.status_code


def _iso(date: datetime | None) -> str:
    date = date or datetime.fromtimestamp(0, UTC)
    return date.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
