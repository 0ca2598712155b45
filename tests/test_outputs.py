"""Nothing half-written: killed runs, full disks, two runs at once, results that exist."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from conftest import SIX, UTM

from geoseg.errors import InputError, OutputError
from geoseg.outputs import staged

RASTERS = ("scene_classes.tif", "scene_confidence.tif")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six bands, 700 x 700, patchy enough for some thousand polygons."""
    path = tmp_path_factory.mktemp("scenes") / "scene.tif"
    coarse = np.random.default_rng(0).integers(100, 5000, (6, 70, 70))
    pixels = coarse.repeat(10, axis=1).repeat(10, axis=2).astype("uint16")
    profile = {"driver": "GTiff", "width": 700, "height": 700, "count": 6, "dtype": "uint16",
               "crs": UTM, "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as out:
        out.write(pixels)
        out.descriptions = SIX
    return path


def command(scene: Path, folder: Path) -> list[str]:
    return [sys.executable, "-m", "geoseg.cli", "predict", str(scene), "-o", str(folder),
            "--confidence", "--chip", "256"]  # fmt: skip


def run_to_end(scene: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(scene, folder), capture_output=True, check=False, text=True)


def hashes(folder: Path) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RASTERS]


@pytest.fixture(scope="module")
def undisturbed(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], float]:
    """What a run that nobody disturbs leaves, and how long it takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    run = run_to_end(scene, folder)
    assert run.returncode == 0, run.stderr
    return hashes(folder), time.monotonic() - began


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_and_the_rerun_gives_the_same_bytes(
    scene: Path, tmp_path: Path, undisturbed: tuple[list[str], float]
) -> None:
    expected, takes = undisturbed
    moments = random.Random(1)
    killed = 0
    for _ in range(8):
        run = subprocess.Popen(command(scene, tmp_path), stdout=subprocess.DEVNULL)
        try:
            run.wait(timeout=moments.uniform(0.3, 1.0) * takes)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            killed += 1
            for name, digest in zip(RASTERS, expected, strict=True):
                if (tmp_path / name).exists():  # killed between two renames: whole all the same
                    assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
        for path in tmp_path.glob("scene_*"):
            path.unlink()
    assert killed > 2
    run = run_to_end(scene, tmp_path)
    assert run.returncode == 0, run.stderr
    assert hashes(tmp_path) == expected
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_run_killed_between_two_renames_is_taken_up(tmp_path: Path) -> None:
    names = ["a", "b", "c"]

    class Killed(BaseException):
        pass

    def cut_off() -> None:
        with staged(tmp_path, "key", names) as staging:
            for name in names:
                staging.path(name).write_text(f"old {name}")
            # what put_in_place does until the kill
            (staging.folder / "commit.json").write_text('["a", "b", "c"]')
            staging.path("a").replace(tmp_path / "a")
            keep = staging.folder.rename(tmp_path / "kept")
            raise Killed(keep)

    with pytest.raises(Killed):
        cut_off()
    (tmp_path / "kept").rename(tmp_path / ".key.geoseg")  # a kill -9 cleans nothing up
    with staged(tmp_path, "key", names) as staging:
        for name in names:
            staging.path(name).write_text(f"new {name}")
        staging.put_in_place(names)
    assert [(tmp_path / name).read_text() for name in names] == ["new a", "new b", "new c"]
    assert len(list(tmp_path.iterdir())) == 3


def test_results_that_exist_are_refused_until_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(InputError, match=r"a exists already; .*--overwrite"):
        staged(tmp_path, "key", ["a"]).__enter__()
    assert (tmp_path / "a").read_text() == "mine"
    with staged(tmp_path, "key", ["a"], overwrite=True) as staging:
        staging.path("a").write_text("new")
        assert (tmp_path / "a").read_text() == "mine", "the old one stays until the new one is done"
        staging.put_in_place(["a"])
    assert (tmp_path / "a").read_text() == "new"


def test_an_unreadable_note_of_an_interrupted_run_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".key.geoseg").mkdir()
    (tmp_path / ".key.geoseg" / "commit.json").touch()
    with staged(tmp_path, "key", ["a"]) as staging:
        staging.path("a").write_text("new")
        staging.put_in_place(["a"])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_in_a_results_place_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        staged(tmp_path, "key", ["a", "b"], overwrite=True).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_two_runs_of_one_scene_exclude_each_other(tmp_path: Path) -> None:
    with staged(tmp_path, "key", ["a"]) as first:
        first.path("a").write_text("first")
        with pytest.raises(OutputError, match="another geoseg run"):
            staged(tmp_path, "key", ["a"]).__enter__()
        with staged(tmp_path, "other", ["b"]):
            pass
        first.put_in_place(["a"])
    assert (tmp_path / "a").read_text() == "first"


def test_a_failure_leaves_nothing_not_even_the_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path / "new" / "er", "key", ["a"]) as staging:
            staging.path("a").write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        fail()
    assert not (tmp_path / "new" / "er").exists()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write into"):
        staged(tmp_path / "file", "key", ["a"]).__enter__()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_status_3_and_no_file(scene: Path, small_disk: Path) -> None:
    run = run_to_end(scene, small_disk)
    assert run.returncode == 3, run.stderr
    assert run.stderr.startswith("geoseg: error: could not write")
    assert run.stderr.count("\n") == 1
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("most", [100_000, 550_000])  # in the map's strips, in its overviews
def test_a_limit_on_file_size_is_a_full_disk_too(scene: Path, tmp_path: Path, most: int) -> None:
    limit = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " \
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most})); " \
            "from geoseg.cli import main; main()"  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", limit, "predict", str(scene), "-o", str(tmp_path / "out")],
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert run.returncode == 3, run.stderr
    assert run.stderr.startswith("geoseg: error: could not write")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder(scene: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert run_to_end(scene, tmp_path / "out").returncode == 3
