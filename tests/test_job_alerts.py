"""Alerts: posted until they are taken, listed in feeds, and told by the exit status."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyogrio
import pytest
from made_jobs import contents, fake_change, put_scene, write_job

from geoseg.jobs.job_file import load_job
from geoseg.jobs.ledger import read_ledger
from geoseg.jobs.records import Run
from geoseg.jobs.run import JobRun, run_job

ATOM = "{http://www.w3.org/2005/Atom}"


class Hook:
    """A webhook that remembers what it was sent, and answers as it is told."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.status < 300:
                    assert self.headers["Content-Type"] == "application/json"
                    sent = json.loads(body)
                    assert self.headers["Idempotency-Key"] == sent["id"]
                    hook.taken.append(sent)
                self.send_response(hook.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret-path"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture
def job(tmp_path: Path, hook: Hook) -> Path:
    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    put_scene(tmp_path / "in", "lake_20200108.tif", 12)  # 0.02 ha, no alert
    put_scene(tmp_path / "in", "lake_20200115.tif", 17)  # 0.05 ha
    return write_job(
        tmp_path, alert_area_ha=0.05, webhook=hook.url, feed=["alerts.xml", "alerts.json"]
    )


def run(job: Path, notes: list[str] | None = None) -> JobRun:
    return run_job(job, change=fake_change, note=None if notes is None else notes.append)


def runs(job: Path) -> list[Run]:
    loaded = load_job(job)
    with read_ledger(loaded.ledger, loaded.name) as ledger:
        assert ledger is not None
        return list(ledger.runs().values())


def test_an_alert_is_posted_once(job: Path, hook: Hook) -> None:
    assert run(job).alerts == 1
    (sent,) = hook.taken
    assert (sent["scene"], sent["before_date"], sent["changed_area_ha"], sent["polygons"]) == (
        "lake_20200115.tif", "2020-01-08", 0.05, 5,
    )  # fmt: skip
    west, south, east, north = sent["bounds"]
    assert -99 <= west < east < -98.99
    assert 46.95 < south < north < 46.96
    assert run(job) == JobRun((), 0)
    assert len(hook.taken) == 1


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_is_not_taken_is_posted_again(job: Path, hook: Hook, status: int) -> None:
    hook.status, notes = status, list[str]()
    done = run(job, notes)
    assert (done.alerts, len(done.outcomes)) == (1, 3)  # the job itself went well
    assert f"status {status}" in notes[-1]
    assert "secret" not in " ".join(notes)
    (alert,) = [each for each in runs(job) if each.alert]
    assert (alert.webhook, alert.webhook_attempts) == ("due", 1)
    assert alert.webhook_reason == f"status {status}"
    hook.status = 204
    assert run(job).alerts == 0  # no news, though it is delivered only now
    assert len(hook.taken) == 1
    (alert,) = [each for each in runs(job) if each.alert]
    assert (alert.webhook, alert.webhook_attempts) == ("delivered", 2)
    assert alert.webhook_at is not None


def test_one_alert_that_is_refused_holds_up_no_other(tmp_path: Path, job: Path, hook: Hook) -> None:
    hook.status = 413
    assert run(job).alerts == 1
    put_scene(tmp_path / "in", "lake_20200122.tif", 29)
    hook.status = 409  # it has seen the id before
    notes: list[str] = []
    assert run(job, notes).alerts == 1
    assert notes == []
    assert [each.webhook for each in runs(job) if each.alert] == ["delivered"] * 2
    put_scene(tmp_path / "in", "lake_20200129.tif", 9)
    put_scene(tmp_path / "in", "lake_20200205.tif", 20)
    hook.status = 400
    assert run(job, notes).alerts == 2
    assert [note.partition(" was not delivered")[0] for note in notes] == [
        "the alert of lake_20200129.tif", "the alert of lake_20200205.tif",
    ]  # fmt: skip


def test_an_alert_is_out_before_the_next_pair_can_end_the_process(
    tmp_path: Path, job: Path, hook: Hook
) -> None:
    put_scene(tmp_path / "in", "lake_20200122.tif", 18)

    class KilledError(BaseException):
        pass

    def change(before: Path, after: Path, **options: Any) -> Any:
        if "20200122" in after.name:
            raise KilledError
        return fake_change(before, after, **options)

    with pytest.raises(KilledError):
        run_job(job, change=change)
    assert [sent["scene"] for sent in hook.taken] == ["lake_20200115.tif"]
    assert "lake_20200115.tif" in (tmp_path / "alerts.json").read_text()


def test_nobody_there(job: Path, hook: Hook) -> None:
    hook.close()
    notes: list[str] = []
    assert run(job, notes).alerts == 1
    assert "no answer" in notes[-1]
    hook._server.server_close()


def test_alerts_from_before_the_webhook_are_not_posted(
    tmp_path: Path, job: Path, hook: Hook
) -> None:
    url = hook.url
    write_job(tmp_path, alert_area_ha=0.05)
    run(job)
    write_job(tmp_path, alert_area_ha=0.05, webhook=url)
    run(job)
    assert hook.taken == []


def test_a_kill_before_the_end_does_not_swallow_an_alert(job: Path) -> None:
    """The exit status of the next run tells of it."""

    class KilledError(BaseException):
        pass

    def told(outcome: Any) -> None:
        if outcome.alert:
            raise KilledError

    with pytest.raises(KilledError):
        run_job(job, change=fake_change, tell=told)
    assert run(job).alerts == 1
    assert run(job).alerts == 0


def test_gdal_reads_the_atom_feed(job: Path, tmp_path: Path) -> None:
    run(job)
    frame = pyogrio.read_dataframe(tmp_path / "alerts.xml")
    assert len(frame) == 1
    assert "0.05 ha changed between 2020-01-08 and 2020-01-15" in frame["title"][0]
    assert frame.geometry[0].geom_type == "Polygon"
    assert frame.total_bounds == pytest.approx([-99.0, 46.9533, -98.9993, 46.9535], abs=1e-3)
    feed = ElementTree.parse(tmp_path / "alerts.xml").getroot()  # noqa: S314 (our own)
    for element in (feed, *feed.iter(f"{ATOM}entry")):  # what RFC 4287 demands
        for name in ("id", "title", "updated"):
            assert element.findtext(f"{ATOM}{name}")
    assert feed.find(f"{ATOM}author/{ATOM}name") is not None


def test_feeds_follow_the_ledger(job: Path, tmp_path: Path) -> None:
    run(job)
    feed, path = json.loads((tmp_path / "alerts.json").read_text()), tmp_path / "alerts.xml"
    assert feed["version"] == "https://jsonfeed.org/version/1.1"
    (item,) = feed["items"]
    assert item["_geoseg"]["date"] == "2020-01-15"
    written = path.stat().st_mtime_ns
    run(job)
    assert path.stat().st_mtime_ns == written  # nothing new, nothing written
    put_scene(tmp_path / "in", "lake_20200112.tif", 15)  # a late arrival: 0.03 and 0.02 ha
    run(job)
    assert json.loads((tmp_path / "alerts.json").read_text())["items"] == []
    assert len(pyogrio.read_info(path)["fields"]) >= 0
    assert all('"alert": false' in row for row in contents(job)["runs"])
    assert not list(tmp_path.glob(".alerts*"))
