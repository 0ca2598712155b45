"""Change as a network of two dates sees it, against going through the pixels one by one."""

from __future__ import annotations

import ast
import csv
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from conftest import NORTH_UP, stored_card
from PIL import Image

import geoseg
from geoseg.bitemporal.change_legend import ChangeLegend
from geoseg.errors import InputError
from geoseg.legend import Legend, LegendClass
from geoseg.model.card import make_card
from geoseg.model.loading import Model
from geoseg.model.runtime import Array

Write = Callable[..., Path]

UNCHANGED = 4
KINDS = Legend(
    (
        LegendClass(2, "bare -> built", "#c4281b"),
        LegendClass(UNCHANGED, "nothing new", "#d9d9d9"),
        LegendClass(7, "trees -> bare", "#a59b8f"),
    )
)
LEVELS = 12
SAYS = np.random.default_rng(8).dirichlet((0.5, 0.7, 0.5), (LEVELS, LEVELS)).astype(np.float32)
"""What the network says of a pixel by its values on both dates."""


class TableRuntime:
    """A network that looks at one pixel of both dates."""

    label = "table"

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        for chip in chips:
            before, after = np.clip(np.rint(chip), 0, LEVELS - 1).astype(int)
            yield np.moveaxis(SAYS[before, after], -1, 0)


def model_of(legend: Legend = KINDS, unchanged: int = UNCHANGED) -> Model:
    card = make_card(
        name="table", architecture="none", hyperparameters={}, bands=("red",), mean=(0.0,),
        stddev=(1.0,), legend=legend, units="stored", chip_px=64, halo_px=16, stride=8,
        exact=True, dates=2, unchanged=unchanged,
    )  # fmt: skip
    return Model(card, TableRuntime(), "0" * 64)


@pytest.fixture
def dates(write_scene: Write) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """Patches of values, which hang together more than one by one; some without data."""
    rng = np.random.default_rng(2)
    both = rng.integers(1, LEVELS, (2, 30, 36)).repeat(5, 1).repeat(5, 2).astype("uint8")
    both[0, :9, :30] = both[1, 100:120, 90:] = 0
    told: dict[str, Any] = {"descriptions": ("red",), "nodata": 0}
    paths = (write_scene(each[None], f"d{day}.tif", **told) for day, each in enumerate(both))
    return *paths, *both  # type: ignore[return-value]


def by_hand(before: np.ndarray, after: np.ndarray, wanted: set[int]) -> np.ndarray:
    """(2, H, W): kind and percent, a pixel at a time."""
    expected = np.full((2, *before.shape), 255)
    for row, col in np.ndindex(before.shape):
        if not (before[row, col] and after[row, col]):
            continue
        bare, nothing, trees = (
            round(100 * float(p)) for p in SAYS[before[row, col], after[row, col]]
        )
        kind = 2 if bare >= trees else 7
        changed = 100 - nothing >= 50 and kind in wanted
        expected[:, row, col] = kind if changed else UNCHANGED, 100 - nothing
    return expected


@pytest.mark.parametrize(
    ("told", "wanted"),
    [({}, {2, 7}), ({"from_classes": "trees"}, {7}), ({"to_classes": ["Built"]}, {2})],
)
def test_kinds_of_change_pixel_by_pixel(
    dates: tuple[Path, Path, np.ndarray, np.ndarray],
    tmp_path: Path,
    told: dict[str, Any],
    wanted: set[int],
) -> None:
    made = geoseg.change(*dates[:2], model=model_of(), output=tmp_path, force=True, **told)
    expected = by_hand(*dates[2:], wanted)
    with rasterio.open(made.files["change"]) as raster:
        assert raster.descriptions == ("change", "confidence")
        found = raster.read()
        assert raster.scales == (1, 0.01)
    np.testing.assert_array_equal(found, expected)
    names = {2: ("bare", "built"), 7: ("trees", "bare")}
    counts = {code: int((expected[0] == code).sum()) for code in wanted}
    transitions = {(e["from"], e["to"]): e["pixels"] for e in made.summary["transitions"]}
    assert transitions == {names[code]: count for code, count in counts.items()}
    kinds = {e["change"]: e["pixels"] for e in made.summary["kinds"]}
    assert kinds == {" -> ".join(names[code]): count for code, count in counts.items()}
    layer = pyogrio.read_dataframe(made.files["polygons"], layer="d1_change_polygons")
    for code, count in counts.items():
        rows = layer[(layer["from"] == names[code][0]) & (layer["to"] == names[code][1])]
        assert set(rows["change"]) == {" -> ".join(names[code])}
        assert rows["area_m2"].sum() == pytest.approx(100 * count, rel=2e-3)
    rows = list(csv.reader(made.files["matrix"].read_text(encoding="utf-8").splitlines()))
    table = dict(rows[1:])
    assert list(table) == ["nothing new", "bare -> built", "trees -> bare"]
    assert float(table["nothing new"]) * 100 == pytest.approx(
        (expected[0] == UNCHANGED).sum(), rel=2e-3
    )


