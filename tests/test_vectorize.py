"""The verb: class rasters to files and tables, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from conftest import GRIDS, UTM

import geoseg
from geoseg.errors import InputError, OutputError, SceneError
from geoseg.vector import layers

WriteScene = Callable[..., Path]
LEGEND = {"GEOSEG_LEGEND": '{"0": "water", "1": "trees", "2": "built"}'}
FORMATS = [".gpkg", ".shp", ".parquet", ".fgb", ".geojson"]


@pytest.fixture
def classes(write_scene: WriteScene) -> Path:
    """80 x 90 pixels of three classes, a corner without data, and confidences beside it."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 3, (40, 45), np.uint8).repeat(2, 0).repeat(2, 1)
    codes[:10, :10] = 255
    path = write_scene(codes[None], "town_classes.tif", nodata=255)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**LEGEND)
        dataset.write_colormap(1, {0: (0, 0, 255, 255), 1: (0, 99, 0, 255), 2: (255, 0, 0, 255)})
    percent = rng.integers(30, 100, (1, 80, 90), np.uint8)
    percent[0, codes == 255] = 255
    write_scene(percent, "town_confidence.tif", nodata=255, scale=0.01)
    return path


def read(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, object]]:
    """Fields, shapes and description of a layer."""
    if path.suffix == ".parquet":
        import geopandas

        frame = geopandas.read_parquet(path)
        fields = {name: frame[name].to_numpy() for name in frame.columns if name != "geometry"}
        return fields, frame.geometry.to_numpy(), {"crs": frame.crs, "geometry_type": "Polygon"}
    about, _, wkb, values = pyogrio.raw.read(path, layer=0)
    return dict(zip(about["fields"], values, strict=True)), shapely.from_wkb(wkb), about


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_holds_the_same(classes: Path, tmp_path: Path, ending: str) -> None:
    made = geoseg.vectorize(classes, tmp_path / f"town{ending}")
    fields, shapes, about = read(tmp_path / f"town{ending}")
    expected, _, _ = read(Path(geoseg.vectorize(classes, tmp_path / "again.gpkg").output))
    assert made.polygons == len(shapes)
    assert all(path.is_file() for path in made.files)
    names = ["class_id", "class", "area_m2", "perimeter_m", "conf_mean", "conf_min"]
    if ending == ".shp":
        names[3] = "perim_m"
        told = (tmp_path / "town_fields.csv").read_text(encoding="utf-8")
        assert "perim_m,perimeter_m" in told
        assert (tmp_path / "town.cpg").read_text() == "UTF-8"
        assert "UTM" in (tmp_path / "town.prj").read_text()
    assert list(fields) == names
    order, expected_order = np.argsort(fields["area_m2"]), np.argsort(expected["area_m2"])
    assert set(fields["class"]) == {"water", "trees", "built"}
    for name, other in zip(names, expected, strict=True):
        if name not in ("class", "class_id"):
            np.testing.assert_allclose(np.sort(fields[name]), np.sort(expected[other]), rtol=1e-9)
    assert len(order) == len(expected_order)
    assert shapely.is_valid(shapes).all()
    if ending == ".geojson":
        assert abs(shapely.bounds(shapes)).max() < 180
        assert "crs" not in json.loads((tmp_path / "town.geojson").read_text())
    else:
        assert shapely.coverage_is_valid(shapes)
        assert "32633" in str(about["crs"])


def test_the_geopackage_opens_coloured_and_indexed(classes: Path, tmp_path: Path) -> None:
    geoseg.vectorize(classes, tmp_path / "town.gpkg")
    with closing(sqlite3.connect(tmp_path / "town.gpkg")) as database:
        ((table, geometry, style, default),) = database.execute(
            "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles"
        )
        assert (table, geometry, default) == ("town", "geometry", 1)
        assert 'attr="class"' in style
        assert 'value="trees"' in style
        assert "0,99,0,255" in style
        indexes = database.execute("SELECT extension_name FROM gpkg_extensions").fetchall()
        assert ("gpkg_rtree_index",) in indexes
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("name", GRIDS)
def test_any_grid(write_scene: WriteScene, tmp_path: Path, name: str) -> None:
    crs, transform = GRIDS[name]
    codes = np.random.default_rng(6).integers(0, 3, (1, 40, 50), np.uint8)
    raster = write_scene(codes, crs=crs, transform=transform)
    for simplify in (None, 0, 25):
        geoseg.vectorize(raster, tmp_path / "any.fgb", simplify=simplify, overwrite=True)
        fields, shapes, _ = read(tmp_path / "any.fgb")
        assert shapely.coverage_is_valid(shapes)
        with rasterio.open(raster) as dataset:
            grid = geoseg.Grid(dataset.crs, dataset.transform, dataset.shape)
        assert fields["area_m2"].sum() == pytest.approx(grid.cell_area_m2().sum(), rel=1e-6)


