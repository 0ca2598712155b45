"""Sentinel-2 products in the SAFE layout, Level-1C and Level-2A.

Reference:
    ESA: "Sentinel-2 Products Specification Document", S2-PDGS-TAS-DI-PSD, issue 14.9 and later
    (names, quantification, offsets since processing baseline 04.00, classification masks).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from geoseg.bands import SENSORS
from geoseg.errors import SceneError
from geoseg.raster.cloud_rule import CloudRule
from geoseg.raster.layered import Layer, Product, Quality
from geoseg.raster.level import Level

__all__ = ["METADATA", "OWN_FILE", "level_told", "offset_told", "read_safe"]

METADATA = ("MTD_MSIL1C.xml", "MTD_MSIL2A.xml")

MAX_METADATA_BYTES = 16 << 20

BAND_FILE = re.compile(r"_B(\d{1,2}A?)(?:_(\d{2})m)?\.jp2$", re.IGNORECASE)
QUANTIFICATION = re.compile(r"<(?:L2A_)?(?:BOA_)?QUANTIFICATION_VALUE[^>]*>\s*([\d.]+)\s*<")
ADD_OFFSET = re.compile(r"<(?:BOA|RADIO)_ADD_OFFSET\s+band_id=\"(\d+)\"\s*>\s*(-?[\d.]+)\s*<")
BASELINE = re.compile(r"<PROCESSING_BASELINE>\s*(\d\d\.\d\d)\s*<")

OFFSETS_SINCE = "04.00"
"""From this processing baseline on stored values are shifted, by what the metadata tells."""

OFFSET = -0.1
"""What has been told so far, in reflectance."""

PRODUCT_NAME = re.compile(r"S2[A-D]_MSIL([12])[AC]_\d{8}T\d{6}_N(\d\d)(\d\d)_")

OWN_FILE = re.compile(r"S2[A-D]_MSI|T\d\d[A-Z]{3}_\d{8}T\d{6}_B")
"""What only files of its products are called."""

NO_DATA, SATURATED = 0, 65535

SCENE_CLASSES = CloudRule(codes=(1, 3, 8, 9, 10))
"""Of the scene classification: saturated or defective, cloud shadow, cloud of medium and high
probability, thin cirrus. Dark areas, water, snow and what is not classified are ground."""

CLASSIFICATION_CLOUDS = (1, 2)
"""Bands of Level-1C's classification mask: opaque cloud, cirrus; the third is snow."""


def read_safe(folder: Path) -> Product:
    """What a .SAFE folder holds.

    Args:
        folder: the one that MTD_MSIL1C.xml or MTD_MSIL2A.xml lies in.

    Raises:
        SceneError: if bands or what their numbers mean are missing.
    """
    metadata = next(folder / name for name in METADATA if (folder / name).is_file())
    text = _text(metadata)
    surface = metadata.name == METADATA[1]
    granule = _granule(folder)
    assumed: list[str] = []
    return Product(
        name=folder.name or folder.resolve().name,
        layers=_layers(granule, text, metadata),
        level="surface" if surface else "toa",
        quality=_scene_classes(granule, assumed) if surface else _cloud_mask(granule, assumed),
        assumed=tuple(assumed),
    )


def level_told(name: str, tags: Mapping[str, str]) -> Level | None:
    """The level of a raster made from a product, if its metadata or its name still tell."""
    levels: dict[str, Level] = {"1": "toa", "2": "surface"}
    told = re.search(r"LEVEL-([12])[AC]", tags.get("PROCESSING_LEVEL", "").upper())
    named = told or PRODUCT_NAME.search(name)
    return None if named is None else levels[named[1]]


def offset_told(name: str, tags: Mapping[str, str]) -> tuple[float, str] | None:
    """The offset that stored values of such a raster still have to get, and who says so."""
    told, named = tags.get("PROCESSING_BASELINE", ""), PRODUCT_NAME.search(name)
    if not told and named is not None:
        told = f"{named[2]}.{named[3]}"
    known = re.fullmatch(r"\d\d\.\d\d", told)
    return (OFFSET, f"processing baseline {told}") if known and told >= OFFSETS_SINCE else None


def _text(metadata: Path) -> str:
    try:
        if metadata.stat().st_size > MAX_METADATA_BYTES:
            raise SceneError(f"{metadata} is far too large for a product's metadata")
        return metadata.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f"{metadata} cannot be read: {error}") from error


def _granule(folder: Path) -> Path:
    granules = sorted(each for each in folder.glob("GRANULE/*") if each.is_dir())
    if len(granules) != 1:
        raise SceneError(f"{folder} holds {len(granules)} granules; expected one tile a product")
    return granules[0]


def _layers(granule: Path, text: str, metadata: Path) -> tuple[Layer, ...]:
    quantification = QUANTIFICATION.search(text)
    if quantification is None:
        raise SceneError(f"{metadata} does not tell the quantification of reflectance")
    scale = 1 / float(quantification[1])
    offsets = _offsets(text, metadata)
    files: dict[str, tuple[int, Path]] = {}
    for path in sorted(granule.glob("IMG_DATA/**/*.jp2")):
        if match := BAND_FILE.search(path.name):
            own = f"b{match[1].lstrip('0').lower()}"
            gsd = int(match[2] or 0)
            if own in SENSORS["sentinel2"] and gsd <= files.get(own, (gsd, path))[0]:
                files[own] = gsd, path
    if not files:
        raise SceneError(f"{granule} holds no band: expected IMG_DATA/..._B02.jp2 or the like")
    return tuple(
        Layer(
            band, files[own][1], scale, offsets.get(number, 0.0) * scale,
            nodata=NO_DATA, saturated=SATURATED,
        )
        for number, (own, band) in enumerate(SENSORS["sentinel2"].items())
        if own in files
    )  # fmt: skip


def _offsets(text: str, metadata: Path) -> dict[int, float]:
    """By the specification's number of a band: 0 is B1, 8 is B8A, 12 is B12."""
    offsets = {int(number): float(value) for number, value in ADD_OFFSET.findall(text)}
    baseline = BASELINE.search(text)
    if not offsets and baseline is not None and baseline[1] >= OFFSETS_SINCE:
        raise SceneError(
            f"{metadata} is of processing baseline {baseline[1]} but tells no offset of its values"
        )
    return offsets


def _scene_classes(granule: Path, assumed: list[str]) -> tuple[Quality, ...]:
    found = sorted(granule.glob("IMG_DATA/**/*_SCL_*.jp2"))  # 20 m sorts before 60 m
    if not found:
        assumed.append("no scene classification (SCL) in the product: clouds are not masked")
        return ()
    return (Quality(found[0], SCENE_CLASSES),)


def _cloud_mask(granule: Path, assumed: list[str]) -> tuple[Quality, ...]:
    found = sorted(granule.glob("QI_DATA/MSK_CLASSI_B00.jp2"))
    if not found:
        assumed.append("no raster cloud mask (MSK_CLASSI) in the product: clouds are not masked")
        return ()
    return (Quality(found[0], CloudRule(codes=(1,)), CLASSIFICATION_CLOUDS),)
