"""Scenes that arrive as STAC items: on disk, as a static catalogue, from an API."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from made_jobs import contents, difference, fake_change, put_scene, write_job

from geoseg.errors import InputError, JobError, SceneError
from geoseg.jobs.arrivals import NotThereError
from geoseg.jobs.run import JobRun, run_job
from geoseg.jobs.stac import StacArrivals
from geoseg.jobs.status import job_status
from geoseg.raster.stack import stack_bands

GREYS = {"a": ("2020-01-01T10:00:00Z", 10), "b": ("2020-02-01T10:00:00Z", 12),
         "c": ("2020-03-01T11:00:00+01:00", 15)}  # fmt: skip


def item(
    name: str, *, href: str | None = None, bbox: Any = None, **properties: Any
) -> dict[str, Any]:
    day, _ = GREYS[name]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name,
        "bbox": bbox or [-99, 46, -98, 47], "geometry": None,
        "properties": {"datetime": day, **properties}, "links": [],
        "assets": {"image": {"href": href or f"./{name}.tif"}},
    }  # fmt: skip


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    """A static collection whose items lie in a subfolder, with their assets."""
    folder = tmp_path / "catalogue"
    for name, (_, grey) in GREYS.items():
        put_scene(folder / "items", f"{name}.tif", grey)
        (folder / f"items/{name}.json").write_text(json.dumps(item(name)))
    links = [{"rel": "item", "href": f"./items/{name}.json"} for name in GREYS]
    links += [{"rel": "self", "href": "collection.json"}, {"rel": "parent", "href": "../none.json"}]
    collection = {"type": "Collection", "id": "lake", "links": links}
    (folder / "collection.json").write_text(json.dumps(collection))
    return folder


class Server:
    """Serves a folder and counts what is asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.busy: tuple[str, ...] = ()
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                self.path = self.path.partition("?")[0]
                if self.path in server.busy:
                    self.send_error(503)
                    return
                super().do_GET()

            def log_message(self, *args: object) -> None:
                pass

        handler = functools.partial(Handler, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(catalogue: Path) -> Iterator[Server]:
    server = Server(catalogue)
    yield server
    server.close()


def run(job: Path) -> JobRun:
    return run_job(job, change=fake_change)


def told(done: JobRun) -> list[tuple[str, str, float | None]]:
    return [(each.scene, each.status, each.changed_area_ha) for each in done.outcomes]


EXPECTED = [("a", "no_counterpart", None), ("b", "compared", 0.02), ("c", "compared", 0.03)]


@pytest.mark.parametrize("place", ["catalogue/collection.json", "catalogue", "catalogue/items"])
def test_items_on_disk(tmp_path: Path, catalogue: Path, place: str) -> None:
    job = write_job(tmp_path, stac=place, assets="image")
    assert told(run(job)) == EXPECTED
    assert run(job) == JobRun((), 0)
    assert not (tmp_path / "out/.scenes").exists()  # they are here already


def test_a_catalogue_over_http(tmp_path: Path, server: Server) -> None:
    job = write_job(tmp_path, stac=f"{server.url}/collection.json", assets="image")
    outcomes = run(job).outcomes
    assert told(JobRun(outcomes, 0)) == EXPECTED
    assert outcomes[-1].date == "2020-03-01T10:00:00Z"
    server.asked.clear()
    assert run(job) == JobRun((), 0)
    assert not [path for path in server.asked if path.endswith(".tif")]  # nothing fetched twice


def test_pages_of_an_api_are_followed(tmp_path: Path, catalogue: Path, server: Server) -> None:
    pages = [["a"], ["b", "a"], ["c"]]
    for number, names in enumerate(pages):
        links = [{"rel": "next", "href": f"page{number + 1}.json?token=1"}] if number < 2 else []
        features = [
            item(name, href=f"{server.url}/items/{name}.tif?sig={number}") for name in names
        ]
        page = {"type": "FeatureCollection", "features": features, "links": links}
        (catalogue / f"page{number}.json").write_text(json.dumps(page))
    job = write_job(tmp_path, stac=f"{server.url}/page0.json", assets="image")
    assert told(run(job)) == EXPECTED
    for page in catalogue.glob("page*.json"):
        page.write_text(page.read_text().replace("sig=", "sig=renewed"))
    assert run(job) == JobRun((), 0)  # other signatures are no other scenes
    for page in catalogue.glob("page*.json"):
        page.write_text(page.read_text().replace('"datetime"', '"updated": "2021", "datetime"'))
    assert run(job) == JobRun((), 0)  # read again, and the content is the same


def test_items_away_from_the_area_are_left_out(tmp_path: Path, catalogue: Path) -> None:
    area = geopandas.GeoDataFrame(geometry=[shapely.box(500_000, 5_199_920, 500_080, 5_200_000)],
                                  crs=32614)  # fmt: skip
    area.to_file(tmp_path / "area.gpkg")
    (catalogue / "items/b.json").write_text(json.dumps(item("b", bbox=[10, 46, 11, 47])))
    job = write_job(tmp_path, stac="catalogue", assets="image", area="area.gpkg")
    assert [each[0] for each in told(run(job))] == ["a", "c"]


CLOUDY = {"eo:cloud_cover": 83.0}


def test_what_an_item_says_of_its_clouds_counts_for_all_of_it(
    tmp_path: Path, catalogue: Path, server: Server
) -> None:
    """Its pixels are not fetched while the limit is lower; with an area, nobody asks."""
    (catalogue / "items/b.json").write_text(json.dumps(item("b", **CLOUDY)))
    told_of: dict[str, Any] = {"stac": f"{server.url}/collection.json", "assets": "image"}
    job = write_job(tmp_path, **told_of)
    dry = run_job(job, dry_run=True)
    assert sorted(each.scene for each in dry.outcomes) == ["a", "c"]
    done = run(job)
    assert told(done) == [("a", "no_counterpart", None), ("b", "cloudy", None),
                          ("c", "compared", 0.05)]  # fmt: skip
    assert done.outcomes[1].reason == "its eo:cloud_cover is 83.0%; max_cloud is 50.0%"
    assert "/items/b.tif" not in server.asked
    assert run(job) == JobRun((), 0)
    assert told(run(write_job(tmp_path, max_cloud=0.9, **told_of))) == EXPECTED[1:]
    assert "/items/b.tif" in server.asked
    assert ("b", "cloudy", None) in told(run(write_job(tmp_path, max_cloud=0.8, **told_of)))
    left = contents(write_job(tmp_path, max_cloud=0.8, **told_of))
    fresh = write_job(tmp_path, max_cloud=0.8, output="fresh", **told_of)
    run(fresh)
    assert difference(left, contents(fresh)) == []
    lake = geopandas.GeoSeries([shapely.box(500_000, 5_199_920, 500_080, 5_200_000)], crs=32614)
    lake.to_file(tmp_path / "lake.gpkg")
    part = write_job(tmp_path, output="part", area="lake.gpkg", **told_of)
    for name in GREYS:
        place = item(name, bbox=[-180, -90, 180, 90], **CLOUDY)
        (catalogue / f"items/{name}.json").write_text(json.dumps(place))
    assert told(run(part)) == EXPECTED


@pytest.mark.parametrize("by", ["codes", "bits"])
def test_clouds_by_a_quality_asset(tmp_path: Path, catalogue: Path, by: str) -> None:
    """Coarser than the scene, and not as large: what it does not reach is not known."""
    quality = np.full((3, 4), 4, np.uint16)  # vegetation
    quality[1, 1:3] = 8 if by == "codes" else 4 | 1 << 10
    for name in GREYS:
        path = catalogue / f"items/{name}_scl.tif"
        with rasterio.open(catalogue / f"items/{name}.tif") as scene:
            transform = scene.transform @ Affine.scale(2)
        with rasterio.open(
            path, "w", driver="GTiff", count=1, height=3, width=4, dtype="uint16",
            crs="EPSG:32614", transform=transform,
        ) as out:  # fmt: skip
            out.write(quality[None] if name != "b" else np.full((1, 3, 4), quality[1, 1]))
        told_of = item(name)
        told_of["assets"]["scl"] = {"href": f"./{name}_scl.tif"}
        (catalogue / f"items/{name}.json").write_text(json.dumps(told_of))
    rule: dict[str, Any] = {"cloudy": [3, 8]} if by == "codes" else {"cloudy_bits": [3, 10]}
    job = write_job(tmp_path, stac="catalogue", assets="image", quality="scl", **rule)
    assert told(run(job)) == [("a", "no_counterpart", None), ("b", "cloudy", None),
                              ("c", "compared", 0.05)]  # fmt: skip
    shares = {scene.scene: scene.invalid_share for scene in job_status(job).scenes}
    assert shares == {"a": 24 / 64, "b": 1, "c": 24 / 64}  # 2 pixels of 2 x 2, and 2 rows of 8
    (masked,) = (tmp_path / "out/.scenes").rglob("a_*_bands.tif")
    with (
        rasterio.open(masked) as scene,
        rasterio.open(catalogue / "items/a.tif") as whole,
    ):
        assert (scene.read() == whole.read()).all()
        clear = np.kron(quality == 4, np.ones((2, 2), bool))
        expected = np.vstack([clear, np.zeros((2, 8), bool)])
        np.testing.assert_array_equal(scene.dataset_mask() != 0, expected)
    assert run(job) == JobRun((), 0)


def test_bands_in_files_of_their_own_become_one_scene(tmp_path: Path, catalogue: Path) -> None:
    for path in (catalogue / "items").glob("*.json"):
        one = json.loads(path.read_text())
        one["assets"] = {"red": one["assets"]["image"], "nir": one["assets"]["image"]}
        path.write_text(json.dumps(one))
    job = write_job(tmp_path, stac="catalogue", assets=["red", "nir"])
    assert told(run(job)) == EXPECTED
    stacked = sorted((tmp_path / "out/.scenes").rglob("*.tif"))
    assert len(stacked) == 3
    with rasterio.open(stacked[0]) as dataset, rasterio.open(catalogue / "items/a.tif") as one:
        assert dataset.descriptions == ("red", "nir")
        assert (dataset.nodata, dataset.transform, dataset.crs) == (0, one.transform, one.crs)
        assert np.array_equal(dataset.read(2), one.read(1))


def test_what_went_away_is_fetched_again_or_missed(
    tmp_path: Path, catalogue: Path, server: Server
) -> None:
    job = write_job(tmp_path, stac=f"{server.url}/collection.json", assets="image")
    run(job)
    (catalogue / "items/a.tif").unlink()
    for path in (tmp_path / "out/.scenes/lake").iterdir():
        path.unlink()
    write_job(tmp_path, stac=f"{server.url}/collection.json", assets="image", min_area="3px")
    assert told(run(job)) == [("b", "waiting", None), ("c", "compared", 0.03)]


def test_what_makes_no_sense_is_mentioned(tmp_path: Path, catalogue: Path, server: Server) -> None:
    (catalogue / "items/a.json").write_text(json.dumps(item("a", href="file:///etc/hosts")))
    (catalogue / "items/b.json").write_text(json.dumps(item("b", datetime=None)))
    source = StacArrivals(f"{server.url}/collection.json", ["image"], tmp_path / "cache")
    assert [each.name for each in source.arrivals()] == ["c"]
    assert "from another machine" in source.notes[0]
    assert "no datetime" in source.notes[1]
    lacking = StacArrivals(str(catalogue), ["visual"], tmp_path / "cache")
    assert list(lacking.arrivals()) == []
    assert "no asset 'visual'" in " ".join(lacking.notes)


def test_catalogues_that_do_not_answer(tmp_path: Path, server: Server) -> None:
    url = server.url
    with pytest.raises(InputError, match="does not exist"):
        run(write_job(tmp_path, stac="nowhere.json", assets="image"))
    with pytest.raises(JobError, match=r"cannot be read as STAC: status 404"):
        run(write_job(tmp_path, stac=f"{url}/none.json?key=secret", assets="image"))
    server.close()
    with pytest.raises(JobError, match="no answer") as caught:
        run(write_job(tmp_path, stac=f"{url}/none.json?key=secret", assets="image"))
    assert "secret" not in str(caught.value)
    assert contents(tmp_path / "job.yaml")["runs"] == []


def test_an_asset_that_is_not_there_fails_its_scene_alone(
    tmp_path: Path, catalogue: Path, server: Server
) -> None:
    (catalogue / "items/b.tif").unlink()
    job = write_job(tmp_path, stac=f"{server.url}/collection.json", assets="image", retries=0)
    assert told(run(job)) == [
        ("a", "no_counterpart", None), ("b", "set_aside", None), ("c", "compared", 0.05),
    ]  # fmt: skip


def test_a_server_that_is_busy_costs_no_attempt(
    tmp_path: Path, catalogue: Path, server: Server
) -> None:
    job = write_job(tmp_path, stac=f"{server.url}/collection.json", assets="image", retries=0)
    server.busy = ("/items/b.tif",)
    for _ in range(3):
        assert ("b", "failed", None) not in told(run(job))
    server.busy = ()
    assert told(run(job)) == [("b", "compared", 0.02), ("c", "compared", 0.03)]


def test_a_date_to_the_microsecond_is_known_again(tmp_path: Path, catalogue: Path) -> None:
    for name, (date, _) in GREYS.items():
        exact = date.replace("00:00", "00:00.732651", 1)
        (catalogue / f"items/{name}.json").write_text(json.dumps(item(name, datetime=exact)))
    job = write_job(tmp_path, stac="catalogue/collection.json", assets="image")
    assert told(run(job)) == EXPECTED
    with patch.object(StacArrivals, "fetch", side_effect=AssertionError("it is known")):
        assert run(job) == JobRun((), 0)


def test_from_a_folder_to_stac(tmp_path: Path, catalogue: Path) -> None:
    """The scenes of the folder are known, but there is no way to them any more."""
    put_scene(tmp_path / "in", "lake_20200101.tif", 33)
    run(write_job(tmp_path))
    done = run(write_job(tmp_path, stac="catalogue/collection.json", assets="image"))
    waiting = [each for each in done.outcomes if each.status == "waiting"]
    assert [each.reason for each in waiting] == ["lake_20200101.tif is no STAC item"]


def test_bands_that_do_not_lie_on_each_other(tmp_path: Path) -> None:
    one = put_scene(tmp_path, "one.tif", 1)
    other = tmp_path / "other.tif"
    with rasterio.open(one) as dataset:
        profile = dataset.profile | {"width": 4}
        with rasterio.open(other, "w", **profile) as out:
            out.write(dataset.read()[:, :, :4])
    with pytest.raises(SceneError, match="differ in grid"):
        stack_bands([one, other], ["red", "nir"], tmp_path / "stack.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tif", "other.tif"]
    assert issubclass(NotThereError, SceneError)
