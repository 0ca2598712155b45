"""The ledger: what GIS programs find in it, and that processes do not get in each other's way."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import geopandas
import pytest
from killed_job import start, storm
from made_jobs import BROKEN, UNLUCKY, contents, difference, fake_change, put_scene, write_job
from made_jobs import counting as counting_change

from geoseg.errors import JobError
from geoseg.jobs.ledger import AtWorkError, open_ledger
from geoseg.jobs.run import run_job
from geoseg.jobs.status import job_status


@pytest.fixture(params=["geopackage", "postgis"])
def ledger(request: pytest.FixtureRequest) -> str:
    """What a job file says as `ledger`: nothing, or an empty schema of a real server."""
    if request.param == "geopackage":
        return ""
    import psycopg

    url = request.getfixturevalue("database")
    schema = "geoseg_job_test"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    return f"{url}{'&' if '?' in url else '?'}schema={schema}"


def put_series(folder: Path) -> None:
    greys = (10, 13, BROKEN, 15, UNLUCKY, 12, 14)
    for month, grey in enumerate(greys, 1):
        put_scene(folder / "in", f"lake_2020{month:02}01.tif", grey)
    put_scene(folder / "in", "lake_20200801.tif", 90, invalid=0.75)


def run_until_settled(job: Path) -> None:
    for _ in range(3):
        run_job(job, change=fake_change)


def compared(log: Path) -> list[str]:
    return [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []


def test_a_geopackage_is_what_the_standard_says(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    put_series(tmp_path)
    run_until_settled(job)
    ledger = tmp_path / "out/ledger.gpkg"
    with sqlite3.connect(ledger) as found:
        assert found.execute("PRAGMA application_id").fetchone()[0] == int.from_bytes(b"GPKG")
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert found.execute("PRAGMA foreign_key_check").fetchall() == []
        kinds = dict(found.execute("SELECT table_name, data_type FROM gpkg_contents"))
        (indexed,) = found.execute("SELECT count(*) FROM rtree_changes_geom").fetchone()
        extent = found.execute(
            "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = 'changes'"
        ).fetchone()
    found.close()
    assert kinds == {"changes": "features", "scenes": "attributes", "runs": "attributes",
                     "layer_styles": "attributes"}  # fmt: skip
    changes = geopandas.read_file(ledger, layer="changes")
    assert changes.crs.to_epsg() == 4326
    assert len(changes) == indexed > 0
    assert changes.geometry.is_valid.all()
    assert extent == pytest.approx(tuple(changes.total_bounds), abs=2e-5)  # in float32
    assert set(changes["from"]) == {"trees"}
    assert str(changes["date_after"].dt.date.max()) == "2020-07-01"
    in_metres = changes.to_crs(32614)
    assert in_metres.area.to_numpy() == pytest.approx(100, rel=1e-6)
    assert in_metres.total_bounds[0] == pytest.approx(500_000, abs=1e-3)


@pytest.mark.skipif(not shutil.which("ogrinfo"), reason="GDAL's own programs are not installed")
def test_gdal_itself_reads_it_without_a_word(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    put_series(tmp_path)
    run_until_settled(job)
    done = subprocess.run(
        ["ogrinfo", "-al", "-so", tmp_path / "out/ledger.gpkg"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    layers = [f"Layer name: {name}" for name in ("changes", "runs", "scenes")]
    fields = ["date_before: Date (0.0)", "seen_at: DateTime (0.0)", "alert: Integer(Boolean)"]
    assert [line for line in (*layers, *fields) if line not in done.stdout] == []


ASK_QGIS = """
import os, sys
from qgis.core import QgsApplication, QgsVectorLayer
app = QgsApplication([], False)
app.initQgis()
for name in ("changes", "runs", "scenes"):
    layer = QgsVectorLayer(f"{sys.argv[1]}|layername={name}", name, "ogr")
    print(name, layer.isValid(), layer.featureCount(), flush=True)
    if name == "changes":
        print(layer.renderer().symbol().symbolLayer(0).strokeColor().name(), flush=True)
