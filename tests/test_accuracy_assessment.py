"""Maps judged from files: samples, polygons, rasters, and what is wrong with them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from made_maps import NAMES, UTM, label, made_codes, made_truth, say_truth, write_classes
from rasterio.crs import CRS

import geoseg
from geoseg.accuracy.estimate import estimate
from geoseg.accuracy.report import methods
from geoseg.errors import GridError, InputError
from geoseg.grid import Grid
from geoseg.legend import NODATA

CODES = made_codes()
TRUTH = made_truth(CODES)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "classes.tif", CODES)


@pytest.fixture
def samples(classes: Path, tmp_path: Path) -> Path:
    drawn = geoseg.sample(classes, output=tmp_path / "s.gpkg", size=150, allocation="equal")
    return label(drawn.files["samples"], say_truth(TRUTH))


def test_a_sample_of_the_map_s_classes_gives_olofsson_s_figures(
    classes: Path, samples: Path, tmp_path: Path
) -> None:
    found = geoseg.assess_accuracy(classes, samples, output=tmp_path / "out").judgement
    pixels = [int((code == CODES).sum()) for code in NAMES]
    expected = estimate(found.figures.counts.entries, pixels, found.figures.total_area)
    assert found.kind == "estimate"
    assert found.figures.overall.value == pytest.approx(expected.overall.value, abs=1e-4)
    for each, other in zip(found.figures.classes, expected.classes, strict=True):
        assert each.area.value == pytest.approx(other.area.value, rel=1e-3)
        # the finite population correction makes the error a little smaller
        assert 0.9 < each.area.standard_error / other.area.standard_error < 1
    truth = [float((code == TRUTH).sum() / np.isin(CODES, list(NAMES)).sum()) for code in NAMES]
    for each, share in zip(found.figures.classes, truth, strict=True):
        assert abs(each.share.value - share) < 4 * each.share.standard_error
    assert found.unlabelled == 0


def test_the_files_hold_the_figures(classes: Path, samples: Path, tmp_path: Path) -> None:
    found = geoseg.assess_accuracy(classes, samples, output=tmp_path / "out")
    assert [path.name for path in found.files.values()] == [
        "classes_accuracy.html",
        "classes_accuracy.csv",
        "classes_accuracy.json",
    ]
    told = json.loads(found.files["figures"].read_text(encoding="utf-8"))
    overall = found.judgement.figures.overall
    assert told["overall_accuracy"]["value"] == overall.value
    assert told["overall_accuracy"]["standard_error"] == overall.standard_error
    assert told["design"]["strata"][0]["samples"] == 50
    assert told["classes"][1]["users_accuracy"].keys() == {"value", "standard_error", "low", "high"}
    with found.files["table"].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    areas = {row["class"]: row for row in rows if row["measure"] == "area"}
    assert areas["water"]["unit"] == "ha"
    assert float(areas["water"]["value"]) == pytest.approx(told["classes"][0]["area"]["value"])
    assert "a stratified random sample of 150 points" in methods(found.judgement)
    assert "Olofsson et al. (2014)" in told["methods"]


@pytest.mark.parametrize("design", ["simple", "systematic"])
def test_other_designs(classes: Path, tmp_path: Path, design: str) -> None:
    drawn = geoseg.sample(classes, output=tmp_path / "s.gpkg", size=400, design=design)  # type: ignore[arg-type]
    label(drawn.files["samples"], say_truth(TRUTH))
    found = geoseg.assess_accuracy(classes, drawn.files["samples"], output=tmp_path).judgement
    n, right = found.figures.counts.total, found.figures.overall.value
    unseen = 1 - n / np.isin(CODES, list(NAMES)).sum()
    expected = np.sqrt(unseen * right * (1 - right) / (n - 1))
    assert found.figures.overall.standard_error == pytest.approx(expected, rel=1e-3)
    assert any("systematic" in note for note in found.notes) == (design == "systematic")


def test_strata_that_are_not_the_classes(classes: Path, tmp_path: Path) -> None:
    halves = np.where(np.arange(120)[:, None] < 60, 4, 9) + 0 * CODES
    strata = write_classes(tmp_path / "halves.tif", halves, names={4: "north", 9: "south"})
    drawn = geoseg.sample(classes, output=tmp_path / "s.gpkg", strata=strata, size=300)
    label(drawn.files["samples"], say_truth(TRUTH))
    found = geoseg.assess_accuracy(classes, drawn.files["samples"], output=tmp_path).judgement
    right = (CODES == TRUTH) & (CODES != NODATA)
    overall = right.sum() / (CODES != NODATA).sum()
    assert abs(found.figures.overall.value - overall) < 4 * found.figures.overall.standard_error
    assert "Stehman (2014)" in methods(found)
    assert dict(found.labelled).keys() == {"north", "south"}


def test_areas_are_true_in_degrees(tmp_path: Path) -> None:
    """A map from 0 to 80 degrees north: a pixel in the south weighs six times one in the north."""
    codes = np.repeat([[1], [2]], [40, 40], axis=0) + np.zeros((80, 60), int)
    path = write_classes(tmp_path / "classes.tif", codes, crs=CRS.from_epsg(4326),
                         transform=Affine(1, 0, 0, 0, -1, 80))  # fmt: skip
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=3_000, design="simple")
    label(drawn.files["samples"], lambda _n, row, col: NAMES[int(codes[row, col])])
    found = geoseg.assess_accuracy(path, drawn.files["samples"], output=tmp_path).judgement
    cells = Grid(CRS.from_epsg(4326), Affine(1, 0, 0, 0, -1, 80), (80, 60)).cell_area_m2()
    assert cells is not None
    share = cells[:40].sum() / cells.sum()
    assert share < 0.4  # of half the pixels
    north = found.figures.by_name("water").share
    assert abs(north.value - share) < 3 * north.standard_error
    assert found.figures.total_area == pytest.approx(cells.sum() / 1e4)


def test_the_new_pixels_of_a_change_map_are_classes_too(tmp_path: Path) -> None:
    names = {11: "trees stay", 12: "trees to built", 22: "built stays"}
    codes = np.select([CODES == 1, CODES == 2, CODES == 3], [12, 11, 22], NODATA)
    path = write_classes(tmp_path / "change.tif", codes, names=names)
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=90, allocation="equal")
    label(drawn.files["samples"], lambda _n, row, col: names[int(codes[row, col])])
    found = geoseg.assess_accuracy(path, drawn.files["samples"], output=tmp_path).judgement
    change = found.figures.by_name("trees to built").area
    assert change.value == pytest.approx((codes == 12).sum() * 100 / 1e4, rel=2e-3)


def test_unlabelled_samples_are_told_of(classes: Path, samples: Path, tmp_path: Path) -> None:
    label(samples, lambda n, row, col: None if n <= 30 else say_truth(TRUTH)(n, row, col),
          sql="DELETE FROM samples WHERE sample_id = 1")  # fmt: skip
    found = geoseg.assess_accuracy(classes, samples, output=tmp_path).judgement
    assert found.unlabelled == 30
    assert sum(found.labelled.values()) == 120
    assert "30 of 150 samples are not labelled" in found.notes[0]


def export(samples: Path, target: Path, keep: tuple[str, ...] = ("reference",), **to: str) -> Path:
    """What a person saves from QGIS under another name."""
    frame = pyogrio.read_dataframe(samples, layer="samples")[[*keep, "geometry"]]
    pyogrio.write_dataframe(frame.to_crs(to["crs"]) if to else frame, target)
    return target


def test_samples_without_a_design_give_agreement_only(
    classes: Path, samples: Path, tmp_path: Path
) -> None:
    points = export(samples, tmp_path / "points.geojson", crs="EPSG:4326")
    found = geoseg.assess_accuracy(classes, points, output=tmp_path / "out")
    told = json.loads(found.files["figures"].read_text(encoding="utf-8"))
    assert told["kind"] == "agreement"
    assert "overall_accuracy" not in told
    assert told["overall_agreement"]["standard_error"] is None
    assert "area" not in told["classes"][0]
    assert told["matrix"]["proportions"] is None
    assert "declare no probability design" in found.judgement.notes[0]
    assert "accuracy of" not in found.files["page"].read_text(encoding="utf-8").lower()
    counts = np.array(told["matrix"]["counts"])
    assert told["overall_agreement"]["value"] == pytest.approx(counts.trace() / 150)


def test_a_design_may_be_declared(classes: Path, samples: Path, tmp_path: Path) -> None:
    points = export(samples, tmp_path / "points.gpkg", crs="EPSG:3857")
    carried = geoseg.assess_accuracy(classes, samples, output=tmp_path / "a").judgement
    declared = geoseg.assess_accuracy(
        classes, points, output=tmp_path / "b", design="stratified"
    ).judgement
    assert declared.figures.overall == pytest.approx(carried.figures.overall)
    assert "declared by the person" in methods(declared)
    simple = geoseg.assess_accuracy(
        classes, points, output=tmp_path / "c", design="simple"
    ).judgement
    assert simple.design is not None
    assert simple.design.strata[0].samples == 150
    with pytest.raises(InputError, match="carry their design"):
        geoseg.assess_accuracy(classes, samples, output=tmp_path / "d", design="simple")


def test_a_shapefile_of_codes(classes: Path, samples: Path, tmp_path: Path) -> None:
    frame = pyogrio.read_dataframe(samples, layer="samples")
    frame["truth"] = [{name: code for code, name in NAMES.items()}[n] for n in frame["reference"]]
    pyogrio.write_dataframe(frame[["truth", "geometry"]], tmp_path / "p.shp")
    found = geoseg.assess_accuracy(
        classes, tmp_path / "p.shp", output=tmp_path, reference_field="truth"
    ).judgement
    assert found.figures.counts.total == 150


def test_a_map_that_changed_is_refused_unless_forced(
    classes: Path, samples: Path, tmp_path: Path
) -> None:
    newer = write_classes(tmp_path / "newer.tif", made_truth(CODES, 0.1, seed=5))
    with pytest.raises(InputError, match="is not the map that the samples were drawn from"):
        geoseg.assess_accuracy(newer, samples, output=tmp_path)
    found = geoseg.assess_accuracy(newer, samples, output=tmp_path, force=True).judgement
    assert "strata are the old map's" in found.notes[0]
    assert "Stehman (2014)" in methods(found)
    again = write_classes(tmp_path / "again.tif", CODES)  # other bytes may hold the same map
    assert again.read_bytes() != newer.read_bytes()
    assert geoseg.assess_accuracy(again, samples, output=tmp_path).judgement.kind == "estimate"


def test_a_thin_stratum_is_refused_or_merged(classes: Path, samples: Path, tmp_path: Path) -> None:
    def say(number: int, row: int, col: int) -> str | None:
        truth = say_truth(TRUTH)(number, row, col)
        return None if CODES[row, col] == 1 and (row, col) != first else truth

    frame = pyogrio.read_dataframe(samples, layer="samples")
    water = frame[frame["map_code"] == 1].iloc[0]
    first = (int(water["row"]), int(water["col"]))
    label(samples, say)
    with pytest.raises(InputError, match=r"stratum 'water' has 1 labelled sample; .* merge it"):
        geoseg.assess_accuracy(classes, samples, output=tmp_path)
    found = geoseg.assess_accuracy(
        classes, samples, output=tmp_path, merge=[("water", "crops")]
    ).judgement
    assert "The strata water and crops were merged." in found.notes
    with pytest.raises(InputError, match="no stratum 'watr' to merge"):
        geoseg.assess_accuracy(classes, samples, output=tmp_path / "x", merge=[("watr", "crops")])


MOVE = (
    "UPDATE samples SET geom = (SELECT geom FROM samples WHERE sample_id = 2) WHERE sample_id = 1"
)


@pytest.mark.parametrize(
    ("say", "sql", "message"),
    [
        (lambda *_: None, None, "not one of the 150 samples"),
        (lambda *_: "forrest", None, "is labelled 'forrest'; the legend has"),
        (lambda *_: "7", None, "is labelled '7'"),
        (lambda *_: "1", MOVE, "sample 1 in s.gpkg is not where it was drawn"),
        (lambda *_: "1", "UPDATE samples SET sample_id = 999 WHERE sample_id = 1", "999 is not"),
        (lambda *_: "1", "UPDATE samples SET sample_id = 2 WHERE sample_id = 1", "not once"),
        (lambda *_: "1", "UPDATE samples SET stratum = 'moon' WHERE sample_id = 1", "'moon'"),
        (lambda *_: "1", "INSERT INTO samples (geom) SELECT geom FROM samples", "was not drawn"),
        (lambda *_: "1", "UPDATE samples SET geom = NULL WHERE sample_id = 1", "no geometry"),
        (lambda *_: "1", "ALTER TABLE samples RENAME COLUMN stratum TO layer", "lost the fields"),
        (lambda *_: "1", "UPDATE geoseg_design SET design = '{'", "damaged"),
        (lambda *_: "1", "ALTER TABLE samples RENAME COLUMN reference TO truth", "no field"),
    ],
)
def test_bad_samples_are_refused(
    classes: Path,
    samples: Path,
    tmp_path: Path,
    say,
    sql: str | None,
    message: str,  # type: ignore[no-untyped-def]
) -> None:
    label(samples, say, sql=sql)
    with pytest.raises(InputError, match=message):
        geoseg.assess_accuracy(classes, samples, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def points_at(path: Path, xy: list[tuple[float, float]], crs: CRS | None = UTM) -> Path:
    frame = geopandas.GeoDataFrame(
        {"reference": ["water"] * len(xy)},
        geometry=shapely.points(xy),
        crs=None if crs is None else crs.to_wkt(),
    )
    pyogrio.write_dataframe(frame, path)
    return path


@pytest.mark.parametrize(
    ("xy", "message"),
    [
        ([(500_005, 4_999_005), (0, 0)], "number 2 at .0, 0., lie outside classes.tif"),
        ([(500_005, 4_999_995)], r"number 1 at pixel \(0, 0\), lie where classes.tif has no data"),
        ([(500_005, 4_999_005), (500_001, 4_999_008)], "1 and 2 in p.gpkg lie on the same pixel"),
    ],
)
def test_points_in_bad_places_are_refused(
    classes: Path, tmp_path: Path, xy: list[tuple[float, float]], message: str
) -> None:
    path = points_at(tmp_path / "p.gpkg", xy)
    with pytest.raises(InputError, match=message):
        geoseg.assess_accuracy(classes, path, output=tmp_path)


def test_bad_files_are_refused(classes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        geoseg.assess_accuracy(classes, tmp_path / "nowhere.gpkg", output=tmp_path)
    sneaky = tmp_path / "sneaky.gpkg"
    sneaky.write_text("<OGRVRTDataSource></OGRVRTDataSource>")
    with pytest.raises(InputError, match="not one of the formats"):
        geoseg.assess_accuracy(classes, sneaky, output=tmp_path)
    cut = tmp_path / "cut.gpkg"
    cut.write_bytes(b"SQLite format 3\x00" + bytes(50))
    with pytest.raises(InputError, match="cannot be read"):
        geoseg.assess_accuracy(classes, cut, output=tmp_path)
    with pytest.raises(InputError, match="confidence level of 95"):
        geoseg.assess_accuracy(classes, cut, output=tmp_path, confidence=95)


def test_a_reference_raster_is_a_census(classes: Path, tmp_path: Path) -> None:
    truth = np.where(np.arange(150) < 100, TRUTH, NODATA)
    reference = write_classes(tmp_path / "truth.tif", truth)
    found = geoseg.assess_accuracy(classes, reference, output=tmp_path).judgement
    both = (truth != NODATA) & (CODES != NODATA)
    assert found.kind == "census"
    assert found.figures.counts.total == both.sum()
    assert found.figures.overall.value == pytest.approx((CODES == TRUTH)[both].mean(), abs=1e-5)
    assert found.figures.overall.standard_error == 0
    water = found.figures.by_name("water")
    assert water.area.value == pytest.approx((truth[both] == 1).sum() * 0.01, rel=2e-3)
    assert "say nothing of the rest" in found.notes[0]
    whole = write_classes(tmp_path / "whole.tif", TRUTH)
    notes = geoseg.assess_accuracy(classes, whole, output=tmp_path, overwrite=True).judgement.notes
    assert notes == ("The reference covers the whole map, so its figures have no sampling error.",)


def test_bad_reference_rasters_are_refused(classes: Path, tmp_path: Path) -> None:
    def judge(codes: np.ndarray, names: dict[int, str] = NAMES, **options: object) -> None:
        reference = write_classes(tmp_path / "truth.tif", codes, names=names)
        geoseg.assess_accuracy(classes, reference, output=tmp_path / "out", **options)  # type: ignore[arg-type]

    with pytest.raises(GridError, match="do not cover the same pixels"):
        judge(TRUTH[:60])
    with pytest.raises(InputError, match=r"code 1 is 'lava' in truth.tif and 'water'"):
        judge(TRUTH, {1: "lava"})
    with pytest.raises(InputError, match="holds the code 9"):
        judge(np.where(CODES == 1, 9, TRUTH), {})
    with pytest.raises(InputError, match="covers no valid pixel"):
        judge(np.full_like(TRUTH, NODATA))
    with pytest.raises(InputError, match="is a census"):
        judge(TRUTH, design="simple")


def squares(path: Path, boxes: list[tuple[float, float, float, float]], labels: list[object],
            to: str = "EPSG:32633") -> Path:  # fmt: skip
    frame = geopandas.GeoDataFrame(
        {"reference": labels}, geometry=[shapely.box(*each) for each in boxes], crs="EPSG:32633"
    )
    pyogrio.write_dataframe(frame.to_crs(to), path)
    return path


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_reference_polygons_are_a_census_of_their_ground(
    classes: Path, tmp_path: Path, crs: str
) -> None:
    west, east = (500_000, 4_999_000, 500_300, 4_999_500), (501_000, 4_998_900, 501_200, 4_999_100)
    path = squares(tmp_path / "p.gpkg", [west, east, east], ["water", "2", None], crs)
    found = geoseg.assess_accuracy(classes, path, output=tmp_path).judgement
    assert found.kind == "census"
    counts = dict(zip(found.figures.counts.names, found.figures.counts.entries, strict=True))
    assert counts["water"].tolist() == [750, 0, 0]  # 15 of 30 columns by 50 rows
    assert counts["trees"].tolist() == [750, 0, 0]
    assert counts["crops"].tolist() == [0, 400, 0]
    assert "1 of 3 polygons are not labelled" in found.notes[1]


def test_bad_polygons_are_refused(classes: Path, tmp_path: Path) -> None:
    one, other = (500_000, 4_999_000, 500_300, 4_999_500), (500_100, 4_999_000, 500_200, 4_999_200)

    def judge(boxes: list[tuple[int, int, int, int]], labels: list[object]) -> None:
        path = squares(tmp_path / "p.gpkg", boxes, labels)
        geoseg.assess_accuracy(classes, path, output=tmp_path / "out")

    with pytest.raises(InputError, match="polygons of different classes overlap"):
        judge([one, other], ["water", "trees"])
    with pytest.raises(InputError, match=r"polygon 2 in p.gpkg is labelled 'lava'"):
        judge([one, other], ["water", "lava"])
    with pytest.raises(InputError, match="covers no valid pixel"):
        judge([(0, 0, 10, 10)], ["water"])


def test_reports_are_not_overwritten(classes: Path, samples: Path, tmp_path: Path) -> None:
    geoseg.assess_accuracy(classes, samples, output=tmp_path)
    with pytest.raises(InputError, match="already; write elsewhere"):
        geoseg.assess_accuracy(classes, samples, output=tmp_path)


def test_a_map_without_a_place_is_measured_in_pixels(tmp_path: Path) -> None:
    path = write_classes(tmp_path / "classes.tif", CODES, crs=None, transform=None)
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=60)
    label(drawn.files["samples"], say_truth(CODES))
    found = geoseg.assess_accuracy(path, drawn.files["samples"], output=tmp_path).judgement
    assert found.area_unit == "px"
    assert found.figures.total_area == (CODES != NODATA).sum()
    assert found.figures.by_name("water").area.value == pytest.approx((CODES == 1).sum())
    assert any("up to" in note for note in found.notes)


def test_what_a_model_declines_to_name_is_mapped_but_never_true(tmp_path: Path) -> None:
    codes = np.where(CODES == 1, 254, CODES)
    path = write_classes(tmp_path / "classes.tif", codes)
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=90, allocation="equal")
    assert [each.name for each in drawn.design.strata] == ["trees", "crops", "uncertain"]
    label(drawn.files["samples"], say_truth(CODES))
    found = geoseg.assess_accuracy(path, drawn.files["samples"], output=tmp_path).judgement
    assert found.figures.by_name("uncertain").users.value == 0
    assert found.figures.by_name("water").area.value == pytest.approx(17.1, rel=1e-2)
    label(drawn.files["samples"], lambda *_: "uncertain")
    with pytest.raises(InputError, match="labelled 'uncertain'"):
        geoseg.assess_accuracy(path, drawn.files["samples"], output=tmp_path / "x")


def test_figures_of_a_judgement_are_the_same_type_everywhere(
    classes: Path, samples: Path, tmp_path: Path
) -> None:
    found = geoseg.assess_accuracy(classes, samples, output=tmp_path).judgement
    bare = replace(found, design=None, kind="agreement", labelled={"samples": 150})
    assert "estimates nothing about the map" in methods(bare)