def test_the_sieved_raster_has_the_polygons_that_were_written(
    classes: Path, tmp_path: Path
) -> None:
    made = geoseg.vectorize(
        classes, tmp_path / "a.fgb", min_area="0.2ha", sieve=tmp_path / "sieved.tif", simplify=0
    )
    again = geoseg.vectorize(tmp_path / "sieved.tif", tmp_path / "b.fgb", simplify=0)
    assert made.polygons == again.polygons < geoseg.vectorize(classes, tmp_path / "c.fgb").polygons
    one, other = read(tmp_path / "a.fgb"), read(tmp_path / "b.fgb")
    assert {s.wkb for s in shapely.normalize(one[1])} == {
        s.wkb for s in shapely.normalize(other[1])
    }
    assert one[0]["area_m2"].min() >= 2000 * 0.99
    with rasterio.open(classes) as before, rasterio.open(tmp_path / "sieved.tif") as after:
        assert after.nodata == 255
        assert after.colormap(1)[1] == (0, 99, 0, 255)
        assert after.tags()["GEOSEG_LEGEND"] == LEGEND["GEOSEG_LEGEND"]
        np.testing.assert_array_equal(before.read(1) == 255, after.read(1) == 255)
    sidecar = (tmp_path / "sieved.tif.aux.xml").read_text()
    for name in json.loads(LEGEND["GEOSEG_LEGEND"]).values():
        assert f"<Category>{name}</Category>" in sidecar


def test_only_some_classes(classes: Path, tmp_path: Path) -> None:
    geoseg.vectorize(classes, tmp_path / "some.fgb", classes=["Water", "2"])
    assert set(read(tmp_path / "some.fgb")[0]["class"]) == {"water", "built"}
    with pytest.raises(InputError, match="no class is called 'forest'; the map names water"):
        geoseg.vectorize(classes, tmp_path / "none.fgb", classes=["forest"])
    for ending in (".gpkg", ".parquet"):
        with pytest.raises(InputError, match=r"town_classes\.tif has no patch of class 11, and no"):
            geoseg.vectorize(classes, tmp_path / f"none{ending}", classes=["1", "11"])
    assert not list(tmp_path.glob("none*"))


def test_a_class_that_has_a_name_may_be_absent(classes: Path, tmp_path: Path) -> None:
    with rasterio.open(classes, "r+") as dataset:
        dataset.update_tags(GEOSEG_LEGEND='{"0": "water", "7": "snow"}')
    assert geoseg.vectorize(classes, tmp_path / "snow.fgb", classes=["snow"]).polygons == 0
    assert geoseg.vectorize(classes, tmp_path / "one.fgb", classes=[1]).polygons > 0


def test_codes_of_32_bits_and_their_usual_nodata(write_scene: WriteScene, tmp_path: Path) -> None:
    codes = np.full((1, 20, 20), 7, np.uint32)
    codes[0, :10] = 4294967295
    raster = write_scene(codes, "codes.tif", nodata=4294967295)
    assert geoseg.vectorize(raster, tmp_path / "codes.gpkg").polygons == 1
    told = write_scene(codes, "told.tif")
    with pytest.raises(SceneError, match="holds codes above 2147483647"):
        geoseg.vectorize(told, tmp_path / "told.gpkg")
    assert geoseg.vectorize(told, tmp_path / "told.gpkg", nodata=4294967295).polygons == 1


