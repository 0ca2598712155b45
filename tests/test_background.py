"""Stages that run at the same time: order, bounds, errors, and ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import OneHotRuntime, stored_card

import geoseg
import geoseg.map_files
import geoseg.map_making
from geoseg.background import ahead
from geoseg.errors import OutputError, SceneError
from geoseg.model.loading import Model
from geoseg.model.runtime import Array
from geoseg.raster.scene import SourceScene

Write = Callable[..., Path]


def our_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("geoseg")]


def test_items_come_in_order_and_no_more_than_may_wait_are_drawn() -> None:
    drawn = 0

    def numbers() -> Iterator[int]:
        nonlocal drawn
        for number in range(100):
            drawn += 1
            yield number

    seen = []
    for number in ahead(numbers(), 3, "geoseg-test"):
        time.sleep(0.001)
        assert drawn <= number + 1 + 3 + 1  # this one, those that wait, and the one in hand
        seen.append(number)
    assert seen == list(range(100))
    assert our_threads() == []


def test_an_error_comes_in_the_place_of_its_item() -> None:
    def breaks() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    items = ahead(breaks(), 5, "geoseg-test")
    assert next(items) == 1
    with pytest.raises(KeyError, match="two"):
        next(items)
    assert our_threads() == []


def test_whoever_stops_early_ends_the_thread_and_closes_what_it_draws_from() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    items = ahead(ahead(endless(), 2, "geoseg-inner"), 2, "geoseg-outer")
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert our_threads() == []


class BreakingRuntime(OneHotRuntime):
    """Breaks at the third chip."""

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        for number, scores in enumerate(super().scores(chips)):
            if number == 3:
                raise RuntimeError("the network broke")
            yield scores


@pytest.mark.parametrize("stage", ["read", "network", "write", "finish"])
def test_an_error_in_any_stage_ends_the_run_and_leaves_nothing(
    write_scene: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    scene = write_scene(np.full((1, 400, 400), 7, "uint8"), descriptions=("red",))
    runtime = BreakingRuntime(200) if stage == "network" else OneHotRuntime(200)
    model = Model(stored_card(), runtime, "0" * 64)
    calls = 0

    def broken(real: Callable[..., object], error: Exception) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise error
            return real(*arguments, **options)

        return call

    errors: dict[str, tuple[type[Exception], str]] = {
        "read": (SceneError, "rows 3 are damaged"),
        "network": (RuntimeError, "the network broke"),
        "write": (OutputError, "the disk is full"),
        "finish": (OutputError, "the disk is fuller"),
    }
    kind, text = errors[stage]
    place, name = {
        "read": (SourceScene, "read"),
        "write": (geoseg.map_files.MapWriter, "write"),
        "finish": (geoseg.map_files.MapWriter, "close"),
        "network": (None, ""),
    }[stage]
    if stage == "finish":
        calls = 4
    if place is not None:
        monkeypatch.setattr(place, name, broken(getattr(place, name), kind(text)))
    with pytest.raises(kind, match=text):
        geoseg.predict(scene, model=model, output=tmp_path / "out", polygons=False)
    assert not (tmp_path / "out").exists()
    assert our_threads() == []


SLOW = """
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us may ignore it
    sys.path.insert(0, {tests!r})
    from conftest import OneHotRuntime, stored_card
    import geoseg.map_making
    from geoseg.cli import main
    from geoseg.model.loading import Model

    class Slow(OneHotRuntime):
        def scores(self, chips):
            for number, scores in enumerate(super().scores(chips)):
                print("computed", number, flush=True)
                time.sleep(0.05)
                yield scores

    model = Model(stored_card(), Slow(200), "0" * 64)
    geoseg.map_making.load_model = lambda *_, **__: model
    sys.argv = ["geoseg", "predict", {scene!r}, "-o", {output!r}, "--no-polygons"]
    main()
"""


def test_ctrl_c_ends_the_run_and_leaves_nothing(write_scene: Write, tmp_path: Path) -> None:
    scene = write_scene(np.full((1, 900, 900), 7, "uint8"), descriptions=("red",))
    output, tests = tmp_path / "out", str(Path(__file__).parent)
    code = textwrap.dedent(SLOW).format(tests=tests, scene=str(scene), output=str(output))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "computed 3" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told.strip()) == (130, "geoseg: interrupted")
    assert not output.exists()


def test_a_scene_is_mapped_while_the_files_of_the_last_are_finished(
    write_scene: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first map is finished only once the second scene has been read."""
    pixels = np.full((1, 100, 100), 7, "uint8")
    scenes = [write_scene(pixels, f"{name}.tif", descriptions=("red",)) for name in "abc"]
    read_b, loaded = threading.Event(), 0
    model = Model(stored_card(), OneHotRuntime(200), "0" * 64)
    finish, read = geoseg.map_files.MapFiles.finish, SourceScene.read

    def waits(self: geoseg.map_files.MapFiles, *rest: object) -> object:
        assert self._stem != "a" or read_b.wait(30)
        return finish(self, *rest)  # type: ignore[arg-type]

    def notes(self: SourceScene, window: object) -> object:
        if self.name == "b.tif":
            read_b.set()
        return read(self, window)  # type: ignore[arg-type]

    def load(*_: object, **__: object) -> Model:
        nonlocal loaded
        loaded += 1
        return model

    monkeypatch.setattr(geoseg.map_files.MapFiles, "finish", waits)
    monkeypatch.setattr(SourceScene, "read", notes)
    monkeypatch.setattr(geoseg.map_making, "load_model", load)
    made = dict(
        geoseg.predict_scenes(
            [scenes[0], scenes[1], tmp_path / "none.tif", scenes[2]],
            output=tmp_path / "out",
            polygons=False,
        )
    )
    assert [Path(path).name for path in made] == ["a.tif", "b.tif", "none.tif", "c.tif"]
    assert isinstance(made.pop(str(tmp_path / "none.tif")), SceneError)
    assert loaded == 1
    for prediction in made.values():
        assert isinstance(prediction, geoseg.Prediction)
        assert all(path.exists() for path in prediction.files.values())
    assert not list((tmp_path / "out").glob(".*"))
