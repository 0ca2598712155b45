"""Jobs: whatever arrives in whatever order, whatever is killed when, the ledger ends the same."""

from __future__ import annotations

import gc
import math
import os
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyogrio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_jobs import (
    BROKEN,
    UNLUCKY,
    FakeChanged,
    contents,
    counting,
    difference,
    fake_change,
    put_scene,
    write_job,
)

from geoseg.errors import InputError, JobError, OutputError, SceneError
from geoseg.jobs import geopackage
from geoseg.jobs.arrivals import Arrival, FolderArrivals
from geoseg.jobs.geopackage import GeoPackageDatabase
from geoseg.jobs.outcome import SceneOutcome
from geoseg.jobs.processing import MOST_INTERRUPTIONS
from geoseg.jobs.run import JobRun, run_job
from geoseg.jobs.status import job_status

# Python 3.13 says so of connections that a played kill left behind.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")

RETRIES = 2


@pytest.fixture(autouse=True, scope="module")
def kills_but_no_power_cuts() -> Iterator[None]:
    """Nothing waits for the disk: a process that is killed leaves its writes to the system."""

    careful = geopackage._connect

    def hasty(path: Path) -> sqlite3.Connection:
        connection = careful(path)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": "OFF"})
    with patch.object(geopackage, "_connect", hasty):
        yield
    pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": None})


ARRIVALS: dict[str, tuple[int, float]] = {
    "lake_20200101.tif": (10, 0),
    "lake_20200108.tif": (13, 0),
    "lake_20200108_again.tif": (13, 0),  # the same content and date
    "lake_20200115.tif": (90, 0.75),  # clouds
    "lake_20200122.tif": (BROKEN, 0),
    "lake_20200129.tif": (UNLUCKY, 0),
    "lake_20200205.tif": (14, 0.25),
    "lake_20200212.tif": (14, 0.25),  # the same content on another date
}
"""Grey value and share without data of scenes by name."""


def run(job: Path, **options: Any) -> JobRun:
    return run_job(job, **({"change": fake_change} | options))


def until_settled(job: Path) -> None:
    for _ in range(RETRIES + 1):
        run(job)


def statuses(done: JobRun) -> dict[str, str]:
    return {Path(each.scene).stem[5:]: each.status for each in done.outcomes}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path, alert_area_ha=0.03, retries=RETRIES)


def test_a_job_from_its_first_scene_on(job: Path, tmp_path: Path) -> None:
    scenes = tmp_path / "in"
    assert run(job) == JobRun((), 0)
    put_scene(scenes, "lake_20200101.tif", 10)
    assert statuses(run(job)) == {"20200101": "no_counterpart"}
    put_scene(scenes, "lake_20200108.tif", 13)
    done = run(job)
    (outcome,) = done.outcomes
    assert (outcome.status, outcome.before_date, outcome.changed_area_ha) == (
        "compared", "2020-01-01", 0.03,
    )  # fmt: skip
    assert outcome.alert
    assert done.alerts == 1
    assert all(Path(path).is_file() for path in outcome.files.values())
    assert run(job) == JobRun((), 0)


def test_a_late_arrival_takes_its_place_in_time(job: Path, tmp_path: Path) -> None:
    scenes, log = tmp_path / "in", tmp_path / "log"
    put_scene(scenes, "lake_20200101.tif", 10)
    put_scene(scenes, "lake_20200301.tif", 15)
    first = run(job, change=counting(log)).outcomes[-1]
    put_scene(scenes, "lake_20200201.tif", 11)
    done = run(job, change=counting(log))
    told = [(each.date, each.before_date, each.changed_area_ha) for each in done.outcomes]
    assert told == [("2020-02-01", "2020-01-01", 0.01), ("2020-03-01", "2020-02-01", 0.04)]
    assert len(log.read_text().splitlines()) == 3
    assert not any(Path(path).exists() for path in first.files.values())
    assert len(contents(job)["changes"]) == 5
    put_scene(scenes, "lake_20191201.tif", 12)
    assert statuses(run(job)) == {"20191201": "no_counterpart", "20200101": "compared"}