def test_a_limit_of_pixels_holds_for_the_map_and_what_lies_on_it(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("geoseg.raster.source", "geoseg.raster.classes", "geoseg.vectorization"):
        monkeypatch.setattr(f"{module}.MAX_PIXELS", 1000)
    with pytest.raises(SceneError, match="raise the limit with --max-pixels"):
        geoseg.vectorize(classes, tmp_path / "town.gpkg", max_pixels=1000)
    made = geoseg.vectorize(classes, tmp_path / "town.gpkg", max_pixels=80 * 90)
    assert "conf_mean" in read(tmp_path / "town.gpkg")[0]
    assert made.polygons > 0


def test_an_index_of_the_old_shapes_does_not_hide_the_new(classes: Path, tmp_path: Path) -> None:
    target = tmp_path / "town.shp"
    made = geoseg.vectorize(classes, target)
    for companion in ("town.qix", "town.sbn", "town.shp.xml"):
        (tmp_path / companion).write_bytes(b"of the old ones")
    (tmp_path / "town_notes.txt").write_text("mine")
    assert geoseg.vectorize(classes, target, overwrite=True).polygons == made.polygons
    left = {path.name for path in tmp_path.iterdir()} - {path.name for path in made.files}
    assert left == {"town_classes.tif", "town_confidence.tif", "town_notes.txt"}
    west, south, east, north = pyogrio.read_info(target)["total_bounds"]
    middle = (west + east) / 2, (south + north) / 2
    assert len(pyogrio.read_dataframe(target, bbox=(*middle, *middle))) > 0


def test_an_ending_in_capitals(classes: Path, tmp_path: Path) -> None:
    made = geoseg.vectorize(classes, tmp_path / "TOWN.SHP")
    assert made.files[-1] == tmp_path / "TOWN.shp"
    assert len(read(tmp_path / "TOWN.shp")[1]) == made.polygons


@pytest.mark.parametrize("ending", FORMATS)
def test_an_empty_raster_gives_an_empty_layer(
    write_scene: WriteScene, tmp_path: Path, ending: str
) -> None:
    raster = write_scene(np.full((1, 30, 30), 255, np.uint8), nodata=255)
    assert geoseg.vectorize(raster, tmp_path / f"empty{ending}").polygons == 0
    fields, shapes, _ = read(tmp_path / f"empty{ending}")
    assert len(shapes) == 0
    if ending != ".geojson":  # which has nowhere to say what fields there would be
        assert [name[:5] for name in fields] == ["class", "class", "area_", "perim"]


def test_many_classes(write_scene: WriteScene, tmp_path: Path) -> None:
    codes = np.arange(1000, dtype=np.uint16).reshape(1, 20, 50) * 60
    raster = write_scene(codes, nodata=0)
    made = geoseg.vectorize(
        raster, tmp_path / "many.gpkg", sieve=tmp_path / "s.tif", min_area="1px"
    )
    assert made.polygons == 999
    assert read(tmp_path / "many.gpkg")[0]["class_id"].max() == 59940
    with rasterio.open(tmp_path / "s.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), codes)


def test_without_a_crs_areas_are_in_pixels(write_scene: WriteScene, tmp_path: Path) -> None:
    raster = write_scene(np.zeros((1, 8, 9), np.uint8), crs=None)
    geoseg.vectorize(raster, tmp_path / "plain.gpkg")
    assert read(tmp_path / "plain.gpkg")[0]["area_px"].tolist() == [72]
    for options in ({"simplify": 5}, {"min_area": "1ha"}):
        with pytest.raises(InputError, match="has no CRS"):
            geoseg.vectorize(raster, tmp_path / "other.gpkg", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="longitudes and latitudes"):
        geoseg.vectorize(raster, tmp_path / "plain.geojson")


def test_what_cannot_be_outlined_is_refused(write_scene: WriteScene, tmp_path: Path) -> None:
    floats = write_scene(np.zeros((1, 8, 8), np.float32), "floats.tif")
    with pytest.raises(SceneError, match="holds float32 values; expected whole class codes"):
        geoseg.vectorize(floats, tmp_path / "x.gpkg")
    scene = write_scene(np.zeros((3, 8, 8), np.uint8), "scene.tif")
    with pytest.raises(SceneError, match="has 3 bands; expected one"):
        geoseg.vectorize(scene, tmp_path / "x.gpkg")
    with pytest.raises(SceneError, match="does not exist"):
        geoseg.vectorize(tmp_path / "nothing.tif", tmp_path / "x.gpkg")
    assert not list(tmp_path.glob("*x.gpkg*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"simplify": -1}, "--simplify -1 makes no sense"),
        ({"simplify": 3, "smooth": True}, "leave --simplify away"),
        ({"min_area": "big"}, "--min-area big is no area"),
        ({"min_area": "1.2.3"}, "is no area"),
        ({"sieve": "s.tif"}, "say how much"),
        ({"output": "map.docx"}, "no ending that says a format"),
        ({"nodata": -9999}, "--nodata -9999: town_classes.tif holds uint8 values"),
        ({"nodata": 0.5}, "--nodata 0.5: town_classes.tif holds uint8 values"),
        ({"nodata": float("nan")}, "--nodata nan: town_classes.tif holds uint8 values"),
    ],
)
def test_options_that_make_no_sense(
    classes: Path, tmp_path: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        geoseg.vectorize(classes, **({"output": tmp_path / "x.gpkg"} | options))  # type: ignore[arg-type]


def test_what_exists_stays(classes: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept.shp"
    (tmp_path / "kept.dbf").write_text("mine")
    with pytest.raises(InputError, match="exists already; write elsewhere with -o"):
        geoseg.vectorize(classes, target)
    assert (tmp_path / "kept.dbf").read_text() == "mine"
    assert not target.exists()
    assert geoseg.vectorize(classes, target, overwrite=True).polygons


def test_an_output_that_another_run_writes(classes: Path, tmp_path: Path) -> None:
    from geoseg.outputs import staged

    with (
        staged(tmp_path, "busy.gpkg", ["busy.gpkg"]),
        pytest.raises(OutputError, match="another geoseg run"),
    ):
        geoseg.vectorize(classes, tmp_path / "busy.gpkg")


def test_a_shapefile_over_its_limit_leaves_nothing(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "MAX_SHAPEFILE_BYTES", 20_000)
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match="beyond 2 GB, which Shapefiles must not"):
        geoseg.vectorize(classes, tmp_path / "big.shp")
    assert set(tmp_path.iterdir()) == before


def test_a_damaged_raster_leaves_nothing(classes: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.tif"
    torn.write_bytes(classes.read_bytes()[:-3000])
    before = set(tmp_path.iterdir())
    with pytest.raises(SceneError):
        geoseg.vectorize(torn, tmp_path / "torn.gpkg")
    assert set(tmp_path.iterdir()) == before


def test_a_confidence_of_another_place_is_refused(
    classes: Path, write_scene: WriteScene, tmp_path: Path
) -> None:
    other = write_scene(np.zeros((1, 5, 5), np.uint8), "other.tif")
    with pytest.raises(SceneError, match="does not lie on the pixels of the class raster"):
        geoseg.vectorize(classes, tmp_path / "x.gpkg", confidence=other)


def test_the_command(classes: Path, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "geoseg.cli", "vectorize", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    done = run(classes.name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "town_polygons.gpkg" in done.stdout
    again = run(classes.name)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    made = json.loads(run(classes.name, "-o", "x.fgb", "--classes", "water", "--json").stdout)
    assert made["files"] == ["x.fgb"]
    unreachable = run(classes.name, "-o", "postgresql://me:secret@127.0.0.1:9/none")
    assert unreachable.returncode == 3
    assert unreachable.stderr.count("\n") == 1
    assert "secret" not in unreachable.stderr


def test_postgis(classes: Path, tmp_path: Path, database: str) -> None:
    import psycopg

    address = f"{database}{'&' if '?' in database else '?'}table=geoseg_test"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS geoseg_test")
        made = geoseg.vectorize(classes, address)
        with pytest.raises(InputError, match="exists already; choose another"):
            geoseg.vectorize(classes, address)
        torn = tmp_path / "torn.tif"
        torn.write_bytes(classes.read_bytes()[:-3000])
        with pytest.raises(SceneError):
            geoseg.vectorize(torn, address, overwrite=True)
        query = (
            "SELECT count(*), sum(area_m2), bool_and(ST_IsValid(geometry)), "
            "min(ST_SRID(geometry)), min(conf_min), sum(ST_Area(geometry)) FROM geoseg_test"
        )
        found = connection.execute(query).fetchone()
        assert found is not None
        count, area, valid, srid, confidence, drawn = found
        connection.execute("DROP TABLE geoseg_test")
        with pytest.raises(SceneError):
            geoseg.vectorize(torn, address)
        assert connection.execute("SELECT to_regclass('geoseg_test')").fetchone() == (None,)
    with rasterio.open(classes) as dataset:
        pixels = int((dataset.read(1) != 255).sum())
    assert (count, valid, srid) == (made.polygons, True, UTM.to_epsg())
    assert drawn == pytest.approx(pixels * 100, rel=1e-9)
    assert area == pytest.approx(drawn, rel=2e-3)
    assert 0.3 <= confidence < 1
