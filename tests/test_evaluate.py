"""Evaluation against counts made by hand, and bad input that stops it."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from browser import CHROMIUM, look_at
from click.testing import CliRunner, Result
from conftest import NORTH_UP, UTM, OneHotRuntime, stored_card
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS
from test_boundaries import fast, told

import geoseg
from geoseg.accuracy.score import Score
from geoseg.accuracy.score_page import to_html
from geoseg.accuracy.score_report import to_csv, to_dict
from geoseg.cli import cli
from geoseg.errors import GeosegError, InputError
from geoseg.evaluation import score_scenes
from geoseg.grid import Window
from geoseg.labels import LabelledScene
from geoseg.legend import Legend, LegendClass
from geoseg.model.bundle import save_bundle
from geoseg.model.card import make_card
from geoseg.model.loading import Model
from geoseg.model.runtime import Array
from geoseg.nets.unet import UNet
from geoseg.raster.worst_chips import ChipRanking
from geoseg.scene_scoring import Scoring

Write = Callable[..., Path]
CLASSES = 4
NODATA = 255


class UnsureRuntime(OneHotRuntime):
    """The identity network, 70 % sure of everything."""

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        for scores in super().scores(chips):
            yield np.where(scores == 1, np.float32(0.7), np.float32(0.1))


@pytest.fixture
def model() -> Model:
    """Maps a scene of class codes as what it says, 70 % sure."""
    return Model(stored_card(CLASSES), UnsureRuntime(CLASSES), "0" * 64)


def patches(seed: int, shape: tuple[int, int] = (96, 80), classes: int = CLASSES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (shape[0] // 5 + 1, shape[1] // 5 + 1))
    return np.repeat(np.repeat(coarse, 5, 0), 5, 1)[: shape[0], : shape[1]].astype(np.uint8)


def muddled(codes: np.ndarray, seed: int, share: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(codes.shape) < share, rng.integers(0, CLASSES, codes.shape), codes)


def pair(
    write: Write, name: str, mapped: np.ndarray, labelled: np.ndarray, **profile: object
) -> LabelledScene:
    scene = write(mapped[None].astype(np.uint8), f"{name}.tif", descriptions=("red",),
                  nodata=200, **profile)  # fmt: skip
    (scene.parent / "labels").mkdir(exist_ok=True)
    labels = write(labelled[None].astype(np.uint8), f"labels/{name}.tif", nodata=NODATA, **profile)
    return LabelledScene(scene, labels)


def counted(mapped: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """The slow, obvious matrix."""
    matrix = np.zeros((CLASSES, CLASSES))
    for a, b in zip(mapped.ravel().tolist(), labelled.ravel().tolist(), strict=True):
        if a < CLASSES and b < CLASSES:
            matrix[a, b] += 1
    return matrix


def test_one_matrix_for_all_scenes(model: Model, write_scene: Write) -> None:
    """Scenes of different size, with nodata and unlabelled pixels, against counting by hand."""
    scenes = []
    for seed, shape in enumerate([(96, 80), (40, 200), (130, 70)]):
        labelled = patches(seed, shape)
        mapped = muddled(labelled, seed)
        mapped[:7] = 200
        labelled[:, -9:] = NODATA
        scenes.append((mapped, labelled))
    pairs = [pair(write_scene, f"s{i}", *each) for i, each in enumerate(scenes)]
    score = score_scenes(model, pairs)
    each = [counted(*scene) for scene in scenes]
    total = np.sum(each, axis=0)
    np.testing.assert_array_equal(score.matrix.entries, total)
    right, rows, cols = total.diagonal(), total.sum(1), total.sum(0)
    np.testing.assert_allclose(score.matrix.iou, right / (rows + cols - right))
    np.testing.assert_allclose(score.matrix.users, right / rows)
    np.testing.assert_allclose(score.matrix.producers, right / cols)
    np.testing.assert_allclose(score.matrix.f1, 2 * right / (rows + cols))
    means = [m.diagonal() / (m.sum(0) + m.sum(1) - m.diagonal()) for m in each]
    assert score.matrix.mean_iou != pytest.approx(np.mean(means))  # no mean over scenes
    for scene, (mapped, labelled), matrix in zip(score.scenes, scenes, each, strict=True):
        np.testing.assert_array_equal(scene.matrix.entries, matrix)
        assert scene.unlabelled == ((mapped < CLASSES) & (labelled == NODATA)).sum()
        assert scene.unmapped == ((mapped == 200) & (labelled < CLASSES)).sum()
    assert score.calibration.expected_error() == pytest.approx(abs(right.sum() / total.sum() - 0.7))
    assert f"{sum(s.unmapped for s in score.scenes):,} labelled pixels" in score.notes[0]


@settings(max_examples=10, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.integers(0, 1000), st.integers(1, 11))
def test_a_scene_cut_in_two_scores_the_same(
    model: Model, write_scene: Write, seed: int, cut: int
) -> None:
    labelled = patches(seed)
    mapped, at = muddled(labelled, seed), 8 * cut
    whole = score_scenes(model, [pair(write_scene, "whole", mapped, labelled)])
    parts = [
        pair(write_scene, "top", mapped[:at], labelled[:at]),
        pair(write_scene, "rest", mapped[at:], labelled[at:],
             transform=NORTH_UP @ Affine.translation(0, at)),
    ]  # fmt: skip
    halves = score_scenes(model, parts)
    np.testing.assert_array_equal(whole.matrix.entries, halves.matrix.entries)
    np.testing.assert_array_equal(whole.calibration.right, halves.calibration.right)
    turned = score_scenes(model, parts[::-1])
    assert to_dict(turned)["classes"] == to_dict(halves)["classes"]


def test_boundaries_do_not_know_the_strips(model: Model, write_scene: Write) -> None:
    labelled = patches(3, (200, 90))
    mapped = muddled(labelled, 3, 0.02)
    labelled[60:70, 20:60] = NODATA
    score = score_scenes(model, [pair(write_scene, "s", mapped, labelled)])
    shown = np.where(mapped < CLASSES, mapped, NODATA).astype(np.uint8)
    assert told(score.boundaries) == told(fast(shown, labelled, CLASSES, (2.0, 2.0)))
    assert score.scenes[0].tolerance_m == pytest.approx(20, rel=1e-3)
    wider = score_scenes(model, [pair(write_scene, "s", mapped, labelled)],
                         Scoring(boundary_tolerance_m=35))  # fmt: skip
    assert told(wider.boundaries) == told(fast(shown, labelled, CLASSES, (3.5, 3.5)))


def test_metres_follow_the_pixels_of_degrees(model: Model, write_scene: Write) -> None:
    """At 60 degrees north a degree of longitude is half as long."""
    labelled = patches(4)
    mapped = muddled(labelled, 4, 0.02)
    place = {"crs": CRS.from_epsg(4326), "transform": Affine(1e-4, 0, 15, 0, -1e-4, 60)}
    score = score_scenes(model, [pair(write_scene, "s", mapped, labelled, **place)],
                         Scoring(boundary_tolerance_m=25))  # fmt: skip
    down, across = 11.14, 5.58  # metres a pixel, from tables of the ellipsoid at 60 degrees
    expected = fast(mapped.astype(np.uint8), labelled, CLASSES, (25 / down, 25 / across))
    assert told(score.boundaries) == told(expected)


def test_classes_that_are_not_labelled_are_null_and_in_no_mean(
    model: Model, write_scene: Write
) -> None:
    labelled = patches(5, classes=2)
    mapped = labelled.copy()
    mapped[:10] = 2  # mapped, but nowhere labelled
    score = score_scenes(model, [pair(write_scene, "s", mapped, labelled)])
    figures = to_dict(score)
    assert figures["absent"] == ["c2", "c3"]
    assert figures["mean_iou"] == pytest.approx(score.matrix.iou[:2].mean())
    for row in figures["classes"][2:]:
        assert row["present"] is False
        assert [row[what] for what in ("iou", "f1", "users_accuracy", "boundary_f1")] == [None] * 4
    assert figures["classes"][2]["mapped_px"] == (mapped == 2).sum()
    rows = list(csv.DictReader(io.StringIO(to_csv(score))))
    assert [row["iou"] for row in rows[2:]] == ["", ""]
    assert float(rows[0]["iou"]) == pytest.approx(figures["classes"][0]["iou"], rel=1e-5)
    assert "in no mean: c2, c3" in score.notes[0]


def test_one_file_of_polygons_labels_all_scenes(
    model: Model, write_scene: Write, tmp_path: Path
) -> None:
    """By hand: a square of 20 x 20 pixels in each scene, of which the map has three quarters."""
    squares = []
    for number in range(2):
        mapped = np.zeros((60, 60), np.uint8)
        mapped[10:25, 10:30] = 1
        corner = NORTH_UP @ Affine.translation(100 * number, 0)
        write_scene(mapped[None], f"s{number}.tif", descriptions=("red",), transform=corner)
        (x0, y0), (x1, y1) = corner @ (10, 10), corner @ (30, 30)
        squares.append(shapely.box(x0, y1, x1, y0))
    labels = tmp_path / "labels.gpkg"
    frame = geopandas.GeoDataFrame({"kind": ["c1", "1"]}, geometry=squares, crs=UTM)
    frame.to_file(labels)
    found = geoseg.evaluate(
        model, str(tmp_path / "s?.tif"), labels, output=tmp_path / "out", label_field="kind"
    ).figures
    assert found.matrix.entries[:2, 1].tolist() == [200, 600]
    assert found.matrix.producers[1] == 0.75
    assert found.matrix.total == 800


def test_the_worst_chips_are_the_worst() -> None:
    """Against all windows compared one by one; strips are cut anywhere."""
    rng = np.random.default_rng(0)
    shape, px = (150, 130), 32
    labelled = patches(0, shape)
    mapped = np.where(rng.random(shape) < np.linspace(0, 1, 130), labelled, 3).astype(np.uint8)
    labelled[:40, :40] = NODATA
    ranking = ChipRanking(shape, most=5, chip_px=px)
    row = 0
    while row < shape[0]:
        window = Window(row, 0, min(int(rng.integers(1, 50)), shape[0] - row), shape[1])
        rows = slice(row, window.row_stop)
        ranking.add(window, mapped[rows], labelled[rows])
        row = window.row_stop
    expected = []
    for top in range(0, shape[0], px):
        for col in range(0, shape[1], px):
            cut = np.s_[top : top + px, col : col + px]
            known = labelled[cut] != NODATA
            if known.sum() >= 0.1 * known.size:
                agreement = (mapped[cut] == labelled[cut])[known].mean()
                expected.append((agreement, top, col, known.sum()))
    legend = stored_card(CLASSES).legend
    drawn = ranking.draw(_ConstantScene(shape), "s", legend)
    found = [(c.agreement, c.window.row, c.window.col, c.compared) for c in drawn]
    assert found == sorted(expected)[:5]
    for chip in drawn:
        scene, labels, picture = (Image.open(io.BytesIO(each)) for each in chip.pictures)
        assert scene.size == labels.size == picture.size == chip.window.shape[::-1]
        cut = chip.window.within(Window(0, 0, *shape))
        grey = np.asarray(picture.convert("L"))
        np.testing.assert_array_equal(grey, mapped[cut])  # the colour of class k is #kkkkkk


class _ConstantScene:
    name, bands, assumed = "constant", ("red",), ()

    def __init__(self, shape: tuple[int, int]) -> None:
        self.grid = geoseg.Grid(UTM, NORTH_UP, shape)

    def read(self, window: Window) -> geoseg.Chip:
        valid = np.ones(window.shape, np.bool_)
        return geoseg.Chip(np.zeros((1, *window.shape), np.float32), valid, window)


def test_scenes_at_another_gsd_are_read_at_the_models(write_scene: Write) -> None:
    known = Model(stored_card(CLASSES, gsd_m=(18.0, 22.0)), UnsureRuntime(CLASSES), "0" * 64)
    labelled = np.repeat(np.repeat(patches(0, (60, 50)), 2, 0), 2, 1)
    score = score_scenes(known, [pair(write_scene, "s", labelled, labelled)])
    scene = score.scenes[0]
    assert scene.gsd_m == pytest.approx(18)
    assert any("resampled" in each for each in scene.assumed)
    assert any("nearest" in each for each in scene.assumed)
    assert score.matrix.overall > 0.85


@dataclass
class Pairs:
    """Two scenes and their labels, to be spoiled."""

    write: Write
    folder: Path
    options: dict[str, object]

    def add(self, name: str, mapped: np.ndarray, labelled: np.ndarray, **place: object) -> None:
        pair(self.write, name, mapped, labelled, **place)


CODES = patches(0)


def unknown_codes(pairs: Pairs) -> str:
    pairs.add("b", CODES, np.where(CODES == 0, 99, np.where(CODES == 1, 17, CODES)))
    return r"b\.tif holds the codes 17, 99, the legend has \[0, 1, 2, 3\].*--unlabelled"


def elsewhere(pairs: Pairs) -> str:
    far = NORTH_UP @ Affine.translation(500, 0)
    pairs.write(CODES[None], "labels/b.tif", transform=far, nodata=NODATA)
    return r"the labels b\.tif do not overlap b\.tif"


def nothing_labelled(pairs: Pairs) -> str:
    for name in "ab":
        pairs.add(name, CODES, np.full_like(CODES, NODATA))
    return "nothing to score by: none of 2 scenes"


def damaged_scene(pairs: Pairs) -> str:
    (pairs.folder / "b.tif").write_text("a letter")
    return r"b\.tif.* not a raster"


def damaged_labels(pairs: Pairs) -> str:
    (pairs.folder / "labels/b.tif").write_text("a letter")
    return r"labels/b\.tif.* not a raster"


def wrong_bands(pairs: Pairs) -> str:
    pairs.write(CODES[None].repeat(2, 0), "b.tif", descriptions=("green", "blue"))
    return r"b\.tif.*missing: red"


def no_such_scenes(pairs: Pairs) -> str:
    pairs.options["scenes"] = str(pairs.folder / "nothing*.tif")
    return r"no scenes are called .*nothing\*\.tif"


def labels_without_a_scene(pairs: Pairs) -> str:
    pairs.options["scenes"] = [pairs.folder / "a.tif"]
    return r"the labels .*b\.tif have no scene"


def scenes_of_one_name(pairs: Pairs) -> str:
    pairs.options["scenes"] = [pairs.folder / "a.tif", pairs.folder / "labels/a.tif"]
    return "have one name"


def negative_tolerance(pairs: Pairs) -> str:
    pairs.options["boundary_tolerance"] = -1.0
    return "--boundary-tolerance -1 makes no sense"


def enormous_tolerance(pairs: Pairs) -> str:
    pairs.options["boundary_tolerance"] = 1e5
    return "0 to 100 pixels"


def metres_without_a_place(pairs: Pairs) -> str:
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    for name in "ab":
        pairs.add(name, CODES, CODES, crs=local)
    pairs.options["boundary_tolerance"] = 5.0
    return r"the gsd of a\.tif is not known"


BAD = (unknown_codes, elsewhere, nothing_labelled, damaged_scene, damaged_labels, wrong_bands,
       no_such_scenes, labels_without_a_scene, scenes_of_one_name, negative_tolerance,
       enormous_tolerance, metres_without_a_place)  # fmt: skip


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_bad_input_stops_it_by_name_and_nothing_is_written(
    model: Model, write_scene: Write, tmp_path: Path, spoil: Callable[[Pairs], str]
) -> None:
    pairs = Pairs(write_scene, tmp_path, {"scenes": str(tmp_path / "*.tif")})
    for name in "ab":
        pairs.add(name, CODES, CODES)
    message, out = spoil(pairs), tmp_path / "out"
    with pytest.raises(GeosegError, match=message) as refused:
        geoseg.evaluate(model, labels=str(tmp_path / "labels/*.tif"), output=out, **pairs.options)
    assert refused.value.exit_status == 2
    assert "\n" not in str(refused.value)
    assert not out.exists()


def test_scenes_that_the_model_was_trained_with_are_told(write_scene: Write) -> None:
    """The card that geoseg train writes names them."""
    card = stored_card(CLASSES, training={"scenes": ["b.tif", "c.tif"]})
    known = Model(card, UnsureRuntime(CLASSES), "0" * 64)
    pairs = [pair(write_scene, name, CODES, CODES) for name in "ab"]
    score = score_scenes(known, pairs)
    assert score.trained_with == (str(pairs[1].scene),)
    assert "1 of 2 scenes are on the model's card" in score.notes[0]
    assert not any("card" in note for note in score_scenes(known, pairs[:1]).notes)


def test_unlabelled_codes_are_left_out(model: Model, write_scene: Write) -> None:
    labelled = np.where(patches(0) == 0, 99, patches(0))
    score = score_scenes(model, [pair(write_scene, "a", CODES, labelled)], Scoring(unlabelled=[99]))
    assert score.matrix.total == (labelled != 99).sum()
    assert score.matrix.absent == ("c0",)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A real bundle, untrained."""
    legend = Legend((LegendClass(1, "forest", "#1b7837"), LegendClass(2, "bare", "#e6c35c")))
    card = make_card(
        name="tiny", architecture="unet", hyperparameters={"widths": [4, 6]}, bands=("red",),
        mean=(1.5,), stddev=(0.5,), legend=legend, units="stored", stored_type="uint8",
        chip_px=64, halo_px=12, stride=2, exact=True,
    )  # fmt: skip
    torch.manual_seed(0)
    network = UNet(1, 2, widths=(4, 6)).eval()
    save_bundle(tmp_path / "tiny", card, network)
    return tmp_path / "tiny"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "geoseg.cli", "evaluate", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, text=True)


