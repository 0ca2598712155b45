"""New scenes are read once and entered in the ledger: what they hold, and how much they show."""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from geoseg.errors import GeosegError, OutputError
from geoseg.jobs.arrivals import Arrival, ArrivalSource, MissingAssetError, NotThereError, sha256_of
from geoseg.jobs.job_file import Job
from geoseg.jobs.ledger import Ledger
from geoseg.jobs.pairing import DatedScene, first_of_each
from geoseg.jobs.records import SceneRecord, SceneStatus
from geoseg.limits import MAX_PIXELS
from geoseg.raster.validity import invalid_share
from geoseg.vector.area_of_interest import AreaOfInterest

__all__ = ["Gauge", "Reception", "clear_scenes", "reason_of", "receive"]


@dataclass(frozen=True, slots=True)
class Gauge:
    """How the invalid share of a scene is measured."""

    area: AreaOfInterest | None
    nodata: float | None
    max_pixels: int

    @classmethod
    def of(cls, job: Job, area: AreaOfInterest | None) -> Gauge:
        """The gauge that a job asks for."""
        return cls(area, job.nodata, job.max_pixels or MAX_PIXELS)

    @property
    def sha256(self) -> str:
        """Of what the share depends on besides the scene."""
        settings = [None if self.area is None else self.area.sha256, self.nodata]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reception:
    """What arrived."""

    arriving: tuple[Arrival, ...]
    """Scenes that somebody may still be writing."""
    read: tuple[str, ...]
    """Names of the scenes that hold something new, or could not be read."""


def receive(
    source: ArrivalSource,
    ledger: Ledger,
    gauge: Gauge,
    job: Job,
    *,
    note: Callable[[str], None],
) -> Reception:
    """Read the scenes that the ledger does not know, and judge all again.

    A scene that cannot be read is tried again by later runs, and set aside after so many retries;
    new content gives it a new chance.

    Raises:
        JobError: if scenes cannot be listed, or the ledger cannot be written.
    """
    known, read = ledger.scenes(), []
    listed = (each for each in source.arrivals() if not job.excludes(each.name))
    arrivals = sorted(listed, key=lambda each: (each.date, each.name))
    for arrival in arrivals:
        record = known.get(arrival.name)
        hidden = _hidden(arrival, record, gauge, job.max_cloud)
        if hidden is not None:
            if record is None or (hidden.reason, hidden.status) != (record.reason, record.status):
                ledger.save(hidden)
                read.append(arrival.name)
            continue
        again = record is not None and (record.status == "failed" or _was_hidden(record))
        if arrival.arriving or (_is_known(record, arrival, gauge) and not again):
            continue
        try:
            received = _read(arrival, record, source, gauge, job.retries, note)
        except NotThereError as error:
            note(str(error))
            continue
        ledger.save(received)
        if record is None or received.sha256 is None or received.sha256 != record.sha256:
            read.append(arrival.name)
    ledger.save(*_judged(ledger.scenes().values(), job))
    return Reception(tuple(each for each in arrivals if each.arriving), tuple(read))


def _hidden(
    arrival: Arrival, record: SceneRecord | None, gauge: Gauge, max_cloud: float
) -> SceneRecord | None:
    """The entry of a scene that is not read, for the clouds that somebody states."""
    if arrival.cloud_cover is None or arrival.cloud_cover <= max_cloud:
        return None
    return SceneRecord(
        name=arrival.name, date=arrival.date, source=arrival.source,
        fingerprint=arrival.fingerprint, measured=gauge.sha256,
        seen_at=datetime.now(UTC) if record is None else record.seen_at,
        status="cloudy", attempts=0, invalid_share=None, sha256=None,
        reason=f"its eo:cloud_cover is {arrival.cloud_cover:.1%}; max_cloud is {max_cloud:.1%}",
    )  # fmt: skip


def _was_hidden(record: SceneRecord) -> bool:
    return record.status in ("cloudy", "excluded") and record.sha256 is None


def _is_known(record: SceneRecord | None, arrival: Arrival, gauge: Gauge) -> bool:
    """Whether a record is about what is there now, measured as it is to be measured."""
    now = (arrival.fingerprint, arrival.date, gauge.sha256)
    return record is not None and (record.fingerprint, record.date, record.measured) == now


def _read(
    arrival: Arrival,
    record: SceneRecord | None,
    source: ArrivalSource,
    gauge: Gauge,
    retries: int,
    note: Callable[[str], None],
) -> SceneRecord:
    """What the ledger is to say of a scene."""
    entered = partial(
        SceneRecord, name=arrival.name, date=arrival.date, source=arrival.source,
        fingerprint=arrival.fingerprint, measured=gauge.sha256,
        seen_at=datetime.now(UTC) if record is None else record.seen_at,
    )  # fmt: skip
    try:
        path = source.fetch(arrival)
        sha256 = sha256_of(path)
        area = None if gauge.area is None else gauge.area.carried_into
        share = invalid_share(path, area, nodata=gauge.nodata, max_pixels=gauge.max_pixels)
        source.fetch(arrival)  # it is still what it was
    except OutputError:  # the disk is full: no other scene would fare better
        raise
    except Exception as error:
        if isinstance(error, NotThereError) and not isinstance(error, MissingAssetError):
            raise
        before = record.attempts if record and _is_known(record, arrival, gauge) else 0
        return entered(
            status="failed" if before < retries else "set_aside", attempts=before + 1,
            reason=reason_of(error, note), invalid_share=None, sha256=None,
        )  # fmt: skip
    return entered(status="clear", attempts=0, reason=None, invalid_share=share, sha256=sha256)


def _judged(records: Collection[SceneRecord], job: Job) -> Iterator[SceneRecord]:
    """The records whose judgement changes, for a new limit or other scenes beside them."""
    clear = [
        each for each in records if _is_clear(each, job.max_cloud) and not job.excludes(each.name)
    ]
    first = {each.sha256: each.name for each in first_of_each(map(_dated, clear))}
    for record in records:
        status: SceneStatus = "clear"
        reason = None
        if job.excludes(record.name):
            status, reason = "excluded", "the job file excludes it"
        elif record.invalid_share is None:
            continue
        elif not _is_clear(record, job.max_cloud):
            status = "cloudy"
            reason = (
                f"{record.invalid_share:.1%} of the area has no data; "
                f"max_cloud is {job.max_cloud:.1%}"
            )
        elif first[str(record.sha256)] != record.name:
            status, reason = "duplicate", f"the same content as {first[str(record.sha256)]}"
        if (status, reason) != (record.status, record.reason):
            yield replace(record, status=status, reason=reason)


def _is_clear(record: SceneRecord, max_cloud: float) -> bool:
    share = 1.0 if record.invalid_share is None else record.invalid_share
    return share <= max_cloud and share < 1


def _dated(record: SceneRecord) -> DatedScene:
    return DatedScene(record.date, record.name, str(record.sha256))


def clear_scenes(records: Iterable[SceneRecord]) -> list[DatedScene]:
    """The scenes that can be compared."""
    return [_dated(record) for record in records if record.status == "clear"]


def reason_of(error: Exception, note: Callable[[str], None]) -> str:
    """Why something failed, in a line; what nobody foresaw is noted with its traceback."""
    if not isinstance(error, GeosegError):
        note("".join(traceback.format_exception(error)).rstrip())
    return " ".join(str(error).split()) or type(error).__name__
