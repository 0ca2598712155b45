"""Scenes as they are delivered: what a pixel means is what the product's own handbook says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from made_products import SIDE_M, flat, make_item, make_landsat, make_safe, write_band

import geoseg
from geoseg.cli import cli
from geoseg.errors import BandError, InputError, SceneError
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import Chip, Reading

SIX = ("blue", "green", "red", "nir", "swir16", "swir22")
LANDSAT_SIX = {2: 8000, 3: 9000, 4: 10000, 5: 20000, 6: 15000, 7: 12000}
SENTINEL_SIX = {"02": 1500, "03": 1700, "04": 1900, "08": 4000, "11": 3000, "12": 2500}


def read_all(scene: Any, bands: tuple[str, ...] = SIX, **said: Any) -> tuple[Chip, Any]:
    with open_scene(scene, bands, reading=Reading(**said)) as opened:
        return opened.read(opened.grid.window), opened


def values(chip: Chip, row: int = 5, col: int = 5) -> list[float]:
    return chip.pixels[:, row, col].tolist()


@pytest.mark.parametrize("level", ["1C", "2A"])
def test_sentinel2_reflectance_as_esa_defines_it(tmp_path: Path, level: str) -> None:
    chip, scene = read_all(make_safe(tmp_path, SENTINEL_SIX, level=level))
    assert values(chip) == pytest.approx([0.05, 0.07, 0.09, 0.3, 0.2, 0.15], abs=1e-6)
    assert scene.grid.transform.a == 10
    assert scene.grid.shape == (SIDE_M // 10, SIDE_M // 10)
    assert chip.valid.all()
    assert "resampled from 20.01 m to 10 m, bilinear" in scene.assumed
    assert any("clouds are not masked" in each for each in scene.assumed)


def test_before_baseline_4_there_is_no_offset(tmp_path: Path) -> None:
    chip, _ = read_all(make_safe(tmp_path, SENTINEL_SIX, baseline="02.14", offset=None))
    assert values(chip)[0] == pytest.approx(0.15)
    first = make_safe(tmp_path / "o", SENTINEL_SIX, baseline="02.05", offset=None, older=True)
    assert values(read_all(first)[0])[0] == pytest.approx(0.15)
    broken = make_safe(tmp_path, SENTINEL_SIX, baseline="04.00", offset=None)
    with pytest.raises(SceneError, match=r"baseline 04\.00 but tells no offset"):
        read_all(broken)


def test_coarse_bands_lie_where_they_belong(tmp_path: Path) -> None:
    """A ramp over the ground is the same ramp at 10 and 20 m: values follow pixels' middles."""
    metres = {gsd: (np.arange(SIDE_M // gsd) + 0.5) * gsd for gsd in (10, 20)}
    ramps = {gsd: np.add.outer(x, 2 * x).astype(np.uint16) + 1100 for gsd, x in metres.items()}
    safe = make_safe(tmp_path, {"04": ramps[10], "11": ramps[20]})
    chip, _ = read_all(safe, ("red", "swir16"))
    red, swir = chip.pixels[:, 8:-8, 8:-8]
    assert np.abs(red - swir).max() < 2e-4  # rounding to integers, twice


def test_the_finest_wanted_grid_is_the_scene_s(tmp_path: Path) -> None:
    _, scene = read_all(make_safe(tmp_path, SENTINEL_SIX), ("swir22", "swir16"))
    assert scene.grid.transform.a == 20
    assert scene.bands == ("swir22", "swir16")


def test_scene_classes_hide_cloud_and_shadow_only(tmp_path: Path) -> None:
    classes = np.add.outer(np.arange(120) // 10, np.zeros(120, int)).astype(np.uint8)
    stored = {**SENTINEL_SIX, "02": flat(10, 1500)}
    stored["02"][:20, :10] = 0
    safe = make_safe(tmp_path, stored, quality=classes)
    chip, _ = read_all(safe)
    seen = [bool(chip.valid[20 * code + 10, 30]) for code in range(12)]
    assert seen == [code not in (1, 3, 8, 9, 10) for code in range(12)]
    assert not chip.valid[5, 5]  # no data whatever the class
    kept, _ = read_all(safe, keep_clouds=True)
    assert kept.valid.sum() == kept.valid.size - 200


def test_the_level_1c_mask_hides_opaque_cloud_and_cirrus_not_snow(tmp_path: Path) -> None:
    mask = np.zeros((3, 40, 40), np.uint8)
    mask[0, :5], mask[1, 10:15], mask[2, 20:25] = 1, 1, 1
    chip, scene = read_all(make_safe(tmp_path, SENTINEL_SIX, level="1C", quality=mask))
    rows = chip.valid[:, 100]
    assert [bool(rows[r]) for r in (15, 45, 75, 105, 135)] == [False, True, False, True, True]
    assert scene.assumed == ("resampled from 20.01 m to 10 m, bilinear",)


def test_saturated_sentinel2_pixels_are_no_measurements(tmp_path: Path) -> None:
    blinded = flat(10, 1900)
    blinded[3, 4] = 65535
    chip, _ = read_all(make_safe(tmp_path, {"04": blinded, "03": 1700}), ("red", "green"))
    assert np.argwhere(~chip.valid).tolist() == [[3, 4]]


@pytest.mark.parametrize(("level", "text"), [("2SP", False), ("2SP", True), ("2SR", False)])
def test_landsat_surface_reflectance_as_usgs_defines_it(
    tmp_path: Path, level: str, text: bool
) -> None:
    chip, scene = read_all(make_landsat(tmp_path, LANDSAT_SIX, level=level, text=text))
    expected = [stored * 0.0000275 - 0.2 for stored in LANDSAT_SIX.values()]
    assert values(chip) == pytest.approx(expected, abs=1e-6)
    assert scene.grid.transform.a == 30
    assert scene.name.startswith(f"LC09_L{level}_190028")


def test_landsat_level_1_is_divided_by_the_sine_of_the_sun(tmp_path: Path) -> None:
    chip, _ = read_all(make_landsat(tmp_path, LANDSAT_SIX, level="1TP"))
    expected = [(stored * 2e-5 - 0.1) / 0.5 for stored in LANDSAT_SIX.values()]  # sun at 30 degrees
    assert values(chip) == pytest.approx(expected, abs=1e-6)


def test_landsat_quality_bits(tmp_path: Path) -> None:
    pixel, saturation = flat(30, 1 << 6), flat(30, 0)
    for bit in range(8):
        pixel[bit] = 1 << bit
    saturation[20, :3] = 1 << 1, 1 << 8, 1 << 9  # blue; cirrus, thermal: not read
    stored = {**LANDSAT_SIX, 5: flat(30, 20000)}
    stored[5][30] = 0
    product = make_landsat(tmp_path, stored, pixel=pixel, saturation=saturation)
    chip, _ = read_all(product)
    assert chip.valid[:8, 40].tolist() == [True, False, False, False, False, True, True, True]
    assert chip.valid[20, :4].tolist() == [False, True, True, True]
    assert not chip.valid[30].any()
    assert (~read_all(product, keep_clouds=True)[0].valid).sum() == 80


def test_a_landsat_file_name_never_leads_elsewhere(tmp_path: Path) -> None:
    product = make_landsat(tmp_path, {4: 10000}, FILE_NAME_BAND_5="../secret.TIF")
    write_band(tmp_path / "secret.TIF", flat(30, 1), 30)
    with pytest.raises(BandError, match="nir"):
        read_all(product, ("red", "nir"))


def test_a_stac_item_with_relative_assets(tmp_path: Path) -> None:
    write_band(tmp_path / "B04.tif", flat(10, 1900), 10, nodata=0)
    write_band(tmp_path / "B11.tif", flat(20, 3000), 20, nodata=0)
    classes = np.full((120, 120), 4, np.uint8)
    classes[:10] = 9
    write_band(tmp_path / "SCL.tif", classes, 20)
    told = {"raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]}
    assets = {
        "visual": {"href": "none.tif", "eo:bands": [{"common_name": "red"}]},
        "red": {"href": "B04.tif", "eo:bands": [{"name": "B04", "common_name": "red"}], **told},
        "B11": {"href": "./B11.tif", "bands": [{"name": "B11", "eo:center_wavelength": 1.61}],
                "raster:scale": 0.0001},
        "scl": {"href": "SCL.tif", "roles": ["data"]},
    }  # fmt: skip
    item = make_item(tmp_path / "item.json", assets, constellation="sentinel-2")
    chip, scene = read_all(item, ("red", "swir16"))
    assert values(chip, 100, 100) == pytest.approx([0.09, 0.3])
    assert not chip.valid[:20].any()
    assert chip.valid[20:].all()
    assert scene.name == "item"
    removed = make_item(
        tmp_path / "later.json", assets, constellation="sentinel-2",
        **{"earthsearch:boa_offset_applied": True},
    )  # fmt: skip
    assert values(read_all(removed, ("red",))[0], 100, 100) == pytest.approx([0.19])


def test_an_item_that_lies_elsewhere_is_not_fetched(tmp_path: Path) -> None:
    asset = {"href": "https://example.com/red.tif", "eo:bands": [{"common_name": "red"}]}
    item = make_item(tmp_path / "far.json", {"red": asset})
    with pytest.raises(SceneError, match="not on this disk; download them"):
        read_all(item, ("red",))


def test_several_bands_in_an_asset(tmp_path: Path) -> None:
    planes = np.stack([flat(10, 100 * n) for n in (1, 2, 3, 4)])
    write_band(tmp_path / "naip.tif", planes, 10)
    names = [{"common_name": name} for name in ("red", "green", "blue", "nir")]
    item = make_item(tmp_path / "n.json", {"image": {"href": "naip.tif", "eo:bands": names}})
    chip, _ = read_all(item, ("nir", "blue"))
    assert values(chip) == pytest.approx([0.04, 0.03])


def test_an_item_that_tells_no_scale(tmp_path: Path) -> None:
    """What its properties, its file or the person say counts, before what is customary."""
    write_band(tmp_path / "B04.tif", flat(10, 1900), 10)
    write_band(tmp_path / "share.tif", flat(10, 1900).astype(np.float32) / 10000, 10)

    def red(href: str = "B04.tif", said: dict[str, Any] | None = None, **properties: Any) -> float:
        asset = {"href": href, "eo:bands": [{"name": "B04", "common_name": "red"}]}
        item = make_item(tmp_path / "item.json", {"red": asset}, **properties)
        return values(read_all(item, ("red",), **(said or {}))[0])[0]

    assert red() == pytest.approx(0.19)
    product = "S2B_MSIL2A_20240612T100029_N0510_R122_T33TWN_20240612T134455.SAFE"
    for new in ({"s2:processing_baseline": "05.10"}, {"s2:product_uri": product}):
        assert red(**new) == pytest.approx(0.09)
        assert red(**new, **{"earthsearch:boa_offset_applied": True}) == pytest.approx(0.19)
    assert red(**{"s2:processing_baseline": "03.01"}) == pytest.approx(0.19)
    assert red(**{"landsat:correction": "L2SP"}) == pytest.approx(1900 * 2.75e-5 - 0.2)
    assert red("share.tif") == pytest.approx(0.19)
    for more in ({}, {"earthsearch:boa_offset_applied": True}):
        assert red(said={"scale": 2e-4, "offset": 0.01}, **more) == pytest.approx(0.39)
    with pytest.raises(InputError, match="--sensor is for plain files"):
        red(said={"sensor": "landsat8"})
    asset = {"href": "B04.tif", "eo:bands": [{"common_name": "red"}], "raster:scale": 1e-3}
    item = make_item(tmp_path / "wrong.json", {"red": asset})
    assert not read_all(item, ("red",), nodata=1900)[0].valid.any()


def test_files_of_a_band_each(tmp_path: Path) -> None:
    files = [
        write_band(tmp_path / name, flat(gsd, stored), gsd)
        for name, gsd, stored in (
            ("T33TWN_20240612T100031_B04_10m.jp2", 10, 1900),
            ("T33TWN_20240612T100031_B8A_20m.jp2", 20, 4000),
        )
    ]
    chip, scene = read_all(files, ("red", "nir"))
    assert values(chip) == pytest.approx([0.19, 0.4])
    assert "nir08 stands in for nir" in scene.assumed
    with pytest.raises(BandError, match="--sensor"):
        read_all([write_band(tmp_path / "B5.tif", flat(30, 1), 30)], ("nir",))
    landsat = [tmp_path / "B5.tif"]
    chip, _ = read_all(landsat, ("nir",), sensor="landsat8")
    assert values(chip) == pytest.approx([1e-4])
    with pytest.raises(BandError, match=r"picture\.tif does not say which band"):
        read_all([*files, write_band(tmp_path / "picture.tif", flat(10, 1), 10)], ("red",))


def test_what_is_said_of_files_of_a_band_each_counts(tmp_path: Path) -> None:
    new = "S2B_MSIL1C_20240612T100029_N0510_R122_T33TWN_20240612T134455"
    files = [
        write_band(tmp_path / f"{new}_{band}.tif", flat(10, value), 10)
        for band, value in (("B04", 1900), ("B08", 4000))
    ]
    chip, scene = read_all(files, ("red", "nir"))
    assert values(chip) == pytest.approx([0.09, 0.3])
    assert any("as of processing baseline 05.10" in each for each in scene.assumed)
    chip, _ = read_all(files, ("red", "nir"), scale=2.75e-5, offset=-0.02)
    assert values(chip) == pytest.approx([1900 * 2.75e-5 - 0.02, 4000 * 2.75e-5 - 0.02])
    assert not read_all(files, ("red", "nir"), nodata=1900)[0].valid.any()
    told = Reading(bands="red=1,nir=2")
    with (
        pytest.raises(InputError, match="--bands is for plain files"),
        open_scene(files, ("red", "nir"), reading=told),
    ):
        pass


def test_a_list_of_files_is_mapped_and_named_after_what_they_share(tmp_path: Path) -> None:
    name = "T33TWN_20240612T100031"
    files: list[str | Path] = [
        write_band(tmp_path / f"{name}_B{band}_10m.tif", flat(10, value), 10)
        for band, value in SENTINEL_SIX.items()
    ]
    done = geoseg.predict(files, output=tmp_path / "map", polygons=False, preview=False)
    assert done.files["classes"].name == f"{name}_classes.tif"
    plain = [shutil.copy(file, tmp_path / f"{Path(file).stem[-7:-4]}.tif") for file in files]
    done = geoseg.predict(plain, output=tmp_path / "map", polygons=False, preview=False)
    assert done.files["classes"].name == f"{tmp_path.name}_classes.tif"


def test_maps_of_a_product_are_called_after_it_however_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = make_safe(tmp_path, SENTINEL_SIX)
    monkeypatch.chdir(safe)
    for number, given in enumerate((".", "MTD_MSIL2A.xml", safe)):
        output = tmp_path / str(number)
        done = geoseg.predict(given, output=output, polygons=False, preview=False)
        assert done.files["classes"].name == f"{safe.stem}_classes.tif"
        assert done.summary["scene"] == safe.name


def test_info_tells_what_a_product_is(tmp_path: Path) -> None:
    safe = make_safe(tmp_path, {"04": 1900, "8A": 4000}, quality=np.full((120, 120), 4, np.uint8))
    told = CliRunner().invoke(cli, ["info", "--json", str(safe)])
    assert told.exit_code == 0, told.output
    facts = json.loads(told.stdout)
    assert facts["level"] == "surface"
    assert facts["bands"]["nir08"] == "T33TWN_20240612T100031_B8A_20m.jp2"
    assert facts["reflectance"] == ["red nir08: stored value x 0.0001 + -0.1"]
    assert facts["masked_by"] == ["T33TWN_20240612T100031_SCL_20m.jp2"]


def test_a_folder_is_mapped_with_one_word(tmp_path: Path) -> None:
    classes = np.full((120, 120), 4, np.uint8)
    classes[:30] = 9
    safe = make_safe(tmp_path, SENTINEL_SIX, quality=classes)
    done = geoseg.predict(safe, output=tmp_path / "map", polygons=False)
    with rasterio.open(done.files["classes"]) as dataset:
        assert dataset.name.endswith(f"{safe.stem}_classes.tif")
        mapped = dataset.read(1)
    assert (mapped[:60] == 255).all()
    assert (mapped[60:] != 255).all()
    kept = geoseg.predict(safe, output=tmp_path / "kept", polygons=False, keep_clouds=True)
    with rasterio.open(kept.files["classes"]) as dataset:
        assert (dataset.read(1) != 255).all()


def test_what_is_no_product(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.json").write_text("{}")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "S2.SAFE.zip").write_bytes(b"PK")
    safe = make_safe(tmp_path, {"04": 1900})
    for scene, said in (
        (tmp_path / "empty", "neither a Sentinel-2 nor a Landsat product"),
        (tmp_path / "words.json", "is no STAC item"),
        (tmp_path / "broken.json", "cannot be read as JSON"),
        (tmp_path / "S2.SAFE.zip", "packed; unpack it first"),
    ):
        with pytest.raises(SceneError, match=said):
            read_all(scene, ("red",))
    with pytest.raises(InputError, match="--scale is for plain files"):
        read_all(safe, ("red",), scale=1e-4)
    with pytest.raises(BandError, match="missing: nir"):
        read_all(safe, ("red", "nir"))
    with pytest.raises(SceneError, match="reads values as they are stored"):
        open_scene(safe, ("red",), units="stored").__enter__()
    shutil.rmtree(next(safe.glob("GRANULE/*/IMG_DATA")))
    with pytest.raises(SceneError, match="holds no band"):
        read_all(safe, ("red",))
    two = make_safe(tmp_path / "two", {"04": 1900})
    next(two.glob("GRANULE/*")).with_name("L2A_OTHER").mkdir()
    with pytest.raises(SceneError, match="2 granules"):
        read_all(two, ("red",))
    text = json.dumps({"LANDSAT_METADATA_FILE": {"PRODUCT_CONTENTS": {}}})
    (tmp_path / "empty" / "LC09_MTL.json").write_text(text)
    with pytest.raises(SceneError, match="no MTL file of Collection 2"):
        read_all(tmp_path / "empty", ("red",))
