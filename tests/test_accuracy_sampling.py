"""Samples drawn from files, and what QGIS finds in them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from conftest import GRIDS
from made_maps import NAMES, made_codes, write_classes
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

import geoseg
from geoseg.errors import GridError, InputError, SceneError
from geoseg.grid import Grid
from geoseg.legend import NODATA
from geoseg.vector.samples import read_samples


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "classes.tif", made_codes())


@pytest.mark.parametrize("place", GRIDS)
@pytest.mark.parametrize("plot_px", [None, 3])
def test_samples_lie_on_the_pixels_they_were_drawn_from(
    tmp_path: Path, place: str, plot_px: int | None
) -> None:
    crs, transform = GRIDS[place]
    codes = made_codes()
    path = write_classes(tmp_path / "classes.tif", codes, crs=crs, transform=transform)
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=60, plot_px=plot_px)
    frame = pyogrio.read_dataframe(drawn.files["samples"], layer="samples")
    assert len(frame) == 60
    centres = shapely.get_coordinates(shapely.centroid(np.asarray(frame.geometry)))
    col, row = Grid(crs, transform, codes.shape).to_pixels(centres[:, 0], centres[:, 1])
    np.testing.assert_allclose(row, frame["row"] + 0.5, atol=1e-6)
    np.testing.assert_allclose(col, frame["col"] + 0.5, atol=1e-6)
    assert (codes[frame["row"], frame["col"]] == frame["map_code"]).all()
    assert [NAMES[code] for code in frame["map_code"]] == list(frame["map_class"])
    if plot_px is not None:
        assert set(frame.geom_type) == {"Polygon"}


def test_the_file_says_how_it_was_drawn(classes: Path, tmp_path: Path) -> None:
    drawn = geoseg.sample(classes, output=tmp_path / "s.gpkg", size=90, allocation="equal", seed=7)
    read = read_samples(tmp_path / "s.gpkg")
    assert read.design == drawn.design
    assert read.design is not None
    assert read.design.seed == 7
    assert [(each.name, each.samples) for each in read.design.strata] == [
        ("water", 30),
        ("trees", 30),
        ("crops", 30),
    ]
    assert read.labels == (None,) * 90
    valid = int((made_codes() != NODATA).sum())
    assert read.design.pixels == valid
    assert read.design.total_hectares == pytest.approx(valid * 100 / 1e4, rel=2e-3)
    frame = pyogrio.read_dataframe(tmp_path / "s.gpkg", layer="samples")
    assert frame["weight"].sum() == pytest.approx(valid)
    np.testing.assert_allclose(frame["inclusion_probability"] * frame["weight"], 1)
    assert list(frame["sample_id"]) == list(range(1, 91))


def test_the_same_seed_draws_the_same_sample(classes: Path, tmp_path: Path) -> None:
    places = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        geoseg.sample(classes, output=tmp_path / f"{name}.gpkg", size=50, seed=seed)
        frame = pyogrio.read_dataframe(tmp_path / f"{name}.gpkg", layer="samples")
        places.append(frame[["row", "col"]].to_numpy().tolist())
    assert places[0] == places[1]
    assert places[0] != places[2]


ASK_QGIS = """
import json, os, sys
from qgis.core import QgsApplication, QgsVectorLayer
app = QgsApplication([], False)
app.initQgis()
layer = QgsVectorLayer(f"{sys.argv[1]}|layername=samples", "samples", "ogr")
widget = layer.editorWidgetSetup(layer.fields().indexOf("reference"))
hidden = layer.editorWidgetSetup(layer.fields().indexOf("map_class"))
print(json.dumps([layer.featureCount(), widget.type(), widget.config(), hidden.type(),
                  len(layer.renderer().rootRule().children())]), flush=True)
