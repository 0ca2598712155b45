"""What geoseg says when it is not sure, or when a scene is unlike what its model knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from conftest import OneHotRuntime, stored_card
from scipy.special import softmax

import geoseg
from geoseg.errors import InputError, SceneError
from geoseg.grid import Window
from geoseg.legend import UNCERTAIN
from geoseg.model.loading import Model
from geoseg.raster.level import SURFACE_TO_TOA, between_levels
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import Reading
from geoseg.training.temperature import calibration_at, fit_temperature

Write = Callable[..., Path]
PIXELS = np.tile(np.arange(1000, 4000, 50, dtype=np.uint16), (2, 40, 1))


class HalfSureRuntime(OneHotRuntime):
    """Says the value's class with 100 % on the left of a chip and with 55 % on the right."""

    def scores(self, chips):  # type: ignore[no-untyped-def]
        for scores in super().scores(chips):
            right = scores[:, :, scores.shape[2] // 2 :]
            right *= 0.55
            right += 0.45 / len(scores)
            yield scores


@pytest.fixture
def half_sure(write_scene: Write, tmp_path: Path) -> geoseg.Prediction:
    scene = write_scene(np.full((1, 64, 64), 7, np.uint8), descriptions=("red",))
    card = stored_card(classes=9)
    model = Model(card, HalfSureRuntime(9), "0" * 64)
    return geoseg.predict(
        scene, model=model, output=tmp_path / "out", min_confidence=0.7, chip_px=64, halo_px=0,
        confidence=True,
    )  # fmt: skip


def test_doubt_is_a_class_of_its_own_in_every_file(half_sure: geoseg.Prediction) -> None:
    with rasterio.open(half_sure.files["classes"]) as dataset:
        codes, palette = dataset.read(1), dataset.colormap(1)
        tags = dataset.tags()
    assert (codes[:, :32] == 7).all()
    assert (codes[:, 32:] == UNCERTAIN).all()
    assert palette[UNCERTAIN] == (128, 128, 128, 255)
    assert json.loads(tags["GEOSEG_LEGEND"])[str(UNCERTAIN)] == "uncertain"
    assert tags["GEOSEG_MIN_CONFIDENCE"] == "70 %"
    with rasterio.open(half_sure.files["confidence"]) as dataset:
        assert set(np.unique(dataset.read(1))) == {60, 100}
    polygons = geopandas.read_file(half_sure.files["polygons"], layer="scene_polygons")
    assert set(polygons["class"]) == {"c7", "uncertain"}
    shares = {each["name"]: each["share"] for each in half_sure.summary["classes"]}
    assert shares["uncertain"] == pytest.approx(0.5, abs=1e-3)
    assert shares["c7"] == pytest.approx(0.5, abs=1e-3)


def test_nobody_asked_for_doubt(write_scene: Write, identity: Model, tmp_path: Path) -> None:
    scene = write_scene(np.full((1, 64, 64), 7, np.uint8), descriptions=("red",))
    made = geoseg.predict(scene, model=identity, output=tmp_path / "out")
    names = [each["name"] for each in made.summary["classes"]]
    assert "uncertain" not in names
    with pytest.raises(InputError, match="--min-confidence 70"):
        geoseg.predict(scene, model=identity, output=tmp_path, min_confidence=70)


@pytest.mark.parametrize(
    ("far", "warned"), [(0, False), (0.02, False), (0.2, True)], ids=["none", "few", "many"]
)
def test_a_scene_unlike_the_training_is_said_to_be(
    write_scene: Write, tmp_path: Path, far: float, warned: bool
) -> None:
    pixels = np.full((1, 400, 100), 7, np.uint8)
    pixels[:, : round(400 * far)] = 8
    pixels[:, -8:] = 0
    scene = write_scene(pixels, descriptions=("red",), nodata=0)
    card = stored_card(classes=9, value_ranges=((1, 7.5),))
    model = Model(card, OneHotRuntime(9), "0" * 64)
    made = geoseg.predict(scene, model=model, output=tmp_path / "out", preview=False)
    said = [each for each in made.summary["warnings"] if "unlike" in each]
    assert bool(said) == warned
    if said:
        assert "20% of the pixels" in said[0]
        assert "red above 7.5" in said[0]


def test_temperature_finds_what_confidences_were_multiplied_by() -> None:
    """Labels drawn from a network's own probabilities make it right; scaled logits are mended."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40_000, 5)).astype(np.float32)
    chances = softmax(logits, axis=1).cumsum(axis=1)
    classes = (rng.random((len(logits), 1)) > chances).sum(axis=1)
    assert fit_temperature(logits, classes) == pytest.approx(1, abs=0.03)
    assert fit_temperature(4 * logits, classes) == pytest.approx(4, rel=0.03)
    assert calibration_at(1, 4 * logits, classes).expected_error() > 0.1
    assert calibration_at(4, 4 * logits, classes).expected_error() < 0.01
    assert fit_temperature(logits[:0], classes[:0]) == 1


def reflectance(path: Path, levels: tuple[str, ...], **said: object) -> tuple[np.ndarray, str]:
    reading = Reading(**said)  # type: ignore[arg-type]
    with open_scene(path, ("red", "nir"), levels=levels, reading=reading) as scene:  # type: ignore[arg-type]
        return scene.read(Window(0, 0, 1, 60)).pixels[:, 0], "; ".join(scene.assumed)


def test_surface_reflectance_for_a_model_of_the_top_of_the_atmosphere(write_scene: Write) -> None:
    path = write_scene(PIXELS, descriptions=("red", "nir"))
    plain, said = reflectance(path, ("toa", "surface"), level="surface")
    np.testing.assert_allclose(plain, PIXELS[:, 0] / 1e4, rtol=1e-6)
    assert "level" not in said
    lifted, said = reflectance(path, ("toa",), level="surface")
    for row, band in zip(lifted, ("red", "nir"), strict=True):
        gain, term = SURFACE_TO_TOA[band]
        np.testing.assert_allclose(row, PIXELS[0, 0] / 1e4 * gain + term, rtol=1e-5)
    assert "surface brought to toa" in said
    back, _ = reflectance(path, ("surface",), level="toa")
    gain, term = SURFACE_TO_TOA["red"]
    np.testing.assert_allclose(back[0] * gain + term, PIXELS[0, 0] / 1e4, rtol=1e-5)
    _, said = reflectance(path, ("toa",))
    assert "taken as reflectance of level toa" in said


def test_no_way_between_levels_is_made_up() -> None:
    with pytest.raises(SceneError, match="for cirrus no way"):
        between_levels("surface", ("toa",), ("red", "cirrus"))


@pytest.mark.parametrize(
    ("name", "tags", "offset", "level"),
    [
        ("scene.tif", {}, 0, None),
        ("scene.tif", {"PROCESSING_BASELINE": "03.01", "PROCESSING_LEVEL": "Level-1C"}, 0, "toa"),
        ("scene.tif", {"PROCESSING_BASELINE": "05.10", "PROCESSING_LEVEL": "Level-2A"}, -0.1,
         "surface"),
        ("scene.tif", {"PROCESSING_BASELINE": "unknown"}, 0, None),
        ("S2B_MSIL2A_20230701T101559_N0509_R065_T32TQM_20230701T131400.tif", {}, -0.1, "surface"),
        ("S2B_MSIL1C_20190701T101559_N0208_R065_T32TQM_20190701T131400.tif", {}, 0, "toa"),
    ],
)  # fmt: skip
def test_a_file_made_from_a_product_still_tells_offset_and_level(
    tmp_path: Path, write_scene: Write, name: str, tags: dict[str, str], offset: float, level: str
) -> None:
    path = write_scene(PIXELS, descriptions=("red", "nir")).rename(tmp_path / name)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**tags)
    values, said = reflectance(path, ())
    np.testing.assert_allclose(values, PIXELS[:, 0] / 1e4 + offset, atol=1e-6)
    assert ("processing baseline" in said) == bool(offset)
    _, said = reflectance(path, ("toa",))
    assert ("surface brought to toa" in said) == (level == "surface")
    assert ("taken as reflectance of level toa" in said) == (level is None)
    told, _ = reflectance(path, (), scale=1e-4, offset=0.0)
    np.testing.assert_allclose(told, PIXELS[:, 0] / 1e4, rtol=1e-6)
