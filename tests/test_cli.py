"""The command line: what an analyst sees, and one clear line for the worst files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from click.testing import CliRunner
from conftest import SIX
from rasterio.enums import ColorInterp

import geoseg
from geoseg.cli import cli

Write = Callable[..., Path]
SAMPLE = Path(__file__).parents[1] / "docs/sample/raleigh_landsat7_2000-03-31.tif"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "geoseg.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, text=True)


def six(shape: tuple[int, int] = (40, 40), dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(100, 3000, (6, *shape)).astype(dtype)


def truncated(write: Write, folder: Path) -> Path:
    path = write(six((300, 300)), descriptions=SIX)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def cut_in_the_pixels(write: Write, folder: Path) -> Path:
    """A COG has its directory first, so it opens well."""
    whole = write(six((900, 900)), "whole.tif", descriptions=SIX)
    rasterio.shutil.copy(whole, folder / "scene.tif", driver="COG", compress="deflate")
    content = (folder / "scene.tif").read_bytes()
    (folder / "scene.tif").write_bytes(content[: len(content) * 2 // 3])
    return folder / "scene.tif"


def truncated_header(write: Write, folder: Path) -> Path:
    path = write(six(), descriptions=SIX)
    path.write_bytes(path.read_bytes()[:100])
    return path


def flipped_bits(write: Write, folder: Path) -> Path:
    path = write(six((300, 300)), descriptions=SIX, compress="deflate", tiled=True,
                 blockxsize=64, blockysize=64)  # fmt: skip
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 4000, 3):
        content[at] ^= 0x5A
    path.write_bytes(content)
    return path


def not_a_raster(write: Write, folder: Path) -> Path:
    path = folder / "scene.tif"
    path.write_text("dear reader, this is a letter")
    return path


def empty_file(write: Write, folder: Path) -> Path:
    (folder / "scene.tif").touch()
    return folder / "scene.tif"


def missing(write: Write, folder: Path) -> Path:
    return folder / "scene.tif"


def a_folder(write: Write, folder: Path) -> Path:
    (folder / "scene.tif").mkdir()
    return folder / "scene.tif"


def vrt_in_disguise(write: Write, folder: Path) -> Path:
    source = write(six(), "secret.tif", descriptions=SIX)
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{i}"><Description>{name}</Description>'
        f"<SimpleSource><SourceFilename>{source}</SourceFilename><SourceBand>{i}</SourceBand>"
        "</SimpleSource></VRTRasterBand>"
        for i, name in enumerate(SIX, 1)
    )
    path = folder / "scene.tif"
    path.write_text(f'<VRTDataset rasterXSize="40" rasterYSize="40">{bands}</VRTDataset>')
    with rasterio.open(path) as dataset:
        assert dataset.driver == "VRT", "GDAL alone would open it"
    return path


def all_nodata(write: Write, folder: Path) -> Path:
    return write(np.zeros((6, 40, 40), "uint16"), descriptions=SIX, nodata=0)


def all_nan(write: Write, folder: Path) -> Path:
    return write(np.full((6, 40, 40), np.nan, "float32"), descriptions=SIX)


def all_infinite(write: Write, folder: Path) -> Path:
    return write(np.full((6, 40, 40), np.inf, "float32"), descriptions=SIX)


def one_pixel(write: Write, folder: Path) -> Path:
    return write(six((1, 1)), descriptions=SIX)


def wrong_bands(write: Write, folder: Path) -> Path:
    return write(six()[:3], descriptions=("red", "green", "nir"))


def unnamed_bands(write: Write, folder: Path) -> Path:
    return write(six())


def complex_values(write: Write, folder: Path) -> Path:
    return write(six().astype("complex64"), descriptions=SIX)


def enormous_header(write: Write, folder: Path) -> Path:
    path = folder / "scene.tif"
    profile = {"driver": "GTiff", "width": 1_000_000, "height": 1_000_000, "count": 6,
               "dtype": "uint16", "SPARSE_OK": True, "BIGTIFF": "YES", "tiled": True,
               "blockxsize": 4096, "blockysize": 4096}  # fmt: skip
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as out:
        out.descriptions = SIX
    return path


def enormous_blocks(write: Write, folder: Path) -> Path:
    path = folder / "scene.tif"
    profile = {"driver": "GTiff", "width": 40_000, "height": 40_000, "count": 6,
               "dtype": "uint16", "SPARSE_OK": True, "BIGTIFF": "YES", "blockysize": 40_000,
               "compress": "deflate"}  # fmt: skip
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as out:
        out.descriptions = SIX
    return path


def a_png_bomb(write: Write, folder: Path) -> Path:
    """A PNG of 120,000 x 120,000 pixels by its header."""

    def part(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return len(content).to_bytes(4, "big") + kind + content + crc.to_bytes(4, "big")

    size = (120_000).to_bytes(4, "big")
    header = part(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    path = folder / "scene.png"
    body = part(b"IDAT", zlib.compress(b"\0" * 1000)) + part(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    return path


BAD = {
    truncated: "damaged or cut short",
    cut_in_the_pixels: "damaged or cut short",
    truncated_header: "damaged or cut short",
    flipped_bits: "damaged or cut short",
    not_a_raster: "not a raster that geoseg opens",
    empty_file: "not a raster that geoseg opens",
    missing: "does not exist",
    a_folder: "is a folder",
    vrt_in_disguise: "not a raster that geoseg opens",
    all_nodata: "no valid pixel",
    all_nan: "no valid pixel",
    all_infinite: "no valid pixel",
    one_pixel: "needs at least 2 x 2",
    wrong_bands: "(missing: blue); say which is which, such as --bands red=1,green=2,blue=3",
    unnamed_bands: "--bands",
    complex_values: "holds complex64 values",
    enormous_header: "1000000 x 1000000 pixels",
    enormous_blocks: "cannot be read in pieces",
    a_png_bomb: "120000 x 120000 pixels",
}


@pytest.mark.parametrize("kind", BAD, ids=lambda kind: kind.__name__)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_bad_input_is_one_line_status_2_and_nothing_written(
    write_scene: Write, tmp_path: Path, kind: Callable[[Write, Path], Path]
) -> None:
    scene = kind(write_scene, tmp_path)
    done = run("predict", scene, "-o", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("geoseg: error: ")
    assert done.stderr.count("\n") == 1
    assert BAD[kind] in done.stderr
    assert not (tmp_path / "out").exists()


def test_nan_and_infinity_among_data_are_nodata(write_scene: Write, tmp_path: Path) -> None:
    pixels = six(dtype="float32") / 10_000
    pixels[2, :10, :10] = np.nan
    pixels[4, 20:25, :] = np.inf
    done = run("predict", write_scene(pixels, descriptions=SIX), "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "out" / "scene_classes.tif") as dataset:
        nodata = dataset.read(1) == 255
    np.testing.assert_array_equal(nodata, ~np.isfinite(pixels).all(axis=0))


@pytest.mark.parametrize("damage", ["weights.safetensors", "card.json", "graph.xml"])
def test_a_bad_bundle_is_one_line_and_status_2(tmp_path: Path, damage: str) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(geoseg.load_bundle("landcover").path, bundle)
    (bundle / damage).write_text("{}")
    done = run("predict", SAMPLE, "-m", bundle, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("geoseg: error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_one_bad_scene_does_not_stop_the_others(write_scene: Write, tmp_path: Path) -> None:
    good = [write_scene(six(), f"good{i}.tif", descriptions=SIX) for i in range(2)]
    bad = tmp_path / "bad.tif"
    bad.write_text("no")
    out = tmp_path / "out"
    done = run("predict", good[0], bad, good[1], "-o", out, "--json", "--no-polygons")
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["scene"] for line in lines] == ["good0.tif", "bad.tif", "good1.tif"]
    assert "not a raster" in lines[1]["error"]
    for line in (lines[0], lines[2]):
        assert all(Path(file).is_file() for file in line["files"].values())
        assert sum(each["share"] for each in line["classes"]) == pytest.approx(1)


def test_a_person_reads_classes_areas_assumptions_and_paths(
    write_scene: Write, tmp_path: Path
) -> None:
    scene = write_scene(six(), descriptions=SIX)
    done = run("predict", scene, "-o", tmp_path / "out")
    assert done.returncode == 0
    assert "scene.tif: 40 x 40 pixels at 10.004 m, 100.0% valid" in done.stdout
    assert " ha " in done.stdout
    assert str(tmp_path / "out" / "scene_preview.png") in done.stdout
    assert done.stderr.splitlines()[-2:] == [
        "  assumed: the model manages without rededge1 rededge2 rededge3, at a cost",
        "  assumed: uint16 values taken as reflectance x 10000",
    ]
    again = run("predict", scene, "-o", tmp_path / "out")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    replaced = run("predict", scene, "-o", tmp_path / "out", "--overwrite", "--quiet")
    assert (replaced.returncode, replaced.stdout, replaced.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "options",
    [
        ("--gsd", "nan"), ("--gsd", "1e-9"), ("--gsd", "1e9"), ("--gsd", "inf"), ("--gsd", "-1"),
        ("--scale", "nan"), ("--scale", "0"), ("--nodata", "nan"), ("--chip", "0"),
        ("--chip", "100000"), ("--chip", "-8"), ("--halo", "1000"), ("--bands", "red=1"),
        ("--sensor", "nothing"), ("-m", "nothing"), ("-m", "x" * 300), ("--max-pixels", "10"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_one_line(tmp_path: Path, options: tuple[str, str]) -> None:
    done = run("predict", SAMPLE, "-o", tmp_path / "deep" / "er", *options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("geoseg: error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_bug_in_one_scene_is_told_and_the_next_has_its_turn(
    write_scene: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import geoseg.scene_opening

    real = geoseg.scene_opening.open_scene

    def breaks(scene: str, *rest: object, **options: object) -> object:
        if "bad" in scene:
            raise RuntimeError("a bug")
        return real(scene, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(geoseg.scene_opening, "open_scene", breaks)
    good = write_scene(six(), "good.tif", descriptions=SIX)
    done = CliRunner().invoke(
        cli, ["predict", "bad.tif", str(good), "-o", str(tmp_path / "out")], standalone_mode=False
    )
    assert done.return_value == 1
    assert "RuntimeError: a bug" in done.stderr
    assert (tmp_path / "out" / "good_classes.tif").is_file()


def test_overwriting_leaves_nothing_of_the_earlier_map(write_scene: Write, tmp_path: Path) -> None:
    scene = write_scene(six(), descriptions=SIX)
    out = tmp_path / "out"
    assert run("predict", scene, "-o", out, "--confidence").returncode == 0
    assert run("predict", scene, "-o", out, "--overwrite", "--no-polygons").returncode == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "scene_classes.tif", "scene_classes.tif.aux.xml", "scene_preview.png", "scene_summary.json",
    ]  # fmt: skip


def test_a_broken_bundle_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK")
    monkeypatch.setenv("GEOSEG_MODELS", str(tmp_path))
    done = run("models")
    assert done.returncode == 2
    assert "landcover" in done.stdout
    assert "broken.zip is no bundle" in done.stderr


def test_scenes_that_would_overwrite_each_other_are_refused(tmp_path: Path) -> None:
    done = run("predict", "a/scene.tif", "b/scene.tif", "-o", tmp_path)
    assert done.returncode == 2
    assert "would write the same files" in done.stderr


def test_models_and_info() -> None:
    listed = run("models", "--json")
    assert "landcover" in [json.loads(line)["name"] for line in listed.stdout.splitlines()]
    assert "landcover" in run("models").stdout
    model = run("info", "landcover")
    assert "9 snow_and_ice" in model.stdout
    assert geoseg.load_bundle("landcover").sha256 in model.stdout
    scene = json.loads(run("info", SAMPLE, "--json").stdout)
    assert scene["common_names"] == {name: i for i, name in enumerate(SIX, 1)}
    assert scene["crs"] == "EPSG:32119"
    assert run("info", "no-such-thing").returncode == 2


def test_info_reads_a_scene_as_predict_does(write_scene: Write) -> None:
    path = write_scene(np.full((4, 9, 9), 3000, np.uint16), "S2A_MSIL2A_20230101T101010_N0509_.tif")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [
            ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined,
        ]  # fmt: skip
    facts = json.loads(run("info", path, "--json").stdout)
    assert facts["common_names"] == {"blue": 1, "green": 2, "red": 3}
    assert facts["level"] == "surface"
    assert facts["reflectance"].startswith("stored value x 0.0001 + -0.1; uint16 values / 10000")
    floats = write_scene(np.full((2, 9, 9), 0.5, np.float32), "floats.tif", nodata=float("nan"))
    told = run("info", floats, "--json").stdout
    assert json.loads(told, parse_constant=pytest.fail)["nodata"] == "nan"


def test_help_of_every_command_and_no_heavy_import() -> None:
    for name in cli.commands:
        assert run(name, "--help").returncode == 0
    heavy = "import sys, geoseg.cli; print({'torch', 'numpy', 'rasterio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, check=True, text=True)
    assert done.stdout == "set()\n"


def test_predicting_on_a_cpu_imports_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys, geoseg; geoseg.predict(sys.argv[1], output=sys.argv[2]);"
        "print({'torch', 'torchgeo', 'segmentation_models_pytorch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(SAMPLE), str(tmp_path)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert done.stdout == "set()\n"


def test_a_wrong_option_is_status_2() -> None:
    assert run("predict").returncode == 2
    assert run("predict", SAMPLE, "--runtime", "abacus").returncode == 2
    assert run("nonsense").returncode == 2