def test_the_command_line_evaluates_what_predict_maps(
    bundle: Path, write_scene: Write, tmp_path: Path
) -> None:
    """The map that predict writes, compared pixel by pixel with the labels."""
    for name in "abc":
        codes = patches(ord(name), classes=2) + 1
        pair(write_scene, name, codes, np.where(codes == 2, 2, 1))
    scenes, labels = ["a.tif", "b.tif", "c.tif"], ["labels/a.tif", "labels/b.tif", "labels/c.tif"]
    done = run(tmp_path, "tiny", "--scenes", *scenes, "--labels", *labels, "-o", "out")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "out/evaluation.json").read_text())
    total = np.zeros((2, 2))
    for name in "abc":
        prediction = geoseg.predict(
            tmp_path / f"{name}.tif", model=bundle, output=tmp_path / "maps", polygons=False
        )
        with rasterio.open(prediction.files["classes"]) as file:
            mapped = file.read(1)
        with rasterio.open(tmp_path / f"labels/{name}.tif") as file:
            np.add.at(total, (mapped - 1, file.read(1) - 1), 1)
    assert figures["matrix"]["pixels"] == total.tolist()
    assert figures["overall_accuracy"] == pytest.approx(total.trace() / total.sum())
    assert f"tiny: mean IoU {figures['mean_iou']:.1%}" in done.stdout
    assert "out/evaluation.html" in done.stdout
    assert re.search(r"forest +\d+\.\d%", done.stdout)


