"""A job whose method is a model, from the files that arrive to the polygons in the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from conftest import SIX
from made_jobs import write_job

import geoseg
from geoseg.errors import InputError

SAMPLE = Path(__file__).parents[1] / "docs/sample/raleigh_landsat7_2000-03-31.tif"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """Three dates of the sample: as it is, with city where there was wood, and as that again."""
    with rasterio.open(SAMPLE) as scene:
        window = rasterio.windows.Window(200, 40, 160, 256)
        pixels, profile = scene.read(window=window), scene.profile
        transform = scene.window_transform(window)
    profile |= {"height": 256, "width": 160, "transform": transform}
    city = pixels.copy()
    city[:, 190:215, 40:70] = pixels[:, 25:50, 110:140]
    for day, scene_of_day in ((1, pixels), (9, city), (17, city)):
        path = tmp_path / f"in/lake_200004{day:02d}.tif"
        path.parent.mkdir(exist_ok=True)
        noisy = np.where(scene_of_day == profile["nodata"], scene_of_day, scene_of_day + day // 8)
        with rasterio.open(path, "w", **profile) as out:
            out.write(noisy.astype(profile["dtype"]))
            out.descriptions = SIX
    return write_job(
        tmp_path, method="model", min_area="9px", to=["built"], alert_area_ha=10, force=True
    )


def test_the_default_model_in_a_job(job: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "geoseg.cli", "job", "run", "--quiet", str(job)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 10, done.stderr  # the alert rule fired
    told = {line["date"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert [told[day]["status"] for day in sorted(told)] == [
        "no_counterpart", "compared", "compared"
    ]  # fmt: skip
    new = told["2000-04-09"]
    assert 0.5 * 750 * 0.09 < new["changed_area_ha"] < 1.5 * 750 * 0.09  # of 25 x 30 pixels
    assert told["2000-04-17"]["changed_area_ha"] == 0
    assert (new["alert"], told["2000-04-17"]["alert"]) == (True, False)
    changes = pyogrio.read_dataframe(tmp_path / "out/ledger.gpkg", layer="changes")
    assert set(changes["to"]) == {"built"}
    assert set(changes["from"]) <= set(geoseg.load_bundle("landcover").card.legend.names)
    assert set(changes["date_after"].astype(str)) == {"2000-04-09"}
    runs = pyogrio.read_dataframe(tmp_path / "out/ledger.gpkg", layer="runs")
    assert set(runs["model_sha256"]) == {geoseg.load_bundle("landcover").sha256}
    again = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (again.returncode, again.stdout) == (0, "")
    assert geoseg.job_status(job).counts == {"clear": 1, "compared": 2}


def test_a_wrong_class_or_model_is_said_before_anything_is_compared(
    job: Path, tmp_path: Path
) -> None:
    for keys, said in (
        ({"to": ["castles"]}, "no class is called 'castles'"),
        ({"model": "none-such"}, "no model at none-such"),
    ):
        with pytest.raises(InputError, match=said):
            geoseg.run_job(write_job(tmp_path, **{"method": "model", **keys}))
    assert not (tmp_path / "out").exists()
