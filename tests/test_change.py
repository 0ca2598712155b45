"""From two scenes to a change map and its files."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from conftest import NORTH_UP, SIX, UTM
from rasterio.crs import CRS
from rio_cogeo import cog_validate
from scipy import ndimage

import geoseg
from geoseg.bitemporal import spectral
from geoseg.errors import BandError, InputError, SceneError
from geoseg.model.loading import Model

Write = Callable[..., Path]

SAMPLE = Path(__file__).parents[1] / "docs/sample/raleigh_landsat7_2000-03-31.tif"
DATA = Path(os.environ.get("GEOSEG_TEST_DATA", Path(__file__).parents[2] / "shared/data"))
TAIZHOU = DATA / "landsat_change_taizhou"
VALUES = ("irmad", "cva")


def landscape(seed: int = 0, side: int = 120) -> np.ndarray:
    """Four correlated bands of 8 bits, from dark water to bright ground."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.standard_normal((3, side, side)), (0, 3, 3))
    fields /= fields.std(axis=(1, 2), keepdims=True)
    mix = np.array([[1, 0.2, 0.1], [1, 0.5, 0], [0.8, 0.9, 0.2], [-0.5, 1, 0.6]])
    bands = np.tensordot(mix, fields, 1) * 22 + 100
    return np.clip(bands + rng.normal(0, 1.5, bands.shape), 1, 200).round().astype("uint8")


BANDS = {"descriptions": ("blue", "green", "red", "nir")}


@pytest.fixture
def pair(write_scene: Write) -> tuple[Path, Path, np.ndarray]:
    """Two dates with another gain, offset and noise, and where something is new."""
    rng = np.random.default_rng(5)
    before = landscape()
    new = np.zeros(before.shape[1:], bool)
    new[20:35, 30:50] = True
    new[60, 10:110] = True  # a road
    new[np.arange(70, 110), np.arange(60, 100)] = True  # and one that runs diagonally
    after = before * 0.9 + 12 + rng.normal(0, 1.5, before.shape)
    after += new * np.array([60, 55, 50, -45])[:, None, None]
    after = np.clip(after, 1, 255).round().astype("uint8")
    return (
        write_scene(before, "lake_2019-06-01.tif", **BANDS),
        write_scene(after, "lake_2021-06-03.tif", **BANDS),
        new,
    )


def planes(made: geoseg.Change) -> np.ndarray:
    with rasterio.open(made.files["change"]) as raster:
        return np.asarray(raster.read())


def table(made: geoseg.Change) -> list[list[str]]:
    return list(csv.reader(made.files["matrix"].read_text(encoding="utf-8").splitlines()))


# --- without a model -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", VALUES)
def test_what_is_new_is_found_with_its_roads(
    pair: tuple[Path, Path, np.ndarray], tmp_path: Path, method: Any
) -> None:
    before, after, new = pair
    made = geoseg.change(before, after, output=tmp_path / "out", method=method)
    changed = planes(made)[0] == 1
    assert (changed & new).sum() / new.sum() > 0.97
    assert (changed & new).sum() / changed.sum() > 0.97
    summary = made.summary
    assert summary["changed_pixels"] == changed.sum()
    assert summary["changed_area_ha"] == pytest.approx(changed.sum() * 0.01, rel=2e-3)
    assert (summary["before_date"], summary["after_date"]) == ("2019-06-01", "2021-06-03")
    assert summary["transitions"] == []
    assert summary["warnings"] == []
    assert any("as its name says" in each for each in summary["assumed"])


