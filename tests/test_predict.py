"""The verb on scenes: files that other programs read, areas, arrays, other grids."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import rioxarray
import xarray
from affine import Affine
from conftest import GRIDS, SIX, UTM, OneHotRuntime, stored_card
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage

import geoseg
from geoseg.errors import BandError, InputError, SceneError
from geoseg.grid import Window
from geoseg.model.loading import Model
from geoseg.model.openvino_runtime import OpenVINORuntime
from geoseg.raster.geotiff import MapWriter
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import SourceScene
from geoseg.raster.source import RasterSource
from geoseg.scene_mapping import predict_strips

Write = Callable[..., Path]
SAMPLE = Path(__file__).parents[1] / "docs/sample/raleigh_landsat7_2000-03-31.tif"


@pytest.fixture(scope="module")
def sample_map(tmp_path_factory: pytest.TempPathFactory) -> geoseg.Prediction:
    folder = tmp_path_factory.mktemp("sample")
    return geoseg.predict(SAMPLE, output=folder, scores=True, confidence=True)


def test_the_sample_scene_gives_every_file(sample_map: geoseg.Prediction) -> None:
    assert list(sample_map.files) == [
        "classes", "class_names", "confidence", "scores", "polygons", "preview", "summary",
    ]  # fmt: skip
    folder = sample_map.files["classes"].parent
    assert {path.name for path in folder.iterdir()} == {p.name for p in sample_map.files.values()}


def test_a_network_rests_while_the_last_files_are_finished_but_not_one_that_is_lent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    close = MapWriter.close
    monkeypatch.setattr(OpenVINORuntime, "rest", lambda runtime: done.append("rested"))
    monkeypatch.setattr(MapWriter, "close", lambda w: (done.append("finished"), close(w)))
    quick = {"polygons": False, "preview": False, "overwrite": True, "output": tmp_path}
    geoseg.predict(SAMPLE, **quick)
    assert done == ["rested", "finished"]
    geoseg.predict(SAMPLE, model=geoseg.load_model(), **quick)
    assert done == ["rested", "finished", "finished"]
    done.clear()
    other = shutil.copy(SAMPLE, tmp_path / "other.tif")
    assert len(list(geoseg.predict_scenes([SAMPLE, other], **quick))) == 2
    assert sorted(done) == ["finished", "finished", "rested"]


@pytest.mark.parametrize("which", ["classes", "confidence", "scores"])
def test_rasters_are_strictly_valid_cogs_on_the_scenes_grid(
    sample_map: geoseg.Prediction, which: str
) -> None:
    path = sample_map.files[which]
    valid, errors, warnings = cog_validate(path, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as made, rasterio.open(SAMPLE) as scene:
        assert made.crs == scene.crs
        assert made.transform == scene.transform
        assert made.shape == scene.shape
        assert made.nodata == 255
        assert made.count == {"scores": 9}.get(which, 1)
        np.testing.assert_array_equal(made.read(1) != 255, scene.dataset_mask() != 0)


def test_scores_confidence_and_classes_agree(sample_map: geoseg.Prediction) -> None:
    with rasterio.open(sample_map.files["scores"]) as dataset:
        scores = dataset.read()
        assert dataset.descriptions[0] == "water"
        assert dataset.scales == (0.01,) * 9
    with rasterio.open(sample_map.files["classes"]) as dataset:
        classes = dataset.read(1)
    with rasterio.open(sample_map.files["confidence"]) as dataset:
        confidence = dataset.read(1)
    valid = classes != 255
    np.testing.assert_array_equal(scores.max(axis=0), confidence)
    won = np.take_along_axis(scores, np.where(valid, classes - 1, 0)[None], axis=0)[0]
    np.testing.assert_array_equal(won[valid], confidence[valid])
    assert abs(scores[:, valid].sum(axis=0).astype(int) - 100).max() <= 5


def test_provenance_and_names_are_in_the_file(sample_map: geoseg.Prediction) -> None:
    with rasterio.open(sample_map.files["classes"]) as dataset:
        tags = dataset.tags()
        assert dataset.colormap(1)[1] == (0x41, 0x9B, 0xDF, 255)
        assert dataset.descriptions == ("class",)
    assert tags["GEOSEG_MODEL"] == "landcover"
    assert tags["GEOSEG_MODEL_SHA256"] == geoseg.load_bundle("landcover").sha256
    assert tags["GEOSEG_SCENE"] == SAMPLE.name
    assert tags["GEOSEG_RUNTIME"].startswith("openvino ")
    assert tags["GEOSEG_CHIPS"] == "chips of up to 512 px, halo 22 px, crop"
    assert json.loads(tags["GEOSEG_LEGEND"])["2"] == "trees"


@pytest.mark.skipif(not shutil.which("gdalinfo"), reason="GDAL's own programs are not installed")
def test_gdals_own_programs_see_colours_and_names(sample_map: geoseg.Prediction) -> None:
    seen = subprocess.run(
        ["gdalinfo", "-json", sample_map.files["classes"]],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    (band,) = json.loads(seen.stdout)["bands"]
    assert band["colorInterpretation"] == "Palette"
    assert band["colorTable"]["entries"][7] == [0xC4, 0x28, 0x1B, 255]
    text = subprocess.run(
        ["gdalinfo", sample_map.files["classes"]], capture_output=True, check=True, text=True
    ).stdout
    assert "LAYOUT=COG" in text
    assert "      7: built\n" in text


def test_areas_are_those_of_the_ellipsoid(sample_map: geoseg.Prediction) -> None:
    """Class areas against pixels counted by hand, times their geodesic size."""
    with rasterio.open(sample_map.files["classes"]) as dataset:
        classes, bounds, crs = dataset.read(1), dataset.bounds, dataset.crs
    corners = [(bounds.left, bounds.top), (bounds.right, bounds.top),
               (bounds.right, bounds.bottom), (bounds.left, bounds.bottom)]  # fmt: skip
    to_geodetic = pyproj.Transformer.from_crs(crs.to_wkt(), "EPSG:4269", always_xy=True)
    lon, lat = to_geodetic.transform(*zip(*corners, strict=True))
    whole, _ = pyproj.Geod(ellps="GRS80").polygon_area_perimeter(lon, lat)
    hectares_a_pixel = abs(whole) / 1e4 / classes.size
    total = 0.0
    for each in sample_map.summary["classes"]:
        pixels = int((classes == each["code"]).sum())
        assert each["pixels"] == pixels
        assert each["hectares"] == pytest.approx(pixels * hectares_a_pixel, rel=1e-4)
        total += each["share"]
    assert total == pytest.approx(1)
    assert sample_map.summary["valid_share"] == pytest.approx((classes != 255).mean())


def test_polygons_are_the_raster(sample_map: geoseg.Prediction) -> None:
    polygons = geopandas.read_file(
        sample_map.files["polygons"], layer=sample_map.files["polygons"].stem
    )
    with rasterio.open(sample_map.files["classes"]) as dataset:
        classes, transform, crs = dataset.read(1), dataset.transform, dataset.crs
    assert polygons.crs == crs
    patches = sum(ndimage.label(classes == code)[1] for code in np.unique(classes) if code != 255)
    assert len(polygons) == patches
    assert polygons.is_valid.all()
    burnt = rasterio.features.rasterize(
        zip(polygons.geometry, polygons["class_id"], strict=True),
        out_shape=classes.shape, transform=transform, fill=255, dtype="uint8",
    )  # fmt: skip
    np.testing.assert_array_equal(burnt, classes)
    hectares = polygons.groupby("class")["area_m2"].sum() / 1e4
    for each in sample_map.summary["classes"]:
        assert hectares.get(each["name"], 0) == pytest.approx(each["hectares"], rel=1e-5)


def test_the_preview_shows_scene_and_map(sample_map: geoseg.Prediction) -> None:
    with Image.open(sample_map.files["preview"]) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or ()}
        assert picture.width > picture.height
    for each in geoseg.load_bundle("landcover").card.legend:
        present = any(c["pixels"] for c in sample_map.summary["classes"] if c["code"] == each.code)
        assert (each.rgb in colours) == present


@pytest.mark.parametrize("name", GRIDS)
def test_an_array_gives_the_map_of_the_file(
    write_scene: Write, identity: Model, tmp_path: Path, name: str
) -> None:
    crs, transform = GRIDS[name]
    pixels = np.random.default_rng(4).integers(0, 200, (1, 90, 130)).astype("uint8")
    pixels[0, :9] = 255
    path = write_scene(pixels, crs=crs, transform=transform, nodata=255, descriptions=("red",))
    made = geoseg.predict(path, model=identity, output=tmp_path / "out")
    with rioxarray.open_rasterio(path) as array:
        assert isinstance(array, xarray.DataArray)
        classes = geoseg.predict(array, model=identity)
        assert classes.dims == ("y", "x")
        assert classes.rio.crs == crs
        assert classes.rio.transform() == transform
        assert classes.rio.nodata == 255
        for axis in set("xy") & set(array.coords):
            xarray.testing.assert_equal(classes[axis], array[axis])
    with rasterio.open(made.files["classes"]) as dataset:
        np.testing.assert_array_equal(classes.values, dataset.read(1))
    if name == "rotated":
        return  # rioxarray itself warns when it writes one
    classes.rio.to_raster(tmp_path / "again.tif")
    with rasterio.open(tmp_path / "again.tif") as dataset:
        assert dataset.transform.almost_equals(transform, precision=1e-9)


def test_an_array_with_text_bands_and_masked_values(identity: Model) -> None:
    two = np.stack([np.full((40, 50), 3.0), np.indices((40, 50))[1]]).astype("float32")
    two[:, 5:8] = np.nan
    array = xarray.DataArray(
        two,
        dims=("band", "y", "x"),
        coords={"band": ["nir", "red"], "y": 5e6 - 10 * np.arange(40), "x": 10.0 * np.arange(50)},
    ).rio.write_crs(UTM)
    classes = geoseg.predict(array, model=identity)
    assert (classes.values[5:8] == 255).all()
    np.testing.assert_array_equal(classes.values[9], np.arange(50))


@pytest.mark.filterwarnings("ignore:Scales differ across bands")
@pytest.mark.parametrize("masked", [False, True])
def test_an_array_with_scales_of_its_own_is_the_files_map(
    write_scene: Write, tmp_path: Path, masked: bool
) -> None:
    pixels = np.random.default_rng(0).integers(200, 3000, (6, 48, 40)).astype("uint16")
    pixels[:, :4] = 0
    scene = write_scene(pixels, nodata=0, descriptions=SIX)
    if not masked:
        with rasterio.open(scene, "r+") as dataset:
            dataset.scales = (1e-4, 1e-4, 1e-4, 2e-4, 1e-4, 3e-4)
    made = geoseg.predict(scene, output=tmp_path / "out", polygons=False, preview=False)
    with rioxarray.open_rasterio(scene, masked=masked) as array:
        assert isinstance(array, xarray.DataArray)
        classes = geoseg.predict(array)
    with rasterio.open(made.files["classes"]) as dataset:
        np.testing.assert_array_equal(classes.values, dataset.read(1))


def test_a_part_of_an_array_lies_where_its_coordinates_say(
    write_scene: Write, identity: Model
) -> None:
    """rioxarray keeps the file's transform beside coordinates that are no longer the file's."""
    pixels = np.arange(40 * 50, dtype="uint16").reshape(1, 40, 50) % 200
    path = write_scene(pixels, descriptions=("red",))
    with rioxarray.open_rasterio(path) as whole:
        assert isinstance(whole, xarray.DataArray)
        own, last = whole.rio.transform(), whole.rio.bounds()
        parts = {
            "strided": (whole[:, ::2, ::2], own * Affine.translation(-0.5, -0.5) * Affine.scale(2)),
            "coarsened": (whole.coarsen(x=2, y=2).max().astype("uint16"), own * Affine.scale(2)),
            "cut": (whole[:, 10:, 5:], own * Affine.translation(5, 10)),
            "turned": (whole.sortby("y"), Affine(own.a, 0, own.c, 0, -own.e, last[1])),
        }  # fmt: skip
        for name, (part, expected) in parts.items():
            classes = geoseg.predict(part, model=identity)
            assert classes.rio.transform().almost_equals(expected, precision=1e-6), name
            assert classes.rio.transform(recalc=True).almost_equals(expected, precision=1e-6), name
            np.testing.assert_array_equal(classes.values, part.values[0])


def test_an_array_of_uneven_coordinates_is_refused(identity: Model) -> None:
    x = 10.0 * np.arange(50)
    x[30:] += 500
    coords = {"band": ["red"], "y": 10.0 * np.arange(40), "x": x}
    array = xarray.DataArray(np.zeros((1, 40, 50)), dims=("band", "y", "x"), coords=coords)
    with pytest.raises(SceneError, match="evenly spaced"):
        geoseg.predict(array, model=identity)
    with pytest.raises(SceneError, match="not a ndarray"):
        geoseg.predict(np.zeros((1, 40, 50)), model=identity)  # type: ignore[call-overload]


def test_an_array_that_is_no_scene(identity: Model) -> None:
    with pytest.raises(SceneError, match="band, y, x"):
        geoseg.predict(xarray.DataArray(np.zeros((2, 3, 4, 5)), dims=("t", "band", "y", "x")))
    with pytest.raises(SceneError):
        geoseg.predict(xarray.DataArray(np.zeros(3), dims="x"), model=identity)


@pytest.mark.parametrize(("gsd", "side"), [(10, 100), (20, 50), (5, 200), (0, 100)])
def test_a_scene_can_be_read_at_another_gsd(
    write_scene: Write, identity: Model, tmp_path: Path, gsd: float, side: int
) -> None:
    pixels = np.full((1, 100, 100), 42, "uint8")
    scene = write_scene(pixels, descriptions=("red",))
    own = 10 / 0.9996
    made = geoseg.predict(
        scene, model=identity, output=tmp_path / "out", gsd=gsd / 10 * own, preview=False
    )
    with rasterio.open(made.files["classes"]) as dataset:
        assert dataset.shape == (side, side)
        assert (dataset.read() == 42).all()
        assert dataset.bounds == pytest.approx(rasterio.open(scene).bounds, abs=0.01)
    assert made.summary["classes"][42]["hectares"] == pytest.approx(100 * 1.0008, rel=1e-4)


def test_a_scene_outside_the_models_range_is_read_at_its_end_and_it_is_said(
    write_scene: Write, tmp_path: Path
) -> None:
    model = Model(stored_card(gsd_m=(20.0, 60.0)), OneHotRuntime(200), "0" * 64)
    scene = write_scene(np.full((1, 90, 90), 7, "uint8"), descriptions=("red",))
    made = geoseg.predict(scene, model=model, output=tmp_path / "out", polygons=False)
    assert made.summary["shape"] == [46, 46]
    (said,) = made.summary["assumed"]
    assert said.startswith("resampled from 10 m to 20 m")
    with rasterio.open(made.files["classes"]) as dataset:
        assert dataset.tags()["GEOSEG_ASSUMED"] == said


def test_without_a_crs_areas_are_pixels_and_a_warning_says_so(
    write_scene: Write, identity: Model, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        pixels = np.full((1, 50, 60), 7, "uint8")
        scene = write_scene(pixels, crs=None, transform=None, descriptions=("red",))
    made = geoseg.predict(scene, model=identity, output=tmp_path / "out")
    assert made.summary["classes"][7]["hectares"] is None
    assert made.summary["classes"][7]["pixels"] == 3000
    assert "no CRS" in made.summary["warnings"][0]
    polygons = geopandas.read_file(made.files["polygons"], layer="scene_polygons")
    assert polygons["area_px"].tolist() == [3000]
    assert polygons.crs is None


def test_chips_without_data_wait_without_their_pixels(write_scene: Write) -> None:
    """Half of a tile may be empty; all of its chips pass before the next that is computed."""
    pixels = np.zeros((1, 2048, 64), "uint8")
    pixels[:, :64] = pixels[:, -64:] = 7
    read_so_far: list[weakref.ref[Any]] = []
    most = 0

    class Watched(OneHotRuntime):
        def scores(self, chips: Iterable[Any]) -> Iterator[Any]:
            nonlocal most
            for chip in chips:
                most = max(most, sum(each() is not None for each in read_so_far))
                yield from super().scores([chip])

    path = write_scene(pixels, nodata=0, descriptions=("red",))
    model = Model(stored_card(chip_px=64, halo_px=16), Watched(200), "0" * 64)
    read = SourceScene.read

    def seen(self: SourceScene, window: Window) -> Any:
        chip = read(self, window)
        read_so_far.append(weakref.ref(chip.pixels))
        return chip

    with (
        patch.object(SourceScene, "read", seen),
        open_scene(path, ["red"], units="stored") as scene,
    ):
        classes = np.concatenate([strip.classes for strip in predict_strips(scene, model)])
    assert (classes == np.where(pixels[0] == 7, 7, 255)).all()
    assert most < 12


def test_scenes_that_are_mapped_already_are_left_alone(
    write_scene: Write, identity: Model, tmp_path: Path
) -> None:
    scenes = [
        write_scene(np.full((1, 50, 60), code, "uint8"), f"s{code}.tif", descriptions=("red",))
        for code in (7, 8, 9)
    ]
    out = tmp_path / "out"
    told: Any = {"model": identity, "output": out, "polygons": False, "skip_existing": True}
    first = geoseg.predict(scenes[0], **told)
    (out / "s8_classes.tif").write_bytes(b"of a run that was killed")
    with patch.object(RasterSource, "read", side_effect=AssertionError("it was mapped")):
        again = geoseg.predict(scenes[0], **told)
    assert again == first
    made = dict(geoseg.predict_scenes(scenes, **told))
    assert isinstance(made[str(scenes[1])], InputError)  # whoever it is of
    made = dict(geoseg.predict_scenes(scenes, **told, overwrite=True))
    assert made[str(scenes[0])] == first
    for code, each in zip((7, 8, 9), made.values(), strict=True):
        assert isinstance(each, geoseg.Prediction)
        assert each.summary["classes"][code]["pixels"] == 3000
    with pytest.raises(InputError, match="exist"):
        geoseg.predict(scenes[0], **told, min_confidence=0.5)
    with pytest.raises(InputError, match="exist"):
        geoseg.predict(scenes[0], **(told | {"model": replace(identity, sha256="1" * 64)}))


def test_an_8_bit_picture_is_a_warning(write_scene: Write, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 200, (6, 48, 40)).astype("uint8")
    made = geoseg.predict(write_scene(pixels, descriptions=SIX), output=tmp_path / "out")
    assert any("a stretched picture is none" in told for told in made.summary["warnings"])
    assert not any("8-bit" in told for told in made.summary["assumed"])


def test_options_that_make_no_sense(write_scene: Write, identity: Model, tmp_path: Path) -> None:
    scene = write_scene(np.full((1, 50, 60), 7, "uint8"), descriptions=("red",))
    out = tmp_path / "out"
    for options in ({"chip_px": 60}, {"halo_px": 40}, {"gsd": -3}):
        with pytest.raises(InputError):
            geoseg.predict(scene, model=identity, output=out, **options)  # type: ignore[arg-type]
    with pytest.raises(BandError):
        geoseg.predict(scene, output=out)
    assert not out.exists()


def test_six_band_landsat_by_order_only_when_told(write_scene: Write, tmp_path: Path) -> None:
    with rasterio.open(SAMPLE) as sample:
        pixels = sample.read()[:, 100:164, 100:164]
        grid = {"crs": sample.crs, "transform": sample.transform, "nodata": 0}
    bare = write_scene(pixels, "bare.tif", **grid)
    with pytest.raises(BandError, match="--sensor"):
        geoseg.predict(bare, output=tmp_path / "out")
    told = geoseg.predict(bare, output=tmp_path / "out", sensor="landsat7", preview=False)
    named = write_scene(pixels, "named.tif", **grid, descriptions=SIX, scale=1e-4)
    same = geoseg.predict(named, output=tmp_path / "out", preview=False)
    first, second = (rasterio.open(p.files["classes"]).read() for p in (told, same))
    np.testing.assert_array_equal(first, second)
    assert "customary order" in " ".join(told.summary["assumed"])