os._exit(0)  # taking QGIS apart may crash, which is not ours to judge
"""


def test_qgis_itself_shows_a_drop_down(classes: Path, tmp_path: Path) -> None:
    python = shutil.which("python3", path="/usr/bin")
    if python is None or subprocess.run([python, "-c", "import qgis"], check=False,
                                        capture_output=True).returncode:  # fmt: skip
        pytest.skip("no QGIS here: apt-get install python3-qgis")
    geoseg.sample(classes, output=tmp_path / "s.gpkg", size=20)
    asked = subprocess.run(
        [python, "-c", ASK_QGIS, tmp_path / "s.gpkg"], capture_output=True, text=True, check=True,
        env={"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": tmp_path, "HOME": tmp_path},
    )  # fmt: skip
    count, kind, config, hidden, rules = json.loads(asked.stdout.splitlines()[-1])
    assert (count, kind, hidden, rules) == (20, "ValueMap", "Hidden", 2)
    assert config == {"map": [{name: name} for name in NAMES.values()]}


def test_the_style_offers_the_legend(classes: Path, tmp_path: Path) -> None:
    geoseg.sample(classes, output=tmp_path / "s.gpkg", size=20)
    with closing(sqlite3.connect(tmp_path / "s.gpkg")) as database:
        table, column, qml, default = database.execute(
            "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles"
        ).fetchone()
        tables = {row[0] for row in database.execute("SELECT table_name FROM gpkg_contents")}
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert (table, column, default) == ("samples", "geom", 1)
    assert tables == {"samples", "geoseg_design", "layer_styles"}
    root = ElementTree.fromstring(qml.split("\n", 1)[1])  # noqa: S314  (our own)
    widgets = {field.get("name"): field.find("editWidget").get("type")  # type: ignore[union-attr]
               for field in root.iter("field") if field.find("editWidget") is not None}  # fmt: skip
    assert widgets["reference"] == "ValueMap"
    assert widgets["map_class"] == "Hidden"
    offered = root.find(".//field[@name='reference']//Option[@name='map']")
    assert offered is not None
    assert [each[0].get("value") for each in offered] == list(NAMES.values())


def test_a_simple_and_a_systematic_sample(classes: Path, tmp_path: Path) -> None:
    simple = geoseg.sample(classes, output=tmp_path / "a.gpkg", size=80, design="simple")
    assert [(each.name, each.samples) for each in simple.design.strata] == [("map", 80)]
    grid = geoseg.sample(classes, output=tmp_path / "b.gpkg", size=80, design="systematic", seed=4)
    frame = pyogrio.read_dataframe(tmp_path / "b.gpkg", layer="samples")
    assert grid.design.samples == len(frame)
    assert 60 < len(frame) < 100
    assert grid.design.spacing_px is not None
    assert frame["inclusion_probability"][0] == pytest.approx(1 / grid.design.spacing_px**2)
    steps = np.unique(np.diff(np.unique(frame["row"])))
    assert steps.max() - steps.min() <= 1


def test_strata_may_come_from_another_raster(classes: Path, tmp_path: Path) -> None:
    codes = made_codes()
    halves = np.where(np.arange(codes.shape[0])[:, None] < 60, 4, 9) + 0 * codes
    halves[:, -10:] = NODATA
    strata = write_classes(tmp_path / "halves.tif", halves, names={4: "north", 9: "south"})
    drawn = geoseg.sample(classes, output=tmp_path / "s.gpkg", strata=strata, size=40)
    both = (codes != NODATA) & (halves != NODATA)
    assert [(s.name, s.pixels) for s in drawn.design.strata] == [
        ("north", int((both & (halves == 4)).sum())),
        ("south", int((both & (halves == 9)).sum())),
    ]
    assert drawn.design.strata_source == "halves.tif"
    assert sum(each.pixels for each in drawn.design.classes) == both.sum()
    frame = pyogrio.read_dataframe(tmp_path / "s.gpkg", layer="samples")
    assert (frame["col"] < codes.shape[1] - 10).all()


def test_the_size_follows_from_a_standard_error(classes: Path, tmp_path: Path) -> None:
    drawn = geoseg.sample(
        classes, output=tmp_path / "s.gpkg", standard_error=0.04, expected={"water": 0.5}
    )
    assert drawn.design.samples == 106  # ((0.1 * 0.5 + 0.9 * 0.4) / 0.04)^2, rounded up
    told = drawn.design.size_from
    assert told is not None
    assert "0.5 (water)" in told
    assert "assumed for trees, crops" in told


def test_chips_show_the_scene_around_each_sample(
    classes: Path, tmp_path: Path, write_scene: Callable[..., Path]
) -> None:
    rng = np.random.default_rng(0)
    scene = write_scene(
        rng.integers(1, 3_000, (3, 130, 170)).astype(np.uint16),
        crs=CRS.from_epsg(32634),  # the neighbouring zone
        transform=Affine(10, 0, 24_500, 0, -10, 5_017_900),
    )
    drawn = geoseg.sample(classes, output=tmp_path / "s.gpkg", size=20, scene=scene, chip_px=33)
    chips = sorted(drawn.files["chips"].iterdir())
    assert [chip.name for chip in chips[:2]] == ["00001.png", "00002.png"]
    assert len(chips) == 20
    with Image.open(chips[0]) as picture:
        assert picture.size == (297, 297)
    frame = pyogrio.read_dataframe(tmp_path / "s.gpkg", layer="samples")
    assert frame["chip"][0] == "s_chips/00001.png"
    again = geoseg.sample(classes, output=tmp_path / "s.gpkg", size=10, scene=scene, overwrite=True)
    assert len(list(again.files["chips"].iterdir())) == 10


def test_a_chip_is_centred_on_its_pixel(tmp_path: Path, write_scene: Callable[..., Path]) -> None:
    codes = np.full((60, 80), NODATA)
    codes[20, 30] = codes[41, 7] = 1
    path = write_classes(tmp_path / "classes.tif", codes)
    light = np.where(codes == 1, 255, 10).astype(np.uint8)
    scene = write_scene(np.stack([light] * 3))
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=2, scene=scene, chip_px=21)
    for chip in drawn.files["chips"].iterdir():
        with Image.open(chip) as image:
            picture = np.asarray(image)
        grow = picture.shape[0] // 21
        middle = picture[10 * grow : 11 * grow, 10 * grow : 11 * grow]
        assert (middle == 255).all()


def test_a_foreign_raster_has_its_own_nodata(tmp_path: Path) -> None:
    path = tmp_path / "foreign.tif"
    with rasterio.open(path, "w", driver="GTiff", count=1, height=20, width=20, dtype="uint8",
                       nodata=0, crs=CRS.from_epsg(32633),
                       transform=Affine(10, 0, 0, 0, -10, 0)) as out:  # fmt: skip
        codes = np.zeros((20, 20), np.uint8)
        codes[5:] = 7
        out.write(codes, 1)
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=10)
    assert [(s.name, s.pixels) for s in drawn.design.strata] == [("class 7", 300)]


def test_255_is_no_class_unless_the_file_says_so(tmp_path: Path) -> None:
    """Of a mask of 0 and 255, half would be missing from the sample, and nobody would know."""
    codes = np.zeros((20, 20))
    codes[:, :5] = 255
    path = write_classes(tmp_path / "mask.tif", codes, names={}, nodata=None)
    with pytest.raises(SceneError, match=r"mask\.tif holds the code 255, .* say --nodata 255"):
        geoseg.sample(path, output=tmp_path / "s.gpkg", size=10)
    with pytest.raises(SceneError, match=r"mask\.tif holds the code 255"):
        geoseg.assess_accuracy(path, path, output=tmp_path)
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=10, nodata=255)
    assert [(s.name, s.pixels) for s in drawn.design.strata] == [("class 0", 300)]


def test_a_large_map_can_be_sampled_by_raising_the_limit(classes: Path, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="raise the limit with --max-pixels"):
        geoseg.sample(classes, output=tmp_path / "s.gpkg", max_pixels=100)
    with pytest.raises(SceneError, match="raise the limit with --max-pixels"):
        geoseg.assess_accuracy(classes, classes, output=tmp_path, max_pixels=100)
    assert geoseg.sample(classes, output=tmp_path / "s.gpkg", max_pixels=10**12).design.strata


def test_chips_have_the_scenes_own_colours(
    tmp_path: Path, write_scene: Callable[..., Path]
) -> None:
    """Blue, green, red and near infrared, as the file's colour interpretation alone says."""
    path = write_classes(tmp_path / "classes.tif", np.ones((60, 80)))
    light = np.zeros((4, 60, 80), np.uint8)
    light[2] = 255
    scene = write_scene(light)
    with rasterio.open(scene, "r+") as dataset:
        dataset.colorinterp = [
            ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined,
        ]  # fmt: skip
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=2, scene=scene, chip_px=21)
    with Image.open(next(drawn.files["chips"].iterdir())) as image:
        assert image.convert("RGB").getpixel((40, 40)) == (255, 0, 0)