def test_the_files_are_what_they_promise(
    pair: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    before, after, _ = pair
    made = geoseg.change(before, after, output=tmp_path, name="change", method="irmad")
    names = {path.name for path in made.files.values()}
    assert names == {"change.tif", "change.tif.aux.xml", "change.qml", "change_polygons.gpkg",
                     "change_preview.png", "change_summary.csv", "change_summary.json"}  # fmt: skip
    assert cog_validate(made.files["change"], strict=True, quiet=True)[0]
    with rasterio.open(made.files["change"]) as raster, rasterio.open(before) as scene:
        assert raster.descriptions == ("change", "confidence")
        assert (raster.nodata, raster.dtypes) == (255, ("uint8", "uint8"))
        assert raster.scales == (1, 0.01)
        assert (raster.crs, raster.transform, raster.shape) == (
            scene.crs, scene.transform, scene.shape
        )  # fmt: skip
        assert raster.tags()["GEOSEG_METHOD"] == "irmad"
        codes, percent = raster.read()
    layer = pyogrio.read_dataframe(made.files["polygons"], layer="change_polygons")
    figures = ["area_m2", "perimeter_m", "conf_mean", "conf_min"]
    assert list(layer.columns) == ["change", "date_before", "date_after", *figures, "geometry"]
    assert set(layer["date_before"]) == {"2019-06-01"}
    assert layer["area_m2"].sum() == pytest.approx(1e4 * made.summary["changed_area_ha"])
    assert len(layer) == made.summary["polygons"] == ndimage.label(codes == 1)[1]
    weights = layer["area_m2"] / layer["area_m2"].sum()
    assert (layer["conf_mean"] * weights).sum() == pytest.approx(
        percent[codes == 1].mean() / 100, abs=1e-4
    )
    assert json.loads(made.files["summary"].read_text()) == made.summary
    rows = dict(table(made)[1:])
    assert float(rows["changed"]) == pytest.approx(made.summary["changed_area_ha"], abs=1e-4)
    assert sum(map(float, rows.values())) == pytest.approx(144, rel=2e-3)


@pytest.mark.parametrize("method", VALUES)
@pytest.mark.parametrize(
    "again",
    [
        lambda scene, _: scene,
        lambda scene, _: np.clip(np.rint(scene * 1.2 + 30), 0, 255),
        lambda scene, rng: np.clip(np.rint(scene + rng.normal(0, 1, scene.shape)), 0, 255),
        lambda scene, rng: scene + rng.integers(-1, 2, scene.shape),
    ],
    ids=["itself", "gain and offset", "noise of a grey level", "a grey level more or less"],
)
@pytest.mark.parametrize("turned", [False, True])
def test_nothing_new_gives_no_polygons(
    write_scene: Write, tmp_path: Path, method: Any, again: Callable[..., Any], turned: bool
) -> None:
    scene = landscape(3)
    scene[:, 30:36, 40:60] = np.array([190, 195, 199, 200])[:, None, None]  # a bright roof
    before = write_scene(scene, "before.tif", **BANDS)
    other = np.asarray(again(scene.astype(float), np.random.default_rng(1)))
    after = write_scene(other.astype("uint8"), "after.tif", **BANDS)
    if turned:
        before, after = after, before
    made = geoseg.change(before, after, output=tmp_path / "out", method=method)
    assert (made.summary["polygons"], made.summary["changed_pixels"]) == (0, 0)
    layer = made.files["polygons"].stem
    assert len(pyogrio.read_dataframe(made.files["polygons"], layer=layer)) == 0


def test_a_shifted_scene_is_warned_of_and_corrected(write_scene: Write, tmp_path: Path) -> None:
    wide = landscape(2, 300)
    before = write_scene(wide[:, 10:290, 10:290], "before.tif", **BANDS)
    after = write_scene(wide[:, 9:289, 10:290], "after.tif", **BANDS)
    plain = geoseg.change(before, after, output=tmp_path / "plain", method="irmad")
    assert "--coregister" in plain.summary["warnings"][0]
    assert plain.summary["shift_px"]["rows"] == pytest.approx(1, abs=0.02)
    assert not plain.summary["coregistered"]
    made = geoseg.change(before, after, output=tmp_path / "out", method="irmad", coregister=True)
    assert made.summary["coregistered"]
    assert made.summary["changed_share"] < 0.005
    assert made.summary["residual_shift_px"]["rows"] == pytest.approx(0, abs=0.02)
    assert (planes(made)[0, -1] == 255).all()  # what the later scene does not show


def test_a_scene_shifted_by_part_of_a_pixel_is_interpolated(
    write_scene: Write, tmp_path: Path
) -> None:
    wide = ndimage.gaussian_filter(landscape(2, 300).astype(float), (0, 1, 1))
    moved = np.stack([ndimage.shift(band, (0.6, -0.7), order=3) for band in wide])
    before, after = (
        write_scene(each[:, 10:290, 10:290].round().astype("uint8"), name, **BANDS)
        for each, name in ((wide, "before.tif"), (moved, "after.tif"))
    )
    made = geoseg.change(before, after, output=tmp_path, method="irmad", coregister=True)
    assert made.summary["shift_px"]["cols"] == pytest.approx(-0.7, abs=0.05)
    assert made.summary["changed_share"] < 0.005


def test_a_large_shift_is_refused_unless_forced(write_scene: Write, tmp_path: Path) -> None:
    wide = landscape(2, 300)
    before = write_scene(wide[:, 10:290, 10:290], "before.tif", **BANDS)
    after = write_scene(wide[:, 5:285, 10:290], "after.tif", **BANDS)
    with pytest.raises(SceneError, match="--force"):
        geoseg.change(before, after, output=tmp_path / "out", method="irmad")
    assert not (tmp_path / "out").exists()
    options: Any = {"method": "irmad", "force": True, "coregister": True}
    made = geoseg.change(before, after, output=tmp_path / "out", **options)
    assert made.summary["changed_share"] < 0.005


def test_pixels_without_data_on_one_date_are_nodata(
    pair: tuple[Path, Path, np.ndarray], write_scene: Write, tmp_path: Path
) -> None:
    before, after, _ = pair
    with rasterio.open(before) as scene:
        pixels = scene.read()
    pixels[:, 40:60, :] = 0
    holey = write_scene(pixels, "holey.tif", nodata=0, **BANDS)
    for first, second in ((holey, after), (after, holey)):
        made = geoseg.change(first, second, output=tmp_path / "o", method="irmad", overwrite=True)
        empty = (planes(made) == 255).all(axis=0)
        assert (np.flatnonzero(empty.any(axis=1)) == np.arange(40, 60)).all()
        assert made.summary["valid_pixels"] == 100 * 120


@pytest.mark.parametrize("rows", [7, 50])
def test_strips_leave_no_trace(
    pair: tuple[Path, Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    whole = geoseg.change(*pair[:2], output=tmp_path / "whole", method="irmad")
    monkeypatch.setattr(spectral, "STRIP_PX", rows * 120)
    cut = geoseg.change(*pair[:2], output=tmp_path / "cut", method="irmad")
    assert (planes(whole) == planes(cut)).all()
    assert whole.summary["polygons"] == cut.summary["polygons"]


def test_a_sample_of_the_pixels_gives_nearly_the_same_map(
    pair: tuple[Path, Path, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = geoseg.change(*pair[:2], output=tmp_path / "whole", method="irmad")
    monkeypatch.setattr(spectral, "MOST_SAMPLES", 2000)
    few = geoseg.change(*pair[:2], output=tmp_path / "few", method="irmad")
    assert few.summary["threshold"]["sampled_pixels"] <= 2000
    assert (planes(whole)[0] == planes(few)[0]).mean() > 0.995


def test_a_minimum_area_and_an_area_of_interest(
    pair: tuple[Path, Path, np.ndarray], tmp_path: Path
) -> None:
    before, after, new = pair
    made = geoseg.change(before, after, output=tmp_path / "large", method="irmad", min_area="1ha")
    layer = pyogrio.read_dataframe(made.files["polygons"], layer=f"{after.stem}_change_polygons")
    assert layer["area_m2"].min() > 0.99e4
    assert 300 < made.summary["changed_pixels"] < new.sum()
    x, y = NORTH_UP @ (25, 15)
    area = tmp_path / "area.geojson"
    box = geopandas.GeoSeries([shapely.box(x, y - 300, x + 300, y)], crs=UTM).to_crs(4326)
    box.to_file(area, driver="GeoJSON")
    made = geoseg.change(before, after, output=tmp_path / "part", method="irmad", area=area)
    changed, _ = planes(made)
    assert changed.shape[0] <= 32
    assert made.summary["valid_pixels"] == pytest.approx(30 * 30, abs=60)
    assert (changed == 1).sum() == pytest.approx(300, abs=6)


@pytest.mark.slow
@pytest.mark.parametrize("method", VALUES)
def test_taizhou_without_a_label(tmp_path: Path, method: Any) -> None:
    """Labels of Wu 2014 and Chen 2020; plain IR-MAD with Otsu's threshold has 0.947 and 0.934."""
    if not TAIZHOU.is_dir():
        pytest.skip(f"no real imagery at {TAIZHOU}; set GEOSEG_TEST_DATA")
    scenes = (TAIZHOU / f"Taizhou_{year}.tif" for year in (2000, 2003))
    made = geoseg.change(*scenes, output=tmp_path, method=method)
    with rasterio.open(TAIZHOU / "Taizhou_change_label.tif") as raster:
        label = raster.read(1)
    told = label != 255
    found, true = planes(made)[0][told] == 1, label[told] == 1
    agreed, chance = (
        (found == true).mean(),
        (found.mean() * true.mean() + (1 - found.mean()) * (1 - true.mean())),
    )
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) >= 0.95
    assert (agreed - chance) / (1 - chance) >= 0.935


# --- with a model --------------------------------------------------------------------------------


def classes(write_scene: Write, name: str, codes: np.ndarray, **more: Any) -> Path:
    """A scene that the identity network maps to these codes."""
    return write_scene(codes[None].astype("uint8"), name, descriptions=("red",), **more)


@pytest.fixture
def maps(write_scene: Write) -> tuple[Path, Path]:
    """Codes 1 and 2; a block of 1 becomes 5, a block of 2 becomes 7, one without data."""
    before = np.full((90, 100), 1)
    before[:, 50:] = 2
    after = before.copy()
    after[10:30, 10:30] = 5
    after[40:60, 45:55] = 5
    after[60:70, 80:95] = 7
    after[80:85, 5:9] = 0
    return classes(write_scene, "b.tif", before, nodata=0), classes(
        write_scene, "a.tif", after, nodata=0
    )


def test_what_became_of_what(maps: tuple[Path, Path], identity: Model, tmp_path: Path) -> None:
    made = geoseg.change(*maps, output=tmp_path, model=identity, force=True)
    found = [(e["from"], e["to"], e["pixels"]) for e in made.summary["transitions"]]
    assert found == [("c1", "c5", 500), ("c2", "c7", 150), ("c2", "c5", 100)]
    assert made.summary["model"]["name"] == "identity"
    with rasterio.open(made.files["change"]) as raster:
        assert raster.descriptions == ("from", "to", "confidence")
        assert raster.tags()["GEOSEG_MODEL_SHA256"] == "0" * 64
        earlier, later, percent = raster.read()
    assert (earlier[80:85, 5:9] == 255).all()
    assert (percent[earlier != later] == 100).all()
    assert (percent[earlier == later] % 255 == 0).all()
    layer = pyogrio.read_dataframe(made.files["polygons"], layer="a_change_polygons")
    assert {(r["from"], r["to"]) for _, r in layer.iterrows()} == {e[:2] for e in found}
    assert {"from_id", "to_id", "area_m2", "conf_mean", "date_before", "date_after"} <= set(layer)
    neighbours = layer[layer["to"] == "c5"].cx[500_450:500_550, 4_999_400:4_999_600].geometry
    assert neighbours.iloc[0].intersection(neighbours.iloc[1]).length == pytest.approx(200, abs=15)
    assert shapely.coverage_is_valid(layer.geometry.values)
    rows = table(made)
    at = {name: place for place, name in enumerate(rows[0])}
    by_name = {row[0]: row for row in rows}
    assert float(by_name["c1"][at["c5"]]) == pytest.approx(5, rel=2e-3)
    assert float(by_name["total after"][-1]) == pytest.approx(89.8, rel=2e-3)


def test_only_some_transitions_can_be_wanted(
    maps: tuple[Path, Path], identity: Model, tmp_path: Path
) -> None:
    options: Any = {"model": identity, "force": True, "overwrite": True, "output": tmp_path}
    for told, expected in (
        ({"from_classes": "c2"}, {("c2", "c7", 150), ("c2", "c5", 100)}),
        ({"to_classes": ["c5", "c9"]}, {("c1", "c5", 500), ("c2", "c5", 100)}),
        ({"from_classes": [1], "to_classes": "7"}, set()),
    ):
        made = geoseg.change(*maps, **options, **told)
        found = {(e["from"], e["to"], e["pixels"]) for e in made.summary["transitions"]}
        assert found == expected
    with pytest.raises(InputError, match="no class is called 'forest'"):
        geoseg.change(*maps, **options, from_classes="forest")
    with pytest.raises(InputError, match="knows no classes"):
        geoseg.change(*maps, **{**options, "method": "cva"}, to_classes="c5")


def test_small_patches_go_to_their_neighbours(
    maps: tuple[Path, Path], identity: Model, tmp_path: Path
) -> None:
    made = geoseg.change(*maps, output=tmp_path, model=identity, force=True, min_area="1.2ha")
    found = {(e["from"], e["to"], e["pixels"]) for e in made.summary["transitions"]}
    assert found == {("c1", "c5", 400), ("c2", "c7", 150)}


@pytest.mark.parametrize("noise", [0, 1])
def test_the_default_model_sees_no_change_in_a_scene_and_itself(
    tmp_path: Path, write_scene: Write, noise: int
) -> None:
    with rasterio.open(SAMPLE) as scene:
        pixels, profile = scene.read(), scene.profile
    rng = np.random.default_rng(0)
    noisy = np.where(pixels > 0, pixels + rng.integers(-noise, noise + 1, pixels.shape), pixels)
    after = write_scene(noisy.astype("uint16"), "after.tif", descriptions=SIX,
                        crs=profile["crs"], transform=profile["transform"], nodata=0)  # fmt: skip
    made = geoseg.change(SAMPLE, after, output=tmp_path / "out")
    assert made.summary["polygons"] == 0
    assert made.summary["shift_px"]["quality"] > 0.99


def test_the_default_model_compares_in_the_bands_of_the_poorer_scene(
    tmp_path: Path, write_scene: Write
) -> None:
    """Else the better map of one date would differ from the other's."""
    with rasterio.open(SAMPLE) as scene:
        pixels, profile = scene.read((1, 2, 3, 4)), scene.profile
    after = write_scene(pixels, "after.tif", descriptions=SIX[:4], crs=profile["crs"],
                        transform=profile["transform"], nodata=0)  # fmt: skip
    made = geoseg.change(SAMPLE, after, output=tmp_path / "out")
    assert made.summary["polygons"] == 0
    assert made.summary["bands"] == ["blue", "green", "red", "nir"]
    assert any("bands of the poorer one" in each for each in made.summary["assumed"])


def test_both_scenes_are_brought_to_the_level_of_the_model(tmp_path: Path) -> None:
    model = geoseg.load_model("landcover")
    of_toa = replace(model, card=model.card.model_copy(update={"levels": ("toa",)}))
    made = geoseg.change(SAMPLE, SAMPLE, output=tmp_path, model=of_toa, level="surface")
    said = "reflectance of level surface brought to toa by one line"
    assert any(said in each for each in made.summary["assumed"])
    assert made.summary["polygons"] == 0


# --- bad input -----------------------------------------------------------------------------------


def test_bad_input_is_one_clear_line_and_leaves_nothing(write_scene: Write, tmp_path: Path) -> None:
    scene = landscape()
    good = write_scene(scene, "good.tif", **BANDS)
    empty = write_scene(np.zeros_like(scene), "empty.tif", nodata=0, **BANDS)
    other = write_scene(scene[:2], "other.tif", descriptions=("swir16", "swir22"))
    out, options = tmp_path / "out", {"method": "irmad"}
    for before, after, more, error, said in (
        (good, empty, {}, SceneError, "share no valid pixel"),
        (good, other, {}, BandError, "share no band"),
        (good, tmp_path / "none.tif", {}, SceneError, "does not exist"),
        (good, good, {"before_date": "2021-01-01", "after_date": "2020-01-01"}, InputError,
         "give the earlier scene first"),
        (good, good, {"name": "a/b"}, InputError, "plain file name"),
        (good, good, {"method": "magic"}, InputError, "no method is called 'magic'"),
        (good, good, {"area": empty}, InputError, "formats"),
        (good, good, {"min_area": "large"}, InputError, "no area"),
        (other, other, {"method": "model"}, BandError, "the model needs the bands"),
    ):  # fmt: skip
        with pytest.raises(error, match=said) as caught:
            geoseg.change(before, after, output=out, **(options | more))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert not out.exists()
    geoseg.change(good, good, output=out, method="irmad")
    with pytest.raises(InputError, match="--overwrite"):
        geoseg.change(good, good, output=out, method="irmad")


def test_the_wrong_order_by_name_is_only_warned_of(write_scene: Write, tmp_path: Path) -> None:
    late, early = (
        write_scene(landscape(), f"x_{day}.tif", **BANDS) for day in (20210101, 20200101)
    )
    made = geoseg.change(late, early, output=tmp_path, method="irmad")
    assert "wrong way round" in made.summary["warnings"][0]


def test_scenes_of_different_grids_and_crs(
    pair: tuple[Path, Path, np.ndarray], write_scene: Write, tmp_path: Path
) -> None:
    before, after, new = pair
    with rasterio.open(after) as scene:
        doubled = scene.read().repeat(2, 1).repeat(2, 2)
    fine = write_scene(doubled[:, 20:], "fine.tif",
                       transform=NORTH_UP @ Affine.scale(0.5) @ Affine.translation(0, 20),
                       **BANDS)  # fmt: skip
    made = geoseg.change(before, fine, output=tmp_path / "out", method="irmad")
    assert made.summary["shape"] == [110, 120]
    assert any("resampled" in each for each in made.summary["assumed"])
    assert ((planes(made)[0] == 1) == new[10:]).mean() > 0.99
    unplaced = write_scene(landscape(), "unplaced.tif", crs=None, **BANDS)
    made = geoseg.change(unplaced, unplaced, output=tmp_path / "un", method="cva")
    assert made.summary["changed_area_ha"] is None
    assert "no CRS" in made.summary["warnings"][0]
    assert CRS.from_epsg(4326) != UTM


# --- on the command line -------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "geoseg.cli", "change", *map(str, arguments)],
        capture_output=True, check=False, text=True,
    )  # fmt: skip


def test_the_command_line(pair: tuple[Path, Path, np.ndarray], tmp_path: Path) -> None:
    done = run(*pair[:2], "--method", "irmad", "-o", tmp_path / "out")
    assert done.returncode == 0
    assert "by irmad" in done.stdout
    assert (tmp_path / "out/change.tif").is_file()
    told = run(*pair[:2], "--method", "irmad", "-o", tmp_path / "out", "--json", "--overwrite")
    assert json.loads(told.stdout)["files"]["change"].endswith("change.tif")
    again = run(*pair[:2], "--method", "irmad", "-o", tmp_path / "out")
    assert again.returncode == 2
    assert again.stderr.startswith("geoseg: error: ")