def test_what_fails_is_tried_again_then_set_aside(job: Path, tmp_path: Path) -> None:
    for name, (grey, invalid) in ARRIVALS.items():
        put_scene(tmp_path / "in", name, grey, invalid)
    for attempt in range(1, RETRIES + 2):
        last = "set_aside" if attempt > RETRIES else "failed"
        told = statuses(run(job))
        assert (told["20200122"], told["20200129"]) == (last, last)
    assert run(job) == JobRun((), 0)
    states = {each.scene[5:-4]: each for each in job_status(job).scenes}
    assert {name: each.status for name, each in states.items()} == {
        "20200101": "clear", "20200108": "compared", "20200108_again": "duplicate",
        "20200115": "cloudy", "20200122": "set_aside", "20200129": "set_aside",
        "20200205": "compared", "20200212": "duplicate",
    }  # fmt: skip
    assert states["20200205"].before_date == "2020-01-29"  # a scene is good, though its pair is not
    assert "75.0%" in str(states["20200115"].reason)
    told = statuses(run(job, retry=True))
    assert told == {"20200122": "failed", "20200129": "failed"}


def test_new_content_gives_a_scene_a_new_chance(job: Path, tmp_path: Path) -> None:
    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    put_scene(tmp_path / "in", "lake_20200108.tif", BROKEN)
    until_settled(job)
    put_scene(tmp_path / "in", "lake_20200108.tif", 12)
    assert statuses(run(job)) == {"20200108": "compared"}
    put_scene(tmp_path / "in", "lake_20200108.tif", 17)
    (redone,) = run(job).outcomes
    assert redone.changed_area_ha == 0.07
    assert len(contents(job)["runs"]) == 1


def test_a_bug_is_noted_and_the_job_goes_on(job: Path, tmp_path: Path) -> None:
    def buggy(before: Path, after: Path, **options: Any) -> FakeChanged:
        if "20200108" in after.name:
            raise ZeroDivisionError("by nothing")
        return fake_change(before, after, **options)

    for day, grey in (("01", 10), ("08", 11), ("15", 12)):
        put_scene(tmp_path / "in", f"lake_202001{day}.tif", grey)
    notes: list[str] = []
    told = run(job, change=buggy, note=notes.append)
    assert statuses(told)["20200115"] == "compared"
    assert [each.reason for each in told.outcomes if each.status == "failed"] == ["by nothing"]
    assert "Traceback" in "".join(notes)


def test_a_full_disk_ends_the_job_and_counts_as_no_attempt(job: Path, tmp_path: Path) -> None:
    def full(before: Path, after: Path, **options: Any) -> FakeChanged:
        raise OutputError("no space left")

    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    put_scene(tmp_path / "in", "lake_20200108.tif", 12)
    for _ in range(RETRIES + 3):
        with pytest.raises(OutputError):
            run(job, change=full)
    assert statuses(run(job)) == {"20200108": "compared"}


def test_other_settings_redo_what_can_be_redone(job: Path, tmp_path: Path) -> None:
    for day, grey in (("01", 10), ("08", 11), ("15", 15)):
        put_scene(tmp_path / "in", f"lake_202001{day}.tif", grey)
    run(job)
    (tmp_path / "in/lake_20200101.tif").unlink()
    write_job(tmp_path, alert_area_ha=0.03, retries=RETRIES, min_area="9px")
    for _ in range(RETRIES + 2):
        told = statuses(run(job))
        assert told["20200108"] == "waiting"
    status = {each.scene: each.status for each in job_status(job).scenes}
    assert status["lake_20200108.tif"] == "compared"  # what was known is kept
    assert len(contents(job)["runs"]) == 2


def test_what_fails_in_a_new_way_leaves_what_was_known(job: Path, tmp_path: Path) -> None:
    """A mistake in the job file costs nothing that was done before."""
    for day, grey in (("01", 10), ("08", 11), ("15", 15)):
        put_scene(tmp_path / "in", f"lake_202001{day}.tif", grey)
    files = [Path(path) for each in run(job).outcomes for path in each.files.values()]
    before = contents(job)

    def refusing(before: Path, after: Path, **options: Any) -> FakeChanged:
        raise SceneError("which band is red is not known")

    write_job(tmp_path, alert_area_ha=0.03, retries=RETRIES, min_area="9px")
    for _ in range(RETRIES + 2):
        run(job, change=refusing)
    assert all(path.is_file() for path in files)
    assert len(contents(job)["changes"]) == len(before["changes"]) == 5
    write_job(tmp_path, alert_area_ha=0.03, retries=RETRIES)
    assert run(job) == JobRun((), 0)  # the alert is no news, nothing is done again
    assert difference(contents(job), before) == []


