"""The report as people see it: in a browser, and on the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, look_at
from made_maps import NAMES, label, made_codes, made_truth, say_truth, write_classes

import geoseg
from geoseg.accuracy.page import to_html
from geoseg.accuracy.report import to_dict
from geoseg.assessment import Assessment

CODES = made_codes()
TRUTH = made_truth(CODES)
KINDS = ("estimate", "agreement", "census")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "classes.tif", CODES)


def judge(classes: Path, kind: str) -> Assessment:
    folder = classes.parent
    if kind == "census":
        truth = write_classes(folder / "truth.tif", np.where(TRUTH == 2, 255, TRUTH))
        return geoseg.assess_accuracy(classes, truth, output=folder)
    drawn = geoseg.sample(classes, output=folder / "s.gpkg", size=150)
    samples = label(drawn.files["samples"], say_truth(TRUTH))
    if kind == "agreement":
        label(samples, say_truth(TRUTH), sql="DELETE FROM geoseg_design")
    return geoseg.assess_accuracy(classes, samples, output=folder)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize("kind", KINDS)
def test_a_browser_shows_the_page(classes: Path, tmp_path: Path, kind: str) -> None:
    """From disk, without the network or a complaint, readable on a desk and on a telephone."""
    found = judge(classes, kind)
    page = found.files["page"]
    seen = look_at(page, tmp_path / "browser", (1280, 400))
    assert seen.complaints == []
    assert [r for r in seen.requests if not r.startswith("data:image/png")] == [
        page.absolute().as_uri()
    ]
    assert seen.widths == {1280: 1280, 400: 400}  # nothing reaches beyond the window
    assert min(seen.smallest_text_px.values()) >= 10.5
    assert seen.title.startswith("Agreement" if kind == "agreement" else "Accuracy")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_forty_classes_fit_too(tmp_path: Path) -> None:
    """As change maps have: the matrix scrolls by itself, the page does not."""
    codes = np.arange(4_000).reshape(50, 80) % 40 + 1
    names = {code: f"a transition with a long name, number {code}" for code in range(1, 41)}
    path = write_classes(tmp_path / "change.tif", codes, names=names)
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=160)
    label(drawn.files["samples"], lambda _n, row, col: names[int(codes[row, col])])
    found = geoseg.assess_accuracy(path, drawn.files["samples"], output=tmp_path)
    seen = look_at(found.files["page"], tmp_path / "browser", (1280, 400))
    assert seen.widths == {1280: 1280, 400: 400}
    assert seen.complaints == []
    assert min(seen.smallest_text_px.values()) >= 10.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_needs_nothing_else(classes: Path, kind: str) -> None:
    text = judge(classes, kind).files["page"].read_text(encoding="utf-8")
    assert "<script" not in text
    assert "default-src 'none'" in text
    addresses = set(re.findall(r"""(?:href|src)=["']([^"'#]{5})""", text)) | set(
        re.findall(r"url\(", text)
    )
    assert addresses <= {"data:"}
    assert set(re.findall(r"https?://[^\"' <]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    evil = {1: "<script>alert(1)</script>", 2: '"><img src=x>', 3: "a & b"}
    path = write_classes(tmp_path / "classes.tif", CODES, names=evil)
    drawn = geoseg.sample(path, output=tmp_path / "s.gpkg", size=60)
    label(drawn.files["samples"], lambda _n, row, col: evil[int(TRUTH[row, col])])
    text = to_html(geoseg.assess_accuracy(path, drawn.files["samples"], output=tmp_path).judgement)
    assert "<script" not in text
    assert "<img" not in text
    assert "a &amp; b" in text


def test_the_figures_are_on_the_page(classes: Path) -> None:
    found = judge(classes, "estimate").judgement
    text = to_html(found)
    assert f"{100 * found.figures.overall.value:.1f} %" in text
    for each in found.figures.classes:
        assert f"{each.area.value:,.1f}" in text
    wrong = sum(place.mapped != place.reference for place in found.places)
    assert text.count('class="differs"') == wrong
    assert text.count('class="agrees"') == 150 - wrong


@pytest.mark.parametrize("kind", KINDS)
def test_the_figures_are_json(classes: Path, kind: str) -> None:
    told = to_dict(judge(classes, kind).judgement)
    json.dumps(told, allow_nan=False)
    assert told["kind"] == kind


def geoseg_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "geoseg.cli", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_line_draws_and_judges(classes: Path, tmp_path: Path) -> None:
    drawn = geoseg_command(tmp_path, "sample", "classes.tif", "--size", "90", "--seed", "3")
    assert drawn.returncode == 0, drawn.stderr
    assert "classes.tif: 90 samples, stratified, seed 3" in drawn.stdout
    assert drawn.stdout.splitlines()[-1].strip() == "samples.gpkg"
    label(tmp_path / "samples.gpkg", lambda n, row, col: None if n == 1 else
          NAMES[int(TRUTH[row, col])])  # fmt: skip
    judged = geoseg_command(tmp_path, "accuracy", "classes.tif", "samples.gpkg", "-o", "report")
    assert judged.returncode == 0, judged.stderr
    assert "overall accuracy" in judged.stdout
    assert "note: 1 of 90 samples are not labelled" in judged.stderr
    assert (tmp_path / "report" / "classes_accuracy.html").is_file()
    again = geoseg_command(tmp_path, "accuracy", "classes.tif", "samples.gpkg", "-o", "report")
    assert again.returncode == 2
    assert "already; write elsewhere" in again.stderr
    as_json = geoseg_command(
        tmp_path, "accuracy", "classes.tif", "samples.gpkg", "-o", "j", "--json",
        "--merge", "water+trees", "--confidence", "0.9",
    )  # fmt: skip
    told = json.loads(as_json.stdout)
    assert told["confidence"] == 0.9
    assert told["files"]["page"].endswith("classes_accuracy.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "classes.tif", "--expected", "much"), "--expected 'much' is neither"),
        (("sample", "nowhere.tif"), "does not exist"),
        (("sample", "classes.tif", "--expected", "lava=0.9"), "no stratum 'lava'"),
        (("accuracy", "classes.tif", "nowhere.gpkg"), "does not exist"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    classes: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    refused = geoseg_command(tmp_path, *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.startswith("geoseg: error: ")
    assert len(refused.stderr.splitlines()) == 1


def test_the_design_as_json(classes: Path, tmp_path: Path) -> None:
    drawn = geoseg_command(
        tmp_path, "sample", "classes.tif", "--json", "--expected", "water=0.5,trees=0.9",
        "--standard-error", "0.05",
    )  # fmt: skip
    told = json.loads(drawn.stdout)
    assert told["kind"] == "stratified"
    assert "0.5 (water)" in told["size_from"]
