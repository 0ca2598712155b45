"""Maps made by a dask cluster: the bytes of a local run, whatever happens to its workers."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SIX
from distributed import LocalCluster

import geoseg
import geoseg.cluster
from geoseg.errors import InputError, ModelError, SceneError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalCluster]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster:
            yield cluster


def made_scene(write_scene: Write, name: str, height: int = 1200) -> Path:
    pixels = np.random.default_rng(len(name)).integers(200, 4000, (6, height // 40, 30))
    pixels = pixels.repeat(40, 1).repeat(40, 2).astype("uint16")
    pixels[:, :, :100] = 0
    return write_scene(pixels, name, nodata=0, descriptions=SIX, tiled=True)


def contents(prediction: geoseg.Prediction) -> dict[str, bytes]:
    """Of all files but the summary, which holds seconds, and the GeoPackage, which holds a time."""
    left_out = ("summary", "polygons")
    return {w: path.read_bytes() for w, path in prediction.files.items() if w not in left_out}


@pytest.mark.parametrize("join", ["crop", "blend"])
def test_a_cluster_gives_the_bytes_of_a_local_run(
    write_scene: Write,
    tmp_path: Path,
    workers: LocalCluster,
    join: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(geoseg.cluster, "CHIPS_A_TASK", 8)
    scene = made_scene(write_scene, "scene.tif")
    options: dict[str, Any] = {
        "join": join, "chip_px": 256, "confidence": True, "scores": join == "blend",
        "polygons": False,
    }  # fmt: skip
    here = geoseg.predict(scene, output=tmp_path / "here", **options)
    there = geoseg.predict(
        scene, output=tmp_path / "there", dask=workers.scheduler_address, **options
    )
    assert contents(here) == contents(there)


def test_a_worker_that_is_killed_takes_nothing_with_it(
    write_scene: Write, tmp_path: Path, workers: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geoseg.cluster, "CHIPS_A_TASK", 8)
    scene = made_scene(write_scene, "tall.tif", 4000)
    options: dict[str, Any] = {"chip_px": 256, "polygons": False}
    here = geoseg.predict(scene, output=tmp_path / "here", **options)
    killed: list[int] = []

    def kill(share: float) -> None:
        if share > 0.3 and not killed:
            worker = next(iter(workers.workers.values()))
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    there = geoseg.predict(
        scene, output=tmp_path / "there", dask=workers.scheduler_address, progress=kill, **options
    )
    assert killed
    assert contents(here) == contents(there)


def test_scenes_are_mapped_at_once_and_told_of_in_order(
    write_scene: Write, tmp_path: Path, workers: LocalCluster
) -> None:
    from geoseg.prediction import predict_scenes

    scenes = [made_scene(write_scene, f"scene{n}.tif", 400 + 200 * n) for n in range(3)]
    told = dict(
        predict_scenes(
            [scenes[0], tmp_path / "missing.tif", *scenes[1:]],
            output=tmp_path / "out",
            polygons=False,
            dask=workers.scheduler_address,
        )
    )
    assert [Path(scene).name for scene in told] == [
        "scene0.tif", "missing.tif", "scene1.tif", "scene2.tif",
    ]  # fmt: skip
    kinds = [type(made).__name__ for made in told.values()]
    assert kinds == ["Prediction", "SceneError", "Prediction", "Prediction"]


def test_what_a_worker_finds_wrong_is_told_here(
    write_scene: Write, tmp_path: Path, workers: LocalCluster
) -> None:
    scene = made_scene(write_scene, "damaged.tif")
    content = scene.read_bytes()
    scene.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(SceneError, match="damaged"):
        geoseg.predict(scene, output=tmp_path / "out", dask=workers.scheduler_address)
    assert not (tmp_path / "out").exists()


def test_a_worker_with_another_model_is_refused() -> None:
    source = geoseg.cluster.ModelSource(
        "landcover", "0" * 64, "openvino", "openvino", "cpu", "float32"
    )
    with pytest.raises(ModelError, match="another model for a worker"):
        geoseg.cluster._load(source)
    known = geoseg.load_bundle("landcover").sha256
    source = geoseg.cluster.ModelSource("landcover", known, "abacus 1", "torch", "cpu", "float32")
    with pytest.raises(ModelError, match="not by abacus 1"):
        geoseg.cluster._load(source)


def test_no_scheduler(write_scene: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geoseg.cluster, "ANSWER_SECONDS", 1)
    scene = made_scene(write_scene, "scene.tif")
    with pytest.raises(InputError, match="no dask scheduler answers at tcp"):
        geoseg.predict(scene, output=tmp_path / "out", dask="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="give the model's name or path"):
        geoseg.predict(scene, model=geoseg.load_model(), dask="tcp://127.0.0.1:9")