def test_a_map_without_a_place_can_be_sampled(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "classes.tif", made_codes(), crs=None, transform=None)
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=10)
    assert drawn.design.total_hectares is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "s.shp"}, "is no GeoPackage"),
        ({"size": 1}, "has no standard error"),
        ({"size": 10, "standard_error": 0.1}, "not both"),
        ({"size": 5}, "5 samples cannot give 2 to each of 3"),
        ({"seed": -1}, "a seed is"),
        ({"plot_px": 4}, "odd number"),
        ({"chip_px": 1}, "chips of 1 pixels"),
        ({"expected": {"wter": 0.9}}, "no stratum 'wter'"),
        ({"expected": 9.0}, "from 0 to 1"),
        ({"design": "simple", "strata": "x.tif"}, "go with the stratified design"),
        ({"design": "simple", "size": 10**6}, "cannot be drawn from"),
        ({"scene": "nowhere.tif"}, "does not exist"),
    ],
)
def test_bad_options_are_refused(
    classes: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    before = sorted(tmp_path.iterdir())
    target = tmp_path / str(options.pop("output", "s.gpkg"))
    with pytest.raises(InputError, match=message):
        geoseg.sample(classes, output=target, **options)  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


def test_bad_rasters_are_refused(
    classes: Path, tmp_path: Path, write_scene: Callable[..., Path]
) -> None:
    floats = write_scene(np.zeros((1, 9, 9), np.float32))
    with pytest.raises(SceneError, match="holds float32 values"):
        geoseg.sample(floats, output=tmp_path / "s.gpkg")
    empty = write_classes(tmp_path / "empty.tif", np.full((9, 9), NODATA))
    with pytest.raises(SceneError, match="no valid pixel"):
        geoseg.sample(empty, output=tmp_path / "s.gpkg")
    small = write_classes(tmp_path / "small.tif", made_codes()[:50])
    with pytest.raises(GridError, match="do not cover the same pixels"):
        geoseg.sample(classes, output=tmp_path / "s.gpkg", strata=small, size=20)
    moved = write_classes(
        tmp_path / "moved.tif", made_codes(), transform=Affine(10, 0, 500_003, 0, -10, 5_000_000)
    )
    with pytest.raises(GridError, match="not one lattice"):
        geoseg.sample(classes, output=tmp_path / "s.gpkg", strata=moved, size=20)


def test_a_sample_is_not_overwritten(classes: Path, tmp_path: Path) -> None:
    geoseg.sample(classes, output=tmp_path / "s.gpkg", size=20)
    with pytest.raises(InputError, match="already; write elsewhere"):
        geoseg.sample(classes, output=tmp_path / "s.gpkg", size=20)
    geoseg.sample(classes, output=tmp_path / "s.gpkg", size=30, overwrite=True)
    assert len(read_samples(tmp_path / "s.gpkg").labels) == 30


def test_what_a_killed_run_left_is_cleared(
    classes: Path, tmp_path: Path, write_scene: Callable[..., Path]
) -> None:
    leftover = tmp_path / ".s.geoseg" / "s_chips"
    leftover.mkdir(parents=True)
    (leftover / "00001.png").write_text("half a pic")
    scene = write_scene(np.zeros((3, 120, 150), np.uint8))
    drawn = geoseg.sample(classes, output=tmp_path / "s.gpkg", size=6, scene=scene)
    assert len(list(drawn.files["chips"].iterdir())) == 6
    assert not leftover.parent.exists()


def test_the_design_is_plain_json(classes: Path, tmp_path: Path) -> None:
    geoseg.sample(classes, output=tmp_path / "s.gpkg", size=20)
    with closing(sqlite3.connect(tmp_path / "s.gpkg")) as database:
        (text,) = database.execute("SELECT design FROM geoseg_design").fetchone()
    told = json.loads(text)
    assert told["strata"][0].keys() >= {"weight", "inclusion_probability", "pixels", "samples"}
    assert len(told["map_sha256"]) == 64