def test_classes_that_kinds_do_not_tell_are_refused() -> None:
    kinds = ChangeLegend(KINDS, UNCHANGED)
    assert kinds.wanted_kinds() == (2, 7)
    for told, said in (
        ((["water"], None), "does not know 'water', only bare, trees"),
        ((["bare"], ["bare"]), "knows no such change"),
    ):
        with pytest.raises(InputError, match=said):
            kinds.wanted_kinds(*told)
    fires = Legend((LegendClass(0, "none", "#000000"), LegendClass(1, "burnt", "#ff0000")))
    with pytest.raises(InputError, match=r"only: burnt; leave --from and --to away"):
        ChangeLegend(fires, 0).wanted_kinds(["trees"])


def test_the_scenes_are_aligned_and_sieved_as_with_any_method(
    write_scene: Write, tmp_path: Path
) -> None:
    """Other pixel size and extent; small patches go to their neighbours, as irmad's do."""
    rng = np.random.default_rng(4)
    before = rng.integers(1, LEVELS, (12, 12)).repeat(8, 0).repeat(8, 1).astype("uint8")
    after = rng.integers(1, LEVELS, (12, 12)).repeat(8, 0).repeat(8, 1).astype("uint8")
    told: dict[str, Any] = {"descriptions": ("red",), "nodata": 0}
    one = write_scene(before[None], "one.tif", **told)
    fine = after.repeat(2, 0).repeat(2, 1)[None, 16:]
    other = write_scene(
        fine, "other.tif",
        transform=NORTH_UP @ Affine.scale(0.5) @ Affine.translation(0, 16), **told,
    )  # fmt: skip
    made = geoseg.change(one, other, model=model_of(), output=tmp_path / "a", force=True)
    with rasterio.open(made.files["change"]) as raster:
        assert raster.shape == (88, 96)
        found = raster.read(1)
    expected = by_hand(before[8:], after[8:], {2, 7})[0]
    inside = slice(4, -4)  # of each patch: where the pixels of the finer scene are of one value
    assert (found == expected)[inside, inside].mean() > 0.9
    sieved = geoseg.change(
        one, other, model=model_of(), output=tmp_path / "b", force=True, min_area="100px"
    )
    layer = pyogrio.read_dataframe(sieved.files["polygons"], layer="other_change_polygons")
    assert layer["area_m2"].min() > 99 * 100
    assert 0 < sieved.summary["polygons"] < made.summary["polygons"]


def test_maps_of_one_date_keep_their_bands(identity: Model) -> None:
    assert stored_card().dates == identity.card.dates == 1
    assert (identity.card.unchanged, len(identity.card.mean)) == (None, 1)
    assert len(model_of().card.mean) == 2


# --- in QGIS -------------------------------------------------------------------------------------

ASK_QGIS = """
import os, sys
from qgis.core import (QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
app = QgsApplication([], False)
app.initQgis()
layer = QgsRasterLayer(sys.argv[1], "change")
print(layer.loadDefaultStyle()[1], layer.renderer().type(), flush=True)
print([name for name, colour in layer.legendSymbologyItems()], flush=True)
print([layer.bandName(i + 1) for i in range(layer.bandCount())], flush=True)
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setExtent(layer.extent())
settings.setDestinationCrs(layer.crs())
settings.setBackgroundColor(QColor("white"))
settings.setOutputSize(QSize(layer.width(), layer.height()))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(sys.argv[2])
os._exit(0)
"""


@pytest.mark.parametrize("kinds", [True, False])
def test_qgis_opens_it_coloured(
    dates: tuple[Path, Path, np.ndarray, np.ndarray], identity: Model, tmp_path: Path, kinds: bool
) -> None:
    python = shutil.which("python3", path="/usr/bin")
    asked = [python or "python3", "-c", "import qgis"]
    if python is None or subprocess.run(asked, check=False, capture_output=True).returncode:
        pytest.skip("no QGIS here: apt-get install python3-qgis")
    model = model_of() if kinds else identity
    made = geoseg.change(*dates[:2], model=model, output=tmp_path / "map", force=True)
    done = subprocess.run(
        [python, "-c", ASK_QGIS, made.files["change"], tmp_path / "drawn.png"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )  # fmt: skip
    style, items, bands = done.stdout.splitlines()[:3]
    with Image.open(tmp_path / "drawn.png") as image:
        drawn = np.asarray(image.convert("RGB")).astype(int)
    with rasterio.open(made.files["change"]) as raster:
        planes = raster.read()
    expected = np.full((*planes.shape[1:], 3), 255)
    if kinds:
        assert style == "True paletted"
        assert ast.literal_eval(items)[-3:] == [*KINDS.names]
        assert ast.literal_eval(bands) == ["Band 1: change", "Band 2: confidence"]
        for kind in (KINDS.by_code(2), KINDS.by_code(7)):
            expected[planes[0] == kind.code] = kind.rgb
    else:
        assert style == "True singlebandpseudocolor"
        assert ast.literal_eval(bands)[2] == "Band 3: confidence"
        expected[(planes[2] == 100)] = (0xBD, 0, 0x26)
        assert set(np.unique(planes[2])) == {0, 100, 255}
    np.testing.assert_array_equal(drawn, expected)
