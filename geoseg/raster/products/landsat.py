"""Landsat Collection 2 products, Level 1 and Level 2, by their MTL file.

Reference:
    USGS: "Landsat 8-9 Collection 2 Level 2 Science Product Guide", LSDS-1619, and "Landsat 8-9
    Calibration and Validation Algorithm Description Document", LSDS-1747 (reflectance from
    stored values, the bits of the quality bands).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoseg.bands import SENSORS, sensor_named
from geoseg.errors import BandError, SceneError
from geoseg.raster.cloud_rule import CloudRule
from geoseg.raster.layered import Layer, Product, Quality

__all__ = ["METADATA", "read_landsat"]

METADATA = ("*_MTL.json", "*_MTL.txt")

MAX_METADATA_BYTES = 1 << 20

FILL = 0

PIXEL_BITS = CloudRule(bits=(1, 2, 3, 4))
"""Of QA_PIXEL: dilated cloud, cirrus, cloud, cloud shadow."""

REFLECTIVE = {
    "landsat-tm": ("blue", "green", "red", "nir", "swir16", "swir22"),
    "landsat-oli": ("coastal", "blue", "green", "red", "nir", "swir16", "swir22"),
}
"""Bands of 30 m that show the ground."""


def read_landsat(metadata: Path) -> Product:
    """What a Collection 2 folder holds.

    Args:
        metadata: its MTL file, JSON or text.

    Raises:
        SceneError: if bands or what their numbers mean are missing.
    """
    groups = _groups(metadata)
    facts = {key: value for group in groups.values() for key, value in group.items()}
    try:
        sensor = sensor_named(str(facts["SPACECRAFT_ID"]))
        surface = str(groups["PRODUCT_CONTENTS"]["PROCESSING_LEVEL"]).startswith("L2")
        rescaling = groups[
            "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS" if surface else "LEVEL1_RADIOMETRIC_RESCALING"
        ]
        sun = 1.0 if surface else math.sin(math.radians(float(facts["SUN_ELEVATION"])))
        layers = _layers(metadata.parent, sensor, groups["PRODUCT_CONTENTS"], rescaling, sun)
    except (KeyError, ValueError, BandError) as error:
        raise SceneError(f"{metadata} is no MTL file of Collection 2: {error}") from error
    if sun <= 0 or not layers:
        reason = "the sun was below the horizon" if layers else "none of its band files is there"
        raise SceneError(f"{metadata}: {reason}")
    assumed: list[str] = []
    quality = _quality(metadata.parent, groups["PRODUCT_CONTENTS"], sensor, assumed)
    return Product(
        name=metadata.name.rpartition("_MTL")[0],
        layers=layers,
        level="surface" if surface else "toa",
        quality=quality,
        assumed=tuple(assumed),
    )


def _groups(metadata: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        if metadata.stat().st_size > MAX_METADATA_BYTES:
            raise SceneError(f"{metadata} is far too large for an MTL file")
        text = metadata.read_text(encoding="utf-8")
        told = json.loads(text) if metadata.suffix == ".json" else _parse(text)
        groups = told["LANDSAT_METADATA_FILE"]
        return {name: group for name, group in groups.items() if isinstance(group, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SceneError(f"{metadata} cannot be read as an MTL file: {error}") from error


def _parse(text: str) -> dict[str, Any]:
    """The text form: GROUP = NAME, KEY = VALUE, END_GROUP = NAME."""
    outermost: dict[str, Any] = {}
    nested = [outermost]
    for key, value in re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", text, re.MULTILINE):
        if key == "GROUP":
            nested.append(nested[-1].setdefault(value, {}))
        elif key == "END_GROUP":
            nested.pop()
        else:
            nested[-1][key] = value.strip('"')
    return outermost


def _layers(
    folder: Path,
    sensor: str,
    contents: Mapping[str, Any],
    rescaling: Mapping[str, Any],
    sun: float,
) -> tuple[Layer, ...]:
    layers = []
    for own, band in SENSORS[sensor].items():
        number = own.removeprefix("b")
        path = _file(folder, contents.get(f"FILE_NAME_BAND_{number}"))
        if band not in REFLECTIVE[sensor] or path is None:
            continue
        scale, offset = (
            float(rescaling[f"REFLECTANCE_{what}_BAND_{number}"]) / sun for what in ("MULT", "ADD")
        )
        layers.append(Layer(band, path, scale, offset, nodata=FILL))
    return tuple(layers)


def _quality(
    folder: Path, contents: Mapping[str, Any], sensor: str, assumed: list[str]
) -> tuple[Quality, ...]:
    quality = []
    pixel = _file(folder, contents.get("FILE_NAME_QUALITY_L1_PIXEL"))
    if pixel is None:
        assumed.append("no QA_PIXEL in the product: clouds are not masked")
    else:
        quality.append(Quality(pixel, PIXEL_BITS))
    saturation = _file(folder, contents.get("FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION"))
    if saturation is not None:
        own = enumerate(SENSORS[sensor].values())
        bits = tuple(bit for bit, band in own if band in REFLECTIVE[sensor])
        quality.append(Quality(saturation, CloudRule(bits=bits)))
    return tuple(quality)


def _file(folder: Path, name: Any) -> Path | None:
    """A file of the product, if it is there; never one elsewhere."""
    if not isinstance(name, str) or Path(name).name != name:
        return None
    path = folder / name
    return path if path.is_file() else None
