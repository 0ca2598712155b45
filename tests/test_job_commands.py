"""geoseg job on the command line: lines, exit statuses, and what is on which stream."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from made_jobs import put_scene, write_job

from geoseg.jobs.ledger import open_ledger


def geoseg(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "geoseg.cli", "job", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def put_texture(folder: Path, name: str, seed: int, square: int = 0) -> None:
    """A scene of 60 x 60 pixels of 10 m of one texture, with a bright square somewhere."""
    ground = np.random.default_rng(5).normal(100, 10, (3, 60, 60))
    pixels = ground + np.random.default_rng(seed).normal(0, 1, ground.shape)
    pixels[:, 10 : 10 + square, 20 : 20 + square] += 100
    place = {"crs": "EPSG:32614", "transform": Affine(10, 0, 500_000, 0, -10, 5_200_000)}
    profile = {"driver": "GTiff", "count": 3, "height": 60, "width": 60, "dtype": "uint8"} | place
    with rasterio.open(folder / name, "w", **profile) as out:
        out.descriptions = ("red", "green", "blue")
        out.write(pixels.clip(1, 255).astype(np.uint8))


@pytest.mark.parametrize("method", ["cva", "irmad"])
def test_a_job_with_the_real_comparison(tmp_path: Path, method: str) -> None:
    job = write_job(tmp_path, method=method, alert_area_ha=1)
    put_texture(tmp_path / "in", "lake_20200101.tif", 1)
    put_texture(tmp_path / "in", "lake_20200201.tif", 2, square=15)
    foreseen = geoseg("run", job, "--dry-run")
    assert foreseen.returncode == 0, foreseen.stderr
    assert not (tmp_path / "out").exists()
    done = geoseg("run", job)
    assert done.returncode == 10, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["status"], second["status"], second["alert"]) == (
        "no_counterpart", "compared", True,
    )  # fmt: skip
    assert second["changed_area_ha"] == pytest.approx(2.25, abs=0.2)
    assert all(Path(path).is_file() for path in second["files"].values())
    assert "ALERT" in done.stderr
    again = geoseg("run", job)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "nothing new\n")
    shown = geoseg("status", job)
    assert shown.returncode == 0
    heads, *rows = shown.stdout.splitlines()
    assert heads.split()[:2] == ["date", "scene"]
    assert [row.split()[0] for row in rows] == ["2020-01-01", "2020-02-01"]
    told = json.loads(geoseg("status", job, "--json").stdout)
    assert told["counts"] == {"clear": 1, "compared": 1}


def test_a_bad_job_file_is_one_line_and_status_2(tmp_path: Path) -> None:
    for keys in ({"max_clouds": 1}, {"area": "none.gpkg"}, {"min_area": "much"},
                 {"method": "model", "model": "none"}, {"scenes": "none"},
                 {"method": "model", "from": "nonsense"}):  # fmt: skip
        done = geoseg("run", write_job(tmp_path, **keys))
        assert (done.returncode, done.stdout) == (2, ""), keys
        assert done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_status_1(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    done = geoseg("run", write_job(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr


def test_another_process_at_work_is_status_0(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    put_scene(tmp_path / "in", "lake_20200101.tif", 1)
    with open_ledger(str(tmp_path / "out/ledger.gpkg"), "lake"):
        done = geoseg("run", job)
    assert (done.returncode, done.stdout) == (0, "")
    assert "another process" in done.stderr


def test_the_schema_is_json() -> None:
    assert json.loads(geoseg("schema").stdout)["title"] == "geoseg job"