def in_process(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *arguments], standalone_mode=False)


QUOTED = ("tiny", "--scenes", "*.tif", "--labels", "labels/*.tif", "-o", "out")


def test_patterns_json_quiet_and_overwrite(
    bundle: Path, write_scene: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        pair(write_scene, name, patches(1, classes=2) + 1, patches(1, classes=2) + 1)
    quiet = in_process(*QUOTED, "-q")
    assert (quiet.exception, quiet.output) == (None, "")
    figures = json.loads(Path("out/evaluation.json").read_text())
    assert [scene["scene"] for scene in figures["scenes"]] == ["a.tif", "b.tif"]
    refused = in_process(*QUOTED).exception
    assert isinstance(refused, InputError)
    assert "--overwrite" in str(refused)
    told_json = json.loads(in_process(*QUOTED, "--json", "--overwrite").stdout)
    assert told_json.pop("files")["html"] == "out/evaluation.html"
    assert told_json == figures


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--unlabelled", "water"), "--unlabelled 'water' is no list of codes"),
        (("--gsd", "nan"), "--gsd nan makes no sense"),
        (("--max-pixels", "10"), "a.tif claims 96 x 80 pixels, more than 10"),
    ],
)
def test_options_that_make_no_sense(
    bundle: Path,
    write_scene: Write,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(bundle.parent)
    pair(write_scene, "a", CODES + 1, CODES + 1)
    refused = in_process(*QUOTED, *arguments).exception
    assert isinstance(refused, InputError)
    assert message in str(refused)
    assert not Path("out").exists()


@pytest.fixture
def score(model: Model, write_scene: Write) -> Score:
    labelled = patches(6, (300, 280))
    mapped = muddled(labelled, 6)
    return score_scenes(model, [pair(write_scene, "<b>scene", mapped, labelled)])


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_a_browser_shows_the_page(score: Score, tmp_path: Path) -> None:
    page = tmp_path / "evaluation.html"
    page.write_text(to_html(score), encoding="utf-8")
    seen = look_at(page, tmp_path / "browser", (1280, 400))
    assert seen.complaints == []
    assert [r for r in seen.requests if not r.startswith("data:image/")] == [page.as_uri()]
    assert seen.widths == {1280: 1280, 400: 400}
    assert min(seen.smallest_text_px.values()) >= 10.5
    assert seen.title == "Evaluation of identity"


def test_the_page_needs_nothing_else_and_shows_the_figures(score: Score) -> None:
    text = to_html(score)
    assert "<script" not in text
    assert "<b>scene" not in text
    assert "&lt;b&gt;scene.tif" in text
    assert set(re.findall(r"https?://[^\"' <]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert text.count("<figure>") == len(score.worst) == 4
    for share in (score.matrix.mean_iou, score.matrix.overall, *score.matrix.iou,
                  score.calibration.expected_error(), score.boundaries.mean_f1):  # fmt: skip
        assert f"{100 * share:.1f} %" in text
    json.dumps(to_dict(score), allow_nan=False)