os._exit(0)
"""


def test_qgis_itself_opens_it(tmp_path: Path) -> None:
    python = shutil.which("python3", path="/usr/bin")
    asked = [python or "python3", "-c", "import qgis"]
    if python is None or subprocess.run(asked, check=False, capture_output=True).returncode:
        pytest.skip("no QGIS here: apt-get install python3-qgis")
    job = write_job(tmp_path)
    put_series(tmp_path)
    run_until_settled(job)
    done = subprocess.run(
        [python, "-c", ASK_QGIS, tmp_path / "out/ledger.gpkg"], capture_output=True, text=True,
        check=True, env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )  # fmt: skip
    counts = {what: len(rows) for what, rows in contents(job).items()}
    assert done.stdout.split("\n")[:4] == [
        f"changes True {counts['changes']}", "#e8590c", f"runs True {counts['runs']}",
        f"scenes True {counts['scenes']}",
    ]  # fmt: skip


@pytest.mark.parametrize("ledger", ["postgis"], indirect=True)
def test_postgis_says_what_a_geopackage_says(tmp_path: Path, database: str, ledger: str) -> None:
    import psycopg

    put_series(tmp_path)
    late = tmp_path / "in/lake_20200201.tif"
    aside = late.rename(tmp_path / "late.tif")
    jobs = [tmp_path / "gpkg.yaml", tmp_path / "postgis.yaml"]
    for job, place in zip(jobs, ("", ledger), strict=True):
        write_job(tmp_path, ledger=place, output=job.stem).rename(job)
        run_job(job, change=fake_change)
    aside.rename(late)
    for job in jobs:
        run_until_settled(job)
    one, other = (contents(job) for job in jobs)
    for row in range(len(one["changes"])):
        assert one["changes"][row][:200] == other["changes"][row][:200]
    assert one == other
    assert "schema" not in job_status(jobs[1]).ledger
    with psycopg.connect(database) as connection:
        found = connection.execute(
            "SELECT count(*), bool_and(ST_IsValid(geom)), min(ST_SRID(geom)) "
            "FROM geoseg_job_test.changes"
        ).fetchone()
    assert found == (len(one["changes"]), True, 4326)


def test_a_file_that_is_no_ledger(tmp_path: Path) -> None:
    other = tmp_path / "other.gpkg"
    geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([1], [2], crs=4326)).to_file(other)
    before = other.read_bytes()
    with pytest.raises(JobError, match="is no ledger of geoseg"):
        run_job(write_job(tmp_path, ledger="other.gpkg"), change=fake_change)
    (tmp_path / "text.gpkg").write_text("words, and more words")
    with pytest.raises(JobError, match="cannot be used: file is not a database"):
        run_job(write_job(tmp_path, ledger="text.gpkg"), change=fake_change)
    assert other.read_bytes() == before


def test_an_unreachable_database_shows_no_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    job = write_job(tmp_path, ledger="postgresql://me:secret@127.0.0.1:9/none")
    with pytest.raises(JobError, match=r"127\.0\.0\.1/none") as caught:
        run_job(job, change=fake_change)
    assert "secret" not in str(caught.value)


def test_jobs_share_a_ledger_and_keep_apart(tmp_path: Path, ledger: str) -> None:
    put_series(tmp_path)
    for name in ("one", "two"):
        run_job(write_job(tmp_path, name=name, ledger=ledger), change=fake_change)
    together = contents(write_job(tmp_path, name="two", ledger=ledger))
    assert len(together["scenes"]) == 16
    assert all("started" not in row for row in together["runs"])
    run_job(write_job(tmp_path, name="two", ledger=ledger, min_area="3px"), change=fake_change)
    now = contents(write_job(tmp_path, name="one", ledger=ledger))
    for table in ("scenes", "runs", "changes"):
        ours = [row for row in together[table] if '"job": "one"' in row]
        assert [row for row in now[table] if '"job": "one"' in row] == ours != []


def test_one_process_at_a_time(tmp_path: Path, ledger: str) -> None:
    job = write_job(tmp_path, ledger=ledger)
    place = ledger or str(tmp_path / "out/ledger.gpkg")
    with open_ledger(place, "lake"):
        with pytest.raises(AtWorkError):
            run_job(job, change=fake_change)
        began = time.monotonic()
        with pytest.raises(AtWorkError):
            run_job(job, change=fake_change, wait_s=0.5)
        assert time.monotonic() - began >= 0.5
        assert job_status(job).scenes == ()  # who only looks need not wait
    run_job(job, change=fake_change)


def test_two_at_once_do_the_work_once(tmp_path: Path, ledger: str) -> None:
    put_series(tmp_path)
    job, log = write_job(tmp_path, ledger=ledger), tmp_path / "log"
    twins = [start(job, log, pause_s=0.02, wait_s=60) for _ in range(2)]
    for twin in twins:
        _, errors = twin.communicate(timeout=120)
        assert (twin.returncode, errors) == (0, b"")
    done = compared(log)
    unlucky = {name for name in done if done.count(name) > 1}
    assert all("20200501" in name for name in unlucky)  # it failed, and the second tried again
    assert len(set(done)) == 5


@pytest.mark.slow
def test_killed_for_real(tmp_path: Path, ledger: str) -> None:
    """SIGKILL: nothing is cleaned up, and no lock is left behind."""
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    put_series(calm)
    run_until_settled(write_job(calm, retries=2))
    arrivals = sorted((calm / "in").iterdir())
    random.Random(4).shuffle(arrivals)
    job, log = write_job(stormy, ledger=ledger, retries=2), tmp_path / "log"

    killed = storm(job, arrivals, log, kills=12, longest_s=0.5, seed=4)
    assert killed == 12
    run_until_settled(job)
    assert difference(contents(job), contents(calm / "job.yaml")) == []
    assert not list((stormy / "out").glob(".*.geoseg"))


LAKE = Path(os.environ.get("GEOSEG_TEST_DATA", "no-such-folder"), "naip_prairie_series")


@pytest.mark.slow
@pytest.mark.skipif(not LAKE.is_dir(), reason="GEOSEG_TEST_DATA names no folder with the series")
def test_a_lake_killed_for_real(tmp_path: Path) -> None:
    """Four dates with the real comparison; tests/benchmarks/killed_lake.py takes all and longer."""
    keys = {"pattern": "*_{date:%Y%m%d}.tif", "sensor": "naip", "nodata": 0, "min_area": "0.5ha"}
    arrivals = sorted(LAKE.glob("*.tif"))[:4]
    calm, stormy = (write_job(tmp_path / name, **keys) for name in ("calm", "stormy"))
    for path in arrivals:
        shutil.copy2(path, calm.parent / "in")
    began = time.monotonic()
    run_job(calm)
    pair_s = (time.monotonic() - began) / 3
    late = [arrivals[each] for each in (2, 0, 3, 1)]
    storm(stormy, late, tmp_path / "log", kills=3, longest_s=pair_s, seed=1, pause_s="real")
    run_job(stormy)
    assert difference(contents(stormy), contents(calm)) == []


def test_what_is_done_is_not_done_again(tmp_path: Path, ledger: str) -> None:
    put_series(tmp_path)
    job, log = write_job(tmp_path, ledger=ledger), tmp_path / "log"
    for _ in range(4):
        run_job(job, change=counting_change(log))
    done = compared(log)
    assert sorted(done.count(name) for name in set(done)) == [1, 1, 1, 1, 3]  # two retries
