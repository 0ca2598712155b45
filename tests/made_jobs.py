"""Jobs that tests share: tiny scenes, a comparison that costs nothing, and a ledger's contents."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import rasterio
import shapely
import yaml
from affine import Affine

from geoseg.errors import SceneError
from geoseg.jobs.geopackage import HEADER, GeoPackageDatabase
from geoseg.jobs.job_file import Job, load_job
from geoseg.jobs.postgis import PostgisDatabase
from geoseg.outputs import staged

SIDE = 8
"""Scenes are so many pixels of 10 m wide and high."""

BROKEN = -1
"""Instead of a grey value: a file that is no scene."""

UNLUCKY = 66
"""The comparison of a scene of this grey value fails."""


def put_scene(folder: Path, name: str, grey: int, invalid: float = 0.0) -> Path:
    """A scene of one grey value, a share of whose rows, from the top, has no data."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / name
    if grey == BROKEN:
        path.write_bytes(b"this is no scene")
        return path
    pixels = np.full((2, SIDE, SIDE), grey, np.uint8)
    pixels[:, : round(invalid * SIDE)] = 0
    profile = {"driver": "GTiff", "count": 2, "height": SIDE, "width": SIDE, "dtype": "uint8",
               "crs": "EPSG:32614", "nodata": 0,
               "transform": Affine(10, 0, 500_000, 0, -10, 5_200_000)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as out:
        out.write(pixels)
    return path


def write_job(folder: Path, **keys: Any) -> Path:
    """A job file for scenes in the folder's folder `in`."""
    (folder / "in").mkdir(exist_ok=True, parents=True)
    usual: dict[str, Any] = {
        "name": "lake", "pattern": "lake_{date:%Y%m%d}*.tif", "settle_seconds": 0,
        "method": "cva", "output": "out", "retries": 2, "max_cloud": 0.5,
    }  # fmt: skip
    if "stac" not in keys:
        usual["scenes"] = "in"
    else:
        del usual["pattern"]
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(usual | keys), encoding="utf-8")
    return path


@dataclass(frozen=True)
class FakeChanged:
    files: Mapping[str, Path]
    summary: Mapping[str, Any]


def fake_change(before: Path, after: Path, **options: Any) -> FakeChanged:
    """Stands for `geoseg.change`: as much changed as the grey values differ, in squares."""
    greys = []
    for path in (before, after):
        with rasterio.open(path) as dataset:
            greys.append(int(dataset.read(1).max()))
    if greys[1] == UNLUCKY:
        raise SceneError("the scenes cannot be compared")
    count = abs(greys[1] - greys[0])
    stem = options["name"]
    names = {"change": f"{stem}.tif", "polygons": f"{stem}_polygons.gpkg",
             "summary": f"{stem}_summary.json"}  # fmt: skip
    summary = {
        "method": options["method"], "before": before.name, "after": after.name,
        "valid_share": 1.0, "shift_px": {"rows": 0.3, "cols": -0.4},
        "changed_pixels": count, "changed_share": count / 64, "changed_area_ha": count / 100,
        "polygons": count, "transitions": [],
    }  # fmt: skip
    with staged(
        Path(options["output"]), stem, list(names.values()), overwrite=options["overwrite"]
    ) as staging:
        staging.path(names["change"]).write_bytes(bytes(greys))
        _write_squares(staging.path(names["polygons"]), count)
        staging.path(names["summary"]).write_text(json.dumps(summary))
        paths = staging.put_in_place(list(names.values()))
    return FakeChanged(dict(zip(names, paths, strict=True)), summary)


def _write_squares(path: Path, count: int) -> None:
    squares = [shapely.box(500_000 + 10 * i, 5_199_990, 500_010 + 10 * i, 5_200_000)
               for i in range(count)]  # fmt: skip
    frame = geopandas.GeoDataFrame(
        {"from": ["trees"] * count, "to": ["water"] * count, "area_m2": [100.0] * count,
         "conf_mean": [0.75] * count},
        geometry=geopandas.GeoSeries(squares, crs=32614),
    )  # fmt: skip
    pyogrio.write_dataframe(frame, path, layer=path.stem, geometry_type="Polygon")


def log_line(log: Path, text: str) -> None:
    """Add a line to a file, whole even where several processes do."""
    with log.open("ab", buffering=0) as out:
        out.write(f"{os.getpid()} {text}\n".encode())


def counting(log: Path, pause_s: float = 0) -> Callable[..., FakeChanged]:
    """The fake, which notes what it was asked in a file that several processes may share."""

    def change(before: Path, after: Path, **options: Any) -> FakeChanged:
        log_line(log, options["name"])
        time.sleep(pause_s)
        return fake_change(before, after, **options)

    return change


HISTORY = {"fid", "source", "fingerprint", "seen_at", "seconds", "started_at", "finished_at",
           "webhook_at", "webhook_attempts", "webhook_reason"}  # fmt: skip
"""Columns that tell of when and how, not of what is."""


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What is there and should not be, or should be and is not, a line each."""
    lines = []
    for what in wanted:
        one, other = Counter(map(str, found[what])), Counter(map(str, wanted[what]))
        if what == "files":
            one, other = (
                Counter(map(str, found[what].items())),
                Counter(map(str, wanted[what].items())),
            )
        lines += [f"too much in {what}: {each}" for each in (one - other).elements()]
        lines += [f"missing in {what}: {each}" for each in (other - one).elements()]
    return lines


def contents(job: Path | Job) -> dict[str, Any]:
    """All that a job's ledger says, and the files that it left, but for times and paths."""
    job = load_job(job) if isinstance(job, Path) else job
    remote = job.ledger.startswith("postgresql")
    database = PostgisDatabase(job.ledger) if remote else GeoPackageDatabase(Path(job.ledger))
    tables = {}
    for table in ("scenes", "runs", "changes"):
        rows = database.execute(f"SELECT * FROM {table}")  # noqa: S608
        if table == "changes":
            query = "SELECT fid, ST_AsBinary(geom) AS geom FROM changes" if remote else (
                "SELECT fid, geom FROM changes")  # fmt: skip
            shapes = {row["fid"]: bytes(row["geom"]) for row in database.execute(query)}
            start = 0 if remote else HEADER.size
            rows = [row | {"geom": shapely.from_wkb(shapes[row["fid"]][start:]).normalize().wkt}
                    for row in rows]  # fmt: skip
        tables[table] = sorted(
            json.dumps(_told(row, str(job.output)), sort_keys=True, default=str) for row in rows
        )
    database.close()
    output = Path(job.output)
    files = {
        path.name: sha256(path.read_bytes()).hexdigest() if path.suffix == ".tif" else ""
        for path in (output.iterdir() if output.exists() else ())
        if "ledger" not in path.name
    }
    return {**tables, "files": files}


def _told(row: dict[str, Any], output: str) -> dict[str, Any]:
    told = {key: value for key, value in row.items() if key not in HISTORY}
    for key in ("alert", "announced"):
        if key in told:
            told[key] = bool(told[key])
    for key, value in told.items():
        if isinstance(value, str) and value.endswith(("Z", "+00:00")):
            told[key] = value[:19]
    if told.get("reason"):
        told["reason"] = told["reason"].replace(str(Path(output).parent), "")
    if told.get("summary"):
        told["summary"] = {k: v for k, v in json.loads(told["summary"]).items() if k != "seconds"}
    return told