def test_a_scene_that_cannot_be_read_any_more_keeps_its_changes(job: Path, tmp_path: Path) -> None:
    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    put_scene(tmp_path / "in", "lake_20200108.tif", 12)
    run(job)
    put_scene(tmp_path / "in", "lake_20200108.tif", BROKEN)
    for attempt in range(RETRIES + 2):
        told = statuses(run(job))
        assert told == ({"20200108": "failed"} if attempt < RETRIES else
                        {"20200108": "set_aside"} if attempt == RETRIES else {})  # fmt: skip
        assert len(contents(job)["changes"]) == 2
    put_scene(tmp_path / "in", "lake_20200108.tif", 13)
    assert statuses(run(job)) == {"20200108": "compared"}
    assert len(contents(job)["changes"]) == 3


def test_an_alert_told_once_is_not_told_again_in_another_way(job: Path, tmp_path: Path) -> None:
    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    put_scene(tmp_path / "in", "lake_20200108.tif", 15)
    assert run(job).alerts == 1
    write_job(tmp_path, alert_area_ha=0.03, retries=RETRIES, min_area="2px")
    done = run(job)
    assert ([each.status for each in done.outcomes], done.alerts) == (["compared"], 0)
    assert len(contents(job)["runs"]) == 1


def test_a_pair_that_ends_the_process_is_set_aside_in_the_end(job: Path, tmp_path: Path) -> None:
    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    put_scene(tmp_path / "in", "lake_20200108.tif", 12)

    def deadly(before: Path, after: Path, **options: Any) -> FakeChanged:
        raise Killed

    for _ in range(MOST_INTERRUPTIONS):
        with pytest.raises(Killed):
            run(job, change=deadly)
    (outcome,) = run(job, change=deadly).outcomes
    assert (outcome.status, outcome.reason) == (
        "set_aside", "the process ended 10 times while it was compared",
    )  # fmt: skip
    assert run(job, change=deadly) == JobRun((), 0)
    assert statuses(run(job, retry=True)) == {"20200108": "compared"}


def test_what_the_job_file_excludes_is_withdrawn(job: Path, tmp_path: Path) -> None:
    for day, grey in (("01", 10), ("08", 40), ("15", 12)):
        put_scene(tmp_path / "in", f"lake_202001{day}.tif", grey)
    put_scene(tmp_path / "in", "lake_20200122.tif", BROKEN)
    assert run(job).alerts == 2
    (tmp_path / "in/lake_20200108.tif").unlink()  # it was of another lake
    told = {"alert_area_ha": 0.03, "retries": RETRIES}
    write_job(tmp_path, exclude=["lake_20200108.tif", "*22.tif"], **told)
    planned = {Path(each.scene).stem[5:]: each.status for each in run(job, dry_run=True).outcomes}
    assert planned["20200108"] == "to_remove"
    (outcome,) = run(job).outcomes
    assert (outcome.before_date, outcome.changed_area_ha) == ("2020-01-01", 0.02)
    assert len(contents(job)["runs"]) == 1
    states = {each.scene[5:-4]: each.status for each in job_status(job).scenes}
    assert states == {"20200101": "clear", "20200108": "excluded", "20200115": "compared",
                      "20200122": "excluded"}  # fmt: skip
    assert run(job) == JobRun((), 0)
    write_job(tmp_path, exclude="lake_20200108.tif", **told)
    assert statuses(run(job)) == {"20200122": "failed"}


def test_a_folder_that_cannot_be_listed_is_not_empty(job: Path, tmp_path: Path) -> None:
    def unreadable(top: Path, onerror: Callable[[OSError], None]) -> Iterator[Any]:
        onerror(PermissionError(13, "Permission denied", str(top)))
        yield from ()

    with patch("os.walk", unreadable), pytest.raises(JobError, match=r"in cannot be listed: Per"):
        run(job)


def test_a_name_that_is_no_text_is_mentioned(job: Path, tmp_path: Path) -> None:
    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    Path(os.fsdecode(bytes(tmp_path / "in") + b"/lake_20200108_\xff.tif")).write_bytes(b"")
    notes: list[str] = []
    assert statuses(run(job, note=notes.append)) == {"20200101": "no_counterpart"}
    assert "lake_20200108_\\udcff.tif is no scene: its name is not UTF-8" in notes


