"""Products in the layout and with the names that ESA and USGS deliver them in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS

UTM = CRS.from_epsg(32633)
SIDE_M = 2400
"""Side of the made ground: 240 pixels of 10 m, 80 of 30 m."""

TILE, TIME = "T33TWN", "20240612T100031"
SAFE = "S2B_MSIL{level}_20240612T100029_N{baseline}_R122_T33TWN_20240612T134455.SAFE"
OWN_GSD = {"02": 10, "03": 10, "04": 10, "08": 10, "05": 20, "06": 20, "07": 20, "8A": 20,
           "11": 20, "12": 20, "01": 60, "09": 60, "10": 60}  # fmt: skip
"""Sentinel-2's bands by the metres of their pixels."""


def write_band(path: Path, values: Any, gsd_m: float, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.atleast_3d(values) if np.ndim(values) == 2 else np.asarray(values)
    planes = values.transpose(2, 0, 1) if values.shape[-1] == 1 else values
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"} if path.suffix == ".jp2" else {}
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG" if path.suffix == ".jp2" else "GTiff",
        count=len(planes), height=planes.shape[1], width=planes.shape[2], dtype=planes.dtype,
        crs=UTM, transform=Affine(gsd_m, 0, 500_000, 0, -gsd_m, 5_000_000), **lossless, **more,
    ) as dataset:  # fmt: skip
        dataset.write(planes)
    return path


def flat(gsd_m: float, value: int) -> np.ndarray[Any, Any]:
    side = round(SIDE_M / gsd_m)
    return np.full((side, side), value, np.uint16)


def make_safe(
    folder: Path,
    stored: Mapping[str, Any],
    *,
    level: str = "2A",
    baseline: str = "05.10",
    offset: int | None = -1000,
    quality: Any = None,
    older: bool = False,
) -> Path:
    """A .SAFE folder.

    Args:
        folder: where it goes.
        stored: values by band ("02", "8A"), on the band's own grid or one for all.
        level: 1C or 2A.
        baseline: of the processing.
        older: name things as the first baselines of Level-2A did.
        offset: in the metadata; None: none, as before baseline 04.00.
        quality: the scene classification at 20 m, or Level-1C's classification mask at 60 m,
            three planes.
    """
    safe = folder / SAFE.format(level=level, baseline=baseline.replace(".", ""))
    granule = safe / "GRANULE" / f"L{level}_{TILE}_A037974_20240612T100355"
    for band, values in stored.items():
        gsd_m = OWN_GSD[band]
        values = flat(gsd_m, values) if np.isscalar(values) else values
        name = f"{TILE}_{TIME}_B{band}"
        if level == "1C":
            write_band(granule / "IMG_DATA" / f"{name}.jp2", values, gsd_m)
        else:
            place = granule / "IMG_DATA" / f"R{gsd_m}m"
            write_band(place / f"{name}_{gsd_m}m.jp2", values, gsd_m)
            if gsd_m == 10:  # Level-2A repeats fine bands at coarser pixels
                coarse = granule / "IMG_DATA" / "R20m" / f"{name}_20m.jp2"
                write_band(coarse, values[::2, ::2], 20)
    if quality is not None and level == "2A":
        place = granule / "IMG_DATA" / "R20m" / f"{TILE}_{TIME}_SCL_20m.jp2"
        write_band(place, quality, 20)
    elif quality is not None:
        write_band(granule / "QI_DATA" / "MSK_CLASSI_B00.jp2", quality, 60)
    (safe / f"MTD_MSIL{level}.xml").write_text(_safe_metadata(level, baseline, offset, older))
    return safe


def _safe_metadata(level: str, baseline: str, offset: int | None, older: bool) -> str:
    kind, prefix = ("RADIO", "") if level == "1C" else ("BOA", "BOA_")
    prefix = "L2A_BOA_" if older else prefix
    offsets = "" if offset is None else "".join(
        f'<{kind}_ADD_OFFSET band_id="{number}">{offset}</{kind}_ADD_OFFSET>\n'
        for number in range(13)
    )  # fmt: skip
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no" ?>
<n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product.xsd">
<n1:General_Info><Product_Info><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info>
<Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST>
<{prefix}QUANTIFICATION_VALUE unit="none">10000</{prefix}QUANTIFICATION_VALUE>
</QUANTIFICATION_VALUES_LIST>
{offsets}</Product_Image_Characteristics></n1:General_Info></n1:Level-{level}_User_Product>
"""


LANDSAT = "LC09_L{level}_190028_20240610_20240611_02_T1"


def make_landsat(
    folder: Path,
    stored: Mapping[int, Any],
    *,
    level: str = "2SP",
    pixel: Any = None,
    saturation: Any = None,
    text: bool = False,
    **more: str,
) -> Path:
    """A Collection 2 folder, `level` 1TP, 2SP or 2SR, with its MTL as JSON or as text."""
    name = LANDSAT.format(level=level)
    product = folder / name
    contents = {"PROCESSING_LEVEL": f"L{level}"}
    middle = "_SR_B" if level[0] == "2" else "_B"
    for band, values in stored.items():
        values = flat(30, values) if np.isscalar(values) else values
        contents[f"FILE_NAME_BAND_{band}"] = f"{name}{middle}{band}.TIF"
        write_band(product / contents[f"FILE_NAME_BAND_{band}"], values, 30)
    for key, values, ending in (
        ("PIXEL", pixel, "QA_PIXEL"), ("RADIOMETRIC_SATURATION", saturation, "QA_RADSAT"),
    ):  # fmt: skip
        contents[f"FILE_NAME_QUALITY_L1_{key}"] = f"{name}_{ending}.TIF"
        if values is not None:
            write_band(product / f"{name}_{ending}.TIF", values, 30)
    groups: dict[str, dict[str, str]] = {
        "PRODUCT_CONTENTS": contents | more,
        "IMAGE_ATTRIBUTES": {"SPACECRAFT_ID": "LANDSAT_9", "SENSOR_ID": "OLI_TIRS",
                             "SUN_ELEVATION": "30.00000000"},
        "LEVEL1_RADIOMETRIC_RESCALING": {
            f"REFLECTANCE_{what}_BAND_{band}": value for band in stored
            for what, value in (("MULT", "2.0000E-05"), ("ADD", "-0.100000"))
        },
    }  # fmt: skip
    if level[0] == "2":
        groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = {
            f"REFLECTANCE_{what}_BAND_{band}": value for band in stored
            for what, value in (("MULT", "2.75e-05"), ("ADD", "-0.2"))
        }  # fmt: skip
    if text:
        (product / f"{name}_MTL.txt").write_text(_as_text(groups))
    else:
        (product / f"{name}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": groups}))
    return product


def _as_text(groups: Mapping[str, Mapping[str, str]]) -> str:
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, facts in groups.items():
        told = [f"    {k} = {v if v[0] in '-0123456789' else repr(v)}" for k, v in facts.items()]
        lines += [f"  GROUP = {group}", *told, f"  END_GROUP = {group}"]
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""]).replace("'", '"')


def make_item(path: Path, assets: Mapping[str, Any], **properties: Any) -> Path:
    item = {"type": "Feature", "stac_version": "1.0.0", "id": path.stem, "geometry": None,
            "properties": {"datetime": "2024-06-12T10:00:31Z", **properties},
            "assets": dict(assets), "links": []}  # fmt: skip
    path.write_text(json.dumps(item))
    return path
