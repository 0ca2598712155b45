"""A model in int8: what it costs is measured, what must stay precise stays so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import rasterio
import torch
from click.testing import CliRunner
from conftest import NORTH_UP, assert_ctrl_c_is_told_after, grey_legend

import geoseg
from geoseg.cli import cli
from geoseg.errors import InputError, OutputError
from geoseg.model.bundle import load_bundle, save_bundle
from geoseg.model.card import make_card
from geoseg.model.loading import load_model
from geoseg.nets.zoo import build_model

pytest.importorskip("nncf", reason="geoseg[quantize] is not installed")

SETTINGS = {"stem": 8, "width": 16, "blocks": 2}


def bundle_of(folder: Path, network_more: dict[str, Any] | None = None, **more: object) -> Path:
    torch.manual_seed(5)
    settings = {**SETTINGS, **(network_more or {})}
    network = build_model("residual", bands=3, classes=4, **settings).eval()
    with torch.no_grad():  # a network that has learnt is seldom in doubt
        list(network.parameters())[-2].mul_(20)
    card = make_card(
        name="tiny", architecture="residual", hyperparameters=settings,
        bands=("red", "green", "nir"), mean=(0.3,) * 3, stddev=(0.2,) * 3, legend=grey_legend(4),
        units="reflectance", chip_px=64, halo_px=16, stride=2, exact=False, **more,
    )  # fmt: skip
    save_bundle(folder, card, network)
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(tmp_path_factory.mktemp("quantize") / "tiny")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of 4 to 32 px, dark in one band and bright in another, and a part without data."""
    rng, path = np.random.default_rng(3), tmp_path_factory.mktemp("scene") / "scene.tif"
    pixels = sum(
        rng.uniform(0, 2500, (3, 384 // side, 384 // side)).repeat(side, 1).repeat(side, 2)
        for side in (4, 16, 32)
    )
    pixels = (pixels * np.array([0.1, 0.5, 1])[:, None, None] + 1).astype(np.uint16)
    pixels[:, :, :40] = 0
    profile = {"driver": "GTiff", "count": 3, "height": 384, "width": 384, "dtype": "uint16"}
    with rasterio.open(path, "w", crs="EPSG:32633", nodata=0, transform=NORTH_UP, **profile) as out:
        out.write(pixels)
        out.descriptions = ("red", "green", "nir")
    return path


def classes_of(scene: Path, model: Path, folder: Path, precision: str) -> np.ndarray:
    made = geoseg.predict(
        scene, model=model, output=folder, precision=precision, runtime="openvino",
        polygons=False, preview=False, overwrite=True,
    )  # fmt: skip
    assert made.summary["model"]["runtime"].endswith(precision)
    with rasterio.open(made.files["classes"]) as dataset:
        return dataset.read(1)


def test_what_int8_costs_is_what_maps_show(bundle: Path, scene: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    made = geoseg.quantize(bundle, [scene], output=tmp_path / "int8", chips=24)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert (made.chips, made.tested) == (18, 6)
    plain = classes_of(scene, tmp_path / "int8", tmp_path, "float32")
    quick = classes_of(scene, tmp_path / "int8", tmp_path, "int8")
    known = plain != 255
    assert known.mean() == pytest.approx(1 - 40 / 384)
    same = (plain == quick)[known].mean()
    assert 0.98 < same < 1
    assert made.agreement == pytest.approx(same, abs=0.02)
    figures = load_bundle(tmp_path / "int8").card.figures["int8_beside_float32"]
    assert figures["same_class"] == pytest.approx(made.agreement, abs=1e-4)
    assert set(made.iou) <= {each.name for each in made.bundle.card.legend}


def test_the_first_convolution_and_residual_sums_stay_as_they_are(
    bundle: Path, scene: Path, tmp_path: Path
) -> None:
    geoseg.quantize(bundle, [scene], output=tmp_path / "int8", chips=8)
    graph = openvino.Core().read_model(tmp_path / "int8" / "graph_int8.xml")
    kinds = {node.get_friendly_name(): node.get_type_name() for node in graph.get_ops()}
    assert "FakeQuantize" in kinds.values()

    def sources(node: openvino.Node) -> list[str]:
        return [end.get_node().get_type_name() for end in node.input_values()]

    ordered = [node for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]
    assert "FakeQuantize" not in sources(ordered[0])
    assert sum("FakeQuantize" in sources(node) for node in ordered[1:]) >= 4
    sums = [node for node in graph.get_ops() if node.get_type_name() == "Add"]
    assert not any(sources(node).count("FakeQuantize") for node in sums)


def test_the_command_says_what_int8_costs_and_how_to_use_it(
    bundle: Path, scene: Path, tmp_path: Path
) -> None:
    command = ["quantize", str(bundle), str(scene), "-o", str(tmp_path / "int8"), "--chips", "8"]
    told = CliRunner().invoke(cli, command)
    assert told.exit_code == 0, told.output
    assert "of the pixels of 2 test chips" in told.output
    assert "--precision int8" in told.output
    again = CliRunner().invoke(cli, [*command[:-4], "-o", str(tmp_path / "other"), "--json"])
    assert json.loads(again.output)["test_chips"] == 7  # a quarter of the 30 that hold enough data


def test_what_cannot_be_quantized_is_told(bundle: Path, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds a bundle already"):
        geoseg.quantize(bundle, [scene], output=bundle)
    with pytest.raises(InputError, match="too few"):
        geoseg.quantize(bundle, [scene], output=tmp_path / "new", chips=3)
    with (
        rasterio.open(scene) as whole,
        rasterio.open(
            tmp_path / "small.tif", "w", **{**whole.profile, "width": 128, "height": 64}
        ) as small,
    ):
        small.write(whole.read(window=((0, 64), (100, 228))))
        small.descriptions = whole.descriptions
    with pytest.raises(InputError, match="hold 2 chips with data"):
        geoseg.quantize(bundle, [tmp_path / "small.tif"], output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_scenes_of_any_size_and_set_of_bands_have_their_share(scene: Path, tmp_path: Path) -> None:
    """Chips that lack bands differ from the others in what a graph is compiled for."""
    model = bundle_of(tmp_path / "sets", {"band_sets": [[0, 1]]}, band_sets=(("red", "green"),))
    with rasterio.open(scene) as whole:
        profile = {**whole.profile, "width": 128, "height": 128}
        for name, count, col in (("all", 3, 100), ("two", 2, 200)):
            with rasterio.open(tmp_path / f"{name}.tif", "w", **{**profile, "count": count}) as out:
                out.write(whole.read(window=((0, 128), (col, col + 128)))[:count])
                out.descriptions = whole.descriptions[:count]
        with rasterio.open(
            tmp_path / "tiny.tif", "w", **{**profile, "width": 9, "height": 9}
        ) as out:
            out.write(whole.read(window=((0, 9), (100, 109))))
            out.descriptions = whole.descriptions
    scenes = [tmp_path / f"{name}.tif" for name in ("tiny", "all", "two")]
    made = geoseg.quantize(model, scenes, output=tmp_path / "int8")
    assert (made.chips, made.tested) == (6, 2)
    assert made.agreement > 0.97
    both = load_model(tmp_path / "int8", precision="float32").runtime
    rng = np.random.default_rng(1)
    some = [rng.random((3, 64, 64), np.float32) for _ in range(5)]
    some[1][2] = some[2][2] = some[4][2] = np.nan
    together = list(both.scores(some))
    for chip, told in zip(some, together, strict=True):
        np.testing.assert_allclose(next(both.scores([chip])), told, atol=1e-5)


def test_ctrl_c_is_told_after_all_of_nncf(bundle: Path, scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "int8"
    assert_ctrl_c_is_told_after(
        f"import geoseg\n"
        f"geoseg.quantize({str(bundle)!r}, [{str(scene)!r}], output={str(folder)!r}, chips=4)"
    )


def test_nothing_is_reported_to_anybody() -> None:
    code = """
from geoseg.quick_start import import_nncf
import sys
assert "pytest" not in sys.modules
import_nncf()
from nncf.telemetry.wrapper import telemetry
assert "openvino_telemetry" not in sys.modules
assert "Mock" in type(telemetry).__name__
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