def test_a_result_that_somebody_has_open_holds_up_nothing(job: Path, tmp_path: Path) -> None:
    for day, grey in (("01", 10), ("31", 12)):
        put_scene(tmp_path / "in", f"lake_202001{day}.tif", grey)
    run(job)
    put_scene(tmp_path / "in", "lake_20200115.tif", 11)
    unlink = Path.unlink

    def held(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".gpkg":
            raise PermissionError(13, "Permission denied", str(self))
        unlink(self, missing_ok=missing_ok)

    notes: list[str] = []
    with patch.object(Path, "unlink", held):
        assert statuses(run(job, note=notes.append)) == {"20200115": "compared",
                                                         "20200131": "compared"}  # fmt: skip
    assert "cannot be removed: Permission denied; the next run tries again" in notes[-1]
    assert len(contents(job)["runs"]) == 3
    run(job)
    assert len(contents(job)["runs"]) == 2


def test_a_scene_that_cannot_be_fetched_fails_its_pair_alone(job: Path, tmp_path: Path) -> None:
    for day, grey in (("01", 10), ("08", 11), ("15", 15)):
        put_scene(tmp_path / "in", f"lake_202001{day}.tif", grey)
    run(job)
    write_job(tmp_path, retries=0, min_area="9px")
    fetch = FolderArrivals.fetch

    def refusing(self: FolderArrivals, arrival: Arrival) -> Path:
        if "20200101" in arrival.name:
            raise SceneError("the server answers with status 500")
        return fetch(self, arrival)

    with patch.object(FolderArrivals, "fetch", refusing):
        assert statuses(run(job)) == {"20200108": "set_aside", "20200115": "compared"}


def test_another_limit_of_clouds_judges_again_without_reading(job: Path, tmp_path: Path) -> None:
    for name, (grey, invalid) in list(ARRIVALS.items())[:4]:
        put_scene(tmp_path / "in", name, grey, invalid)
    assert statuses(run(job))["20200115"] == "cloudy"
    write_job(tmp_path, alert_area_ha=0.03, retries=RETRIES, max_cloud=0.8)
    assert statuses(run(job)) == {"20200115": "compared"}
    write_job(tmp_path, alert_area_ha=0.03, retries=RETRIES, max_cloud=0.1)
    run(job)
    assert len(contents(job)["runs"]) == 1


def test_a_scene_without_a_valid_pixel_is_never_compared(job: Path, tmp_path: Path) -> None:
    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    put_scene(tmp_path / "in", "lake_20200108.tif", 10, invalid=1)
    write_job(tmp_path, max_cloud=1)
    assert statuses(run(job))["20200108"] == "cloudy"


def test_a_file_that_is_being_written_is_left_alone(job: Path, tmp_path: Path) -> None:
    write_job(tmp_path, settle_seconds=60)
    path = put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    assert statuses(run(job)) == {"20200101": "arriving"}
    assert contents(job)["scenes"] == []
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert statuses(run(job)) == {"20200101": "no_counterpart"}


def test_a_file_that_changes_while_it_is_read_is_left_alone(job: Path, tmp_path: Path) -> None:
    from geoseg.jobs import reception

    path = put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    measure = reception.invalid_share

    def writing(*args: Any, **options: Any) -> float:
        share = measure(*args, **options)
        path.write_bytes(path.read_bytes() + b"more")
        return share

    with patch.object(reception, "invalid_share", writing):
        run(job)
    assert contents(job)["scenes"] == []


def test_results_are_no_scenes(tmp_path: Path) -> None:
    job = write_job(tmp_path, pattern="**/*{date:%Y%m%d}*.tif", output="in/out")
    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    put_scene(tmp_path / "in/deep", "lake_20200108.tif", 12)
    run(job)
    assert run(job) == JobRun((), 0)
    with pytest.raises(InputError, match="cannot go where scenes arrive"):
        run(write_job(tmp_path, output="in"))


def test_impossible_dates_are_mentioned(job: Path, tmp_path: Path) -> None:
    put_scene(tmp_path / "in", "lake_20201399.tif", 10)
    notes: list[str] = []
    assert run(job, note=notes.append).outcomes == ()
    assert "lake_20201399.tif is no scene" in notes[0]


def test_a_dry_run_says_what_is_done_then_and_writes_nothing(job: Path, tmp_path: Path) -> None:
    scenes = tmp_path / "in"
    put_scene(scenes, "lake_20200101.tif", 10)
    put_scene(scenes, "lake_20200301.tif", 13)

    def files() -> dict[Path, bytes]:
        return {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}

    before = files()
    assert statuses(run(job, dry_run=True)) == {"20200101": "to_read", "20200301": "to_compare"}
    assert files() == before
    run(job)
    put_scene(scenes, "lake_20200201.tif", 11)
    before = files()
    told = [(each.date, each.before_date, each.status) for each in run(job, dry_run=True).outcomes]
    assert files() == before
    assert told == [
        ("2020-02-01", "2020-01-01", "to_compare"),
        ("2020-03-01", "2020-02-01", "to_compare"),
        ("2020-03-01", "2020-01-01", "to_remove"),
    ]
    done = [(each.date, each.before_date) for each in run(job).outcomes]
    assert done == [(day, since) for day, since, status in told if status == "to_compare"]


def test_a_baseline_is_compared_with_all_that_is_later(tmp_path: Path) -> None:
    job = write_job(
        tmp_path, compare_with="baseline", baseline="base.tif", baseline_date="2020-01-05"
    )
    with pytest.raises(InputError, match="cannot be read"):
        run(job)
    put_scene(tmp_path, "base.tif", 20)
    for name, (grey, invalid) in ARRIVALS.items():
        put_scene(tmp_path / "in", name, grey, invalid)
    told = statuses(run(job))
    assert told["20200101"] == "no_counterpart"
    changes = {each.before_date for each in job_status(job).scenes if each.status == "compared"}
    assert changes == {"2020-01-05"}


class Killed(BaseException):
    """What a simulated kill raises: nothing catches it."""


@contextmanager
def killed_after(steps: int | None) -> Iterator[None]:
    """Simulate a kill after so many things that a run does to files or to the database."""
    left = [math.inf if steps is None else steps]

    def step() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    def before_and_after(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            step()
            result = function(*args, **options)
            step()
            return result

        return wrapped

    with ExitStack() as stack:
        for owner, name in (
            (GeoPackageDatabase, "execute"), (GeoPackageDatabase, "insert_changes"),
            (Path, "replace"), (Path, "unlink"),
        ):  # fmt: skip
            wrapped = before_and_after(getattr(owner, name))
            stack.enter_context(patch.object(owner, name, wrapped))
        yield


class Undisturbed:
    """What a job says that nothing ever disturbed, and folders to disturb others in."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        folder = self.fresh_folder()
        job = write_job(folder, alert_area_ha=0.03, retries=RETRIES)
        for name, (grey, invalid) in ARRIVALS.items():
            put_scene(folder / "in", name, grey, invalid)
        until_settled(job)
        self.contents = contents(job)

    def fresh_folder(self) -> Path:
        return self._folders.mktemp("job")

    def __repr__(self) -> str:
        return "undisturbed"


@pytest.fixture(autouse=True)
def _swept() -> Iterator[None]:
    """A kill that is only played leaves connections behind, which a real one takes along."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(tmp_path_factory)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    order=st.permutations(list(ARRIVALS)),
    kills=st.lists(st.one_of(st.none(), st.integers(0, 150)), min_size=8, max_size=8),
)
def test_any_order_and_any_kills_end_the_same(
    order: list[str],
    kills: list[int | None],
    undisturbed: Undisturbed,
) -> None:
    folder = undisturbed.fresh_folder()
    job = write_job(folder, alert_area_ha=0.03, retries=RETRIES)
    for name, kill in zip(order, kills, strict=True):
        put_scene(folder / "in", name, *ARRIVALS[name])
        with killed_after(kill), suppress(Killed):
            run(job)
    until_settled(job)
    assert difference(contents(job), undisturbed.contents) == []
    shutil.rmtree(folder)


@pytest.mark.slow
def test_every_single_kill_ends_the_same(tmp_path: Path, undisturbed: Undisturbed) -> None:
    """A late arrival is the busiest run; it is killed at each of its steps in turn."""
    first, late = tmp_path / "first", "lake_20200108.tif"
    job = write_job(first, alert_area_ha=0.03, retries=RETRIES)
    for name, scene in ARRIVALS.items():
        if name != late:
            put_scene(first / "in", name, *scene)
    run(job)
    for step in range(1000):
        folder = tmp_path / f"killed_{step}"
        shutil.copytree(first, folder)
        put_scene(folder / "in", late, *ARRIVALS[late])
        try:
            with killed_after(step):
                run(folder / "job.yaml")
            break
        except Killed:
            until_settled(folder / "job.yaml")
            assert difference(contents(folder / "job.yaml"), undisturbed.contents) == []
        shutil.rmtree(folder)
    assert step > 50


def test_outcomes_are_told_as_they_come(job: Path, tmp_path: Path) -> None:
    put_scene(tmp_path / "in", "lake_20200101.tif", 10)
    put_scene(tmp_path / "in", "lake_20200108.tif", 12)
    seen: list[SceneOutcome] = []

    def tell(outcome: SceneOutcome) -> None:
        entered = {each.scene: each.status for each in job_status(job).scenes}
        assert entered[outcome.scene] in ("clear", "compared")
        seen.append(outcome)

    assert run(job, tell=tell).outcomes == tuple(seen)
